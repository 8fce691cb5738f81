"""Where the frames come from when huge pages are restored and freed one after the other, found for many at once.

Frames come from the pageblocks that unmovable pages have; where those are full, a pair of free pageblocks is stolen,
the one freed last: often of the very huge pages that were just given back.  So page by page is not the same as
restoring all and freeing all.

Source: mm/hugetlb.c update_and_free_pages_bulk(); mm/page_alloc.c __rmqueue_fallback() (5.14).
"""

from dataclasses import dataclass, field

import numpy as np

from hugepool.mm.kernel.hugetlb_vmemmap import leading
from hugepool.mm.kernel.page_alloc import listed_blocks, pages_without_steal
from hugepool.mm.machine.mmzone import NO_BLOCKS, BlockFlag, Blocks, MemoryMap, Migrate, Zone
from hugepool.mm.machine.units import PAGEBLOCK_PAGES

PAIR_PAGES = 2 * PAGEBLOCK_PAGES


@dataclass(frozen=True, slots=True)
class ReleasePlan:
    """How the leading pages of a row are given back.

    ``pages``: how many it holds for; ``listed``: frames from the unmovable pageblocks that are there; ``stolen``: lower
    halves of the pairs that are stolen after them, in order; ``last``: the pageblock that was taken last, whose buddy
    may be left over, or none; ``freed_before``: pages freed before that.
    """

    pages: int
    listed: int = 0
    stolen: Blocks = field(default_factory=lambda: NO_BLOCKS)
    last: Blocks = field(default_factory=lambda: NO_BLOCKS)
    freed_before: int = 0


def plan_release(mem: MemoryMap, zone: Zone, heads: Blocks, needs: Blocks, width: int) -> ReleasePlan:
    """The plan for huge pages of ``width`` pageblocks, by the first ones and the frames that each needs of a zone."""
    listed = pages_without_steal(mem, zone)
    cost = np.cumsum(needs[: heads.size])
    inside = mem.zone[heads] == zone.id
    if cost[-1] <= listed or not inside.any():
        return ReleasePlan(int(heads.size))
    own = listed_blocks(mem, zone, mem.nr_blocks, (Migrate.UNMOVABLE,))
    blocks = heads[:, None] + np.arange(width)
    spoilt = mem.flags[blocks] & BlockFlag.SPOILT != 0
    other = ((mem.mt[blocks] != Migrate.MOVABLE) | spoilt | np.isin(blocks ^ 1, own)).any(axis=1)
    odd = np.flatnonzero(inside & other)
    if odd.size:  # freeing it changes more than the list of movable pairs
        heads, cost, inside = (a[: int(odd[0]) + 1] for a in (heads, cost, inside))
    room = listed + own.size * PAGEBLOCK_PAGES
    if cost[-1] <= room:
        taken = -(-int(cost[-1] - listed) // PAGEBLOCK_PAGES)
        before = (
            listed + max(0, taken - 1) * PAGEBLOCK_PAGES
        )  # frames that leave the last pageblock untouched
        when_last = np.searchsorted(cost, before, side="right")
        return ReleasePlan(int(heads.size), last=own[max(0, taken - 1) : taken], freed_before=int(when_last))
    times, pairs = _completed_pairs(mem, zone, heads, inside, width)
    asked = np.arange(room, int(cost[-1]), PAIR_PAGES)
    when = np.searchsorted(cost, asked, side="right")
    stolen = _newest_each(np.searchsorted(times, when), pairs, _free_pairs(mem, zone, asked.size))
    enough = stolen.size == asked.size  # else no pair is left for the next theft
    pages = int(heads.size) if enough else int(when[stolen.size])
    if stolen.size == 0:
        return ReleasePlan(max(1, pages))
    return ReleasePlan(pages, room, stolen, stolen[-1:], int(when[stolen.size - 1]))


def _free_pairs(mem: MemoryMap, zone: Zone, count: int) -> Blocks:
    """Lower halves of movable pairs that are free already, in the order of the list, up to the first other block."""
    halves = listed_blocks(mem, zone, 2 * count, (Migrate.RECLAIMABLE, Migrate.MOVABLE), largest_first=True)
    low, high = halves[0 : halves.size & ~1 : 2], halves[1::2]
    whole = (low % 2 == 0) & (high == low + 1)
    lows: Blocks = low[: leading(whole)]
    return lows


def _completed_pairs(
    mem: MemoryMap, zone: Zone, heads: Blocks, inside: Blocks, width: int
) -> tuple[Blocks, Blocks]:
    """When freeing a page in a zone makes a pair whole, and the pair's lower half; in order of time."""
    if width > 1:
        at = np.flatnonzero(inside)
        return np.repeat(at, width // 2), (heads[at][:, None] + np.arange(0, width, 2)).ravel()
    by_place = np.argsort(heads)
    buddy = heads ^ 1
    at = np.minimum(np.searchsorted(heads[by_place], buddy), heads.size - 1)
    freed_before = (heads[by_place][at] == buddy) & (by_place[at] < np.arange(heads.size))
    free = mem.free_in(zone, buddy) & (mem.mt[buddy] == Migrate.MOVABLE)
    times = np.flatnonzero(inside & (freed_before | free))
    return times, heads[times] & ~1


def _newest_each(known: Blocks, pairs: Blocks, before: Blocks) -> Blocks:
    """For each theft the newest pair that is left of the first ``known`` ones, else of those from before, as long as
    there is one."""
    taken: list[int] = []
    ranges: list[tuple[int, int]] = []
    older = before.tolist()[::-1]
    seen = 0
    for count in known.tolist():
        if count > seen:
            ranges.append((seen, count))
            seen = count
        if ranges:
            first, end = ranges.pop()
            taken.append(int(pairs[end - 1]))
            if end - 1 > first:
                ranges.append((first, end - 1))
        elif older:
            taken.append(older.pop())
        else:
            break
    return np.array(taken, np.int64)
