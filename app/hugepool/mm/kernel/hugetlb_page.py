"""Huge pages as counters, free lists and page state; how one is found, released, or waits for the worker.

Source: mm/hugetlb.c enqueue_huge_page(), remove_hugetlb_page(), add_hugetlb_page(), update_and_free_pages_bulk(),
__update_and_free_page(), free_hpage_workfn() (5.14, 6.1, 6.12).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hugepool.mm.kernel import hugetlb_vmemmap
from hugepool.mm.kernel.hugetlb_vmemmap import VmemmapRestoreFailed, leading, nids_of, per_node
from hugepool.mm.kernel.page_alloc import alloc_huge_pages, node_zonelist
from hugepool.mm.kernel.pcp import free_pages, free_range
from hugepool.mm.kernel.releasing import release_together
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.mmzone import (
    NO_BLOCKS,
    ZONE_MOVABLE,
    BlockFlag,
    Blocks,
    Use,
)
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Call, FreeList, Host, HState, QueuedFree
from hugepool.mm.machine.units import PAGEBLOCK_PAGES

WORKER = "kworker/0:1"


WINDOW = 64  # pages that are looked at before it is known whether many can be given back at once


@dataclass(slots=True)
class NodeDelta:
    """What a resize did on one node, in huge pages."""

    allocated: int = 0
    freed: int = 0
    refused: int = 0


@dataclass(slots=True)
class ResizeResult:
    """What set_max_huge_pages did, in huge pages.

    ``stopped``: why growth ended, by node; ``failures``: the first restore that failed, by node.
    """

    requested: int
    allocated: int = 0
    freed: int = 0
    refused: int = 0
    converted_surplus: int = 0
    nodes: dict[int, NodeDelta] = field(default_factory=dict)
    stopped: dict[int, Reason] = field(default_factory=dict)
    failures: dict[int, VmemmapRestoreFailed] = field(default_factory=dict)

    def node(self, nid: int) -> NodeDelta:
        """The row of one node."""
        return self.nodes.setdefault(nid, NodeDelta())


# -- node cursors ----------------------------------------------------------------------------------------


def ring(allowed: Sequence[int], cursor: int) -> list[int]:
    """Allowed nodes in the order a cursor visits them.

    Source: mm/hugetlb.c get_valid_node_allowed(), next_node_allowed() (5.14).
    """
    ordered = sorted(allowed)
    at = next((i for i, nid in enumerate(ordered) if nid >= cursor), 0)
    return ordered[at:] + ordered[:at]


def after(allowed: Sequence[int], nid: int) -> int:
    """The cursor once ``nid`` was tried: the next allowed node."""
    ordered = sorted(allowed)
    return next((n for n in ordered if n > nid), ordered[0])


# -- finding one ---------------------------------------------------------------------------------------------


def fresh_huge_pages(host: Host, nid: int, count: int) -> Blocks:
    """Up to ``count`` fresh pages of 2 MiB of a node, which no pool counts yet; first pageblocks in the order taken.

    Source: mm/hugetlb.c alloc_buddy_huge_page() (5.14).
    """
    return alloc_huge_pages(host, node_zonelist(host.nodes[nid], ZONE_MOVABLE), count)


# -- counters and free lists ------------------------------------------------------------------------------


def account_pages(host: Host, hs: HState, heads: Blocks, sign: int, *, surplus: bool = False) -> None:
    """Count huge pages in (+1) or out (-1) of nr, and of surplus where asked; per node and in total."""
    for nid, n in per_node(host, heads):
        hs.nr_huge_pages += sign * n
        hs.nr_node[nid] += sign * n
        if surplus:
            hs.surplus_huge_pages += sign * n
            hs.surplus_node[nid] += sign * n


def enqueue(host: Host, hs: HState, heads: Blocks) -> None:
    """Put pages on their node's free list, one after the other (the last one becomes the head)."""
    if heads.size == 0:
        return
    mem = host.mem
    mem.seq[heads] = np.arange(host.next_stamp, host.next_stamp + heads.size)
    host.next_stamp += int(heads.size)
    mem.flags[heads] |= BlockFlag.FREE
    mem.mark_dirty(heads)
    for nid, count in per_node(host, heads):
        hs.free_lists[nid].push(heads if count == heads.size else heads[nids_of(host, heads) == nid])
        hs.free_huge_pages += count
        hs.free_node[nid] += count


def dequeue(host: Host, hs: HState, nid: int, count: int) -> Blocks:
    """Take up to ``count`` pages from the head of a node's free list, most recent first."""
    heads = hs.free_lists[nid].pop(count)
    _off_the_list(host, hs, nid, heads)
    return heads


def dequeue_page(host: Host, hs: HState, head: int) -> None:
    """Take one page out of its node's free list."""
    dequeue_pages(host, hs, np.array([head], np.int64))


def dequeue_pages(host: Host, hs: HState, heads: Blocks) -> None:
    """Take pages of one node out of its free list, wherever they are in it."""
    nid = host.node_of_block(int(heads[0]))
    hs.free_lists[nid].remove(heads)
    _off_the_list(host, hs, nid, heads)


def put_last(host: Host, hs: HState, head: int) -> None:
    """Move a free page to the end of its node's list: it is handed out when no other is left."""
    nid = host.node_of_block(head)
    one = np.array([head], np.int64)
    hs.free_lists[nid].remove(one)
    hs.free_lists[nid] = FreeList(np.concatenate((one, hs.free_lists[nid].items())))
    host.mem.seq[head] = 0
    host.mem.mark_dirty(one)


def _off_the_list(host: Host, hs: HState, nid: int, heads: Blocks) -> None:
    host.mem.flags[heads] &= 255 - BlockFlag.FREE
    host.mem.mark_dirty(heads)
    hs.free_huge_pages -= int(heads.size)
    hs.free_node[nid] -= int(heads.size)


# -- giving back ------------------------------------------------------------------------------------------


def update_and_free_pages(
    host: Host, call: Call, hs: HState, heads: Blocks, result: ResizeResult, *, batched: bool | None = None
) -> Blocks:
    """Restore and free huge pages that are in no counter; those refused come back as free surplus pages.

    ``batched``: as the profile frees many pages; the worker takes one after the other on every kernel.
    Returns the refused pages.
    Source: mm/hugetlb.c update_and_free_pages_bulk(), __update_and_free_page() (5.14).
    """
    refused = release(
        host, call, hs, heads, result, batched=host.profile.bulk if batched is None else batched
    )
    if refused.size:
        account_pages(host, hs, refused, +1, surplus=True)
        enqueue(host, hs, refused)
        call.emit(Event.VMEMMAP_RESTORE_REFUSED, size=hs.size, count=int(refused.size))
    return refused


def release(
    host: Host, call: Call, hs: HState, heads: Blocks, result: ResizeResult, *, batched: bool
) -> Blocks:
    """Restore and free huge pages in the order given; a freed page can pay for the next.

    Returns those whose vmemmap could not be restored, in order, still allocated and in no counter.
    """
    parts = []
    for apart in [heads] if batched else _independent(host, heads):
        step = _release_batch if batched else _release_in_turn
        parts += step(host, call, hs, apart, result)
    refused = np.concatenate((NO_BLOCKS, *parts))
    if refused.size and not batched:
        refused = heads[np.isin(heads, refused)]
    result.refused += int(refused.size)
    for nid, n in per_node(host, refused):
        result.node(nid).refused += n
    return refused


def _independent(host: Host, heads: Blocks) -> list[Blocks]:
    """Huge pages by node, where each node pays for its own and nothing counts them together."""
    if not host.profile.restore_thisnode or any(fault.armed for fault in host.faults.values()):
        return [heads]
    nids = nids_of(host, heads)
    return [heads[nids == nid] for nid in np.unique(nids)]


def _release_in_turn(host: Host, call: Call, hs: HState, heads: Blocks, result: ResizeResult) -> list[Blocks]:
    """One page after the other; many at once where that is the same.  Those refused."""
    refused, window = [], WINDOW
    while heads.size:
        done = _release_many(host, call, hs, heads[:window], result)
        window = 4 * window if done else WINDOW
        if done == 0:
            failed = _walk(host, call, hs, heads, result)
            free_huge_pages(host, hs, heads[failed : failed + 1], result)
            refused.append(heads[:failed])
            done = failed + 1
        heads = heads[done:]
    return refused


def _release_many(host: Host, call: Call, hs: HState, heads: Blocks, result: ResizeResult) -> int:
    """Leading pages that need no frames, or are restored and freed all at once; how many."""
    optimized = (host.mem.flags[heads] & BlockFlag.OPTIMIZED) != 0
    if not optimized[0]:
        done = leading(~optimized)
        free_huge_pages(host, hs, heads[:done], result)
        return done
    heads = heads[: leading(optimized)]
    done = 0 if hs.gigantic else release_together(host, call, hs, heads)
    for nid, n in per_node(host, heads[:done]):
        result.node(nid).freed += n
    return done


def _release_batch(host: Host, call: Call, hs: HState, heads: Blocks, result: ResizeResult) -> list[Blocks]:
    """Restore up to the first error, free those, and try the rest again.  Those refused.

    Where nothing could be restored, pages are walked one by one until the first success.
    Source: mm/hugetlb.c update_and_free_pages_bulk(), bulk_vmemmap_restore_error() (6.12).
    """
    refused = []
    while heads.size:
        done = hugetlb_vmemmap.restore_many(host, call, hs, heads)
        free_huge_pages(host, hs, heads[:done][::-1], result)  # collected on a list, head first
        heads = heads[done:]
        if not done:
            failed = _walk(host, call, hs, heads, result)
            refused.append(heads[:failed])
            free_huge_pages(host, hs, heads[failed : failed + 1], result)
            heads = heads[failed + 1 :]
    return refused


def _walk(host: Host, call: Call, hs: HState, heads: Blocks, result: ResizeResult) -> int:
    """How many pages fail one by one before the first success."""
    failed = 0
    while failed < heads.size and not restore_one(host, call, hs, heads[failed : failed + 1], result):
        failed += 1
        more = heads[failed : failed + _hopeless(host, heads[failed:])]
        if more.size:
            note_failure(host, call, result, more, hs.nr_free_vmemmap_pages, 0)
        failed += int(more.size)
    return failed


def _hopeless(host: Host, heads: Blocks) -> int:
    """How many leading pages fail as the one before them: the first request for a frame does, which changes nothing."""
    if any(fault.armed for fault in host.faults.values()):
        return 0
    optimized = host.mem.flags[heads] & BlockFlag.OPTIMIZED != 0
    nids = nids_of(host, heads)
    poor = [nid for nid in np.unique(nids).tolist() if hugetlb_vmemmap.available_for_restore(host, nid) == 0]
    return leading(optimized & np.isin(nids, poor))


def restore_one(host: Host, call: Call, hs: HState, head: Blocks, result: ResizeResult) -> bool:
    """Restore one page that is in no counter; False when the frames are not there, those taken are given back."""
    before = call.injected
    call.injected = False
    done = hugetlb_vmemmap.restore_many(host, call, hs, head)
    if not done:
        need = hs.nr_free_vmemmap_pages
        available = (
            need
            if call.injected
            else hugetlb_vmemmap.available_for_restore(host, host.node_of_block(int(head[0])))
        )
        note_failure(host, call, result, head, need, available)
    call.injected |= before
    return bool(done)


def note_failure(
    host: Host, call: Call, result: ResizeResult, heads: Blocks, need: int, available: int
) -> None:
    """Remember why pages were refused, by node, and let the allocator complain."""
    injected = available >= need
    for nid in np.unique(nids_of(host, heads)).tolist():
        result.failures.setdefault(nid, VmemmapRestoreFailed(nid, need, available, injected))
    if not injected:  # an injected failure returns before the allocator would print
        hugetlb_vmemmap.warn_alloc(host, call)


def free_huge_pages(host: Host, hs: HState, heads: Blocks, result: ResizeResult) -> None:
    """Free huge pages whose vmemmap is there, one after the other.

    Pages of 2 MiB go onto the lists of the CPU, those of 1 GiB page by page; later kernels give them to the buddy.
    Source: mm/hugetlb.c __update_and_free_page(), free_gigantic_page() (5.14, 6.1), hugetlb_free_folio() (6.12).
    """
    if heads.size == 0:
        return
    mem = host.mem
    for nid, n in per_node(host, heads):
        result.node(nid).freed += n
    blocks = (heads[:, None] + np.arange(hs.blocks)).ravel() if hs.gigantic else heads
    spoilt = (mem.flags[blocks] & BlockFlag.SPOILT) != 0
    mem.flags[blocks] = 0
    mem.assign_blocks(blocks[spoilt], Use.LOST)
    blocks = blocks[~spoilt]
    if not hs.gigantic:
        free_pages(host, blocks * PAGEBLOCK_PAGES, hs.order)
    elif host.profile.gigantic_freed_whole:
        mem.assign_blocks(blocks, Use.BUDDY)
    else:
        for run in np.split(blocks, np.flatnonzero(np.diff(blocks) != 1) + 1):
            if run.size:
                free_range(host, int(run[0]) * PAGEBLOCK_PAGES, (int(run[-1]) + 1) * PAGEBLOCK_PAGES)


def update_and_free_page_atomic(host: Host, call: Call, hs: HState, head: int) -> None:
    """Release a page from atomic context: an optimised one waits for the worker, another goes at once.

    Source: mm/hugetlb.c update_and_free_page() (5.14).
    """
    if not host.mem.flags[head] & BlockFlag.OPTIMIZED:
        free_huge_pages(host, hs, np.array([head], np.int64), ResizeResult(0))
        return
    host.mem.flags[head] |= BlockFlag.QUEUED
    host.mem.mark_dirty(np.array([head], np.int64))
    host.deferred.append(QueuedFree(head, hs.order, host.next_stamp))
    host.next_stamp += 1
    call.emit(Event.HUGE_PAGE_FREE_DEFERRED, size=hs.size, pfn=head * PAGEBLOCK_PAGES)


def run_free_hpage_work(host: Host, call: Call, *, comm: str = WORKER) -> ResizeResult:
    """Work off the queue of deferred frees, newest first: restore and free, or back into the pool as surplus.

    Source: mm/hugetlb.c free_hpage_workfn(), flush_free_hpage_work() (5.14).
    """
    result = ResizeResult(0)
    queue, host.deferred = host.deferred[::-1], []
    worker = Call(comm, call.now_ns, call.vmemmap, call.events)
    at = 0
    while at < len(queue):
        order = queue[at].order
        end = at
        while end < len(queue) and queue[end].order == order:
            end += 1
        heads = np.array([q.block for q in queue[at:end]], np.int64)
        host.mem.flags[heads] &= 255 - BlockFlag.QUEUED
        host.mem.mark_dirty(heads)
        update_and_free_pages(host, worker, host.hstate(order), heads, result, batched=False)
        at = end
    result.freed = sum(row.freed for row in result.nodes.values())
    call.injected |= worker.injected
    if queue:
        call.emit(Event.DEFERRED_FREES_DRAINED, freed=result.freed, refused=result.refused)
    return result
