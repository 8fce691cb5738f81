"""Contiguous ranges and CMA areas as callers see them: taking, finding, giving back.

Source: mm/page_alloc.c alloc_contig_range(), alloc_contig_pages(), free_contig_range(); mm/cma_debug.c (5.14).
"""

from dataclasses import asdict, dataclass

from hugepool.mm.commands.commands import (
    AllocCma,
    AllocContigPages,
    AllocContigRange,
    FreeCma,
    FreeContigRange,
)
from hugepool.mm.commands.registry import handles
from hugepool.mm.kernel.cma import area_of, cma_alloc, failure_lines
from hugepool.mm.kernel.contig import (
    alloc_contig_pages,
    alloc_contig_range,
)
from hugepool.mm.kernel.page_alloc import node_zonelist
from hugepool.mm.kernel.pcp import free_range
from hugepool.mm.kernel.replace_hugepages import ContigProgress
from hugepool.mm.machine import memory_outcomes as outcomes
from hugepool.mm.machine.errors import ERRNO_NUMBER, BadInput, MMError, NotFound
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.memory_outcomes import AllocatedRange, FreedPages, Moved
from hugepool.mm.machine.mmzone import ZONE_MOVABLE, Migrate
from hugepool.mm.machine.outcomes import Counters, counters, shallow, vmemmap_of
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Call, CmaArea, ContigRange, Host
from hugepool.mm.machine.units import ORDER_2M, PAGEBLOCK_PAGES

TYPES = {"MOVABLE": Migrate.MOVABLE, "CMA": Migrate.CMA}


@dataclass(slots=True)
class Watch:
    """The pool before an allocation, and what it does on its way."""

    before: Counters
    progress: ContigProgress

    def moved(self, host: Host, call: Call) -> Moved:
        """What was moved and replaced."""
        after, vmemmap = counters(host.hstates[ORDER_2M]), vmemmap_of(call)
        return Moved(**asdict(self.progress), before=self.before, after=after, vmemmap=vmemmap)


def progress_of(host: Host) -> Watch:
    """Begin to watch an allocation."""
    return Watch(counters(host.hstates[ORDER_2M]), ContigProgress())


@handles(AllocContigRange)
def take_range(host: Host, call: Call, cmd: AllocContigRange) -> AllocatedRange:
    """Allocate a given range.

    Raises:
        MMError: as alloc_contig_range, with ``result``: what was moved or replaced, and the pool before and after
            (a failed call can grow it by a surplus page per huge page that could not be restored).
    """
    if cmd.migratetype not in TYPES:
        raise BadInput(f"must be MOVABLE or CMA, not {cmd.migratetype!r}", where="migratetype")
    watch = progress_of(host)
    try:
        alloc_contig_range(host, call, cmd.start_pfn, cmd.end_pfn, TYPES[cmd.migratetype], watch.progress)
    except BadInput:
        raise
    except MMError as error:
        error.result = watch.moved(host, call)
        call.emit(Event.CONTIG_RANGE_REFUSED, start_pfn=cmd.start_pfn, end_pfn=cmd.end_pfn, errno=error.errno)
        raise
    return take(host, call, cmd.start_pfn, cmd.end_pfn, watch)


@handles(AllocContigPages)
def find_and_take(host: Host, call: Call, cmd: AllocContigPages) -> AllocatedRange:
    """Find and allocate a range.  Raises ENOMEM when no candidate could be emptied."""
    most = host.mem.nr_blocks * PAGEBLOCK_PAGES
    if not 1 <= cmd.nr_pages <= most:
        raise BadInput(f"must be 1..{most}, not {cmd.nr_pages}", where="nr_pages")
    nid = host.memory_nodes()[0] if cmd.node is None else cmd.node
    if nid not in host.memory_nodes():
        raise BadInput(f"node {nid} has no memory on this host", where="node")
    watch = progress_of(host)
    zones = node_zonelist(host.nodes[nid], ZONE_MOVABLE)
    start = alloc_contig_pages(host, call, zones, cmd.nr_pages, watch.progress)
    if start is None:
        raise MMError("ENOMEM", f"no {cmd.nr_pages} pages in a row can be freed on node {nid}", node=nid,
                      reason=Reason.NO_CONTIGUOUS_MEMORY, result=watch.moved(host, call))  # fmt: skip
    return take(host, call, start, start + cmd.nr_pages, watch)


@handles(FreeContigRange)
def give_back(host: Host, call: Call, cmd: FreeContigRange) -> outcomes.ContigRange:
    """Free a range.  Raises ENOENT when there is no such range."""
    kept = find(host, cmd.range_id)
    given = outcomes.ContigRange.of(kept)
    untake(host, call, kept, kept.end_pfn - kept.start_pfn)
    return given


def find(host: Host, range_id: int) -> ContigRange:
    """A range by its id.  Raises ENOENT."""
    if range_id not in host.contig_ranges:
        raise NotFound(f"no contiguous range {range_id} on this host", id=range_id)
    return host.contig_ranges[range_id]


def take(host: Host, call: Call, start_pfn: int, end_pfn: int, watch: Watch) -> AllocatedRange:
    """Keep a range that was just allocated under a number of its own."""
    kept = ContigRange(host.next_range_id, start_pfn, end_pfn)
    host.next_range_id += 1
    host.contig_ranges[kept.range_id] = kept
    call.emit(Event.CONTIG_RANGE_ALLOCATED, id=kept.range_id, start_pfn=start_pfn, end_pfn=end_pfn)
    return AllocatedRange(**shallow(watch.moved(host, call)), **shallow(outcomes.ContigRange.of(kept)))


def untake(host: Host, call: Call, kept: ContigRange, pages: int) -> int:
    """Free up to ``pages`` of a range from its start, one by one; how many.  An empty range is gone."""
    end = min(kept.end_pfn, kept.start_pfn + pages)
    freed = end - kept.start_pfn
    free_range(host, kept.start_pfn, end)
    kept.start_pfn = end
    if kept.start_pfn == kept.end_pfn:
        del host.contig_ranges[kept.range_id]
    call.emit(Event.CONTIG_RANGE_FREED, id=kept.range_id, pages=freed)
    return freed


# -- areas -----------------------------------------------------------------------------------------------


@handles(AllocCma)
def alloc_cma(host: Host, call: Call, cmd: AllocCma) -> AllocatedRange:
    """Take pages out of an area, as its debugfs file ``alloc`` does.

    Raises:
        MMError: ENOENT no such area; EINVAL more pages than the area has; else ENOMEM, as callers of cma_alloc see
            no more than that there is no page: ``ret`` is the errno of the last try.  ``result``: each try may have
            moved, replaced or added huge pages.
    """
    area = area_of(host, cmd.area)
    if not 1 <= cmd.nr_pages <= area.nr_pages:
        raise BadInput(f"must be 1..{area.nr_pages}, the pages of the area", where="nr_pages")
    watch = progress_of(host)
    start = cma_alloc(host, call, area, cmd.nr_pages, 1, watch.progress)
    if isinstance(start, MMError):
        ret = -ERRNO_NUMBER[start.errno]
        for line in failure_lines(host, area, cmd.nr_pages, ret):
            call.printk(line)
        call.emit(Event.CMA_ALLOC_REFUSED, area=area.name, pages=cmd.nr_pages, ret=ret)
        raise MMError("ENOMEM", start.detail, reason=start.reason, result=watch.moved(host, call), ret=ret)
    return take(host, call, start, start + cmd.nr_pages, watch)


@handles(FreeCma)
def free_cma(host: Host, call: Call, cmd: FreeCma) -> FreedPages:
    """Give pages of an area back, the latest range first, as its debugfs file ``free`` does."""
    area, left = area_of(host, cmd.area), cmd.nr_pages
    for kept in sorted(_ranges_in(host, area), key=lambda kept: -kept.range_id):
        if left <= 0:
            break
        left -= untake(host, call, kept, left)
    return FreedPages(area.name, cmd.nr_pages - max(0, left))


def _ranges_in(host: Host, area: CmaArea) -> list[ContigRange]:
    end = area.base_pfn + area.nr_pages
    return [kept for kept in host.contig_ranges.values() if area.base_pfn <= kept.start_pfn < end]
