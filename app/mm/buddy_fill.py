"""Placing given numbers of free blocks per order so that no two free buddies meet.

Kept apart because it is the one combinatorial step of an import: regions (maximal aligned open ranges) are
filled lowest first; a region that must not stay whole hosts one free block of each lower order in a chain and
ends in a page that is not free.
"""

from dataclasses import dataclass

import numpy as np

from app.mm.mmzone import Blocks, MemoryMap, Migrate, Pfns, Use, Zone
from app.mm.units import MAX_BUDDY_ORDER, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES

OPEN = Use.RESERVED  # a present page that is not placed yet


@dataclass(slots=True)
class Filler:
    """So many pages of a use, placed in ascending order in the places that stay open."""

    use: Use
    pages: int


def fill_zone(mem: MemoryMap, zone: Zone, free_area: list[int], fillers: list[Filler]) -> bool:
    """Place free blocks and fillers into the open pages of a zone; False when that is impossible.

    ``free_area``: free blocks per order 0..10.  The numbers of pages must add up to the open pages.
    """
    regions = _open_regions(mem, zone)
    open_pages = sum(starts.size << order for order, starts in enumerate(regions))
    wanted = sum(n << order for order, n in enumerate(free_area))
    if wanted + sum(f.pages for f in fillers) != open_pages or any(f.pages < 0 for f in fillers):
        return False
    left = list(free_area)
    free: list[tuple[int, int]] = []  # (pfn, order)
    whole = min(left[MAX_BUDDY_ORDER], regions[MAX_BUDDY_ORDER].size)
    if whole < left[MAX_BUDDY_ORDER]:
        return False
    top = regions[MAX_BUDDY_ORDER]
    left[MAX_BUDDY_ORDER] = 0
    cut = top.size - whole
    for order in range(MAX_BUDDY_ORDER - 1, -1, -1):
        for start in regions[order].tolist():
            _place(start, order, left, free, may_stay_whole=True)
    for start in top[:cut].tolist():
        if not any(left):
            break
        _place(start, MAX_BUDDY_ORDER, left, free, may_stay_whole=False)
    if any(left):
        return False
    _assign_free(mem, top[cut:], free)
    _assign_fillers(mem, zone, fillers)
    return True


def _place(
    start: int, order: int, left: list[int], free: list[tuple[int, int]], *, may_stay_whole: bool
) -> None:
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


def _assign_free(mem: MemoryMap, top: Pfns, free: list[tuple[int, int]]) -> None:
    blocks = (top[:, None] // PAGEBLOCK_PAGES + np.arange(2)).ravel()
    whole = [start // PAGEBLOCK_PAGES for start, order in free if order == PAGEBLOCK_ORDER]
    mem.assign_blocks(np.concatenate((blocks, np.array(whole, np.int64))), Use.BUDDY)
    parts = [np.arange(start, start + (1 << order)) for start, order in free if order < PAGEBLOCK_ORDER]
    if parts:
        mem.assign_pages(np.sort(np.concatenate(parts)), Use.BUDDY)


def _assign_fillers(mem: MemoryMap, zone: Zone, fillers: list[Filler]) -> None:
    span = mem.blocks_of(zone)
    mine = mem.zone[span] == zone.index + 1
    blocks = np.flatnonzero(mine & (mem.use[span] == OPEN)) + span.start
    mixed = np.flatnonzero(mine & (mem.use[span] == Use.MIXED)) + span.start
    row, column = np.nonzero(mem.detail[mem.slot[mixed]] == OPEN)
    inside = mixed[row] * PAGEBLOCK_PAGES + column
    places = np.sort(
        np.concatenate(((blocks[:, None] * PAGEBLOCK_PAGES + np.arange(PAGEBLOCK_PAGES)).ravel(), inside))
    )
    begin = 0
    for filler in fillers:
        pfns = places[begin : begin + filler.pages]
        begin += filler.pages
        mem.assign_pages(pfns, filler.use)
        if filler.use == Use.SYSTEM:
            mem.set_type(np.unique(pfns // PAGEBLOCK_PAGES), Migrate.UNMOVABLE)
