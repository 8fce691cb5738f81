"""Many hosts at once, labels, and the history of a host."""

import csv
import io
from collections.abc import Iterator
from typing import Any

import pytest

from hugepool.api.fleet_view import KEYS, VALUES
from tests.api.conftest import Api, refused, serving

SPEC = {"nodes": [{"memory": "2G"}, {"memory": "2G"}], "cmdline": "hugetlb_free_vmemmap=on"}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A service with three hosts: one well, one short of pages, one stuck."""
    with serving(tmp_path_factory.mktemp("fleet")) as api:
        for name, kernel, rack in (("web-0", "5.14", "7"), ("web-1", "6.1", "8"), ("db-0", "6.1", "7")):
            body = {"name": name, "spec": {**SPEC, "kernel": kernel}, "labels": {"rack": rack}}
            assert api.post("/v1/hosts", body).status_code == 201
        resize(api, "web-1", 100_000)
        resize(api, "db-0", 40)
        api.ask("PUT", "/v1/hosts/db-0/faults/vmemmap-restore", json={})
        resize(api, "db-0", 0)
        yield api


def resize(api: Api, host: str, count: int) -> None:
    api.ask("PUT", f"/v1/hosts/{host}/hugepages/2048kB/nr_hugepages", json={"count": count})


def names(api: Api, **query: Any) -> list[str]:
    answer = api.ask("GET", "/v1/hosts", params=query)
    assert answer.status_code == 200, answer.text
    return [item["name"] for item in answer.json()["items"]]


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"view": "summary"}, ["db-0", "web-0", "web-1"]),
        ({"name": "web-*"}, ["web-0", "web-1"]),
        ({"name": "??-0"}, ["db-0"]),
        ({"kernel": "6.1"}, ["db-0", "web-1"]),
        ({"label": "rack=7"}, ["db-0", "web-0"]),
        ({"label": ["rack=7", "rack=8"]}, ["web-1"]),  # a key has one value: the last one counts
        ({"state": "pool-short"}, ["web-1"]),
        ({"state": ["surplus-stuck", "pool-short"]}, ["db-0", "web-1"]),
        ({"name": "web-*", "state": "fault-armed"}, []),
        ({"name": "none"}, []),
    ],
)
def test_hosts_are_found_by_filter(fleet: Api, query: dict[str, Any], expected: list[str]) -> None:
    assert names(fleet, **query) == expected


def test_a_summary_has_the_figures_of_its_host(fleet: Api) -> None:
    item = fleet.ask("GET", "/v1/hosts", params={"name": "db-0"}).json()["items"][0]
    host = fleet.ask("GET", "/v1/hosts/db-0").json()
    assert item["labels"] == {"rack": "7"}
    assert item["revision"] == host["revision"]
    assert item["memory"]["free_bytes"] == host["memory"]["free_bytes"]
    assert item["vmemmap"]["bytes_saved"] == host["vmemmap"]["bytes_saved"]
    pool, shown = host["hugepages"][0], item["hugepages"][0]
    assert {name: shown[name] for name in shown if name in pool} == {
        name: pool[name] for name in shown if name in pool
    }
    assert [node["hugepages"][0]["nr_hugepages"] for node in item["nodes"]] == [
        node["nr_hugepages"] for node in pool["nodes"]
    ]
    assert set(item["states"]) == {"surplus-stuck", "fault-armed"}


def test_pages_of_summaries_meet_without_a_gap(fleet: Api) -> None:
    found: list[str] = []
    query: dict[str, Any] = {"view": "summary", "limit": 1}
    while True:
        page = fleet.ask("GET", "/v1/hosts", params=query).json()
        found += [item["name"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert found == ["db-0", "web-0", "web-1"]


def test_the_list_as_csv_has_a_row_for_each_host_and_size(fleet: Api) -> None:
    answer = fleet.ask("GET", "/v1/hosts", params={"view": "summary"}, headers={"Accept": "text/csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.text.count("\r\n") == 7
    rows = table(answer.text)
    assert [(row["name"], row["size"]) for row in rows[:2]] == [("db-0", "2048kB"), ("db-0", "1048576kB")]
    assert rows[0]["labels"] == "rack=7"


def test_labels_are_set_and_shown_and_make_a_revision(fleet: Api) -> None:
    before = fleet.ask("GET", "/v1/hosts/web-0").json()["revision"]
    answer = fleet.ask("PATCH", "/v1/hosts/web-0", json={"labels": {"rack": "7", "role": "cache"}})
    assert answer.json() == {"name": "web-0", "labels": {"rack": "7", "role": "cache"}}
    assert answer.headers["etag"].startswith(f'"{before + 1}-')
    assert names(fleet, label="role=cache") == ["web-0"]
    stale = fleet.ask("PATCH", "/v1/hosts/web-0", json={"labels": {}}, headers={"If-Match": f'"{before}"'})
    refused(stale, 412, "ESTALE")
    dry = fleet.ask("PATCH", "/v1/hosts/web-0", json={"labels": {}}, params={"dry_run": "true"})
    assert dry.json()["labels"] == {}
    assert names(fleet, label="role=cache") == ["web-0"]


@pytest.mark.parametrize(
    "labels",
    [{"": "x"}, {"a b": "x"}, {"a": "=" * 3}, {"a": "x" * 64}, {"a": 7}, {str(i): "x" for i in range(33)}],
)
def test_impossible_labels_are_refused(fleet: Api, labels: dict[str, Any]) -> None:
    before = fleet.ask("GET", "/v1/hosts/web-0").headers["etag"]
    refused(fleet.ask("PATCH", "/v1/hosts/web-0", json={"labels": labels}), 422, "EINVAL")
    assert fleet.ask("GET", "/v1/hosts/web-0").headers["etag"] == before


def test_hosts_are_deleted_by_filter_only(fleet: Api) -> None:
    for i in range(3):
        assert fleet.post("/v1/hosts", {"name": f"old-{i}", "fork_of": "web-0"}).status_code == 201
    refused(fleet.ask("DELETE", "/v1/hosts"), 422, "EINVAL")
    misspelt = refused(fleet.ask("DELETE", "/v1/hosts", params={"nmae": "old-*"}), 422, "EINVAL")
    assert misspelt["did_you_mean"] == "name"
    assert names(fleet, name="old-*") == ["old-0", "old-1", "old-2"]
    assert fleet.ask("DELETE", "/v1/hosts", params={"name": "old-*"}).json() == {"deleted": 3}
    assert names(fleet, view="summary") == ["db-0", "web-0", "web-1"]


@pytest.mark.parametrize(
    ("path", "name", "meant"),
    [
        ("/v1/hosts", "kernle", "kernel"),
        ("/v1/hosts/web-0/events", "afer", "after"),
        ("/v1/hosts/web-0", "xyzzy", None),
    ],
)
def test_an_unknown_query_parameter_is_refused(fleet: Api, path: str, name: str, meant: str | None) -> None:
    problem = refused(fleet.ask("GET", path, params={name: "1"}), 422, "EINVAL")
    assert problem.get("did_you_mean") == meant


def test_a_misspelt_dry_run_changes_nothing(fleet: Api) -> None:
    before = fleet.ask("GET", "/v1/hosts/web-0").headers["etag"]
    answer = fleet.ask(
        "PUT", "/v1/hosts/web-0/hugepages/2048kB/nr_hugepages", json={"count": 3}, params={"dryrun": "true"}
    )
    assert refused(answer, 422, "EINVAL")["did_you_mean"] == "dry_run"
    assert fleet.ask("GET", "/v1/hosts/web-0").headers["etag"] == before


def test_the_history_has_a_row_for_each_revision_size_and_node(fleet: Api) -> None:
    history = fleet.ask("GET", "/v1/hosts/web-1/history").json()
    assert history["columns"] == [*KEYS, *VALUES]
    rows = [dict(zip(history["columns"], row, strict=True)) for row in history["rows"]]
    whole = [row for row in rows if row["node"] is None and row["size"] == "2048kB"]
    assert [row["cause"] for row in whole] == ["HostBooted", "PoolResized"]
    assert whole[1]["asked_hugepages"] == 100_000 > whole[1]["nr_hugepages"] > 0
    on_nodes = [
        row for row in rows if row["revision"] == 2 and row["size"] == "2048kB" and row["node"] in (0, 1)
    ]
    assert sum(row["nr_hugepages"] for row in on_nodes) == whole[1]["nr_hugepages"]
    assert history["next_after"] == 2
    later = fleet.ask("GET", "/v1/hosts/web-1/history", params={"after": 1, "fields": "free_bytes"}).json()
    assert later["columns"] == [*KEYS, "free_bytes"]
    assert {row[0] for row in later["rows"]} == {2}
    spans = fleet.ask("GET", "/v1/hosts/web-1/history", params={"every": "9999h"}).json()
    assert {row[0] for row in spans["rows"]} == {2}


def test_the_history_as_csv_equals_the_history(fleet: Api) -> None:
    history = fleet.ask("GET", "/v1/hosts/db-0/history").json()
    answer = fleet.ask("GET", "/v1/hosts/db-0/history", headers={"Accept": "text/csv;q=0.9, text/html"})
    rows = list(csv.reader(io.StringIO(answer.text, newline="")))
    assert rows[0] == history["columns"]
    assert rows[1:] == [["" if value is None else str(value) for value in row] for row in history["rows"]]


@pytest.mark.parametrize("query", [{"fields": "nr,free"}, {"every": "0s"}, {"every": "1d"}, {"limit": 0}])
def test_impossible_questions_about_the_history_are_refused(fleet: Api, query: dict[str, Any]) -> None:
    refused(fleet.ask("GET", "/v1/hosts/db-0/history", params=query), 422, "EINVAL")
