"""Huge pages: reading pools and resizing them."""

from typing import Any

import pytest

from tests.api.conftest import NR, HostApi, refused

OVERCOMMIT = "hugepages/2048kB/nr_overcommit_hugepages"


def test_a_pool_shows_its_counters_by_node(numa: HostApi) -> None:
    numa.put(NR, {"count": 10})
    shown = numa.counters()
    assert shown == {
        "size": "2048kB", "order": 9, "nr_hugepages": 10, "free_hugepages": 10, "resv_hugepages": 0,
        "surplus_hugepages": 0, "max_huge_pages": 10, "nr_overcommit_hugepages": 0, "nr_free_vmemmap_pages": 6,
        "optimized_hugepages": 10,
        "nodes": [{"node": n, "nr_hugepages": 5, "free_hugepages": 5, "surplus_hugepages": 0} for n in (0, 1)],
    }  # fmt: skip
    assert [row["size"] for row in numa.get("hugepages")["items"]] == ["2048kB", "1048576kB"]
    assert numa.get("hugepages")["items"][0] == shown
    assert numa.get()["hugepages"][0] == shown


def test_growing_answers_what_was_done(numa: HostApi) -> None:
    body = numa.put(NR, {"count": 64}).json()
    assert body.keys() == {
        "requested", "before", "after", "allocated", "freed", "refused", "converted_surplus", "vmemmap", "nodes",
        "full_nodes", "shortfall", "injected_fault", "reclaimed_pages", "compacted_blocks",
    }  # fmt: skip
    assert (body["requested"], body["allocated"], body["freed"], body["shortfall"]) == (64, 64, 0, None)
    assert body["full_nodes"] == []
    assert body["before"]["nr_hugepages"] == 0
    assert body["after"]["nr_hugepages"] == 64
    assert body["vmemmap"]["pages_freed"] == 64 * 6
    assert [(row["node"], row["allocated"]) for row in body["nodes"]] == [(0, 32), (1, 32)]


@pytest.mark.parametrize(
    ("more", "expected"),
    [({"node": 1}, [0, 8]), ({"mempolicy": [0]}, [8, 0]), ({"mempolicy": [0, 1]}, [4, 4])],
)
def test_nodes_can_be_chosen(numa: HostApi, more: dict[str, Any], expected: list[int]) -> None:
    assert numa.put(NR, {"count": 8, **more}).status_code == 200
    assert [row["nr_hugepages"] for row in numa.counters()["nodes"]] == expected


def test_growing_less_than_asked_is_a_success_with_a_shortfall(host: HostApi) -> None:
    answer = host.put(NR, {"count": 100_000})
    assert answer.status_code == 200
    shortfall = answer.json()["shortfall"]
    assert shortfall["missing"] == 100_000 - answer.json()["allocated"]
    assert shortfall["nodes"][0]["reason"] in {"watermark", "no-contiguous-memory"}


def test_a_shrink_that_cannot_restore_vmemmap_is_refused_and_kept(host: HostApi) -> None:
    host.put(NR, {"count": 16})
    host.put("faults/vmemmap-restore", {"times": 6})
    answer = host.put(NR, {"count": 0})
    body = refused(answer, 507, "ENOMEM")
    assert body["reason"] == "injected-fault"
    assert body["node"] == 0
    assert body["result"]["freed"] == 10
    assert body["result"]["refused"] == 6
    assert answer.headers["etag"].startswith('"4-')
    shown = host.counters()
    assert (shown["nr_hugepages"], shown["surplus_hugepages"]) == (6, 6)
    assert host.ask("GET").headers["etag"].startswith('"4-')


def test_pages_in_use_stop_a_shrink_without_a_refusal(host: HostApi) -> None:
    host.put(NR, {"count": 4})
    host.post("tasks", {"kind": "hugetlb", "count": 4, "touch": 4})
    answer = host.put(NR, {"count": 0})
    assert answer.status_code == 200
    assert answer.json()["shortfall"]["reason"] == "in-use"


@pytest.mark.parametrize("size", ["4096kB", "2048", "2MB", "x" * 300])
def test_an_unknown_size_is_not_found(host: HostApi, size: str) -> None:
    with host.nothing_changes():
        refused(host.ask("GET", f"hugepages/{size}"), 404, "ENOENT")
        refused(host.put(f"hugepages/{size}/nr_hugepages", {"count": 1}), 404, "ENOENT")
        body = refused(host.put(f"hugepages/{size}/nr_overcommit_hugepages", {"count": 1}), 404, "ENOENT")
    assert sorted(body["sizes"]) == ["1048576kB", "2048kB"]


def test_an_unknown_node_is_not_found(host: HostApi) -> None:
    with host.nothing_changes():
        assert refused(host.put(NR, {"count": 1, "node": 9}), 404, "ENOENT")["node"] == 9


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "count"),
        ({"count": -1}, "count"),
        ({"count": 1 << 64}, "count"),
        ({"count": int("9" * 4000)}, "count"),
        ({"count": 1.5}, "count"),
        ({"count": 1e300}, "count"),
        ({"count": "1"}, "count"),
        ({"count": True}, "count"),
        ({"count": None}, "count"),
        ({"count": 1, "node": -1}, "node"),
        ({"count": 1, "node": 0, "mempolicy": [0]}, "body"),
        ({"count": 1, "mempolicy": []}, "mempolicy"),
        ({"count": 1, "mempolicy": [7]}, "mempolicy"),
        ({"count": 1, "nodes": 1}, "nodes"),
        ([1], "body"),
    ],
)
def test_a_wrong_pool_size_is_refused(host: HostApi, body: Any, field: str) -> None:
    with host.nothing_changes():
        answer = host.put(NR, body)
        assert refused(answer, 422, "EINVAL")["errors"][0]["field"] == field
        assert len(answer.content) < 1000


def test_a_count_up_to_the_kernels_limit_is_taken(host: HostApi) -> None:
    assert host.put(f"{NR}?dry_run=true", {"count": (1 << 64) - 1}).status_code == 200


def test_overcommit_is_set_and_reported(host: HostApi) -> None:
    body = host.put(OVERCOMMIT, {"count": 5}).json()
    assert (body["before"]["nr_overcommit_hugepages"], body["after"]["nr_overcommit_hugepages"]) == (0, 5)
    assert host.counters()["nr_overcommit_hugepages"] == 5


def test_gigantic_pages_cannot_be_overcommitted(host: HostApi) -> None:
    with host.nothing_changes():
        refused(host.put("hugepages/1048576kB/nr_overcommit_hugepages", {"count": 1}), 422, "EINVAL")
