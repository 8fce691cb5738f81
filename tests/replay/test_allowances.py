"""What a replay may find otherwise than recorded, and that nothing else passes with it."""

from pathlib import Path
from typing import Any

import pytest

from hugepool.mm.machine.errors import MMError
from hugepool.replay import run
from hugepool.replay.balance import in_the_reader_s_hand
from hugepool.replay.compare import Row
from hugepool.replay.processors import find_nodes
from hugepool.replay.run import replay_trace
from hugepool.replay.trace import Trace, load

TRACES = Path(__file__).parents[1] / "data" / "traces"
POOL = "2048kB"


def recording(name: str) -> Trace:
    return load(TRACES / f"{name}.json.gz")


def off(trace: Trace) -> list[Row]:
    return [row for row in replay_trace(trace).rows if row.verdict == "off"]


def within(trace: Trace, step: int) -> set[str]:
    rows = replay_trace(trace).rows
    return {row.counter for row in rows if row.step == step and row.verdict == "within"}


# -- inputs ------------------------------------------------------------------------------------------------


def test_a_process_that_the_guest_killed_is_an_input() -> None:
    report = replay_trace(recording("x_random2-6.18-HVOoff"))
    assert report.first_off is None
    assert report.inputs["the OOM killer ended a process"] == 1


def test_how_far_the_worker_got_before_an_offline_is_an_input() -> None:
    report = replay_trace(recording("x_migrate_twice-6.18-HVOon"))
    assert report.first_off is None
    assert report.inputs["the deferred-free worker kept up"] == 1


def test_the_model_s_refusal_is_off_where_the_recording_has_another_one() -> None:
    trace = recording("x_migrate_twice-6.18-HVOon")
    step = next(step for step in trace.steps if step.do == "write" and step.errno == "EBUSY")
    step.errno = "ENOMEM"
    assert [(row.step, row.counter) for row in off(trace)] == [(step.index, "errno")]


# -- allowances --------------------------------------------------------------------------------------------


def test_while_the_worker_is_at_work_pools_may_differ_by_what_it_has_to_do() -> None:
    trace = recording("q_deferred-6.18-HVOon")
    assert f"{POOL}/nr_hugepages" in within(trace, 30)
    step = trace.steps[30]
    assert step.after is not None
    step.after["hugepages"][POOL]["surplus_hugepages"] += 400  # more than it had
    assert {row.step for row in off(trace)} == {30}


def test_pools_that_do_not_change_any_more_are_exact() -> None:
    """The worker has finished: the next snapshot shows the same numbers, and those are not the model's."""
    trace = recording("q_deferred-6.18-HVOon")
    for step in trace.steps[45:48]:
        if step.after is not None:
            step.after["hugepages"][POOL]["nr_hugepages"] -= 1
            step.after["hugepages"][POOL]["free_hugepages"] -= 1
    assert {(row.step, row.counter) for row in off(trace)} >= {(47, f"{POOL}/nr_hugepages")}


def test_a_range_that_ran_away_is_a_growth_to_exhaustion() -> None:
    trace = recording("x_cma_runaway-6.18-HVOon")
    assert f"{POOL}/nr_hugepages" in within(trace, 28)
    step = trace.steps[28]
    assert step.after is not None
    step.after["hugepages"][POOL]["nr_hugepages"] += 20
    assert (28, f"{POOL}/nr_hugepages") in {(row.step, row.counter) for row in off(trace)}


@pytest.mark.parametrize(("shift", "found"), [(0, False), (100, True)])
def test_watermarks_may_be_boosted_by_whole_pageblocks(shift: int, found: bool) -> None:
    trace = recording("n_hugetlb_cma-6.18-HVOon")
    step = trace.steps[17]
    assert step.after is not None
    for word in ("min", "low", "high"):
        step.after["zones"]["0/Normal"][word] += shift
    assert bool({row.counter for row in off(trace)}) == found


@pytest.mark.parametrize(
    ("free", "pcp", "pages"), [((10, 10), (5, 4), 1), ((10, 10), (5, 3), 0), ((10, 11), (5, 4), 0)]
)
def test_one_page_may_be_in_the_reader_s_hand_where_nothing_else_moved(
    free: tuple[int, int], pcp: tuple[int, int], pages: int
) -> None:
    def snapshot(number: int) -> dict[str, Any]:
        return {"zones": {"0/DMA": {"free": free[number]}}, "pcp_pages": pcp[number]}

    assert in_the_reader_s_hand(snapshot(0), snapshot(1)) == pages


def test_a_switch_at_run_time_makes_places_of_first_optimisations_matter() -> None:
    trace = recording("x_random5-6.18-HVOoff")
    assert "MemTotal change (pages)" in within(trace, 26)
    step = trace.steps[5]
    assert step.after is not None
    step.after["meminfo_kb"]["MemTotal"] += 8  # the switch is still off there
    assert (5, "MemTotal change (pages)") in {(row.step, row.counter) for row in off(trace)}


def test_memory_that_the_model_does_not_let_go_is_counted_as_not_modelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any) -> None:
        raise MMError("EBUSY", "in the way")

    monkeypatch.setattr(run, "plug", refuse)
    report = replay_trace(recording("i_boot_none-6.18-HVOon"))
    assert dict(report.not_modelled) == {"memory plugged or unplugged from outside: EBUSY": 2}


def test_the_node_that_a_process_began_on_is_an_input() -> None:
    trace = recording("c_numa_even-6.18-HVOon")
    assert find_nodes(trace)[18] == 1  # 200 MiB fell on node 1, whose pool took the rest
    assert replay_trace(trace).inputs["the node that a process began on"] == 3
    assert find_nodes(recording("a_grow_shrink-6.18-HVOoff")) == {}


def test_a_full_node_may_split_otherwise_until_both_sides_agree() -> None:
    trace = recording("x_random9-6.1-HVOon")
    assert f"node0/{POOL}/nr_hugepages" in within(trace, 35)
    assert not within(trace, 37) & {f"node0/{POOL}/nr_hugepages"}
    for step in trace.steps[35:38]:
        assert step.after is not None
        step.after["node_hugepages"]["0"][POOL]["nr_hugepages"] += 40
    found = {(row.step, row.counter) for row in off(trace)}
    assert found == {(number, f"node0/{POOL}/nr_hugepages") for number in (35, 36, 37)}


def test_a_worker_may_give_up_on_surplus_pages_and_on_no_others() -> None:
    trace = recording("e_surplus_pressure-6.12.113-HVOon")
    assert off(trace) == []
    assert f"{POOL}/surplus_hugepages" in within(trace, 24)
    for step in trace.steps[22:]:
        if step.after is not None:
            step.after["hugepages"][POOL]["nr_hugepages"] += 1  # a page that is no surplus
    assert {row.step for row in off(trace) if row.counter == f"{POOL}/surplus_hugepages"} >= {24}


def test_an_offline_without_memory_may_dissolve_six_pages_more_or_less() -> None:
    trace = recording("g_offline_pressure-5.14-HVOon")
    assert off(trace) == []
    refused = next(step for step in trace.steps if step.errno == "ENOMEM" and step.after)
    assert refused.after is not None
    for files in (refused.after["hugepages"][POOL], refused.after["node_hugepages"]["0"][POOL]):
        files["free_hugepages"] -= 7
    assert any(row.counter == f"{POOL}/free_hugepages" for row in off(trace))
