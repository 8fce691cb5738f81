"""Moving pages out of a range: single movable pages, and huge pages in use.

Source: mm/migrate.c alloc_migration_target(), unmap_and_move_huge_page(); mm/hugetlb.c
alloc_huge_page_nodemask(), move_hugetlb_state() (5.14).
"""

from collections.abc import Sequence

import numpy as np

from hugepool.mm.kernel import hugetlb_vmemmap
from hugepool.mm.kernel.hugetlb_page import (
    account_pages,
    dequeue,
    huge_source,
    run_free_hpage_work,
    take_huge_blocks,
)
from hugepool.mm.kernel.hugetlb_reserve import free_huge_page
from hugepool.mm.kernel.page_alloc import alloc_pages, zonelist
from hugepool.mm.kernel.page_isolation import pages_of_use
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.fault_inject import FaultPoint
from hugepool.mm.machine.mmzone import MOVABLE_USES, ZONE_MOVABLE, BlockFlag, Blocks, Migrate, Pfns, Use
from hugepool.mm.machine.rmap import move_huge_owner, move_owner
from hugepool.mm.machine.state import Call, Host, HState


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
        call.emit(Event.PAGES_MIGRATED, count=moved, start_pfn=int(blocks[0]) * 512)
    return moved, left


def migrate_pages(host: Host, pfns: Pfns, use: Use, nids: Sequence[int]) -> int:
    """Move single pages of a use (rising) to free ones of some nodes, as many as there is room; how many."""
    if pfns.size == 0:
        return 0
    zones = [z for z in zonelist(host.nodes, nids[0], ZONE_MOVABLE) if z.nid in nids]
    goal = alloc_pages(host.mem, zones, pfns.size, Migrate.MOVABLE, ZONE_MOVABLE, use)
    source = pfns[: goal.size]
    host.mem.assign_pages(source, Use.BUDDY)
    move_owner(host, source, goal)
    return int(goal.size)


def used_huge_pages(host: Host, hs: HState, blocks: Blocks) -> Blocks:
    """First pageblocks of huge pages in use that lie in the pageblocks, gigantic ones maybe in part."""
    return _huge_pages(host, hs, blocks, free=False)


def free_huge_pages(host: Host, hs: HState, blocks: Blocks) -> Blocks:
    """First pageblocks of free huge pages that lie in the pageblocks, gigantic ones maybe in part."""
    return _huge_pages(host, hs, blocks, free=True)


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
    """Move one huge page in use; False when there is no target.

    The target is a free page of the pool while unreserved ones are left, wherever it lies, else a fresh page;
    a fresh one leaves the source temporary, so that it is released and not pooled.
    """
    target, fresh = _target(host, call, hs, nids)
    if target is None:
        return False
    if fresh:
        host.mem.flags[head] |= BlockFlag.TEMPORARY
        _carry_surplus(host, hs, head, target)
    move_huge_owner(host, hs, head, target)
    free_huge_page(host, call, hs, head)
    host.count("pgmigrate_success", hs.pages if host.profile.migration_counts_base_pages else 1)
    if host.deferred_mode == "auto" and not host.profile.restore_waits:  # the worker keeps up
        run_free_hpage_work(host, call)
    call.emit(Event.HUGE_PAGE_MIGRATED, size=hs.size, pfn=head * 512, target_pfn=target * 512)
    return True


def _target(host: Host, call: Call, hs: HState, nids: Sequence[int]) -> tuple[int | None, bool]:
    fault = host.faults.get(FaultPoint.MIGRATION_TARGET)
    if fault is not None and fault.should_fail(hs.pages):
        call.injected = True
        return None, False
    if hs.available:
        for nid in nids:
            if hs.free_node[nid]:
                return int(dequeue(host, hs, nid, 1)[0]), False
    if hs.gigantic:
        return None, False
    for nid in nids:
        source = huge_source(host, nid, 1, 1)
        if source is not None:
            heads = take_huge_blocks(host, source[0], 1)
            hugetlb_vmemmap.optimize(host, call, hs, heads)
            account_pages(host, hs, heads, +1)
            return int(heads[0]), True
    return None, False


def _carry_surplus(host: Host, hs: HState, head: int, target: int) -> None:
    """Crossing nodes moves one unit of surplus along, in the temporary case only."""
    old, new = host.node_of_block(head), host.node_of_block(target)
    if old != new and hs.surplus_node[old]:
        hs.surplus_node[old] -= 1
        hs.surplus_node[new] += 1
