"""Every answer as JSON, as a table, or as lines of text, as ``Accept`` asks."""

import csv
import io
from typing import Any

import pytest

from tests.api.conftest import Api, HostApi

CSV = {"Accept": "text/csv"}
TEXT = {"Accept": "text/plain"}


@pytest.fixture
def host(api: Api) -> HostApi:
    """A host with a pool."""
    made = api.boot("1G", "1G")
    made.put("hugepages/2048kB/nr_hugepages", {"count": 20})
    return made


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.mark.parametrize(
    "path",
    [
        "hugepages",
        "memory-blocks",
        "tasks",
        "events",
        "dmesg",
        "vmemmap",
        "contig-ranges",
        "deferred-frees",
        "faults",
    ],
)
def test_lists_are_tables(host: HostApi, path: str) -> None:
    as_json = host.get(path)
    answer = host.ask("GET", path, headers=CSV)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["vary"] == "Accept"
    items = as_json.get("items")
    assert items is None or len(table(answer.text)) == len(items)


def test_the_next_page_of_a_table_is_a_link(api: Api, host: HostApi) -> None:
    path = f"/v1/hosts/{host.name}/memory-blocks"
    first = api.get(path, params={"limit": 3}, headers=CSV)
    link = first.headers["link"]
    assert link.endswith('; rel="next"')
    following = api.get(link[1 : link.index(">")], headers=CSV)
    assert table(following.text)[0]["block"] == str(int(table(first.text)[-1]["block"]) + 1)


def test_one_resource_is_lines_that_a_shell_reads(host: HostApi) -> None:
    answer = host.ask("GET", "hugepages/2048kB", headers=TEXT)
    assert answer.headers["content-type"].startswith("text/plain")
    lines = dict(line.split(" ", 1) for line in answer.text.splitlines())
    assert (lines["nr_hugepages"], lines["nodes.1.free_hugepages"]) == ("20", "10")


@pytest.mark.parametrize(
    "accept", ["application/json", "*/*", "text/html,*/*;q=0.8", "text/csv;q=0.1, application/json", ""]
)
def test_json_is_what_others_get(host: HostApi, accept: str) -> None:
    answer = host.ask("GET", "hugepages/2048kB", headers={"Accept": accept})
    assert answer.headers["content-type"] == "application/json"


def test_plans_and_variants_are_tables(api: Api, host: HostApi) -> None:
    plan = api.post(f"/v1/hosts/{host.name}/plans/savings", {"count": 9}, headers=CSV)
    assert [row["node"] for row in table(plan.text)] == ["0", "1"]
    variants = {"grid": {"steps.0.resize.count": [4, 5]}, "columns": ["steps.0.result.freed"]}
    body = {"host": host.name, "steps": [{"resize": {"count": 3}}], "variants": variants}
    answer = api.post("/v1/what-if", body, headers=CSV)
    assert [row["steps.0.result.freed"] for row in table(answer.text)] == ["16", "15"]
    steps: dict[str, Any] = {"host": host.name, "steps": [{"resize": {"count": 3}}]}
    (row,) = table(api.post("/v1/what-if", steps, headers=CSV).text)
    assert (row["step"], row["result.freed"]) == ("resize", "17")


def test_a_refusal_is_a_problem_in_json_whatever_is_asked(api: Api) -> None:
    answer = api.get("/v1/hosts/nosuch", headers=CSV)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
