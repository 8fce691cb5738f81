"""Dissolving: taking free huge pages out of their pool for good.

Source: mm/hugetlb.c dissolve_free_huge_page(), dissolve_free_huge_pages() (5.14).
"""

import numpy as np

from hugepool.mm.kernel.hugetlb_page import (
    ResizeResult,
    account_pages,
    dequeue_pages,
    enqueue,
    release,
)
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.mmzone import Blocks
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Call, Host, HState
from hugepool.mm.machine.units import PAGEBLOCK_PAGES


def dissolve_free_huge_pages(host: Host, call: Call, hs: HState, heads: Blocks) -> tuple[int, MMError | None]:
    """Take free huge pages of one node out of the pool, in order; how many, and what stopped it."""
    done = 0
    for head in heads.tolist():
        try:
            dissolve_free_huge_page(host, call, hs, head)
        except MMError as refusal:
            return done, refusal
        done += 1
    return done, None


def dissolve_free_huge_page(host: Host, call: Call, hs: HState, head: int) -> None:
    """Take one free huge page out of the pool for good.

    Raises:
        MMError: EBUSY every free page is promised; ENOMEM no memory for its vmemmap: it stays as it was.
    Source: mm/hugetlb.c dissolve_free_huge_page() (5.14; surplus taken along since 6.12).
    """
    _dissolve(host, call, hs, np.array([head], np.int64))


def _dissolve(host: Host, call: Call, hs: HState, heads: Blocks) -> None:
    """Take pages out that cannot be refused, or a single one."""
    head = int(heads[0])
    if hs.free_huge_pages - hs.resv_huge_pages == 0:
        raise MMError("EBUSY", f"all {hs.free_huge_pages} free huge pages of {hs.size} are reserved",
                      reason=Reason.ALL_FREE_PAGES_RESERVED, pfn=head * PAGEBLOCK_PAGES)  # fmt: skip
    nid = host.node_of_block(head)
    surplus = host.profile.dissolve_takes_surplus and hs.surplus_node[nid] > 0
    lowered = 0 if surplus and not host.profile.dissolve_lowers_max else int(heads.size)
    dequeue_pages(host, hs, heads)
    account_pages(host, hs, heads, -1, surplus=surplus)
    hs.max_huge_pages = (hs.max_huge_pages - lowered) % 2**64
    result = ResizeResult(0)
    if release(host, call, hs, heads, result, batched=False).size == 0:
        return
    account_pages(host, hs, heads, +1, surplus=surplus)
    enqueue(host, hs, heads)
    hs.max_huge_pages = (hs.max_huge_pages + lowered) % 2**64
    failure = result.failures[nid]
    raise MMError("ENOMEM", f"no memory on node {nid} for the vmemmap of the huge page at {head * PAGEBLOCK_PAGES}",
                  reason=Reason.INJECTED_FAULT if failure.injected else Reason.VMEMMAP_RESTORE, node=nid,
                  pfn=head * PAGEBLOCK_PAGES, pages_needed=failure.pages_needed,
                  pages_available=failure.pages_available)  # fmt: skip
