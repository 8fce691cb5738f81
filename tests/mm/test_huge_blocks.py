"""Which free pageblocks huge pages take: those without a free buddy go first."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from app.mm.huge_blocks import find_huge_blocks
from app.mm.mmzone import MemoryMap, Migrate, Use, Zone
from tests.mm.hosts import machine

CHANGES = st.lists(st.tuples(st.integers(0, 90), st.integers(1, 5), st.booleans()), min_size=1, max_size=12)


def looked_up(mem: MemoryMap, zone: Zone, count: int) -> list[int]:
    """The same, block by block."""
    span = mem.blocks_of(zone)
    free = {
        b for b in range(span.start, span.stop) if mem.use[b] == Use.BUDDY and mem.zone[b] == zone.index + 1
    }
    movable = sorted(b for b in free if mem.mt[b] == Migrate.MOVABLE)
    lone = [b for b in movable if b ^ 1 not in free]
    others = sorted(b for b in free if mem.mt[b] != Migrate.MOVABLE)
    order = [*lone, *(b for b in movable if b not in lone), *others]
    return order[:count]


@settings(deadline=None)
@given(CHANGES, st.integers(1, 12))
def test_what_is_found_is_the_same_after_any_change(changes: list[tuple[int, int, bool]], count: int) -> None:
    host = machine()
    zone = max(host.zones, key=lambda z: z.managed)
    start = int(host.mem.blocks_of(zone).start)
    settled = np.flatnonzero(~np.isin(host.mem.use, (Use.BUDDY, Use.HUGETLB)))
    for offset, length, free in changes:
        blocks = np.setdiff1d(np.arange(start + offset, start + offset + length), settled)
        host.mem.assign_blocks(blocks, Use.BUDDY if free else Use.HUGETLB)
        assert find_huge_blocks(host.mem, zone, count).tolist() == looked_up(host.mem, zone, count)


def test_the_other_half_of_a_broken_pair_goes_first() -> None:
    host = machine()
    zone = max(host.zones, key=lambda z: z.managed)
    pair = int(find_huge_blocks(host.mem, zone, 100)[-1]) & ~1
    assert host.mem.use[pair] == host.mem.use[pair + 1] == Use.BUDDY

    host.mem.assign_pages(np.array([pair << 9]), Use.KERNEL)

    assert find_huge_blocks(host.mem, zone, 1).tolist() == [pair + 1]
