"""Which free pageblocks huge pages of 2 MiB take, and how many there are.

The buddy looks at its list of the order asked for first: a free block of order 9, one whose buddy is not free, goes
before a pair is split, and movable memory before other.  Else the lowest goes, as everywhere.

Source: mm/page_alloc.c __rmqueue_smallest(), __rmqueue_fallback() (5.14).
"""

import numpy as np

from app.mm.mmzone import NOWHERE, ZONE_MOVABLE, Blocks, MemoryMap, Migrate, Use, Zone
from app.mm.page_alloc import HUGE_TYPES, NO_BLOCKS, find_free_blocks, share_with_cma
from app.mm.units import PAGEBLOCK_PAGES


def find_huge_blocks(mem: MemoryMap, zone: Zone, count: int) -> Blocks:
    """Wholly free pageblocks for movable huge pages, at most ``count``: free CMA pageblocks serve too."""
    regular = _smallest_free_blocks(mem, zone, count)
    if zone.nr_free_cma == 0:
        return regular
    of_area = find_free_blocks(mem, zone, count, (Migrate.CMA,))
    outside, inside = share_with_cma(zone, count, regular.size, of_area.size, PAGEBLOCK_PAGES)
    return np.concatenate((regular[:outside], of_area[:inside]))


def count_free_blocks(mem: MemoryMap, zone: Zone, limit: int) -> int:
    """How many wholly free pageblocks the zone has for huge pages, counted up to ``limit``."""
    find = find_huge_blocks if zone.nr_free_cma else find_free_blocks
    return int(find(mem, zone, limit).size)


def type_lone_blocks(mem: MemoryMap, zone: Zone, movable: int) -> None:
    """Leave so many free blocks of order 9 movable: the lowest, beside the kernel's own memory, are not."""
    lone = _lone_free_blocks(mem, zone)
    lone = lone[mem.mt[lone] == Migrate.MOVABLE]
    mem.set_type(lone[: max(0, lone.size - movable)], Migrate.UNMOVABLE)


def _smallest_free_blocks(mem: MemoryMap, zone: Zone, count: int) -> Blocks:
    found = NO_BLOCKS
    if zone.type != ZONE_MOVABLE:  # there the kernel has nothing that its blocks of order 9 could lie beside
        lone = _lone_free_blocks(mem, zone)
        found = lone[mem.mt[lone] == Migrate.MOVABLE][:count]
    for types in ((Migrate.MOVABLE,), HUGE_TYPES):
        if found.size < count:
            others = find_free_blocks(mem, zone, count, types)
            found = np.concatenate((found, others[~np.isin(others, found)][: count - found.size]))
    return found


def _lone_free_blocks(mem: MemoryMap, zone: Zone) -> Blocks:
    """Wholly free pageblocks whose buddy is not: the free blocks of order 9."""
    span, known = mem.blocks_of(zone), mem.lone_span[zone.index]
    first, stop = max(span.start, known[0]) & ~1, min(span.stop, known[1]) + 1 & ~1
    part = slice(first, max(first, stop))
    free = (mem.use[part] == Use.BUDDY) & (mem.zone[part] == zone.index + 1)
    lone: Blocks = first + np.flatnonzero(free & ~free.reshape(-1, 2)[:, ::-1].ravel())
    mem.lone_span[zone.index] = (int(lone[0]), int(lone[-1]) + 1) if lone.size else NOWHERE
    return lone
