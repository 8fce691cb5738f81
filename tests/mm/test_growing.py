"""Growing the pool: arithmetic to the page, distribution, limits.  Golden numbers carry their source."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.machine.digest import digest, fork
from hugepool.mm.machine.errors import BadInput, MMError
from hugepool.mm.machine.mmzone import Use
from hugepool.mm.machine.sparse_vmemmap import walk
from tests.mm.hosts import (
    GIB,
    KERNELS,
    MIB,
    assert_laws,
    do,
    free_pages,
    machine,
    resize,
    row,
    shortfall_of,
    total_pages,
)

# Recorded guests: net cost and MemTotal per first-time page.
NET = {"5.14": 506, "6.1": 505, "6.12": 505, "6.18": 505}
FRESH = {"5.14": 6, "6.1": 7, "6.12": 8, "6.18": 8}
NET_1G = {"5.14": 258050, "6.1": 258049, "6.12": 258049, "6.18": 258049}
FRESH_1G = {"5.14": 4094, "6.1": 4095, "6.12": 4096, "6.18": 4096}


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_page_costs_512_less_its_vmemmap_plus_a_table_per_section(kernel: str) -> None:
    host = machine(4 * GIB, kernel=kernel)
    free, total = free_pages(host), total_pages(host)
    result = resize(host, 64).result
    tables = result.vmemmap.page_table_pages
    assert tables in (1, 2)  # 64 pages fill one section or straddle two
    assert free - free_pages(host) == 64 * NET[kernel] + tables
    assert total_pages(host) - total == 64 * FRESH[kernel]
    assert row(host) == (64, 64, 0, 0, 64)
    assert_laws(host)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_second_cycle_costs_no_tables_and_leaves_memtotal_alone(kernel: str) -> None:
    host = machine(4 * GIB, kernel=kernel)
    resize(host, 100)
    resize(host, 0)
    free, total = free_pages(host), total_pages(host)
    result = resize(host, 100).result
    assert result.vmemmap.page_table_pages == 0
    assert free - free_pages(host) == 100 * NET[kernel]
    assert total_pages(host) == total
    assert_laws(host)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_gigantic_page_splits_eight_pmds(kernel: str) -> None:
    host = machine(6 * GIB, kernel=kernel)
    free, total = free_pages(host), total_pages(host)
    result = resize(host, 1, order=18).result
    assert asdict(result.vmemmap) == {
        "pages_freed": 4096 - (2 if kernel == "5.14" else 1),
        "pages_restored": 0,
        "page_table_pages": 8,
    }
    assert free - free_pages(host) == NET_1G[kernel] + 8
    assert total_pages(host) - total == FRESH_1G[kernel]
    assert_laws(host)
    free = free_pages(host)
    resize(host, 0, order=18)
    assert free_pages(host) - free == NET_1G[kernel]
    assert_laws(host)


@pytest.mark.parametrize("kernel", KERNELS)
def test_without_the_feature_a_page_costs_512_and_nothing_is_split(kernel: str) -> None:
    host = machine(4 * GIB, kernel=kernel, cmdline="")
    free, total = free_pages(host), total_pages(host)
    resize(host, 300)
    assert free - free_pages(host) == 300 * 512
    assert total_pages(host) == total
    assert not host.mem.pte_slot.any()
    assert_laws(host)


def test_pages_alternate_between_nodes_and_the_cursor_persists() -> None:
    # Recorded: 100 -> 50/50, 101 -> 51/50, 103 -> 52/51, 102 -> 51/51, 101 -> 51/50, 50 -> 25/25 (c_numa).
    host = machine(2 * GIB, 2 * GIB)
    seen = []
    for count in (100, 101, 103, 102, 101, 50):
        resize(host, count)
        seen.append(tuple(host.hstates[9].nr_node))
    assert seen == [(50, 50), (51, 50), (52, 51), (51, 51), (51, 50), (25, 25)]
    assert_laws(host)


def test_a_per_node_write_touches_that_node_only_and_a_global_one_shares_the_rest() -> None:
    # Recorded: node0=64, node1=32, global 200 -> 116/84, global 50 -> 41/9 (c_numa).
    host = machine(2 * GIB, 2 * GIB)
    resize(host, 64, nid=0)
    resize(host, 32, nid=1)
    resize(host, 200)
    assert host.hstates[9].nr_node == [116, 84]
    resize(host, 50)
    assert host.hstates[9].nr_node == [41, 9]
    assert_laws(host)


def test_a_mempolicy_write_has_a_global_target_and_frees_on_its_nodes_only() -> None:
    # Recorded: BIND 1: 30 -> 0/30; BIND 0: 50 -> 20/30; INTERLEAVE: 61 -> 26/35; BIND 1: 0 -> 26/0 (c_numa).
    host = machine(2 * GIB, 2 * GIB)
    seen = []
    for nodes, count in (((1,), 30), ((0,), 50), ((0, 1), 61), ((1,), 0)):
        outcome = apply(host, c.SetMaxHugePages(9, count, mempolicy=nodes))
        seen.append(tuple(host.hstates[9].nr_node))
    assert seen == [(0, 30), (20, 30), (26, 35), (26, 0)]
    assert shortfall_of(outcome).missing == 26
    assert_laws(host)


@pytest.mark.parametrize("kernel", KERNELS)
def test_growth_to_exhaustion_is_a_success_that_says_what_stopped_each_node(kernel: str) -> None:
    host = machine(1 * GIB, 1 * GIB, kernel=kernel)
    outcome = resize(host, 2**64 - 1)
    assert outcome.error is None
    got = row(host)[0]
    shortfall = shortfall_of(outcome)
    assert shortfall.missing == 2**64 - 1 - got
    assert [r.node for r in shortfall.nodes] == [0, 1]
    assert {r.reason for r in shortfall.nodes} <= {"watermark", "no-contiguous-memory"}
    assert row(host) == (got, got, 0, 0, got)
    assert resize(host, 2**64 - 1).result.allocated == 0
    assert_laws(host)


def test_a_zone_stops_at_its_watermark_to_the_page() -> None:
    # docs/kernel-rules.md 3.2: free - 511 must stay above min + lowmem_reserve[MOVABLE].
    host = machine(2 * GIB, cmdline="")
    resize(host, 10**6)
    for zone in host.zones:
        if zone.present:
            limit = zone.min + zone.lowmem_reserve[3]
            taken = zone.nr_free + zone.nr_pcp  # a request passes, then its list is filled with two at once
            assert zone.nr_free - 511 <= limit < taken + 512 - 511


@pytest.mark.parametrize("kernel", ["5.14", "6.1"])
@pytest.mark.parametrize("sizes", [(512 * MIB,), (512 * MIB, 768 * MIB), (256 * MIB, 512 * MIB, 384 * MIB)])
def test_one_write_of_n_equals_n_writes_of_one_more(kernel: str, sizes: tuple[int, ...]) -> None:
    bulk = machine(*sizes, kernel=kernel)
    steps = fork(bulk)
    resize(bulk, 10**6)
    got = row(bulk)[0]
    for count in range(1, got + 2):
        resize(steps, count)
    assert digest(bulk) == digest(steps)
    assert_laws(bulk)


def test_surplus_is_converted_before_anything_is_allocated() -> None:
    # docs/kernel-rules.md 2.5, rows 4 and 5.
    host = machine(2 * GIB)
    resize(host, 6)
    do(host, c.CreateTask("hugetlb", count=6, touch=6))
    resize(host, 2)
    assert row(host) == (6, 0, 0, 4, 2)
    result = resize(host, 5).result
    assert (row(host), result.allocated, result.converted_surplus) == ((6, 0, 0, 1, 5), 0, 3)
    resize(host, 2)
    result = resize(host, 9).result
    assert (row(host), result.allocated, result.converted_surplus) == ((9, 3, 0, 0, 9), 3, 4)


def test_a_failed_split_leaves_the_page_unoptimised_and_says_nothing() -> None:
    # m_fault_grow
    host = machine(4 * GIB)
    apply(host, c.SetFault("vmemmap-page-table", times=1))
    free, total = free_pages(host), total_pages(host)
    outcome = resize(host, 1)
    assert outcome.error is None
    assert outcome.result.shortfall is None
    assert (free - free_pages(host), total_pages(host) - total) == (512, 0)
    free = free_pages(host)
    resize(host, 2)  # the section is split now
    assert free - free_pages(host) == 506 + 1
    apply(host, c.SetFault("vmemmap-restore"))
    resize(host, 0)
    assert row(host) == (1, 1, 0, 1, 0)  # the unoptimised page went
    assert_laws(host)


def test_the_walk_of_an_optimised_page_ends_at_the_shared_tail_read_only() -> None:
    # r_ptdump: entries 0 and 1 writable on their own frames, 2..7 read-only on frame 1 (5.14).
    host = machine(4 * GIB)
    resize(host, 1)
    block = int(np.flatnonzero(host.mem.flags)[0])
    pages = [walk(host.mem, block * 512 + i * 64) for i in range(8)]
    assert all(p is not None and p.mapping == "pte" for p in pages)
    assert [p.writable for p in pages if p] == [True, True] + [False] * 6
    frames = [p.pfn for p in pages if p]
    assert frames[1] == frames[0] + 1
    assert set(frames[2:]) == {frames[1]}
    assert host.mem.page_use(frames[1] + 1) in (Use.BUDDY, Use.PCP)


@pytest.mark.parametrize(
    ("command", "errno"),
    [
        (c.SetMaxHugePages(10, 4), "ENOENT"),
        (c.SetMaxHugePages(9, 4, nid=7), "ENOENT"),
        (c.SetMaxHugePages(9, -1), "EINVAL"),
        (c.SetMaxHugePages(9, 2**64), "EINVAL"),
        (c.SetMaxHugePages(9, 4, mempolicy=(9,)), "EINVAL"),
        (c.SetOvercommit(18, 4), "EINVAL"),
        (c.SetOvercommit(9, -4), "EINVAL"),
        (c.SetOptimizeVmemmap(True), "ENOENT"),
        (c.Demote(18, 1), "ENOENT"),
        (c.SetFault("nowhere"), "ENOENT"),
        (c.SetFault("vmemmap-restore", probability=101), "EINVAL"),
        (c.SetDeferredMode("sometimes"), "EINVAL"),
        (c.ExitTask(77), "ENOENT"),
        (c.CreateTask("hugetlb", count=0), "EINVAL"),
        (c.CreateTask("hugetlb", count=4, touch=5), "EINVAL"),
        (c.CreateTask("anon", pages=4, policy_mode="bind", policy_nodes=(3,)), "EINVAL"),
        (c.SetMinFreeKbytes(-1), "EINVAL"),
    ],
)
def test_bad_commands_are_refused(command: c.Command[Any], errno: str) -> None:
    with pytest.raises(MMError) as refusal:
        apply(machine(), command)
    assert refusal.value.errno == errno
    assert refusal.value.result is None


def test_a_pool_that_leaves_no_memory_does_not_boot() -> None:
    # i_boot_huge: System is deadlocked on memory.
    with pytest.raises(BadInput, match="deadlocked"):
        machine(2 * GIB, cmdline="hugepages=100000")
