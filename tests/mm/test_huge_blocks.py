"""Which free pageblocks huge pages take: those without a free buddy go first, and what was freed last."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hugepool.mm.kernel.buddy import listed_blocks, take_pages, take_unmovable_blocks
from hugepool.mm.kernel.huge_blocks import find_huge_blocks
from hugepool.mm.machine.mmzone import MemoryMap, Migrate, Use, Zone
from tests.mm.hosts import machine

CHANGES = st.lists(st.tuples(st.integers(0, 90), st.integers(1, 5), st.booleans()), min_size=1, max_size=12)


def looked_up(mem: MemoryMap, zone: Zone, count: int, freed: list[int]) -> list[int]:
    """The same, block by block; ``freed``: pageblocks in the order they were freed, the last one is the newest."""
    span = mem.blocks_of(zone)
    free = {b for b in range(span.start, span.stop) if mem.use[b] == Use.BUDDY and mem.zone[b] == zone.id}
    age = {block: at + 1 for at, block in enumerate(freed)}
    pairs = {b & ~1 for b in free if b ^ 1 in free}
    by_pair = sorted(pairs, key=lambda low: (-max(age.get(low, 0), age.get(low + 1, 0)), low))
    listed_pairs = [block for low in by_pair for block in (low, low + 1)]
    lone = sorted(free - set(listed_pairs), key=lambda b: (-age.get(b, 0), b))
    movable = [b for b in (*lone, *listed_pairs) if mem.mt[b] == Migrate.MOVABLE]
    others = [b for b in (*listed_pairs, *lone) if mem.mt[b] != Migrate.MOVABLE]
    return [*movable, *others][:count]


@settings(deadline=None)
@given(CHANGES, st.integers(1, 12))
def test_what_is_found_is_the_same_after_any_change(changes: list[tuple[int, int, bool]], count: int) -> None:
    host = machine()
    zone = max(host.zones, key=lambda z: z.managed)
    start = int(host.mem.blocks_of(zone).start)
    settled = np.flatnonzero(~np.isin(host.mem.use, (Use.BUDDY, Use.HUGETLB)))
    freed: list[int] = []
    for offset, length, free in changes:
        blocks = np.setdiff1d(np.arange(start + offset, start + offset + length), settled)
        host.mem.assign_blocks(blocks, Use.BUDDY if free else Use.HUGETLB)
        if free:
            freed = [*(b for b in freed if b not in blocks), *blocks.tolist()]
        assert find_huge_blocks(host.mem, zone, count).tolist() == looked_up(host.mem, zone, count, freed)


def test_the_other_half_of_a_broken_pair_goes_first() -> None:
    host = machine()
    zone = max(host.zones, key=lambda z: z.managed)
    pair = int(find_huge_blocks(host.mem, zone, 100)[-1]) & ~1
    assert host.mem.use[pair] == host.mem.use[pair + 1] == Use.BUDDY

    host.mem.assign_pages(np.array([pair << 9]), Use.KERNEL)

    assert find_huge_blocks(host.mem, zone, 1).tolist() == [pair + 1]


def test_a_block_for_unmovable_memory_is_one_of_theirs_or_steals_the_pair_freed_last() -> None:
    """As hot-added memory takes its vmemmap: __rmqueue_smallest() before __rmqueue_fallback()."""
    host = machine()
    mem, zone = host.mem, max(host.zones, key=lambda z: z.managed)
    own = listed_blocks(mem, zone, mem.nr_blocks, (Migrate.UNMOVABLE,))
    taken = [int(take_unmovable_blocks(mem, zone, 1, Use.VMEMMAP)[0]) for _ in own]
    assert taken == own.tolist()
    pair = mem.blocks_of(zone).start + 41 & ~1
    mem.assign_blocks(np.array([pair, pair + 1]), Use.HUGETLB)
    mem.assign_blocks(np.array([pair, pair + 1]), Use.BUDDY)
    assert take_unmovable_blocks(mem, zone, 1, Use.VMEMMAP).tolist() == [pair]
    assert mem.mt[pair : pair + 2].tolist() == [Migrate.UNMOVABLE] * 2
    assert take_unmovable_blocks(mem, zone, 1, Use.VMEMMAP).tolist() == [pair + 1]


def test_single_pages_take_a_lone_block_of_an_area_before_a_pair() -> None:
    host = machine(2 << 30, cmdline="cma=64M@0x40000000-0x44000000")
    mem, zone = host.mem, host.zones[1]
    mem.assign_blocks(np.array([0x200 + 7]), Use.ANON)
    got = take_pages(mem, zone, 2 * (zone.nr_free - zone.nr_free_cma), Migrate.MOVABLE, Use.ANON)
    inside = got[(got >= 0x40000) & (got < 0x44000)] // 512
    assert inside[0] == 0x200 + 6
