"""The picture of memory and the free blocks over HTTP."""

import pytest

from tests.api.conftest import HostApi, refused


def test_the_picture_shows_all_memory(numa: HostApi) -> None:
    numa.put("hugepages/2048kB/nr_hugepages", {"count": 100})
    found = numa.get("memory-map", params={"bins": 64})
    assert sum(found["uses"]["hugetlb"]) == 100 * 512
    assert sum(sum(counts) for counts in found["uses"].values()) == found["end_pfn"] - found["start_pfn"]
    part = numa.get("memory-map", params={"start": found["bins"][3], "end": found["bins"][4], "bins": 8})
    for word, counts in part["uses"].items():
        assert sum(counts) == found["uses"][word][3]


def test_free_blocks_are_those_of_the_host(numa: HostApi) -> None:
    found = numa.get("buddy")
    assert [row["size"] for row in found["hugepages"]] == ["2048kB", "1048576kB"]
    assert {row["node"] for row in found["zones"]} == {0, 1}


@pytest.mark.parametrize("query", [{"start": 9, "end": 9}, {"bins": 0}, {"start": 2**39}, {"begin": 0}])
def test_impossible_pictures_are_refused(numa: HostApi, query: dict[str, int]) -> None:
    with numa.nothing_changes():
        refused(numa.ask("GET", "memory-map", params=query), 422, "EINVAL")
