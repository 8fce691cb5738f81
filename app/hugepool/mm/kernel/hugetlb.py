"""The hugetlb pool: resizing it, and giving huge pages back.

Source: mm/hugetlb.c (5.14, 6.1, 6.12): set_max_huge_pages(), alloc_pool_huge_page(), remove_pool_huge_page(),
update_and_free_pages_bulk(), add_hugetlb_page(), free_hpage_workfn().
"""

from collections.abc import Sequence

import numpy as np

from hugepool.mm.kernel.buddy import has_free_block
from hugepool.mm.kernel.gigantic import alloc_gigantic_block
from hugepool.mm.kernel.growing import grow_together
from hugepool.mm.kernel.hugetlb_page import (
    ResizeResult,
    account_pages,
    after,
    dequeue,
    enqueue,
    fresh_huge_pages,
    ring,
    run_free_hpage_work,
    update_and_free_pages,
)
from hugepool.mm.kernel.hugetlb_vmemmap import per_node
from hugepool.mm.kernel.optimize import optimize
from hugepool.mm.kernel.page_alloc import node_zonelist
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.fault_inject import FaultPoint
from hugepool.mm.machine.mmzone import NO_BLOCKS, ZONE_MOVABLE, BlockFlag, Blocks
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Call, Host, HState
from hugepool.mm.machine.units import ULONG_MAX

# -- resizing --------------------------------------------------------------------------------------------

WINDOW = 256  # pages that are looked at before it is known whether many can be made at once


def set_max_huge_pages(
    host: Host, call: Call, hs: HState, count: int, nid: int | None, allowed: Sequence[int]
) -> ResizeResult:
    """Set the persistent size of a pool.

    Args:
        count: huge pages wanted, 0..2**64-1; for a per-node request the pages wanted on ``nid``.
        nid: the node of a per-node request, else None.
        allowed: nodes that may grow or shrink.

    Source: mm/hugetlb.c set_max_huge_pages() (5.14), steps 2 to 10.
    """
    result = ResizeResult(count)
    if hs.nr_free_vmemmap_pages:
        run_free_hpage_work(host, call)
    if nid is not None:
        count = _global_target(host, hs, count, nid)
    _convert_surplus(hs, count, allowed, result)
    if count > persistent(hs):
        _grow(host, call, hs, count, allowed, result)
    else:
        _shrink(host, call, hs, count, allowed, result)
    hs.max_huge_pages = persistent(hs)
    return result


def persistent(hs: HState) -> int:
    """nr - surplus as the kernel computes it: unsigned, so the underflow of 5.14..6.8 shows as 2**64 - n."""
    return (hs.nr_huge_pages - hs.surplus_huge_pages) & ULONG_MAX


def _global_target(host: Host, hs: HState, count: int, nid: int) -> int:
    """Turn a node's target into a global one; totals, surplus included, until 6.6 (a defect)."""
    if host.profile.per_node_totals:
        others = hs.nr_huge_pages - hs.nr_node[nid]
    else:
        others = persistent(hs) - (hs.nr_node[nid] - hs.surplus_node[nid])
    return min(count + others, ULONG_MAX)


def _convert_surplus(hs: HState, count: int, allowed: Sequence[int], result: ResizeResult) -> None:
    """Growing first makes surplus pages persistent: a counter moves, no page does."""
    while hs.surplus_huge_pages and count > persistent(hs):
        visited = ring(allowed, hs.next_nid_to_alloc)
        nid = next((n for n in visited if hs.surplus_node[n] > 0), None)
        if nid is None:
            hs.next_nid_to_alloc = visited[0]  # a round in vain ends where it began
            return
        hs.next_nid_to_alloc = after(allowed, nid)
        hs.surplus_huge_pages -= 1
        hs.surplus_node[nid] -= 1
        result.converted_surplus += 1


def _grow(
    host: Host, call: Call, hs: HState, count: int, allowed: Sequence[int], result: ResizeResult
) -> None:
    late: list[Blocks] = []  # kernels that optimise the whole batch at the end
    waiting, window = 0, WINDOW
    while persistent(hs) + waiting < count:
        if not host.profile.bulk:
            visited = ring(allowed, hs.next_nid_to_alloc)
            together = grow_together(host, call, hs, visited, min(count - persistent(hs), window))
            window = 8 * window if together.size else WINDOW
            if together.size:
                hs.next_nid_to_alloc = visited[0]  # each node had its turn
                _add_new_pages(host, hs, together, result)
                continue
        heads = _alloc_fresh(host, call, hs, min(count - persistent(hs) - waiting, ULONG_MAX), allowed)
        if heads.size == 0:
            result.stopped = {nid: _why_no_page(host, call, hs, nid) for nid in allowed}
            break
        if host.profile.bulk:
            late.append(heads)
            waiting += heads.size
        else:
            _prep_new_pages(host, call, hs, heads, result)
    if late:
        _prep_new_pages(host, call, hs, np.concatenate(late)[::-1], result)  # collected on a list, head first


def _prep_new_pages(host: Host, call: Call, hs: HState, heads: Blocks, result: ResizeResult) -> None:
    optimize(host, call, hs, heads, batched=True)
    _add_new_pages(host, hs, heads, result)


def _add_new_pages(host: Host, hs: HState, heads: Blocks, result: ResizeResult) -> None:
    account_pages(host, hs, heads, +1)
    enqueue(host, hs, heads)
    result.allocated += int(heads.size)
    for nid, n in per_node(host, heads):
        result.node(nid).allocated += n


def add_fresh_pages(host: Host, call: Call, hs: HState, heads: Blocks) -> None:
    """Put huge pages that were taken elsewhere (early memory) into the pool: optimise, count, enqueue."""
    if heads.size:
        _prep_new_pages(host, call, hs, heads, ResizeResult(0))


def _shrink(
    host: Host, call: Call, hs: HState, count: int, allowed: Sequence[int], result: ResizeResult
) -> None:
    lowest = max(count, _needed(host, hs) & ULONG_MAX)
    heads = _remove_pool_pages(host, hs, max(0, persistent(hs) - lowest), allowed)
    refused = update_and_free_pages(host, call, hs, heads[::-1], result)
    result.freed += int(heads.size - refused.size)
    if hs.nr_free_vmemmap_pages:
        run_free_hpage_work(host, call)
    while count < persistent(hs):
        nid = next(
            (n for n in ring(allowed, hs.next_nid_to_free) if hs.surplus_node[n] < hs.nr_node[n]), None
        )
        if nid is None:
            break
        hs.next_nid_to_free = after(allowed, nid)
        hs.surplus_huge_pages += 1
        hs.surplus_node[nid] += 1


def _needed(host: Host, hs: HState) -> int:
    """Pages that a shrink leaves: those in use or promised; free surplus pages are spared too until 6.12.

    Source: mm/hugetlb.c set_max_huge_pages() (5.14, 6.18).
    """
    free = hs.free_huge_pages
    if not host.profile.shrink_counts_free_surplus:
        return hs.resv_huge_pages + hs.nr_huge_pages - free
    if free > hs.persistent:
        free = max(0, free - hs.surplus_huge_pages)
    return hs.resv_huge_pages + hs.persistent - free


def _remove_pool_pages(host: Host, hs: HState, wanted: int, allowed: Sequence[int]) -> Blocks:
    """Take free pages off the pool, round robin over the nodes that have some; in the order removed."""
    parts: list[Blocks] = []
    while wanted > 0:
        visited = ring(allowed, hs.next_nid_to_free)
        nids = [n for n in visited if hs.free_node[n] > 0]
        if not nids:
            hs.next_nid_to_free = visited[0]
            break
        rounds = max(1, min(wanted // len(nids), min(hs.free_node[n] for n in nids)))
        nids = nids[: min(len(nids), wanted)]
        columns = [dequeue(host, hs, nid, rounds) for nid in nids]
        parts.append(np.stack(columns, axis=1).ravel())
        wanted -= rounds * len(nids)
        hs.next_nid_to_free = after(allowed, nids[-1])
    heads = np.concatenate(parts) if parts else NO_BLOCKS
    account_pages(host, hs, heads, -1)
    return heads


# -- one fresh page, or as many as one rule holds for -------------------------------------------------------


def _alloc_fresh(host: Host, call: Call, hs: HState, wanted: int, allowed: Sequence[int]) -> Blocks:
    """Fresh huge pages in the order a page-by-page loop would get them; at least one unless no node has any.

    Where each page frees its vmemmap before the next one is taken, they come one by one.
    """
    if hs.gigantic:
        return _alloc_fresh_gigantic(host, call, hs, allowed)
    visited = ring(allowed, hs.next_nid_to_alloc)
    fault = host.faults.get(FaultPoint.HUGEPAGE_ALLOC)
    one_by_one = (fault is not None and fault.armed) or (host.optimize_enabled and not host.profile.bulk)
    rounds = 1 if one_by_one else max(1, min(wanted, host.mem.nr_blocks) // len(visited))
    columns: dict[int, Blocks] = {}
    for nid in visited:
        if _injected(host, call, hs, nid):
            continue
        columns[nid] = fresh_huge_pages(host, nid, rounds)
        if (one_by_one and columns[nid].size) or sum(column.size for column in columns.values()) == wanted:
            break
    heads = _in_turn(list(columns.values()))
    _count_allocations(host, call, visited, columns)
    if heads.size == 0:
        hs.next_nid_to_alloc = visited[0]
        return heads
    hs.next_nid_to_alloc = after(allowed, host.node_of_block(int(heads[-1])))
    return heads


def _in_turn(columns: list[Blocks]) -> Blocks:
    """One page of each column after the other, round by round; short columns run out."""
    if not columns:
        return NO_BLOCKS
    place = np.concatenate([np.arange(column.size) for column in columns])
    heads: Blocks = np.concatenate(columns)[np.argsort(place, kind="stable")]
    return heads


def _count_allocations(host: Host, call: Call, visited: list[int], columns: dict[int, Blocks]) -> None:
    """A node that has fewer pages than another one was asked in vain for the rest."""
    most = max((int(column.size) for column in columns.values()), default=0)
    for nid in visited[: len(columns) or None]:
        have = int(columns[nid].size) if nid in columns else 0
        if have < max(1, most):
            call.full_nodes.add(nid)
            host.count("htlb_buddy_alloc_fail", max(1, most) - have)
    host.count("htlb_buddy_alloc_success", sum(int(column.size) for column in columns.values()))


def _injected(host: Host, call: Call, hs: HState, nid: int) -> bool:
    """Whether fault injection fails this request for a huge page of a node."""
    fault = host.faults.get(FaultPoint.HUGEPAGE_ALLOC)
    if fault is None or not fault.should_fail(hs.pages):
        return False
    call.injected = True
    call.injected_nodes.add(nid)
    return True


def _alloc_fresh_gigantic(host: Host, call: Call, hs: HState, allowed: Sequence[int]) -> Blocks:
    for nid in ring(allowed, hs.next_nid_to_alloc):
        hs.next_nid_to_alloc = after(allowed, nid)
        if _injected(host, call, hs, nid):
            continue
        first = alloc_gigantic_block(host, call, nid)
        if first is not None:
            host.mem.flags[first : first + hs.blocks] = BlockFlag.GIGANTIC
            host.mem.flags[first] |= BlockFlag.HEAD
            return np.array([first], np.int64)
    return NO_BLOCKS


def _why_no_page(host: Host, call: Call, hs: HState, nid: int) -> Reason:
    """The reason a node has no further huge page: a watermark, or no free block of the size."""
    if nid in call.injected_nodes:
        return Reason.INJECTED_FAULT
    if hs.gigantic:
        return Reason.NO_CONTIGUOUS_MEMORY
    zones = node_zonelist(host.nodes[nid], ZONE_MOVABLE)
    blocked = any(has_free_block(host.mem, zone, movable=True) for zone in zones)
    return Reason.WATERMARK if blocked else Reason.NO_CONTIGUOUS_MEMORY


def check_size(host: Host, order: int | None, name: str) -> HState:
    """The hstate of a size word.  Raises ENOENT when the machine has no such size."""
    if order is None or order not in host.hstates:
        known = ", ".join(hs.size for hs in host.hstates.values())
        raise MMError(
            "ENOENT", f"no huge page size {name!r} on this host; it has {known}", sizes=known.split(", ")
        )
    return host.hstates[order]
