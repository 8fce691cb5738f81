"""The free memory of an imported machine: as its files count it by zone, order and type; and what is in use besides."""

from collections.abc import Iterator, Sequence

import numpy as np

from hugepool.mm.boot.buddy_fill import PAIR_PAGES, Filler, FreeLists, Wanted, fill
from hugepool.mm.boot.import_zones import Budget
from hugepool.mm.boot.layout import KERNEL_START
from hugepool.mm.boot.pageblock_types import counted, set_type, without
from hugepool.mm.kernel.buddy import free_area_by_type
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.mmzone import ZONE_MOVABLE, Blocks, MemoryMap, Migrate, Use
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.units import PAGEBLOCK_PAGES, pages_by_order


def fill_zone(host: Host, budget: Budget) -> None:
    """Place the free blocks of a zone, then reserved, used and per-CPU pages, in the zone's open places.

    Raises:
        BadInput: the zone's numbers leave no room for that, or no way in which two free buddies do not meet.
    """
    z, mem = budget.image, host.mem
    if budget.used < 0 or budget.unmanaged < 0:
        raise BadInput(
            f"Node {z.nid}, zone {z.name}: {z.managed} managed pages cannot hold its free, huge and vmemmap pages",
            where="/proc/zoneinfo",
        )
    if budget.area.size:
        _fill_area(host, budget)
    blocks = _open_blocks(mem, budget)
    if any(fill(mem, budget.zone, blocks, wanted) for wanted in _ways(host, budget)):
        return
    if budget.low_hole.size:  # it may lie elsewhere: a hole is a page that is not free, as others are
        mem.assign_pages(budget.low_hole, Use.RESERVED)
        holes = [Filler(Use.HOLE, int(budget.low_hole.size))]
        blocks = _open_blocks(mem, budget)
        if any(fill(mem, budget.zone, blocks, wanted) for wanted in _ways(host, budget, holes)):
            return
    raise BadInput(
        f"Node {z.nid}, zone {z.name}: the free blocks do not fit into its {z.present} present pages without two free "
        "buddies meeting", where="/proc/buddyinfo"
    )  # fmt: skip


def _fill_area(host: Host, budget: Budget) -> None:
    """Areas of CMA hold their own free blocks; what is in use there is movable, or waits on the lists of CPUs."""
    mem, area = host.mem, budget.area
    lists = np.zeros_like(budget.lists)
    lists[Migrate.CMA], budget.lists[Migrate.CMA] = budget.lists[Migrate.CMA], 0
    taken = area.size * PAGEBLOCK_PAGES - pages_by_order(lists[Migrate.CMA])
    listed = min(max(0, taken - _movable_share(host, budget)), budget.pcp)
    fillers = [Filler(Use.PAGE_CACHE, taken - listed), Filler(Use.PCP, listed)]
    if taken - listed > budget.used or not fill(mem, budget.zone, area, Wanted(lists, fillers)):
        z = budget.image
        raise BadInput(
            f"Node {z.nid}, zone {z.name}: its free blocks of the type CMA do not fit into its areas",
            where="/proc/pagetypeinfo",
        )
    set_type(mem, area, Migrate.CMA)
    budget.used -= taken - listed
    budget.pcp -= listed
    budget.movable_in_area = taken - listed


def _open_blocks(mem: MemoryMap, budget: Budget) -> Blocks:
    blocks = without(counted(mem, budget.zone), budget.area)
    is_open: Blocks = blocks[(mem.use[blocks] == Use.RESERVED) | (mem.use[blocks] == Use.MIXED)]
    return is_open


def _ways(host: Host, budget: Budget, holes: Sequence[Filler] = ()) -> Iterator[Wanted]:
    """What to try, the likeliest first: with and without types, early memory at the top or wherever there is room."""
    z = budget.image
    movable = min(budget.used, max(0, _movable_share(host, budget) - budget.movable_in_area))
    reserved, system = Filler(Use.RESERVED, budget.unmanaged), Filler(Use.SYSTEM, budget.used - movable)
    late = [Filler(Use.PAGE_CACHE, movable), Filler(Use.PCP, budget.pcp)]
    known = z.free_by_type is not None and z.type_blocks is not None
    for typed in (True, False) if known else (False,):
        lists = budget.lists if typed else _untyped(budget.lists)
        blocks = z.type_blocks if typed else None
        # Where types are known, what the kernel took since the boot lies in its own pageblocks, which come first.
        fillers = [*holes, *((system, reserved) if typed else (reserved, system)), *late]
        if budget.zone.type == ZONE_MOVABLE:
            # Nothing turns a pageblock of it unmovable but early memory: the kernel's free blocks lie next to it.
            yield Wanted(lists, fillers, budget.unmanaged, 0, free_beside_early=True, type_blocks=blocks)
        early, beside = _early_memory(host, budget, movable)
        yield Wanted(lists, fillers, early, beside, type_blocks=blocks)
        if typed:
            yield Wanted(lists, fillers, early, beside, parts_first=True, type_blocks=blocks)
        yield Wanted(lists, fillers, parts_first=True, type_blocks=blocks)


def _early_memory(host: Host, budget: Budget, movable: int) -> tuple[int, int]:
    """Reserved pages at the top of a zone, and page cache next to them.

    Early memory is handed out from the top; the kernel's image lies low.  Page cache soon fills what is left of the
    last region of 4 MiB; where there is none, only whole regions count.
    """
    zone = budget.zone
    image = host.profile.kernel_image_pages if KERNEL_START in range(zone.start_pfn, zone.end_pfn) else 0
    early = max(0, budget.unmanaged - image)
    beside = -early % PAIR_PAGES
    if not image and beside <= movable:
        return early, beside
    return early - early % PAIR_PAGES, 0


def _movable_share(host: Host, budget: Budget) -> int:
    """Anonymous and page-cache pages of the zone: ZONE_MOVABLE holds nothing else; /proc/zoneinfo counts them."""
    carried = host.carried.get("zone_movable_pages", {})
    known = carried.get(f"{budget.zone.nid}/{budget.zone.name}") if isinstance(carried, dict) else None
    if budget.zone.type == ZONE_MOVABLE:
        return budget.used
    return int(known) if known is not None else 0


# -- free lists ------------------------------------------------------------------------------------------


def _untyped(lists: FreeLists) -> FreeLists:
    """All of them movable, but those in areas of CMA."""
    merged = np.zeros_like(lists)
    merged[Migrate.CMA] = lists[Migrate.CMA]
    merged[Migrate.MOVABLE] = lists.sum(axis=0) - lists[Migrate.CMA]
    return merged


def lag_of_types(host: Host, budgets: Sequence[Budget]) -> dict[str, dict[str, list[list[int]]]]:
    """What pagetypeinfo said minus what the host shows, by zone, where they differ.

    A free block may be on the list of another type than its pageblock's (until 6.9), and files are read one after the
    other; ``free``: by type and order, ``blocks``: one row, by type.
    """
    found = {}
    for budget in budgets:
        z = budget.image
        if z.free_by_type is None or z.type_blocks is None:
            continue
        shown = free_area_by_type(host.mem, budget.zone)
        free = [
            [0 if count is None else count - int(cell) for count, cell in zip(row, cells, strict=True)]
            for row, cells in zip(z.free_by_type, shown, strict=True)
        ]
        types = np.bincount(host.mem.mt[counted(host.mem, budget.zone)], minlength=len(Migrate))
        blocks = [(np.array(z.type_blocks) - types).tolist()]
        if any(map(any, free)) or any(blocks[0]):
            found[f"{z.nid}/{z.name}"] = {"free": free, "blocks": blocks}
    return found
