"""Giving back under pressure: the tables of the behaviour file and of the recordings, row by row."""

import numpy as np
import pytest

from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import Outcome, apply
from hugepool.mm.kernel.buddy import take_pages
from hugepool.mm.kernel.hugetlb_vmemmap import available_for_restore
from hugepool.mm.kernel.pcp import drain
from hugepool.mm.kernel.pcp_sizes import pages_of
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.mmzone import Migrate, Use
from hugepool.mm.machine.pool_outcomes import Demotion
from hugepool.mm.machine.rmap import from_runs, to_runs
from hugepool.mm.machine.state import Host
from tests.mm.hosts import (
    GIB,
    KERNELS,
    assert_laws,
    do,
    fail_restores,
    free_pages,
    let_restores_pass,
    machine,
    resize,
    row,
    shortfall_of,
)


@pytest.mark.parametrize("kernel", KERNELS)
def test_table_11_1_a_failing_user_shrink(kernel: str) -> None:
    host = machine(2 * GIB, kernel=kernel)
    resize(host, 16)
    fail_restores(host)
    steps = [
        (0, (16, 16, 0, 16, 0)),
        (0, (16, 16, 0, 16, 0)),
        (16, (16, 16, 0, 0, 16)),
        (10, (16, 16, 0, 6, 10)),
    ]
    for count, expected in steps:
        resize(host, count)
        assert row(host) == expected
    let_restores_pass(host)
    for count, expected in [
        (5, (11, 11, 0, 6, 5)),
        (11, (11, 11, 0, 0, 11)),
        (5, (5, 5, 0, 0, 5)),
        (0, (0,) * 5),
    ]:
        resize(host, count)
        assert row(host) == expected
    assert_laws(host)


def test_a_refused_shrink_says_enomem_with_the_result_and_a_repeated_one_does_not_try() -> None:
    host = machine(2 * GIB)
    resize(host, 16)
    fail_restores(host)
    first = resize(host, 0)
    assert first.error is not None
    assert (first.error.errno, first.error.reason) == ("ENOMEM", "injected-fault")
    assert first.result.refused == 16
    fault = host.faults["vmemmap-restore"]
    before = fault.failures
    again = resize(host, 0)
    assert again.error is None
    assert shortfall_of(again).reason == "surplus-not-retried"
    assert fault.failures == before


@pytest.mark.parametrize("nth", [1, 2, 6, 7, 13])
def test_one_failing_request_keeps_exactly_one_page(nth: int) -> None:
    # m_fault_shrink: 8 pages, write 0, allocation n fails: always 1/1/0/1/0 and 7 x 506 pages back.
    host = machine(2 * GIB)
    resize(host, 8)
    free = free_pages(host)
    fail_restores(host, times=1, space=nth)
    resize(host, 0)
    assert row(host) == (1, 1, 0, 1, 0)
    assert free_pages(host) - free == 7 * 506


def test_a_failed_page_costs_one_failing_request() -> None:
    # m_fault_shrink: the first 3 requests fail -> 3 pages stay; then write 20: 3 converted, 17 fresh.
    host = machine(2 * GIB)
    resize(host, 8)
    fail_restores(host, times=3)
    resize(host, 0)
    assert row(host) == (3, 3, 0, 3, 0)
    result = resize(host, 20).result
    assert (row(host), result.allocated) == ((20, 20, 0, 0, 20), 17)


def test_table_2_5_reserved_and_used_pages_are_kept() -> None:
    host = machine(2 * GIB)
    resize(host, 10)
    do(host, c.CreateTask("hugetlb", count=6, touch=6))
    resize(host, 2)
    assert row(host) == (6, 0, 0, 4, 2)
    other = machine(2 * GIB)
    resize(other, 10)
    do(other, c.CreateTask("hugetlb", count=3))
    outcome = resize(other, 0)
    assert row(other) == (3, 3, 3, 3, 0)
    assert shortfall_of(outcome).reason == "reserved"


def test_table_11_2_a_failing_surplus_free_by_the_application() -> None:
    host = machine(2 * GIB)
    do(host, c.SetOvercommit(9, 5))
    pid = do(host, c.CreateTask("hugetlb", count=5, touch=5, noreserve=True))["pid"]
    assert row(host) == (5, 0, 0, 5, 0)
    free = free_pages(host)
    do(host, c.ExitTask(pid))
    assert (row(host), len(host.deferred), free_pages(host)) == ((0, 0, 0, 0, 0), 5, free)
    fail_restores(host)
    assert do(host, c.RunFreeHpageWork())["returned_as_surplus"] == 5
    assert row(host) == (5, 5, 0, 5, 0)
    do(host, c.SetOvercommit(9, 0))
    with pytest.raises(MMError, match="6 huge pages"):
        apply(host, c.CreateTask("hugetlb", count=6))
    pid = do(host, c.CreateTask("hugetlb", count=5, touch=5, noreserve=True))["pid"]
    assert row(host) == (5, 0, 0, 5, 0)
    do(host, c.ExitTask(pid))
    do(host, c.RunFreeHpageWork())
    assert row(host) == (5, 5, 0, 5, 0)
    pid = do(host, c.CreateTask("hugetlb", count=5))["pid"]
    assert row(host) == (5, 5, 5, 5, 0)
    do(host, c.ExitTask(pid))  # the release is tried in the task, and fails
    assert row(host) == (5, 5, 0, 5, 0)
    let_restores_pass(host)
    pid = do(host, c.CreateTask("hugetlb", count=5))["pid"]
    do(host, c.ExitTask(pid))
    assert row(host) == (0, 0, 0, 0, 0)
    assert_laws(host)


def test_a_resize_waits_for_the_worker() -> None:
    # q_deferred: exit with failing restores, write 5 right behind -> 300/300/0/295/5.
    host = machine(4 * GIB)
    do(host, c.SetOvercommit(9, 300))
    pid = do(host, c.CreateTask("hugetlb", count=300, touch=300))["pid"]
    fail_restores(host)
    do(host, c.ExitTask(pid))
    assert len(host.deferred) == 300
    resize(host, 5)
    assert row(host) == (300, 300, 0, 295, 5)


def test_the_worker_works_newest_first() -> None:
    host = machine(2 * GIB)
    do(host, c.SetOvercommit(9, 4))
    pid = do(host, c.CreateTask("hugetlb", count=4, touch=4))["pid"]
    do(host, c.ExitTask(pid))
    queued = [q.block for q in host.deferred]
    fail_restores(host, times=2)
    do(host, c.RunFreeHpageWork())
    assert sorted(host.hstates[9].free_lists[0].items().tolist()) == sorted(queued[-2:])
    assert_laws(host)


def leave_to_restores(host: Host, pid: int, free: int, listed: int) -> None:
    """Let one zone have exactly these pages above its min watermark, others none, and as many on the CPU's list."""
    drain(host, host.zones)
    zones = [zone for zone in reversed(host.nodes[0].zones[:3]) if zone.present]
    held = from_runs(host.tasks[pid].runs)
    back = held[host.mem.zone[held // 512] == zones[0].id][: free + listed]
    host.mem.assign_pages(back, Use.BUDDY)
    parts = [held[~np.isin(held, back)]]
    for zone in zones:
        spare = zone.nr_free - zone.min - zone.lowmem_reserve[2] - (free + listed) * (zone is zones[0])
        if spare > 0:
            parts.append(take_pages(host.mem, zone, spare, Migrate.UNMOVABLE, Use.KERNEL))
    host.tasks[pid].runs = to_runs(np.concatenate(parts))
    pcp = pages_of(host, zones[0])
    pcp.list_of(0).refill(take_pages(host.mem, zones[0], listed, Migrate.UNMOVABLE, Use.PCP))
    pcp.count += listed
    assert_laws(host)
    assert available_for_restore(host, 0) == free


@pytest.mark.parametrize(("kernel", "need"), [("5.14", 6), ("6.1", 7), ("6.12", 7)])
@pytest.mark.parametrize(
    ("free", "listed", "passes"),
    [
        (1, 0, True),  # none is missing from the list
        (1, -1, True),  # the last frame comes from a refill, whose request has passed already
        (1, -2, False),  # the refill for the last but one leaves too little for the last one
        (0, 100, False),  # a zone at its watermark gives nothing of its list
    ],
)
def test_a_restore_looks_at_free_pages_and_then_takes_from_the_list(
    kernel: str, need: int, free: int, listed: int, passes: bool
) -> None:
    host = machine(1 * GIB, kernel=kernel)
    resize(host, 100)
    pid = do(host, c.StartTask())["pid"]
    do(host, c.GrowTask(pid, "kernel", at_most=0, partial=True))
    leave_to_restores(host, pid, free, need + listed)
    outcome = resize(host, 99)
    assert (outcome.error is None) == passes
    if outcome.error is not None:
        assert outcome.error.facts["pages_needed"] == need
    assert_laws(host)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_first_freed_page_pays_for_all_others(kernel: str) -> None:
    # What is freed fills the lists first; it is there for the next restore once they are flushed.
    for margin, left in ((6000, 0), (0, 150)):
        host = machine(1 * GIB, kernel=kernel)
        resize(host, 150)
        pid = do(host, c.StartTask())["pid"]
        do(host, c.GrowTask(pid, "kernel", at_most=0, partial=True))
        leave_to_restores(host, pid, margin, 63)
        resize(host, 0)
        assert row(host) == (left, left, 0, left, 0)
        assert_laws(host)


@pytest.mark.parametrize(("kernel", "stuck"), [("5.14", True), ("6.1", True), ("6.12", False)])
def test_a_full_node_cannot_shrink_although_the_other_has_memory(kernel: str, stuck: bool) -> None:
    # c_numa_uneven, d_numa_pressure: THISNODE until 6.6.
    host = machine(1 * GIB, 2 * GIB, kernel=kernel)
    resize(host, 100, nid=0)
    pid = do(host, c.StartTask(node=0))["pid"]
    do(host, c.GrowTask(pid, "kernel", node=0, at_most=0, until_node=0, partial=True))
    outcome = resize(host, 0, nid=0)
    assert row(host)[0] == (100 if stuck else 0)
    assert (outcome.error is not None) == stuck
    if outcome.error is not None:
        assert (outcome.error.reason, outcome.error.facts["node"]) == ("vmemmap-restore", 0)
    assert_laws(host)


def test_a_movable_page_frees_vmemmap_into_movable_and_restores_from_the_kernel_zone() -> None:
    # o_kernelcore: boot vmemmap lies in ZONE_MOVABLE.
    host = machine(4 * GIB, cmdline="hugetlb_free_vmemmap=on kernelcore=1G")
    movable, dma32 = host.nodes[0].zones[3], host.nodes[0].zones[1]
    managed = movable.managed
    resize(host, 300)
    assert movable.managed - managed == 1800
    before = dma32.nr_free + dma32.nr_pcp
    resize(host, 0)
    assert before - dma32.nr_free - dma32.nr_pcp == 1800
    assert_laws(host)


def test_the_splat_names_the_writer_at_most_once_in_ten_seconds() -> None:
    host = machine(1 * GIB)
    resize(host, 50)
    pid = do(host, c.StartTask())["pid"]
    do(host, c.GrowTask(pid, "kernel", at_most=0, partial=True))

    def lines(now_s: int, count: int) -> list[str]:
        events = apply(host, c.SetMaxHugePages(9, count, comm="tee"), now_s * 10**9).events
        return [d["line"] for e, d in events if e == "KernelMessagePrinted"]

    assert lines(100, 49)[0].startswith(
        "tee: page allocation failure: order:0, mode:0x210cc0(GFP_KERNEL|__GFP_NORETRY|__GFP_THISNODE)"
    )
    assert lines(105, 48) == []
    assert len(lines(111, 47)) == 1


def test_per_node_totals_count_surplus_elsewhere_until_6_6() -> None:
    # m_fault_pernode: node0 10, node1 5 with 2 stuck; write 10 to node0: 12 on 5.14 and 6.1, 10 on 6.12.
    for kernel, expected in (("5.14", [12, 5]), ("6.1", [12, 5]), ("6.12", [10, 5])):
        host = machine(2 * GIB, 2 * GIB, kernel=kernel)
        resize(host, 10, nid=0)
        resize(host, 5, nid=1)
        fail_restores(host)
        resize(host, 3, nid=1)
        let_restores_pass(host)
        assert row(host) == (15, 15, 0, 2, 13)
        resize(host, 10, nid=0)
        assert host.hstates[9].nr_node == expected


def test_demoting_restores_one_page_and_optimises_512() -> None:
    # i_boot_1g_2m on 6.1: 4095 given back, 512 x 7 freed: -511 pages.
    host = machine(6 * GIB, kernel="6.1", cmdline="hugetlb_free_vmemmap=on hugepagesz=1G hugepages=2")
    free = free_pages(host)
    do(host, c.Demote(18, 1))
    assert free - free_pages(host) == 511
    assert (row(host, 18), row(host)) == ((1, 1, 0, 0, 1), (512, 512, 0, 0, 512))
    assert_laws(host)


def test_a_demote_that_cannot_restore_changes_no_counter() -> None:
    host = machine(6 * GIB, kernel="6.1", cmdline="hugetlb_free_vmemmap=on hugepagesz=1G hugepages=2")
    fail_restores(host)
    outcome = apply(host, c.Demote(18, 1))
    assert outcome.error is not None
    assert outcome.error.errno == "ENOMEM"
    assert (row(host, 18), row(host)) == ((2, 2, 0, 0, 2), (0, 0, 0, 0, 0))
    assert_laws(host)


def demote_with_one_reserved(kernel: str, count: int) -> tuple[Host, int, Outcome[Demotion]]:
    """A host with two free pages of 1 GiB, one of them reserved by a task, after a demotion."""
    host = machine(6 * GIB, kernel=kernel, cmdline="hugetlb_free_vmemmap=on hugepagesz=1G hugepages=2")
    pid = do(host, c.StartTask("owner"))["pid"]
    do(host, c.MapHugePages(pid, 18, 1, shared=False, noreserve=False, touch=0))
    return host, pid, apply(host, c.Demote(18, count))


def test_a_demotion_keeps_reserved_pages() -> None:
    # w_demote-6.1
    host, pid, outcome = demote_with_one_reserved("6.1", 2)
    assert outcome.error is None
    assert (row(host, 18), row(host)) == ((1, 1, 1, 0, 1), (512, 512, 0, 0, 512))
    assert do(host, c.TouchHugePages(pid, 0, 1))["signal"] is None
    assert_laws(host)


def test_6_12_demotes_reserved_pages_and_their_owner_gets_sigbus() -> None:
    # w_demote-6.12.113, steps 15 to 17
    host, pid, outcome = demote_with_one_reserved("6.12", 2)
    assert outcome.error is None
    assert (row(host, 18), row(host)) == ((0, 0, 1, 0, 0), (1024, 1024, 0, 0, 1024))
    assert do(host, c.TouchHugePages(pid, 0, 1))["signal"] == "SIGBUS"
    again = apply(host, c.Demote(18, 1))
    assert again.error is not None
    assert again.error.errno == "EBUSY"
    assert (row(host, 18), row(host)) == ((0, 0, 1, 0, 0), (1024, 1024, 0, 0, 1024))
    assert_laws(host)


def test_6_12_is_busy_after_demoting_less_than_asked_for() -> None:
    host, _, outcome = demote_with_one_reserved("6.12", 5)
    assert outcome.error is not None
    assert (outcome.error.errno, outcome.result.demoted) == ("EBUSY", 2)
    assert (row(host, 18), row(host)) == ((0, 0, 1, 0, 0), (1024, 1024, 0, 0, 1024))


def test_a_fault_on_an_empty_pool_is_a_sigbus_and_a_mapping_beyond_it_enomem() -> None:
    # f_reserve, e_surplus: NORESERVE maps, touch stops; a reserving mmap is refused.
    host = machine(2 * GIB)
    resize(host, 10)
    do(host, c.SetOvercommit(9, 8))
    done = do(host, c.CreateTask("hugetlb", count=30, touch=30, noreserve=True))
    assert (done["touched"], done["signal"]) == (18, "SIGBUS")
    assert row(host) == (18, 0, 0, 8, 10)
    tasks = len(host.tasks)
    with pytest.raises(MMError, match="surplus limited to 8"):
        apply(host, c.CreateTask("hugetlb", count=1))
    assert len(host.tasks) == tasks


def test_surplus_appears_at_mmap_time() -> None:
    # e_surplus: pool 16, overcommit 32, mmap 40 -> 40/40/40/24 at once; munmap 15 and 25 -> 16 left... then 10.
    host = machine(2 * GIB)
    resize(host, 16)
    do(host, c.SetOvercommit(9, 32))
    mapped = do(host, c.CreateTask("hugetlb", count=40))
    assert row(host) == (40, 40, 40, 24, 16)
    do(host, c.TouchHugePages(mapped["pid"], 0, 40))
    assert row(host) == (40, 0, 0, 24, 16)
    do(host, c.ExitTask(mapped["pid"]))
    do(host, c.RunFreeHpageWork())
    assert row(host) == (16, 16, 0, 0, 16)
    assert_laws(host)
