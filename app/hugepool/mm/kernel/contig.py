"""Contiguous ranges: alloc_contig_range, and the search for one of alloc_contig_pages.

Source: mm/page_alloc.c alloc_contig_range(), alloc_contig_pages(); mm/compaction.c
isolate_migratepages_block(); mm/hugetlb.c isolate_or_dissolve_huge_page(), alloc_and_dissolve_huge_page() (5.14).
"""

import numpy as np

from hugepool.mm.kernel.hugetlb_page import run_free_hpage_work
from hugepool.mm.kernel.hugetlb_vmemmap import leading
from hugepool.mm.kernel.migrate import held_by_mount, migrate_huge_page, migrate_single_pages
from hugepool.mm.kernel.page_alloc import has_huge_page
from hugepool.mm.kernel.page_isolation import isolate, pages_of_use, unisolate
from hugepool.mm.kernel.replace_hugepages import ContigProgress, replace_all_free, replace_page
from hugepool.mm.machine.errors import BadInput, MMError
from hugepool.mm.machine.mmzone import BlockFlag, Blocks, Mask, MemoryMap, Migrate, Use, Zone
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Call, Host, HState
from hugepool.mm.machine.units import ORDER_2M, PAGEBLOCK_PAGES

NOT_TO_BE_HAD = (Use.RESERVED, Use.BOOT_VMEMMAP, Use.EARLY_VMEMMAP, Use.BOOT_PAGE_TABLE, Use.HOLE)
SEARCH_CHUNK = 4096  # pageblocks looked at per step


def alloc_contig_range(
    host: Host, call: Call, start_pfn: int, end_pfn: int, mt: Migrate, progress: ContigProgress
) -> None:
    """Empty a range of pages and take it; it is used as CONTIG afterwards.

    Args:
        start_pfn, end_pfn: the range, end excluded.  mt: type its pageblocks have afterwards, success or not; later
            kernels give each its own type back (6.18).

    Raises:
        MMError: EINVAL no such range; EBUSY an unmovable page, or pages that could not be moved; ENOMEM a gigantic
            page in it, or no target.  ``progress`` tells what is kept.
    """
    blocks = _blocks_around(host, start_pfn, end_pfn)
    zone = one_zone(host, blocks)
    types = isolate(host, blocks, mt)
    try:
        inside = np.arange(start_pfn // PAGEBLOCK_PAGES, -(-end_pfn // PAGEBLOCK_PAGES))
        _empty(host, call, inside, zone.nid, progress)
        if host.profile.range_replaces_freed:
            replace_all_free(host, call, host.hstates[ORDER_2M], start_pfn, end_pfn, progress)
        _check_free(host.mem, start_pfn, end_pfn, progress)
        assign_range(host.mem, start_pfn, end_pfn, Use.CONTIG)
    finally:
        unisolate(host, blocks, types)


def assign_range(mem: MemoryMap, start_pfn: int, end_pfn: int, use: Use) -> None:
    """Give a range of pages one use: whole pageblocks as such, the pages at its ends one by one."""
    first, last = -(-start_pfn // PAGEBLOCK_PAGES), end_pfn // PAGEBLOCK_PAGES
    if first >= last:
        mem.assign_pages(np.arange(start_pfn, end_pfn), use)
        return
    mem.assign_blocks(np.arange(first, last), use)
    mem.assign_pages(np.arange(start_pfn, first * PAGEBLOCK_PAGES), use)
    mem.assign_pages(np.arange(last * PAGEBLOCK_PAGES, end_pfn), use)


def _blocks_around(host: Host, start_pfn: int, end_pfn: int) -> Blocks:
    """The range rounded out to what the kernel isolates: 4 MiB until 5.18, pageblocks later."""
    step = host.profile.isolation_pages
    if not 0 <= start_pfn < end_pfn or end_pfn > host.mem.nr_blocks * PAGEBLOCK_PAGES:
        raise BadInput(f"{start_pfn}..{end_pfn} is no range of this host's memory", where="start_pfn")
    first, last = start_pfn // step * step, -(-end_pfn // step) * step
    return np.arange(first // PAGEBLOCK_PAGES, min(last // PAGEBLOCK_PAGES, host.mem.nr_blocks))


def one_zone(host: Host, blocks: Blocks) -> Zone:
    zones = np.unique(host.mem.zone[blocks])
    if zones.size != 1 or zones[0] == 0:
        raise MMError("EBUSY", "the range is not online memory of one zone", reason=Reason.MULTIZONE_RANGE)
    return host.zones[int(zones[0]) - 1]


def _empty(host: Host, call: Call, blocks: Blocks, nid: int, progress: ContigProgress) -> None:
    """Replace free huge pages and migrate what is in use, in the order of addresses; gigantic pages end it."""
    flags = host.mem.flags[blocks]
    if np.any(flags & BlockFlag.GIGANTIC):
        pfn = int(blocks[np.flatnonzero(flags & BlockFlag.GIGANTIC)[0]]) * PAGEBLOCK_PAGES
        raise MMError(
            "ENOMEM", f"page {pfn} belongs to a gigantic page", reason=Reason.GIGANTIC_PAGE, pfn=pfn
        )
    hs = host.hstates[9]
    nids = sorted(host.memory_nodes(), key=lambda n: host.nodes[nid].distance[n])
    huge = np.flatnonzero(flags & BlockFlag.HEAD)
    for between in np.split(blocks, huge):
        head, first = int(between[0]) if between.size else 0, 0
        if between.size and host.mem.flags[head] & BlockFlag.HEAD:
            _empty_huge_page(host, call, hs, head, nids, progress)
            first = 1
        _empty_single_pages(host, call, between[first:], nids, progress)
    last = int(blocks[-1])
    if host.profile.worker_waited_by_isolation or (host.deferred_mode == "auto" and not _waits(host, last)):
        run_free_hpage_work(host, call)


def _empty_single_pages(
    host: Host, call: Call, blocks: Blocks, nids: list[int], progress: ContigProgress
) -> None:
    moved, left = migrate_single_pages(host, call, blocks, nids)
    progress.migrated_pages += moved
    if left:
        raise MMError("ENOMEM", f"no free page for {left} pages of the range", reason=Reason.MIGRATION_TARGET,
                      pages_needed=left)  # fmt: skip


def _empty_huge_page(
    host: Host, call: Call, hs: HState, head: int, nids: list[int], progress: ContigProgress
) -> None:
    """A page that was free a moment ago may have become the target of another one's migration since."""
    if host.mem.flags[head] & BlockFlag.FREE:
        replace_page(host, call, hs, head, progress)
    elif not host.mem.flags[head] & (BlockFlag.QUEUED | BlockFlag.STAYS):
        _migrate(host, call, hs, head, nids, progress)


def _migrate(
    host: Host, call: Call, hs: HState, head: int, nids: list[int], progress: ContigProgress
) -> None:
    if held_by_mount(host, head):
        raise MMError("EBUSY", f"page {head * PAGEBLOCK_PAGES} is a private copy of a file on a mount with limits",
                      reason=Reason.NOT_MIGRATABLE, pfn=head * PAGEBLOCK_PAGES)  # fmt: skip
    if not migrate_huge_page(host, call, hs, head, nids):
        raise MMError("ENOMEM", f"no free huge page and no memory for one to move page {head * PAGEBLOCK_PAGES} to",
                      reason=Reason.MIGRATION_TARGET, pfn=head * PAGEBLOCK_PAGES)  # fmt: skip
    progress.migrated_hugepages += 1
    progress.migrated_pages += hs.pages


def _waits(host: Host, block: int) -> bool:
    """Whether the range's last pageblock was migrated just now, so that the worker has had no time to free it."""
    return bool(host.mem.flags[block] & BlockFlag.QUEUED)


def _check_free(mem: MemoryMap, start_pfn: int, end_pfn: int, progress: ContigProgress) -> None:
    blocks = np.arange(start_pfn // PAGEBLOCK_PAGES, -(-end_pfn // PAGEBLOCK_PAGES))
    busy = pages_of_use(mem, blocks, *(u for u in Use if u not in (Use.BUDDY, Use.MIXED)))
    busy = busy[(busy >= start_pfn) & (busy < end_pfn)]
    if busy.size == 0:
        return
    restore = progress.refused_hugepages > 0
    raise MMError(
        "EBUSY",
        f"{busy.size} pages of the range are still in use"
        + (f": {progress.refused_hugepages} huge pages got no memory for their vmemmap" if restore else ""),
        reason=Reason.VMEMMAP_RESTORE if restore else Reason.MIGRATION_TARGET,
        pfn=int(busy[0]),
    )


# -- searching --------------------------------------------------------------------------------------------


def alloc_contig_pages(
    host: Host, call: Call, zones: list[Zone], pages: int, progress: ContigProgress
) -> int | None:
    """First pfn of a range of ``pages`` taken, or None: candidates from each zone's start upwards.

    A candidate is valid when every page is online, of the zone and not reserved; every failure means the next.
    Source: mm/page_alloc.c alloc_contig_pages() (5.14; ranges with huge pages skipped since 6.3).
    """
    for zone in zones:
        start = _next_candidate(zone.start_pfn, pages)
        shut, hopeless = _shut_blocks(host, zone), _none(host)
        while start + pages <= zone.end_pfn:
            behind = _behind_shut(shut, start, pages) or _behind_reserved(host, start, pages)
            behind = behind or _behind_hopeless(host, hopeless, start, pages) or start + 1
            if behind == start + 1 and not _fails_without_trace(host, zone, start, pages):
                moved = progress.migrated_pages
                try:
                    alloc_contig_range(host, call, start, start + pages, Migrate.MOVABLE, progress)
                    return start
                except MMError as refusal:
                    shut, hopeless = _shut_blocks(host, zone), _none(host)
                    if refusal.reason == Reason.NO_CONTIGUOUS_MEMORY and progress.migrated_pages == moved:
                        hopeless = _cannot_be_replaced(host, zone)
                    if refusal.reason == Reason.UNMOVABLE_PAGE:  # so will all with which it is isolated
                        pfn = refusal.facts["pfn"]
                        behind = (int(_blocks_around(host, pfn, pfn + 1)[-1]) + 1) * PAGEBLOCK_PAGES
            start = _next_candidate(max(behind, start + 1), pages)
    return None


def _shut_blocks(host: Host, zone: Zone) -> Mask:
    """Which pageblocks of the machine no candidate may touch.

    Source: mm/page_alloc.c pfn_range_valid_contig() (5.14; huge pages since 6.3).
    """
    mem = host.mem
    reserved = np.zeros(256, np.bool_)
    reserved[list(NOT_TO_BE_HAD)] = True
    reserved[Use.HUGETLB] = host.profile.contig_skips_hugepages
    shut: Mask = (mem.zone != zone.id) | reserved[mem.use]
    return shut


def _none(host: Host) -> Mask:
    return np.zeros(host.mem.nr_blocks, np.bool_)


def _cannot_be_replaced(host: Host, zone: Zone) -> Mask:
    """Free huge pages that no fresh page was found for: trying them again would fail and change nothing."""
    mem = host.mem
    if zone.nr_pcp or has_huge_page(host, zone.nid):
        return _none(host)
    settled = (mem.use == Use.HUGETLB) & (mem.mt == Migrate.MOVABLE) & (mem.flags & BlockFlag.GIGANTIC == 0)
    around = host.profile.isolation_pages // PAGEBLOCK_PAGES
    settled = settled.reshape(-1, around).all(axis=1).repeat(around)
    hopeless: Mask = settled & (mem.flags & BlockFlag.FREE != 0)
    return hopeless


def _behind_shut(shut: Mask, start: int, pages: int) -> int:
    """Where a range that touches a shut pageblock ends, and those behind it that touch one, too; 0: it does not."""
    first, stop = start // PAGEBLOCK_PAGES, -(-(start + pages) // PAGEBLOCK_PAGES)
    touched = np.flatnonzero(shut[first:stop])
    if touched.size == 0:
        return 0
    last = first + int(touched[-1])
    while last < shut.size and shut[last]:
        run = shut[last : last + SEARCH_CHUNK]
        last += leading(run)
    return last * PAGEBLOCK_PAGES


def _behind_hopeless(host: Host, hopeless: Mask, start: int, pages: int) -> int:
    """Where a row of pages ends that cannot be replaced, of which one begins a range; 0: it does not.

    Trying a range that begins so would fail at once, and change nothing where isolating it moves no free pageblock.
    """
    first = start // PAGEBLOCK_PAGES
    if not hopeless[first] or (host.mem.use[_blocks_around(host, start, start + pages)] == Use.BUDDY).any():
        return 0
    return (first + 1) * PAGEBLOCK_PAGES


def _behind_reserved(host: Host, start: int, pages: int) -> int:
    """The page behind the last reserved one of a range; 0: it has none."""
    blocks = np.arange(start // PAGEBLOCK_PAGES, -(-(start + pages) // PAGEBLOCK_PAGES))
    reserved = pages_of_use(host.mem, blocks, *NOT_TO_BE_HAD)
    reserved = reserved[(reserved >= start) & (reserved < start + pages)]
    return int(reserved[-1]) + 1 if reserved.size else 0


def _next_candidate(pfn: int, pages: int) -> int:
    """The first pfn from here on that is a multiple of the size."""
    return -(-pfn // pages) * pages


def _fails_without_trace(host: Host, zone: Zone, start: int, pages: int) -> bool:
    """Whether a candidate begins with a gigantic page, and trying it would change nothing.

    Growing a pool of many such pages would else try each of them again for every new one.
    """
    if not host.mem.flags[start // PAGEBLOCK_PAGES] & BlockFlag.GIGANTIC or zone.nr_pcp:
        return False
    types = host.mem.mt[_blocks_around(host, start, start + pages)]
    return bool((types == Migrate.MOVABLE).all())
