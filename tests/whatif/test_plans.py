"""Plans, checked by doing what they say on copies: the stated maximum works, one more does not."""

import itertools
import sys
from dataclasses import asdict
from typing import Any

import pytest

from hugepool.forms.bodies import HugeSize
from hugepool.forms.plans import (
    ChurnBody,
    HeadroomBody,
    MaxPoolBody,
    OfflineBody,
    PlacementBody,
    SavingsBody,
)
from hugepool.fs.render import render
from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.kernel import filemap
from hugepool.mm.machine.digest import digest, fork
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.mmzone import BlockFlag, Use
from hugepool.mm.machine.pool_outcomes import Resize
from hugepool.mm.machine.profile import profile_of
from hugepool.mm.machine.state import Host
from hugepool.mm.views.host_view import block_states
from hugepool.whatif.plans import PLANS, Question, ask
from hugepool.whatif.plans.headroom import headroom
from hugepool.whatif.plans.search import attempt, largest
from tests.mm.hosts import GIB, KERNELS, MIB, assert_laws, do, machine, resize

ORDER = 9
by_kernel = pytest.mark.parametrize("kernel", KERNELS)


def plan(word: str, host: Host, body: Any) -> dict[str, Any]:
    """The answer; the host that is asked about stays as it is."""
    before = digest(host)
    answer = asdict(ask(Question(word, host, body)))
    assert digest(host) == before
    return answer


def mem_available(host: Host) -> int:
    """MemAvailable as the file has it, in bytes."""
    line = next(
        line for line in render(host, "/proc/meminfo").splitlines() if line.startswith("MemAvailable:")
    )
    return int(line.split()[1]) << 10


# -- the search --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("near", [-5, 0, 1, 17, 63, 64, 65, 99, 100, 1000])
@pytest.mark.parametrize("answer", [0, 1, 16, 64, 99, 100])
def test_the_search_finds_the_largest_from_any_guess(answer: int, near: int) -> None:
    asked = []

    def works(number: int) -> bool:
        assert 0 <= number <= 100
        asked.append(number)
        return number <= answer

    assert largest(0, 100, works, near) == answer
    assert len(asked) <= 16


def test_a_good_guess_costs_little() -> None:
    asked: list[int] = []

    def works(count: int) -> bool:
        asked.append(count)
        return count <= 777_777_777

    assert largest(0, 1 << 30, works, 777_777_776) == 777_777_777
    assert len(asked) <= 4


# -- max-pool ----------------------------------------------------------------------------------------------


@by_kernel
@pytest.mark.parametrize("size", ["2048kB", "1048576kB"])
def test_the_largest_pool_leaves_what_is_to_be_kept_and_one_more_does_not(
    kernel: str, size: HugeSize
) -> None:
    host = machine(3 * GIB, 2 * GIB, kernel=kernel)
    order = ORDER if size == "2048kB" else 18
    keep = 700 * MIB
    answer = plan("max-pool", host, MaxPoolBody(size=size, keep=keep))
    for target in (answer["pool"], *answer["nodes"]):
        nid, count = target.get("node"), target["nr_hugepages"]
        written, more = fork(host), fork(host)
        outcome = resize(written, count, nid, order)
        assert (outcome.error, outcome.result.shortfall) == (None, None)
        assert mem_available(written) == target["available_bytes"] >= keep
        assert [row["nr_hugepages"] for row in target["nodes"]] == written.hstates[order].nr_node
        one_more = resize(more, count + 1, nid, order).result
        if target["limited_by"] == "keep":
            assert one_more.shortfall is None
            assert mem_available(more) == target["one_more"]["available_bytes"] < keep
        else:
            assert one_more.shortfall is not None
            assert one_more.shortfall.reason == target["limited_by"]


def test_a_pool_that_is_too_large_already_is_made_smaller() -> None:
    host = machine(2 * GIB)
    resize(host, 900)
    pool = plan("max-pool", host, MaxPoolBody(keep=GIB))["pool"]
    assert 0 < pool["nr_hugepages"] < 900
    assert pool["available_bytes"] >= GIB > pool["one_more"]["available_bytes"]


def test_no_pool_leaves_more_than_there_is() -> None:
    pool = plan("max-pool", machine(GIB), MaxPoolBody(keep=GIB))["pool"]
    assert (pool["nr_hugepages"], pool["limited_by"]) == (None, "keep")


def test_pages_in_use_are_the_least_a_pool_can_be() -> None:
    host = machine(2 * GIB)
    resize(host, 900)
    do(host, c.CreateTask("hugetlb", count=800, touch=800))
    pool = plan("max-pool", host, MaxPoolBody(keep=GIB))["pool"]
    assert (pool["nr_hugepages"], pool["limited_by"]) == (None, "keep")
    assert pool["available_bytes"] < GIB


def test_a_pool_that_cannot_shrink_is_searched_upwards_from_what_it_is() -> None:
    host = machine(2 * GIB)
    resize(host, 300)
    do(host, c.SetFault("vmemmap-restore"))
    keep = mem_available(host) - 100 * MIB
    pool = plan("max-pool", host, MaxPoolBody(keep=keep))["pool"]
    assert pool["nr_hugepages"] > 300
    assert pool["available_bytes"] >= keep > pool["one_more"]["available_bytes"]
    assert plan("max-pool", host, MaxPoolBody(keep=keep + 200 * MIB))["pool"]["nr_hugepages"] is None


# -- savings -----------------------------------------------------------------------------------------------


@by_kernel
@pytest.mark.parametrize("on", [True, False])
def test_savings_are_what_the_same_pool_leaves_more(kernel: str, on: bool) -> None:
    cmdline = "hugetlb_free_vmemmap=on" if on else ""
    host = machine(2 * GIB, GIB, kernel=kernel, cmdline=cmdline)
    answer = plan("savings", host, SavingsBody(count=300))
    freed = 6 if kernel == "5.14" else 7  # since 5.18
    assert answer["assumed"] is not on
    assert answer["gross_bytes"] == 300 * freed * 4096
    assert answer["net_bytes"] == answer["gross_bytes"] - answer["page_table_bytes"]
    assert sum(node["net_bytes"] for node in answer["nodes"]) == answer["net_bytes"]
    assert [node["hugepages"] for node in answer["nodes"]] == [150, 150]

    free = []
    for words in ("hugetlb_free_vmemmap=on", ""):
        real = machine(2 * GIB, GIB, kernel=kernel, cmdline=words)
        at_boot = sum(zone.nr_free for zone in real.zones)
        resize(real, 300)
        free.append(sum(zone.nr_free for zone in real.zones) - at_boot)
    assert (free[0] - free[1]) * 4096 == answer["net_bytes"]


def test_savings_of_a_pool_with_surplus_are_those_of_pages_that_are_made() -> None:
    host = machine(GIB, GIB)
    do(host, c.SetOvercommit(ORDER, 4))
    do(host, c.CreateTask("hugetlb", count=4, touch=1))
    for body in (SavingsBody(count=3), SavingsBody(count=2, node=1)):
        answer = plan("savings", host, body)
        assert answer["possible"] == body.count
        assert answer["gross_bytes"] == body.count * 6 * 4096
        assert sum(node["hugepages"] for node in answer["nodes"]) == body.count


def test_savings_are_reported_of_the_pages_that_can_be_allocated() -> None:
    answer = plan("savings", machine(GIB), SavingsBody(count=10_000))
    assert 0 < answer["possible"] < 512
    assert answer["gross_bytes"] == answer["possible"] * 6 * 4096


def test_there_are_no_savings_where_struct_page_crosses_pages() -> None:
    with pytest.raises(MMError, match="crosses") as refused:
        plan("savings", machine(GIB, struct_page_size=56), SavingsBody(count=8))
    assert refused.value.errno == "EOPNOTSUPP"


# -- headroom ----------------------------------------------------------------------------------------------


def _shrunk_with(host: Host, node: int | None, left: int, count: int) -> int:
    """Pages that go when a driver has left so many pages of a node, or of all."""
    trial = fork(host)
    pid = do(trial, c.StartTask("kernel", "driver", node=node))["pid"]
    do(trial, c.GrowTask(pid, "kernel", node=node, at_most=left, until_node=node))
    outcome = resize(trial, trial.hstates[ORDER].max_huge_pages - count)
    return int(outcome.result.freed)


@by_kernel
@pytest.mark.parametrize("cmdline", ["", "movablecore=1G"])
def test_headroom_is_enough_and_one_page_less_is_not(kernel: str, cmdline: str) -> None:
    host = machine(2 * GIB, GIB, kernel=kernel, cmdline=f"hugetlb_free_vmemmap=on {cmdline}")
    resize(host, 200)
    answer = plan("headroom", host, HeadroomBody(count=60, points=9))
    assert [domain["nodes"] for domain in answer["domains"]] == (
        [[0], [1]] if profile_of(kernel).restore_thisnode else [[0, 1]]
    )
    for domain in answer["domains"]:
        node = domain["nodes"][0] if len(domain["nodes"]) == 1 else None
        least = domain["needed_bytes"] // 4096
        assert 0 < least <= domain["count"] * answer["pages_per_hugepage"]
        assert _shrunk_with(host, node, least, 60) == 60
        assert _shrunk_with(host, node, least - 1, 60) < 60
        curve = domain["curve"]
        assert {"left_bytes": least * 4096, "freed": domain["count"]} in curve
        assert [p["freed"] for p in curve] == sorted(p["freed"] for p in curve)
        assert curve[0]["freed"] < domain["count"] == curve[-1]["freed"]


@pytest.mark.parametrize("cmdline", ["", " movablecore=2G"])
def test_headroom_gives_all_pages_back_only_a_few_times(
    monkeypatch: pytest.MonkeyPatch, cmdline: str
) -> None:
    host = machine(4 * GIB, cmdline=f"hugetlb_free_vmemmap=on{cmdline}")
    resize(host, 300)
    tried: list[int] = []

    def counted(*given: Any, **more: Any) -> Any:
        trial = attempt(*given, **more)
        if isinstance(trial.result, Resize):  # and not what a driver takes
            tried.append(trial.result.freed)
        return trial

    monkeypatch.setattr(sys.modules[headroom.__module__], "attempt", counted)
    plan("headroom", host, HeadroomBody(points=2))
    assert tried.count(300) <= 4


def test_pages_of_the_movable_zone_need_headroom_in_full_and_others_pay_for_each_other() -> None:
    needed = []
    for cmdline in ("", "movablecore=1G"):
        host = machine(2 * GIB, cmdline=f"hugetlb_free_vmemmap=on {cmdline}")
        resize(host, 100)
        (domain,) = plan("headroom", host, HeadroomBody())["domains"]
        needed.append(domain["needed_bytes"] // 4096)
    assert needed == [6, 600]


def test_headroom_for_pages_that_cannot_go_is_refused() -> None:
    host = machine(GIB)
    with pytest.raises(MMError, match="no free huge page"):
        plan("headroom", host, HeadroomBody())
    resize(host, 10)
    do(host, c.CreateTask("hugetlb", count=8, touch=8))
    with pytest.raises(MMError, match="2 of 5 pages"):
        plan("headroom", host, HeadroomBody(count=5))


# -- offline -----------------------------------------------------------------------------------------------


def _offline(host: Host, block: int) -> bool:
    try:
        return apply(host, c.SetBlockState(block, "offline")).error is None
    except MMError:
        return False


def test_each_block_is_judged_by_trying() -> None:
    host = machine(2 * GIB, cmdline="hugetlb_free_vmemmap=on movablecore=1G")
    resize(host, 100)
    answer = plan("offline", host, OfflineBody())
    online = [block for block, state in enumerate(block_states(host)) if state == 1]
    assert [row["block"] for row in answer["blocks"]] == online
    assert {row["can_offline"] for row in answer["blocks"]} == {True, False}
    for row in answer["blocks"]:
        assert row["can_offline"] is _offline(fork(host), row["block"])
        assert (row["errno"] is None) is row["can_offline"]


def test_blocks_that_go_together_do_and_are_enough() -> None:
    host = machine(2 * GIB, cmdline="hugetlb_free_vmemmap=on movablecore=1G")
    resize(host, 100)
    together = plan("offline", host, OfflineBody(memory=500 * MIB))["together"]
    assert together["bytes"] == 4 * 128 * MIB
    assert (together["enough"], together["hugepages_lost"]) == (True, 0)
    trial = fork(host)
    assert all(_offline(trial, block) for block in together["blocks"])


def test_the_set_of_blocks_is_the_largest_and_costs_least_of_all_that_there_are() -> None:
    host = machine(1536 * MIB, cmdline="hugetlb_free_vmemmap=on movablecore=512M")
    resize(host, 40)
    do(host, c.CreateTask("anon", pages=30_000))
    answer = plan("offline", host, OfflineBody())
    together = answer["together"]
    movable = [row["block"] for row in answer["blocks"] if row["zones"] == ["Movable"]]
    most = max(
        sum(_offline(trial, block) for block in blocks)
        for blocks in itertools.permutations(movable)
        for trial in [fork(host)]
    )
    assert len([block for block in together["blocks"] if block in movable]) == most


def test_offline_asks_about_what_is_named_only() -> None:
    host = machine(GIB, GIB)
    answer = plan("offline", host, OfflineBody(node=1, blocks=[3, 14, 15]))
    assert [row["block"] for row in answer["blocks"]] == [14, 15]
    with pytest.raises(MMError, match="no memory block 7000"):
        plan("offline", host, OfflineBody(blocks=[7000]))
    with pytest.raises(MMError, match="no node 9"):
        plan("offline", host, OfflineBody(node=9))


def test_memory_that_is_unplugged_is_not_given_back_again() -> None:
    host = machine(GIB, 512 * MIB, kernel="6.1", cmdline="hugetlb_free_vmemmap=on movable_node")
    do(host, c.SetBlockState(10, "offline"))
    do(host, c.SetBlockState(10, "online_movable"))
    do(host, c.UnplugMemory(10, 126 * 256))
    together = plan("offline", host, OfflineBody(memory=128 * MIB, blocks=[10]))["together"]
    assert (together["bytes"], together["enough"]) == (2 * MIB, False)


def test_pages_in_use_are_moved_and_not_lost() -> None:
    host = machine(2 * GIB, cmdline="hugetlb_free_vmemmap=on movablecore=1G")
    resize(host, 20)
    do(host, c.CreateTask("hugetlb", count=20, touch=20))
    block = next(row["block"] for row in plan("offline", host, OfflineBody())["blocks"] if row["hugepages"])
    together = plan("offline", host, OfflineBody(blocks=[block]))["together"]
    inside = int((host.mem.flags[block * 64 : block * 64 + 64] & BlockFlag.HEAD != 0).sum())
    assert inside >= 19
    assert (together["blocks"], together["hugepages_lost"]) == ([block], 0)
    assert together["pages_moved"] == inside * 512


# -- placement ---------------------------------------------------------------------------------------------


def test_a_machine_that_fits_needs_no_change() -> None:
    host = machine(GIB, GIB)
    resize(host, 200)
    answer = plan("placement", host, PlacementBody(memory=200 * MIB, nodes=[1]))
    assert (answer["count"], answer["now"]["fits"], answer["when_touched"]["fits"]) == (100, True, True)
    assert answer["change"] is None


def test_a_machine_that_fits_until_others_touch_their_memory_is_found_out() -> None:
    host = machine(GIB, GIB)
    resize(host, 200)
    do(host, c.CreateTask("hugetlb", count=60, policy_mode="bind", policy_nodes=(1,)))
    answer = plan("placement", host, PlacementBody(memory=160 * MIB, nodes=[1]))
    assert (answer["now"]["fits"], answer["when_touched"]["fits"]) == (True, False)
    assert answer["change"] == {
        "works": True, "write": [{"node": 1, "nr_hugepages": 140}], "missing": 0, "limited_by": None,
        "reclaimed_bytes": 0,
    }  # fmt: skip

    trial = fork(host)
    do(trial, c.TouchHugePages(1000, 0, 60))
    start = c.CreateTask("hugetlb", count=80, touch=80, policy_mode="bind", policy_nodes=(1,))
    resize(trial, 139, 1)
    with pytest.raises(MMError, match="79 free"):
        apply(fork(trial), start)
    resize(trial, 140, 1)
    assert apply(trial, start).result.signal is None


def test_the_least_to_write_counts_on_overcommit_and_with_what_others_have_not_reserved() -> None:
    host = machine(GIB)
    do(host, c.SetOvercommit(ORDER, 2))
    change = plan("placement", host, PlacementBody(memory=12 * MIB))["change"]
    assert change["write"] == [{"node": 0, "nr_hugepages": 4}]

    host = machine(GIB)
    do(host, c.CreateTask("hugetlb", count=4, noreserve=True))
    (write,) = plan("placement", host, PlacementBody(memory=6 * MIB))["change"]["write"]
    start = c.CreateTask("hugetlb", count=3, touch=3, policy_mode="bind", policy_nodes=(0,))
    for count, starts in ((write["nr_hugepages"], True), (write["nr_hugepages"] - 1, False)):
        trial = fork(host)
        resize(trial, count, 0)
        apply(trial, c.TouchHugePages(1000, 0, 4))
        try:
            fits = apply(trial, start).result.signal is None
        except MMError:
            fits = False
        assert fits is starts


def test_a_machine_that_no_write_makes_fit_reports_what_stops_it() -> None:
    change = plan("placement", machine(GIB, GIB), PlacementBody(memory=2 * GIB, nodes=[1]))["change"]
    assert (change["works"], change["limited_by"]) == (False, "watermark")
    assert change["missing"] > 0


@pytest.mark.parametrize("body", [PlacementBody(memory=0), PlacementBody(memory=GIB, nodes=[5])])
def test_a_machine_that_makes_no_sense_is_refused(body: PlacementBody) -> None:
    with pytest.raises(MMError) as refused:
        plan("placement", machine(GIB), body)
    assert refused.value.errno == "EINVAL"


# -- churn -------------------------------------------------------------------------------------------------


def test_histories_are_repeatable_and_differ_by_seed() -> None:
    host = machine(GIB)
    body = ChurnBody(rounds=3, seeds=3, unmovable_percent=30)
    first, second = plan("churn", host, body), plan("churn", host, body)
    assert first == second
    assert len({str({**row, "seed": 0}) for row in first["seeds"]}) > 1
    later = plan("churn", host, ChurnBody(rounds=3, seeds=1, seed=2, unmovable_percent=30))
    assert later["seeds"] == first["seeds"][2:]


def test_nothing_unmovable_leaves_all_pages_formable_and_more_leaves_fewer() -> None:
    host = machine(GIB)
    left = []
    for percent in (0, 20, 60):
        answer = plan("churn", host, ChurnBody(rounds=4, seeds=3, unmovable_percent=percent))
        left.append(answer["after_exit"]["2048kB"]["p50"])
        assert answer["running"]["2048kB"]["p50"] <= answer["after_exit"]["2048kB"]["p50"]
    assert left[0] >= answer["now"]["2048kB"] - 2  # page tables of programs took a pageblock or two
    assert left[0] > left[1] > left[2]


def test_no_rounds_change_nothing() -> None:
    answer = plan("churn", machine(GIB), ChurnBody(rounds=0, seeds=1))
    assert answer["now"] == answer["seeds"][0]["running"] == answer["seeds"][0]["after_exit"]


def test_percentiles_are_values_that_occurred() -> None:
    answer = plan("churn", machine(GIB), ChurnBody(rounds=2, seeds=5))
    values = sorted(row["running"]["2048kB"] for row in answer["seeds"])
    spread = answer["running"]["2048kB"]
    assert (spread["p0"], spread["p50"], spread["p100"]) == (values[0], values[2], values[4])


# -- page cache --------------------------------------------------------------------------------------------


def under_cache() -> Host:
    host = machine(GIB, GIB, kernel="6.1")
    for node in (0, 1):
        do(host, c.CreateTask("cache", pages=200_000, node=node))
    return host


def test_the_largest_pool_is_told_with_and_without_what_page_cache_gives_up() -> None:
    host, keep = under_cache(), 300 * MIB
    answer = plan("max-pool", host, MaxPoolBody(keep=keep))
    held = fork(host)
    filemap.hold(held)
    without = answer["without_reclaim"]
    assert without == plan("max-pool", held, MaxPoolBody(keep=keep))["pool"]
    assert answer["pool"]["nr_hugepages"] > without["nr_hugepages"] + 100
    assert plan("max-pool", machine(GIB), MaxPoolBody(keep=keep))["without_reclaim"] is None
    assert_laws(held)


def test_headroom_says_what_restores_could_reclaim() -> None:
    host = under_cache()
    resize(host, 100)
    answer = plan("headroom", host, HeadroomBody(count=20, points=4))
    cached = [filemap.held(host, Use.PAGE_CACHE, [nid]) * 4096 for nid in (0, 1)]
    assert [domain["reclaimable_bytes"] for domain in answer["domains"]] == cached
    assert all(domain["needed_bytes"] < 20 * MIB for domain in answer["domains"])


def test_what_a_machine_needs_is_told_with_the_cache_that_goes_for_it() -> None:
    host = under_cache()
    change = plan("placement", host, PlacementBody(memory=600 * MIB, nodes=[1]))["change"]
    assert (change["works"], change["write"]) == (True, [{"node": 1, "nr_hugepages": 300}])
    assert 400 * MIB < change["reclaimed_bytes"] < 620 * MIB  # the rest was free
    other = machine(GIB, GIB, kernel="6.1")
    assert (
        plan("placement", other, PlacementBody(memory=600 * MIB, nodes=[1]))["change"]["reclaimed_bytes"] == 0
    )


def test_every_plan_has_a_test() -> None:
    assert PLANS.keys() == {"max-pool", "savings", "headroom", "offline", "placement", "churn"}
