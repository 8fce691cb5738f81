"""Gigantic pages at run time: the search of alloc_contig_pages and the allocation of one range.

Source: mm/page_alloc.c alloc_contig_pages(), alloc_contig_range() (5.14).
"""

import numpy as np

from app.mm.mmzone import (
    MOVABLE_USES,
    ZONE_MOVABLE,
    ZONE_NORMAL,
    Blocks,
    MemoryMap,
    Migrate,
    Pfns,
    Use,
    Zone,
)
from app.mm.page_alloc import NO_PFNS, alloc_pages, node_zonelist, zonelist
from app.mm.state import Call, Host, Task
from app.mm.units import BLOCKS_PER_1G, PAGEBLOCK_PAGES


def alloc_gigantic_block(host: Host, call: Call, nid: int) -> int | None:
    """First pageblock of a 1 GiB range taken on a node, or None.

    Zones NORMAL, DMA32, DMA in this order, candidates from the zone start upwards in steps of 1 GiB; movable
    pages are migrated out of the way, anything unmovable or huge disqualifies the candidate.
    """
    for zone in node_zonelist(host.nodes[nid], ZONE_NORMAL):
        span = host.mem.blocks_of(zone)
        first = -(-zone.start_pfn // PAGEBLOCK_PAGES)
        start = -(-first // BLOCKS_PER_1G) * BLOCKS_PER_1G
        for candidate in range(start, span.stop - BLOCKS_PER_1G + 1, BLOCKS_PER_1G):
            if _valid(host.mem, zone, candidate) and _take(host, call, candidate):
                return candidate
    return None


def _valid(mem: MemoryMap, zone: Zone, first: int) -> bool:
    """Every page of the range is online, of this zone, free or movable, and not huge."""
    part = slice(first, first + BLOCKS_PER_1G)
    if np.any(mem.zone[part] != zone.index + 1):
        return False
    fine = np.zeros(256, np.bool_)
    fine[[Use.BUDDY, Use.PCP, Use.MIXED, *MOVABLE_USES]] = True
    uses = mem.use[part]
    if not fine[uses].all():
        return False
    fine[Use.MIXED] = False
    mixed = np.flatnonzero(uses == Use.MIXED) + first
    return bool(fine[mem.detail[mem.slot[mixed]]].all())


def _take(host: Host, call: Call, first: int) -> bool:
    """Migrate what is movable out of a valid range and take it; False when no target frames are free."""
    mem = host.mem
    blocks = np.arange(first, first + BLOCKS_PER_1G)
    moving = {use: _pages_with(mem, blocks, use) for use in MOVABLE_USES}
    wanted = sum(pfns.size for pfns in moving.values())
    old_types = mem.mt[blocks].copy()
    mem.set_type(blocks, Migrate.ISOLATE)
    targets = _migration_targets(host, blocks, wanted) if wanted else NO_PFNS
    if targets.size < wanted:
        mem.assign_pages(targets, Use.BUDDY)
        mem.mt[blocks] = old_types
        return False
    begin = 0
    for use, pfns in moving.items():
        goal = targets[begin : begin + pfns.size]
        begin += pfns.size
        mem.assign_pages(goal, use)
        _move_owner(host, pfns, goal)
    if wanted:
        host.count("pgmigrate_success", int(wanted))
        call.emit("PagesMigrated", count=int(wanted), start_pfn=first * PAGEBLOCK_PAGES)
    mem.assign_blocks(blocks, Use.HUGETLB)
    mem.set_type(blocks, Migrate.MOVABLE)
    return True


def _pages_with(mem: MemoryMap, blocks: Blocks, use: Use) -> Pfns:
    whole = blocks[mem.use[blocks] == use]
    mixed = blocks[mem.use[blocks] == Use.MIXED]
    row, offset = np.nonzero(mem.detail[mem.slot[mixed]] == use)
    inside = mixed[row] * PAGEBLOCK_PAGES + offset
    return np.sort(
        np.concatenate(((whole[:, None] * PAGEBLOCK_PAGES + np.arange(PAGEBLOCK_PAGES)).ravel(), inside))
    )


def _migration_targets(host: Host, avoid: Blocks, count: int) -> Pfns:
    """Free movable pages outside isolated pageblocks, the range's own node first."""
    nid = host.node_of_block(int(avoid[0]))
    zones = zonelist(host.nodes, nid, ZONE_MOVABLE)
    return alloc_pages(host.mem, zones, count, Migrate.MOVABLE, ZONE_MOVABLE, Use.ANON)


def _move_owner(host: Host, old: Pfns, new: Pfns) -> None:
    """Point the tasks that own the old pages at the new ones."""
    if old.size == 0:
        return
    where = dict(zip(old.tolist(), new.tolist(), strict=True))
    low, high = int(old[0]), int(old[-1])
    for task in host.tasks.values():
        if any(start <= high and start + n > low for start, n in task.runs):
            task.runs = _moved_runs(task, where)


def _moved_runs(task: Task, where: dict[int, int]) -> list[tuple[int, int]]:
    pfns = [where.get(p, p) for start, n in task.runs for p in range(start, start + n)]
    return to_runs(np.array(pfns, np.int64))


def to_runs(pfns: Pfns) -> list[tuple[int, int]]:
    """Pfns in order as (first, count) rows."""
    if pfns.size == 0:
        return []
    cut = np.flatnonzero(np.diff(pfns) != 1) + 1
    starts = np.concatenate(([0], cut))
    lengths = np.diff(np.append(starts, pfns.size))
    return list(zip(pfns[starts].tolist(), lengths.tolist(), strict=True))
