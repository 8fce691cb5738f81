"""The lists of CPUs as the kernel keeps them: refilled from the buddy, flushed to it, drained.

Each zone has a set of lists for every CPU, with one count and one limit for all of them.  Pages on them are free in no
counter of the zone, and do not merge.

Source: mm/page_alloc.c (5.14, 6.1, 6.12): __rmqueue_pcplist(), nr_pcp_alloc(), free_unref_page_commit(),
nr_pcp_high(), nr_pcp_free(), free_pcppages_bulk(), drain_pages_zone(), zone_batchsize(), zone_highsize().
"""

from collections.abc import Iterable

import numpy as np

from hugepool.mm.kernel.buddy import take_pages
from hugepool.mm.kernel.list_filling import Filling
from hugepool.mm.kernel.pcp_sizes import (
    SCALE_MAX,
    SMALL_LISTS,
    batch_size,
    flush_numbers,
    number_of,
    order_of_list,
    pages_of,
    pcp_high,
)
from hugepool.mm.machine.mmzone import Migrate, Pfns, Use, Zone, pages_in
from hugepool.mm.machine.pcp_lists import PerCpuPages
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.units import PAGEBLOCK_ORDER, PAGEBLOCK_PAGES

TICK_NS = 1_000_000_000  # between two updates of a CPU's counters: sysctl vm.stat_interval
RANGE_STEP = 1 << 18  # pages of a range that are freed at once: 1 GiB
MAX_TICKS = 64  # after which every list is down to its lowest limit


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
    for first in range(start_pfn, end_pfn, RANGE_STEP):
        free_pages(host, np.arange(first, min(end_pfn, first + RANGE_STEP)))


def _commit(host: Host, zone: Zone, pfns: Pfns, types: Pfns, order: int) -> list[tuple[int, Pfns]]:
    """Put blocks of one zone on lists; what was flushed meanwhile, in order."""
    pcp = pages_of(host, zone)
    numbers = np.array([number_of(host.profile, order, mt) for mt in range(len(Migrate))])[types]
    assign(host, pfns, order, Use.PCP)
    went = Filling(host, zone, pcp, numbers, order).run()
    _push(pcp, pfns, numbers)
    return [(order_of_list(number), pcp.lists[number].pop_oldest(blocks)) for number, blocks in went]


def _push(pcp: PerCpuPages, pfns: Pfns, numbers: Pfns) -> None:
    first = int(numbers[0])
    if (numbers == first).all():
        pcp.list_of(first).push(pfns)
        return
    for number in np.unique(numbers).tolist():
        pcp.list_of(number).push(pfns[numbers == number])


def flush(host: Host, pcp: PerCpuPages, count: int, first: int) -> list[tuple[int, Pfns]]:
    """Take at least ``count`` pages off the lists, each from its oldest end: (order, blocks) in order."""
    sizes = {number: listed.size for number, listed in pcp.lists.items() if listed.size}
    taken: list[tuple[int, Pfns]] = []
    for number, blocks in flush_numbers(host.profile, sizes, min(pcp.count, count), first):
        order = order_of_list(number)
        pcp.count -= blocks << order
        taken.append((order, pcp.lists[number].pop_oldest(blocks)))
    return taken


def flush_oldest(host: Host, pcp: PerCpuPages, blocks: dict[int, int]) -> None:
    """Give the oldest blocks of lists, ``blocks`` by the list's number, back to the buddy; counts do not follow."""
    _to_buddy(
        host, [(order_of_list(number), pcp.lists[number].pop_oldest(n)) for number, n in blocks.items()]
    )


def time_matters(host: Host, pcp: PerCpuPages, blocks: dict[int, int]) -> bool:
    """Whether it matters when the oldest blocks of lists go back.

    It does where huge pages, or pages for unmovable memory, could be made of them.
    """
    for number, n in blocks.items():
        if number >= SMALL_LISTS:
            return True
        where = np.unique(pcp.lists[number].items()[:n] // PAGEBLOCK_PAGES)
        uses = host.mem.uses_of(pages_in(where)).reshape(-1, PAGEBLOCK_PAGES)
        whole = np.isin(uses, (Use.BUDDY, Use.PCP)).all(axis=1)
        if whole.any() or (host.mem.mt[where] == Migrate.UNMOVABLE).any():
            return True
    return False


def vmstat_update(host: Host, now_ns: int) -> None:
    """Seconds have passed since the last command: in each the limit of the lists falls by an eighth, where it moves.

    What is on the lists above their limit is flushed.
    Source: mm/vmstat.c refresh_cpu_vm_stats(), mm/page_alloc.c decay_pcp_high() (6.12).
    """
    if not host.profile.pcp_high_moves:
        return
    host.last_tick_ns = min(host.last_tick_ns, now_ns)
    ticks = (now_ns - host.last_tick_ns) // TICK_NS
    host.last_tick_ns += ticks * TICK_NS
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
    mine = np.flatnonzero(mem.zone[span] == zone.id) + span.start
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
