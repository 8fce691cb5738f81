"""The files of made-up machines, from numbers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

Files = dict[str, str]
NODE = "/sys/devices/system/node/node{}"
BLOCK = "/sys/devices/system/memory/memory{}"
ORDERS = 11


@dataclass(frozen=True, slots=True)
class ZoneOf:
    """One zone: where it lies, its pages, and its free blocks by order."""

    nid: int
    name: str
    start_pfn: int
    spanned: int
    present: int
    managed: int
    free_area: Sequence[int]
    pcp: int = 0
    stats: dict[str, int] = field(default_factory=dict)

    @property
    def free(self) -> int:
        return sum(count << order for order, count in enumerate(self.free_area))


DMA = ZoneOf(0, "DMA", 1, 4095, 3998, 3840, (0,) * 8 + (1, 1, 3))
DMA32 = ZoneOf(0, "DMA32", 4096, 1044480, 782304, 758116, (0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 739))
NORMAL = ZoneOf(0, "Normal", 1 << 20, 1 << 19, 1 << 19, 511000, (2, 1, 1, 1, 1, 0, 0, 0, 0, 0, 449))
SMALL = (DMA, DMA32, NORMAL)


def zoneinfo(zones: Iterable[ZoneOf], *, node_stats: str = "") -> str:
    """/proc/zoneinfo of 5.14; ``node_stats``: more lines of each node."""
    text, nid = "", -1
    for zone in zones:
        text += f"Node {zone.nid}, zone {zone.name:>8}\n"
        text += f"  per-node stats\n      nr_inactive_anon 0\n{node_stats}" if zone.nid != nid else ""
        nid = zone.nid
        text += f"  pages free     {zone.free}\n        min      {zone.managed // 700}\n"
        text += f"        low      {zone.managed // 600}\n        high     {zone.managed // 500}\n"
        text += f"        spanned  {zone.spanned}\n        present  {zone.present}\n        managed  {zone.managed}\n"
        text += "        cma      0\n        protection: (0, 0, 0, 0)\n"
        text += "".join(f"      {name:<12} {count}\n" for name, count in zone.stats.items())
        text += f"      nr_free_pages {zone.free}\n  pagesets\n    cpu: 0\n              count: {zone.pcp}\n"
        text += "              high:  14\n              batch: 7\n  vm stats threshold: 6\n"
        text += f"  node_unreclaimable:  0\n  start_pfn:           {zone.start_pfn}\n"
    return text


def buddyinfo(zones: Iterable[ZoneOf]) -> str:
    """/proc/buddyinfo."""
    rows = ((zone, "".join(f"{count:6d} " for count in zone.free_area)) for zone in zones)
    return "".join(f"Node {zone.nid}, zone {zone.name:>8} {columns}\n" for zone, columns in rows)


def meminfo(zones: Sequence[ZoneOf], page_kb: int = 4, **more: int) -> str:
    """/proc/meminfo; ``more``: further lines."""
    total, free = (sum(pages) * page_kb for pages in zip(*((z.managed, z.free) for z in zones), strict=True))
    lines = {"MemTotal": total, "MemFree": free, **more}
    units = {name: "" if name.startswith("HugePages") else " kB" for name in lines}
    return "".join(f"{name + ':':<16}{number:8d}{units[name]}\n" for name, number in lines.items())


def machine(zones: Sequence[ZoneOf] = SMALL, **more: int) -> Files:
    """The three files that an import needs."""
    return {
        "/proc/meminfo": meminfo(zones, **more),
        "/proc/zoneinfo": zoneinfo(zones),
        "/proc/buddyinfo": buddyinfo(zones),
    }


def memory_blocks(rows: Iterable[tuple[int, str, int | None]], block_bytes: int = 128 << 20) -> Files:
    """/sys/devices/system/memory with links to nodes: number, valid_zones and node of online blocks."""
    files = {"/sys/devices/system/memory/block_size_bytes": f"{block_bytes:x}\n"}
    for number, zones, nid in rows:
        files |= {
            BLOCK.format(number) + "/state": "online\n",
            BLOCK.format(number) + "/valid_zones": f"{zones}\n",
        }
        if nid is not None:
            files[NODE.format(nid) + f"/memory{number}"] = ""
    return files
