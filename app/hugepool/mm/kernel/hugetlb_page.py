"""Huge pages as counters, free lists and page state; how one is found, released, or waits for the worker.

Source: mm/hugetlb.c enqueue_huge_page(), remove_hugetlb_page(), add_hugetlb_page(), update_and_free_pages_bulk(),
__update_and_free_page(), free_hpage_workfn() (5.14, 6.1, 6.12).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hugepool.mm.kernel import hugetlb_vmemmap
from hugepool.mm.kernel.compaction import compact_for_huge_page, reclaim_and_compact
from hugepool.mm.kernel.huge_blocks import count_free_blocks, find_huge_blocks
from hugepool.mm.kernel.hugetlb_vmemmap import VmemmapRestoreFailed, leading, nids_of, per_node
from hugepool.mm.kernel.page_alloc import direct_reclaim, huge_room, node_zonelist, room, take_pages
from hugepool.mm.kernel.release_order import ReleasePlan, plan_release
from hugepool.mm.kernel.vmscan import make_huge_room, shrink_in_vain
from hugepool.mm.machine import sparse_vmemmap
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.fault_inject import FaultPoint
from hugepool.mm.machine.mmzone import (
    NO_BLOCKS,
    ZONE_MOVABLE,
    ZONE_NORMAL,
    BlockFlag,
    Blocks,
    Migrate,
    Pfns,
    Use,
    Zone,
    pages_in,
    pairs_of,
)
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Call, FreeList, Host, HState, QueuedFree
from hugepool.mm.machine.units import PAGEBLOCK_PAGES

WORKER = "kworker/0:1"
WINDOW = (
    1024  # huge pages whose release one by one is planned together; twice as many after all could be done
)


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


def huge_source(host: Host, nid: int, nr_nodes: int, wanted: int) -> tuple[Zone, int] | None:
    """The zone a 2 MiB request of a node is served from, and how many pages in a row surely are.

    Fast path: the first zone above its low watermark; slow path: above min, then after compaction, then with page
    cache given up, at last once more with what direct reclaim got off the lists of CPUs.  ``k`` counts no gains, and
    stops before gains could lift a zone over its low mark again.
    Source: mm/page_alloc.c get_page_from_freelist(), __alloc_pages_slowpath() (5.14).
    """
    zones = node_zonelist(host.nodes[nid], ZONE_MOVABLE)
    cost = PAGEBLOCK_PAGES + nr_nodes
    wanted = min(wanted, host.mem.nr_blocks)
    found = _above_marks(host, zones, ("low", "min"), cost, wanted)
    share = -(-wanted // nr_nodes)
    while found is None and (
        compact_for_huge_page(host, zones, share)
        or make_huge_room(host, zones, share, cost)
        or reclaim_and_compact(host, zones, share)
    ):
        found = _above_marks(host, zones, ("low", "min"), cost, wanted)
    if found is None:
        shrink_in_vain(host, zones)
    if found is None and direct_reclaim(host.mem, zones, host.zones):
        found = _above_marks(host, zones, ("min",), cost, wanted)
    return found


def _above_marks(
    host: Host, zones: Sequence[Zone], marks: Sequence[str], cost: int, wanted: int
) -> tuple[Zone, int] | None:
    for mark in marks:
        for passed, zone in enumerate(zones):
            k = huge_room(zone, zone.low if mark == "low" else zone.min, ZONE_MOVABLE, cost)
            k = min(k, count_free_blocks(host.mem, zone, min(k, wanted)))
            if k:
                return zone, min(k, _pages_before_low(host, zones[:passed] if mark == "low" else zones))
    return None


def take_huge_blocks(host: Host, zone: Zone, count: int) -> Blocks:
    """Take ``count`` free 2 MiB blocks of a zone as huge pages that no pool counts yet."""
    return take_blocks(host, find_huge_blocks(host.mem, zone, count))


def take_blocks(host: Host, heads: Blocks) -> Blocks:
    """Take free pageblocks as huge pages that no pool counts yet."""
    host.mem.assign_blocks(heads, Use.HUGETLB)
    host.mem.flags[heads] = BlockFlag.HEAD
    host.mem.split_off(heads)
    return heads


def _pages_before_low(host: Host, zones: Sequence[Zone]) -> int:
    """Pages that may be made before the frames they free could lift one of the zones over its low mark.

    Frames on the freeing CPU's list lift nothing; at most 8 more of each page do.
    """
    if not host.optimize_enabled:
        return host.mem.nr_blocks
    marks = [(zone, zone.low + zone.lowmem_reserve[ZONE_MOVABLE] + PAGEBLOCK_PAGES - 1) for zone in zones]
    gaps = [gap for zone, mark in marks if (gap := mark - (zone.nr_free - zone.nr_cached)) >= 0]
    return max(1, min(gaps) // 8) if gaps else host.mem.nr_blocks


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
    while heads.size and _restore_fault_armed(host):
        take = _release_injected_batch if batched else _release_injected
        refused, heads = take(host, call, hs, heads, result)
        parts.append(refused)
    if not host.profile.restore_thisnode or len(host.nodes) == 1:
        parts.append(_release_in_order(host, call, hs, heads, result, batched=batched))
    elif heads.size:
        nids = nids_of(host, heads)
        gone = [
            _release_in_order(host, call, hs, heads[nids == n], result, batched=batched)
            for n in np.unique(nids)
        ]
        parts.append(heads[np.isin(heads, np.concatenate(gone))])
    refused = np.concatenate(parts) if parts else NO_BLOCKS
    result.refused += int(refused.size)
    for nid, n in per_node(host, refused):
        result.node(nid).refused += n
    return refused


def _restore_fault_armed(host: Host) -> bool:
    fault = host.faults.get(FaultPoint.VMEMMAP_RESTORE)
    return fault is not None and fault.armed


def _release_injected(
    host: Host, call: Call, hs: HState, heads: Blocks, result: ResizeResult
) -> tuple[Blocks, Blocks]:
    """One page under fault injection: (refused, still to do)."""
    one = heads[:1]
    if not restore_one(host, call, hs, one, result):
        return one, heads[1:]
    _free_to_buddy(host, hs, one, result)
    return NO_BLOCKS, heads[1:]


def _release_injected_batch(
    host: Host, call: Call, hs: HState, heads: Blocks, result: ResizeResult
) -> tuple[Blocks, Blocks]:
    """A batch under fault injection: restore up to the first error, free those, try the rest again.

    Where nothing could be restored, pages are walked one by one until the first success.
    Source: mm/hugetlb.c bulk_vmemmap_restore_error() (6.12).
    """
    done = 0
    while done < heads.size and restore_one(host, call, hs, heads[done : done + 1], result):
        done += 1
    _free_to_buddy(host, hs, heads[:done], result)
    if done:
        return NO_BLOCKS, heads[done:]
    refused = 0
    while refused < heads.size and not restore_one(host, call, hs, heads[refused : refused + 1], result):
        refused += 1
    _free_to_buddy(host, hs, heads[refused : refused + 1], result)
    return heads[:refused], heads[refused + 1 :]


def restore_one(host: Host, call: Call, hs: HState, head: Blocks, result: ResizeResult) -> bool:
    """Restore one page that is in no counter; False, and nothing done, when the frames are not there."""
    if not host.mem.flags[head[0]] & BlockFlag.OPTIMIZED:
        return True
    need = hs.nr_free_vmemmap_pages
    injected = hugetlb_vmemmap.injected_failure(host, call, hs)
    if not injected:
        hugetlb_vmemmap.failing_restores(host, head, need)
    available = hugetlb_vmemmap.available_for_restore(host, host.node_of_block(int(head[0])))
    if injected or available < need:
        note_failure(host, call, result, head, need, available)
        return False
    hugetlb_vmemmap.restore(host, call, hs, head)
    return True


def _release_in_order(
    host: Host, call: Call, hs: HState, heads: Blocks, result: ResizeResult, *, batched: bool
) -> Blocks:
    need = hs.nr_free_vmemmap_pages
    refused: list[Blocks] = []
    window = WINDOW
    while heads.size:
        part = heads if batched else heads[:window]
        optimized = (host.mem.flags[part] & BlockFlag.OPTIMIZED) != 0
        k = hugetlb_vmemmap.failing_restores(host, part[: leading(optimized)], need)
        available = hugetlb_vmemmap.available_for_restore(host, host.node_of_block(int(part[0])))
        if k:
            refused.append(part[:k])
            note_failure(host, call, result, part[:k], need, available)
        else:
            k = _next_batch(host, part, optimized * need, available, batched=batched)
            k = _restore_and_free(host, call, hs, part[:k], optimized[:k] * need, result, batched=batched)
        window = 2 * window if k == part.size else WINDOW
        heads = heads[k:]
    return np.concatenate(refused) if refused else NO_BLOCKS


def _restore_and_free(
    host: Host, call: Call, hs: HState, heads: Blocks, needs: Blocks, result: ResizeResult, *, batched: bool
) -> int:
    """Give back leading pages of some whose frames one zone has, all at once or as one after the other; how many."""
    if batched:
        hugetlb_vmemmap.restore(host, call, hs, heads[needs > 0])
        _free_to_buddy(host, hs, heads[::-1], result)  # they go onto a list, the last one becomes its head
        return int(heads.size)
    nids = nids_of(host, heads)
    zone = _paying_zone(host, int(nids[0]), int(needs[0]))
    plan = ReleasePlan(1)
    if zone is not None:
        plan = plan_release(host.mem, zone, heads[: leading(nids == nids[0])], needs, hs.blocks)
    heads, needs = heads[: plan.pages], needs[: plan.pages]
    both = pairs_of(plan.stolen)
    optimized = heads[needs > 0]
    frames = _steal(host, hs, zone, both, plan.listed, optimized) if zone is not None and both.size else None
    hugetlb_vmemmap.restore(host, call, hs, optimized, frames)
    _free_to_buddy(host, hs, heads[: plan.freed_before], result, stolen=both)
    host.mem.split_off(plan.last)
    _free_to_buddy(host, hs, heads[plan.freed_before :], result, stolen=both)
    return plan.pages


def _steal(host: Host, hs: HState, zone: Zone, both: Blocks, listed: int, heads: Blocks) -> Pfns:
    """Frames for huge pages: first some of the zone's unmovable pageblocks, then stolen pageblocks, some their own."""
    mem = host.mem
    taken = take_pages(mem, zone, listed, Migrate.UNMOVABLE, Use.VMEMMAP)
    pages = pages_in(both)[: heads.size * hs.nr_free_vmemmap_pages - listed]
    # Before the flags change that regular tables follow from.
    sparse_vmemmap.own_tables(mem, hugetlb_vmemmap.vmemmap_sections(hs, heads))
    mem.assign_blocks(both[mem.use[both] != Use.BUDDY], Use.BUDDY)
    mem.flags[both] = 0
    mem.set_type(both, Migrate.UNMOVABLE)
    mem.assign_pages(pages, Use.VMEMMAP)
    return np.concatenate((taken, pages))


def _payers(host: Host, nid: int) -> list[tuple[Zone, bool, int]]:
    """Where restores of a node look for frames, in turn: a zone, whether above its low mark, the pages it has there."""
    zones = hugetlb_vmemmap.restore_zones(host, nid)
    return [
        (zone, low, room(zone, zone.low if low else zone.min, ZONE_NORMAL))
        for low in (True, False)
        for zone in zones
    ]


def _paying_zone(host: Host, nid: int, need: int) -> Zone | None:
    """The zone that pays; none when the first one that has something pays only a part of one huge page."""
    found = next(((zone, pages) for zone, _low, pages in _payers(host, nid) if pages), None)
    return found[0] if found is not None and found[1] >= need else None


def pages_in_one_go(host: Host, hs: HState, heads: Blocks) -> int:
    """How many leading pages of one node are sure to be released together; 0: the first one will be refused."""
    if _restore_fault_armed(host):
        return 1
    optimized = (host.mem.flags[heads] & BlockFlag.OPTIMIZED) != 0
    need = hs.nr_free_vmemmap_pages
    if hugetlb_vmemmap.failing_restores(host, heads[:1][optimized[:1]], need):
        return 0
    available = hugetlb_vmemmap.available_for_restore(host, host.node_of_block(int(heads[0])))
    return min(_next_batch(host, heads, optimized * need, available, batched=False), int(heads.size))


def _next_batch(host: Host, heads: Blocks, needs: Blocks, available: int, *, batched: bool) -> int:
    """How many leading pages can be restored before any of them is freed.

    Until 6.6 pages are freed one by one, so a batch ends where a freed page could change the zone that pays; later
    kernels restore as many as they can.
    """
    cost = np.cumsum(needs)
    if batched:
        return int(np.searchsorted(cost, available, side="right"))
    return _batch_of_one_zone(host, heads, cost)


def _batch_of_one_zone(host: Host, heads: Blocks, cost: Blocks) -> int:
    """Leading pages whose restores are all paid by the zone that pays for the first one."""
    payers = _payers(host, host.node_of_block(int(heads[0])))
    chosen = next((i for i, (_zone, _low, pages) in enumerate(payers) if pages), None)
    if chosen is None:
        return 1
    payer, low, pages = payers[chosen]
    k = max(1, int(np.searchsorted(cost, pages, side="right")))
    # A zone over its min may rise over its low mark by what is freed into it, the payer too.
    earlier = [zone for zone, _low, _pages in payers[:chosen] if zone is not payer or not low]
    changes = np.flatnonzero(np.isin(host.mem.zone[heads[:k]], [zone.id for zone in earlier]))
    return min(k, int(changes[0]) + 1) if changes.size else k


def note_failure(
    host: Host, call: Call, result: ResizeResult, heads: Blocks, need: int, available: int
) -> None:
    """Remember why pages were refused, by node, and let the allocator complain."""
    injected = available >= need
    for nid in np.unique(nids_of(host, heads)).tolist():
        result.failures.setdefault(nid, VmemmapRestoreFailed(nid, need, available, injected))
    if not injected:  # an injected failure returns before the allocator would print
        hugetlb_vmemmap.warn_alloc(host, call)


def _free_to_buddy(
    host: Host, hs: HState, heads: Blocks, result: ResizeResult, *, stolen: Blocks = NO_BLOCKS
) -> None:
    """Free huge pages, one after the other; of pageblocks that were stolen since, the frames they became stay."""
    if heads.size == 0:
        return
    blocks = heads
    if hs.gigantic:
        blocks = (heads[:, None] + np.arange(hs.blocks)).ravel()
    blocks = blocks[~np.isin(blocks, stolen)]
    spoilt = (host.mem.flags[blocks] & BlockFlag.SPOILT) != 0
    host.mem.flags[blocks] = 0
    host.mem.assign_blocks(blocks[~spoilt], Use.BUDDY)
    host.mem.assign_blocks(blocks[spoilt], Use.LOST)
    for nid, n in per_node(host, heads):
        result.node(nid).freed += n


def update_and_free_page_atomic(host: Host, call: Call, hs: HState, head: int) -> None:
    """Release a page from atomic context: an optimised one waits for the worker, another goes at once.

    Source: mm/hugetlb.c update_and_free_page() (5.14).
    """
    if not host.mem.flags[head] & BlockFlag.OPTIMIZED:
        _free_to_buddy(host, hs, np.array([head], np.int64), ResizeResult(0))
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
