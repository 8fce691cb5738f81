"""``hugeadm`` of libhugetlbfs, unmodified: it reads and sets pools."""

import pytest

from hugepool.client import Client
from tests.mirror.helpers import SPEC, Lab, lab_on, skip_without_fuse
from tests.programs.running import in_lab, output, skip_without


@pytest.fixture(autouse=True)
def programs() -> None:
    skip_without_fuse()
    skip_without("hugeadm")


def pools(lab: Lab) -> dict[int, list[int]]:
    """``hugeadm --pool-list``: bytes of a page -> minimum, current, maximum."""
    rows = [line.split() for line in output(lab, "hugeadm", "--pool-list").splitlines()[1:]]
    return {int(row[0]): [int(word) for word in row[1:4]] for row in rows}


def test_the_list_of_pools_is_that_of_the_host(lab: Lab) -> None:
    lab.client.resize(lab.name, "2048kB", 20)
    lab.client.overcommit(lab.name, "2048kB", 5)
    assert pools(lab) == {2 << 20: [20, 20, 25], 1 << 30: [0, 0, 0]}
    listed = output(lab, "hugeadm", "--pool-list").splitlines()
    assert [line.endswith("*") for line in listed[1:]] == [True, False]


@pytest.mark.parametrize(("size", "where"), [("2MB", "2048kB"), ("DEFAULT", "2048kB"), ("1GB", "1048576kB")])
def test_a_pool_grows_and_shrinks(client: Client, size: str, where: str) -> None:
    lab = lab_on(client, {**SPEC, "nodes": [{"memory": "8G", "cpus": 2}]})
    for wanted in (3, 1, 0):
        done = in_lab(lab, "hugeadm", "--pool-pages-min", f"{size}:{wanted}")
        assert done.returncode == 0, done.stderr
        assert lab.client.hugepages(lab.name, where)["nr_hugepages"] == wanted


def test_a_pool_that_falls_short_is_reported(lab: Lab) -> None:
    done = in_lab(lab, "hugeadm", "--pool-pages-min", "2MB:100000")
    got = lab.pool()["nr_hugepages"]
    assert 0 < got < 1024
    assert f"failed to set pool minimum to 100000 became {got}" in done.stderr
    assert pools(lab)[2 << 20][:2] == [got, got]


def test_overcommit_is_the_gap_between_minimum_and_maximum(lab: Lab) -> None:
    assert in_lab(lab, "hugeadm", "--pool-pages-min", "2MB:6").returncode == 0
    done = in_lab(lab, "hugeadm", "--pool-pages-max", "2MB:10")
    assert done.returncode == 0, done.stderr
    assert lab.pool()["nr_overcommit_hugepages"] == 4
    assert pools(lab)[2 << 20] == [6, 6, 10]
