"""The lists of CPUs as the kernel keeps them: refilled from the buddy, flushed to it, drained.

Each zone has a set of lists for every CPU, with one count and one limit for all of them.  Pages on them are free in no
counter of the zone, and do not merge.

Source: mm/page_alloc.c (5.14, 6.1, 6.12): __rmqueue_pcplist(), nr_pcp_alloc(), free_unref_page_commit(),
nr_pcp_high(), nr_pcp_free(), free_pcppages_bulk(), drain_pages_zone(), zone_batchsize(), zone_highsize().
"""

from collections.abc import Iterable, Iterator

import numpy as np

from hugepool.mm.kernel.buddy import take_pages
from hugepool.mm.machine.mmzone import Migrate, Pfns, Use, Zone, pages_in
from hugepool.mm.machine.pcp_lists import PCP_ORDERS, PCP_TYPES, PerCpuPages
from hugepool.mm.machine.profile import KernelProfile
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.units import PAGEBLOCK_ORDER, PAGEBLOCK_PAGES

BATCH_ZONE_SHARE = 256  # pages of a zone that its batch is a quarter of, at most: 1 MiB
SCALE_MAX = 5  # CONFIG_PCP_BATCH_SCALE_MAX: a batch grows to 32 times its size
LARGEST_FRACTION = 8  # MIN_PERCPU_PAGELIST_HIGH_FRACTION: the share of a zone that a moving limit may reach
TICK_NS = 1_000_000_000  # between two updates of a CPU's counters: sysctl vm.stat_interval
MAX_TICKS = 64  # after which every list is down to its lowest limit
SMALL_LISTS = (len(PCP_ORDERS) - 1) * PCP_TYPES  # lists of orders 0 to 3


# -- sizes ------------------------------------------------------------------------------------------------


def batch_size(zone: Zone) -> int:
    """Pages that go to the buddy or come from it at once: 63 for zones of 1 GiB and more."""
    batch = max(1, min(zone.managed >> 10, BATCH_ZONE_SHARE) // 4)
    return max(1, (1 << (batch + batch // 2).bit_length() - 1) - 1)


def pcp_high(host: Host, zone: Zone) -> int:
    """Pages that the lists of one CPU hold: the low watermark, or a fraction of the zone, shared by the node's CPUs.

    Source: mm/page_alloc.c zone_highsize() (5.14).
    """
    return _high(host, zone, host.percpu_pagelist_high_fraction)


def _high(host: Host, zone: Zone, fraction: int) -> int:
    pages = zone.managed // fraction if fraction else zone.low
    cpus = len(host.nodes[zone.nid].cpus) or sum(len(node.cpus) for node in host.nodes)
    return max(pages // max(1, cpus), batch_size(zone) << 2)


def _high_max(host: Host, zone: Zone) -> int:
    """How far the limit may move, where it moves (6.7+)."""
    if not host.profile.pcp_high_moves or host.percpu_pagelist_high_fraction:
        return pcp_high(host, zone)
    return _high(host, zone, LARGEST_FRACTION)


def number_of(profile: KernelProfile, order: int, mt: int) -> int:
    """The number of a list: orders 0 to 3 by type; of order 9 by type (5.14), or movable and other ones (6.x)."""
    kind = mt if mt < PCP_TYPES else int(Migrate.MOVABLE)
    if order < PAGEBLOCK_ORDER:
        return order * PCP_TYPES + kind
    return SMALL_LISTS + (kind if profile.pcp_round_robin else int(kind == Migrate.MOVABLE))


def order_of_list(number: int) -> int:
    """The order of a list's blocks."""
    return number // PCP_TYPES if number < SMALL_LISTS else PAGEBLOCK_ORDER


def pages_of(host: Host, zone: Zone, cpu: int | None = None) -> PerCpuPages:
    """The lists of a CPU for a zone, of the running one unless it is named; there when they are asked for."""
    cpu = host.cpu if cpu is None else cpu
    found = zone.pcp.get(cpu)
    if found is None:
        found = zone.pcp[cpu] = PerCpuPages()
    return found


# -- refilling --------------------------------------------------------------------------------------------


def refill_size(host: Host, zone: Zone, pcp: PerCpuPages, order: int) -> int:
    """Blocks that an empty list asks the buddy for.

    Until 6.6 a batch; later one that doubles from refill to refill until something is freed.
    Source: mm/page_alloc.c __rmqueue_pcplist() (5.14), nr_pcp_alloc() (6.12).
    """
    base = 1 if zone.pcp_disabled else batch_size(zone)
    batch = base
    if host.profile.pcp_high_moves and not zone.pcp_disabled:
        low, top = pcp_high(host, zone), _high_max(host, zone)
        pcp.high = min(max(pcp.high, low), top)
        batch = base if order else base << pcp.alloc_factor
        if low != top and not zone.below_high:
            pcp.high = min(pcp.high + batch, top)
        if order == 0:
            most = max(pcp.high - pcp.count - base, base)
            if batch <= most and pcp.alloc_factor < SCALE_MAX:
                pcp.alloc_factor += 1
            batch = min(batch, most)
    return max(batch >> order, 2) if batch > 1 else 1


def note_refills(host: Host, zone: Zone, pcp: PerCpuPages, times: int) -> None:
    """As many more refills of pageblocks raise the limit, where it moves."""
    if host.profile.pcp_high_moves and not zone.below_high and not zone.pcp_disabled:
        pcp.high = min(pcp.high + times * batch_size(zone), max(pcp.high, _high_max(host, zone)))


def note_allocations(pcp: PerCpuPages, requests: int) -> None:
    """Requests in a row halve what is remembered of a row of frees."""
    shift = min(requests, 31)
    pcp.free_factor >>= shift
    pcp.free_count >>= shift


# -- freeing ----------------------------------------------------------------------------------------------


def free_pages(host: Host, pfns: Pfns, order: int = 0) -> None:
    """Free blocks of an order one after the other: onto the lists of the running CPU.

    What lies in isolated pageblocks goes to the buddy at once, as does all of a zone whose lists are switched off.
    Source: mm/page_alloc.c free_unref_page() (5.14).
    """
    if pfns.size == 0:
        return
    mem = host.mem
    blocks = pfns // PAGEBLOCK_PAGES
    zone_ids, types = mem.zone[blocks], mem.mt[blocks]
    direct = [pfns[types == Migrate.ISOLATE]]
    listed = types != Migrate.ISOLATE
    for zone_id in np.unique(zone_ids[listed]).tolist():
        zone = mem.zones[zone_id - 1]
        mine = listed & (zone_ids == zone_id)
        if zone.pcp_disabled:
            direct.append(pfns[mine])
            continue
        flushed = _commit(host, zone, pfns[mine], types[mine], order)
        _to_buddy(host, flushed)
    _to_buddy(host, [(order, np.concatenate(direct))])


def free_range(host: Host, start_pfn: int, end_pfn: int) -> None:
    """Free pages in a row one by one, as a contiguous range is given back.

    Source: mm/page_alloc.c free_contig_range() (5.14).
    """
    for first in range(start_pfn, end_pfn, PAGEBLOCK_PAGES):
        free_pages(host, np.arange(first, min(end_pfn, first + PAGEBLOCK_PAGES)))


def _commit(host: Host, zone: Zone, pfns: Pfns, types: Pfns, order: int) -> list[tuple[int, Pfns]]:
    """Put blocks of one zone on lists; what was flushed meanwhile, in order."""
    pcp, batch, size = pages_of(host, zone), batch_size(zone), 1 << order
    numbers = np.array([number_of(host.profile, order, mt) for mt in range(len(Migrate))])[types]
    assign(host, pfns, order, Use.PCP)
    flushed: list[tuple[int, Pfns]] = []
    done = 0
    while done < pfns.size:
        high = _limit(host, zone, pcp)
        step = min(pfns.size - done, max(1, -(-(high - pcp.count) // size)))
        _push(pcp, pfns[done : done + step], numbers[done : done + step])
        done += step
        pcp.count += step * size
        _note_frees(host, pcp, step, size, batch)
        high = _limit_after_free(host, zone, pcp, batch)
        if pcp.count >= high:
            count = _flush_size(host, pcp, high, batch)
            flushed += flush(host, pcp, count, int(numbers[done - 1]))
            freed = sum(part.size << part_order for part_order, part in flushed)
            if zone.below_high and zone.nr_free + freed > zone.high + zone.lowmem_reserve[-1]:
                zone.below_high = False
    return flushed


def _push(pcp: PerCpuPages, pfns: Pfns, numbers: Pfns) -> None:
    first = int(numbers[0])
    if (numbers == first).all():
        pcp.list_of(first).push(pfns)
        return
    for number in np.unique(numbers).tolist():
        pcp.list_of(number).push(pfns[numbers == number])


def _note_frees(host: Host, pcp: PerCpuPages, blocks: int, size: int, batch: int) -> None:
    pcp.alloc_factor >>= min(blocks, 31)
    if host.profile.pcp_high_moves:
        missing = (batch << SCALE_MAX) - pcp.free_count
        pcp.free_count += min(blocks, max(0, -(-missing // size))) * size


def _limit(host: Host, zone: Zone, pcp: PerCpuPages) -> int:
    """Pages on the lists at which the next free flushes some."""
    low = pcp_high(host, zone)
    if not host.profile.pcp_high_moves:
        return low
    pcp.high = min(max(pcp.high, low), _high_max(host, zone))
    return low if zone.below_high else pcp.high


def _limit_after_free(host: Host, zone: Zone, pcp: PerCpuPages, batch: int) -> int:
    """The same after a free, which can move it (6.12).  Source: mm/page_alloc.c nr_pcp_high() (6.12)."""
    low, top = pcp_high(host, zone), _high_max(host, zone)
    if not host.profile.pcp_high_moves or low == top:
        return low
    high = pcp.high
    if zone.below_high:
        pcp.high = max(high - max(pcp.free_count, batch), low)
        return max(pcp.count, low)
    if pcp.count >= high:
        pcp.high = min(max(pcp.high, pcp.free_count + batch), top)
    return high


def _flush_size(host: Host, pcp: PerCpuPages, high: int, batch: int) -> int:
    """Pages that go back to the buddy when the lists are full.

    Source: mm/page_alloc.c nr_pcp_free() (5.14, 6.1, 6.12).
    """
    if host.profile.pcp_high_moves:
        most = high - batch
        return 1 if high < batch else max(batch, min(pcp.free_count, most)) if most >= batch else batch
    part, pcp.free_factor = part_to_flush(host.profile, pcp.free_factor, high, batch)
    return part


def part_to_flush(profile: KernelProfile, factor: int, high: int, batch: int) -> tuple[int, int]:
    """The pages that go back, and the factor of the next time: it doubles them until something is taken (until 6.6)."""
    if high < batch:
        return 1, factor
    part, most, limit = batch << factor, high - batch, profile.pcp_flush_max_shift
    if part < most and (limit is None or factor < limit):
        factor += 1
    return (max(batch, min(part, most)) if most >= batch else most), factor


def flush(host: Host, pcp: PerCpuPages, count: int, first: int) -> list[tuple[int, Pfns]]:
    """Take at least ``count`` pages off the lists, each from its oldest end: (order, blocks) in order."""
    sizes = {number: listed.size for number, listed in pcp.lists.items() if listed.size}
    taken: list[tuple[int, Pfns]] = []
    for number, blocks in flush_numbers(host.profile, sizes, min(pcp.count, count), first):
        order = order_of_list(number)
        pcp.count -= blocks << order
        taken.append((order, pcp.lists[number].pop_oldest(blocks)))
    return taken


def flush_numbers(
    profile: KernelProfile, sizes: dict[int, int], count: int, first: int
) -> Iterator[tuple[int, int]]:
    """From which list how many blocks go, in order, until ``count`` pages have gone; ``sizes``: blocks on each list.

    5.14 goes round the lists, and takes the more of a list the more empty ones it passed; later kernels empty the list
    ``first`` before the others.
    Source: mm/page_alloc.c free_pcppages_bulk() (5.14, 6.1).
    """
    left = dict(sizes)
    robin = profile.pcp_round_robin
    lists = SMALL_LISTS + (PCP_TYPES if robin else 2)
    number, turn = (0, 0) if robin else (first - 1, 0)
    while count > 0:
        while True:
            turn += 1
            number = (number + 1) % lists
            if left.get(number, 0) > 0:
                break
        if turn == lists or not robin:
            turn = count
        order = order_of_list(number)
        blocks = min(turn, -(-count >> order), left[number])
        turn -= blocks
        count -= blocks << order
        left[number] -= blocks
        yield number, blocks


def vmstat_update(host: Host, now_ns: int) -> None:
    """Seconds have passed since the last command: in each the limit of the lists falls by an eighth, where it moves.

    What is on the lists above their limit is flushed.
    Source: mm/vmstat.c refresh_cpu_vm_stats(), mm/page_alloc.c decay_pcp_high() (6.12).
    """
    if host.last_tick_ns is None or now_ns < host.last_tick_ns:
        host.last_tick_ns = now_ns
    ticks = (now_ns - host.last_tick_ns) // TICK_NS
    host.last_tick_ns += ticks * TICK_NS
    if not host.profile.pcp_high_moves:
        return
    for _ in range(min(ticks, MAX_TICKS)):
        for zone in host.zones:
            for cpu in sorted(zone.pcp):
                _decay(host, zone, zone.pcp[cpu])


def _decay(host: Host, zone: Zone, pcp: PerCpuPages) -> None:
    low = pcp_high(host, zone)
    pcp.high = max(pcp.count - (batch_size(zone) << SCALE_MAX), pcp.high - (pcp.high >> 3), low)
    if pcp.count > pcp.high:
        _to_buddy(host, flush(host, pcp, pcp.count - pcp.high, 0))


def adopt_lists(host: Host, zone: Zone) -> None:
    """Put the single pages that are known to lie on lists of CPUs on those of the first CPU of their node.

    The lowest is the first to be used.
    """
    mem, cpus = host.mem, host.nodes[zone.nid].cpus
    span = mem.blocks_of(zone)
    mine = np.flatnonzero(mem.zone[span] == zone.index + 1) + span.start
    whole, mixed = mine[mem.use[mine] == Use.PCP], mine[mem.use[mine] == Use.MIXED]
    row, offset = np.nonzero(mem.detail[mem.slot[mixed]] == Use.PCP)
    pfns = np.sort(np.concatenate((pages_in(whole), mixed[row] * PAGEBLOCK_PAGES + offset)))[::-1]
    numbers = np.array([number_of(host.profile, 0, mt) for mt in range(len(Migrate))])
    pcp = pages_of(host, zone, cpus[0] if cpus else 0)
    _push(pcp, pfns, numbers[mem.mt[pfns // PAGEBLOCK_PAGES]])
    pcp.count += int(pfns.size)


def flush_to_buddy(host: Host, zone: Zone, count: int) -> None:
    """Give at least so many pages of the running CPU's lists back."""
    pcp = pages_of(host, zone)
    _to_buddy(host, flush(host, pcp, count, 0))


def keep_on_lists(host: Host, zone: Zone, count: int) -> None:
    """Take so many free pages onto the running CPU's list of movable ones, behind what is there."""
    pcp = pages_of(host, zone)
    found = take_pages(host.mem, zone, count, Migrate.MOVABLE, Use.PCP)
    pcp.list_of(number_of(host.profile, 0, Migrate.MOVABLE)).refill(found)
    pcp.count += int(found.size)


def drain(host: Host, zones: Iterable[Zone]) -> bool:
    """Give all pages on the lists of zones back to the buddy; whether there were any.

    Source: mm/page_alloc.c drain_all_pages(), drain_pages_zone() (5.14).
    """
    drained = False
    for zone in zones:
        for cpu in sorted(zone.pcp):
            pcp = zone.pcp[cpu]
            if pcp.count:
                _to_buddy(host, flush(host, pcp, pcp.count, 0))
                drained = True
    return drained


def assign(host: Host, pfns: Pfns, order: int, use: Use) -> None:
    """Give blocks of an order a use."""
    if order >= PAGEBLOCK_ORDER:
        host.mem.assign_blocks(pfns // PAGEBLOCK_PAGES, use)
    elif order == 0:
        host.mem.assign_pages(pfns, use)
    else:
        host.mem.assign_pages((pfns[:, None] + np.arange(1 << order)).ravel(), use)


def _to_buddy(host: Host, parts: list[tuple[int, Pfns]]) -> None:
    """Free blocks to the buddy, one after the other."""
    at = 0
    while at < len(parts):
        order, end = parts[at][0], at + 1
        while end < len(parts) and parts[end][0] == order:
            end += 1
        pfns = np.concatenate([part for _, part in parts[at:end]]) if end > at + 1 else parts[at][1]
        if pfns.size:
            assign(host, pfns, order, Use.BUDDY)
        at = end
