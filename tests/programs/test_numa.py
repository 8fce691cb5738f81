"""``numactl``, ``numastat``, ``lstopo`` and ``free``, unmodified: the memory of a host by node."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mirror.helpers import Lab, mounting, run, skip_without_fuse
from tests.programs.running import beside, fields_kb, in_lab, output, skip_without

NODE = "/sys/devices/system/node/node{}/meminfo"


def node_meminfo(lab: Lab, nid: int) -> dict[str, int]:
    return fields_kb(lab.read(NODE.format(nid)))


def test_numactl_shows_nodes_cpus_sizes_and_distances(lab: Lab) -> None:
    skip_without_fuse()
    skip_without("numactl")
    lab.client.resize(lab.name, "2048kB", 100, node=1)
    expected = ["available: 2 nodes (0-1)"]
    for nid, cpus in ((0, "0 1"), (1, "2 3")):
        memory = node_meminfo(lab, nid)
        expected += [
            f"node {nid} cpus: {cpus}",
            f"node {nid} size: {memory['MemTotal'] >> 10} MB",
            f"node {nid} free: {memory['MemFree'] >> 10} MB",
        ]
    expected += ["node distances:", "node   0   1", "  0:  10  20", "  1:  20  10"]
    shown = output(lab, "numactl", "--hardware").splitlines()
    assert [line.rstrip() for line in shown] == expected


def test_numastat_shows_the_huge_pages_of_each_node(lab: Lab) -> None:
    skip_without_fuse()
    skip_without("numastat")
    lab.client.resize(lab.name, "2048kB", 10, node=0)
    lab.client.resize(lab.name, "2048kB", 33, node=1)
    lab.client.start_task(
        lab.name, {"kind": "hugetlb", "size": "2048kB", "count": 3, "touch": 3, "policy": {"bind": [0]}}
    )
    done = in_lab(lab, "numastat", "-m")
    assert done.returncode == 0, done.stderr
    table = dict(re.findall(r"^([A-Za-z_()]+) +([0-9. ]+)$", done.stdout, re.MULTILINE))
    shown = {name: [float(word) for word in row.split()] for name, row in table.items()}
    nodes = sorted(lab.pool()["nodes"], key=lambda node: int(node["node"]))
    for name, counter in (("Total", "nr"), ("Free", "free"), ("Surp", "surplus")):
        counts = [node[f"{counter}_hugepages"] for node in nodes]
        assert shown[f"HugePages_{name}"] == [*(2.0 * n for n in counts), 2.0 * sum(counts)]
    assert shown["HugePages_Free"] == [14.0, 66.0, 80.0]
    for name in ("MemTotal", "MemFree", "MemUsed", "AnonPages"):
        mb = [node_meminfo(lab, nid)[name] / 1024 for nid in (0, 1)]
        assert shown[name] == pytest.approx([*mb, sum(mb)], abs=0.006)


def test_numastat_shows_the_six_counters_of_each_node(lab: Lab) -> None:
    skip_without_fuse()
    skip_without("numastat")
    rows = [line.split() for line in output(lab, "numastat").splitlines()]
    assert rows[0] == ["node0", "node1"]
    assert [row[0] for row in rows[1:]] == [
        "numa_hit",
        "numa_miss",
        "numa_foreign",
        "interleave_hit",
        "local_node",
        "other_node",
    ]


def test_free_shows_the_memory_of_the_host(lab: Lab) -> None:
    skip_without_fuse()
    skip_without("free")
    lab.client.resize(lab.name, "2048kB", 100)
    memory = fields_kb(lab.read("/proc/meminfo"))
    row = next(line for line in output(lab, "free", "--kibi").splitlines() if line.startswith("Mem:"))
    total, used, free, shared, cache, available = map(int, row.split()[1:])
    assert (total, free, available) == (memory["MemTotal"], memory["MemFree"], memory["MemAvailable"])
    assert (used, shared) == (memory["MemTotal"] - memory["MemAvailable"], memory["Shmem"])
    assert cache == memory["Buffers"] + memory["Cached"] + memory["SReclaimable"]


# -- lstopo: the host's CPUs are not those of this machine, so it is given the place of the files ------------------


@pytest.fixture(params=["export", "mount"])
def tree(request: pytest.FixtureRequest, lab: Lab, tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "tree"
    lab.client.resize(lab.name, "2048kB", 40, node=1)
    if request.param == "export":
        assert run(lab.client.url, "export", lab.name, str(place)).returncode == 0
        yield place
        return
    skip_without_fuse()
    place.mkdir()
    with mounting(lab, place):
        yield place


def test_lstopo_shows_packages_cores_and_memory_of_each_node(lab: Lab, tree: Path) -> None:
    skip_without("lstopo-no-graphics")
    shown = beside(
        *("lstopo-no-graphics", "--of", "console", "--verbose", "--no-io", "--no-caches"),
        HWLOC_FSROOT=str(tree),
        HWLOC_COMPONENTS="linux,stop",
    )
    nodes = re.findall(r"NUMANode L#\d+ \(P#(\d+) local=(\d+)KB total=(\d+)KB\)", shown)
    sizes = [node_meminfo(lab, nid)["MemTotal"] for nid in (0, 1)]
    assert nodes == [(str(nid), str(kb), str(kb)) for nid, kb in enumerate(sizes)]
    packages = [re.findall(r"PU L#\d+ \(P#(\d+)\)", part) for part in shown.split("Package L#")[1:]]
    assert packages == [["0", "1"], ["2", "3"]]


def test_lstopo_knows_the_pages_of_each_size(lab: Lab, tree: Path) -> None:
    skip_without("lstopo-no-graphics")
    xml = beside(
        *("lstopo-no-graphics", "--of", "xml", "--no-io"),
        HWLOC_FSROOT=str(tree),
        HWLOC_COMPONENTS="linux,stop",
    )
    pages = re.findall(r'<page_type size="(\d+)" count="(\d+)"/>', xml)
    huge = [(int(size), int(count)) for size, count in pages if size != "4096"]
    assert huge == [(2 << 20, 0), (1 << 30, 0), (2 << 20, 40), (1 << 30, 0)]
    small = [int(count) for size, count in pages if size == "4096"]
    totals = [node_meminfo(lab, nid)["MemTotal"] >> 2 for nid in (0, 1)]
    assert small == [totals[0], totals[1] - 40 * 512]
