"""The file mirror: what reads and write(2) answer over HTTP."""

from typing import Any

import httpx
import pytest

from tests.api.conftest import NR, Api, HostApi, refused

POOL = "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
MEMORY = "sys/devices/system/memory"


def write(host: HostApi, path: str, data: bytes, **more: Any) -> httpx.Response:
    return host.ask(
        "PUT", f"fs/{path}", content=data, headers={"Content-Type": "application/octet-stream"}, **more
    )


def text(host: HostApi, path: str) -> str:
    answer = host.ask("GET", f"fs/{path}")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return answer.text


def test_a_file_is_text_with_the_hosts_revision(host: HostApi) -> None:
    host.put(NR, {"count": 16})
    answer = host.ask("GET", "fs/proc/meminfo")
    assert "HugePages_Total:      16\n" in answer.text
    assert "Hugepagesize:       2048 kB\n" in answer.text
    assert text(host, POOL) == "16\n"
    assert answer.headers["etag"] == host.ask("GET").headers["etag"]
    again = host.ask("GET", "fs/proc/meminfo", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_folder_lists_its_entries(host: HostApi) -> None:
    entries = host.get("fs/sys/kernel/mm/hugepages")["entries"]
    assert [entry["name"] for entry in entries] == ["hugepages-1048576kB", "hugepages-2048kB"]
    assert {entry["type"] for entry in entries} == {"directory"}
    inside = host.get("fs/sys/kernel/mm/hugepages/hugepages-2048kB/")["entries"]
    assert {"name": "nr_hugepages", "type": "file", "mode": "0644"} in inside


def test_what_is_not_there_is_not_found(host: HostApi) -> None:
    with host.nothing_changes():
        refused(host.ask("GET", "fs/proc/self/maps"), 404, "ENOENT")
        refused(write(host, "proc/self/maps", b"1"), 404, "ENOENT")
        refused(host.api.ask("GET", "/v1/hosts/nobody/fs/proc/meminfo"), 404, "ENOENT")


def test_writing_a_pool_size_resizes_the_pool(host: HostApi) -> None:
    answer = write(host, POOL, b"16\n")
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["hugepool-outcome"] == "requested=16; nr_hugepages=16"
    assert answer.headers["etag"].startswith('"2-')
    assert host.counters()["nr_hugepages"] == 16


def test_a_size_that_is_not_reached_is_a_write_that_succeeds(host: HostApi) -> None:
    write(host, POOL, b"16")
    host.put("faults/vmemmap-restore", {"times": 6})
    answer = write(host, POOL, b"0")
    assert answer.status_code == 204
    assert answer.headers["hugepool-outcome"] == "requested=0; nr_hugepages=6; reason=injected-fault"
    assert host.counters()["surplus_hugepages"] == 6


@pytest.mark.parametrize(
    ("path", "data", "status", "errno"),
    [
        (POOL, b"many", 422, "EINVAL"),
        (POOL, b"-1", 422, "EINVAL"),
        (POOL, b"99999999999999999999999", 422, "ERANGE"),
        ("proc/meminfo", b"1", 403, "EACCES"),
        (f"{MEMORY}/memory2/state", b"away", 422, "EINVAL"),
        (f"{MEMORY}/memory2/state", b"online", 422, "EINVAL"),
        (f"{MEMORY}/auto_online_blocks", b"away", 422, "EINVAL"),
    ],
)
def test_a_write_the_kernel_refuses_changes_nothing(
    host: HostApi, path: str, data: bytes, status: int, errno: str
) -> None:
    write(host, POOL, b"4")
    with host.nothing_changes():
        refused(write(host, path, data), status, errno)


def test_a_rehearsed_write_changes_nothing(host: HostApi) -> None:
    with host.nothing_changes():
        answer = write(host, POOL, b"8", params={"dry_run": "true"})
    assert answer.headers["hugepool-outcome"] == "requested=8; nr_hugepages=8"


def test_a_write_for_another_revision_changes_nothing(host: HostApi) -> None:
    with host.nothing_changes():
        answer = host.ask("PUT", f"fs/{POOL}", content=b"8", headers={"If-Match": '"9"'})
    assert answer.status_code == 412


def test_a_repeated_write_with_a_key_is_done_once(host: HostApi) -> None:
    headers = {"Idempotency-Key": "one"}
    first = host.ask("PUT", f"fs/{POOL}", content=b"8", headers=headers)
    host.put(NR, {"count": 2})
    again = host.ask("PUT", f"fs/{POOL}", content=b"8", headers=headers)
    assert again.headers["idempotent-replay"] == "true"
    assert again.headers["hugepool-outcome"] == first.headers["hugepool-outcome"]
    assert host.counters()["nr_hugepages"] == 2
    with host.nothing_changes():
        refused(host.ask("PUT", f"fs/{POOL}", content=b"9", headers=headers), 422, "EINVAL")


def test_curls_own_content_type_is_taken(host: HostApi) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert host.ask("PUT", f"fs/{POOL}", content=b"4", headers=form).status_code == 204
    assert host.counters()["nr_hugepages"] == 4


def test_an_empty_write_does_nothing(host: HostApi) -> None:
    with host.nothing_changes():
        assert write(host, POOL, b"").status_code == 204


def test_memory_blocks_go_offline_and_online_by_their_files(api: Api) -> None:
    host = api.boot("1G", cmdline="movablecore=512M")
    block = min(
        row["block"]
        for row in host.get("memory-blocks")["items"]
        if row["zone"] == "Movable" and row["free_pages"] == row["nr_pages"]
    )
    state = f"{MEMORY}/memory{block}/state"
    assert write(host, state, b"offline\n").status_code == 204
    assert text(host, state) == "offline\n"
    with host.nothing_changes():
        refused(write(host, state, b"offline\n"), 422, "EINVAL")
    assert write(host, state, b"online_movable").status_code == 204
    assert text(host, state) == "online\n"


def test_what_new_memory_does_is_remembered(host: HostApi) -> None:
    assert write(host, f"{MEMORY}/auto_online_blocks", b"online_movable\n").status_code == 204
    assert text(host, f"{MEMORY}/auto_online_blocks") == "online_movable\n"
    assert host.get("events")["items"][-1]["type"] == "AutoOnlineSet"


def test_what_is_set_of_transparent_huge_pages_is_a_revision_that_is_stored(host: HostApi) -> None:
    path = "fs/sys/kernel/mm/transparent_hugepage/enabled"
    assert host.ask("PUT", path, content=b"never\n").status_code == 204
    assert host.ask("GET", path).text == "always madvise [never]\n"
    assert host.get("events")["items"][-1]["type"] == "TransparentHugepageSet"
    assert host.get("audit")["ok"]  # the rows hold the same as the memory
