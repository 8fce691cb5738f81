"""Cutting pageblocks into free blocks of given orders so that no two free buddies meet.

Seen from the top, an aligned part that must not be free as a whole has two halves: at most one of them is a free block
of its order; the others are cut further, down to single pages that are in use.  So how many blocks of an order fit
depends on nothing but how many larger ones there are, and taking as many as fit in each pageblock, the largest first,
is as good as any other way.  Pageblocks that are cut alike are counted, not made one by one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hugepool.mm.machine.mmzone import Mask
from hugepool.mm.machine.units import PAGEBLOCK_ORDER, PAGEBLOCK_PAGES

SMALL_ORDERS = range(PAGEBLOCK_ORDER - 1, -1, -1)  # blocks smaller than a pageblock, the largest first
WHOLE: Mask = np.ones(PAGEBLOCK_PAGES, np.bool_)


@dataclass(frozen=True, slots=True)
class Cut:
    """A number of pageblocks whose ``free`` pages, of 512, are free."""

    free: Mask
    count: int


def regions_of(open_pages: Mask) -> list[list[int]]:
    """Offsets of the largest aligned ranges that are open, by order 0..9."""
    found = []
    for order in range(PAGEBLOCK_ORDER):
        joined = open_pages[0::2] & open_pages[1::2]
        alone = open_pages & ~np.repeat(joined, 2)
        found.append((np.flatnonzero(alone) << order).tolist())
        open_pages = joined
    return [*found, np.flatnonzero(open_pages).tolist()]


def cuts(open_pages: Mask, count: int, left: list[int]) -> Iterator[Cut]:
    """Cut up to ``count`` pageblocks with the same open pages; what is placed is taken out of ``left``.

    Args:
        open_pages: which of a pageblock's 512 pages may be free.  If all may, they are not free together.
        count: pageblocks of that kind.
        left: free blocks to place, by order 0..8; changed.
    """
    regions = regions_of(open_pages)
    while count and any(left):
        free, placed = _cut(regions, left)
        if not any(placed):
            return
        alike = min(count, *(has // wants for has, wants in zip(left, placed, strict=True) if wants))
        for order, blocks in enumerate(placed):
            left[order] -= blocks * alike
        count -= alike
        yield Cut(free, alike)


def _cut(regions: Sequence[Sequence[int]], left: Sequence[int]) -> tuple[Mask, list[int]]:
    """One pageblock: which pages are free, and how many blocks of each order that are."""
    free = np.zeros(PAGEBLOCK_PAGES, np.bool_)
    placed = [0] * PAGEBLOCK_ORDER
    parts = list(regions[PAGEBLOCK_ORDER])  # must not be free as a whole
    for order in SMALL_ORDERS:
        size, whole = 1 << order, list(regions[order])
        placed[order] = min(left[order], len(whole) + len(parts))
        halved = placed[order] - min(placed[order], len(whole))
        starts = whole[: placed[order] - halved] + parts[:halved]
        for start in starts:
            free[start : start + size] = True
        rest = [start + size for start in parts[:halved]]
        rest += [half for start in parts[halved:] for half in (start, start + size)]
        parts = sorted(rest + whole[placed[order] - halved :])
    return free, placed


def fewest(left: Sequence[int]) -> int:
    """The fewest wholly open pageblocks that host these free blocks of order 0..8.

    >>> fewest([256, 0, 0, 0, 0, 0, 0, 0, 0]), fewest([1, 1, 1, 1, 1, 1, 1, 1, 1]), fewest([0] * 8 + [2])
    (1, 1, 2)
    """
    most, larger = 0, 0  # larger: pages of larger blocks, in blocks of the next order up
    for order in SMALL_ORDERS:
        per_block = 1 << (PAGEBLOCK_ORDER - 1 - order)
        most = max(most, -(-(left[order] + larger) // per_block))
        larger = 2 * larger + left[order]
    return most
