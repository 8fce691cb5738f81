"""Moving pages out of a range: single movable pages, and huge pages in use.

Source: mm/migrate.c alloc_migration_target(), unmap_and_move_huge_page(); mm/hugetlb.c
alloc_huge_page_nodemask(), move_hugetlb_state() (5.14).
"""

from collections.abc import Sequence

import numpy as np

from hugepool.mm.kernel.hugetlb_page import (
    account_pages,
    dequeue,
    dequeue_page,
    fresh_huge_pages,
    run_free_hpage_work,
)
from hugepool.mm.kernel.hugetlb_reserve import free_huge_page, free_temporary_page
from hugepool.mm.kernel.optimize import optimize
from hugepool.mm.kernel.page_alloc import alloc_pages, zonelist
from hugepool.mm.kernel.page_isolation import pages_of_use
from hugepool.mm.kernel.pcp import free_pages
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.fault_inject import FaultPoint
from hugepool.mm.machine.mmzone import MOVABLE_USES, ZONE_MOVABLE, BlockFlag, Blocks, Migrate, Pfns, Use
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.rmap import move_huge_owner, move_owner
from hugepool.mm.machine.state import Call, Host, HState
from hugepool.mm.machine.units import PAGEBLOCK_PAGES


def other_nodes(host: Host, nid: int) -> list[int]:
    """Nodes that pages of an offlined block may go to: all with memory but its own, unless it is the only one."""
    others = [n for n in host.memory_nodes() if n != nid]
    return sorted(others, key=lambda n: host.nodes[nid].distance[n]) or [nid]


def migrate_single_pages(host: Host, call: Call, blocks: Blocks, nids: Sequence[int]) -> tuple[int, int]:
    """Move movable single pages out of isolated pageblocks; how many moved, how many found no target."""
    moved = sum(migrate_pages(host, pages_of_use(host.mem, blocks, use), use, nids) for use in MOVABLE_USES)
    left = int(pages_of_use(host.mem, blocks, *MOVABLE_USES).size)
    host.count("pgmigrate_success", moved)
    host.count("pgmigrate_fail", left)
    if moved:
        call.emit(Event.PAGES_MIGRATED, count=moved, start_pfn=int(blocks[0]) * PAGEBLOCK_PAGES)
    return moved, left


def migrate_pages(host: Host, pfns: Pfns, use: Use, nids: Sequence[int]) -> int:
    """Move single pages of a use (rising) to free ones of some nodes, as many as there is room; how many."""
    if pfns.size == 0:
        return 0
    zones = [z for z in zonelist(host.nodes, nids[0], ZONE_MOVABLE) if z.nid in nids]
    goal = alloc_pages(host, zones, pfns.size, Migrate.MOVABLE, ZONE_MOVABLE, use)
    source = pfns[: goal.size]
    free_pages(host, source)
    move_owner(host, source, goal)
    return int(goal.size)


def used_huge_pages(host: Host, hs: HState, blocks: Blocks) -> Blocks:
    """First pageblocks of huge pages in use that lie in the pageblocks, gigantic ones maybe in part."""
    return _huge_pages(host, hs, blocks, free=False)


def movable_huge_pages(host: Host, hs: HState, blocks: Blocks) -> Blocks:
    """Those of them that can be migrated."""
    heads = used_huge_pages(host, hs, blocks)
    movable: Blocks = heads[host.mem.flags[heads] & BlockFlag.STAYS == 0]
    return movable


def free_huge_pages(host: Host, hs: HState, blocks: Blocks) -> Blocks:
    """First pageblocks of free huge pages that lie in the pageblocks, gigantic ones maybe in part."""
    return _huge_pages(host, hs, blocks, free=True)


def not_migratable(head: int) -> MMError:
    """The refusal to move a huge page that moved to a fresh page of its own node before (6.18)."""
    pfn = head * PAGEBLOCK_PAGES
    detail = f"the huge page at {pfn} was moved to this place, and cannot be moved again until it is freed"
    return MMError("EBUSY", detail, reason=Reason.NOT_MIGRATABLE, pfn=pfn)


def held_by_mount(host: Host, head: int) -> bool:
    """Whether it is a private copy that counts for a hugetlbfs mount with limits: no kernel migrates such a page.

    Source: mm/migrate.c unmap_and_move_huge_page() (5.14).
    """
    charge = host.page_charges.get(head)
    if charge is None or not charge.mount:
        return False
    files = (file for file in host.files.values() if file.mount == charge.mount)
    return not any(head in file.pages.values() for file in files)


def _huge_pages(host: Host, hs: HState, blocks: Blocks, *, free: bool) -> Blocks:
    if hs.gigantic:  # each by its first pageblock, wherever that is
        part = blocks[host.mem.flags[blocks] & BlockFlag.GIGANTIC != 0]
        blocks = np.unique(part // hs.blocks * hs.blocks)
    flags = host.mem.flags[blocks]
    gigantic = BlockFlag.GIGANTIC if hs.gigantic else 0
    kind = flags & (BlockFlag.HEAD | BlockFlag.GIGANTIC | BlockFlag.QUEUED)
    listed = (flags & BlockFlag.FREE) != 0
    heads: Blocks = blocks[(kind == (BlockFlag.HEAD | gigantic)) & (listed if free else ~listed)]
    return heads


def migrate_huge_page(host: Host, call: Call, hs: HState, head: int, nids: Sequence[int]) -> bool:
    """Move one huge page in use; False when there is no target, or the page cannot move.

    The target is a free page of the pool while unreserved ones are left, wherever it lies, else a fresh page;
    a fresh one leaves the source temporary, so that it is released and not pooled.  An optimised source waits for the
    deferred-free worker, which keeps up but for the last one: it has freed those from before.
    """
    if held_by_mount(host, head):
        return False
    if host.deferred_mode == "auto" and not host.profile.restore_waits:
        run_free_hpage_work(host, call)
    target, fresh = _target(host, call, hs, nids)
    if target is None:
        return False
    move_huge_owner(host, hs, head, target)
    if fresh:
        _move_hugetlb_state(host, hs, head, target)
        free_temporary_page(host, call, hs, head)
    else:
        free_huge_page(host, call, hs, head)
    host.count("pgmigrate_success", hs.pages if host.profile.migration_counts_base_pages else 1)
    call.emit(
        Event.HUGE_PAGE_MIGRATED,
        size=hs.size,
        pfn=head * PAGEBLOCK_PAGES,
        target_pfn=target * PAGEBLOCK_PAGES,
    )
    return True


def _target(host: Host, call: Call, hs: HState, nids: Sequence[int]) -> tuple[int | None, bool]:
    fault = host.faults.get(FaultPoint.MIGRATION_TARGET)
    if fault is not None and fault.should_fail(hs.pages):
        call.injected = True
        return None, False
    if hs.available:
        for nid in nids:
            pooled = _pooled(host, hs, nid)
            if pooled is not None:
                return pooled, False
    if hs.gigantic:
        return None, False
    for nid in nids:
        heads = fresh_huge_pages(host, nid, 1)
        if heads.size:
            optimize(host, call, hs, heads)
            account_pages(host, hs, heads, +1)
            return int(heads[0]), True
    return None, False


def _pooled(host: Host, hs: HState, nid: int) -> int | None:
    """A free page of a node's pool, taken; 6.18 leaves those of isolated pageblocks alone.

    Source: mm/hugetlb.c dequeue_huge_page_node_exact() (5.14, 6.18).
    """
    if not host.profile.dequeue_skips_isolated:
        return int(dequeue(host, hs, nid, 1)[0]) if hs.free_node[nid] else None
    heads = hs.free_lists[nid].items()[::-1]
    usable = heads[host.mem.mt[heads] != Migrate.ISOLATE]
    if usable.size == 0:
        return None
    dequeue_page(host, hs, int(usable[0]))
    return int(usable[0])


def _move_hugetlb_state(host: Host, hs: HState, head: int, target: int) -> None:
    """Across nodes a unit of surplus goes along; on 6.18 a page that stays on its node cannot move again.

    Source: mm/hugetlb.c move_hugetlb_state() (5.14, 6.18).
    """
    old, new = host.node_of_block(head), host.node_of_block(target)
    if old == new:
        if host.profile.fresh_target_stays:
            host.mem.flags[target] |= BlockFlag.STAYS
        return
    if hs.surplus_node[old]:
        hs.surplus_node[old] -= 1
        hs.surplus_node[new] += 1
