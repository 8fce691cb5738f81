"""hugetlbfs over HTTP: mounts, files that tasks share, forks, segments."""

from typing import Any

import pytest

from tests.api.conftest import NR, HostApi, refused

F = "/dev/hugepages/vm1"


def test_a_mount_keeps_its_minimum_and_its_limit(host: HostApi) -> None:
    host.put(NR, {"count": 30})
    made = host.post("mounts", {"path": "/mnt/h", "max": 20, "min": 10})
    assert (made.status_code, made.headers["location"]) == (201, f"{host.path}/mounts/mnt/h")
    assert host.counters()["resv_hugepages"] == 10
    task = host.post(
        "tasks", {"kind": "hugetlb", "file": "/mnt/h/f", "shared": True, "count": 12, "touch": 3}
    )
    assert task.json()["maps"][0]["file"] == "/mnt/h/f"
    shown = host.get("mounts/mnt/h")
    assert shown == {"path": "/mnt/h", "size": "2048kB", "max": 20, "min": 10, "used": 12, "min_left": 0,
                     "pages": 3, "files": ["/mnt/h/f"]}  # fmt: skip
    body = refused(
        host.post("tasks", {"kind": "hugetlb", "file": "/mnt/h/g", "shared": True, "count": 9}), 507, "ENOMEM"
    )
    assert (body["reason"], body["used"], body["limit"]) == ("mount-full", 12, 20)
    with host.nothing_changes():
        assert refused(host.delete("mounts/mnt/h"), 409, "EBUSY")["reason"] == "mount-busy"
    host.delete(f"tasks/{task.json()['pid']}")
    with host.nothing_changes():
        refused(host.delete("mounts/mnt/h"), 409, "EBUSY")  # a file is there
    gone = host.delete("mounts/mnt/h?with_files=true").json()
    assert (gone["files"], gone["freed"]) == (1, 3)
    assert host.counters()["resv_hugepages"] == 0
    assert [row["path"] for row in host.get("mounts")["items"]] == ["/dev/hugepages"]
    assert host.get("audit")["ok"]


def test_tasks_share_a_file_and_its_reservation(host: HostApi) -> None:
    host.put(NR, {"count": 30})
    body = {"kind": "hugetlb", "file": F, "shared": True, "count": 8}
    first, second = (
        host.post("tasks", body).json(),
        host.post("tasks", {**body, "offset": 6, "count": 4}).json(),
    )
    assert host.counters()["resv_hugepages"] == 10
    assert host.post(f"tasks/{second['pid']}/write", {"from": 0, "count": 4}).json()["touched"] == 4
    file = host.get("files/dev/hugepages/vm1")
    assert (file["count"], file["pages"], file["reserved"], file["blocks"]) == (10, 4, 6, 16384)
    assert file["pids"] == [first["pid"], second["pid"]]
    assert host.get(f"tasks/{first['pid']}")["maps"][0]["touched"] == 2
    assert host.post("files/dev/hugepages/vm1", {"op": "punch", "from": 6, "count": 1}).json()["freed"] == 1
    assert host.post("files/dev/hugepages/vm1", {"op": "truncate", "count": 8}).json()["freed"] == 2
    beyond = host.post(f"tasks/{second['pid']}/read", {"from": 1, "count": 3}).json()
    assert (beyond["touched"], beyond["reason"]) == (1, "beyond-end-of-file")
    unlinked = host.post("files/dev/hugepages/vm1", {"op": "unlink"}).json()
    assert (unlinked["freed"], unlinked["mapped"]) == (0, True)
    assert host.get("files")["items"][0]["path"] is None
    for task in (first, second):
        host.delete(f"tasks/{task['pid']}")
    assert host.get("files")["items"] == []
    assert host.counters()["free_hugepages"] == 30


def test_a_page_and_a_block_say_which_file_and_cgroup_have_a_huge_page(host: HostApi) -> None:
    host.put(NR, {"count": 4})
    host.put("cgroups/a", {})
    body = {"kind": "hugetlb", "file": F, "shared": True, "count": 4, "touch": 4, "cgroup": "a"}
    pid = host.post("tasks", body).json()["pid"]
    in_use = [
        (block["block"], rows["pids"], rows["files"])
        for block in host.get("memory-blocks")["items"]
        for rows in host.get(f"memory-blocks/{block['block']}/blockers")["hugepages"]
        if rows["in_use"]
    ]
    assert in_use
    assert all(row[1:] == ([pid], [F]) for row in in_use)
    first = in_use[0][0] * 32768
    pages = (host.get(f"pages/{pfn}") for pfn in range(first, first + 32768, 512))
    huge = next(page["hugepage"] for page in pages if page["use"] == "hugetlb")
    assert (huge["pid"], huge["file"], huge["cgroup"]) == (pid, F, "a")


def test_a_file_that_cannot_be_filled_says_how_far_it_came(host: HostApi) -> None:
    host.put(NR, {"count": 4})
    body = refused(host.post("files/dev/hugepages/big", {"op": "fallocate", "count": 9}), 507, "ENOSPC")
    assert (body["reason"], body["result"]["allocated"], body["result"]["count"]) == ("pool-exhausted", 4, 0)
    assert host.counters()["free_hugepages"] == 0


def test_a_forked_child_copies_what_it_writes_until_no_page_is_left(host: HostApi) -> None:
    host.put(NR, {"count": 6})
    parent = host.post("tasks", {"kind": "hugetlb", "count": 4, "touch": 4}).json()["pid"]
    forked = host.post(f"tasks/{parent}/fork", None)
    child = forked.json()["pid"]
    assert (forked.status_code, forked.json()["parent"]) == (201, parent)
    assert host.post(f"tasks/{child}/write", {"count": 4}).json()["touched"] == 2
    assert host.post(f"tasks/{parent}/write", {"count": 4}).json()["touched"] == 4
    killed = host.post(f"tasks/{child}/read", {"from": 2, "count": 1}).json()
    assert (killed["signal"], killed["reason"]) == ("SIGBUS", "taken-by-parent")
    assert host.get("dmesg")["lines"][-1].endswith(f"PID {child} killed due to inadequate hugepage pool")
    assert host.get("audit")["ok"]


def test_a_segment_needs_its_group(host: HostApi) -> None:
    host.put(NR, {"count": 10})
    path, body = "files/SYSV0000002a", {"op": "shmget", "count": 4, "groups": [1001]}
    assert refused(host.post(path, body), 403, "EPERM")["reason"] == "not-in-shm-group"
    host.ask("PUT", "fs/proc/sys/vm/hugetlb_shm_group", content="1001")
    assert host.post(path, body).json()["reserved"] == 4
    task = host.post(
        "tasks", {"kind": "hugetlb", "file": "SYSV0000002a", "shared": True, "count": 4, "touch": 4}
    )
    assert task.json()["touched"] == 4
    assert host.get(path)["segment"]


@pytest.mark.parametrize(
    ("path", "body", "status", "errno"),
    [
        ("mounts", {"path": "relative"}, 422, "EINVAL"),
        ("mounts", {"path": "/mnt/../x"}, 422, "EINVAL"),
        ("mounts", {"path": "/mnt/x", "max": 1, "min": 2}, 422, "EINVAL"),
        ("mounts", {"path": "/mnt/x", "min": 5}, 507, "ENOMEM"),
        ("mounts", {"path": "/mnt/x", "size": "1048576kB", "max": -1}, 422, "EINVAL"),
        ("files/nowhere/f", {"op": "fallocate", "count": 1}, 404, "ENOENT"),
        ("files/dev/hugepages/none", {"op": "punch", "count": 1}, 404, "ENOENT"),
        ("files/dev/hugepages/none", {"op": "shmget", "count": 1}, 422, "EINVAL"),
        ("files/dev/hugepages/none", {"op": "rename"}, 422, "EINVAL"),
        ("files/SYSV0000002a", {"op": "truncate", "count": 1}, 422, "EINVAL"),
        ("tasks", {"kind": "hugetlb", "file": "/nowhere/f", "count": 1}, 404, "ENOENT"),
        ("tasks", {"kind": "hugetlb", "file": F, "size": "1048576kB", "count": 1}, 422, "EINVAL"),
        ("tasks/77/fork", None, 404, "ENOENT"),
        ("tasks/77/write", {"count": 1}, 404, "ENOENT"),
        ("tasks/77/unmap", {"from": 1}, 422, "EINVAL"),
    ],
)
def test_a_wrong_request_changes_nothing(
    host: HostApi, path: str, body: Any, status: int, errno: str
) -> None:
    host.put(NR, {"count": 4})
    with host.nothing_changes():
        refused(host.post(path, body), status, errno)
    with host.nothing_changes():
        refused(host.delete("mounts/mnt/none"), 404, "ENOENT")
