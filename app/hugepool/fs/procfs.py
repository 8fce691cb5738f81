"""The texts of /proc as records: meminfo, zoneinfo, buddyinfo, vmstat.

Source: fs/proc/meminfo.c, mm/vmstat.c (5.14, 6.1, 6.12), and recordings of these kernels.
"""

import re
from dataclasses import dataclass, field

from hugepool.fs.textfile import MAX_PAGES, Line, lines
from hugepool.mm.machine.units import KB_PER_PAGE, NR_ORDERS, ULONG_MAX, pages_by_order

MAX_NODES = 1024
MEMINFO_END = 24  # the column where numbers end: the label takes 16, the number 8
NODE_POOL_END = 22  # HugePages lines of a node
MAX_KB = MAX_PAGES * KB_PER_PAGE

_ZONE_HEAD = re.compile(r"Node ([0-9]+), zone +(\S+)")
_KEY_VALUE = re.compile(r" +([A-Za-z_][A-Za-z0-9_]*(?: [a-z_]+)*):? +(\S+)")
_NAMELESS = re.compile(r" +([0-9]+)")  # 4.17 to 4.19, and RHEL 8, print one counter without its name
_PROTECTION = re.compile(r" +protection: \((.*)\)")
_MEMINFO = re.compile(r"([A-Za-z][A-Za-z0-9_()]*): +(\S+)( kB)?")
_NODE_MEMINFO = re.compile(r"Node ([0-9]+) ([A-Za-z][A-Za-z0-9_()]*): +(\S+)( kB)?")
UNSIGNED = frozenset(
    {"HugePages_Rsvd", "HugePages_Surp", "Committed_AS", "VmallocTotal", "VmallocUsed", "VmallocChunk"}
)

ZoneKey = tuple[int, str]


@dataclass(slots=True)
class ZoneText:
    """One zone of /proc/zoneinfo.

    ``levels``: the lines between ``pages free`` and ``protection``, by name; ``node_stats`` and ``stats`` in file
    order; ``tail``: the raw lines from ``pagesets`` on, without ``start_pfn``; ``after``: those behind it.
    """

    line: Line
    nid: int
    name: str
    free: int = -1
    levels: dict[str, int] = field(default_factory=dict)
    protection: list[int] = field(default_factory=list)
    node_stats: dict[str, int] = field(default_factory=dict)
    stats: dict[str, int] = field(default_factory=dict)
    tail: list[str] = field(default_factory=list)
    pcp: int = 0
    cpus: list[int] = field(default_factory=list)
    start_pfn: int = -1
    after: list[str] = field(default_factory=list)


def parse_meminfo(path: str, text: str) -> dict[str, int]:
    """Every line of /proc/meminfo, in order; kB where the line says so, else counts."""
    found: dict[str, int] = {}
    for line in lines(path, text):
        match = _MEMINFO.fullmatch(line.text.rstrip())
        if match is None:
            line.fail(f"{line.text[:60]!r} is not a line of meminfo such as 'MemFree:  1024 kB'")
        _put_meminfo(line, found, match[1], match[2])
    return found


def parse_node_meminfo(path: str, text: str, nid: int) -> dict[str, int]:
    """Every line of a node's meminfo, in order, without the ``Node N`` in front."""
    found: dict[str, int] = {}
    for line in lines(path, text):
        match = _NODE_MEMINFO.fullmatch(line.text.rstrip())
        if match is None or match[1] != str(nid):
            line.fail(f"{line.text[:60]!r} is not a line such as 'Node {nid} MemFree:  1024 kB'")
        _put_meminfo(line, found, match[2], match[3])
    return found


def node_end(name: str) -> int:
    """The column where a node's meminfo ends a line's number, counted behind ``Node N ``."""
    return NODE_POOL_END if name.startswith("HugePages_") else MEMINFO_END


def columns(text: str, *, of_node: bool) -> dict[str, int]:
    """Where the numbers of a meminfo end, for lines where that is not the kernel's own column."""
    found: dict[str, int] = {}
    for line in text.split("\n"):
        match = (_NODE_MEMINFO if of_node else _MEMINFO).fullmatch(line.rstrip())
        if match is None:
            continue
        name, number = (2, 3) if of_node else (1, 2)
        end = match.end(number) - match.start(name)
        usual = node_end(match[name]) if of_node else MEMINFO_END
        if end != usual and end != 16 + len(match[number]):
            found[match[name]] = end
    return found


def _put_meminfo(line: Line, found: dict[str, int], name: str, word: str) -> None:
    if name in found:
        line.fail(f"{name} is there twice")
    if name in {"MemTotal", "MemFree"}:
        found[name] = line.count(word, name, MAX_KB)
    else:
        found[name] = line.count(word, name, ULONG_MAX if name in UNSIGNED else (1 << 63) - 1)


def parse_counters(path: str, text: str) -> dict[str, int]:
    """Lines of a name and a number, in order: vmstat and numastat."""
    found: dict[str, int] = {}
    for line in lines(path, text):
        words = line.text.split()
        if _NAMELESS.fullmatch(line.text):
            words.insert(0, "")
        if len(words) != 2:
            line.fail(f"a name and a number are expected, found {len(words)} words")
        if words[0] in found:
            line.fail(f"{words[0] or 'a number without a name'} is there twice")
        found[words[0]] = line.count(words[1], words[0] or "the number", ULONG_MAX)
    return found


def parse_buddyinfo(path: str, text: str) -> dict[ZoneKey, list[int]]:
    """Free blocks per order 0..10 by node and zone."""
    found: dict[ZoneKey, list[int]] = {}
    for line in lines(path, text):
        head = _ZONE_HEAD.match(line.text)
        if head is None:
            line.fail(f"{line.text[:60]!r} is not a line such as 'Node 0, zone Normal 1 2 3'")
        words = line.text[head.end() :].split()
        if len(words) != NR_ORDERS:
            line.fail(f"{NR_ORDERS} columns are expected (orders 0 to 10), found {len(words)}")
        counts = [line.pages(word, f"order {order}") for order, word in enumerate(words)]
        if pages_by_order(counts) > MAX_PAGES:
            line.fail("the free blocks add up to more than 64 TiB")
        key = (node_number(line, head[1]), head[2])
        if key in found:
            line.fail(f"zone {key[1]} of node {key[0]} is there twice")
        found[key] = counts
    return found


def node_number(line: Line, word: str) -> int:
    """The number of a node.  Raises BadInput."""
    return line.count(word, "the node number", MAX_NODES - 1)


# -- zoneinfo --------------------------------------------------------------------------------------------


def parse_zoneinfo(path: str, text: str) -> list[ZoneText]:
    """All zones, empty ones included, in file order.

    Raises:
        BadInput: a line that zoneinfo does not have, a zone that is there twice or is cut off.
    Source: mm/vmstat.c zoneinfo_show_print() (5.14, 6.1, 6.12).
    """
    zones: list[ZoneText] = []
    seen: set[ZoneKey] = set()
    part = "free"
    for line in lines(path, text):
        head = _ZONE_HEAD.fullmatch(line.text.rstrip())
        if head:
            zones.append(_new_zone(line, seen, (node_number(line, head[1]), head[2])))
            part = "free"
        elif not zones:
            line.fail("the first line of zoneinfo must be 'Node 0, zone DMA' or alike")
        else:
            part = _PARTS[part](zones[-1], line)
    for zone in zones:
        _check_whole(zone)
    return zones


def _new_zone(line: Line, seen: set[ZoneKey], key: ZoneKey) -> ZoneText:
    if key in seen:
        line.fail(f"zone {key[1]} of node {key[0]} is there twice")
    seen.add(key)
    return ZoneText(line, *key)


def _pair(line: Line) -> tuple[str, int]:
    match = _KEY_VALUE.fullmatch(line.text.rstrip())
    if match is None:
        line.fail(f"{line.text.strip()[:60]!r} is not a name and a number")
    return match[1], line.count(match[2], match[1], ULONG_MAX)


def _put(line: Line, into: dict[str, int], key: str, number: int) -> None:
    if key in into:
        line.fail(f"{key} is there twice in this zone")
    into[key] = number


def _part_free(zone: ZoneText, line: Line) -> str:
    if line.text.strip() == "per-node stats":
        return "free"
    nameless = _NAMELESS.fullmatch(line.text.rstrip())
    name, number = ("", line.count(nameless[1], "the number", ULONG_MAX)) if nameless else _pair(line)
    if name != "pages free":
        _put(line, zone.node_stats, name, number)
        return "free"
    zone.free = line.pages(str(number), "pages free")
    return "levels"


def _part_levels(zone: ZoneText, line: Line) -> str:
    """Old kernels, such as 4.10, have the counters of a zone between its levels and its protection."""
    match = _PROTECTION.fullmatch(line.text.rstrip())
    if match is None:
        name, number = _pair(line)
        if name.startswith(("nr_", "numa_", "workingset_")):
            _put(line, zone.stats, name, number)
        else:
            _put(line, zone.levels, name, line.pages(str(number), name))
        return "levels"
    words = match[1].split(", ")
    if len(words) not in {4, 5}:
        line.fail(f"protection has {len(words)} entries; x86-64 has 4, or 5 with a Device zone")
    zone.protection = [line.pages(word, "a protection entry") for word in words]
    return "stats"


def _part_stats(zone: ZoneText, line: Line) -> str:
    if line.text.strip() == "pagesets":
        zone.tail.append(line.text.rstrip())
        return "tail"
    name, number = _pair(line)
    _put(line, zone.stats, name, number)
    return "stats"


def _part_tail(zone: ZoneText, line: Line) -> str:
    name, number = _pair(line)
    if name == "start_pfn":
        zone.start_pfn = line.pages(str(number), "start_pfn")
        return "end"
    if name == "count":
        zone.pcp += line.pages(str(number), "count")
    elif name == "cpu":
        zone.cpus.append(line.count(str(number), "cpu", 65535))
    zone.tail.append(line.text.rstrip())
    return "tail"


def _part_end(zone: ZoneText, line: Line) -> str:
    """Old kernels, such as 4.10, have the ratio of inactive pages here."""
    if "inactive_ratio" not in line.text:
        line.fail(
            f"nothing is expected after start_pfn of zone {zone.name}, found {line.text.strip()[:60]!r}"
        )
    zone.after.append(line.text.rstrip())
    return "end"


_PARTS = {
    "free": _part_free,
    "levels": _part_levels,
    "stats": _part_stats,
    "tail": _part_tail,
    "end": _part_end,
}


def _check_whole(zone: ZoneText) -> None:
    missing = [
        name for name in ("min", "low", "high", "spanned", "present", "managed") if name not in zone.levels
    ]
    if zone.free < 0:
        missing.insert(0, "pages free")
    if not zone.protection:
        missing.append("protection")
    if not missing and zone.levels["present"] and zone.start_pfn < 0:
        missing.append("start_pfn")
    if missing:
        zone.line.fail(f"zone {zone.name} of node {zone.nid} is cut off: no {', '.join(missing)}")
