"""Requests for pages: which zones, which watermarks, and from the lists of the CPU that asks.

A request looks at the free pages of the buddy (NR_FREE) against a mark first, and then takes a page from the list of
its CPU, which is refilled from the buddy when it is empty.  Pages on lists are not free for a watermark.

Source: mm/page_alloc.c (5.14): get_page_from_freelist(), __zone_watermark_ok(), setup_per_zone_wmarks(),
setup_per_zone_lowmem_reserve(), init_per_zone_wmark_min().
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isqrt

import numpy as np

from hugepool.mm.kernel.buddy import has_free_block, take_pages, take_unmovable_blocks
from hugepool.mm.kernel.huge_blocks import find_huge_blocks
from hugepool.mm.kernel.pcp import assign, drain
from hugepool.mm.kernel.pcp_sizes import (
    SCALE_MAX,
    note_allocations,
    note_refills,
    number_of,
    pages_of,
    refill_size,
)
from hugepool.mm.machine.mmzone import (
    NO_PFNS,
    ZONE_DMA,
    ZONE_MOVABLE,
    ZONE_NORMAL,
    BlockFlag,
    Blocks,
    Migrate,
    Node,
    Pfns,
    Use,
    Zone,
)
from hugepool.mm.machine.pcp_lists import PageList, PerCpuPages
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.units import PAGEBLOCK_ORDER, PAGEBLOCK_PAGES

LARGEST_REFILL = 63 << SCALE_MAX  # pages
COMPACT_GAP = 2 * PAGEBLOCK_PAGES  # what compaction for a huge page needs above a mark: compact_gap()

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

    Pages in isolated pageblocks do not count; those of CMA areas do for movable requests only, which are the ones that
    may use ZONE_MOVABLE.
    Source: mm/page_isolation.c set_migratetype_isolate() takes free pages out of NR_FREE_PAGES (5.14).
    """
    return zone.nr_free - zone.nr_isolated - (0 if highest == ZONE_MOVABLE else zone.nr_free_cma)


def room(zone: Zone, mark: int, highest: int) -> int:
    """Pages by which the zone is above ``mark`` plus its reserve."""
    return max(0, usable(zone, highest) - mark - zone.lowmem_reserve[highest])


def allocatable(zones: Iterable[Zone], highest: int) -> int:
    """Order-0 pages that the buddy can give to requests up to zone type ``highest`` above the min watermark."""
    return sum(room(zone, zone.min, highest) for zone in zones)


# -- from the lists of the CPU ------------------------------------------------------------------------------


@dataclass(slots=True)
class _Request:
    """Blocks of one order and type that a caller wants, and the zone types that may serve it."""

    order: int
    mt: Migrate
    highest: int
    use: Use


def alloc_pages(host: Host, zones: Sequence[Zone], count: int, mt: Migrate, highest: int, use: Use) -> Pfns:
    """Take up to ``count`` single pages; the fast path asks for the low watermark, the slow path for min.

    Returns the pfns in the order taken; fewer than ``count`` when the zones cannot give more.
    Source: mm/page_alloc.c __alloc_pages() (5.14).
    """
    return _alloc(host, zones, count, _Request(0, mt, highest, use))


def alloc_huge_pages(host: Host, zones: Sequence[Zone], count: int) -> Blocks:
    """Take up to ``count`` pages of 2 MiB; their pageblocks, in the order taken.

    Where there is none, direct reclaim may drain the lists of CPUs, and there is one more try.
    Source: mm/page_alloc.c __alloc_pages_slowpath() (5.14).
    """
    request = _Request(PAGEBLOCK_ORDER, Migrate.MOVABLE, ZONE_MOVABLE, Use.HUGETLB)
    taken = _alloc(host, zones, count, request)
    while taken.size < count and direct_reclaim(host, zones):
        more = _alloc(host, zones, count - taken.size, request)
        if more.size == 0:
            break
        taken = np.concatenate((taken, more))
    heads: Blocks = taken // PAGEBLOCK_PAGES
    host.mem.flags[heads] = BlockFlag.HEAD
    return heads


def has_huge_page(host: Host, nid: int) -> bool:
    """Whether a zone of a node has a free block of 2 MiB above its min watermark."""
    return any(
        room(zone, zone.min + PAGEBLOCK_PAGES - 1, ZONE_MOVABLE)
        and has_free_block(host.mem, zone, movable=True)
        for zone in node_zonelist(host.nodes[nid], ZONE_MOVABLE)
    )


def alloc_unmovable_block(host: Host, zones: Sequence[Zone], use: Use) -> Blocks:
    """Take one pageblock for unmovable memory, as the vmemmap of a section; none where there is none."""
    request = _Request(PAGEBLOCK_ORDER, Migrate.UNMOVABLE, ZONE_NORMAL, use)
    blocks: Blocks = _alloc(host, zones, 1, request) // PAGEBLOCK_PAGES
    return blocks


def _alloc(host: Host, zones: Sequence[Zone], count: int, request: _Request) -> Pfns:
    parts: list[Pfns] = []
    left = count
    for low in (True, False):
        for zone in zones:
            if left == 0:
                break
            parts.append(_from_zone(host, zone, left, zone.low if low else zone.min, request))
            left -= int(parts[-1].size)
    return np.concatenate(parts) if parts else NO_PFNS


def _from_zone(host: Host, zone: Zone, wanted: int, mark: int, request: _Request) -> Pfns:
    """Blocks that a zone gives to requests one after the other, as long as it is above the mark."""
    pcp = pages_of(host, zone)
    free_list = pcp.list_of(number_of(host.profile, request.order, request.mt))
    above = zone.lowmem_reserve[request.highest] + (1 << request.order) - 1
    line = mark + above
    taken: list[Pfns] = []
    while wanted:
        if host.profile.pcp_high_moves:
            zone.below_high |= usable(zone, request.highest) <= zone.high + above
        if not _passes(host, zone, line, request):
            break
        count = wanted
        if free_list.size == 0:
            if not _refill(host, zone, pcp, free_list, wanted, line, request):
                break
            if not _passes(host, zone, line, request):
                count = 1  # the request that refilled the list has passed already
        part = free_list.pop(count)
        pcp.count -= int(part.size) << request.order
        note_allocations(pcp, int(part.size))
        wanted -= int(part.size)
        taken.append(part)
    got = np.concatenate(taken) if taken else NO_PFNS
    assign(host, got, request.order, request.use)
    return got


def _passes(host: Host, zone: Zone, line: int, request: _Request) -> bool:
    """Whether the watermark lets a request look at the list: pages above it and, for a block, one in the buddy."""
    if usable(zone, request.highest) <= line:
        return False
    return request.order == 0 or has_free_block(host.mem, zone, movable=request.highest == ZONE_MOVABLE)


def _refill(
    host: Host, zone: Zone, pcp: PerCpuPages, free_list: PageList, wanted: int, line: int, request: _Request
) -> bool:
    """Fill an empty list from the buddy; whether it has something now.

    As many refills as ``wanted`` needs, and as surely find the zone above the line, are one.
    """
    size, times = refill_size(host, zone, pcp, request.order), 1
    spare = usable(zone, request.highest) - line - 1
    if request.order or not host.profile.pcp_high_moves:
        times = max(1, min(wanted // size, spare // (size << request.order)))
    else:  # the size changes from refill to refill
        size += _more_refills(host, zone, pcp, wanted - size, spare - size)
    if request.order and request.mt == Migrate.UNMOVABLE:
        found = take_unmovable_blocks(host.mem, zone, size, Use.PCP) * PAGEBLOCK_PAGES
    elif request.order:
        found = find_huge_blocks(
            host.mem, zone, size * times + 1
        )  # one more than is taken: the buddy must have one
        times = max(1, min(times, (int(found.size) - 1) // size))
        found = found[: size * times] * PAGEBLOCK_PAGES
        note_refills(host, zone, pcp, times - 1)
        assign(host, found, request.order, Use.PCP)
        host.mem.split_off(found // PAGEBLOCK_PAGES)
    else:
        found = take_pages(host.mem, zone, size * times, request.mt, Use.PCP)
    free_list.refill(found)
    pcp.count += int(found.size) << request.order
    return bool(found.size)


def _more_refills(host: Host, zone: Zone, pcp: PerCpuPages, wanted: int, spare: int) -> int:
    """Pages of the refills after one, each of a size of its own, that find as much free as the first one.

    ``wanted``: pages still asked for after the first; ``spare``: free pages above the line then.
    """
    if not zone.below_high:  # the first request that finds less changes the limit of the lists
        spare -= zone.high - zone.min
    more = 0
    while more < wanted and spare - more > 2 * LARGEST_REFILL:
        more += refill_size(host, zone, pcp, 0)
    return more


def direct_reclaim(host: Host, zones: Sequence[Zone]) -> bool:
    """``zones`` have no huge page: whether lists of CPUs are drained, so that a last try is worth it.

    Compaction drains each zone that it works in, one with enough memory above low.  Reclaim finds nothing to write
    back, but counts as progress where a zone has as much above high, and after progress all lists are drained.
    Source: mm/compaction.c compaction_suitable(), compact_zone(); mm/vmscan.c compaction_ready();
    mm/page_alloc.c __alloc_pages_direct_reclaim() (5.14).
    """
    drained = drain(host, [zone for zone in zones if room(zone, zone.low + COMPACT_GAP, ZONE_MOVABLE)])
    if any(room(zone, zone.high + COMPACT_GAP, ZONE_MOVABLE) for zone in zones):
        drained |= drain(host, host.zones)
    return drained


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
        zone.pageset_pages = zone.managed


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
