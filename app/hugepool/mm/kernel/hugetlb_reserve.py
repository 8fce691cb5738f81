"""Reservations, surplus pages and the life of a huge page in use.

Source: mm/hugetlb.c hugetlb_acct_memory(), gather_surplus_pages(), return_unused_surplus_pages(),
free_huge_page() (5.14).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hugepool.mm.kernel import hugetlb_cgroup, hugetlb_page
from hugepool.mm.kernel.hugetlb_page import account_pages, after, dequeue, enqueue, ring
from hugepool.mm.kernel.hugetlb_subpool import mount_of, put_pages
from hugepool.mm.kernel.optimize import optimize
from hugepool.mm.machine.fault_inject import FaultPoint
from hugepool.mm.machine.mmzone import NO_BLOCKS, BlockFlag, Blocks
from hugepool.mm.machine.state import Call, Host, HState


@dataclass(frozen=True, slots=True)
class Policy:
    """Where a task's pages may come from: nodes in order of preference, only these when ``strict`` (bound).

    ``local``: the node the task runs on, where reservations gather their surplus pages.
    """

    order: tuple[int, ...]
    local: int
    strict: bool = False


def policy_of(host: Host, mode: str, nodes: Sequence[int], local: int, index: int = 0) -> Policy:
    """The nodes a page of a task may come from, preferred first.

    Source: mm/mempolicy.c huge_node(), policy_node() (5.14).
    """
    by_distance = _by_distance(host, local)
    if mode == "bind":
        return Policy(tuple(n for n in by_distance if n in nodes), local, strict=True)
    if mode == "interleave" and nodes:
        first = sorted(nodes)[index % len(nodes)]
        return Policy(tuple(_by_distance(host, first)), local)
    if mode == "preferred" and nodes:
        return Policy(tuple(_by_distance(host, min(nodes))), local)
    return Policy(tuple(by_distance), local)


def _by_distance(host: Host, local: int) -> list[int]:
    origin = host.nodes[local]
    have = host.memory_nodes()
    return sorted(have, key=lambda n: (origin.distance[n], (n - local) % len(host.nodes)))


# -- reservations -----------------------------------------------------------------------------------------


def acct_memory(host: Host, call: Call, hs: HState, delta: int, policy: Policy) -> bool:
    """Reserve ``delta`` pages, allocating surplus ones when the pool is short; False when it cannot be.

    Source: mm/hugetlb.c hugetlb_acct_memory() (5.14).
    """
    if delta == 0:
        return True
    if not _gather_surplus_pages(host, call, hs, delta, policy):
        return False
    if delta > sum(hs.free_node[n] for n in policy.order):  # bound, or promised twice
        return_unused_surplus_pages(host, call, hs, delta)
        return False
    return True


def _gather_surplus_pages(host: Host, call: Call, hs: HState, delta: int, policy: Policy) -> bool:
    needed = hs.resv_huge_pages + delta - hs.free_huge_pages
    if needed <= 0:
        hs.resv_huge_pages += delta
        return True
    anywhere = _gathering(host, policy)
    parts: list[Blocks] = []
    while needed > 0:
        heads = alloc_surplus_pages(host, call, hs, anywhere, needed)
        if not heads.size:
            for page in np.concatenate(parts).tolist() if parts else ():
                free_huge_page(host, call, hs, page)
            return False
        parts.append(heads)
        needed -= int(heads.size)
    hs.resv_huge_pages += delta
    enqueue(host, hs, np.concatenate(parts))
    return True


def _gathering(host: Host, policy: Policy) -> Policy:
    """The nodes that surplus pages of a reservation come from: any, the preferred one first.

    Source: mm/hugetlb.c gather_surplus_pages() (5.14, 6.12, 6.18).
    """
    first = policy.local
    if host.profile.gathers_from_lowest_node:
        first = min(policy.order if policy.strict else host.memory_nodes())
    return Policy(tuple(_by_distance(host, first)), policy.local)


def return_unused_surplus_pages(host: Host, call: Call, hs: HState, unused: int) -> None:
    """Drop ``unused`` reservations and release as many surplus pages, synchronously.

    Source: mm/hugetlb.c return_unused_surplus_pages() (5.14).
    """
    hs.resv_huge_pages -= unused
    if hs.gigantic and not host.profile.returns_gigantic_surplus:
        return
    heads = []
    for _ in range(min(unused, hs.surplus_huge_pages)):
        nodes = ring(host.memory_nodes(), hs.next_nid_to_free)
        nid = next((n for n in nodes if hs.surplus_node[n] > 0 and hs.free_node[n] > 0), None)
        if nid is None:
            break
        hs.next_nid_to_free = after(host.memory_nodes(), nid)
        heads.append(int(dequeue(host, hs, nid, 1)[0]))
        account_pages(host, hs, np.array(heads[-1:], np.int64), -1, surplus=True)
    hugetlb_page.update_and_free_pages(
        host, call, hs, np.array(heads[::-1], np.int64), hugetlb_page.ResizeResult(0)
    )


# -- a page for a fault -----------------------------------------------------------------------------------


def alloc_surplus_pages(host: Host, call: Call, hs: HState, policy: Policy, wanted: int) -> Blocks:
    """Up to ``wanted`` fresh surplus pages from the buddy, in use, as a page-by-page loop would get them.

    None at all means: over the limit, gigantic, or no memory.
    Source: mm/hugetlb.c alloc_surplus_huge_page() (5.14).
    """
    wanted = min(wanted, hs.nr_overcommit_huge_pages - hs.surplus_huge_pages)
    if hs.gigantic or wanted <= 0:
        return NO_BLOCKS
    fault = host.faults.get(FaultPoint.HUGEPAGE_ALLOC)
    if fault is not None and fault.armed:
        wanted = 1
        if fault.should_fail(hs.pages):
            call.injected = True
            return NO_BLOCKS
    for nid in policy.order:
        together = host.profile.bulk or not host.optimize_enabled
        heads = hugetlb_page.fresh_huge_pages(host, nid, wanted if together else 1)
        if heads.size == 0:
            continue
        host.count("htlb_buddy_alloc_success", int(heads.size))
        optimize(host, call, hs, heads)
        account_pages(host, hs, heads, +1, surplus=True)
        return heads
    host.count("htlb_buddy_alloc_fail")
    return NO_BLOCKS


def count_hugetlb(host: Host, hs: HState, head: int, sign: int) -> None:
    """A page was taken by a fault (+1), or its last reference goes (-1); moving to another one counts neither.

    Source: mm/hugetlb.c alloc_hugetlb_folio(), free_huge_folio() (6.18).
    """
    if host.profile.counts_hugetlb:
        host.count_on_node(host.node_of_block(head), "nr_hugetlb", sign * hs.pages)


def free_huge_page(host: Host, call: Call, hs: HState, head: int, *, promised: bool = False) -> None:
    """The last reference of a huge page in use goes.

    Only the node's surplus counter decides: any page freed on a node with surplus is the one released.  Its charges
    go at once, also where it waits for the worker or cannot be released; a page of a mount below its minimum is
    reserved again, and so is one that stays ``promised``.
    Source: mm/hugetlb.c free_huge_page() (5.14).
    """
    charge = hugetlb_cgroup.uncharge_page(host, hs, head)
    mount = mount_of(host, charge.mount)
    if promised or (mount is not None and put_pages(mount, 1) == 0):
        hs.resv_huge_pages += 1
    one = np.array([head], np.int64)
    host.mem.flags[head] &= 255 - BlockFlag.STAYS
    count_hugetlb(host, hs, head, -1)
    if hs.surplus_node[host.node_of_block(head)] > 0:
        account_pages(host, hs, one, -1, surplus=True)
        hugetlb_page.update_and_free_page_atomic(host, call, hs, head)
    else:
        enqueue(host, hs, one)


def free_temporary_page(host: Host, call: Call, hs: HState, head: int) -> None:
    """The last reference of a huge page goes that moved to a fresh one: it is released, not pooled.

    Source: mm/hugetlb.c free_huge_page() (5.14).
    """
    host.mem.flags[head] &= 255 - BlockFlag.STAYS
    count_hugetlb(host, hs, head, -1)
    account_pages(host, hs, np.array([head], np.int64), -1)
    hugetlb_page.update_and_free_page_atomic(host, call, hs, head)
