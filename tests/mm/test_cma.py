"""CMA areas: reserving, who may use them, and taking ranges out, held against the recorded kernel."""

from typing import Any

import numpy as np
import pytest

from hugepool.fs.render import render
from hugepool.mm.boot.boot import boot
from hugepool.mm.boot.cma_areas import cma_word
from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.kernel.cma import area_of, taken_pages
from hugepool.mm.machine.digest import digest, fork
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.mmzone import BlockFlag, Migrate, Use
from hugepool.mm.machine.state import Call, Host
from hugepool.mm.views.blockers import Unmovable, blockers
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
)

BASE, PAGES, BLOCKS = 0x40000, 16384, 32
WORDS = f"{ON} cma=64M@0x40000000-0x44000000"


def with_area(kernel: str = "5.14") -> Host:
    """2 GiB with an area of 64 MiB at 1 GiB."""
    return machine(2 * GIB, kernel=kernel, cmdline=WORDS)


def full_of_huge_pages(free: int = 100) -> Host:
    """The area is all free huge pages, and outside ``free`` 2 MiB blocks are left."""
    host = with_area()
    do(host, c.SetMinFreeKbytes(3000))
    resize(host, 100_000)
    heads = host.hstates[9].free_lists[0]
    inside = np.arange(BASE // 512, BASE // 512 + BLOCKS)
    outside = heads.items()[~np.isin(heads.items(), inside)]
    heads.remove(heads.items())
    heads.push(np.concatenate((inside, outside)))  # the next ones to go lie outside
    resize(host, row(host)[0] - free)
    do(host, c.SetMinFreeKbytes(45056))
    assert in_area(host) == BLOCKS
    return host


def in_area(host: Host) -> int:
    """Huge pages in the area."""
    flags = host.mem.flags[BASE // 512 : BASE // 512 + BLOCKS]
    return int(((flags & BlockFlag.HEAD) != 0).sum())


def test_the_command_line_says_how_large_and_where() -> None:
    assert cma_word("64M") == (16384, None, None)
    assert cma_word("1M") == (1024, None, None)
    assert cma_word("64M@1G") == (16384, 262144, None)
    assert cma_word("64M@1G-2G") == (16384, 262144, 524288)
    assert cma_word("much") == cma_word("64M@x") == cma_word("") == (0, None, None)


def test_an_area_is_free_memory_that_only_movable_pages_may_use() -> None:
    host = with_area()
    zone = host.zones[1]
    assert (zone.cma, zone.nr_free_cma) == (PAGES, PAGES)
    assert (host.mem.mt[BASE // 512 : BASE // 512 + BLOCKS] == Migrate.CMA).all()
    plain = machine(2 * GIB)
    assert free_pages(host) == free_pages(plain)
    for one in (host, plain):
        pid = do(one, c.StartTask("kernel"))["pid"]
        do(one, c.GrowTask(pid, "kernel", at_most=0, partial=True))
    apart = free_pages(host) - free_pages(plain) - PAGES  # kernel memory may not have the area's
    assert abs(apart) < 63  # a refill of a list more or less
    assert zone.nr_free_cma == PAGES
    taken = do(host, c.CreateTask("anon", pages=10_000))
    assert zone.nr_free_cma < PAGES - 5000  # more than half of what is free lies there
    do(host, c.ExitTask(taken["pid"]))
    assert PAGES - zone.nr_pcp <= zone.nr_free_cma <= PAGES  # the others are on the lists of the CPU
    assert_laws(host)


def test_console_lines_of_the_reservations() -> None:
    assert "cma: Reserved 64 MiB at 0x0000000040000000" in boot_lines("5.14", "cma=64M@0x40000000-0x44000000")
    assert "cma: Failed to reserve 65536 MiB" in boot_lines("5.14", "cma=64G")
    lines = boot_lines("5.14", "hugetlb_cma=1G hugepagesz=1G hugepages=1")
    assert "hugetlb_cma: reserve 1024 MiB, up to 1024 MiB per node" in lines
    assert "HugeTLB: hugetlb_cma is enabled, skip boot time allocation" in lines
    assert "hugetlb_cma: cma area should be at least 1024 MiB" in boot_lines("5.14", "hugetlb_cma=100M")
    assert "hugetlb_cma: reservation failed: err -12, node 0" in boot_lines("5.14", "hugetlb_cma=16G")


def test_free_huge_pages_in_an_area_are_replaced_elsewhere() -> None:
    # n_cma: 751/751/0/0/751 unchanged, eff -16384.
    host = full_of_huge_pages()
    before, free = row(host), free_pages(host)
    answer = do(host, c.AllocCma("reserved", PAGES))
    assert answer["replaced_hugepages"] == BLOCKS
    assert row(host) == before
    assert free - free_pages(host) == PAGES
    assert taken_pages(host, area_of(host, "reserved")).all()
    assert_laws(host)
    assert do(host, c.FreeCma("reserved", PAGES)) == {"area": "reserved", "freed_pages": PAGES}
    assert free_pages(host) == free
    assert not host.contig_ranges
    assert_laws(host)


def test_each_failing_try_leaves_a_surplus_page_for_every_huge_page() -> None:
    # n_cma_fail: 753 -> 785/785/0/32/753, then 817/817/0/64/753, max unchanged; ret -16.
    host = full_of_huge_pages(free=4 * BLOCKS)  # for two tries in vain and one that succeeds
    count = row(host)[0]
    fail_restores(host)
    for tries in (1, 2):
        refused = apply(host, c.AllocCma("reserved", PAGES))
        assert refused.error is not None
        assert (refused.error.errno, refused.error.facts["ret"]) == ("ENOMEM", -16)
        surplus = tries * BLOCKS
        assert row(host) == (count + surplus, count + surplus, 0, surplus, count)
        assert_laws(host)
    lines = [d["line"] for kind, d in refused.events if kind == "KernelMessagePrinted"]
    assert lines == ["cma: cma_alloc: reserved: alloc failed, req-size: 16384 pages, ret: -16"]
    let_restores_pass(host)
    do(host, c.AllocCma("reserved", PAGES))
    assert row(host)[0] == count + 2 * BLOCKS


def test_a_part_of_the_area_is_tried_page_by_page_until_no_2_mib_page_is_left() -> None:
    # n_cma_runaway: 12288 pages: one write grows the pool until the replacements run out, ret -12.
    host = full_of_huge_pages(free=60)
    count = row(host)[0]
    fail_restores(host)
    refused = apply(host, c.AllocCma("reserved", 12288))
    assert refused.error is not None
    assert refused.error.facts["ret"] == -12
    assert row(host)[3] >= 2 * BLOCKS * 3 // 4
    assert row(host)[4] == count
    assert_laws(host)


def test_without_a_2_mib_page_for_the_replacement_nothing_happens() -> None:
    # n_cma_nomem: ret -12 at once, counters unchanged.
    host = full_of_huge_pages(free=0)
    before = row(host)
    refused = apply(host, c.AllocCma("reserved", PAGES))
    assert refused.error is not None
    assert (refused.error.reason, refused.error.facts["ret"]) == ("no-contiguous-memory", -12)
    assert row(host) == before
    assert_laws(host)


def test_allocations_of_an_area_are_counted() -> None:
    """cma_alloc_success and cma_alloc_fail of n_cma, steps 15 and 68: one for each call."""
    host = with_area()
    do(host, c.AllocCma("reserved", 4096))
    assert apply(host, c.AllocCma("reserved", PAGES)).error is not None
    assert [host.counters.get(f"cma_alloc_{word}") for word in ("success", "fail")] == [1, 1]


def test_ranges_of_an_area_are_first_fit_and_freed_latest_first() -> None:
    host = with_area()
    starts = [do(host, c.AllocCma("reserved", 512))["start_pfn"] for _ in range(3)]
    assert starts == [BASE, BASE + 512, BASE + 1024]
    do(host, c.FreeCma("reserved", 700))
    assert [(r.start_pfn, r.end_pfn) for r in host.contig_ranges.values()] == [
        (BASE, BASE + 512),
        (BASE + 700 - 512 + 512, BASE + 1024),
    ]
    assert do(host, c.FreeCma("reserved", 10_000))["freed_pages"] == 1536 - 700
    assert_laws(host)


def test_pages_of_a_freed_range_rest_on_the_list_of_the_cpu() -> None:
    # n_cma without the feature: 928 huge pages fit after 16384 pages were freed one by one, 954 would before.
    host = machine(2 * GIB, cmdline="cma=64M@0x40000000-0x44000000")
    zone = host.nodes[0].zones[1]
    fits = apply(fork(host), c.SetMaxHugePages(9, 100_000)).result.allocated
    do(host, c.AllocCma("reserved", PAGES))
    assert zone.nr_pcp == 0
    do(host, c.FreeCma("reserved", PAGES))
    rest = zone.nr_pcp
    assert (
        zone.low * 3 // 4 < rest < zone.low
    )  # of a full list more and more goes back, until something is taken
    fewer = apply(fork(host), c.SetMaxHugePages(9, 100_000)).result.allocated
    assert fits - fewer in (rest // 512, rest // 512 + 1)
    pid = do(host, c.StartTask("balloon"))["pid"]
    do(host, c.GrowTask(pid, "kernel", 100))
    assert zone.nr_pcp == rest + 2 * 63 - 100  # those that rest are movable
    do(host, c.GrowTask(pid, "anon", 100))
    assert zone.nr_pcp in (rest + 2 * 63 - 200, rest + 2 * 63 - 201)  # with the page of their page table
    do(host, c.AllocCma("reserved", PAGES))
    assert zone.nr_pcp < 63  # all was drained; where 100 pages of the task went to is new
    assert_laws(host)


def test_gigantic_pages_come_from_the_area_first() -> None:
    # n_hugetlb_cma: 1, 2 from the area, the third from elsewhere; 8 -> 3.
    host = machine(6 * GIB, cmdline=f"{ON} hugetlb_cma=2G")
    area = host.cma_areas[0]
    assert (area.name, area.base_pfn, area.nr_pages) == ("hugetlb0", 1 << 20, 2 << 18)
    free = free_pages(host)
    resize(host, 2, order=18)
    assert free - free_pages(host) == 2 * 258058
    assert taken_pages(host, area).all()
    resize(host, 8, order=18)
    assert row(host, 18)[0] == 3
    refused = apply(host, c.AllocCma("hugetlb0", 512))
    assert refused.error is not None
    assert row(host, 18)[0] == 3
    resize(host, 0, order=18)
    assert not taken_pages(host, area).any()
    rest = host.zones[2].nr_pcp  # on the lists of the CPU
    assert (2 << 18) - rest <= host.zones[2].nr_free_cma <= 2 << 18
    assert_laws(host)


def test_every_node_gets_its_share_of_hugetlb_cma() -> None:
    host = boot(HostSpec((NodeSpec(6 * GIB), NodeSpec(4 * GIB)), "6.1", "hugetlb_cma=3G"), Call())
    assert [(area.name, area.nr_pages >> 18) for area in host.cma_areas] == [("hugetlb0", 2), ("hugetlb1", 1)]
    assert host.node_of_block(host.cma_areas[1].base_pfn // 512) == 1
    assert_laws(host)


def test_a_block_with_a_part_of_an_area_does_not_go_offline_nor_to_other_ranges() -> None:
    host = with_area()
    for command in (c.SetBlockState(8, "offline"), c.AllocContigRange(BASE, BASE + 512)):
        refused = apply(host, command).error
        assert refused is not None
        assert (refused.errno, refused.reason) == ("EBUSY", "unmovable-page")
        assert "is cma memory and cannot be moved" in refused.detail
    assert blockers(host, 8).unmovable == [Unmovable("cma", PAGES, BASE, [])]
    do(host, c.AllocContigRange(BASE, BASE + 512, "CMA"))
    assert host.mem.use[BASE // 512] == Use.CONTIG
    assert_laws(host)


@pytest.mark.parametrize(
    ("command", "errno"),
    [
        (c.AllocCma("other", 5), "ENOENT"),
        (c.FreeCma("other", 5), "ENOENT"),
        (c.AllocCma("reserved", 0), "EINVAL"),
        (c.AllocCma("reserved", PAGES + 1), "EINVAL"),
    ],
    ids=repr,
)
def test_what_an_area_cannot_give_is_refused_and_nothing_changes(command: c.Command[Any], errno: str) -> None:
    host = with_area()
    before = digest(host)
    with pytest.raises(MMError) as refused:
        apply(host, command)
    assert refused.value.errno == errno
    assert digest(host) == before


def test_a_search_for_a_page_passes_over_an_area_in_steps_of_what_is_isolated() -> None:
    host = machine(5 * GIB, kernel="6.1", cmdline="hugetlb_cma=1G")
    outcome = apply(host, c.AllocContigPages(1))
    assert outcome.error is None
    assert outcome.events[-1][0] != "KernelMessagePrinted"
    assert sum(kind == "KernelMessagePrinted" for kind, _ in outcome.events) == 0
    assert_laws(host)


@pytest.mark.parametrize("kernel", ["5.14", "6.1", "6.12"])
def test_areas_of_both_words_lie_apart_and_are_counted_together(kernel: str) -> None:
    host = machine(8 * GIB, kernel=kernel, cmdline="cma=1G hugetlb_cma=2G")
    assert_laws(host)
    assert sorted(area.nr_pages for area in host.cma_areas) == [GIB // 4096, 2 * GIB // 4096]
    blocks = int((host.mem.mt == Migrate.CMA).sum())
    assert blocks * 512 == sum(zone.cma for zone in host.zones) == 3 * GIB // 4096
    shown = render(host, "/proc/meminfo")
    assert "FilePmdMapped:         0 kB\nCmaTotal:        3145728 kB\nCmaFree:         3145728 kB\n" in shown
    assert "cma_alloc_success 0\n" in render(host, "/proc/vmstat")
    assert ("CmaTotal" in render(machine(GIB, kernel=kernel), "/proc/meminfo")) == (kernel == "5.14")


def test_areas_that_overlap_are_found_out() -> None:
    host = machine(8 * GIB, cmdline="cma=1G hugetlb_cma=2G")
    host.cma_areas[1].base_pfn = host.cma_areas[0].base_pfn + 1024
    broken = [law for law in check(host) if not law.ok]
    assert [law.law for law in broken] == ["1: areas of CMA are disjoint"]
    assert "overlap at page" in broken[0].findings[0]
