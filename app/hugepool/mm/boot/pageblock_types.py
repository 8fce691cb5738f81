"""The migratetypes of a machine's pageblocks, as many of each as its files count."""

from collections.abc import Sequence

import numpy as np

from hugepool.mm.machine.mmzone import Blocks, MemoryMap, Migrate, Use, Zone

KERNEL_TYPES = tuple(mt for mt in Migrate if mt != Migrate.MOVABLE)
# Which pageblocks become the kernel's first, where all are in use: any other before these.
LATER = {Use.VMEMMAP: 1, Use.BOOT_VMEMMAP: 2, Use.HUGETLB: 3}


def set_type(mem: MemoryMap, blocks: Blocks, mt: Migrate) -> None:
    """Change the type of those pageblocks that have another."""
    other = blocks[mem.mt[blocks] != mt]
    if other.size:
        mem.set_type(other, mt)


def without(blocks: Blocks, others: Blocks) -> Blocks:
    """Those of many pageblocks that are not among others, in their order: a mask is cheaper than sets."""
    if blocks.size == 0 or others.size == 0:
        return blocks
    marked = np.zeros(int(max(blocks.max(), others.max())) + 1, np.bool_)
    marked[others] = True
    left: Blocks = blocks[~marked[blocks]]
    return left


def counted(mem: MemoryMap, zone: Zone) -> Blocks:
    """Pageblocks that pagetypeinfo counts for a zone."""
    span = np.arange(*mem.blocks_of(zone).indices(mem.nr_blocks))
    there = (mem.zone[span] == zone.id) & (mem.use[span] != Use.HOLE) & (mem.use[span] != Use.OFFLINE)
    blocks: Blocks = span[there]
    return blocks


def type_pageblocks(mem: MemoryMap, zone: Zone, fixed: Blocks, wanted: Sequence[int]) -> None:
    """Give pageblocks of a zone types, this number of each, as far as those with free blocks (``fixed``) allow."""
    rest = without(counted(mem, zone), fixed)
    rank = np.zeros(rest.size, np.int64)
    for use, place in LATER.items():
        rank[mem.use[rest] == use] = place
    rest = rest[np.lexsort((rest, rank))]
    need = np.array(wanted) - np.bincount(mem.mt[fixed], minlength=len(Migrate))
    for mt in KERNEL_TYPES:
        mine = rest[mem.mt[rest] == mt]
        set_type(mem, mine[max(0, int(need[mt])) :], Migrate.MOVABLE)
    for mt in KERNEL_TYPES:
        missing = int(need[mt] - (mem.mt[rest] == mt).sum())
        if missing > 0:
            set_type(mem, rest[mem.mt[rest] == Migrate.MOVABLE][:missing], mt)
