"""Expectations: what holds, what does not, what cannot be asked, and in which words that is reported."""

from typing import Any

import pytest
from pydantic import ValidationError

from hugepool.mm.machine.errors import BadInput
from tests.whatif.ask import Json, ask, question, scenario

GROW: Json = {"resize": {"count": 16}}
NR = "/proc/sys/vm/nr_hugepages"


def failed(expect: Json, *before: Json) -> list[Json]:
    """What does not hold after a pool of 16 pages was made."""
    answer = ask(*before, {**GROW, "expect": expect})
    found: list[Json] = answer["steps"][-1]["failed_expectations"]
    assert answer["ok"] == (not found)
    return found


@pytest.mark.parametrize(
    "expect",
    [
        {},
        {"errno": None, "signal": None, "reason": None},
        {"result.allocated": 16, "result.shortfall": None},
        {"counters.2048kB.nr_hugepages": {"eq": 16, "ne": 15, "lt": 17, "le": 16, "gt": 15, "ge": 16}},
        {"counters.2048kB.nr_hugepages": {"in": [1, 16]}},
        {"counters.2048kB.nodes.0.nr_hugepages": 16, "counters.2048kB.nodes[0].free_hugepages": 16},
        {"counters.memory.nodes.0.free_pages": {"gt": 1000}},
        {NR: 16, "/proc/meminfo#HugePages_Total": 16, "/proc/vmstat#nr_free_pages": {"gt": 0}},
        {"/proc/meminfo": {"contains": "HugePages_Free:       16\n"}},
        {"/sys/devices/system/node/node0/meminfo#HugePages_Total": 16},
        {"result.nodes": [{"node": 0, "allocated": 16, "freed": 0, "refused": 0}]},
    ],
)
def test_what_is_so_holds(expect: Json) -> None:
    assert failed(expect) == []


@pytest.mark.parametrize(
    ("expect", "message"),
    [
        ({"errno": "ENOMEM"}, 'errno is null, expected "ENOMEM"'),
        ({"result.allocated": 17}, "result.allocated is 16, expected 17"),
        ({"result.allocated": {"lt": 16}}, "result.allocated is 16, expected lt 16"),
        ({"result.allocated": True}, "result.allocated is 16, expected true"),
        ({"result.allocated": {"in": [True, "16"]}}, 'result.allocated is 16, expected in [true,"16"]'),
        ({"result.shortfall": {"gt": 0}}, "result.shortfall is null, not a number"),
        ({"result.allocated": {"contains": "1"}}, "result.allocated is 16, not a text"),
        ({NR: 15}, f"{NR} is 16, expected 15"),
        ({"/proc/meminfo": {"contains": "Huge_Pages"}}, "/proc/meminfo is "),
        ({"counters.2048kB.nodes.1": 1}, "there is no 'counters.2048kB.nodes.1'"),
        ({"/proc/nosuch": 1}, "/proc/nosuch cannot be read"),
        ({"/proc/meminfo#MemFre": 1}, "/proc/meminfo has no number behind 'MemFre'"),
    ],
)
def test_what_is_not_so_is_reported_with_what_is(expect: Json, message: str) -> None:
    (found,) = failed(expect)
    assert found["message"].startswith(message)
    assert {found["path"]: found["expected"]} == expect


def test_every_comparison_that_fails_is_reported() -> None:
    found = failed({"result.allocated": {"lt": 3, "gt": 100, "ge": 16}, "errno": "EIO"})
    assert [(one["path"], one["actual"]) for one in found] == [
        ("result.allocated", 16), ("result.allocated", 16), ("errno", None)
    ]  # fmt: skip


def test_a_refused_step_has_no_result_to_look_into() -> None:
    answer = ask({"task": {"kind": "anon", "memory": "64G"}, "expect": {"errno": "ENOMEM", "result.pid": 1}})
    (found,) = answer["steps"][0]["failed_expectations"]
    assert found["message"] == "there is no 'result.pid'; result is null"


@pytest.mark.parametrize(
    ("expect", "message"),
    [
        ({"erno": 1}, "cannot look at 'erno': a path begins with errno, signal"),
        ({"": 1}, "cannot look at ''"),
        ({"errno": {"is": 1}}, "no comparison 'is'; there are eq, ne, lt"),
        ({"errno": {}}, "an object names comparisons"),
        ({"errno": {"lt": "5"}}, "lt needs a number"),
        ({"errno": {"ge": True}}, "ge needs a number"),
        ({"errno": {"in": 5}}, "in needs a list"),
        ({"errno": {"contains": 5}}, "contains needs a text"),
        ({"errno": "\ud800"}, "must be valid Unicode"),
        ({"x" * 400: 1}, "more than 300 characters"),
    ],
)
def test_what_cannot_be_asked_refuses_the_whole_document(expect: Any, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        scenario(question(GROW, {**GROW, "expect": expect}))
    (error,) = caught.value.errors()
    assert error["loc"] == ("steps", 1, "step resize", "expect")
    assert message in error["msg"]


def test_files_of_hexadecimal_digits_are_texts() -> None:
    size = "/sys/devices/system/memory/block_size_bytes"
    (step,) = ask({"drain": {}, "expect": {size: "8000000"}})["steps"]
    assert step["failed_expectations"] == []


def test_a_path_in_two_spellings_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"names 'result\.a\.0' a second time, in another spelling"):
        scenario(question({"drain": {}, "expect": {"result.a[0]": 1, "result.a.0": 1}}))


def test_a_long_text_is_cut_where_it_is_repeated() -> None:
    (step,) = ask({"drain": {}, "expect": {"/proc/zoneinfo": "x"}})["steps"]
    (failure,) = step["failed_expectations"]
    assert len(failure["actual"]) == 1003


@pytest.mark.parametrize(
    ("step", "path", "message"),
    [
        (
            GROW,
            "result.alocated",
            "there is no 'result.alocated'; result has requested, before, after, allocated",
        ),
        (GROW, "result.alocated", "did you mean allocated?"),
        (GROW, "result.nodes.0.freeed", "did you mean freed?"),
        (GROW, "result.shortfall.reason.word", "there is no 'result.shortfall.reason.word'"),
        (
            GROW,
            "counters.2M.nr_hugepages",
            "there is no 'counters.2M'; counters has 2048kB, 1048576kB, memory",
        ),
        (GROW, "counters.2048kB.nr_huge", "did you mean nr_hugepages?"),
        (GROW, "counters.memory.nodes[0].fre_pages", "did you mean free_pages?"),
        (GROW, "errno.name", "there is no 'errno.name'; errno has no parts"),
        ({"read": NR}, "result.contents", "did you mean content?"),
        ({"task": {"kind": "anon", "memory": "1M"}}, "result.pidd", "did you mean pid?"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused_before_anything_is_run(
    step: Json, path: str, message: str
) -> None:
    with pytest.raises(BadInput) as caught:
        scenario(question(GROW, {**step, "expect": {path: {"ne": 1}}}))
    assert caught.value.where == "steps[1].expect"
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("step", "path"),
    [
        (GROW, "result.shortfall.nodes.0.reason"),
        (GROW, "result.vmemmap.pages_freed"),
        (GROW, "counters.vmemmap.bytes_saved"),
        (GROW, "counters.memory_blocks.online"),
        ({"task": {"kind": "anon", "memory": "1M"}}, "result.facts.anything.at.all"),
        ({"write": NR, "data": 4}, "result.shortfall.missing"),
        ({"alloc_contig": {"nr_pages": 512}}, "result.migrated_pages"),
    ],
)
def test_a_path_that_may_lead_somewhere_is_looked_at_when_the_step_is_done(step: Json, path: str) -> None:
    scenario(question({**step, "expect": {path: 1}}))
