"""What 6.18 does otherwise than 6.12, rule by rule; docs/kernel-rules.md 18 has the words and the numbers."""

from typing import Any

import numpy as np
import pytest

from hugepool.fs.render import render
from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.machine.errors import MMError, NotFound
from hugepool.mm.machine.mmzone import Migrate, Use
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Host
from hugepool.mm.views.check import check
from tests.mm.hosts import (
    GIB,
    ON,
    assert_laws,
    boot_lines,
    do,
    fail_restores,
    free_pages,
    let_restores_pass,
    machine,
    resize,
    row,
    total_pages,
)
from tests.mm.test_offline import BLOCK, huge_in_block, movable_machine

AREA = 0x40000  # first page of the area below
CMA = f"{ON} cma=64M@0x40000000-0x44000000"
GIGANTIC = "hugepagesz=1G hugepages=2"


def refused(host: Host, command: c.Command[Any]) -> MMError:
    """The refusal of a command that must not work, whether or not it left traces."""
    try:
        error = apply(host, command).error
    except MMError as raised:
        error = raised
    assert error is not None
    return error


def in_use(host: Host, count: int) -> int:
    """A task that has touched so many huge pages."""
    pid: int = do(host, c.StartTask())["pid"]
    do(host, c.MapHugePages(pid, 9, count, touch=count))
    return pid


# -- 18.2 resizing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kernel", "expected"), [("6.12", (16, 6, 0, 12, 4)), ("6.18", (10, 0, 0, 6, 4))])
def test_free_surplus_pages_do_not_keep_a_shrink_from_freeing(kernel: str, expected: tuple[int, ...]) -> None:
    # x_min_count: 16/6/0/6 max 10 with 10 in use, write 4.
    host = machine(kernel=kernel)
    resize(host, 16)
    in_use(host, 10)
    fail_restores(host)
    resize(host, 10)
    let_restores_pass(host)
    assert row(host) == (16, 6, 0, 6, 10)
    resize(host, 4)
    assert row(host) == expected
    assert_laws(host)


# -- 18.3 where huge pages come from -------------------------------------------------------------------------


@pytest.mark.parametrize(("kernel", "nid"), [("5.14", 1), ("6.1", 1), ("6.12", 0), ("6.18", 1)])
def test_surplus_pages_of_a_reservation_come_from_the_task_s_node_but_on_6_12(kernel: str, nid: int) -> None:
    host = machine(1 * GIB, 1 * GIB, kernel=kernel)
    do(host, c.SetOvercommit(9, 10))
    pid = do(host, c.StartTask(cpu=1))["pid"]
    do(host, c.MapHugePages(pid, 9, 10))
    assert host.hstates[9].surplus_node == [10 * (nid == 0), 10 * (nid == 1)]


# -- 18.4 vmemmap ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [ON, f"{ON} {GIGANTIC}"])
def test_reserves_follow_managed_pages_at_once(words: str) -> None:
    # a_grow_shrink: DMA 3930 -> 3932 -> 3946 -> 3962 at 64, 512 and 1024 pages; 6.12 waits for the next event.
    host = machine(6 * GIB, kernel="6.18", cmdline=words)
    dma = host.nodes[0].zones[0]
    resize(host, 512)
    after = list(dma.lowmem_reserve)
    do(host, c.SetLowmemReserveRatio())
    assert dma.lowmem_reserve == after
    waiting = machine(6 * GIB, kernel="6.12", cmdline=words)
    before = list(waiting.nodes[0].zones[0].lowmem_reserve)
    resize(waiting, 512)
    assert waiting.nodes[0].zones[0].lowmem_reserve == before


def test_a_gigantic_page_of_the_command_line_never_had_its_vmemmap() -> None:
    # i_boot_1g_2m: MemTotal +4087 a page, 4095 frames less 8 page tables out of early memory.
    on, off = (machine(6 * GIB, kernel="6.18", cmdline=f"{w} {GIGANTIC}") for w in (ON, ""))
    assert total_pages(on) - total_pages(off) == 2 * 4087
    assert on.hstates[18].nr_optimized == 2
    assert_laws(on)


def test_its_one_frame_is_lost_when_the_page_gives_its_vmemmap_up_again() -> None:
    # x_boot_default1g: +258049 a page freed, then -516100 for two pages, and +516098 and -516098 from then on.
    host = machine(6 * GIB, kernel="6.18", cmdline=f"{ON} {GIGANTIC}")
    changes, total = [], total_pages(host)
    for count in (0, 2, 0, 2):
        before = free_pages(host)
        resize(host, count, order=18)
        changes.append(free_pages(host) - before)
    assert changes == [2 * 258049, -2 * 258050, 2 * 258049, -2 * 258049]
    assert total_pages(host) == total
    assert_laws(host)


def test_demoting_such_a_page_loses_it_too() -> None:
    # i_boot_1g_2m: -512, where a page that was grown at run time costs 511.
    costs = []
    for words in (f"{ON} {GIGANTIC}", ON):
        host = machine(6 * GIB, kernel="6.18", cmdline=words)
        resize(host, 2, order=18)
        before = free_pages(host)
        do(host, c.Demote(18, 1))
        costs.append(free_pages(host) - before)
        assert row(host) == (512, 512, 0, 0, 512)
        assert_laws(host)
    assert costs == [-512, -511]


@pytest.mark.parametrize("kernel", ["6.12", "6.18"])
def test_without_a_frame_for_its_head_a_page_is_optimised_all_the_same(kernel: str) -> None:
    # m_fault_grow: 53 pages in split sections while every request fails: MemTotal +371 = 53 * 7.
    host = machine(kernel=kernel)
    resize(host, 4)
    total, free = total_pages(host), free_pages(host)
    do(host, c.SetFault("vmemmap-head-frame"))
    tables = resize(host, 57).result.vmemmap.page_table_pages
    assert host.hstates[9].nr_optimized == 57
    assert (total_pages(host) - total, free_pages(host) - free) == (53 * 7, -53 * 505 - tables)
    assert_laws(host)


# -- faults injected into kernels that restore and optimise in bulk ------------------------------------------


@pytest.mark.parametrize("kernel", ["6.12", "6.18"])
@pytest.mark.parametrize(
    ("space", "times", "stuck"), [(1, 1, 0), (2, 1, 0), (7, 1, 0), (13, 1, 0), (0, 3, 2)]
)
def test_a_bulk_restore_that_fails_costs_one_request_and_is_tried_again(
    kernel: str, space: int, times: int, stuck: int
) -> None:
    # m_fault_shrink: 8 pages, write 0.  5.14 keeps as many as requests fail.
    host = machine(kernel=kernel)
    resize(host, 8)
    fail_restores(host, times=times, space=space)
    resize(host, 0)
    assert row(host) == (stuck, stuck, 0, stuck, 0)
    assert_laws(host)


@pytest.mark.parametrize("kernel", ["6.12", "6.18"])
@pytest.mark.parametrize("space", [2000, 4094])
def test_one_failing_request_keeps_no_gigantic_page(kernel: str, space: int) -> None:
    # m_fault_gigantic.
    host = machine(6 * GIB, kernel=kernel)
    resize(host, 2, order=18)
    fail_restores(host, times=1, space=space)
    resize(host, 0, order=18)
    assert row(host, 18) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("kernel", ["6.12", "6.18"])
def test_one_failing_page_table_keeps_no_page_of_a_growth_from_being_optimised(kernel: str) -> None:
    # m_fault_grow: splitting all first stops at the failure; each page then tries again.
    host = machine(kernel=kernel)
    do(host, c.SetFault("vmemmap-page-table", times=1))
    total = total_pages(host)
    resize(host, 100)
    assert host.hstates[9].nr_optimized == 100
    assert total_pages(host) - total == 100 * 8
    gigantic = machine(6 * GIB, kernel=kernel)
    do(gigantic, c.SetFault("vmemmap-page-table", times=1, space=3))
    resize(gigantic, 2, order=18)
    assert gigantic.hstates[18].nr_optimized == 2
    assert_laws(gigantic)


@pytest.mark.parametrize(("kernel", "optimized"), [("5.14", 99), ("6.1", 99), ("6.12", 100), ("6.18", 100)])
def test_kernels_that_optimise_page_by_page_lose_the_page_whose_table_fails(
    kernel: str, optimized: int
) -> None:
    host = machine(kernel=kernel)
    do(host, c.SetFault("vmemmap-page-table", times=1))
    resize(host, 100)
    assert host.hstates[9].nr_optimized == optimized


@pytest.mark.parametrize("kernel", ["6.12", "6.18"])
def test_when_every_page_table_fails_pages_of_split_sections_are_optimised(kernel: str) -> None:
    # m_fault_grow: one section already split, 200 asked: 58 optimised, 142 not.
    host = machine(kernel=kernel)
    resize(host, 6)
    split = np.flatnonzero(host.mem.pte_slot)
    do(host, c.SetFault("vmemmap-page-table"))
    resize(host, 206)
    heads = np.flatnonzero(host.mem.flags & 32)
    inside = np.isin(heads // 64, split)
    assert host.hstates[9].nr_optimized == inside.sum() < 206
    assert np.array_equal((host.mem.flags[heads] & 2) != 0, inside)
    assert_laws(host)


def test_a_surplus_page_asks_once_and_stays_as_it_is() -> None:
    host = machine(kernel="6.18")
    do(host, c.SetOvercommit(9, 4))
    do(host, c.SetFault("vmemmap-page-table", times=1))
    in_use(host, 2)
    assert host.hstates[9].nr_optimized == 1
    assert_laws(host)


# -- 18.5 dissolving surplus ---------------------------------------------------------------------------------


def test_dissolving_a_page_of_a_node_with_surplus_lowers_max_below_zero() -> None:
    # m_fault_underflow: 100/100/0/100 max 0, offline of 63 -> max 2^64 - 63; the next resize heals it.
    host = movable_machine("6.18", 100)
    fail_restores(host)
    resize(host, 0)
    let_restores_pass(host)
    assert row(host) == (100, 100, 0, 100, 0)
    do(host, c.SetBlockState(BLOCK, "offline"))
    assert row(host) == (36, 36, 0, 36, 2**64 - 64)
    assert render(host, "/proc/sys/vm/nr_hugepages") == f"{2**64 - 64}\n"
    law = next(law for law in check(host) if law.known_defect)
    assert law.ok
    assert "max" in law.findings[0]
    resize(host, 5)
    assert row(host) == (36, 36, 0, 31, 5)
    assert not any(law.known_defect for law in check(host))


# -- 18.7 offlining ------------------------------------------------------------------------------------------


def test_offlining_pages_in_use_ends_where_free_pool_pages_lie_outside() -> None:
    # g_offline_inuse (i): 300/100 -> 236/36, max 236; until 6.12 the pages come back for ever.
    host = movable_machine("6.18", 100)
    heads = host.hstates[9].free_lists[0]
    order = heads.items().copy()
    heads.remove(order)
    heads.push(
        np.concatenate((order[order // 64 != BLOCK], order[order // 64 == BLOCK]))
    )  # those of the block first
    in_use(host, 64)
    assert huge_in_block(host) == 64
    resize(host, 164)
    do(host, c.SetBlockState(BLOCK, "offline"))
    assert row(host) == (100, 36, 0, 0, 100)
    assert huge_in_block(host) == 0
    assert_laws(host)


def moved_once() -> tuple[Host, int]:
    """40 pages in use, no free one, whose block went offline: they lie on fresh pages of the next block."""
    host = movable_machine("6.18", 40)
    pid = in_use(host, 40)
    for _ in range(2):  # the first try meets pages that wait for the worker
        apply(host, c.SetBlockState(BLOCK, "offline"))
    do(host, c.RunFreeHpageWork())
    assert huge_in_block(host, BLOCK) == 0
    assert huge_in_block(host, BLOCK + 1) == 40
    return host, pid


def test_a_page_that_moved_to_a_fresh_page_of_its_node_cannot_move_again() -> None:
    # x_migrate_twice: EBUSY, EBUSY, EBUSY; freed and taken again they can be moved.
    host, pid = moved_once()
    for _ in range(3):
        error = refused(host, c.SetBlockState(BLOCK + 1, "offline"))
        assert (error.errno, error.reason) == ("EBUSY", Reason.NOT_MIGRATABLE)
        assert huge_in_block(host, BLOCK + 1) == 40
    do(host, c.UnmapHugePages(pid, 0))
    do(host, c.MapHugePages(pid, 9, 40, touch=40))
    assert refused(host, c.SetBlockState(BLOCK + 1, "offline")).reason == Reason.IN_FLIGHT
    do(host, c.RunFreeHpageWork())
    do(host, c.SetBlockState(BLOCK + 1, "offline"))
    assert row(host) == (40, 0, 0, 0, 40)
    assert_laws(host)


def test_such_a_page_stops_a_range_and_a_soft_offline_and_nothing_changes() -> None:
    host, _ = moved_once()
    head = next(h for h in range((BLOCK + 1) * 64, (BLOCK + 2) * 64) if host.mem.flags[h] & 32)
    before = row(host)
    error = refused(host, c.PoisonPage(head * 512, "soft"))
    assert (error.errno, error.reason) == ("EBUSY", Reason.NOT_MIGRATABLE)
    assert refused(host, c.AllocContigRange(head * 512, (head + 1) * 512)).errno == "EBUSY"
    assert row(host) == before
    assert host.mem.use[head] == Use.HUGETLB


def test_a_page_that_moved_to_a_page_of_the_pool_can_move_again() -> None:
    host = movable_machine("6.18", 40)
    in_use(host, 40)
    resize(host, 160)
    for block in (BLOCK, BLOCK + 1):
        do(host, c.SetBlockState(block, "offline"))
    assert row(host)[1] >= 0
    assert_laws(host)


# -- 18.8 contiguous ranges ----------------------------------------------------------------------------------


def area_full(kernel: str, *, used: bool, outside: int) -> tuple[Host, int]:
    """2 GiB whose area is full of huge pages, with ``outside`` free pool pages elsewhere; and how many it has."""
    host = machine(2 * GIB, kernel=kernel, cmdline=CMA)
    do(host, c.SetMinFreeKbytes(3000))
    resize(host, 100_000)
    heads = host.hstates[9].free_lists[0]
    order = heads.items().copy()
    inside = (order >= AREA // 512) & (order < AREA // 512 + 32)
    count = int(inside.sum())
    assert count > 20
    heads.remove(order)
    if used:
        heads.push(np.concatenate((order[~inside], order[inside])))
        in_use(host, count)
    else:
        heads.push(np.concatenate((order[inside], order[~inside])))
    resize(host, count + outside)
    do(host, c.SetMinFreeKbytes(45_056))
    return host, count


@pytest.mark.parametrize(("kernel", "works"), [("5.14", False), ("6.18", True)])
def test_pages_that_moved_to_free_pool_pages_are_replaced_in_the_range(kernel: str, works: bool) -> None:
    # x_cma_fail: 16384 pages at the first try, 800/60/0/0 unchanged; 5.14 answers EBUSY.
    host, _ = area_full(kernel, used=True, outside=60)
    before = row(host)
    outcome = apply(host, c.AllocCma("reserved", 16384))
    assert (outcome.error is None) == works
    assert row(host) == before
    assert_laws(host)


def test_restores_that_fail_run_away_until_the_node_has_no_page_left() -> None:
    # x_cma_runaway: 740 -> 971/971/0/231/740 in one call, ENOMEM, and the area is unchanged.
    host, count = area_full("6.18", used=False, outside=700)
    nr = row(host)[0]
    fail_restores(host)
    error = refused(host, c.AllocCma("reserved", 16384))
    assert error.reason == Reason.NO_CONTIGUOUS_MEMORY
    grown, free, _, surplus, persistent = row(host)
    assert grown == free == nr + surplus
    assert persistent == nr
    assert surplus > 100  # count at isolation, and the rest at page frames of the first page
    assert int(np.count_nonzero(host.mem.use[AREA // 512 : AREA // 512 + 32] == Use.HUGETLB)) == count
    let_restores_pass(host)
    assert apply(host, c.AllocCma("reserved", 16384)).error is not None  # nothing is left for a replacement
    assert_laws(host)


def test_a_run_away_is_the_same_one_by_one_and_many_at_once() -> None:
    rows = []
    for interval in (1, 2):  # failures that are not sure are tried one by one
        host = machine(1 * GIB, kernel="6.18")
        resize(host, 4)
        head = int(host.hstates[9].free_lists[0].items()[0])
        do(host, c.SetFault("vmemmap-restore", interval=interval, times=5 if interval == 1 else -1))
        apply(host, c.AllocContigRange(head * 512, head * 512 + 3))
        rows.append((row(host), host.faults["vmemmap-restore"].failures))
        assert_laws(host)
    assert rows[0][0] == (8, 8, 0, 4, 4)  # at isolation, and at each of three page frames


def test_pageblocks_have_their_own_type_again() -> None:
    # Isolation is a bit next to the type: until 6.12 the range's pageblocks end as what the caller asked for.
    for kernel, expected in (("6.12", Migrate.MOVABLE), ("6.18", Migrate.UNMOVABLE)):
        host = machine(kernel=kernel)
        blocks = np.flatnonzero(host.mem.use == Use.BUDDY)[-4:]
        host.mem.set_type(blocks, Migrate.UNMOVABLE)
        do(host, c.AllocContigRange(int(blocks[0]) * 512, (int(blocks[-1]) + 1) * 512))
        assert set(host.mem.mt[blocks].tolist()) == {expected}


def test_an_area_refuses_at_once_what_is_more_than_it_has_left() -> None:
    # x_cma_fail: ret -16, nothing is tried.
    host = machine(2 * GIB, kernel="6.18", cmdline=CMA)
    do(host, c.AllocCma("reserved", 10_000))
    error = refused(host, c.AllocCma("reserved", 10_000))
    assert (error.errno, error.facts["ret"]) == ("ENOMEM", -16)
    assert "reserved" in listed(host)


def listed(host: Host) -> str:
    """The area's folder, by its name: debugfs has no prefix since 6.0."""
    with pytest.raises(NotFound):
        render(host, "/sys/kernel/debug/cma/cma-reserved/count")
    assert render(host, "/sys/kernel/debug/cma/reserved/ranges/0/base_pfn") == f"{AREA}\n"
    return "reserved" if render(host, "/sys/kernel/debug/cma/reserved/count") == "16384\n" else ""


def test_with_hugetlb_cma_only_gigantic_pages_come_from_the_area_alone() -> None:
    # x_cma_only: area of 2 GiB, write 3 -> 2; without the word 3; 2M pages of a demotion go back to the area.
    host = machine(8 * GIB, kernel="6.18", cmdline=f"{ON} hugetlb_cma=2G hugetlb_cma_only=1")
    resize(host, 3, order=18)
    assert row(host, 18) == (2, 2, 0, 0, 2)
    do(host, c.Demote(18, 1))
    resize(host, 0)
    resize(host, 2, order=18)
    assert row(host, 18)[0] == 2
    assert_laws(host)
    other = machine(8 * GIB, kernel="6.18", cmdline=f"{ON} hugetlb_cma=2G")
    resize(other, 3, order=18)
    assert row(other, 18)[0] == 3


def test_boot_time_gigantic_pages_come_from_the_area_only_with_that_word() -> None:
    words = f"{ON} hugepagesz=1G hugepages=1 hugetlb_cma=2G"
    skip = "HugeTLB: hugetlb_cma is enabled, skip boot time allocation"
    for more, count in (("", 0), (" hugetlb_cma_only=1", 1)):
        host = machine(8 * GIB, kernel="6.18", cmdline=words + more)
        assert row(host, 18) == (count, count, 0, 0, count)
        assert (skip in boot_lines("6.18", words.replace("2G", "1G") + more)) == (count == 0)
        assert_laws(host)
    older = machine(8 * GIB, kernel="6.12", cmdline=f"{words} hugetlb_cma_only=1")
    assert row(older, 18)[0] == 0


# -- 18.1 files, 18.11 console -------------------------------------------------------------------------------


def vmstat(host: Host, name: str, path: str = "/proc/vmstat") -> int:
    return int(dict(line.split() for line in render(host, path).splitlines())[name])


def test_nr_hugetlb_counts_pages_in_use_and_a_page_that_moves_twice() -> None:
    # x_migrate_stat: 200 in use are 102400; each that moved is taken off once more, for good.
    host = movable_machine("6.18", 100)
    assert vmstat(host, "nr_hugetlb") == 0
    pid = in_use(host, 64)
    assert vmstat(host, "nr_hugetlb") == 64 * 512
    blocks = {int(h) // 64 for h in host.tasks[pid].maps[0].pages.values()}
    moved = do(host, c.SetBlockState(min(blocks), "offline"))["migrated_hugepages"]
    assert moved
    for path in ("/proc/vmstat", "/sys/devices/system/node/node0/vmstat"):
        assert vmstat(host, "nr_hugetlb", path) == (64 - moved) * 512
    do(host, c.ExitTask(pid))
    assert vmstat(host, "nr_hugetlb") == 0  # -moved * 512, which no file shows
    assert host.counters["nr_hugetlb"] == -moved * 512


def test_free_memory_in_blocks_is_counted() -> None:
    # i_boot_none: DMA 3584, DMA32 761856, Normal 239616: blocks of order 9 and 10.
    host = machine(2 * GIB, kernel="6.18")
    orders = [line.split()[4:] for line in render(host, "/proc/buddyinfo").splitlines()]
    assert vmstat(host, "nr_free_pages_blocks") == sum(int(r[9]) * 512 + int(r[10]) * 1024 for r in orders)


def test_meminfo_zoneinfo_and_the_areas_have_their_new_lines() -> None:
    host = machine(2 * GIB, kernel="6.18")
    assert "\nBalloon:               0 kB\nHugePages_Total:" in render(host, "/proc/meminfo")
    text = render(host, "/proc/zoneinfo")
    assert "              count:    0\n              high:     " in text
    assert "              high_min: " in text


def test_a_boot_says_how_long_the_pages_took_and_with_how_many_threads() -> None:
    line = "HugeTLB: allocation took 0ms with hugepage_allocation_threads="
    assert f"{line}1" in boot_lines("6.18", "hugepages=5")
    assert f"{line}3" in boot_lines("6.18", "hugepages=5 hugepage_alloc_threads=3")
    for words in ("", "hugepages=0", "hugepages=0:5"):
        assert not [found for found in boot_lines("6.18", words) if line in found]
    assert "cma: Reserved 1024 MiB in 1 range" in boot_lines("6.18", "hugetlb_cma=1G")


@pytest.mark.parametrize("word", ["hugetlb_free_vmemmap", "hugetlb_free_vmemmap=x", "hugetlb_free_vmemmap="])
def test_the_bare_word_is_malformed_and_changes_nothing(word: str) -> None:
    assert "Malformed early option 'hugetlb_free_vmemmap'" in boot_lines("6.18", f"{ON} {word}")
    assert machine(kernel="6.18", cmdline=f"{ON} {word}").optimize_enabled
    assert not machine(kernel="6.18", cmdline=word).optimize_enabled


def test_empty_page_tables_of_a_process_go_with_the_memory() -> None:
    # g_offline_inuse: +100195 for 100,000 pages given back; +100,000 until 6.12.
    for kernel, tables in (("6.12", 0), ("6.18", 195)):
        host = machine(1 * GIB, kernel=kernel)
        pid = do(host, c.StartTask())["pid"]
        do(host, c.GrowTask(pid, "anon", 100_000))
        before = free_pages(host)
        do(host, c.ShrinkTask(pid, 100_000))
        assert free_pages(host) - before == 100_000 + tables
        do(host, c.ExitTask(pid))
        assert_laws(host)
