"""Memory blocks going offline, contiguous ranges and demotion over HTTP."""

from typing import Any

import pytest

from tests.api.conftest import NR, Api, HostApi, refused


@pytest.fixture
def movable(api: Api) -> HostApi:
    """A host with a node that can be taken out: all of it is ZONE_MOVABLE."""
    spec = {"nodes": [{"memory": "2G"}, {"memory": "1G", "movable": True, "hotplug": True}]}
    return api.boot(**spec)


def movable_block(host: HostApi) -> int:
    """A block of node 1 with its index below the last."""
    blocks = [row["block"] for row in host.get("memory-blocks")["items"] if row["node"] == 1]
    return int(sorted(blocks)[1])


def hole(host: HostApi) -> int:
    """A block that is not all memory: a kernel takes none such offline."""
    return int(host.get("memory-blocks")["items"][0]["block"])


def with_huge_pages(host: HostApi, node: int, count: int) -> dict[str, Any]:
    """A block that is all huge pages, after a pool was made on a node."""
    host.put(NR, {"count": count, "node": node})
    rows = host.get("memory-blocks")["items"]
    found: dict[str, Any] = next(row for row in rows if row["hugepages"]["2048kB"] == 64)
    return found


def test_a_block_goes_offline_and_comes_back(movable: HostApi) -> None:
    block = movable_block(movable)
    total = movable.get()["memory"]["managed_pages"]
    answer = movable.put(f"memory-blocks/{block}/state", {"state": "offline"})
    assert answer.status_code == 200
    assert (answer.json()["state"], answer.json()["passes"]) == ("offline", 1)
    shown = movable.get(f"memory-blocks/{block}")
    assert shown["state"] == "offline"
    assert movable.get()["memory"]["managed_pages"] == total - shown["nr_pages"]
    back = movable.put(f"memory-blocks/{block}/state", {"state": "online_movable"})
    assert (back.status_code, back.json()["zone"]) == (200, "Movable")
    assert movable.get()["memory"]["managed_pages"] == total
    assert movable.get("audit")["ok"]


def test_free_huge_pages_of_a_block_are_dissolved(movable: HostApi) -> None:
    block = with_huge_pages(movable, 0, 300)["block"]
    body = movable.put(f"memory-blocks/{block}/state", {"state": "offline"}).json()
    assert body["dissolved"] == {"2048kB": 64}
    assert body["vmemmap"]["pages_restored"] == 6 * 64
    assert movable.counters()["nr_hugepages"] == 300 - 64
    assert movable.get("audit")["ok"]


def test_a_movable_node_full_of_huge_pages_stays_online(movable: HostApi) -> None:
    block = with_huge_pages(movable, 1, 300)
    assert block["zone"] == "Movable"
    assert movable.get()["memory"]["free_pages"] > 400_000
    answer = movable.put(f"memory-blocks/{block['block']}/state", {"state": "offline"})
    body = refused(answer, 507, "ENOMEM")
    assert (body["reason"], body["node"]) == ("vmemmap-restore", 1)
    assert (body["pages_needed"], body["pages_available"]) == (6, 0)
    assert movable.get(f"memory-blocks/{block['block']}")["state"] == "online"
    assert movable.counters()["nr_hugepages"] == 300
    assert movable.get("audit")["ok"]


def test_an_offline_or_online_that_makes_no_sense_changes_nothing(movable: HostApi) -> None:
    block = movable_block(movable)
    with movable.nothing_changes():
        refused(movable.put(f"memory-blocks/{block}/state", {"state": "online"}), 422, "EINVAL")
        refused(movable.put(f"memory-blocks/{block}/state", {"state": "gone"}), 422, "EINVAL")
        refused(movable.put(f"memory-blocks/{block}/state", {}), 422, "EINVAL")
        refused(movable.put("memory-blocks/999/state", {"state": "offline"}), 404, "ENOENT")
        assert (
            refused(movable.put(f"memory-blocks/{hole(movable)}/state", {"state": "offline"}), 422, "EINVAL")[
                "reason"
            ]
            == "memory-holes"
        )
    rehearsed = movable.put(f"memory-blocks/{block}/state", {"state": "offline"}, params={"dry_run": "true"})
    assert rehearsed.json()["state"] == "offline"
    assert movable.get(f"memory-blocks/{block}")["state"] == "online"


def test_a_range_is_found_shown_and_given_back(movable: HostApi) -> None:
    before = movable.get()["memory"]["free_pages"]
    answer = movable.post("contig-ranges", {"nr_pages": 4096, "node": 1})
    assert answer.status_code == 201
    taken = answer.json()
    assert answer.headers["location"] == f"{movable.path}/contig-ranges/1"
    assert taken["end_pfn"] - taken["start_pfn"] == taken["nr_pages"] == 4096
    assert taken["start_pfn"] % 4096 == 0
    shown = {key: taken[key] for key in ("id", "start_pfn", "end_pfn", "nr_pages")}
    assert movable.get("contig-ranges/1") == shown
    assert movable.get("contig-ranges") == {"items": [shown], "next_cursor": None}
    assert movable.get(f"pages/{taken['start_pfn']}")["use"] == "contig"
    assert movable.get()["memory"]["free_pages"] == before - 4096
    assert movable.delete("contig-ranges/1").status_code == 200
    assert movable.get()["memory"]["free_pages"] == before
    assert movable.get("contig-ranges")["items"] == []


def test_a_range_over_free_huge_pages_replaces_them(movable: HostApi) -> None:
    block = with_huge_pages(movable, 0, 300)
    start = block["start_pfn"]
    body = movable.post("contig-ranges", {"start_pfn": start, "end_pfn": start + block["nr_pages"]}).json()
    assert (body["replaced_hugepages"], body["refused_hugepages"]) == (64, 0)
    assert movable.counters()["nr_hugepages"] == 300
    assert movable.get("audit")["ok"]


def test_a_range_whose_vmemmap_cannot_be_restored_grows_the_pool(movable: HostApi) -> None:
    block = with_huge_pages(movable, 1, 300)
    start = block["start_pfn"]
    answer = movable.post("contig-ranges", {"start_pfn": start, "end_pfn": start + block["nr_pages"]})
    body = refused(answer, 409, "EBUSY")
    assert (body["reason"], body["result"]["refused_hugepages"]) == ("vmemmap-restore", 64)
    shown = movable.counters()
    assert (shown["nr_hugepages"], shown["surplus_hugepages"]) == (364, 64)
    assert movable.get("contig-ranges")["items"] == []
    assert movable.get("audit")["ok"]


def test_ranges_are_paged(movable: HostApi) -> None:
    for _ in range(3):
        assert movable.post("contig-ranges", {"nr_pages": 512, "node": 1}).status_code == 201
    first = movable.get("contig-ranges", params={"limit": 2})
    rest = movable.get("contig-ranges", params={"limit": 2, "cursor": first["next_cursor"]})
    assert [row["id"] for row in first["items"] + rest["items"]] == [1, 2, 3]
    assert rest["next_cursor"] is None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"start_pfn": 512},
        {"start_pfn": 1024, "end_pfn": 512},
        {"start_pfn": 0, "end_pfn": 2**40},
        {"nr_pages": 0},
        {"nr_pages": 512, "start_pfn": 0, "end_pfn": 512},
        {"nr_pages": 512, "migratetype": "UNMOVABLE"},
    ],
)
def test_a_range_that_makes_no_sense_is_refused(movable: HostApi, body: dict[str, object]) -> None:
    with movable.nothing_changes():
        refused(movable.post("contig-ranges", body), 422, "EINVAL")


def test_no_range_of_the_number_is_not_found(movable: HostApi) -> None:
    with movable.nothing_changes():
        refused(movable.delete("contig-ranges/7"), 404, "ENOENT")
        refused(movable.ask("GET", "contig-ranges/7"), 404, "ENOENT")


def test_a_range_over_kernel_pages_is_busy_and_has_no_address(movable: HostApi) -> None:
    answer = movable.post("contig-ranges", {"start_pfn": 0, "end_pfn": 512})
    assert refused(answer, 409, "EBUSY")["reason"] == "unmovable-page"
    assert "location" not in answer.headers
    assert movable.get("contig-ranges")["items"] == []
    assert movable.get("audit")["ok"]


def test_a_gigantic_page_is_demoted(api: Api) -> None:
    line = "hugetlb_free_vmemmap=on hugepagesz=1G hugepages=1"
    host = api.boot("4G", kernel="6.1", cmdline=line)
    body = host.post("hugepages/1048576kB/demote", {"count": 1}).json()
    assert (body["requested"], body["demoted"]) == (1, 1)
    assert host.counters("1048576kB")["nr_hugepages"] == 0
    assert host.counters()["nr_hugepages"] == 512
    assert host.get("audit")["ok"]


def test_what_cannot_be_demoted_is_refused(api: Api, host: HostApi) -> None:
    newer = api.boot("1G", kernel="6.1")
    for machine, size in ((host, "1048576kB"), (newer, "2048kB"), (newer, "64kB")):
        with machine.nothing_changes():
            refused(machine.post(f"hugepages/{size}/demote", {"count": 1}), 404, "ENOENT")
    with newer.nothing_changes():
        refused(newer.post("hugepages/1048576kB/demote", {"count": -1}), 422, "EINVAL")
        refused(newer.post("hugepages/1048576kB/demote", {}), 422, "EINVAL")


def test_a_range_of_a_cma_area_by_http_and_by_its_debugfs_files(api: Api) -> None:
    host = api.boot(nodes=[{"memory": "2G"}], cmdline="hugetlb_free_vmemmap=on cma=64M@1G-1088M")
    assert host.get()["cma_areas"] == [
        {"name": "reserved", "base_pfn": 262144, "nr_pages": 16384, "taken_pages": 0, "node": 0}
    ]
    taken = host.post("contig-ranges", {"nr_pages": 4096, "cma": "reserved"})
    assert (taken.status_code, taken.json()["start_pfn"]) == (201, 262144)
    folder = "fs/sys/kernel/debug/cma/cma-reserved"
    assert host.ask("GET", f"{folder}/used").text == "4096\n"
    assert host.ask("GET", f"{folder}/maxchunk").text == "12288\n"
    assert host.ask("PUT", f"{folder}/alloc", content=b"0x1000\n").status_code == 204
    assert host.ask("PUT", f"{folder}/free", content=b"5000").status_code == 204
    assert host.ask("GET", f"{folder}/used").text == f"{8192 - 5000}\n"
    with host.nothing_changes():
        refused(host.post("contig-ranges", {"nr_pages": 1, "cma": "none"}), 404, "ENOENT")
        refused(host.post("contig-ranges", {"nr_pages": 1, "cma": "reserved", "node": 0}), 422, "EINVAL")
        refused(host.post("contig-ranges", {"start_pfn": 0, "end_pfn": 1, "cma": "reserved"}), 422, "EINVAL")
        refused(host.ask("PUT", f"{folder}/alloc", content=b"many"), 422, "EINVAL")
    assert host.get("audit")["ok"]
