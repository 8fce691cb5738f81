"""Poisoned pages: memory that is bad (hard), or that is to be taken out before it turns bad (soft).

Source: mm/memory-failure.c memory_failure(), memory_failure_hugetlb(), soft_offline_page() (5.14).
"""

from collections.abc import Callable

import numpy as np

from hugepool.mm.kernel.dissolve import dissolve_free_huge_page
from hugepool.mm.kernel.hugetlb_page import put_last, run_free_hpage_work
from hugepool.mm.kernel.hugetlb_reserve import free_huge_page
from hugepool.mm.kernel.hugetlb_resv_map import unreserve_pages
from hugepool.mm.kernel.migrate import migrate_huge_page, migrate_pages, not_migratable
from hugepool.mm.kernel.page_isolation import word_of
from hugepool.mm.kernel.pcp import drain
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.memory_outcomes import Action
from hugepool.mm.machine.mmzone import MOVABLE_USES, BlockFlag, Use
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.rmap import disown, disown_huge
from hugepool.mm.machine.state import Call, Host, HState
from hugepool.mm.machine.units import BLOCKS_PER_1G, ORDER_1G, ORDER_2M, PAGEBLOCK_PAGES

FREE_USES = (Use.BUDDY, Use.PCP)
TAKEN = ("taken", "unmapped", "migrated", "dissolved")  # what leaves one bad page behind


def poison(host: Host, call: Call, pfn: int, mode: str) -> Action:
    """Take a page out of use for good, because it turned bad (``hard``) or before it does (``soft``).

    Returns:
        ``taken`` from the free pages, ``unmapped`` from its task, ``migrated``, ``dissolved`` with the huge page
        around it, ``kept`` in the pool although the kernel reports success (5.14), ``ignored``, or ``lost`` with its
        whole huge page.

    Raises:
        MMError: ENXIO no memory of a running zone; EBUSY kernel memory, a page in flight, a gigantic page in use, no
            place to migrate to, or (5.15+) a huge page that cannot be dissolved; ``result`` is what happened to one
            in use that its task has lost all the same: ``unmapped``, ``migrated``.
    """
    use = _use_of(host, pfn)
    try:
        action = _act(host, call, pfn, use, mode)
    except MMError as refusal:
        host.poisoned_pages += refusal.result is not None and mode == "hard"
        raise
    if action in TAKEN:
        if host.mem.page_use(pfn) == Use.PCP:
            drain(host, host.mem.zones_of(np.array([pfn // PAGEBLOCK_PAGES])))
        host.mem.assign_pages(np.array([pfn]), Use.POISON)
    host.poisoned_pages += action != "ignored"
    return action


def _use_of(host: Host, pfn: int) -> Use:
    if 0 <= pfn < host.mem.nr_blocks * PAGEBLOCK_PAGES:
        use = Use(host.mem.page_use(pfn))
        if use != Use.HOLE and host.mem.zone[pfn // PAGEBLOCK_PAGES]:
            return use
    raise MMError("ENXIO", "no memory of a running zone at this page", pfn=min(max(pfn, -1), 1 << 40))


def _act(host: Host, call: Call, pfn: int, use: Use, mode: str) -> Action:
    if use == Use.POISON:
        return "ignored"
    if use in FREE_USES:
        return "taken"
    if use in MOVABLE_USES:
        return _unmap(host, pfn) if mode == "hard" or use == Use.PAGE_CACHE else _migrate(host, call, pfn)
    if use == Use.HUGETLB:
        return _huge(host, call, pfn, mode)
    word = word_of(use)
    raise MMError("EBUSY", f"page {pfn} is {word} memory: it cannot be given up", reason=Reason.UNMOVABLE_PAGE, pfn=pfn,
                  use=word)  # fmt: skip


def _unmap(host: Host, pfn: int) -> Action:
    disown(host, pfn)
    return "unmapped"


def _migrate(host: Host, call: Call, pfn: int) -> Action:
    nid = host.node_of_block(pfn // PAGEBLOCK_PAGES)
    if not migrate_pages(
        host, np.array([pfn]), Use.ANON, [nid, *(n for n in host.memory_nodes() if n != nid)]
    ):
        raise MMError("EBUSY", f"no free page to move page {pfn} to", reason=Reason.MIGRATION_TARGET, pfn=pfn)
    call.emit(Event.PAGES_MIGRATED, count=1, start_pfn=pfn)
    return "migrated"


# -- huge pages -------------------------------------------------------------------------------------------


def _huge(host: Host, call: Call, pfn: int, mode: str) -> Action:
    head, hs = _head_of(host, pfn)
    flags = int(host.mem.flags[head])
    if flags & BlockFlag.QUEUED:
        raise MMError(
            "EBUSY", f"page {pfn} waits for the deferred-free worker", reason=Reason.IN_FLIGHT, pfn=pfn
        )
    act = (_hard if mode == "hard" else _soft)[bool(flags & BlockFlag.FREE)]
    return act(host, call, hs, head, pfn)


def _head_of(host: Host, pfn: int) -> tuple[int, HState]:
    block = pfn // PAGEBLOCK_PAGES
    if host.mem.flags[block] & BlockFlag.GIGANTIC:
        return block // BLOCKS_PER_1G * BLOCKS_PER_1G, host.hstates[ORDER_1G]
    return block, host.hstates[ORDER_2M]


def _hard_free(host: Host, call: Call, hs: HState, head: int, pfn: int) -> Action:
    if pfn != head * PAGEBLOCK_PAGES and host.profile.poison_ignores_tails:
        return "ignored"
    action = _dissolve(host, call, hs, head)
    if action == "kept":  # a head page with the mark is passed over when pages are handed out
        put_last(host, hs, head)
    call.printk(f"Memory failure: {pfn:#x}: recovery action for free huge page: Recovered")
    return action


def _hard_used(host: Host, call: Call, hs: HState, head: int, pfn: int) -> Action:
    if hs.gigantic:
        raise MMError("EBUSY", "pages in use that are larger than 2 MiB are left alone", reason=Reason.GIGANTIC_PAGE,
                      pfn=pfn)  # fmt: skip
    files = disown_huge(host, hs, head)
    free_huge_page(host, call, hs, head)
    for file, index in files:
        unreserve_pages(host, call, file, index, index + 1, 1)
    try:
        action = _give_up(host, call, hs, head, "unmapped", _dissolve_marked)
    except MMError:
        call.printk(f"Memory failure: {pfn:#x}: recovery action for huge page: Failed")
        raise
    call.printk(f"Memory failure: {pfn:#x}: recovery action for huge page: Recovered")
    return action


def _dissolve_marked(host: Host, call: Call, hs: HState, head: int, _pfn: int) -> Action:
    try:
        return _dissolve(host, call, hs, head)
    except MMError:  # the mark stays on it, and it is passed over when pages are handed out
        put_last(host, hs, head)
        raise


def _soft_free(host: Host, call: Call, hs: HState, head: int, _pfn: int) -> Action:
    action = _dissolve(host, call, hs, head)
    if action == "kept":  # the mark stays on a tail page, and spoils the free of the whole huge page
        host.mem.flags[head] |= BlockFlag.SPOILT
        host.mem.mark_dirty(np.array([head]))
    return action


def _soft_used(host: Host, call: Call, hs: HState, head: int, pfn: int) -> Action:
    if host.mem.flags[head] & BlockFlag.STAYS:
        raise not_migratable(head)
    nid = host.node_of_block(head)
    nids = sorted(host.memory_nodes(), key=lambda n: host.nodes[nid].distance[n])
    if not migrate_huge_page(host, call, hs, head, nids):
        raise MMError("EBUSY", f"no huge page to move page {pfn} to", reason=Reason.MIGRATION_TARGET, pfn=pfn)
    return _give_up(host, call, hs, head, "migrated", _soft_free)


def _give_up(host: Host, call: Call, hs: HState, head: int, had: Action, act: "_Act") -> Action:
    """A huge page that was just freed: out of the pool, or out of what the worker made of it.

    A refusal's ``result`` is what took it from its task, ``had``: that is not undone.
    """
    run_free_hpage_work(host, call)
    if host.mem.use[head] != Use.HUGETLB:
        return "dissolved"
    try:
        return act(host, call, hs, head, head)
    except MMError as refusal:
        refusal.result = had
        raise


def _dissolve(host: Host, call: Call, hs: HState, head: int) -> Action:
    spoilt = bool(host.mem.flags[head] & BlockFlag.SPOILT)
    try:
        dissolve_free_huge_page(host, call, hs, head)
    except MMError as refused:
        if host.profile.poison_takes_failure_for_success:
            return "kept"
        detail = f"the huge page around it cannot leave the pool: {refused.detail}"
        raise MMError("EBUSY", detail, reason=refused.reason, **refused.facts) from None
    return "lost" if spoilt else "dissolved"


_Act = Callable[[Host, Call, HState, int, int], Action]
_hard: tuple[_Act, _Act] = (_hard_used, _hard_free)  # by whether the page is free
_soft: tuple[_Act, _Act] = (_soft_used, _soft_free)
