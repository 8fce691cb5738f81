"""Compaction: movable pages of lower pageblocks move into free pages of upper ones, so that pageblocks come free.

Pageblocks with a page that does not move are no source; what is free in them is filled where their type is movable.
The pages keep their owners.

Source: mm/compaction.c compact_zone(), isolate_migratepages(), isolate_freepages(), suitable_migration_target(),
compaction_suitable() (5.14).
Not modelled: pages that cannot be migrated for a moment, skip hints and deferral, the fragmentation index.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hugepool.mm.kernel.huge_blocks import count_free_blocks
from hugepool.mm.kernel.page_alloc import COMPACT_GAP, drain_pcp, room
from hugepool.mm.kernel.page_isolation import count_of_use, pages_of_use
from hugepool.mm.kernel.vmscan import lift, reclaimable
from hugepool.mm.machine.mmzone import (
    MOVABLE_USES,
    ZONE_MOVABLE,
    Blocks,
    MemoryMap,
    Migrate,
    Pfns,
    Use,
    Zone,
)
from hugepool.mm.machine.rmap import move_owner
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.units import PAGEBLOCK_PAGES

TARGET_TYPES = (Migrate.MOVABLE, Migrate.CMA)
NO_SOURCE = (Migrate.ISOLATE, Migrate.HIGHATOMIC)


@dataclass(slots=True)
class Compacted:
    """What compaction did: pageblocks that came free, and pages that moved."""

    blocks: int = 0
    pages: int = 0


def compact_for_huge_page(host: Host, zones: Sequence[Zone], wanted: int) -> bool:
    """Compact zones with enough free memory for up to ``wanted`` pages of 2 MiB; whether there is a free pageblock.

    Draining the lists of CPUs comes first, and may do.
    Source: mm/compaction.c compaction_suitable(): above low by twice the size asked for (5.14).
    """
    for zone in zones:
        if not room(zone, zone.low + COMPACT_GAP, ZONE_MOVABLE):
            continue
        host.count("compact_stall")
        if drain_pcp(host.mem, [zone]) and count_free_blocks(host.mem, zone, 1):
            return True
        done = compact_zone(host, zone, wanted)
        host.count("compact_success" if done.blocks else "compact_fail", max(1, done.blocks))
        if done.blocks:
            return True
    return False


def reclaim_and_compact(host: Host, zones: Sequence[Zone], wanted: int) -> bool:
    """Give up page cache until compaction has room to work in, then compact; whether a pageblock came free.

    Only for pageblocks in which all that is in use can move.
    Source: mm/vmscan.c compaction_ready(), should_continue_reclaim() (5.14).
    """
    for zone in zones:
        if not reclaimable(host, [zone]):
            continue
        count = min(wanted, int(_scan(host.mem, zone)[0].size))
        freed = count and lift(host, zone, zone.low + COMPACT_GAP, ZONE_MOVABLE, count * PAGEBLOCK_PAGES)
        if freed and compact_for_huge_page(host, [zone], count):
            return True
    return False


def compact_zone(host: Host, zone: Zone, wanted: int | None = None) -> Compacted:
    """Compact a zone until ``wanted`` pageblocks have come free, or (None) as far as it goes."""
    drain_pcp(host.mem, [zone])
    sources, movable, targets = _scan(host.mem, zone)
    count = _until_scanners_meet(host.mem, sources, movable, targets)
    if wanted is not None:
        count = min(count, wanted)
    if not count:
        return Compacted()
    moved = int(movable[:count].sum())
    _migrate(
        host, pages_of_use(host.mem, sources[:count], *MOVABLE_USES), _top_free(host.mem, targets, moved)
    )
    host.count("pgmigrate_success", moved)
    host.count("compact_isolated", 2 * moved)
    return Compacted(count, moved)


def _scan(mem: MemoryMap, zone: Zone) -> tuple[Blocks, Blocks, Blocks]:
    """Pageblocks in which all that is in use can move, how many pages that is; and those with places for such pages."""
    span = mem.blocks_of(zone)
    mine = mem.zone[span] == zone.id
    use = mem.use[span]
    mixed = mine & (use == Use.MIXED)
    blocks = np.flatnonzero(mine & (np.isin(use, MOVABLE_USES) | mixed)) + span.start
    movable = count_of_use(mem, blocks, *MOVABLE_USES)
    fits = (movable + mem.nfree[blocks] == PAGEBLOCK_PAGES) & ~np.isin(mem.mt[blocks], NO_SOURCE)
    targets = np.flatnonzero(mixed & (mem.nfree[span] > 0)) + span.start
    return blocks[fits], movable[fits], targets[np.isin(mem.mt[targets], TARGET_TYPES)]


def _until_scanners_meet(mem: MemoryMap, sources: Blocks, movable: Blocks, targets: Blocks) -> int:
    """How many of the lowest sources find room in the targets above them."""
    if not sources.size or not targets.size:
        return 0
    free = mem.nfree[targets].astype(np.int64)
    above = np.concatenate((np.cumsum(free[::-1])[::-1], [0]))
    room_above = above[np.searchsorted(targets, sources, side="right")]
    fits = np.cumsum(movable) <= room_above
    return int(fits.size if fits.all() else np.argmin(fits))


def _top_free(mem: MemoryMap, targets: Blocks, count: int) -> Pfns:
    """The highest free pages of pageblocks, the highest first."""
    ends = np.cumsum(mem.nfree[targets[::-1]], dtype=np.int64)
    needed = np.sort(targets[::-1][: int(np.searchsorted(ends, count)) + 1])
    return pages_of_use(mem, needed, Use.BUDDY)[::-1][:count]


def _migrate(host: Host, source: Pfns, goal: Pfns) -> None:
    """Move pages of one zone, each with its use and its owner."""
    uses = host.mem.uses_of(source)
    host.mem.assign_pages(source, Use.BUDDY)
    for use in np.unique(uses).tolist():
        host.mem.assign_pages(goal[uses == use], Use(use))
    move_owner(host, source, goal)
