"""What a sosreport tells by the output of commands instead of by files of /proc and /sys.

Its plugins copy /proc/{meminfo,zoneinfo,buddyinfo,pagetypeinfo,vmstat,cmdline}, /sys/kernel/mm/hugepages and part of
/sys/devices/system/node, so those are where an import looks for them anyway.  Nothing of /proc/sys/vm and of
/sys/devices/system/memory is copied: ``sysctl -a``, ``uname -a`` and ``lsmem`` say the same.
Source: sos/report/plugins/{kernel,memory,numa}.py of github.com/sosreport/sos, 5c7e63ee22a9.
"""

import re
from collections.abc import Iterator, Mapping

from hugepool.fs.paths import relevant

SYSCTL = "/sos_commands/kernel/sysctl_-a"
UNAME = "/sos_commands/kernel/uname_-a"
LSMEM = "/sos_commands/memory/lsmem_-a_-o_RANGE_SIZE_STATE_REMOVABLE_ZONES_NODE_BLOCK"
SOURCES = (SYSCTL, UNAME, LSMEM)
_COLUMNS = ["RANGE", "SIZE", "STATE", "REMOVABLE", "ZONES", "NODE", "BLOCK"]
_SYSTEM = "/sys/devices/system"
_BLOCK_SIZE = re.compile(r"Memory block size:\s+([0-9]{1,6})([KMGT])")
_SHIFT = {"K": 10, "M": 20, "G": 30, "T": 40}
_ROW = re.compile(
    r"0x[0-9a-f]{1,16}-0x[0-9a-f]{1,16} +\S+ +(online|offline|on->off|off->on) +\S+ +(\S+) +([0-9]{1,4}) +([0-9]{1,9})"
)
_STATES = {"on->off": "going-offline", "off->on": "online"}


def is_source(path: str) -> bool:
    """Whether this is the output of a command that an import reads."""
    return path in SOURCES


def translated(files: Mapping[str, str]) -> dict[str, str]:
    """The files, and those that outputs of commands stand for; what was copied as a file comes first."""
    found = {path: text for path, text in files.items() if not is_source(path)}
    if len(found) == len(files):
        return found
    derived: dict[str, str] = {}
    derived.update(_of_sysctl(files.get(SYSCTL, "")))
    derived.update(_of_uname(files.get(UNAME, "")))
    derived.update(_of_lsmem(files.get(LSMEM, "")))
    return {**derived, **found}


def _of_sysctl(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, equals, value = line.partition(" = ")
        path = "/proc/sys/" + key.strip().replace(".", "/")
        if equals and relevant(path):
            yield path, value.strip() + "\n"


def _of_uname(text: str) -> Iterator[tuple[str, str]]:
    words = text.split()
    if len(words) > 5 and words[0] == "Linux":
        yield "/proc/sys/kernel/osrelease", words[2] + "\n"
        if words[-1] == "GNU/Linux":
            yield "/proc/sys/kernel/arch", words[-2] + "\n"


def _of_lsmem(text: str) -> Iterator[tuple[str, str]]:
    """Memory blocks, unless a line of the table is not understood: blocks that are left out would not be there."""
    size = _BLOCK_SIZE.search(text)
    lines = [line.strip() for line in text.splitlines()]
    table = lines[1 : lines.index("")] if "" in lines else lines[1:]
    rows = [_ROW.fullmatch(line) for line in table]
    if not lines or lines[0].split() != _COLUMNS or size is None or not rows:
        return
    if any(row is None for row in rows):
        return
    yield f"{_SYSTEM}/memory/block_size_bytes", f"{int(size[1]) << _SHIFT[size[2]]:x}\n"
    for row in rows:
        if row is None:
            continue
        state, zones, node, block = row.groups()
        folder = f"{_SYSTEM}/memory/memory{block}"
        yield f"{folder}/state", _STATES.get(state, state) + "\n"
        yield f"{folder}/valid_zones", "none\n" if zones == "None" else zones.replace("/", " ") + "\n"
        yield f"{folder}/node{node}", ""
