"""Reclaim: page cache and swap that make room for a request, and what kswapd does once memory ran low.

A request that may reclaim takes the clean cache of the nodes that it may use, page for page, up to its watermark.
kswapd works between commands: a zone that a command took memory of, and that is not above its low mark any more, is
above high again when the command is answered, as far as it has clean cache.  Anonymous memory goes to swap, where a
machine has some, once there is no cache.

Source: mm/vmscan.c try_to_free_pages(), shrink_node(), get_scan_count(), balance_pgdat() (5.14).
Not modelled: how reclaim is shared between kswapd and requests while a request runs; slab that goes with its cache.
"""

from collections.abc import Sequence

import numpy as np

from hugepool.mm.kernel.filemap import give_up, held, pages_in_zone, parts_of
from hugepool.mm.kernel.huge_blocks import count_free_blocks
from hugepool.mm.kernel.page_alloc import HUGE_TYPES, allocatable, room, usable
from hugepool.mm.kernel.swap import swap_out, swappable
from hugepool.mm.machine.mmzone import ZONE_MOVABLE, Migrate, Use, Zone
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.units import PAGEBLOCK_PAGES

DEF_PRIORITY = 12  # a pass looks at this power of two of the list
SWAP_CLUSTER_MAX = 32  # pages that a pass wants at least
MAX_RECLAIM_RETRIES = 16  # passes for a huge page before it is given up
DIRECT, KSWAPD = "pgsteal_direct", "pgsteal_kswapd"


def reclaimable(host: Host, zones: Sequence[Zone]) -> int:
    """Pages that reclaim can free on the nodes of some zones: clean cache, and what there is room for in swap."""
    return held(host, Use.PAGE_CACHE, [zone.nid for zone in zones]) + swappable(host, zones)


def reclaimable_in(host: Host, zones: Sequence[Zone]) -> int:
    """The same in these zones alone."""
    cached = held(host, Use.PAGE_CACHE, [zone.nid for zone in zones])
    inside = sum(pages_in_zone(host.mem, zone, Use.PAGE_CACHE) for zone in zones) if cached else 0
    return inside + swappable(host, zones)


def reclaimed(host: Host) -> int:
    """Pages reclaimed since boot or import."""
    return host.counters.get(DIRECT, 0) + host.counters.get(KSWAPD, 0)


def pass_pages(host: Host, zones: Sequence[Zone]) -> int:
    """Pages that one pass of direct reclaim frees.

    Source: mm/vmscan.c get_scan_count(), shrink_lruvec(): a pass at the first priority ends with its whole scan (5.14).
    """
    return max(SWAP_CLUSTER_MAX, reclaimable(host, zones) >> DEF_PRIORITY)


def shrink(host: Host, zones: Sequence[Zone], count: int, counter: str = DIRECT) -> int:
    """Free up to ``count`` pages: clean cache, of the first zone first, then anonymous memory; how many."""
    freed = 0
    for free in (give_up, swap_out):
        for zone in zones:
            if freed >= count or not reclaimable(host, zones):
                break
            freed += free(host, zone, count - freed)
    host.count(counter, freed)
    host.count(counter.replace("steal", "scan"), freed)
    return freed


def make_room(host: Host, zones: Sequence[Zone], highest: int, count: int) -> bool:
    """Reclaim until ``count`` order-0 pages can be taken above the min watermarks; whether that is so."""
    freed = 1
    while freed and allocatable(zones, highest) < count:
        if not reclaimable(host, zones):
            return False
        host.count(f"allocstall_{'movable' if highest == ZONE_MOVABLE else 'normal'}")
        freed = 0
        for zone in zones:
            missing = count - allocatable(zones, highest)
            freed += lift(host, zone, zone.min, highest, missing) if missing > 0 else 0
    return allocatable(zones, highest) >= count


def lift(host: Host, zone: Zone, mark: int, highest: int, count: int, counter: str = DIRECT) -> int:
    """Reclaim in a zone until it is ``count`` pages above a mark, and its reserve; the pages freed."""
    return shrink(host, [zone], mark + zone.lowmem_reserve[highest] + count - usable(zone, highest), counter)


# -- restores that try once ---------------------------------------------------------------------------------


def failing_attempts(host: Host, zones: Sequence[Zone], highest: int, need: int, attempts: int) -> int:
    """Requests of ``need`` pages in a row that fail although each reclaims; the next one finds enough.

    Kernels whose requests try hard (__GFP_RETRY_MAYFAIL) reclaim until there is enough, those that do not
    (__GFP_NORETRY) make one pass each and fail when that was not enough.
    Source: mm/page_alloc.c __alloc_pages_slowpath() (5.14).
    """
    if not host.profile.restore_tries_once:
        return 0 if make_room(host, zones, highest, need) else attempts
    failed = 0
    while failed < attempts and reclaimable(host, zones):
        one = pass_pages(host, zones)
        passes = min(max(1, -(-_least(zones, highest, need) // one)), attempts - failed)
        host.count("allocstall_normal", passes)
        shrink(host, zones, passes * one)
        if allocatable(zones, highest) >= need:
            return failed + passes - 1
        failed += passes
    return attempts


def _least(zones: Sequence[Zone], highest: int, need: int) -> int:
    """Pages that the first zone must have more at least before ``need`` can be taken."""
    zone = zones[0]
    below = max(0, zone.min + zone.lowmem_reserve[highest] - usable(zone, highest))
    return need - allocatable(zones, highest) + below


# -- huge pages ---------------------------------------------------------------------------------------------


def make_huge_room(host: Host, zones: Sequence[Zone], wanted: int, cost: int) -> bool:
    """A node has no page of 2 MiB above its min watermarks: reclaim for ``wanted`` of them; whether a try is worth it.

    Pageblocks that are free, and those that are but for cache, are what pages can be made of; cache is given up until
    as many as there are of them, and wanted, are free and may be taken.

    Args:
        cost: pages by which each huge page lowers the free pages.
    """
    if not reclaimable(host, zones):
        return False
    host.count("allocstall_movable")
    return any(_shrink_for_blocks(host, zone, wanted, cost) for zone in zones)


def _shrink_for_blocks(host: Host, zone: Zone, wanted: int, cost: int) -> int:
    free = count_free_blocks(host.mem, zone, wanted)
    blocks, pages = _cached_alone(host, zone, wanted - free)
    if not free + blocks:
        return 0
    mark = zone.min + zone.lowmem_reserve[ZONE_MOVABLE] + PAGEBLOCK_PAGES + (free + blocks - 1) * cost
    return shrink(host, [zone], max(0 if free else pages, mark - usable(zone, ZONE_MOVABLE)))


def _cached_alone(host: Host, zone: Zone, wanted: int) -> tuple[int, int]:
    """Pageblocks of a zone, up to ``wanted``, that are free but for clean cache; and its pages in them."""
    types, found, pages = np.array([*HUGE_TYPES, Migrate.CMA]), 0, 0
    for blocks, count in parts_of(host.mem, zone, Use.PAGE_CACHE, alone=True):
        if found >= wanted:
            break
        fit = np.flatnonzero(np.isin(host.mem.mt[blocks], types))[: wanted - found]
        found += int(fit.size)
        pages += int(count[: fit[-1] + 1].sum()) if fit.size else 0
    return found, pages


def shrink_in_vain(host: Host, zones: Sequence[Zone]) -> None:
    """Reclaim for a page of 2 MiB that cannot come together: some passes, and the request is given up.

    Source: mm/page_alloc.c should_reclaim_retry() (5.14).
    """
    if reclaimable(host, zones):
        shrink(host, zones, MAX_RECLAIM_RETRIES * pass_pages(host, zones))


# -- kswapd -------------------------------------------------------------------------------------------------


def balance(host: Host, free_before: Sequence[int]) -> int:
    """What kswapd has done by the end of a command; the pages freed.  ``free_before``: of each zone, at its beginning.

    Source: mm/vmscan.c pgdat_balanced(), balance_pgdat() (5.14).
    """
    freed = 0
    for zone in host.zones:
        fell = zone.nr_free < free_before[zone.index]
        if fell and not room(zone, zone.low, ZONE_MOVABLE):
            freed += lift(host, zone, zone.high, ZONE_MOVABLE, 1, KSWAPD)
    return freed
