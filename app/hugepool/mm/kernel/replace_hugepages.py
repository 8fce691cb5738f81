"""Swapping free huge pages of a range for fresh ones of the same node, so that the range becomes free.

Source: mm/hugetlb.c alloc_and_dissolve_huge_page() (5.14), replace_free_hugepage_folios() (6.18).
"""

from dataclasses import dataclass

import numpy as np

from hugepool.mm.kernel.hugetlb_page import (
    ResizeResult,
    account_pages,
    dequeue_page,
    enqueue,
    fresh_huge_pages,
    update_and_free_pages,
)
from hugepool.mm.kernel.optimize import optimize
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.fault_inject import FaultPoint
from hugepool.mm.machine.mmzone import BlockFlag, Blocks
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Call, Host, HState
from hugepool.mm.machine.units import PAGEBLOCK_PAGES


@dataclass(slots=True)
class ContigProgress:
    """What an allocation of a range did on its way; kept even when it fails."""

    migrated_pages: int = 0
    migrated_hugepages: int = 0
    replaced_hugepages: int = 0
    refused_hugepages: int = 0


def replace_page(host: Host, call: Call, hs: HState, head: int, progress: ContigProgress) -> None:
    """Swap one free huge page; if its vmemmap cannot be restored, it stays as a surplus page besides the fresh one.

    Raises:
        MMError: ENOMEM no fresh page on its node.
    """
    fresh = _fresh_pages(host, call, hs, head, 1)
    old = np.array([head], np.int64)
    dequeue_page(host, hs, head)
    account_pages(host, hs, old, -1)
    account_pages(host, hs, fresh, +1)
    enqueue(host, hs, fresh)
    refused = update_and_free_pages(host, call, hs, old, ResizeResult(0), batched=False)
    progress.replaced_hugepages += 1 - int(refused.size)
    progress.refused_hugepages += int(refused.size)


def _fresh_pages(host: Host, call: Call, hs: HState, head: int, wanted: int) -> Blocks:
    nid = host.node_of_block(head)
    fresh = fresh_huge_pages(host, nid, wanted)
    if fresh.size == 0:
        raise MMError("ENOMEM", f"no free 2 MiB page on node {nid} to replace the one at {head * PAGEBLOCK_PAGES}",
                      reason=Reason.NO_CONTIGUOUS_MEMORY, node=nid, pfn=head * PAGEBLOCK_PAGES)  # fmt: skip
    optimize(host, call, hs, fresh)
    return fresh


def replace_all_free(
    host: Host, call: Call, hs: HState, start_pfn: int, end_pfn: int, progress: ContigProgress
) -> None:
    """Swap every free huge page of a range, page frame by page frame (6.18).

    One whose vmemmap cannot be restored is still there at the next page frame, and is tried again: each try costs one
    more fresh page, until none is left on the node.

    Raises:
        MMError: ENOMEM no fresh page on the node.
    """
    for head in range(start_pfn // PAGEBLOCK_PAGES, -(-end_pfn // PAGEBLOCK_PAGES)):
        tries = min(end_pfn, (head + 1) * PAGEBLOCK_PAGES) - max(start_pfn, head * PAGEBLOCK_PAGES)
        while tries > 0 and _is_free_page(host, head):
            tries -= _replace_or_run_away(host, call, hs, head, tries, progress)


def _is_free_page(host: Host, head: int) -> bool:
    wanted = BlockFlag.HEAD | BlockFlag.FREE
    return int(host.mem.flags[head]) & wanted == wanted


def _replace_or_run_away(
    host: Host, call: Call, hs: HState, head: int, tries: int, progress: ContigProgress
) -> int:
    """One try, or as many as are sure to fail; how many."""
    fault = host.faults.get(FaultPoint.VMEMMAP_RESTORE)
    optimized = host.mem.flags[head] & BlockFlag.OPTIMIZED
    if fault is None or not optimized or not fault.fails_all(tries):
        replace_page(host, call, hs, head, progress)
        return 1
    fresh = _fresh_pages(host, call, hs, head, tries)
    count = int(fresh.size)
    call.injected = all(fault.should_fail() for _ in range(count)) or call.injected
    dequeue_page(host, hs, head)
    account_pages(host, hs, fresh, +1)
    hs.surplus_huge_pages += count
    hs.surplus_node[host.node_of_block(head)] += count
    enqueue(host, hs, np.append(fresh, head))
    progress.refused_hugepages += count
    call.emit(Event.VMEMMAP_RESTORE_REFUSED, size=hs.size, count=count)
    return count
