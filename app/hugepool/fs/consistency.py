"""Do the files of a machine agree with each other?  Everything an import refuses as contradictory.

The kernel writes each file at its own moment, and on a busy machine pages move in between; NR_FREE_PAGES also
lags by up to 125 pages per CPU and zone.  So ``skew`` pages are tolerated where two files count the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NoReturn

from hugepool.fs.procfs import ZoneText
from hugepool.fs.textfile import MAX_PAGES
from hugepool.mm.boot.image import MachineImage, PoolImage, ZoneImage
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.units import KB_PER_PAGE, PAGEBLOCK_PAGES, size_name

MEMINFO = "/proc/meminfo"
ZONEINFO = "/proc/zoneinfo"
BUDDYINFO = "/proc/buddyinfo"
NODES = "/sys/devices/system/node"
BLOCKS = "/sys/devices/system/memory"
SKEW_PAGES = 4096
AGAIN = "the files are of different moments; collect them again, together"


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
        detail = (
            f"{name} has {zone.free} free pages, but its line in {BUDDYINFO} adds up to {buddy_free}: {AGAIN}"
        )
        zone.line.fail(detail)
    if buddy_free > managed:
        zone.line.fail(f"{name} has {buddy_free} free pages in {BUDDYINFO} and only {managed} managed ones")
    if buddy_free + zone.pcp > managed + skew(managed):
        zone.line.fail(f"{name} has {buddy_free} free and {zone.pcp} per-CPU pages of {managed} managed ones")


def check_layout(zones: Sequence[ZoneText], blocks: Mapping[int, tuple[str, str, int | None]]) -> None:
    """Refuse populated zones that overlap where no file says which memory block is whose.

    A zone ends where its last memory does: what was plugged in later may lie behind other nodes' memory.  Within a
    node, blocks between others may have been onlined as movable.

    Args:
        zones: of /proc/zoneinfo.
        blocks: state, zones and node of each memory block, where the files say it.
    """
    populated = sorted((z for z in zones if z.levels["present"]), key=lambda z: z.start_pfn)
    has_nodes = any(nid is not None for _, _, nid in blocks.values())
    reach: ZoneText | None = None
    for zone in populated:
        if reach is not None and zone.start_pfn < _end(reach):
            within = zone.nid == reach.nid
            movable = "Movable" in {zone.name, reach.name}
            if not (blocks and movable if within else has_nodes):
                _refuse_overlap(zone, reach)
        if reach is None or _end(zone) > _end(reach):
            reach = zone


def _end(zone: ZoneText) -> int:
    return zone.start_pfn + zone.levels["spanned"]


def _refuse_overlap(zone: ZoneText, other: ZoneText) -> NoReturn:
    zone.line.fail(
        f"zone {zone.name} of node {zone.nid} begins inside zone {other.name} of node {other.nid}, as after memory "
        f"was hot-plugged, and only the links in {BLOCKS} and {NODES} say which memory is whose; collect them as well"
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


def check_total(mem_total_kb: int, zones: Sequence[ZoneImage], where: str) -> None:
    """Refuse a MemTotal that the zones cannot explain.

    It equals the managed pages; some kernels initialise memory late and count present pages that no zone
    manages yet, so up to the present pages it may be above.
    """
    managed = sum(zone.managed for zone in zones)
    present = sum(zone.present for zone in zones)
    total = mem_total_kb // KB_PER_PAGE
    detail = f"MemTotal is {total} pages, but the zones manage {managed} of {present} present pages"
    if total < managed - managed // 100 - 1:
        raise BadInput(
            f"{detail}: this meminfo is that of a container (lxcfs shows its limit there) or of another machine; "
            "collect all files on the host itself", where=where
        )  # fmt: skip
    if total > max(present, managed + managed // 100):
        raise BadInput(f"{detail}: {AGAIN}", where=where)


def check_pool(pool: PoolImage, nids: Iterable[int], where: str, assumed: list[str]) -> None:
    """Refuse per-node counters that do not add up to the pool's, or name a node the machine does not have.

    Free and surplus pages may differ a little on a busy machine: then those of the nodes are taken.
    """
    known = set(nids)
    for nid in sorted(pool.nodes):
        if nid not in known and pool.nodes[nid].nr:
            raise BadInput(f"node {nid} has huge pages but no memory in {ZONEINFO}", where=where)
    nr, free, surplus = (sum(node[i] for node in pool.nodes.values()) for i in range(3))
    if nr != pool.nr:
        detail = f"the nodes have {nr}, the whole machine {pool.nr}: {AGAIN}"
        raise BadInput(detail, where=f"{where}/nr_hugepages:1")
    if (free, surplus) != (pool.free, pool.surplus):
        assumed.append(
            f"Of the huge pages of {size_name(pool.order)} the machine shows {pool.free} free and {pool.surplus} "
            f"surplus, its nodes {free} and {surplus}: those of the nodes are taken."
        )
        pool.free, pool.surplus, pool.resv = free, surplus, min(pool.resv, free)


def check_pools_fit(image: MachineImage) -> None:
    """Refuse pools that are larger than what their node manages besides its free pages."""
    for nid in sorted({zone.nid for zone in image.zones}):
        zones = [zone for zone in image.zones if zone.nid == nid]
        managed = sum(zone.managed for zone in zones)
        free = sum(zone.free for zone in zones)
        huge = sum(pool.nodes[nid].nr << pool.order for pool in image.pools if nid in pool.nodes)
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
        raise BadInput(detail, where=BLOCKS)
