"""Dissolving: taking free huge pages out of their pool for good.

Source: mm/hugetlb.c dissolve_free_huge_page(), dissolve_free_huge_pages() (5.14).
"""

import numpy as np

from app.mm.errors import MMError
from app.mm.hugetlb_page import ResizeResult, account_pages, dequeue_page, enqueue, release
from app.mm.state import Call, Host, HState


def dissolve_free_huge_page(host: Host, call: Call, hs: HState, head: int) -> None:
    """Take one free huge page out of the pool for good.

    Raises:
        MMError: EBUSY every free page is promised; ENOMEM no memory for its vmemmap: it stays as it was.
    Source: mm/hugetlb.c dissolve_free_huge_page() (5.14; surplus taken along since 6.12).
    """
    if hs.free_huge_pages - hs.resv_huge_pages == 0:
        raise MMError("EBUSY", f"all {hs.free_huge_pages} free huge pages of {hs.size} are reserved",
                      reason="all-free-pages-reserved", pfn=head * 512)  # fmt: skip
    one = np.array([head], np.int64)
    nid = host.node_of_block(head)
    surplus = host.profile.dissolve_takes_surplus and hs.surplus_node[nid] > 0
    dequeue_page(host, hs, head)
    account_pages(host, hs, one, -1, surplus=surplus)
    hs.max_huge_pages = (hs.max_huge_pages - (0 if surplus else 1)) % 2**64
    result = ResizeResult(0)
    if release(host, call, hs, one, result, batched=False).size == 0:
        return
    account_pages(host, hs, one, +1, surplus=surplus)
    enqueue(host, hs, one)
    hs.max_huge_pages = (hs.max_huge_pages + (0 if surplus else 1)) % 2**64
    failure = result.failures[nid]
    raise MMError("ENOMEM", f"no memory on node {nid} for the vmemmap of the huge page at {head * 512}",
                  reason="injected-fault" if failure.injected else "vmemmap-restore", node=nid, pfn=head * 512,
                  pages_needed=failure.pages_needed, pages_available=failure.pages_available)  # fmt: skip
