"""Memory blocks plugged in and out over HTTP, and the question what stops one from going offline."""

import pytest

from tests.api.conftest import NR, Api, HostApi, refused


@pytest.fixture
def host(api: Api) -> HostApi:
    """2 GiB, where added memory comes online as movable."""
    words = "hugetlb_free_vmemmap=on memhp_default_state=online_movable"
    return api.boot(nodes=[{"memory": "2G"}], cmdline=words)


def test_memory_is_plugged_in_used_and_plugged_out(host: HostApi) -> None:
    total = host.get()["memory"]["managed_pages"]
    answer = host.post("memory-blocks", {"node": 0, "memory": "256M"})
    assert answer.status_code == 201
    assert answer.headers["location"] == f"{host.path}/memory-blocks/32"
    assert (answer.json()["blocks"], answer.json()["state"]) == ([32, 33], "online")
    assert host.get()["memory"]["managed_pages"] == total + 65536
    assert host.get("memory-blocks/33")["zone"] == "Movable"
    host.put(NR, {"count": 40})
    assert host.get("memory-blocks/32")["hugepages"]["2048kB"] == 40
    assert host.get("audit")["ok"]
    assert host.put("memory-blocks/32/state", {"state": "offline"}).json()["dissolved"] == {"2048kB": 40}
    gone = host.delete("memory-blocks/32")
    assert gone.status_code == 200
    assert gone.json() == {
        "block": 32,
        "vmemmap_pages_freed": 241,  # 240 restored ones and the first of the undivided block
        "vmemmap_pages_lost": 271,
        "page_table_pages_freed": 1,
    }
    refused(host.ask("GET", "memory-blocks/32"), 404, "ENOENT")
    assert host.get()["memory"]["managed_pages"] == total + 32768
    assert host.get("audit")["ok"]


def test_plugging_that_makes_no_sense_changes_nothing(host: HostApi) -> None:
    with host.nothing_changes():
        refused(host.post("memory-blocks", {"node": 0, "memory": "100M"}), 422, "EINVAL")
        refused(host.post("memory-blocks", {"node": 0, "memory": 100}), 422, "EINVAL")
        refused(host.post("memory-blocks", {"node": 7, "memory": "128M"}), 422, "EINVAL")
        refused(host.post("memory-blocks", {"memory": "128M"}), 422, "EINVAL")
        taken = refused(
            host.post("memory-blocks", {"node": 0, "memory": "128M", "start_pfn": 0}), 409, "EEXIST"
        )
        assert taken["reason"] == "memory-present"
        busy = refused(host.delete("memory-blocks/3"), 409, "EBUSY")
        assert busy["reason"] == "block-online"
        refused(host.delete("memory-blocks/99"), 404, "ENOENT")
    rehearsed = host.post("memory-blocks", {"node": 0, "memory": "128M"}, params={"dry_run": "true"})
    assert rehearsed.json()["blocks"] == [32]
    refused(host.ask("GET", "memory-blocks/32"), 404, "ENOENT")


def test_a_node_without_memory_gets_some(api: Api) -> None:
    words = "memhp_default_state=online_movable"
    host = api.boot(nodes=[{"memory": "2G"}, {"memory": 0, "cpus": 4}], cmdline=words)
    assert [row["node"] for row in host.get("hugepages/2048kB")["nodes"]] == [0]
    assert host.post("memory-blocks", {"node": 1, "memory": "128M"}).status_code == 201
    assert [row["node"] for row in host.get("hugepages/2048kB")["nodes"]] == [0, 1]
    assert host.get("audit")["ok"]


def test_blockers_are_what_the_attempt_answers(host: HostApi) -> None:
    block = host.get("memory-blocks")["items"][3]["block"]
    with host.nothing_changes():
        reported = host.get(f"memory-blocks/{block}/blockers")
    answer = host.put(f"memory-blocks/{block}/state", {"state": "offline"})
    assert reported["can_offline"] == (answer.status_code == 200)
    first = host.get("memory-blocks/0/blockers")
    assert (first["can_offline"], first["errno"], first["reason"]) == (False, "EINVAL", "memory-holes")
    assert first["holes_pages"] == 98
    assert {row["use"] for row in first["unmovable"]} >= {"reserved", "system"}
    refused(host.ask("GET", "memory-blocks/99/blockers"), 404, "ENOENT")


def test_a_part_of_a_block_is_unplugged(host: HostApi) -> None:
    host.post("memory-blocks", {"node": 0, "memory": "128M"})
    total = host.get()["memory"]["managed_pages"]
    answer = host.post("memory-blocks/32/unplug", {"memory": "64M"})
    assert (answer.status_code, answer.json()["unplugged_pages"]) == (200, 16384)
    assert host.get()["memory"]["managed_pages"] == total - 16384
    assert host.get("pages/1081343")["use"] == "unplugged"
    with host.nothing_changes():
        refused(host.post("memory-blocks/32/unplug", {"memory": "1M"}), 422, "EINVAL")
        refused(host.post("memory-blocks/32/unplug", {"memory": 10}), 422, "EINVAL")
        refused(host.post("memory-blocks/99/unplug", {"memory": "4M"}), 404, "ENOENT")
    assert host.get("audit")["ok"]


def test_pages_are_poisoned_by_http_and_by_file(host: HostApi) -> None:
    host.put(NR, {"count": 10})
    pfn = next(
        row["start_pfn"] for row in host.get("memory-blocks")["items"] if row["hugepages"]["2048kB"] == 10
    )
    head = next(p for p in range(pfn, pfn + 32768, 512) if host.get(f"pages/{p}")["use"] == "hugetlb")
    answer = host.post(f"pages/{head}/poison", {"mode": "soft"})
    assert (answer.status_code, answer.json()["action"]) == (200, "dissolved")
    assert host.get(f"pages/{head}")["use"] == "poison"
    assert host.counters()["nr_hugepages"] == 9
    address = f"{(head + 512) * 4096:#x}"
    memory = "fs/sys/devices/system/memory"
    assert host.ask("PUT", f"{memory}/hard_offline_page", content=address.encode()).status_code == 204
    assert "HardwareCorrupted:     8 kB\n" in host.ask("GET", "fs/proc/meminfo").text
    with host.nothing_changes():
        refused(host.post("pages/5/poison", {"mode": "hard"}), 409, "EBUSY")
        refused(host.post("pages/999999999/poison", {"mode": "hard"}), 404, "ENXIO")
        refused(host.post("pages/5/poison", {"mode": "gently"}), 422, "EINVAL")
        refused(host.ask("PUT", f"{memory}/soft_offline_page", content=b"there"), 422, "EINVAL")
    assert host.get("audit")["ok"]
