"""Do the files of a machine agree with each other?  Everything an import refuses as contradictory.

The kernel writes each file at its own moment, and on a busy machine pages move in between; NR_FREE_PAGES also
lags by up to 125 pages per CPU and zone.  So ``skew`` pages are tolerated where two files count the same.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from hugepool.fs.procfs import ZoneText
from hugepool.fs.textfile import MAX_PAGES
from hugepool.mm.boot.image import MachineImage, PoolImage, ZoneImage
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.units import PAGEBLOCK_PAGES, size_name

MEMINFO = "/proc/meminfo"
ZONEINFO = "/proc/zoneinfo"
BUDDYINFO = "/proc/buddyinfo"
SKEW_PAGES = 4096


def skew(pages: int) -> int:
    """Pages that two files may differ by when they count the same ``pages``: 1 %, at least 16 MiB."""
    return max(SKEW_PAGES, pages // 100)


def check_zone(zone: ZoneText, buddy_free: int) -> None:
    """Refuse a zone whose numbers cannot all be true.

    Raises:
        BadInput: managed > present, present > spanned, end above 64 TiB, more free than managed, or free
            pages that differ from buddyinfo's by more than the tolerated skew.
    """
    level = zone.levels
    name = f"zone {zone.name} of node {zone.nid}"
    managed, present, spanned = level["managed"], level["present"], level["spanned"]
    if managed > present:
        zone.line.fail(f"{name} has {managed} managed pages of {present} present ones")
    if present > spanned:
        zone.line.fail(f"{name} has {present} present pages in a span of {spanned}")
    if present and zone.start_pfn + spanned > MAX_PAGES:
        zone.line.fail(f"{name} ends above 64 TiB")
    if not level["min"] <= level["low"] <= level["high"]:
        zone.line.fail(f"{name} has watermarks that do not rise: min, low, high")
    if abs(buddy_free - zone.free) > skew(managed):
        detail = f"{name} has {zone.free} free pages, but its line in {BUDDYINFO} adds up to {buddy_free}"
        zone.line.fail(detail)
    if buddy_free > managed:
        zone.line.fail(f"{name} has {buddy_free} free pages in {BUDDYINFO} and only {managed} managed ones")
    if buddy_free + zone.pcp > managed + skew(managed):
        zone.line.fail(f"{name} has {buddy_free} free and {zone.pcp} per-CPU pages of {managed} managed ones")


def check_layout(zones: Sequence[ZoneText]) -> None:
    """Refuse populated zones that overlap, or do not rise within their node.

    Not modelled: interleaved zones, which hot-plugging can make on a real machine.
    """
    populated = sorted((z for z in zones if z.levels["present"]), key=lambda z: z.start_pfn)
    for before, after in pairwise(populated):
        if before.start_pfn + before.levels["spanned"] > after.start_pfn:
            after.line.fail(
                f"zone {after.name} of node {after.nid} begins inside zone {before.name} of node {before.nid}"
            )


def check_type_blocks(image: MachineImage) -> None:
    """Refuse more pageblocks in pagetypeinfo than the zone spans."""
    for zone in image.zones:
        blocks = sum(zone.type_blocks or ())
        if blocks > zone.spanned // PAGEBLOCK_PAGES + 2:
            name = f"zone {zone.name} of node {zone.nid}"
            raise BadInput(
                f"{name} has {blocks} pageblocks and spans {zone.spanned} pages", where="/proc/pagetypeinfo"
            )


def check_total(mem_total_kb: int, zones: Sequence[ZoneImage], line: int) -> None:
    """Refuse a MemTotal that the zones cannot explain.

    It equals the managed pages; some kernels initialise memory late and count present pages that no zone
    manages yet, so up to the present pages it may be above.
    """
    managed = sum(zone.managed for zone in zones)
    present = sum(zone.present for zone in zones)
    total = mem_total_kb // 4
    if not managed - managed // 100 - 1 <= total <= max(present, managed + managed // 100):
        detail = f"MemTotal is {total} pages, but the zones manage {managed} of {present} present pages"
        raise BadInput(detail, where=f"{MEMINFO}:{line}")


def check_pool(pool: PoolImage, nids: Iterable[int], where: str) -> None:
    """Refuse per-node counters that do not add up to the pool's, or name a node the machine does not have."""
    known = set(nids)
    for nid in sorted(pool.nodes):
        if nid not in known and pool.nodes[nid][0]:
            raise BadInput(f"node {nid} has huge pages but no memory in {ZONEINFO}", where=where)
    sums = [sum(node[i] for node in pool.nodes.values()) for i in range(3)]
    names = ("nr_hugepages", "free_hugepages", "surplus_hugepages")
    totals = (pool.nr, pool.free, pool.surplus)
    for name, total, of_nodes in zip(names, totals, sums, strict=True):
        if total != of_nodes:
            raise BadInput(f"the nodes have {of_nodes}, the whole machine {total}", where=f"{where}/{name}:1")


def check_pools_fit(image: MachineImage) -> None:
    """Refuse pools that are larger than what their node manages besides its free pages."""
    for nid in sorted({zone.nid for zone in image.zones}):
        zones = [zone for zone in image.zones if zone.nid == nid]
        managed = sum(zone.managed for zone in zones)
        free = sum(zone.free for zone in zones)
        huge = sum(pool.nodes.get(nid, (0, 0, 0))[0] << pool.order for pool in image.pools)
        if free + huge > managed + skew(managed):
            sizes = ", ".join(size_name(pool.order) for pool in image.pools)
            detail = f"node {nid} manages {managed} pages; {free} are free and {huge} in huge pages ({sizes})"
            raise BadInput(detail, where=ZONEINFO)


def check_blocks(image: MachineImage) -> None:
    """Refuse memory blocks that hold less than the zones have."""
    if not image.blocks or image.block_pages is None:
        return
    online = sum(1 for state, _, _ in image.blocks.values() if state != "offline") * image.block_pages
    present = sum(zone.present for zone in image.zones)
    if online < present:
        detail = f"the online memory blocks hold {online} pages, but {present} are present in {ZONEINFO}"
        raise BadInput(detail, where="/sys/devices/system/memory")
