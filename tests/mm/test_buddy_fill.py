"""Placing free blocks so that no two free buddies meet: every cell, every type, and what is in use besides."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hugepool.mm.boot.buddy_fill import Filler, FreeLists, Wanted, fill
from hugepool.mm.boot.buddy_pack import WHOLE, Cut, cuts, fewest, regions_of
from hugepool.mm.kernel.buddy import free_area, free_area_by_type
from hugepool.mm.machine.mmzone import Mask, MemoryMap, Migrate, Use, Zone

PAGES = 1 << 13
BLOCKS = np.arange(PAGES // 512)


def open_zone(pages: int = PAGES) -> tuple[MemoryMap, Zone]:
    mem = MemoryMap(-(-pages // (1 << 15)), 2)
    zone = Zone(0, 0, 2, 0, pages, pages)
    mem.add_zone(zone)
    mem.zone[: pages // 512] = 1
    mem.mt[: pages // 512] = Migrate.MOVABLE
    mem.use[: pages // 512] = Use.RESERVED
    return mem, zone


def lists(**rows: Sequence[int]) -> FreeLists:
    found = np.zeros((len(Migrate), 11), np.int64)
    for name, row in rows.items():
        found[Migrate[name.upper()], : len(row)] = row
    return found


def pages_of(free: FreeLists) -> int:
    return int((free.sum(axis=0) << np.arange(11)).sum())


# -- cutting -----------------------------------------------------------------------------------------------


def blocks_in(free: Mask) -> list[int]:
    """Free blocks by order, merged as the buddy merges."""
    return [len(starts) for starts in regions_of(free)]


def added_up(found: list[Cut]) -> list[int]:
    return [sum(n * cut.count for n, cut in zip(column, found, strict=True))
            for column in zip(*(blocks_in(cut.free) for cut in found), strict=True)]  # fmt: skip


few = st.one_of(st.just(0), st.integers(0, 3), st.integers(0, 600))


@given(st.lists(few, min_size=9, max_size=9))
def test_free_blocks_are_cut_out_of_as_few_pageblocks_as_there_can_be(wanted: list[int]) -> None:
    count = fewest(wanted)
    left = list(wanted)
    found = list(cuts(WHOLE, count, left))
    assert not any(left)
    assert not found or added_up(found) == [*wanted, 0]
    assert sum(cut.count for cut in found) == count
    left = list(wanted)
    assert sum(cut.count for cut in cuts(WHOLE, max(0, count - 1), left)) <= count
    assert count == 0 or any(left)


@given(
    st.lists(st.booleans(), min_size=512, max_size=512), st.lists(st.integers(0, 9), min_size=9, max_size=9)
)
def test_pageblocks_in_part_open_host_free_blocks_in_their_open_pages_only(
    is_open: list[bool], wanted: list[int]
) -> None:
    mask = np.array(is_open)
    left = list(wanted)
    found = list(cuts(mask, 3, left))
    assert not any((cut.free & ~mask).any() for cut in found)
    placed = [a - b for a, b in zip(wanted, left, strict=True)]
    assert (added_up(found) if found else [0] * 10) == [*placed, 0]


def test_millions_of_blocks_are_cut_in_a_few_ways() -> None:
    wanted = [10_000_000, 8_000_000, 6_000_000, 4_000_000, 2_000_000, 700_000, 200_000, 50_000, 10_000]
    left = list(wanted)
    found = list(cuts(WHOLE, fewest(wanted), left))
    assert not any(left)
    assert len(found) < 20
    assert added_up(found) == [*wanted, 0]


# -- a zone ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wanted",
    [
        [0] * 10 + [7],
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3],
        [400, 200, 3, 0, 0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0],
        [3, 0, 9, 0, 0, 2, 0, 0, 4, 0, 2],
    ],
)
def test_free_blocks_come_back_cell_by_cell(wanted: list[int]) -> None:
    mem, zone = open_zone()
    free = lists(movable=wanted)
    assert fill(mem, zone, BLOCKS, Wanted(free, [Filler(Use.SYSTEM, PAGES - pages_of(free))]))
    assert free_area(mem, zone) == wanted


TYPED = [Migrate.UNMOVABLE, Migrate.MOVABLE, Migrate.RECLAIMABLE, Migrate.HIGHATOMIC, Migrate.ISOLATE]


@given(st.data())
def test_free_blocks_come_back_by_type_and_pageblocks_too(data: st.DataObject) -> None:
    """Each type gets pageblocks of its own; what is drawn fits by construction."""
    mem, zone = open_zone(1 << 15)
    free, taken = lists(), 0
    for mt in TYPED:
        free[mt, :9] = data.draw(st.lists(st.integers(0, 8), min_size=9, max_size=9))
        taken += fewest(free[mt, :9].tolist())
    for mt in TYPED:
        free[mt, 9] = data.draw(st.integers(0, max(0, min(3, 24 - taken - int(free[:, 9].sum())))))
        free[mt, 10] = data.draw(st.integers(0, 2))
    types = [fewest(free[mt, :9].tolist()) + int(free[mt, 9]) + 2 * int(free[mt, 10]) for mt in Migrate]
    spare = 64 - sum(types)
    if spare < 0:
        return
    types[data.draw(st.sampled_from(TYPED))] += spare
    left = (1 << 15) - pages_of(free)
    cache = data.draw(st.integers(0, left))
    fillers = [Filler(Use.SYSTEM, left - cache), Filler(Use.PAGE_CACHE, cache)]
    assert fill(mem, zone, np.arange(64), Wanted(free, fillers, type_blocks=types))
    assert np.array_equal(free_area_by_type(mem, zone), free)
    assert np.bincount(mem.mt[:64], minlength=6).tolist() == types
    uses = np.bincount(mem.page_uses(0, 64).ravel(), minlength=256)
    assert (uses[Use.SYSTEM], uses[Use.PAGE_CACHE], uses[Use.BUDDY]) == (left - cache, cache, pages_of(free))
    assert (zone.nr_free, zone.managed) == (pages_of(free), 1 << 15)


def test_early_memory_lies_at_the_top_and_the_kernels_free_blocks_beside_it() -> None:
    mem, zone = open_zone()
    free = lists(movable=[0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 5], unmovable=[1, 1, 0, 0, 0, 0, 1, 1, 1])
    early = 1024 + 438  # 586 pages of 4 MiB are left below
    cache = PAGES - pages_of(free) - early
    fillers = [Filler(Use.RESERVED, early), Filler(Use.SYSTEM, 0), Filler(Use.PAGE_CACHE, cache)]
    assert fill(
        mem,
        zone,
        BLOCKS,
        Wanted(free, fillers, early, free_beside_early=True, type_blocks=[1, 15, 0, 0, 0, 0]),
    )
    assert np.array_equal(free_area_by_type(mem, zone), free)
    assert (mem.use[14:16] == Use.RESERVED).all()
    beside = mem.page_uses(12, 2).ravel()
    assert (beside[586:] == Use.RESERVED).all()
    assert int((beside == Use.BUDDY).sum()) == 451
    assert mem.mt[12] == Migrate.UNMOVABLE


def test_page_cache_fills_what_early_memory_leaves_of_4_mib() -> None:
    mem, zone = open_zone()
    free = lists(movable=[0] * 10 + [5])
    fillers = [Filler(Use.RESERVED, 1000), Filler(Use.PAGE_CACHE, PAGES - pages_of(free) - 1000)]
    assert fill(mem, zone, BLOCKS, Wanted(free, fillers, 1000, 24))
    top = mem.page_uses(14, 2).ravel()
    assert (top[:24] == Use.PAGE_CACHE).all()
    assert (top[24:] == Use.RESERVED).all()


def test_what_the_kernel_uses_makes_pageblocks_unmovable_where_types_are_unknown() -> None:
    mem, zone = open_zone()
    fillers = [Filler(Use.SYSTEM, 700), Filler(Use.PAGE_CACHE, PAGES - 700)]
    assert fill(mem, zone, BLOCKS, Wanted(lists(), fillers))
    assert mem.mt[:4].tolist() == [Migrate.UNMOVABLE] * 2 + [Migrate.MOVABLE] * 2
    assert mem.page_use(699) == Use.SYSTEM
    assert mem.page_use(700) == Use.PAGE_CACHE


@pytest.mark.parametrize(
    ("wanted", "fillers"),
    [
        (lists(movable=[0] * 9 + [16]), []),  # 16 blocks of order 9 must meet
        (lists(movable=[0] * 10 + [1]), [Filler(Use.SYSTEM, 5)]),  # numbers do not add up
        (lists(movable=[4096]), [Filler(Use.SYSTEM, 5000), Filler(Use.PCP, -904)]),
        (lists(movable=[4097]), [Filler(Use.SYSTEM, 4095)]),
    ],
)
def test_what_cannot_be_placed_changes_nothing(wanted: FreeLists, fillers: list[Filler]) -> None:
    mem, zone = open_zone()
    assert not fill(mem, zone, BLOCKS, Wanted(wanted, fillers))
    assert (mem.use[: BLOCKS.size] == Use.RESERVED).all()
    assert (zone.nr_free, zone.managed) == (0, 0)
