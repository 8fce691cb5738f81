"""Giving huge pages back: many at once come out as one after the other, and what was freed last is taken first."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.kernel import hugetlb_page
from hugepool.mm.kernel.huge_blocks import find_huge_blocks
from hugepool.mm.kernel.page_alloc import pages_without_steal
from hugepool.mm.machine.digest import digest, fork
from hugepool.mm.machine.free_order import FreeOrder
from hugepool.mm.machine.mmzone import Migrate, Use
from hugepool.mm.machine.profile import PROFILES
from hugepool.mm.machine.state import Host
from tests.mm.hosts import GIB, KERNELS, assert_laws, do, machine, resize, row

SIZES = st.lists(st.integers(0, 1200), min_size=1, max_size=3)


def play(host: Host, sizes: list[int], kernel_pages: int, *, window: int, order: int = 9) -> Host:
    """Sizes of a pool one after the other, with kernel pages in between that fill unmovable pageblocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hugetlb_page, "WINDOW", window)
        pid = do(host, c.StartTask("pipe"))["pid"]
        for size in sizes:
            resize(host, size, order=order)
            apply(host, c.GrowTask(pid, "kernel", kernel_pages, partial=True))
        resize(host, 0, order=order)
    return host


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(KERNELS), st.booleans(), SIZES, st.integers(0, 3000), st.sampled_from((7, 1024)))
def test_all_at_once_is_one_after_the_other(
    kernel: str, movable: bool, sizes: list[int], kernel_pages: int, window: int
) -> None:
    words = " movablecore=1G" if movable else ""
    host = machine(3 * GIB, kernel=kernel, cmdline=f"hugetlb_free_vmemmap=on{words}")
    alone = play(fork(host), sizes, kernel_pages, window=1)
    together = play(host, sizes, kernel_pages, window=window)
    assert digest(together) == digest(alone)
    assert_laws(together)


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(KERNELS), st.lists(st.integers(0, 4), min_size=1, max_size=3), st.integers(0, 3000))
def test_so_are_pages_of_1_gib(kernel: str, sizes: list[int], kernel_pages: int) -> None:
    host = machine(7 * GIB, kernel=kernel)
    alone = play(fork(host), sizes, kernel_pages, window=1, order=18)
    together = play(host, sizes, kernel_pages, window=1024, order=18)
    assert digest(together) == digest(alone)
    assert_laws(together)


def test_frames_are_stolen_from_the_pages_given_back_just_before() -> None:
    host = machine(4 * GIB)
    resize(host, 1000)
    mem, zone = host.mem, host.nodes[0].zones[1]
    pid = do(host, c.StartTask("pipe"))["pid"]
    do(host, c.GrowTask(pid, "kernel", pages_without_steal(mem, zone)))
    typed = (mem.mt == Migrate.UNMOVABLE).sum()
    pool = mem.use == Use.HUGETLB
    resize(host, 500)
    stolen = np.flatnonzero((mem.mt == Migrate.UNMOVABLE) & pool)
    assert stolen.size >= 2
    assert stolen.size % 2 == 0
    assert (stolen[0::2] + 1 == stolen[1::2]).all()
    assert (mem.mt == Migrate.UNMOVABLE).sum() == typed + stolen.size
    assert_laws(host)


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_was_freed_last_is_taken_first(kernel: str) -> None:
    # g_offline_inuse: after the shrink of step 12 the pages that a migration takes are those freed last, pair by pair.
    host = machine(4 * GIB, kernel=kernel, cmdline="hugetlb_free_vmemmap=off")
    resize(host, 100)
    order = host.hstates[9].free_lists[0].items()[::-1]  # the head first: so they leave
    resize(host, 60)
    gone = (
        order[:40] if PROFILES[kernel].bulk else order[:40][::-1]
    )  # older ones free the list from its other end
    pairs = [low for low in dict.fromkeys((gone[::-1] & ~1).tolist()) if {low, low + 1} <= set(gone.tolist())]
    zone = next(z for z in host.zones if z.index + 1 == host.mem.zone[gone[0]])
    taken = find_huge_blocks(host.mem, zone, 40)
    first = [low for low in (taken & ~1).tolist()[::2] if low in pairs]
    assert len(pairs) >= 18
    assert first[:10] == pairs[:10]
    assert row(host) == (60, 60, 0, 0, 60)


def test_memory_brought_online_goes_last() -> None:
    # j_dimm: a pool grows on the old memory first.
    host = machine(4 * GIB, cmdline="movablecore=2G")
    zone = host.nodes[0].zones[3]
    block = zone.start_pfn // 32768
    assert block in (find_huge_blocks(host.mem, zone, 4) // 64).tolist()
    do(host, c.SetBlockState(block, "offline"))
    do(host, c.SetBlockState(block, "online_movable"))
    everything = find_huge_blocks(host.mem, zone, host.mem.nr_blocks)
    assert set((everything[-64:] // 64).tolist()) == {block}
    assert everything[-64:].tolist() == sorted(everything[-64:].tolist())


def test_lists_forget_what_is_stale() -> None:
    order = FreeOrder(64)
    order.add_zone()
    zones = np.ones(8, np.int16)
    for _ in range(40):
        order.put_first(np.arange(8), zones)
        order.put_last(np.arange(8, 16), zones)
    assert order.head[0].size <= 128
    assert order.tail[0].size <= 128
    assert sorted(order.listed(0).tolist()) == list(range(16))
    assert order.sorted(np.arange(17)).tolist() == [*range(7, -1, -1), 16, *range(8, 16)]
