"""A step that is refused or falls short fails the scenario, unless it expects that or may fail."""

import pytest

from tests.whatif.ask import Json, ask

POOL = "/proc/sys/vm/nr_hugepages"
HUGE: Json = {"resize": {"count": 100_000}}
REFUSED: Json = {"task": {"kind": "kernel", "memory": "64G"}}
KILLED: Json = {"task": {"kind": "hugetlb", "count": 4, "touch": 4, "noreserve": True}}
ARMED: Json = {"fault": {"point": "vmemmap-restore"}}
MANUAL: Json = {"deferred_mode": "manual"}
WRITTEN: Json = {"write": POOL, "data": "100000"}


def last(*steps: Json) -> Json:
    """The answer to the last step; whether all was well is its failures, and nobody else's."""
    answer = ask(*steps)
    found: Json = answer["steps"][-1]
    assert answer["ok"] == (not found["failed_expectations"])
    return found


CASES = [
    pytest.param([HUGE], "result.shortfall", "watermark", id="growth"),
    pytest.param([WRITTEN], "result.shortfall", "watermark", id="a file"),
    pytest.param([REFUSED], "errno", "oom", id="a refusal"),
    pytest.param([KILLED], "signal", "pool-exhausted", id="SIGBUS"),
    pytest.param([{"resize": {"count": 4}}, ARMED, {"resize": {"count": 0}}], "errno", "injected-fault", id="shrink"),
    pytest.param(
        [
            MANUAL, {"overcommit": {"count": 3}}, {**KILLED, "label": "app", "may_fail": True}, ARMED,
            {"overcommit": {"count": 0}}, {"exit": "app"}, {"drain": {}},
        ],
        "result.returned_as_surplus", None, id="the worker",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("steps", "path", "reason"), CASES)
def test_it_fails_the_scenario_and_says_why(steps: list[Json], path: str, reason: str | None) -> None:
    step = last(*steps)
    (failure,) = step["failed_expectations"]
    assert failure["path"] == path
    assert step["reason"] == reason
    assert step["summary"]
    assert failure["message"].startswith(step["summary"])


@pytest.mark.parametrize(("steps", "path", "reason"), CASES)
def test_a_step_that_may_fail_does_not(steps: list[Json], path: str, reason: str | None) -> None:
    del path, reason
    *before, short = steps
    assert last(*before, {**short, "may_fail": True})["failed_expectations"] == []


@pytest.mark.parametrize(("steps", "path", "reason"), CASES)
def test_a_step_that_expects_it_does_not(steps: list[Json], path: str, reason: str | None) -> None:
    *before, short = steps
    expected: Json = {"reason": reason} if reason else {path: {"ge": 1}}
    assert last(*before, {**short, "expect": expected})["failed_expectations"] == []
    assert last(*before, {**short, "expect": {path: {"ne": "x"}}})["failed_expectations"] == []


@pytest.mark.parametrize(
    "expect", [{"errno": None}, {"counters.2048kB.nr_hugepages": {"gt": 0}}, {"signal": None}]
)
def test_expecting_something_else_is_not_enough(expect: Json) -> None:
    (failure,) = last({**HUGE, "expect": expect})["failed_expectations"]
    assert failure["path"] == "result.shortfall"


def test_a_wrong_expectation_about_it_is_the_only_failure() -> None:
    (failure,) = last({**HUGE, "expect": {"reason": "in-use"}})["failed_expectations"]
    assert failure["message"] == 'reason is "watermark", expected "in-use"'


def test_what_helps_is_steps_that_run() -> None:
    short = last(HUGE)
    (remedy,) = [each for each in short["remedies"] if each["steps"]]
    assert last(HUGE | {"may_fail": True}, *remedy["steps"])["summary"] is None


def test_all_well_has_no_summary() -> None:
    step = last({"resize": {"count": 4}})
    assert (step["summary"], step["remedies"], step["reason"]) == (None, [], None)
