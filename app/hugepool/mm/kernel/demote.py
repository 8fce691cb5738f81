"""Splitting free gigantic pages into huge pages of a smaller size, without a way through the buddy.

Source: mm/hugetlb.c demote_store(), demote_pool_huge_page() (6.1, 6.12); demote_free_huge_page() (6.1),
demote_free_hugetlb_folios() (6.12).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hugepool.mm.kernel.hugetlb import add_fresh_pages
from hugepool.mm.kernel.hugetlb_page import (
    ResizeResult,
    account_pages,
    after,
    dequeue,
    enqueue,
    restore_one,
    ring,
)
from hugepool.mm.kernel.hugetlb_vmemmap import VmemmapRestoreFailed
from hugepool.mm.machine.mmzone import BlockFlag, Blocks
from hugepool.mm.machine.state import Call, Host, HState


@dataclass(slots=True)
class Demoted:
    """How many pages were split, and what ended it early: a refused restore, or that no node had a free page."""

    pages: int = 0
    failure: VmemmapRestoreFailed | None = None
    none_free: bool = False


def demote_pages(
    host: Host, call: Call, hs: HState, target: HState, count: int, allowed: Sequence[int]
) -> Demoted:
    """Split up to ``count`` free pages into pages of ``target``.

    Before each step the kernel asks whether the free pages outnumber the reservations.  The subtraction is unsigned,
    so a lack of pages passes as well.  Up to 6.6 a step is one page; later it is all that are left to do, reserved
    or not.
    """
    done = Demoted()
    together = host.profile.demotes_reserved
    while done.pages < count and done.failure is None and _unpromised(hs, allowed):
        if together:
            pages, done.failure = _demote_many(host, call, hs, target, count - done.pages, allowed)
        else:
            pages, done.failure = _demote_one(host, call, hs, target, allowed)
        done.pages += pages
        if pages == 0 and done.failure is None:
            done.none_free = True
            break
    return done


def _unpromised(hs: HState, allowed: Sequence[int]) -> int:
    """Free pages less all reservations; of one node for its own file (unsigned in the kernel: not zero is enough)."""
    free = hs.free_node[allowed[0]] if len(allowed) == 1 else hs.free_huge_pages
    return free - hs.resv_huge_pages


def _demote_one(
    host: Host, call: Call, hs: HState, target: HState, allowed: Sequence[int]
) -> tuple[int, VmemmapRestoreFailed | None]:
    """The head of the first node that has a free page."""
    nid = next((n for n in ring(allowed, hs.next_nid_to_free) if hs.free_node[n] > 0), None)
    if nid is None:
        return 0, None
    hs.next_nid_to_free = after(allowed, nid)
    head = dequeue(host, hs, nid, 1)
    account_pages(host, hs, head, -1)
    return _restore_and_split(host, call, hs, target, head)


def _demote_many(
    host: Host, call: Call, hs: HState, target: HState, count: int, allowed: Sequence[int]
) -> tuple[int, VmemmapRestoreFailed | None]:
    """Free pages of node after node, up to ``count``."""
    done = 0
    for nid in ring(allowed, hs.next_nid_to_free):
        hs.next_nid_to_free = after(allowed, nid)
        heads = dequeue(host, hs, nid, count - done)
        account_pages(host, hs, heads, -1)
        demoted, failure = _restore_and_split(host, call, hs, target, heads[::-1])
        done += demoted
        if failure is not None or done == count:
            return done, failure
    return done, None


def _restore_and_split(
    host: Host, call: Call, hs: HState, target: HState, heads: Blocks
) -> tuple[int, VmemmapRestoreFailed | None]:
    """Restore pages of one node in order up to the first refusal, and split those that have their vmemmap.

    The others go back into the pool.
    """
    result = ResizeResult(0)
    restored = (restore_one(host, call, hs, heads[i : i + 1], result) for i in range(heads.size))
    failed = not all(restored)
    optimized = (host.mem.flags[heads] & BlockFlag.OPTIMIZED) != 0
    whole = heads[~optimized]
    if whole.size:
        add_fresh_pages(host, call, target, _split(host, hs, target, whole))
    account_pages(host, hs, heads[optimized], +1)
    enqueue(host, hs, heads[optimized])
    hs.max_huge_pages -= int(whole.size)
    target.max_huge_pages += int(whole.size) * (hs.blocks // target.blocks)
    return int(whole.size), next(iter(result.failures.values())) if failed else None


def _split(host: Host, hs: HState, target: HState, heads: Blocks) -> Blocks:
    """The parts of gigantic pages as pages of ``target``, in the order in which they are put on its list."""
    offsets = np.arange(0, hs.blocks, target.blocks)
    if host.profile.demotes_reserved:  # collected on a list, whose head goes first
        offsets = offsets[::-1]
    parts: Blocks = (heads[:, None] + offsets).ravel()
    host.mem.flags[parts] = BlockFlag.HEAD
    host.mem.seq[parts] = 0
    return parts
