"""Rules that are easy to get wrong; the names say the rule, the numbers are sections of the behaviour file."""

import pytest

from hugepool.mm.boot.boot import boot
from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.state import Call
from tests.mm.hosts import (
    GIB,
    KERNELS,
    ON,
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


@pytest.mark.parametrize("kernel", ["5.14", "6.1"])
def test_a_shrink_restores_in_the_order_of_its_list_across_nodes(kernel: str) -> None:
    # 2.2 steps 8, 9: one list, last removed first, freed one at a time.  Removed 0,1,0,1,... -> tried 1,0,1,0,...
    host = machine(2 * GIB, 2 * GIB, kernel=kernel)
    resize(host, 8)
    fail_restores(host, times=3)
    resize(host, 0)
    assert row(host) == (3, 3, 0, 3, 0)
    assert host.hstates[9].surplus_node == [1, 2]
    assert host.hstates[9].free_node == [1, 2]
    assert_laws(host)


@pytest.mark.parametrize(
    ("times", "space", "stuck"), [(1, 0, 0), (2, 0, 1), (3, 0, 2), (1, 8, 0), (1, 15, 0), (-1, 0, 8)]
)
def test_a_bulk_shrink_of_6_12_tries_a_failed_page_again(times: int, space: int, stuck: int) -> None:
    # 5.2, 6.8+: restore all until the first error, free those restored, try the rest again; if none was restored
    # walk one by one (the failed page first, once more) until the first success.
    host = machine(2 * GIB, kernel="6.12")
    resize(host, 8)
    fail_restores(host, times=times, space=space)
    resize(host, 0)
    assert row(host) == (stuck, stuck, 0, stuck, 0)


def test_the_worker_of_6_12_frees_one_by_one_and_does_not_try_again() -> None:
    # 6: the work function restores and frees one each, newest first.
    host = machine(2 * GIB, kernel="6.12")
    do(host, c.SetOvercommit(9, 4))
    pid = do(host, c.CreateTask("hugetlb", count=4, touch=4))["pid"]
    do(host, c.ExitTask(pid))
    fail_restores(host, times=1)
    do(host, c.RunFreeHpageWork())
    assert row(host) == (1, 1, 0, 1, 0)


@pytest.mark.parametrize("mode", ["preferred", "interleave"])
def test_surplus_for_a_reservation_comes_from_the_cpus_node_whatever_the_policy(mode: str) -> None:
    # 3.4: gather_surplus_pages has no mempolicy.
    host = machine(2 * GIB, 2 * GIB)
    do(host, c.SetOvercommit(9, 10))
    do(host, c.CreateTask("hugetlb", count=5, policy_mode=mode, policy_nodes=(1,)))
    assert host.hstates[9].surplus_node == [5, 0]


def test_a_bound_mapping_is_refused_when_its_surplus_came_on_another_node() -> None:
    # 3.4 with 10.1: surplus is gathered on the CPU's node 0; then 5 > free pages of node 1 -> undone, ENOMEM.
    host = machine(2 * GIB, 2 * GIB)
    do(host, c.SetOvercommit(9, 10))
    try:
        outcome = apply(host, c.CreateTask("hugetlb", count=5, policy_mode="bind", policy_nodes=(1,)))
    except MMError as refused:
        error: MMError | None = refused
    else:
        error = outcome.error
    assert error is not None
    assert error.errno == "ENOMEM"
    assert row(host) == (0, 0, 0, 0, 0)


def test_a_refused_bound_mapping_keeps_what_undoing_it_released() -> None:
    # 10.1 "undo" is return_unused_surplus_pages (5.5): it releases stuck surplus pages, and they stay released.
    host = machine(2 * GIB, 2 * GIB)
    do(host, c.SetOvercommit(9, 4))
    pid = do(host, c.CreateTask("hugetlb", count=4, touch=4, noreserve=True, node=0))["pid"]
    fail_restores(host)
    do(host, c.ExitTask(pid))
    do(host, c.RunFreeHpageWork())
    do(host, c.SetOvercommit(9, 0))
    let_restores_pass(host)
    pid = do(host, c.StartTask("process", "x", "bind", (1,)))["pid"]
    outcome = apply(host, c.MapHugePages(pid, 9, 2))  # must not raise: a raise would roll the release back
    assert outcome.error is not None
    assert row(host) == (2, 2, 0, 2, 0)


def test_a_part_of_a_shared_mapping_frees_nothing_until_the_whole_goes() -> None:
    # 10.3: shared pages live in the page cache until truncate, their reservations too.
    host = machine(2 * GIB)
    resize(host, 20)
    pid = do(host, c.CreateTask("hugetlb", count=20, touch=10, shared=True))["pid"]
    assert row(host) == (20, 10, 10, 0, 20)
    do(host, c.UnmapHugePages(pid, 0, 0, 5))
    assert row(host) == (20, 10, 10, 0, 20)
    do(host, c.UnmapHugePages(pid, 0, 15, 5))
    assert row(host) == (20, 10, 10, 0, 20)
    do(host, c.UnmapHugePages(pid, 0, 5, 10))
    assert row(host) == (20, 20, 0, 0, 20)
    assert_laws(host)


@pytest.mark.parametrize(("kernel", "left"), [("5.14", 2), ("6.1", 0), ("6.12", 0)])
def test_unused_gigantic_surplus_is_returned_by_later_kernels(kernel: str, left: int) -> None:
    # 5.5: gigantic: 5.14 stops; 6.1 stops only without runtime support.
    host = machine(6 * GIB, kernel=kernel)
    resize(host, 2, order=18)
    pid = do(host, c.CreateTask("hugetlb", order=18, count=2))["pid"]
    resize(host, 0, order=18)
    assert row(host, 18) == (2, 2, 2, 2, 0)
    do(host, c.ExitTask(pid))
    assert row(host, 18) == (left, left, 0, left, 0)


def test_the_splat_of_a_deferred_free_names_the_kworker_even_when_a_resize_waits_for_it() -> None:
    # 5.1: <comm> is the writer, or kworker/... for deferred frees; the flush only waits.
    host = machine(1 * GIB)
    do(host, c.SetOvercommit(9, 50))
    pid = do(host, c.CreateTask("hugetlb", count=50, touch=50))["pid"]
    hog = do(host, c.StartTask())["pid"]
    do(host, c.GrowTask(hog, "kernel", at_most=0, partial=True))
    do(host, c.ExitTask(pid))
    events = apply(host, c.SetMaxHugePages(9, 50, comm="tee"), 10**12).events
    lines = [d["line"] for e, d in events if e == "KernelMessagePrinted"]
    assert len(lines) == 1
    assert lines[0].startswith("kworker/")


def test_growing_past_the_target_is_no_shortfall() -> None:
    # 2.6 rule 4 (node0 10 -> 12) and 2.5 row 4: the persistent size was reached, nothing is missing.
    host = machine(2 * GIB, 2 * GIB)
    resize(host, 10, nid=0)
    resize(host, 5, nid=1)
    fail_restores(host)
    resize(host, 3, nid=1)
    let_restores_pass(host)
    outcome = resize(host, 10, nid=0)
    assert host.hstates[9].nr_node == [12, 5]
    assert outcome.result.shortfall is None


def test_raising_the_target_under_surplus_in_use_is_no_shortfall() -> None:
    # e_surplus: 40 in use, 24 surplus; echo 30 -> surplus 10, max 30: done as asked.
    host = machine(2 * GIB)
    resize(host, 16)
    do(host, c.SetOvercommit(9, 32))
    do(host, c.CreateTask("hugetlb", count=40, touch=40))
    outcome = resize(host, 30)
    assert row(host) == (40, 0, 0, 10, 30)
    assert outcome.result.shortfall is None


def test_a_head_frame_of_6_12_may_come_from_another_node() -> None:
    # 4.6: no THISNODE since 6.8 (vmemmap_remap_free: GFP_KERNEL|__GFP_NORETRY|__GFP_NOWARN, preferred node only).
    host = boot(HostSpec((NodeSpec(2 * GIB, 1), NodeSpec(GIB, 1, movable=True)), "6.12", ON), Call())
    free = free_pages(host)
    resize(host, 16, nid=1)
    assert host.hstates[9].nr_optimized == 16
    assert free - free_pages(host) in (16 * 505 + 1, 16 * 505 + 2)
    resize(host, 0, nid=1)
    assert row(host) == (0, 0, 0, 0, 0)
    assert_laws(host)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_cursor_moves_on_an_attempt_that_fails(kernel: str) -> None:
    # 2.3: the cursor advances per attempt; after a vain attempt on node 1 alone it stands on node 1.
    host = machine(2 * GIB, 2 * GIB, kernel=kernel)
    hog = do(host, c.StartTask(node=1))["pid"]
    do(host, c.GrowTask(hog, "anon", node=1, at_most=0, zone_type=3, until_node=1, partial=True))
    resize(host, 5, nid=1)
    assert row(host) == (0, 0, 0, 0, 0)
    do(host, c.ExitTask(hog))
    resize(host, 1)
    assert host.hstates[9].nr_node == [0, 1]


def test_a_mempolicy_shrink_says_other_node_for_nodes_it_may_not_touch() -> None:
    host = machine(2 * GIB, 2 * GIB)
    resize(host, 20)
    do(host, c.CreateTask("hugetlb", count=4, touch=4, policy_mode="bind", policy_nodes=(0,)))
    outcome = apply(host, c.SetMaxHugePages(9, 0, mempolicy=(1,)))
    assert host.hstates[9].nr_node == [10, 0]
    assert shortfall_of(outcome).reason == "other-node"


def test_watermark_scale_factor_ends_at_1000_on_5_14() -> None:
    # kernel/sysctl.c: extra2 = &one_thousand until 5.16, 3000 later (mainline 39c65a94cd96).
    with pytest.raises(MMError):
        apply(machine(), c.SetWatermarkScaleFactor(1001))
    assert do(machine(kernel="6.1"), c.SetWatermarkScaleFactor(3000))


@pytest.mark.parametrize("kernel", ["5.14", "6.1"])
def test_a_page_that_fails_again_is_counted_as_surplus_again(kernel: str) -> None:
    # c_numa_uneven: 1600 -> 1200, 800, 600, 100, 0 with a full node 1 (passes today).
    host = machine(3 * GIB, 1 * GIB, kernel=kernel)
    resize(host, 1600)
    pid = do(host, c.StartTask())["pid"]
    do(host, c.GrowTask(pid, "kernel", node=1, at_most=0, partial=True))
    seen = []
    for count in (1200, 800, 600, 100, 0):
        resize(host, count)
        seen.append((row(host)[0], row(host)[3], row(host)[4]))
    assert seen == [(1400, 200, 1200), (1200, 400, 800), (1100, 500, 600), (850, 750, 100), (800, 800, 0)]
    assert host.hstates[9].surplus_node == [0, 800]


def test_a_refusal_names_every_node_it_happened_on() -> None:
    # 6.12, both nodes empty: surplus 888 = half on each node; both refused, both must be named.
    host = machine(1 * GIB, 1 * GIB, kernel="6.12")
    resize(host, 100)
    hog = do(host, c.StartTask())["pid"]
    do(host, c.GrowTask(hog, "kernel", at_most=0, partial=True))
    outcome = resize(host, 0)
    assert host.hstates[9].surplus_node == [50, 50]
    reasons = {r.node: r.reason for r in shortfall_of(outcome).nodes}
    assert reasons == {0: "vmemmap-restore", 1: "vmemmap-restore"}
    assert outcome.error is not None
    assert "0, 1" in outcome.error.detail


@pytest.mark.parametrize(("kernel", "recorded"), [("5.14", 988), ("6.1", 972), ("6.12", 972)])
def test_a_boot_pool_is_filled_before_khugepaged_raises_the_watermarks(kernel: str, recorded: int) -> None:
    # i_boot_huge: "Only allocated 988 hugepages." (970-973 on 6.x), 2 GiB.
    with pytest.raises(MMError) as refusal:
        machine(2 * GIB, kernel=kernel, cmdline="hugepages=100000")
    got = int(refusal.value.detail.split(", ")[1].split()[0])
    assert abs(got - recorded) <= recorded // 100
