"""Placing the free blocks of a zone, by type and order, and what is in use in the pages between them.

Whole pairs of pageblocks are free blocks of order 10; a free block of order 9 takes one half of a pair; smaller ones
are cut out of pageblocks (``buddy_pack``), which get the type of the lists that their free blocks are on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hugepool.mm.boot.buddy_pack import WHOLE, cuts, regions_of
from hugepool.mm.boot.pageblock_types import KERNEL_TYPES, set_type, type_pageblocks, without
from hugepool.mm.machine.mmzone import NO_BLOCKS, Blocks, Mask, MemoryMap, Migrate, Use, Zone, pairs_of
from hugepool.mm.machine.units import (
    MAX_BUDDY_ORDER,
    PAGEBLOCK_ORDER,
    PAGEBLOCK_PAGES,
    pages_by_order,
)

PAIR_PAGES = 2 * PAGEBLOCK_PAGES
OPEN = Use.RESERVED  # a present page that is not placed yet
OF_KERNEL = (Use.SYSTEM, Use.SLAB)
NONE_OPEN: Mask = np.zeros(PAGEBLOCK_PAGES, np.bool_)

FreeLists = npt.NDArray[np.int64]  # free blocks by migratetype and order


@dataclass(slots=True)
class Filler:
    """A number of pages of a use, placed in the places that stay open."""

    use: Use
    pages: int


@dataclass(slots=True)
class Wanted:
    """What a zone's open pages are to become; the numbers add up to them.

    Attributes:
        free: free blocks by migratetype and order 0..10.
        fillers: what is in use, in the order of its places, lowest first.
        early: of the reserved pages, those that lie at the top: early memory is handed out from there.
        beside_early: pages of ``beside_use`` that fill what is left of the last 4 MiB of early memory.
        free_beside_early: there the kernel's own free blocks lie instead, as in ZONE_MOVABLE.
        parts_first: the kernel's free blocks lie in pageblocks that are in part open, of whatever type these are.
        type_blocks: pageblocks by type, or None: then what the kernel uses is unmovable, all else as it is.
    """

    free: FreeLists
    fillers: Sequence[Filler]
    early: int = 0
    beside_early: int = 0
    beside_use: Use = Use.PAGE_CACHE
    free_beside_early: bool = False
    parts_first: bool = False
    type_blocks: Sequence[int] | None = None


@dataclass(slots=True)
class _Site:
    """Pageblocks with the same open pages, and which of these are free."""

    blocks: Blocks
    open: Mask
    free: Mask = field(default_factory=NONE_OPEN.copy)

    @property
    def used(self) -> Mask:
        """Open pages that are not free."""
        mask: Mask = self.open & ~self.free
        return mask


@dataclass(slots=True)
class _Plan:
    """Where everything goes; nothing is changed yet.

    ``pairs``: first pageblocks of open pairs; ``single``: open pageblocks without an open buddy; ``parts``: pageblocks
    with some open pages; all rising.  ``whole``: free pageblocks by type; ``sites``: those with smaller free blocks, by
    type; ``halves``: open pageblocks for these.
    """

    pairs: Blocks
    single: Blocks
    parts: list[_Site]
    beside: list[_Site] = field(default_factory=list)
    cache: list[_Site] = field(default_factory=list)
    whole: dict[Migrate, list[Blocks]] = field(default_factory=dict)
    sites: dict[Migrate, list[_Site]] = field(default_factory=dict)
    halves: Blocks = field(default_factory=lambda: NO_BLOCKS)


def fill(mem: MemoryMap, zone: Zone, blocks: Blocks, wanted: Wanted) -> bool:
    """Place free blocks and fillers into the open pages of some pageblocks of a zone.

    Returns False, and has done nothing, when that is impossible.
    """
    plan = _open_places(mem, blocks)
    if any(filler.pages < 0 for filler in wanted.fillers) or _pages(plan) != _pages_of(wanted):
        return False
    if not (_set_early_apart(plan, wanted) and _place_large(plan, wanted.free)):
        return False
    if not all(_place_small(mem, plan, mt, wanted) for mt in (*KERNEL_TYPES, Migrate.MOVABLE)):
        return False
    _assign(mem, zone, plan, wanted)
    return True


# -- what is open ----------------------------------------------------------------------------------------


def _open_places(mem: MemoryMap, blocks: Blocks) -> _Plan:
    whole = blocks[mem.use[blocks] == OPEN]
    even = whole[whole % 2 == 0]
    is_open = np.zeros(mem.nr_blocks + 2, np.bool_)
    is_open[whole] = True
    pairs = even[is_open[even + 1]]
    single = whole[~is_open[whole ^ 1]]
    mixed = blocks[mem.use[blocks] == Use.MIXED]
    parts = [site for mt in Migrate for site in _alike(mem, mixed[mem.mt[mixed] == mt])]
    return _Plan(pairs, single, sorted(parts, key=lambda site: (-_largest(site.open), int(site.blocks[0]))))


def _alike(mem: MemoryMap, blocks: Blocks) -> Iterator[_Site]:
    """Pageblocks in part open, by their open pages."""
    rows = mem.detail[mem.slot[blocks]] == OPEN
    blocks, rows = blocks[rows.any(axis=1)], rows[rows.any(axis=1)]
    if blocks.size:
        kinds, which = np.unique(np.packbits(rows, axis=1), axis=0, return_inverse=True)
        for i, kind in enumerate(kinds):
            yield _Site(blocks[which.ravel() == i], np.unpackbits(kind).astype(np.bool_))


def _largest(open_pages: Mask) -> int:
    return max(order for order, starts in enumerate(regions_of(open_pages)) if starts)


def _pages(plan: _Plan) -> int:
    some = sum(site.blocks.size * int(site.open.sum()) for site in plan.parts)
    return int(plan.pairs.size * PAIR_PAGES + plan.single.size * PAGEBLOCK_PAGES + some)


def _pages_of(wanted: Wanted) -> int:
    return pages_by_order(wanted.free.sum(axis=0)) + sum(filler.pages for filler in wanted.fillers)


# -- the plan --------------------------------------------------------------------------------------------


def _set_early_apart(plan: _Plan, wanted: Wanted) -> bool:
    """Early memory takes the highest pairs, and of the pair below what does not fill one."""
    count, rest = divmod(wanted.early, PAIR_PAGES)
    if count + bool(rest) > plan.pairs.size:
        return False
    plan.pairs = plan.pairs[: plan.pairs.size - count]
    if not rest:
        return True
    last, plan.pairs = int(plan.pairs[-1]), plan.pairs[:-1]
    left = PAIR_PAGES - rest
    sides = [_Site(np.array([last + i]), _first(left - i * PAGEBLOCK_PAGES)) for i in (0, 1)]
    into = plan.beside if wanted.free_beside_early else plan.cache
    into.extend(site for site in sides if site.open.any())
    return wanted.free_beside_early or wanted.beside_early == left


def _first(pages: int) -> Mask:
    """The first pages of a pageblock."""
    mask: Mask = np.arange(PAGEBLOCK_PAGES) < pages
    return mask


def _place_large(plan: _Plan, free: FreeLists) -> bool:
    """Free blocks of order 10 take the highest pairs, those of order 9 single pageblocks and halves of the lowest."""
    pairs, lone = free[:, MAX_BUDDY_ORDER], free[:, PAGEBLOCK_ORDER]
    cut = plan.pairs.size - int(pairs.sum())
    if cut < 0 or lone.sum() > plan.single.size + cut:
        return False
    high, low = plan.pairs[cut:], plan.pairs[:cut]
    of_pairs = low[: max(0, int(lone.sum()) - plan.single.size)]
    places = np.sort(np.concatenate((plan.single[: int(lone.sum())], of_pairs)))
    for mt in (*KERNEL_TYPES, Migrate.MOVABLE):
        mine, high = pairs_of(high[: pairs[mt]]), high[pairs[mt] :]
        half, places = places[: lone[mt]], places[lone[mt] :]
        plan.whole[mt] = [mine, half]
    plan.halves = np.sort(without(np.concatenate((plan.single[int(lone.sum()) :], pairs_of(low))), of_pairs))
    return True


def _place_small(mem: MemoryMap, plan: _Plan, mt: Migrate, wanted: Wanted) -> bool:
    """Cut the smaller free blocks of a type out of pageblocks: of those in part open first, where they are its own."""
    left = wanted.free[mt, :PAGEBLOCK_ORDER].tolist()
    plan.sites[mt] = []
    beside = wanted.free_beside_early and mt != Migrate.MOVABLE
    all_first = wanted.parts_first or mt == Migrate.MOVABLE
    own = [site for site in plan.parts if all_first or (mem.mt[site.blocks] == mt).any()]
    others = [site for site in plan.parts if not any(site is each for each in own)]
    _cut_parts(plan, mt, [*plan.beside, *own] if beside else own, left)
    for cut in cuts(WHOLE, plan.halves.size, left):
        at = plan.halves.size - cut.count if beside else cut.count
        taken, plan.halves = (plan.halves[at:], plan.halves[:at]) if beside else np.split(plan.halves, [at])
        plan.sites[mt].append(_Site(taken, WHOLE, cut.free))
    _cut_parts(plan, mt, others, left)
    return not any(left)


def _cut_parts(plan: _Plan, mt: Migrate, sites: Sequence[_Site], left: list[int]) -> None:
    for site in sites:
        for cut in cuts(site.open, site.blocks.size, left):
            taken, site.blocks = np.split(site.blocks, [cut.count])
            plan.sites[mt].append(_Site(taken, site.open, cut.free))


# -- making it so ----------------------------------------------------------------------------------------


def _assign(mem: MemoryMap, zone: Zone, plan: _Plan, wanted: Wanted) -> None:
    for mt, parts in plan.whole.items():
        blocks = np.concatenate(parts)
        mem.assign_blocks(blocks, Use.BUDDY)
        set_type(mem, blocks, mt)
    for mt, sites in plan.sites.items():
        for site in sites:
            set_type(mem, site.blocks, mt)
    for site in plan.cache:
        _assign_site(mem, site, site.blocks, wanted.beside_use)
    cut = [site for sites in plan.sites.values() for site in sites]
    uncut = [site for site in (*plan.parts, *plan.beside) if site.blocks.size]
    if wanted.type_blocks is not None:
        fixed = np.concatenate([NO_BLOCKS, *(b for parts in plan.whole.values() for b in parts),
                                *(site.blocks for site in cut)])  # fmt: skip
        type_pageblocks(mem, zone, fixed, wanted.type_blocks)
    kernel_first = wanted.type_blocks is not None
    _assign_used(mem, [*cut, *uncut, _Site(plan.halves, WHOLE)], _late(wanted), kernel_first=kernel_first)


def _late(wanted: Wanted) -> list[Filler]:
    """The fillers without what lies at the top already."""
    apart = {Use.RESERVED: wanted.early, wanted.beside_use: wanted.beside_early}
    return [Filler(filler.use, filler.pages - apart.get(filler.use, 0)) for filler in wanted.fillers]


def _assign_used(
    mem: MemoryMap, sites: Sequence[_Site], fillers: Sequence[Filler], *, kernel_first: bool
) -> None:
    """Give what is open and not free its use, lowest first; what the kernel uses lies in its own pageblocks first."""
    blocks = np.concatenate([site.blocks for site in sites])
    pages = np.concatenate([np.full(site.blocks.size, int(site.used.sum())) for site in sites])
    movable = (mem.mt[blocks] == Migrate.MOVABLE) | (mem.mt[blocks] == Migrate.CMA)
    order = np.lexsort((blocks, movable if kernel_first else np.zeros(blocks.size, np.bool_)))
    begin = np.empty(blocks.size, np.int64)
    begin[order] = np.cumsum(pages[order]) - pages[order]
    ends = np.cumsum([filler.pages for filler in fillers])
    done = 0
    for site in sites:
        here = slice(done, done + site.blocks.size)
        done += site.blocks.size
        changed = _assign_fillers(mem, site, begin[here], ends, fillers)
        if not kernel_first:
            set_type(mem, changed, Migrate.UNMOVABLE)


def _assign_fillers(
    mem: MemoryMap, site: _Site, begin: Blocks, ends: Blocks, fillers: Sequence[Filler]
) -> Blocks:
    """Give the pages of a site their uses; returns the pageblocks in which the kernel has some.

    Args:
        begin: for each pageblock, how many pages of fillers were placed before it.
        ends: how many pages there are up to the end of each filler.
    """
    pages = int(site.used.sum())
    first = np.searchsorted(
        ends, begin, side="right"
    )  # the filler of a pageblock's first page, and of its last
    last = np.searchsorted(ends, begin + max(pages, 1) - 1, side="right")
    of_kernel = np.zeros(site.blocks.size, np.bool_)
    for i in range(len(fillers) + 1):  # behind the last one: sites that have no pages in use
        mine = (first == i) & (last == i)
        use = fillers[i].use if i < len(fillers) else OPEN
        _assign_site(mem, site, site.blocks[mine], use)
        of_kernel |= mine & (use in OF_KERNEL) & (pages > 0)
    for at in np.flatnonzero(first != last).tolist():
        bounds = np.concatenate(([begin[at]], np.clip(ends, begin[at], begin[at] + pages)))
        uses = np.repeat([int(filler.use) for filler in fillers], bounds[1:] - bounds[:-1])
        _assign_mixed(mem, site, int(site.blocks[at]), uses)
        of_kernel[at] = np.isin(uses, OF_KERNEL).any()
    changed: Blocks = site.blocks[of_kernel]
    return changed


def _assign_site(mem: MemoryMap, site: _Site, blocks: Blocks, use: Use) -> None:
    """Pageblocks of a site: their free pages, and one use for those that are in use."""
    if blocks.size == 0:
        return
    if not site.open.all():
        for mask, each in ((site.free, Use.BUDDY), (site.used, use)):
            if mask.any() and each != OPEN:
                mem.assign_masked(blocks, np.broadcast_to(mask, (blocks.size, PAGEBLOCK_PAGES)), each)
    elif site.free.any():
        mem.assign_rows(blocks, np.where(site.free, Use.BUDDY, use).astype(np.uint8))
    elif use != OPEN:
        mem.assign_blocks(blocks, use)


def _assign_mixed(mem: MemoryMap, site: _Site, block: int, uses: npt.NDArray[np.int64]) -> None:
    """A pageblock whose pages in use have several uses."""
    first = block * PAGEBLOCK_PAGES
    mem.assign_pages(first + np.flatnonzero(site.free), Use.BUDDY)
    places = first + np.flatnonzero(site.used)
    for use in np.unique(uses).tolist():
        mem.assign_pages(places[uses == use], Use(use))
