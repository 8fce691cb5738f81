"""The lists of CPUs: what a request takes from them, what a free puts there, and when they are flushed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.kernel import hugetlb
from hugepool.mm.kernel.page_alloc import alloc_huge_pages, alloc_pages, room
from hugepool.mm.kernel.pcp import drain, free_pages
from hugepool.mm.kernel.pcp_sizes import batch_size, number_of, pages_of, pcp_high
from hugepool.mm.machine.digest import digest, fork
from hugepool.mm.machine.mmzone import NO_BLOCKS, ZONE_NORMAL, Migrate, Use, Zone
from hugepool.mm.machine.state import Host
from tests.mm.hosts import GIB, KERNELS, assert_laws, do, machine, resize, row

OFF = "hugetlb_free_vmemmap=off"


def normal(host: Host) -> Zone:
    """The zone that single pages of the kernel come from first."""
    return next(z for z in reversed(host.nodes[0].zones[: ZONE_NORMAL + 1]) if z.present)


def take(host: Host, count: int, mt: Migrate = Migrate.UNMOVABLE) -> np.ndarray:
    return alloc_pages(host, [normal(host)], count, mt, ZONE_NORMAL, Use.SYSTEM)


@pytest.mark.parametrize("kernel", ["5.14", "6.1"])
def test_one_page_costs_the_buddy_a_batch(kernel: str) -> None:
    host = machine(4 * GIB, kernel=kernel)
    zone = normal(host)
    drain(host, [zone])
    before = zone.nr_free
    take(host, 1)
    assert before - zone.nr_free == batch_size(zone) == 63
    assert zone.nr_pcp == pages_of(host, zone).count == 62
    take(host, 62)
    assert (zone.nr_free, zone.nr_pcp) == (before - 63, 0)
    assert_laws(host)


def test_refills_double_on_later_kernels() -> None:
    host = machine(4 * GIB, kernel="6.12")
    zone = normal(host)
    drain(host, [zone])
    pages_of(host, zone).alloc_factor = 0
    costs = []
    for size in (63, 126, 252):
        before = zone.nr_free
        take(host, size)
        costs.append(before - zone.nr_free)
    assert costs == [63, 126, 252]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_request_asks_the_buddy_before_it_looks_at_the_list(kernel: str) -> None:
    host = machine(4 * GIB, kernel=kernel)
    zone = normal(host)
    drain(host, [zone])
    take(host, room(zone, zone.min, ZONE_NORMAL) - 10)
    parked = zone.nr_pcp
    got = take(host, 1000)
    assert room(zone, zone.min, ZONE_NORMAL) == 0
    assert zone.nr_pcp > 0 or got.size == parked
    assert take(host, 1).size == 0


def test_a_growth_parks_a_page_where_the_mark_is_reached() -> None:
    # d_bootstrap-5.14: 142,611 free pages, a mark of 11,179: 255 pages, then none, then again 256.
    host = machine(2 * GIB, kernel="5.14", cmdline=OFF)
    zone = normal(host)
    host.percpu_pagelist_high_fraction = 1000
    drain(host, [zone])
    zone.min, zone.low, zone.high = 11_179, 13_973, 16_767
    pid = do(host, c.StartTask())["pid"]
    do(host, c.GrowTask(pid, "kernel", zone.nr_free - 142_611 - 5 * 63, partial=True))
    drain(host, [zone])
    spare = zone.nr_free - 142_611
    alloc_pages(host, [zone], spare // 63 * 63, Migrate.UNMOVABLE, ZONE_NORMAL, Use.SYSTEM)
    rest = zone.nr_free - 142_611
    assert 0 <= rest < 63
    assert alloc_huge_pages(host, [zone], 300).size == 255 + int(rest > 511)
    assert zone.nr_pcp % 512 <= 62


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(KERNELS), st.lists(st.integers(1, 4000), min_size=1, max_size=6))
def test_frees_do_not_fill_the_lists_beyond_their_limit(kernel: str, sizes: list[int]) -> None:
    host = machine(2 * GIB, kernel=kernel)
    host.percpu_pagelist_high_fraction = 1000
    zone = normal(host)
    taken = take(host, sum(sizes))
    at = 0
    for size in sizes:
        before = pages_of(host, zone).count
        free_pages(host, taken[at : at + size])
        at += size
        assert pages_of(host, zone).count < max(pcp_high(host, zone), before)
    assert_laws(host)


def test_what_was_freed_last_is_taken_first() -> None:
    host = machine(4 * GIB, kernel="6.1")
    taken = take(host, 200)
    free_pages(host, taken[:40])
    assert take(host, 40).tolist() == taken[:40][::-1].tolist()


def test_a_full_list_gives_back_its_oldest_pages() -> None:
    host = machine(2 * GIB, kernel="6.1")
    host.percpu_pagelist_high_fraction = 1000
    zone = normal(host)
    drain(host, [zone])
    taken = take(host, 630)
    high = pcp_high(host, zone)
    free_pages(host, taken[:high])
    listed = pages_of(host, zone).list_of(number_of(host.profile, 0, Migrate.UNMOVABLE))
    assert listed.items().tolist() == taken[63:high].tolist()


def test_pages_on_lists_do_not_merge() -> None:
    host = machine(4 * GIB, kernel="6.1")
    zone = normal(host)
    heads = alloc_huge_pages(host, [zone], 2)
    pfns = np.arange(heads[0] * 512, heads[0] * 512 + 512)
    host.mem.flags[heads] = 0
    free_pages(host, pfns)
    assert host.mem.use[heads[0]] == Use.PCP
    assert not host.mem.free_in(zone, heads[:1])[0]
    drain(host, [zone])
    assert host.mem.free_in(zone, heads[:1])[0]


def test_an_offline_drains_the_lists_of_its_zone() -> None:
    host = machine(4 * GIB, kernel="6.1", cmdline="movablecore=2G hugetlb_free_vmemmap=off")
    zone = host.nodes[0].zones[3]
    resize(host, 20)
    resize(host, 0)
    assert zone.nr_pcp >= 1024
    do(host, c.SetBlockState(zone.start_pfn // host.memory_block_pages, "offline"))
    assert zone.nr_pcp == 0
    assert not zone.pcp_disabled
    assert_laws(host)


def test_limits_that_moved_fall_again_second_by_second() -> None:
    host = machine(4 * GIB, kernel="6.12", cmdline=OFF)
    apply(host, c.SetMaxHugePages(9, 300), 0)
    apply(host, c.SetMaxHugePages(9, 0), 0)
    zone = next(z for z in host.zones if z.nr_pcp > 512)
    low, held = pcp_high(host, zone), zone.nr_pcp
    assert held > low
    apply(host, c.SetOvercommit(9, 1), 5_000_000_000)
    assert low - 512 < zone.nr_pcp < held
    apply(host, c.SetOvercommit(9, 2), 90_000_000_000)
    assert zone.nr_pcp <= low
    assert_laws(host)


def test_a_failed_restore_leaves_its_pages_on_the_list() -> None:
    # d_pressure_sweep-6.1, step 37: three pages of zone DMA were taken, and wait there.
    host = machine(2 * GIB, kernel="6.1")
    resize(host, 50)
    for zone in host.nodes[0].zones[: ZONE_NORMAL + 1]:
        zone.min = max(0, zone.nr_free - zone.lowmem_reserve[ZONE_NORMAL] - (3 if zone.type == 0 else 0))
        zone.low = zone.high = zone.min
    dma = host.nodes[0].zones[0]
    before = dma.nr_free
    resize(host, 49)
    assert row(host) == (50, 50, 0, 1, 49)
    assert (before - dma.nr_free, dma.nr_pcp) == (3, 3)
    assert_laws(host)


@settings(deadline=None, max_examples=15)
@given(
    st.sampled_from(["5.14", "6.1"]),
    st.lists(st.integers(0, 1200), min_size=1, max_size=3),
    st.sampled_from([0, 100, 1000]),
)
def test_growing_together_is_growing_one_after_the_other(
    kernel: str, sizes: list[int], fraction: int
) -> None:
    together = machine(6 * GIB, kernel=kernel)
    together.percpu_pagelist_high_fraction = fraction
    alone = fork(together)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hugetlb, "grow_together", lambda *_: NO_BLOCKS)
        for size in sizes:
            resize(alone, size)
    for size in sizes:
        resize(together, size)
    assert digest(together) == digest(alone)
    assert_laws(together)
