"""Which free pageblocks huge pages of 2 MiB take, and how many there are.

The buddy looks at its list of the order asked for first: a free block of order 9, one whose buddy is not free, goes
before a pair is split, and movable memory before other.

Source: mm/page_alloc.c __rmqueue_smallest(), __rmqueue_fallback() (5.14).
"""

import numpy as np

from hugepool.mm.kernel.buddy import (
    HUGE_TYPES,
    find_free_blocks,
    listed_blocks,
    lone_free_blocks,
    share_with_cma,
)
from hugepool.mm.machine.mmzone import Blocks, MemoryMap, Migrate, Zone
from hugepool.mm.machine.units import PAGEBLOCK_PAGES

FEW = 64  # this number is found sooner at the head of the lists than by a pass over the zone


def find_huge_blocks(mem: MemoryMap, zone: Zone, count: int) -> Blocks:
    """Wholly free pageblocks for movable huge pages, at most ``count``: free CMA pageblocks serve too."""
    regular = _smallest_free_blocks(mem, zone, count)
    if zone.nr_free_cma == 0:
        return regular
    of_area = listed_blocks(mem, zone, count, (Migrate.CMA,))
    outside, inside = share_with_cma(zone, count, regular.size, of_area.size, PAGEBLOCK_PAGES)
    return np.concatenate((regular[:outside], of_area[:inside]))


def count_free_blocks(mem: MemoryMap, zone: Zone, limit: int) -> int:
    """How many wholly free pageblocks the zone has for huge pages, counted up to ``limit``."""
    find = find_huge_blocks if zone.nr_free_cma or limit <= FEW else find_free_blocks
    return int(find(mem, zone, limit).size)


def type_lone_blocks(mem: MemoryMap, zone: Zone, movable: int) -> None:
    """Leave this number of free blocks of order 9 movable: the lowest, next to the kernel's memory, are not."""
    lone = lone_free_blocks(mem, zone)
    lone = lone[mem.mt[lone] == Migrate.MOVABLE]
    mem.set_type(lone[: max(0, lone.size - movable)], Migrate.UNMOVABLE)


def _smallest_free_blocks(mem: MemoryMap, zone: Zone, count: int) -> Blocks:
    found = listed_blocks(mem, zone, count, (Migrate.MOVABLE,))
    if found.size < count:
        others = listed_blocks(mem, zone, count, HUGE_TYPES, largest_first=True)
        found = np.concatenate((found, others[~np.isin(others, found)][: count - found.size]))
    return found
