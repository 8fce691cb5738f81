"""The same question with other values: all are checked before any is run, and each is a row."""

from dataclasses import asdict
from typing import Any

import pytest

from hugepool.jobs import Refusal
from hugepool.mm.machine.errors import BadInput
from hugepool.whatif.run import run
from hugepool.whatif.variants import Question as SharedQuestion
from hugepool.whatif.variants import Table, VariantRow, expand, items, row, table, work
from tests.mm.hosts import GIB, machine
from tests.whatif.ask import Json, ask, question, scenario

GROW: Json = {"label": "grow", "resize": {"count": 8}}


def varied(*steps: Json, host: Any = None, **variants: Any) -> list[Json]:
    """The rows of a question with variants, as plain data."""
    return [asdict(found) for found in found_rows(*steps, host=host, **variants)]


def found_rows(*steps: Json, host: Any = None, **variants: Any) -> list[VariantRow]:
    """The rows of a question with variants."""
    asked = scenario(question(*steps, host=host, variants=variants))
    return [row(asked, i, values, {"lab": machine(GIB)}) for i, values in enumerate(expand(asked))]


def test_a_grid_is_every_combination_in_the_order_of_its_words() -> None:
    rows = varied(GROW, grid={"steps.0.resize.count": [1, 2], "host.spec.kernel": ["5.14", "6.1", "6.12"]})
    assert [tuple(found["values"].values()) for found in rows] == [
        (count, kernel) for count in (1, 2) for kernel in ("5.14", "6.1", "6.12")
    ]
    assert [found["counters"]["2048kB"]["nr_hugepages"] for found in rows] == [1, 1, 1, 2, 2, 2]


def test_a_list_is_one_variant_after_the_other() -> None:
    rows = varied(GROW, list=[{"steps.grow.resize.count": 3}, {"host": "lab"}, {"host.spec.cmdline": ""}])
    assert [found["counters"]["2048kB"]["nr_hugepages"] for found in rows] == [3, 8, 8]
    assert [found["counters"]["vmemmap"]["pages_freed"] for found in rows] == [18, 48, 0]


def test_a_row_says_what_the_question_alone_would_have_said() -> None:
    (found,) = varied(
        GROW, list=[{"steps.0.resize.count": 5}], columns=["steps.grow.result.vmemmap.pages_freed"]
    )
    alone = ask({"label": "grow", "resize": {"count": 5}})
    assert found["counters"] == alone["steps"][0]["counters"]
    assert found["columns"] == {"steps.grow.result.vmemmap.pages_freed": 30}


def test_what_a_variant_does_not_have_is_reported_for_its_column() -> None:
    (found,) = varied(
        {"task": {"kind": "kernel", "memory": "8G"}}, list=[{"name": "x"}], columns=["steps.0.result.pages"]
    )
    assert found["columns"] == {"steps.0.result.pages": None}
    assert "steps.0.result is null" in found["missing_columns"]["steps.0.result.pages"]


def test_a_host_that_cannot_be_had_is_the_row_of_its_variant_only() -> None:
    rows = found_rows(GROW, list=[{"host": "nowhere"}, {"steps.0.resize.count": 2}])
    assert [found.ok for found in rows] == [False, True]
    assert rows[0].error is not None
    assert rows[0].error["errno"] == "ENOENT"
    assert table(rows) == Table(ok=False, variants=rows)


def test_expectations_that_fail_are_reported_with_their_step() -> None:
    expecting: Json = {**GROW, "expect": {"result.allocated": 8}}
    rows = varied(expecting, grid={"steps.0.resize.count": [8, 9]})
    assert [found["ok"] for found in rows] == [True, False]
    (failure,) = rows[1]["failed_expectations"]
    assert (failure["step"], failure["actual"], failure["expected"]) == (0, 9, 8)


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ({"grid": {"steps.4.resize.count": [1]}}, "there is no 'steps.4'; steps is a list of 1"),
        ({"grid": {"steps.nobody.resize.count": [1]}}, "there is no 'steps.nobody'"),
        (
            {"grid": {"steps.0.resize.count": [1, -1]}},
            "with steps.0.resize.count = '-1': steps[0].resize.count",
        ),
        ({"list": [{"host.spec.nodes": 3}]}, "variants.list[0]: with host.spec.nodes = '3'"),
        ({"grid": {"variants.columns": [[]]}}, "variants do not vary"),
        ({"grid": {"steps.0.resize.count": list(range(1000)), "name": ["x"] * 11}}, "has 11000 combinations"),
        ({"grid": {"name": ["x"]}, "columns": ["steps.0.result.alocated"]}, "did you mean allocated?"),
        ({"grid": {"name": ["x"]}, "columns": ["steps.0.eror"]}, "did you mean errno?"),
        ({"grid": {"name": ["x"]}, "columns": ["steps.7.errno"]}, "there is no step '7'"),
        ({"grid": {"name": ["x"]}, "columns": ["counters"]}, "a path into the answer begins with steps"),
        ({"grid": {"name": ["x"]}, "columns": ["steps.0.errno", "steps[0].errno"]}, "a second time"),
        (
            {"grid": {"steps": [[{"drain": {}}] * 1000], "name": [str(i) for i in range(200)]}},
            "there may be 100000 steps in all",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(variants: Json, message: str) -> None:
    with pytest.raises(BadInput) as refused:
        expand(scenario(question(GROW, variants=variants)))
    assert message in refused.value.detail


def test_the_work_of_a_job_is_what_is_done_without_one() -> None:
    document = question(GROW, variants={"grid": {"steps.0.resize.count": [1, 2]}})
    asked = scenario(document)
    progress: list[tuple[int, int]] = []
    shared = SharedQuestion(document)
    found = [work(shared, item, lambda *at: progress.append(at)) for item in items(expand(asked))]
    assert found == found_rows(GROW, grid={"steps.0.resize.count": [1, 2]})
    assert progress == [(1, 1), (1, 1)]

    (only,) = items([])
    whole = work(SharedQuestion(question(GROW)), only, lambda *_: None)
    assert whole == run(scenario(question(GROW)), {})


def test_a_host_that_cannot_be_had_is_the_error_of_a_job() -> None:
    found = work(SharedQuestion(question(GROW, host="nowhere")), None, lambda *_: None)
    assert isinstance(found, Refusal)
    assert found.error["errno"] == "ENOENT"


def test_long_values_are_cut_in_rows() -> None:
    (found,) = varied(GROW, list=[{"description": "x" * 5000}])
    assert len(found["values"]["description"]) == 1003
