"""Control groups over HTTP: what a pod meets."""

from typing import Any

import pytest

from tests.api.conftest import NR, HostApi, refused

LIMIT = {"hugetlb": {"2048kB": {"max": 10, "rsvd_max": None}}}
POD = {"kind": "hugetlb", "count": 15, "touch": 15, "cgroup": "pods/a"}


def text(host: HostApi, path: str) -> str:
    return str(host.ask("GET", f"fs/{path}").text)


def test_a_limit_is_a_sigbus_with_its_cgroup_although_the_pool_has_pages(host: HostApi) -> None:
    host.put(NR, {"count": 100})
    made = host.put("cgroups/pods/a", LIMIT)
    assert made.status_code == 200
    assert made.json()["hugetlb"]["2048kB"]["max"] == 10
    task = host.post("tasks", POD).json()
    assert (task["touched"], task["signal"], task["reason"]) == (10, "SIGBUS", "cgroup-limit")
    assert task["facts"] == {"cgroup": "pods/a", "file": "hugetlb.2MB.max", "limit": 10, "charged": 10}
    group = host.get("cgroups/pods/a")
    counters = group["hugetlb"]["2048kB"]
    assert (counters["current"], counters["rsvd_current"], counters["events_max"], counters["failcnt"]) == (
        10,
        15,
        1,
        1,
    )
    assert group["tasks"] == [task["pid"]]
    assert host.get("cgroups/pods")["hugetlb"]["2048kB"]["current"] == 10
    assert [row["path"] for row in host.get("cgroups")["items"]] == ["", "pods", "pods/a"]
    assert text(host, "sys/fs/cgroup/pods/a/hugetlb.2MB.events") == "max 1\n"
    host.post(f"tasks/{task['pid']}/unmap", {"from": 0, "count": 3})
    again = host.post(f"tasks/{task['pid']}/touch", {"count": 5}).json()
    assert (again["touched"], again["reason"]) == (3, "cgroup-limit")
    assert host.get("audit")["ok"]


def test_a_reservation_limit_refuses_the_mapping_and_counts_it(host: HostApi) -> None:
    host.put(NR, {"count": 100})
    host.put("cgroups/pods/a", {"hugetlb": {"2048kB": {"rsvd_max": 10}}})
    body = refused(host.post("tasks", POD), 507, "ENOMEM")
    assert (body["reason"], body["file"], body["limit"]) == ("cgroup-limit", "hugetlb.2MB.rsvd.max", 10)
    assert host.get("tasks")["items"] == []
    assert host.get("cgroups/pods/a")["hugetlb"]["2048kB"]["rsvd_failcnt"] == 1


def test_what_is_left_out_stays_and_null_is_no_limit(host: HostApi) -> None:
    host.put("cgroups/a", {"hugetlb": {"2048kB": {"max": 5, "rsvd_max": 7}}})
    host.put("cgroups/a", {"hugetlb": {"2048kB": {"rsvd_max": 8}}})
    counters = host.put("cgroups/a", {}).json()["hugetlb"]["2048kB"]
    assert (counters["max"], counters["rsvd_max"]) == (5, 8)
    host.put("cgroups/a", {"hugetlb": {"2048kB": {"max": None}}})
    assert text(host, "sys/fs/cgroup/a/hugetlb.2MB.max") == "max\n"


def test_tasks_move_and_empty_cgroups_go(host: HostApi) -> None:
    host.put(NR, {"count": 10})
    host.put("cgroups/a/b", {})
    host.put("cgroups/a/c", {})
    pid = host.post("tasks", {**POD, "count": 4, "touch": 2, "cgroup": "a/b"}).json()["pid"]
    with host.nothing_changes():
        assert refused(host.delete("cgroups/a/b"), 409, "EBUSY")["reason"] == "cgroup-populated"
        assert refused(host.delete("cgroups/a"), 409, "EBUSY")["reason"] == "cgroup-populated"
        refused(host.put(f"tasks/{pid}/cgroup", {"cgroup": "a"}), 409, "EBUSY")
    assert host.put(f"tasks/{pid}/cgroup", {"cgroup": "a/c"}).json()["cgroup"] == "a/c"
    assert host.delete("cgroups/a/b").json() == {"path": "a/b"}
    assert host.get("cgroups/a")["hugetlb"]["2048kB"]["current"] == 2
    assert host.get("audit")["ok"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "errno"),
    [
        ("put", "cgroups/a", {"hugetlb": {"2048kB": {"max": -1}}}, 422, "EINVAL"),
        ("put", "cgroups/a", {"hugetlb": {"2048kB": {"max": "10"}}}, 422, "EINVAL"),
        ("put", "cgroups/a", {"hugetlb": {"2048kB": {"limit": 1}}}, 422, "EINVAL"),
        ("put", "cgroups/a", {"hugetlb": {"64kB": {"max": 1}}}, 422, "EINVAL"),
        ("put", "cgroups/a//b", {}, 422, "EINVAL"),
        ("put", "cgroups/cgroup.procs", {}, 409, "EEXIST"),
        ("put", "cgroups/busy", {"hugetlb": {"2048kB": {"max": 1}}}, 409, "EBUSY"),
        ("get", "cgroups/none", None, 404, "ENOENT"),
        ("delete", "cgroups/none", None, 404, "ENOENT"),
        ("delete", "cgroups/busy", None, 409, "EBUSY"),
        ("post", "tasks", {**POD, "cgroup": "none"}, 404, "ENOENT"),
        ("put", "tasks/77/cgroup", {"cgroup": ""}, 404, "ESRCH"),
    ],
)
def test_a_wrong_request_changes_nothing(
    host: HostApi, method: str, path: str, body: Any, status: int, errno: str
) -> None:
    host.put(NR, {"count": 10})
    host.put("cgroups/busy", {})
    host.post("tasks", {**POD, "count": 2, "touch": 2, "cgroup": "busy"})
    with host.nothing_changes():
        answer = host.ask(method.upper(), path, **({} if body is None else {"json": body}))
        refused(answer, status, errno)


@pytest.mark.parametrize(
    ("file", "text", "status", "errno"),
    [
        ("a/hugetlb.2MB.max", "much", 422, "EINVAL"),
        ("a/hugetlb.2MB.current", "0", 422, "EINVAL"),
        ("a/cgroup.procs", "77", 404, "ESRCH"),
        ("a/cgroup.subtree_control", "+memory", 404, "ENOENT"),
        ("none/cgroup.procs", "77", 404, "ENOENT"),
    ],
)
def test_a_file_refuses_what_the_kernel_refuses(
    host: HostApi, file: str, text: str, status: int, errno: str
) -> None:
    host.put("cgroups/a", LIMIT)
    with host.nothing_changes():
        refused(host.ask("PUT", f"fs/sys/fs/cgroup/{file}", content=text), status, errno)


def test_a_limit_written_to_its_file_holds(host: HostApi) -> None:
    host.put(NR, {"count": 10})
    host.put("cgroups/a", {})
    assert host.ask("PUT", "fs/sys/fs/cgroup/a/hugetlb.2MB.max", content="4M").status_code == 204
    assert host.post("tasks", {**POD, "count": 5, "touch": 5, "cgroup": "a"}).json()["touched"] == 2
