"""Snapshots of a host over HTTP: kept, listed, replaced, deleted, and back to them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.conftest import NR, Api, HostApi, problem_of, serving


def test_a_reset_brings_the_host_back_as_its_next_revision(host: HostApi) -> None:
    host.put(NR, {"count": 8})
    host.post("tasks", {"kind": "hugetlb", "count": 2, "touch": 1})
    host.put("faults/vmemmap-restore", {"times": 3})
    before, tasks = host.get(), host.get("tasks")
    kept = host.ask("PUT", "snapshots/ready")
    assert (kept.status_code, kept.headers["location"]) == (201, f"{host.path}/snapshots/ready")
    assert kept.json()["revision"] == before["revision"]
    host.put(NR, {"count": 0})
    host.delete("faults/vmemmap-restore")
    changed = host.get()
    assert changed["hugepages"] != before["hugepages"]
    reset = host.post("reset", {"to": "ready"})
    assert reset.status_code == 200
    revision = changed["revision"] + 1
    assert reset.json() == host.get() == {**before, "revision": revision}
    assert host.get("tasks") == tasks
    assert host.get("audit")["ok"]
    newest = host.get("events", params={"limit": 1000})["items"][-1]
    assert (newest["type"], newest["revision"]) == ("HostReset", revision)
    assert newest["data"] == {"snapshot": "ready", "revision": before["revision"]}
    moment = host.get("history", params={"after": revision - 1})
    assert {row[0] for row in moment["rows"]} == {revision}
    assert reset.headers["etag"].startswith(f'"{revision}-')


def test_a_reset_host_goes_on_as_the_first_did(host: HostApi) -> None:
    host.ask("PUT", "snapshots/ready")

    def go_on() -> tuple[object, ...]:
        task = host.post("tasks", {"kind": "hugetlb", "count": 4, "touch": 2}).json()
        return host.put(NR, {"count": 50}).json(), task, host.get("buddy"), host.get("vmemmap")

    first = go_on()
    host.post("reset", {"to": "ready"})
    assert go_on() == first


def test_a_snapshot_of_a_taken_name_replaces_it(host: HostApi) -> None:
    host.ask("PUT", "snapshots/ready")
    host.put(NR, {"count": 5})
    second = host.ask("PUT", "snapshots/ready").json()
    assert host.get("snapshots") == {"items": [second]}
    assert host.get("snapshots/ready") == second
    host.put(NR, {"count": 0})
    host.post("reset", {"to": "ready"})
    assert host.counters()["nr_hugepages"] == 5


def test_snapshots_are_listed_by_name_and_each_change_is_an_event(host: HostApi) -> None:
    for name in ("b", "a"):
        host.ask("PUT", f"snapshots/{name}")
    assert [kept["name"] for kept in host.get("snapshots")["items"]] == ["a", "b"]
    assert host.delete("snapshots/a").status_code == 204
    assert [kept["name"] for kept in host.get("snapshots")["items"]] == ["b"]
    types = [event["type"] for event in host.get("events", params={"limit": 1000})["items"]]
    assert types[-3:] == ["SnapshotTaken", "SnapshotTaken", "SnapshotDeleted"]
    with host.nothing_changes():
        assert host.ask("GET", "snapshots/a").status_code == 404
        assert problem_of(host.post("reset", {"to": "a"}))["snapshot"] == "a"
        assert host.delete("snapshots/a").status_code == 404


@pytest.mark.parametrize("name", ["Ready", "-a", "a_b", "x" * 64])
def test_a_name_that_no_snapshot_can_have_is_refused(host: HostApi, name: str) -> None:
    with host.nothing_changes():
        assert problem_of(host.ask("PUT", f"snapshots/{name}"))["errors"][0]["field"] == "snapshot"
        assert host.ask("GET", f"snapshots/{name}").status_code == 404
        assert host.post("reset", {"to": name}).status_code == 422
        assert host.get("snapshots") == {"items": []}


@pytest.mark.parametrize("body", [{}, {"to": None}, {"to": 5}, {"to": "ready", "from": "x"}, []])
def test_a_malformed_reset_changes_nothing(host: HostApi, body: object) -> None:
    host.ask("PUT", "snapshots/ready")
    with host.nothing_changes():
        assert host.post("reset", body).status_code == 422


def test_another_revision_is_refused_and_a_dry_run_stores_nothing(host: HostApi) -> None:
    host.ask("PUT", "snapshots/ready")
    host.put(NR, {"count": 5})
    kept = host.get("snapshots")
    with host.nothing_changes():
        for method, path, body in (
            ("PUT", "snapshots/other", None),
            ("DELETE", "snapshots/ready", None),
            ("POST", "reset", {"to": "ready"}),
        ):
            stale = host.ask(method, path, json=body, headers={"If-Match": '"1"'})
            assert stale.status_code == 412
            tried = host.ask(method, path, json=body, params={"dry_run": "true"})
            assert tried.status_code in {200, 201, 204}
            if path == "reset":
                assert tried.json()["hugepages"][0]["nr_hugepages"] == 0
        assert host.get("snapshots") == kept


def test_the_answer_for_a_key_is_given_again(host: HostApi) -> None:
    key = {"Idempotency-Key": f"{host.name}-keep"}
    kept = host.ask("PUT", "snapshots/ready", headers=key)
    host.put(NR, {"count": 5})
    again = host.ask("PUT", "snapshots/ready", headers=key)
    assert (again.json(), again.headers["idempotent-replay"]) == (kept.json(), "true")
    key = {"Idempotency-Key": f"{host.name}-reset"}
    reset = host.post("reset", {"to": "ready"}, headers=key)
    host.put(NR, {"count": 6})
    assert host.post("reset", {"to": "ready"}, headers=key).json() == reset.json()
    assert host.counters()["nr_hugepages"] == 6


def test_no_host_has_no_snapshots(api: Api) -> None:
    for method, path in (
        ("GET", "snapshots"),
        ("GET", "snapshots/a"),
        ("PUT", "snapshots/a"),
        ("DELETE", "snapshots/a"),
    ):
        assert api.ask(method, f"/v1/hosts/nobody/{path}").status_code == 404
    assert api.post("/v1/hosts/nobody/reset", {"to": "a"}).status_code == 404


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Api]:
    with serving(tmp_path, snapshots=2) as api:
        yield api


def test_more_snapshots_than_a_host_may_have_are_refused(narrow: Api) -> None:
    host = narrow.boot()
    for name in ("a", "b"):
        assert host.ask("PUT", f"snapshots/{name}").status_code == 201
    with host.nothing_changes():
        for params in ({}, {"dry_run": "true"}):
            refused = host.ask("PUT", "snapshots/c", params=params)
            found = problem_of(refused)
            assert (refused.status_code, found["errno"]) == (507, "EDQUOT")
            assert (found["reason"], found["limit"]) == ("quota", 2)
        assert len(host.get("snapshots")["items"]) == 2
    assert host.ask("PUT", "snapshots/b").status_code == 201  # in place of the other
    host.delete("snapshots/a")
    assert host.ask("PUT", "snapshots/c").status_code == 201
