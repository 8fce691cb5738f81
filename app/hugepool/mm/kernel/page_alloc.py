"""The buddy allocator at the level that a user can see: watermarks, zone order, which page is taken.

Free lists are not kept: eager merging makes them a function of the set of free pages, so counts per order
are exact and computed on demand.  *Which* page is taken: of whole pageblocks the one at the head of the lists
(``free_order``), of single pages the lowest of the preferred kind.

Source: mm/page_alloc.c (5.14): get_page_from_freelist(), __zone_watermark_ok(), __rmqueue_fallback(),
setup_per_zone_wmarks(), setup_per_zone_lowmem_reserve(), init_per_zone_wmark_min().
"""

from collections.abc import Iterable, Sequence
from math import isqrt

import numpy as np
import numpy.typing as npt

from hugepool.mm.machine.free_order import Stamped
from hugepool.mm.machine.mmzone import (
    NO_BLOCKS,
    NO_PFNS,
    NOWHERE,
    ZONE_DMA,
    ZONE_MOVABLE,
    ZONE_NORMAL,
    Blocks,
    MemoryMap,
    Migrate,
    Node,
    Pfns,
    Use,
    Zone,
    pages_in,
    pairs_of,
)
from hugepool.mm.machine.units import MAX_BUDDY_ORDER, NR_ORDERS, PAGEBLOCK_PAGES

COMPACT_GAP = 2 * PAGEBLOCK_PAGES  # what compaction for a huge page needs above a mark: compact_gap()
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


# -- zones of a request ----------------------------------------------------------------------------------


def node_zonelist(node: Node, highest: int) -> list[Zone]:
    """The node's populated zones from ``highest`` (a zone type) down: the order a request tries them in."""
    return [zone for zone in reversed(node.zones[: highest + 1]) if zone.present]


def zonelist(nodes: Sequence[Node], first: int, highest: int) -> list[Zone]:
    """Populated zones of all nodes by distance from node ``first``, each node from ``highest`` down.

    Source: mm/page_alloc.c build_zonelists() (5.14).
    """
    origin = nodes[first]
    order = sorted(nodes, key=lambda node: (origin.distance[node.nid], (node.nid - first) % len(nodes)))
    return [zone for node in order for zone in node_zonelist(node, highest)]


def usable(zone: Zone, highest: int) -> int:
    """Free pages that the watermarks count for a request up to zone type ``highest``.

    Pages on the freeing CPU's list and in isolated pageblocks do not count; those of CMA areas do for movable
    requests only, which are the ones that may use ZONE_MOVABLE.
    Source: mm/page_isolation.c set_migratetype_isolate() takes free pages out of NR_FREE_PAGES (5.14).
    """
    apart = zone.nr_cached + zone.nr_isolated
    return zone.nr_free - apart - (0 if highest == ZONE_MOVABLE else zone.nr_free_cma)


def room(zone: Zone, mark: int, highest: int) -> int:
    """Order-0 pages that may be taken from the zone before it reaches ``mark`` plus its reserve."""
    return max(0, usable(zone, highest) - mark - zone.lowmem_reserve[highest])


def huge_room(zone: Zone, mark: int, highest: int, cost: int) -> int:
    """Order-9 pages that may be taken while each lowers the free pages by ``cost``.

    Source: mm/page_alloc.c __zone_watermark_ok(): free - 511 must stay strictly above the mark (5.14).
    """
    slack = usable(zone, highest) - (PAGEBLOCK_PAGES - 1) - mark - zone.lowmem_reserve[highest] - 1
    return slack // cost + 1 if slack >= 0 else 0


def allocatable(zones: Iterable[Zone], highest: int) -> int:
    """Order-0 pages that requests up to zone type ``highest`` may still take, per-CPU lists included."""
    return sum(
        max(0, usable(zone, highest) + zone.nr_pcp - zone.min - zone.lowmem_reserve[highest])
        for zone in zones
    )


# -- taking ----------------------------------------------------------------------------------------------


def alloc_pages(
    mem: MemoryMap, zones: Sequence[Zone], count: int, mt: Migrate, highest: int, use: Use
) -> Pfns:
    """Take up to ``count`` single pages; the fast path asks for the low watermark, the slow path for min.

    Returns the pfns in the order taken; fewer than ``count`` when the zones cannot give more.  What an import found
    on the lists of CPUs goes back to the zones that pages are taken from, and to all when these cannot give enough.
    Source: mm/page_alloc.c __alloc_pages() (5.14).
    """
    parts: list[Pfns] = []
    used: list[Zone] = []
    left = count
    for mark in ("low", "min", "drained"):
        if mark == "drained":
            full = zones if left else used
            if not any(zone.nr_pcp for zone in full):
                break
            drain_pcp(mem, full)
        for zone in zones:
            if left == 0:
                break
            allowed = room(zone, zone.low if mark == "low" else zone.min, highest)
            if use == Use.ANON:
                allowed += zone.nr_cached
                mem.take_up(zone)
            got = take_pages(mem, zone, min(left, allowed), mt, use)
            if use == Use.ANON:
                zone.nr_cached = max(0, zone.nr_cached - got.size)
            left -= got.size
            parts.append(got)
            if got.size:
                used.append(zone)
    return np.concatenate(parts) if parts else NO_PFNS


def take_pages(mem: MemoryMap, zone: Zone, count: int, mt: Migrate, use: Use) -> Pfns:
    """Take up to ``count`` free pages of one zone, no watermark asked."""
    pfns = _take_pages(mem, zone, count, mt, use)
    if pfns.size < count and mem.resting_in(zone).size:
        mem.take_up(zone)
        pfns = np.concatenate((pfns, _take_pages(mem, zone, count - pfns.size, mt, use)))
    return pfns


def _take_pages(mem: MemoryMap, zone: Zone, count: int, mt: Migrate, use: Use) -> Pfns:
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


def take_unmovable_block(mem: MemoryMap, zone: Zone, use: Use) -> Blocks:
    """Take one whole pageblock for unmovable memory, no watermark asked; none where the zone has none."""
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
    """Free single pages that unmovable requests find in their own pageblocks before they take a whole one."""
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
    span = mem.blocks_of(zone)
    blocks = np.flatnonzero(mem.free_in(zone, span) & mask[mem.mt[span]]) + span.start
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


def drain_pcp(mem: MemoryMap, zones: Iterable[Zone]) -> bool:
    """Give the pages of the per-CPU lists back to the buddy; whether there were any.

    Source: mm/page_alloc.c drain_all_pages() (5.14).
    """
    drained = False
    for zone in zones:
        drained |= bool(zone.nr_cached or zone.nr_pcp or mem.resting_in(zone).size)
        zone.nr_cached = 0
        mem.take_up(zone)
        if zone.nr_pcp == 0:
            continue
        span = mem.blocks_of(zone)
        mine = mem.zone[span] == zone.id
        whole = np.flatnonzero(mine & (mem.use[span] == Use.PCP)) + span.start
        mem.assign_blocks(whole, Use.BUDDY)
        mixed = np.flatnonzero(mine & (mem.use[span] == Use.MIXED)) + span.start
        row, offset = np.nonzero(mem.detail[mem.slot[mixed]] == Use.PCP)
        mem.assign_pages(mixed[row] * PAGEBLOCK_PAGES + offset, Use.BUDDY)
    return drained


def direct_reclaim(mem: MemoryMap, zones: Sequence[Zone], everywhere: Sequence[Zone]) -> bool:
    """``zones`` have no huge page: whether lists of CPUs are drained, so that a last try is worth it.

    Compaction drains each zone that it works in, one with enough memory above low.  Reclaim finds nothing to write
    back, but counts as progress where a zone has as much above high, and after progress all lists are drained.
    Source: mm/compaction.c compaction_suitable(), compact_zone(); mm/vmscan.c compaction_ready();
    mm/page_alloc.c __alloc_pages_direct_reclaim() (5.14).
    """
    drained = drain_pcp(mem, [zone for zone in zones if room(zone, zone.low + COMPACT_GAP, ZONE_MOVABLE)])
    if any(room(zone, zone.high + COMPACT_GAP, ZONE_MOVABLE) for zone in zones):
        drained |= drain_pcp(mem, everywhere)
    return drained


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


# -- watermarks -------------------------------------------------------------------------------------------


def nr_free_buffer_pages(nodes: Sequence[Node]) -> int:
    """Pages above the high watermark in the zones a GFP_USER request from node 0 may use.

    Source: mm/page_alloc.c nr_free_zone_pages() (5.14).
    """
    return sum(max(0, zone.managed - zone.high) for node in nodes for zone in node.zones[: ZONE_NORMAL + 1])


def calculate_min_free_kbytes(nodes: Sequence[Node], *, thp: bool = True) -> int:
    """The kernel's own min_free_kbytes: by the size of lowmem, raised by khugepaged.

    Source: mm/page_alloc.c init_per_zone_wmark_min(); mm/khugepaged.c set_recommended_min_free_kbytes() (5.14).
    """
    lowmem = nr_free_buffer_pages(nodes)
    by_size = min(262144, max(128, isqrt(lowmem * 4 * 16)))
    if not thp:
        return by_size
    populated = sum(1 for node in nodes for zone in node.zones if zone.managed and zone.type != ZONE_MOVABLE)
    wanted = PAGEBLOCK_PAGES * populated * (2 + 9)
    return max(by_size, min(wanted, lowmem // 20) * 4)


def setup_per_zone_wmarks(
    nodes: Sequence[Node], min_free_kbytes: int, scale_factor: int, *, movable_clamped: bool
) -> None:
    """Share ``min_free_kbytes`` between the zones by managed pages; low and high follow.

    ``movable_clamped``: ZONE_MOVABLE keeps 32..128 pages and takes no share (6.12); before, it shared as all do.
    Source: mm/page_alloc.c __setup_per_zone_wmarks() (5.14, 6.12).
    """
    pages_min = min_free_kbytes // 4
    zones = [zone for node in nodes for zone in node.zones]
    total = sum(z.managed for z in zones if not (movable_clamped and z.type == ZONE_MOVABLE))
    for zone in zones:
        share = pages_min * zone.managed // total if total else 0
        clamped = movable_clamped and zone.type == ZONE_MOVABLE
        zone.min = min(128, max(32, zone.managed // 1024)) if clamped else share
        gap = max(share // 4, zone.managed * scale_factor // 10000)
        zone.low = zone.min + gap
        zone.high = zone.min + 2 * gap


def setup_per_zone_lowmem_reserve(nodes: Sequence[Node], ratios: Sequence[int]) -> None:
    """Pages a zone keeps from requests that could use a higher zone of the same node.

    Source: mm/page_alloc.c setup_per_zone_lowmem_reserve() (5.14).
    """
    for node in nodes:
        for i in range(ZONE_DMA, ZONE_MOVABLE + 1):
            zone = node.zones[i]
            clear = ratios[i] == 0 or zone.managed == 0
            above = 0
            for j in range(i + 1, ZONE_MOVABLE + 1):
                above += node.zones[j].managed
                zone.lowmem_reserve[j] = 0 if clear else above // ratios[i]
