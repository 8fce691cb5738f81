"""Tasks, deferred frees and faults."""

from typing import Any

import pytest

from hugepool.mm.machine.fault_inject import FaultPoint
from tests.api.conftest import NR, Api, HostApi, refused

TASK = {"kind": "hugetlb", "size": "2048kB", "count": 8, "touch": 8, "shared": False, "noreserve": False,
        "policy": {"bind": [0]}}  # fmt: skip


def test_a_task_maps_and_touches_huge_pages(host: HostApi) -> None:
    host.put(NR, {"count": 10})
    answer = host.post("tasks", TASK)
    assert answer.status_code == 201
    task = answer.json()
    assert answer.headers["location"] == f"{host.path}/tasks/{task['pid']}"
    assert (task["touched"], task["signal"], task["maps"][0]["count"]) == (8, None, 8)
    assert task["policy"] == {"mode": "bind", "nodes": [0]}
    shown = host.get(f"tasks/{task['pid']}")
    assert shown == {key: task[key] for key in shown}
    assert host.get("tasks") == {"items": [shown], "next_cursor": None}
    assert host.counters()["free_hugepages"] == 2


@pytest.mark.parametrize(
    ("body", "pages"),
    [({"kind": "anon", "memory": "8M", "mlock": True}, 2048), ({"kind": "kernel", "memory": 1}, 1)],
)
def test_a_task_takes_single_pages(host: HostApi, body: dict[str, Any], pages: int) -> None:
    free = host.get()["memory"]["free_pages"]
    task = host.post("tasks", body).json()
    assert free - host.get()["memory"]["free_pages"] >= pages
    exited = host.delete(f"tasks/{task['pid']}").json()
    assert exited["freed_pages"] >= pages
    assert host.get()["memory"]["free_pages"] == free
    assert host.get("tasks")["items"] == []


def test_a_task_runs_on_a_cpu(host: HostApi) -> None:
    assert host.post("tasks", {"kind": "anon", "memory": "1M", "cpu": 0}).json()["cpu"] == 0
    with host.nothing_changes():
        refused(host.post("tasks", {"kind": "anon", "memory": "1M", "cpu": 5000}), 422, "EINVAL")
        refused(host.post("tasks", {"kind": "anon", "memory": "1M", "cpu": -1}), 422, "EINVAL")


def test_mapping_beyond_the_pool_is_refused_and_leaves_no_task(host: HostApi) -> None:
    host.put(NR, {"count": 4})
    with host.nothing_changes():
        body = refused(host.post("tasks", TASK), 507, "ENOMEM")
    assert (body["pages_needed"], body["pages_available"]) == (8, 4)


def test_more_memory_than_there_is_is_refused_and_leaves_no_task(host: HostApi) -> None:
    with host.nothing_changes():
        refused(host.post("tasks", {"kind": "kernel", "memory": "2G"}), 507, "ENOMEM")
        refused(host.post("tasks", {"kind": "anon", "memory": "16E"}), 422, "EINVAL")
        refused(host.post("tasks", {"kind": "anon", "memory": "15E"}), 507, "ENOMEM")


def test_an_exhausted_pool_is_a_signal_not_a_refusal(host: HostApi) -> None:
    host.put(NR, {"count": 4})
    task = host.post("tasks", {**TASK, "noreserve": True, "touch": 2})
    assert (task.status_code, task.json()["signal"], task.json()["touched"]) == (201, None, 2)
    touched = host.post(f"tasks/{task.json()['pid']}/touch", {"count": 6})
    assert (touched.status_code, touched.json()["signal"], touched.json()["touched"]) == (200, "SIGBUS", 2)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "kind"),
        ({"kind": "virtual"}, "kind"),
        ({"kind": "hugetlb"}, "count"),
        ({"kind": "hugetlb", "count": 0}, "count"),
        ({"kind": "hugetlb", "count": 4, "touch": 5}, "touch"),
        ({"kind": "hugetlb", "count": 4, "size": "4M"}, "size"),
        ({"kind": "hugetlb", "count": 4, "shared": 1}, "shared"),
        ({"kind": "anon"}, "memory"),
        ({"kind": "anon", "memory": "x"}, "memory"),
        ({"kind": "anon", "memory": "1M", "node": 9}, "node"),
        ({"kind": "anon", "memory": "1M", "policy": {"bind": [0], "local": True}}, "policy"),
        ({"kind": "anon", "memory": "1M", "policy": {"bind": []}}, "policy"),
        ({"kind": "anon", "memory": "1M", "policy": {"bind": [5]}}, "node"),
        ({"kind": "anon", "memory": "1M", "comm": "a\nb"}, "comm"),
        ({"kind": "kernel", "memory": "1M", "mlock": True}, "mlock"),
    ],
)
def test_a_wrong_task_is_refused(host: HostApi, body: Any, field: str) -> None:
    host.put(NR, {"count": 8})
    with host.nothing_changes():
        errors = refused(host.post("tasks", body), 422, "EINVAL")["errors"]
    assert errors[0]["field"] == field


def test_a_name_that_is_too_long_is_reported_in_characters(host: HostApi) -> None:
    body = {"kind": "anon", "memory": "1M", "comm": "x" * 16}
    errors = refused(host.post("tasks", body), 422, "EINVAL")["errors"]
    assert errors == [{"field": "comm", "message": "must have at most 15 characters"}]


def test_an_unknown_task_is_not_found(host: HostApi) -> None:
    with host.nothing_changes():
        for pid in (1, -1, 10**30):
            refused(host.ask("GET", f"tasks/{pid}"), 404, "ENOENT")
            refused(host.post(f"tasks/{pid}/touch", {"count": 1}), 404, "ENOENT")
            refused(host.delete(f"tasks/{pid}"), 404, "ENOENT")
        refused(host.ask("GET", "tasks/one"), 422, "EINVAL")


def test_tasks_are_listed_in_pages(host: HostApi) -> None:
    pids = [host.post("tasks", {"kind": "kernel", "memory": "4K"}).json()["pid"] for _ in range(3)]
    first = host.get("tasks", params={"limit": 2})
    second = host.get("tasks", params={"limit": 2, "cursor": first["next_cursor"]})
    assert [row["pid"] for row in first["items"] + second["items"]] == pids
    assert second["next_cursor"] is None


@pytest.fixture
def queued(api: Api) -> HostApi:
    """A host with four huge pages that wait for the worker, which leaves them alone."""
    host = api.boot()
    host.put("deferred-frees", {"mode": "manual"})
    host.put("hugepages/2048kB/nr_overcommit_hugepages", {"count": 4})
    pid = host.post("tasks", {"kind": "hugetlb", "count": 4, "touch": 4}).json()["pid"]
    assert host.delete(f"tasks/{pid}").json()["queued"] == 4
    return host


def test_deferred_frees_wait_until_they_are_drained(queued: HostApi) -> None:
    shown = queued.get("deferred-frees")
    assert shown["mode"] == "manual"
    assert [row["size"] for row in shown["queued"]] == ["2048kB"] * 4
    assert queued.get()["deferred_frees"] == {"mode": "manual", "queued": 4}
    use = queued.get(f"pages/{shown['queued'][0]['pfn']}")
    assert (use["use"], use["hugepage"]["queued"]) == ("hugetlb", True)
    drained = queued.post("deferred-frees/drain").json()
    assert (drained["freed"], drained["returned_as_surplus"], drained["queued"]) == (4, 0, 0)
    assert queued.get("deferred-frees")["queued"] == []


def test_a_drain_without_memory_brings_pages_back_as_surplus(queued: HostApi) -> None:
    queued.put("faults/vmemmap-restore", {"times": 1})
    drained = queued.post("deferred-frees/drain").json()
    assert (drained["freed"], drained["returned_as_surplus"]) == (3, 1)
    assert queued.counters()["surplus_hugepages"] == 1


@pytest.mark.parametrize("body", [{}, {"mode": "never"}, {"mode": "auto", "x": 1}])
def test_a_wrong_mode_is_refused(host: HostApi, body: Any) -> None:
    with host.nothing_changes():
        refused(host.put("deferred-frees", body), 422, "EINVAL")


def test_an_armed_fault_is_seen_until_it_is_cleared(host: HostApi) -> None:
    words = {"probability": 100, "interval": 1, "times": 3, "space": 0}
    armed = host.put("faults/hugepage-alloc", words).json()
    assert armed == {"point": "hugepage-alloc", "armed": True, **words, "failures": 0}
    assert host.get("faults/hugepage-alloc") == armed
    assert host.get()["faults"] == [armed]
    assert len(host.get("faults")["items"]) == len(FaultPoint)
    assert host.delete("faults/hugepage-alloc").status_code == 200
    assert host.get()["faults"] == []
    assert host.get("faults/hugepage-alloc")["armed"] is False


@pytest.mark.parametrize(
    ("body", "field"),
    [({"probability": 101}, "probability"), ({"interval": 0}, "interval"), ({"times": -2}, "times"),
     ({"space": "1"}, "space"), ({"often": 1}, "often")],
)  # fmt: skip
def test_a_wrong_fault_is_refused(host: HostApi, body: Any, field: str) -> None:
    with host.nothing_changes():
        assert refused(host.put("faults/hugepage-alloc", body), 422, "EINVAL")["errors"][0]["field"] == field


def test_an_unknown_fault_point_is_not_found(host: HostApi) -> None:
    with host.nothing_changes():
        refused(host.ask("GET", "faults/disk"), 404, "ENOENT")
        refused(host.put("faults/disk", {}), 404, "ENOENT")
        assert "vmemmap-restore" in refused(host.delete("faults/disk"), 404, "ENOENT")["points"]
