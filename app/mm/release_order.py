"""Where the frames come from when huge pages are restored and freed one after the other, found for many at once.

Frames come from the pageblocks that unmovable pages have; where those are full, a pair of free pageblocks is stolen,
the one freed last: often of the very huge pages that were just given back.  So page by page is not the same as
restoring all and freeing all.

Source: mm/hugetlb.c update_and_free_pages_bulk(); mm/page_alloc.c __rmqueue_fallback() (5.14).
"""

from dataclasses import dataclass, field

import numpy as np

from app.mm.mmzone import BlockFlag, Blocks, MemoryMap, Migrate, Use, Zone
from app.mm.page_alloc import NO_BLOCKS, listed_blocks, pages_without_steal
from app.mm.units import PAGEBLOCK_PAGES

PAIR_PAGES = 2 * PAGEBLOCK_PAGES


@dataclass(frozen=True, slots=True)
class ReleasePlan:
    """How the leading pages of a row are given back.

    ``pages``: how many it holds for; ``listed``: frames from the unmovable pageblocks that are there; ``stolen``: lower
    halves of the pairs that are stolen of them, in order; ``freed_before``: pages freed before the last of those.
    Without stolen pairs all may be restored before any is freed.
    """

    pages: int
    listed: int = 0
    stolen: Blocks = field(default_factory=lambda: NO_BLOCKS)
    freed_before: int = 0


def plan_release(mem: MemoryMap, zone: Zone, heads: Blocks, needs: Blocks) -> ReleasePlan:
    """The plan for huge pages of 2 MiB (first pageblocks, frames that each needs) whose frames a zone pays."""
    listed = pages_without_steal(mem, zone)
    cost = np.cumsum(needs[: heads.size])
    inside = mem.zone[heads] == zone.index + 1
    if cost[-1] <= listed or not inside.any():
        return ReleasePlan(int(heads.size))
    if listed_blocks(mem, zone, 1, (Migrate.UNMOVABLE,)).size:
        return ReleasePlan(max(1, int(np.searchsorted(cost, listed, side="right"))))
    odd = np.flatnonzero(
        inside & ((mem.mt[heads] != Migrate.MOVABLE) | (mem.flags[heads] & BlockFlag.SPOILT != 0))
    )
    if odd.size:
        heads, cost, inside = (a[: int(odd[0]) + 1] for a in (heads, cost, inside))
        if cost[-1] <= listed:
            return ReleasePlan(int(heads.size))
    times, pairs = _completed_pairs(mem, zone, heads, inside)
    asked = np.arange(listed, int(cost[-1]), PAIR_PAGES)
    when = np.searchsorted(cost, asked, side="right")
    stolen = _newest_each(np.searchsorted(times, when), pairs)
    if stolen.size < asked.size:  # what was freed before pays: the next plan's business
        pages = int(when[stolen.size])
        if stolen.size == 0:
            return ReleasePlan(max(1, pages))
        return ReleasePlan(pages, listed, stolen, int(when[stolen.size - 1]))
    return ReleasePlan(int(heads.size), listed, stolen, int(when[-1]))


def _completed_pairs(mem: MemoryMap, zone: Zone, heads: Blocks, inside: Blocks) -> tuple[Blocks, Blocks]:
    """When freeing a page in a zone makes a pair whole, and the pair's lower half; in order of time."""
    by_place = np.argsort(heads)
    buddy = heads ^ 1
    at = np.minimum(np.searchsorted(heads[by_place], buddy), heads.size - 1)
    freed_before = (heads[by_place][at] == buddy) & (by_place[at] < np.arange(heads.size))
    free = (
        (mem.use[buddy] == Use.BUDDY)
        & (mem.zone[buddy] == zone.index + 1)
        & (mem.mt[buddy] == Migrate.MOVABLE)
    )
    times = np.flatnonzero(inside & (freed_before | free))
    return times, heads[times] & ~1


def _newest_each(known: Blocks, pairs: Blocks) -> Blocks:
    """For each theft the newest pair that is left of the first ``known`` ones; as long as there is one."""
    taken: list[int] = []
    ranges: list[tuple[int, int]] = []
    seen = 0
    for count in known.tolist():
        if count > seen:
            ranges.append((seen, count))
            seen = count
        if not ranges:
            break
        first, end = ranges.pop()
        taken.append(end - 1)
        if end - 1 > first:
            ranges.append((first, end - 1))
    return pairs[taken]
