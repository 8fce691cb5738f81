"""Placing given numbers of free blocks per order so that no two free buddies meet.

Kept apart because it is the one combinatorial step of an import: regions (maximal aligned open ranges) are
filled lowest first; a region that must not stay whole hosts one free block of each lower order in a chain and
ends in a page that is not free.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from hugepool.mm.machine.mmzone import Blocks, MemoryMap, Migrate, Pfns, Use, Zone, pages_in, pairs_of
from hugepool.mm.machine.units import MAX_BUDDY_ORDER, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES, pages_by_order

Placed = list[tuple[int, int]]  # first pfn and order of free blocks
OPEN = Use.RESERVED  # a present page that is not placed yet


@dataclass(slots=True)
class Filler:
    """So many pages of a use, placed in ascending order in the places that stay open."""

    use: Use
    pages: int


def fill_zone(
    mem: MemoryMap,
    zone: Zone,
    free_area: Sequence[int],
    fillers: Sequence[Filler],
    kernel: Mapping[Migrate, Sequence[int]],
    top_fillers: Sequence[Filler],
    beside: int = 0,
) -> bool:
    """Place free blocks and fillers into the open pages of a zone; False, and nothing done, when that is impossible.

    ``free_area``: free blocks per order 0..10.  The numbers of pages must add up to the open pages.
    ``kernel``: those of them, per order 0..8, that lie in pageblocks of another type than movable.
    ``top_fillers``: more of them, for the highest regions of 4 MiB, which they fill.
    ``beside``: the first so many pages of the highest regions host the blocks of ``kernel`` too; 0: none there.
    """
    regions = _open_regions(mem, zone)
    open_pages = sum(starts.size << order for order, starts in enumerate(regions))
    wanted = pages_by_order(free_area) + sum(f.pages for f in fillers)
    on_top = sum(f.pages for f in top_fillers)
    if wanted + on_top != open_pages or any(f.pages < 0 for f in (*fillers, *top_fillers)):
        return False
    if beside:
        on_top += sum(map(pages_by_order, kernel.values()))
    *rest, largest = free_area
    top = regions[MAX_BUDDY_ORDER]
    cut = top.size - (on_top >> MAX_BUDDY_ORDER) - largest
    if cut < 0:
        return False
    top, highest = np.split(top, [cut + largest])
    broken = [(start, MAX_BUDDY_ORDER) for start in top[:cut].tolist()]  # regions that must not stay whole
    hosts = _pieces(int(highest[0]), beside) if beside else broken
    placed: dict[Migrate, Placed] = {}
    for mt, counts in kernel.items():
        placed[mt] = []
        rest = [n - m for n, m in zip_longest(rest, counts, fillvalue=0)]
        if not _place_all([*counts, 0, 0], hosts, placed[mt], may_stay_whole=beside > 0):
            return False
    others = placed[Migrate.MOVABLE] = []
    left = [*rest, 0]
    for order in range(MAX_BUDDY_ORDER - 1, -1, -1):
        for start in regions[order].tolist():
            _place(start, order, left, others, may_stay_whole=True)
    if not _place_all(left, broken, others, may_stay_whole=False):
        return False
    _assign_free(mem, top[cut:], [row for rows in placed.values() for row in rows])
    still_open = _open_pages(mem, zone)
    in_highest = np.isin(still_open >> MAX_BUDDY_ORDER, highest >> MAX_BUDDY_ORDER)
    upper, lower = still_open[in_highest], still_open[~in_highest]
    _assign_fillers(mem, upper, top_fillers)
    _assign_fillers(mem, lower, fillers)
    if kernel:
        _assign_types(mem, placed)
    return True


def _pieces(start: int, pages: int) -> Placed:
    """First pfns and orders of the maximal aligned ranges of so many pages from a region's begin."""
    out = []
    for order in range(pages.bit_length() - 1, -1, -1):
        if pages >> order & 1:
            out.append((start, order))
            start += 1 << order
    return out


def _place_all(left: list[int], hosts: Placed, placed: Placed, *, may_stay_whole: bool) -> bool:
    """Host free blocks in the next ranges of ``hosts``; False when there are too few."""
    while any(left):
        if not hosts:
            return False
        _place(*hosts.pop(0), left, placed, may_stay_whole=may_stay_whole)
    return True


def _place(start: int, order: int, left: list[int], free: Placed, *, may_stay_whole: bool) -> None:
    """Host free blocks in one region: the largest that fit, each beside something that is not free."""
    if may_stay_whole and left[order]:
        left[order] -= 1
        free.append((start, order))
        return
    while order and any(left[:order]):
        order -= 1
        half = start + (1 << order)
        if left[order]:
            left[order] -= 1
            free.append((start, order))
        else:
            _place(start, order, left, free, may_stay_whole=False)
        start = half


def _open_regions(mem: MemoryMap, zone: Zone) -> list[Pfns]:
    """First pfns of the maximal aligned open ranges per order 0..10."""
    span = mem.blocks_of(zone)
    mine = mem.zone[span] == zone.index + 1
    whole = mine & (mem.use[span] == OPEN)
    blocks = np.flatnonzero(whole) + span.start
    even = blocks[blocks % 2 == 0]
    pairs = even[np.isin(even + 1, blocks)]
    single = blocks[~np.isin(blocks // 2, pairs // 2)]
    mixed = np.flatnonzero(mine & (mem.use[span] == Use.MIXED)) + span.start
    regions = _regions_in_mixed(mem, mixed)
    return [*regions, single * PAGEBLOCK_PAGES, pairs * PAGEBLOCK_PAGES]


def _regions_in_mixed(mem: MemoryMap, mixed: Blocks) -> list[Pfns]:
    out = []
    opened = mem.detail[mem.slot[mixed]] == OPEN
    for order in range(PAGEBLOCK_ORDER):
        joined = opened[:, 0::2] & opened[:, 1::2]
        alone = opened & ~np.repeat(joined, 2, axis=1)
        row, column = np.nonzero(alone)
        out.append(mixed[row] * PAGEBLOCK_PAGES + (column << order))
        opened = joined
    return out


def _assign_free(mem: MemoryMap, top: Pfns, free: Placed) -> None:
    blocks = pairs_of(top // PAGEBLOCK_PAGES)
    whole = [start // PAGEBLOCK_PAGES for start, order in free if order == PAGEBLOCK_ORDER]
    mem.assign_blocks(np.concatenate((blocks, np.array(whole, np.int64))), Use.BUDDY)
    parts = [np.arange(start, start + (1 << order)) for start, order in free if order < PAGEBLOCK_ORDER]
    if parts:
        mem.assign_pages(np.sort(np.concatenate(parts)), Use.BUDDY)


def _assign_types(mem: MemoryMap, placed: Mapping[Migrate, Placed]) -> None:
    """Give pageblocks the type of the lists that their free blocks are on."""
    for mt, rows in placed.items():
        parts = {start // PAGEBLOCK_PAGES for start, order in rows if order < PAGEBLOCK_ORDER}
        mem.set_type(np.array(sorted(parts), np.int64), mt)


def _open_pages(mem: MemoryMap, zone: Zone) -> Pfns:
    span = mem.blocks_of(zone)
    mine = mem.zone[span] == zone.index + 1
    blocks = np.flatnonzero(mine & (mem.use[span] == OPEN)) + span.start
    mixed = np.flatnonzero(mine & (mem.use[span] == Use.MIXED)) + span.start
    row, column = np.nonzero(mem.detail[mem.slot[mixed]] == OPEN)
    inside = mixed[row] * PAGEBLOCK_PAGES + column
    return np.sort(np.concatenate((pages_in(blocks), inside)))


def _assign_fillers(mem: MemoryMap, places: Pfns, fillers: Sequence[Filler]) -> None:
    begin = 0
    for filler in fillers:
        pfns = places[begin : begin + filler.pages]
        begin += filler.pages
        mem.assign_pages(pfns, filler.use)
        if filler.use == Use.SYSTEM:
            mem.set_type(np.unique(pfns // PAGEBLOCK_PAGES), Migrate.UNMOVABLE)
