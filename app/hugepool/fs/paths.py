"""Which files of /proc and /sys describe a machine, and what a path may look like."""

import re
from collections.abc import Mapping

from hugepool.mm.machine.errors import BadInput

MAX_FILES = 200_000
MAX_FILE_BYTES = 16 << 20
MAX_TOTAL_BYTES = 256 << 20
MAX_PATH = 512

_NODE = r"/sys/devices/system/node"
_MEMORY = r"/sys/devices/system/memory"
_POOL = r"hugepages/hugepages-[0-9]{1,9}kB"

# Everything that an import reads.  A path that matches none of these is left out of archives and ignored.
RELEVANT = tuple(
    re.compile(pattern)
    for pattern in (
        r"/proc/(meminfo|zoneinfo|buddyinfo|pagetypeinfo|vmstat|cmdline|version)",
        r"/proc/sys/vm/(nr_hugepages|nr_hugepages_mempolicy|nr_overcommit_hugepages|hugetlb_optimize_vmemmap)",
        r"/proc/sys/kernel/(osrelease|arch)",
        r"/proc/sys/vm/(min_free_kbytes|lowmem_reserve_ratio|watermark_scale_factor|overcommit_ratio)",
        rf"/sys/kernel/mm/{_POOL}/[a-z_]+",
        rf"{_NODE}/(online|possible|has_memory|has_normal_memory|has_cpu)",
        rf"{_NODE}/node[0-9]{{1,4}}/(meminfo|numastat|vmstat|distance|cpulist|cpumap)",
        rf"{_NODE}/node[0-9]{{1,4}}/{_POOL}/[a-z_]+",
        rf"{_NODE}/node[0-9]{{1,4}}/memory[0-9]{{1,9}}",
        rf"{_MEMORY}/(block_size_bytes|auto_online_blocks)",
        rf"{_MEMORY}/memory[0-9]{{1,9}}/(state|online|removable|valid_zones|phys_index|phys_device)",
        rf"{_MEMORY}/memory[0-9]{{1,9}}/node[0-9]{{1,4}}",
    )
)
LINK = re.compile(
    rf"{_NODE}/node[0-9]{{1,4}}/memory[0-9]{{1,9}}|{_MEMORY}/memory[0-9]{{1,9}}/node[0-9]{{1,4}}"
)


def relevant(path: str) -> bool:
    """Whether an import reads this absolute path."""
    return any(pattern.fullmatch(path) for pattern in RELEVANT)


def is_link(path: str) -> bool:
    """Whether the path is one of the links that tell the node of a memory block."""
    return LINK.fullmatch(path) is not None


def path_trick(path: str) -> str | None:
    """What is wrong with a path, in words; None for a plain absolute path."""
    if "\0" in path:
        return "has a NUL character"
    if not path.startswith("/"):
        return "is not absolute"
    if len(path) > MAX_PATH:
        return f"is longer than {MAX_PATH} characters"
    if any(part in {"", ".", ".."} for part in path[1:].split("/")):
        return "has an empty, '.' or '..' part"
    return None


def checked(files: Mapping[str, str]) -> dict[str, str]:
    """The files as an import reads them: without the NULs that tar pads files of /sys with.

    An empty file of /proc is left out: stat gives the size of such files as 0, so tar and cp copy nothing of them.

    Raises:
        BadInput: too many or too large, a path with tricks in it, or not text; it names the first such file.
    """
    if len(files) > MAX_FILES:
        raise BadInput(f"{len(files)} files are too many; at most {MAX_FILES} are read", where="files")
    found: dict[str, str] = {}
    total = 0
    for path, text in files.items():
        _check_file(path, text)
        total += len(text)
        kept = text.rstrip("\0")
        if "\0" in kept:
            raise BadInput("has NUL characters: not a text file", where=path)
        if kept or not path.startswith("/proc/"):
            found[path] = kept
    if total > MAX_TOTAL_BYTES:
        raise BadInput(f"{total} characters are too much; at most {MAX_TOTAL_BYTES} are read", where="files")
    return found


def _check_file(path: object, text: object) -> None:
    if not isinstance(path, str):
        raise BadInput(f"a path is text, not {type(path).__name__}", where="files")
    trick = path_trick(path)
    if trick:
        raise BadInput(f"the path {path[:80]!r} {trick}", where="files")
    if not isinstance(text, str):
        raise BadInput(f"the content of a file is text, not {type(text).__name__}", where=path)
    if len(text) > MAX_FILE_BYTES:
        raise BadInput(f"{len(text)} characters; at most {MAX_FILE_BYTES} are read of one file", where=path)
