"""Lists of CPUs: how much of what was freed rests on them, whom it is hidden from, and what drains them."""

import numpy as np
import pytest

from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.kernel.page_alloc import listed_blocks
from hugepool.mm.kernel.pcp import batch_size, pcp_high, resting
from hugepool.mm.machine.digest import digest
from hugepool.mm.machine.mmzone import BlockFlag, Use
from hugepool.mm.machine.profile import PROFILES
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.units import PAGEBLOCK_PAGES
from tests.mm.hosts import GIB, KERNELS, MIB, assert_laws, do, free_pages, machine, resize, row

# Recorded guests: pages freed in a row onto an empty list, its limit, and what was on it then.
STREAKS = [
    ("5.14", 16_384, 13_973, 12_415),
    ("5.14", 100_000, 8_343, 1_135),
    ("5.14", 262_144, 7_892, 3_615),
    ("6.1", 100_000, 8_383, 7_327),
    ("6.1", 262_144, 7_848, 6_175),
    ("6.12", 100_000, 2_914, 1_216),
]


@pytest.mark.parametrize(("kernel", "freed", "high", "left"), STREAKS)
def test_what_rests_after_a_row_of_frees(kernel: str, freed: int, high: int, left: int) -> None:
    assert resting(PROFILES[kernel], 0, freed, high, 63) == left


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_list_holds_all_up_to_its_limit_and_never_more(kernel: str) -> None:
    profile = PROFILES[kernel]
    assert resting(profile, 100, 899, 1000, 63) == 999
    assert resting(profile, 100, 900, 1000, 63) < 1000
    for freed in range(0, 5000, 7):
        assert 0 <= resting(profile, 2000, freed, 1000, 63) <= max(1000, 2000)
        assert resting(profile, 0, freed, 1000, 63) < 1000


def test_sizes_of_lists_are_those_that_guests_show() -> None:
    """Of g_offline_inuse-5.14: a zone of 15 MiB has batches of 1, others 63; one CPU's list holds the low mark."""
    host = machine(5 * GIB)
    dma, dma32 = host.nodes[0].zones[:2]
    assert (batch_size(dma), batch_size(dma32)) == (1, 63)
    assert pcp_high(host, dma32) == dma32.low
    host.percpu_pagelist_high_fraction = 100
    assert pcp_high(host, dma32) == dma32.managed // 100


def with_a_task(kernel: str, pages: int = 100_000, memory: int = 4 * GIB, **more: str) -> tuple[Host, int]:
    """A host on which a task touched so many pages, and the task."""
    host = machine(memory, kernel=kernel, **more)
    pid = do(host, c.StartTask("process", "app"))["pid"]
    do(host, c.GrowTask(pid, "anon", pages))
    return host, pid


@pytest.mark.parametrize("kernel", KERNELS)
def test_pages_at_rest_are_free_but_no_huge_page_uses_their_pageblocks(kernel: str) -> None:
    host, pid = with_a_task(kernel)
    before = free_pages(host)
    do(host, c.ShrinkTask(pid, 100_000))
    tables = 100_000 // 512 if PROFILES[kernel].empty_page_tables_freed else 0
    assert free_pages(host) == before + 100_000 + tables
    resting_blocks = host.mem.resting_blocks
    zones = host.mem.zones_of(resting_blocks)
    held = sum(zone.nr_cached for zone in zones)
    assert held > 0
    assert 1 <= resting_blocks.size <= held // PAGEBLOCK_PAGES + 2 * len(zones)
    for zone in zones:
        types = tuple(np.unique(host.mem.mt[host.mem.blocks_of(zone)]).tolist())
        assert not np.isin(resting_blocks, listed_blocks(host.mem, zone, host.mem.nr_blocks, types)).any()
    assert_laws(host)
    resize(host, 200)
    assert np.array_equal(host.mem.resting_blocks, resting_blocks)
    assert (host.mem.use[resting_blocks] == Use.BUDDY).all()
    assert_laws(host)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_task_takes_first_what_rests(kernel: str) -> None:
    host, pid = with_a_task(kernel)
    do(host, c.ShrinkTask(pid, 100_000))
    do(host, c.GrowTask(pid, "anon", 10))
    assert host.mem.resting_blocks.size == 0
    assert not (host.mem.flags & BlockFlag.RESTING).any()
    assert_laws(host)


@pytest.mark.parametrize("kernel", KERNELS)
def test_taking_a_block_offline_drains_the_lists(kernel: str) -> None:
    host, pid = with_a_task(kernel, cmdline="hugetlb_free_vmemmap=on movablecore=2G")
    do(host, c.ExitTask(pid))
    block = int(host.mem.resting_blocks[0]) * PAGEBLOCK_PAGES // host.memory_block_pages
    do(host, c.SetBlockState(block, "offline"))
    zone = host.nodes[0].zones[3]
    assert zone.nr_cached == 0
    assert host.mem.resting_in(zone).size == 0
    assert_laws(host)


@pytest.mark.parametrize("kernel", ["5.14", "6.1"])
def test_a_growth_to_exhaustion_drains_the_lists_where_a_zone_has_plenty(kernel: str) -> None:
    """ZONE_MOVABLE ends full of vmemmap frames: compaction and reclaim drain, and what was hidden is made huge pages.

    As o_kernelcore and g_offline_inuse-6.1 show it, which end with empty lists.
    """
    host, pid = with_a_task(kernel, cmdline="hugetlb_free_vmemmap=on movablecore=2G")
    do(host, c.ExitTask(pid))
    hidden = host.mem.resting_blocks
    assert hidden.size
    resize(host, 100_000)
    assert all(zone.nr_cached == 0 for zone in host.zones)
    assert (host.mem.use[hidden] == Use.HUGETLB).all()
    assert_laws(host)


def test_where_no_zone_has_plenty_the_lists_stay() -> None:
    """As b_overgrow-5.14 ends, with 5685 pages on the list."""
    host, pid = with_a_task("5.14", 8_000, 2 * GIB)
    do(host, c.ExitTask(pid))
    hidden = host.mem.resting_blocks
    assert hidden.size
    resize(host, 100_000)
    assert (host.mem.use[hidden] == Use.BUDDY).all()
    assert any(zone.nr_cached for zone in host.zones)
    assert_laws(host)


def test_a_restore_is_not_stopped_by_pages_at_rest() -> None:
    """Frames come from hidden pageblocks too when all others are used up: their single pages are free in the buddy."""
    host, pid = with_a_task("5.14", 100)
    resize(host, 100)
    do(host, c.ShrinkTask(pid, 60))
    resize(host, 0)
    assert row(host) == (0, 0, 0, 0, 0)
    assert_laws(host)


@pytest.mark.parametrize("kernel", KERNELS)
def test_restores_use_up_the_frames_that_rest_where_those_are_unmovable(kernel: str) -> None:
    """Of b_overgrow, a shrink of 600 pages: 4428 pages were on the list on 6.1, and 26 huge pages and 228 are then."""
    host = machine(2 * GIB, kernel=kernel)
    resize(host, 600)
    rested = sum(zone.nr_cached for zone in host.zones)
    assert rested >= 600 * host.hstates[9].nr_free_vmemmap_pages
    resize(host, 0)
    left = sum(zone.nr_cached for zone in host.zones)
    assert left == (rested - 600 * 7 if PROFILES[kernel].deferred_init else rested)


def test_a_bad_page_ends_the_rest_of_its_pageblock() -> None:
    host, pid = with_a_task("6.1")
    do(host, c.ShrinkTask(pid, 100_000))
    block = int(host.mem.resting_blocks[0])
    do(host, c.PoisonPage(block * PAGEBLOCK_PAGES + 7, "hard"))
    assert block not in host.mem.resting_blocks
    assert_laws(host)


def test_kernel_pages_do_not_rest() -> None:
    """Restores may use the unmovable ones on a list, so they stay to be had."""
    host = machine(4 * GIB)
    pid = do(host, c.StartTask("process", "pipes"))["pid"]
    do(host, c.GrowTask(pid, "kernel", 50_000))
    do(host, c.ExitTask(pid))
    assert host.mem.resting_blocks.size == 0
    assert all(zone.nr_cached == 0 for zone in host.zones)


def test_equal_histories_rest_equally() -> None:
    first, pid = with_a_task("6.12", 64 * MIB // 4096)
    second, _ = with_a_task("6.12", 64 * MIB // 4096)
    for host in (first, second):
        apply(host, c.ExitTask(pid))
    assert digest(first) == digest(second)
