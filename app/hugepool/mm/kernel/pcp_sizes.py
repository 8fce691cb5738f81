"""How much the lists of a CPU hold, ask for and give back: the kernel's arithmetic, by version.

Source: mm/page_alloc.c (5.14, 6.1, 6.12): __rmqueue_pcplist(), nr_pcp_alloc(), nr_pcp_high(), nr_pcp_free(),
free_pcppages_bulk(), zone_batchsize(), zone_highsize().
"""

from collections.abc import Iterable, Iterator

from hugepool.mm.machine.mmzone import Migrate, Zone
from hugepool.mm.machine.pcp_lists import PCP_ORDERS, PCP_TYPES, PerCpuPages
from hugepool.mm.machine.profile import KernelProfile
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.units import PAGEBLOCK_ORDER

BATCH_ZONE_SHARE = 256  # pages of a zone that its batch is a quarter of, at most: 1 MiB
SCALE_MAX = 5  # CONFIG_PCP_BATCH_SCALE_MAX: a batch grows to 32 times its size
LARGEST_FRACTION = 8  # MIN_PERCPU_PAGELIST_HIGH_FRACTION: the share of a zone that a moving limit may reach
SMALL_LISTS = (len(PCP_ORDERS) - 1) * PCP_TYPES  # lists of orders 0 to 3


# -- sizes ------------------------------------------------------------------------------------------------


def set_limits(zones: Iterable[Zone]) -> None:
    """The limits of lists follow what zones manage now; they do when watermarks or the fraction are written.

    Source: mm/page_alloc.c zone_pcp_update(), percpu_pagelist_high_fraction_sysctl_handler() (5.14).
    """
    for zone in zones:
        zone.pageset_pages = zone.managed


def batch_size(zone: Zone) -> int:
    """Pages that go to the buddy or come from it at once: 63 for zones of 1 GiB and more."""
    batch = max(1, min(zone.pageset_pages >> 10, BATCH_ZONE_SHARE) // 4)
    return max(1, (1 << (batch + batch // 2).bit_length() - 1) - 1)


def pcp_high(host: Host, zone: Zone) -> int:
    """Pages that the lists of one CPU hold: the low watermark, or a fraction of the zone, shared by the node's CPUs.

    Source: mm/page_alloc.c zone_highsize() (5.14).
    """
    return _high(host, zone, host.percpu_pagelist_high_fraction)


def _high(host: Host, zone: Zone, fraction: int) -> int:
    pages = zone.pageset_pages // fraction if fraction else zone.low
    cpus = len(host.nodes[zone.nid].cpus) or sum(len(node.cpus) for node in host.nodes)
    return max(pages // max(1, cpus), batch_size(zone) << 2)


def _high_max(host: Host, zone: Zone) -> int:
    """How far the limit may move, where it moves (6.7+)."""
    if not host.profile.pcp_high_moves or host.percpu_pagelist_high_fraction:
        return pcp_high(host, zone)
    return _high(host, zone, LARGEST_FRACTION)


def limits(host: Host, zone: Zone) -> tuple[int, int, int]:
    """Between which two the limit of a zone's lists moves, and the batch."""
    return pcp_high(host, zone), _high_max(host, zone), batch_size(zone)


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


# -- giving back -----------------------------------------------------------------------------------------


def note_frees(host: Host, pcp: PerCpuPages, blocks: int, size: int, batch: int) -> None:
    pcp.alloc_factor >>= min(blocks, 31)
    if host.profile.pcp_high_moves:
        missing = (batch << SCALE_MAX) - pcp.free_count
        pcp.free_count += min(blocks, max(0, -(-missing // size))) * size


def limit(host: Host, zone: Zone, pcp: PerCpuPages, low: int, top: int) -> int:
    """Pages on the lists at which the next free flushes some."""
    if not host.profile.pcp_high_moves:
        return low
    pcp.high = min(max(pcp.high, low), top)
    return low if zone.below_high else pcp.high


def limit_after_free(host: Host, zone: Zone, pcp: PerCpuPages, batch: int, low: int, top: int) -> int:
    """The same after a free, which can move it (6.12).  Source: mm/page_alloc.c nr_pcp_high() (6.12)."""
    if not host.profile.pcp_high_moves or low == top:
        return low
    high = pcp.high
    if zone.below_high:
        pcp.high = max(high - max(pcp.free_count, batch), low)
        return max(pcp.count, low)
    if pcp.count >= high:
        pcp.high = min(max(pcp.high, pcp.free_count + batch), top)
    return high


def flush_size(host: Host, pcp: PerCpuPages, high: int, batch: int) -> int:
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
