"""Page cache, swap and the OOM killer over HTTP."""

from typing import Any

import pytest

from tests.api.conftest import NR, Api, HostApi, refused


def test_page_cache_is_a_task_that_gives_way_to_the_pool(host: HostApi) -> None:
    free = host.get()["memory"]["free_pages"]
    made = host.post("tasks", {"kind": "cache", "memory": "1M"})
    assert (made.status_code, made.json()["pages"]) == (201, 256)
    files = host.post("tasks", {"kind": "cache", "memory": "1T"}).json()
    assert 0 < files["pages"] < free
    grown = host.put(NR, {"count": 50}).json()
    assert (grown["shortfall"], grown["allocated"]) == (None, 50)
    assert grown["reclaimed_pages"] > 50 * 400
    assert host.get("audit")["ok"]
    assert host.delete(f"tasks/{made.json()['pid']}").status_code == 200


def test_drop_caches_and_compact_memory_do_what_they_say(host: HostApi) -> None:
    free = host.get()["memory"]["free_pages"]
    host.post("tasks", {"kind": "cache", "memory": "100M"})
    for name in ("drop_caches", "compact_memory"):
        assert host.ask("PUT", f"fs/proc/sys/vm/{name}", content=b"1").status_code == 204
    assert host.get()["memory"]["free_pages"] == free


@pytest.mark.parametrize(
    ("body", "status", "errno"),
    [
        ({"kind": "cache"}, 422, "EINVAL"),
        ({"kind": "cache", "memory": "much"}, 422, "EINVAL"),
        ({"kind": "cache", "memory": "1M", "clean": "yes"}, 422, "EINVAL"),
        ({"kind": "cache", "memory": "1M", "node": 9}, 422, "EINVAL"),
        ({"kind": "cache", "memory": "1M", "pinned": True}, 422, "EINVAL"),
        ({"kind": "cache", "memory": "1T", "clean": False}, 507, "ENOMEM"),
        ({"kind": "anon", "memory": "1M", "pinned": 1}, 422, "EINVAL"),
    ],
)
def test_a_refused_task_leaves_the_host_as_it_was(
    host: HostApi, body: dict[str, Any], status: int, errno: str
) -> None:
    before = host.get()
    refused(host.post("tasks", body), status, errno)
    assert host.get() == before


@pytest.mark.parametrize("more", [{"swap": -1}, {"swap": "8X"}, {"swap": 4097}, {"oom": "panic"}])
def test_a_spec_with_a_wrong_swap_or_oom_makes_no_host(api: Api, more: dict[str, Any]) -> None:
    spec = {"nodes": [{"memory": "1G"}], **more}
    refused(api.ask("POST", "/v1/hosts", json={"name": "wrong-swap", "spec": spec}), 422, "EINVAL")
    refused(api.ask("GET", "/v1/hosts/wrong-swap"), 404, "ENOENT")


def test_a_host_that_may_kill_says_whom_it_killed(api: Api) -> None:
    spec = {"nodes": [{"memory": "1G"}], "oom": "kill", "swap": "16M"}
    assert api.ask("POST", "/v1/hosts", json={"name": "kills", "spec": spec}).status_code == 201
    kills = HostApi(api, "kills")
    killed = kills.post("tasks", {"kind": "anon", "memory": "8G", "comm": "hungry"}).json()
    assert (killed["signal"], killed["reason"]) == ("SIGKILL", "oom")
    assert [one["comm"] for one in killed["oom"]] == ["hungry"]
    assert kills.get("tasks")["items"] == []
    assert kills.get("audit")["ok"]
