"""The buddy allocator at the level that a user can see: which free page is taken.

Free lists are not kept: eager merging makes them a function of the set of free pages, so counts per order
are exact and computed on demand.  *Which* page is taken: of whole pageblocks the one at the head of the lists
(``free_order``), of single pages the lowest of the preferred kind.

Source: mm/page_alloc.c (5.14): __rmqueue(), __rmqueue_smallest(), __rmqueue_fallback(), steal_suitable_fallback().
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hugepool.mm.machine.free_order import Stamped
from hugepool.mm.machine.mmzone import (
    NO_BLOCKS,
    NO_PFNS,
    NOWHERE,
    Blocks,
    MemoryMap,
    Migrate,
    Pfns,
    Use,
    Zone,
    pages_in,
    pairs_of,
)
from hugepool.mm.machine.units import MAX_BUDDY_ORDER, NR_ORDERS, PAGEBLOCK_PAGES

SCAN_CHUNK = 4096  # pageblocks looked at per step

# Where a request of a migratetype looks, in this order: (wholly free pageblocks?, types of the pageblock).
# Unmovable requests steal the largest block they can get, movable ones the smallest.
SEARCH_ORDER: dict[Migrate, tuple[tuple[bool, tuple[Migrate, ...]], ...]] = {
    Migrate.UNMOVABLE: (
        (False, (Migrate.UNMOVABLE,)),
        (True, (Migrate.UNMOVABLE,)),
        (True, (Migrate.RECLAIMABLE, Migrate.MOVABLE)),
        (False, (Migrate.RECLAIMABLE, Migrate.MOVABLE)),
    ),
    Migrate.MOVABLE: (
        (False, (Migrate.MOVABLE,)),
        (True, (Migrate.MOVABLE,)),
        (False, (Migrate.RECLAIMABLE, Migrate.UNMOVABLE)),
        (True, (Migrate.RECLAIMABLE, Migrate.UNMOVABLE)),
    ),
}
CMA_ORDER = ((False, (Migrate.CMA,)), (True, (Migrate.CMA,)))
HUGE_TYPES = (Migrate.UNMOVABLE, Migrate.MOVABLE, Migrate.RECLAIMABLE)


# -- taking ----------------------------------------------------------------------------------------------


def take_pages(mem: MemoryMap, zone: Zone, count: int, mt: Migrate, use: Use) -> Pfns:
    """Take up to ``count`` free pages of one zone, no watermark asked."""
    if mt == Migrate.UNMOVABLE or zone.nr_free_cma == 0:
        return _take_in_order(mem, zone, count, mt, use, SEARCH_ORDER[mt])
    regular, of_area = share_with_cma(zone, count, zone.nr_free - zone.nr_free_cma, zone.nr_free_cma, 1)
    parts = [_take_in_order(mem, zone, regular, mt, use, SEARCH_ORDER[mt])]
    parts.append(_take_in_order(mem, zone, of_area, mt, use, CMA_ORDER))
    return np.concatenate(parts)


def _take_in_order(
    mem: MemoryMap,
    zone: Zone,
    count: int,
    mt: Migrate,
    use: Use,
    order: Sequence[tuple[bool, tuple[Migrate, ...]]],
) -> Pfns:
    parts: list[Pfns] = []
    left = count
    for whole, types in order:
        if left <= 0:
            break
        if whole:
            steals = mt not in types and Migrate.CMA not in types
            blocks = listed_blocks(mem, zone, -(-left // PAGEBLOCK_PAGES), types, largest_first=steals)
            if blocks.size == 0:
                continue
            if steals and mt == Migrate.UNMOVABLE:
                _steal(mem, blocks, types)
            pfns = pages_in(blocks)[:left]
            entire = pfns.size // PAGEBLOCK_PAGES
            mem.assign_blocks(blocks[:entire], use)
            mem.assign_pages(pfns[entire * PAGEBLOCK_PAGES :], use)
            mem.split_off(blocks)
        else:
            pfns = _find_pages_in_mixed(mem, zone, left, types)
            mem.assign_pages(pfns, use)
        left -= pfns.size
        parts.append(pfns)
    return np.concatenate(parts) if parts else NO_PFNS


def take_unmovable_blocks(mem: MemoryMap, zone: Zone, count: int, use: Use) -> Blocks:
    """Take up to ``count`` whole pageblocks for unmovable memory, no watermark asked."""
    taken = [_take_unmovable_block(mem, zone, use) for _ in range(count)]
    return np.concatenate(taken) if taken else NO_BLOCKS


def _take_unmovable_block(mem: MemoryMap, zone: Zone, use: Use) -> Blocks:
    for whole, types in SEARCH_ORDER[Migrate.UNMOVABLE]:
        steals = Migrate.UNMOVABLE not in types
        block = listed_blocks(mem, zone, 1, types, largest_first=steals) if whole else NO_BLOCKS
        if block.size:
            if steals:
                _steal(mem, block, types)
            mem.assign_blocks(block, use)
            mem.split_off(block)
            return block
    return NO_BLOCKS


def pages_without_steal(mem: MemoryMap, zone: Zone) -> int:
    """Free single pages that unmovable requests find in pageblocks of their own before they take a whole one."""
    span = mem.blocks_of(zone)
    part = slice(max(span.start, mem.page_hint[zone.index][Migrate.UNMOVABLE]), span.stop)
    mixed = np.flatnonzero((mem.use[part] == Use.MIXED) & (mem.mt[part] == Migrate.UNMOVABLE)) + part.start
    mine = mixed[mem.zone[mixed] == zone.id]
    return int(mem.nfree[mine].sum(dtype=np.int64))


def _steal(mem: MemoryMap, blocks: Blocks, types: tuple[Migrate, ...]) -> None:
    """Unmovable requests make the whole free block theirs that they take from: a pair, where it is one.

    Source: mm/page_alloc.c steal_suitable_fallback(), change_pageblock_range() (5.14).
    """
    both = np.union1d(blocks, blocks ^ 1)
    free = (mem.use[both] == Use.BUDDY) & (mem.zone[both] == mem.zone[both ^ 1])
    mem.set_type(both[free & np.isin(mem.mt[both], types)], Migrate.UNMOVABLE)


def share_with_cma(zone: Zone, count: int, have: int, have_cma: int, unit: int) -> tuple[int, int]:
    """How many of ``count`` requests of ``unit`` pages come from outside the CMA areas, and from inside.

    Inside while more than half of the zone's free memory lies there, else outside; each where the other has none.
    ``have``, ``have_cma``: requests that either side can serve.
    Source: mm/page_alloc.c __rmqueue() (5.14).
    """
    lead = (
        2 * zone.nr_free_cma - zone.nr_free
    ) // unit  # how far inside is ahead; each request moves it by one
    first = min(count, abs(lead))
    inside = first if lead > 0 else 0
    inside += (count - first) // 2
    inside = min(inside, have_cma)
    regular = min(count - inside, have)
    return regular, min(count - regular, have_cma)


def has_free_block(mem: MemoryMap, zone: Zone, *, movable: bool) -> bool:
    """Whether the buddy has a free block of 2 MiB or more in a zone; those of CMA areas are for movable requests."""
    if find_free_blocks(mem, zone, 1).size:
        return True
    return movable and zone.nr_free_cma > 0 and listed_blocks(mem, zone, 1, (Migrate.CMA,)).size > 0


def find_free_blocks(mem: MemoryMap, zone: Zone, count: int) -> Blocks:
    """The lowest wholly free pageblocks of a zone, at most ``count``; CMA and isolated ones are passed over."""
    span = mem.blocks_of(zone)
    start, chunk = max(span.start, mem.block_hint[zone.index]), SCAN_CHUNK
    wanted_types = _type_mask(HUGE_TYPES)
    found: list[Blocks] = []
    have, seen = 0, False
    while start < span.stop and have < count:
        part = slice(start, min(start + chunk, span.stop))
        free = np.flatnonzero(mem.free_in(zone, part)) + start
        if not seen:  # nothing is free below the first free block: remember it
            mem.block_hint[zone.index] = int(free[0]) if free.size else part.stop
            seen = free.size > 0
        hits = free[wanted_types[mem.mt[free]]][: count - have]
        found.append(hits)
        have += hits.size
        start, chunk = part.stop, chunk * 4
    return np.concatenate(found) if found else NO_BLOCKS


def listed_blocks(
    mem: MemoryMap, zone: Zone, count: int, types: tuple[Migrate, ...], *, largest_first: bool = False
) -> Blocks:
    """Wholly free pageblocks of a zone, at most ``count``, in the order in which the buddy's lists hand them out.

    The list of order 9 comes before that of order 10, but where a request steals from another type
    (``largest_first``).  Source: mm/page_alloc.c __rmqueue_smallest(), __rmqueue_fallback() (5.14).
    """
    mask = _type_mask(types)
    if Migrate.MOVABLE not in types:
        return _rare_blocks(mem, zone, mask, largest_first=largest_first)[:count]
    found, have = [], 0
    for find in (_pairs, _lone) if largest_first else (_lone, _pairs):
        if have < count:
            found.append(find(mem, zone, count - have, mask))
            have += found[-1].size
    return np.concatenate(found) if found else NO_BLOCKS


def _rare_blocks(mem: MemoryMap, zone: Zone, mask: npt.NDArray[np.bool_], *, largest_first: bool) -> Blocks:
    """All wholly free pageblocks of types that few have, in the order of the lists."""
    span, known = mem.blocks_of(zone), mem.rare_span[zone.index]
    part = slice(max(span.start, known[0]), max(span.start, min(span.stop, known[1])))
    rare = np.flatnonzero(mem.free_in(zone, part) & (mem.mt[part] != Migrate.MOVABLE)) + part.start
    mem.rare_span[zone.index] = (int(rare[0]), int(rare[-1]) + 1) if rare.size else NOWHERE
    blocks = rare[mask[mem.mt[rare]]]
    other = blocks ^ 1
    paired = mem.free_in(zone, other)
    mine, its = mem.order.stamp[blocks], mem.order.stamp[other]
    place = np.where(paired & (np.abs(its) > np.abs(mine)), its, mine)
    in_order: Blocks = blocks[np.lexsort((blocks, -place, paired != largest_first))]
    return in_order


def lone_free_blocks(mem: MemoryMap, zone: Zone) -> Blocks:
    """Wholly free pageblocks whose buddy is not, lowest first: the free blocks of order 9."""
    span, known = mem.blocks_of(zone), mem.lone_span[zone.index]
    first, stop = max(span.start, known[0]) & ~1, min(span.stop, known[1]) + 1 & ~1
    part = slice(first, max(first, stop))
    free = mem.free_in(zone, part)
    row = np.flatnonzero(free[0::2] != free[1::2])
    lone: Blocks = first + 2 * row + free[1::2][row]
    mem.lone_span[zone.index] = (int(lone[0]), int(lone[-1]) + 1) if lone.size else NOWHERE
    return lone


def _lone(mem: MemoryMap, zone: Zone, count: int, mask: npt.NDArray[np.bool_]) -> Blocks:
    """Pageblocks of free blocks of order 9."""
    lone = lone_free_blocks(mem, zone)
    return mem.order.sorted(lone[mask[mem.mt[lone]]])[:count]


def _pairs(mem: MemoryMap, zone: Zone, count: int, mask: npt.NDArray[np.bool_]) -> Blocks:
    """Pageblocks of free blocks of order 10, each pair from its lower half: what was freed last, then as booted."""
    found = [_stamped_pairs(mem, zone, mem.order.head[zone.index], count, mask, latest_first=True)]
    found.append(_booted_pairs(mem, zone, count - found[0].size, mask))
    left = count - found[0].size - found[1].size
    found.append(_stamped_pairs(mem, zone, mem.order.tail[zone.index], left, mask, latest_first=False))
    return np.concatenate(found)


def _stamped_pairs(
    mem: MemoryMap,
    zone: Zone,
    listed: Stamped,
    count: int,
    mask: npt.NDArray[np.bool_],
    *,
    latest_first: bool,
) -> Blocks:
    """Pairs of a list; one lies where the later one of its halves was put."""
    stamp = mem.order.stamp
    found, have, done, chunk = [], 0, 0, max(64, 2 * count)
    while done < listed.size and have < count:
        more = min(listed.size, done + chunk)
        part = (listed.size - more, listed.size - done) if latest_first else (done, more)
        blocks, stamps = listed.entries(*part)
        valid = (stamp[blocks] == stamps) & mem.free_in(zone, blocks)
        if latest_first and done == 0 and not valid[-1]:  # what is stale at the end stays so
            listed.size = part[0] + (int(np.flatnonzero(valid)[-1]) + 1 if valid.any() else 0)
            continue
        blocks = blocks[valid][::-1] if latest_first else blocks[valid]
        other = blocks ^ 1
        first = blocks[mem.free_in(zone, other) & (np.abs(stamp[blocks]) > np.abs(stamp[other]))]
        halves = pairs_of(first & ~1)
        halves = halves[mask[mem.mt[halves]]][: count - have]
        found.append(halves)
        have += halves.size
        done, chunk = more, chunk * 4
    return np.concatenate(found) if found else NO_BLOCKS


def _booted_pairs(mem: MemoryMap, zone: Zone, count: int, mask: npt.NDArray[np.bool_]) -> Blocks:
    """Pairs that were never taken, lowest first."""
    span = mem.blocks_of(zone)
    start, chunk = max(span.start, mem.order.booted_hint[zone.index]) & ~1, SCAN_CHUNK
    found, have, seen = [], 0, False
    while start < span.stop and have < count:
        part = slice(start, min(start + chunk, span.stop + 1 & ~1))
        free = mem.free_in(zone, part) & (mem.order.stamp[part] == 0)
        low = start + 2 * np.flatnonzero(free.reshape(-1, 2).all(axis=1))
        if not seen:
            mem.order.booted_hint[zone.index] = int(low[0]) if low.size else part.stop
            seen = low.size > 0
        halves = pairs_of(low)
        halves = halves[mask[mem.mt[halves]]][: count - have]
        found.append(halves)
        have += halves.size
        start, chunk = part.stop, chunk * 4
    return np.concatenate(found) if found else NO_BLOCKS


def _type_mask(types: tuple[Migrate, ...]) -> npt.NDArray[np.bool_]:
    mask = np.zeros(len(Migrate), np.bool_)
    mask[list(types)] = True
    return mask


def _find_pages_in_mixed(mem: MemoryMap, zone: Zone, count: int, types: tuple[Migrate, ...]) -> Pfns:
    span = mem.blocks_of(zone)
    hints = mem.page_hint[zone.index]
    start, chunk = max(span.start, min(hints[mt] for mt in types)), SCAN_CHUNK
    wanted_types = _type_mask(types)
    found: list[Blocks] = []
    have = 0
    while start < span.stop and have < count:
        part = slice(start, min(start + chunk, span.stop))
        mixed = np.flatnonzero(mem.use[part] == Use.MIXED) + start
        mixed = mixed[(mem.nfree[mixed] > 0) & (mem.zone[mixed] == zone.id)]
        hits = mixed[wanted_types[mem.mt[mixed]]]
        if have == 0:
            for mt in types:
                hints[mt] = max(hints[mt], int(hits[0]) if hits.size else part.stop)
        gained = np.cumsum(mem.nfree[hits], dtype=np.int64)
        hits = hits[: int(np.searchsorted(gained, count - have)) + 1]
        have += int(mem.nfree[hits].sum(dtype=np.int64))
        found.append(hits)
        start, chunk = part.stop, chunk * 4
    if have == 0:
        return NO_PFNS
    blocks = np.concatenate(found)
    row, offset = np.nonzero(mem.detail[mem.slot[blocks]] == Use.BUDDY)
    return (blocks[row] * PAGEBLOCK_PAGES + offset)[:count]


# -- the canonical split into orders ----------------------------------------------------------------------


def free_area(mem: MemoryMap, zone: Zone) -> list[int]:
    """Free blocks per order 0..10 of one zone: a line of /proc/buddyinfo.

    Source: mm/vmstat.c frag_show_print() (5.14); eager merging of mm/page_alloc.c __free_one_page().
    """
    return free_area_by_type(mem, zone).sum(axis=0).tolist()  # type: ignore[no-any-return]


def free_area_by_type(mem: MemoryMap, zone: Zone) -> npt.NDArray[np.int64]:
    """Free blocks per migratetype and order, shape (6, 11).  A block counts by its first pageblock's type."""
    counts = np.zeros((len(Migrate), NR_ORDERS), np.int64)
    span = mem.blocks_of(zone)
    mine = mem.zone[span] == zone.id
    whole = mine & (mem.use[span] == Use.BUDDY)
    types = mem.mt[span]
    if span.start % 2:
        whole, types = np.concatenate(([False], whole)), np.concatenate(([0], types))
    if whole.size % 2:
        whole, types = np.concatenate((whole, [False])), np.concatenate((types, [0]))
    pairs = whole[0::2] & whole[1::2]
    counts[:, MAX_BUDDY_ORDER] = np.bincount(types[0::2][pairs], minlength=len(Migrate))
    single = whole & ~np.repeat(pairs, 2)
    counts[:, MAX_BUDDY_ORDER - 1] = np.bincount(types[single], minlength=len(Migrate))
    mixed = np.flatnonzero(mine & (mem.use[span] == Use.MIXED) & (mem.nfree[span] > 0)) + span.start
    mixed_types = mem.mt[mixed]
    free = mem.detail[mem.slot[mixed]] == Use.BUDDY
    for order in range(MAX_BUDDY_ORDER - 1):
        joined = free[:, 0::2] & free[:, 1::2]
        blocks = free.sum(axis=1) - 2 * joined.sum(axis=1)
        counts[:, order] += np.bincount(mixed_types, weights=blocks, minlength=len(Migrate)).astype(np.int64)
        free = joined
    return counts
