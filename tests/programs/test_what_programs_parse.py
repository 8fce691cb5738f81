"""What programs that are not run here read and write, rule by rule, on the files of each kernel.

Each test does with the files what the program's own code does, and fails where the program would.
"""

import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from hugepool.client import Client
from hugepool.mm.machine.profile import PROFILES
from tests.mirror.helpers import MEMORY, SPEC, Lab, lab_on, mounting, shell, skip_without_fuse, types_of

SIZES = "sys/kernel/mm/hugepages"
NODES = "sys/devices/system/node"
CPUS = "sys/devices/system/cpu"
FOLDERS_OF_SIZES = (SIZES, f"{NODES}/node0/hugepages", f"{NODES}/node1/hugepages")


@pytest.fixture(params=tuple(PROFILES), scope="module")
def lab(request: pytest.FixtureRequest, client: Client) -> Lab:
    """A host of each kernel, for tests that find their own pool."""
    return lab_on(client, {**SPEC, "kernel": request.param})


@pytest.fixture(scope="module")
def root(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The host, mounted."""
    skip_without_fuse()
    place = tmp_path_factory.mktemp("mnt")
    with mounting(lab, place):
        yield place


@pytest.fixture(autouse=True)
def _from_an_empty_pool(lab: Lab) -> None:
    lab.client.resize(lab.name, "2048kB", 0)
    lab.client.overcommit(lab.name, "2048kB", 0)


def tokens(root: Path) -> list[str]:
    return (root / "proc/meminfo").read_text().split()


def kb_of_default_size(root: Path) -> int:
    found = re.search(r"^Hugepagesize: +(\d+) kB$", (root / "proc/meminfo").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


# -- programs that only read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", FOLDERS_OF_SIZES)
def test_cadvisor_every_entry_of_a_folder_of_sizes_splits_at_the_dash(root: Path, folder: str) -> None:
    entries = list((root / folder).iterdir())
    assert entries
    for entry in entries:
        word, size = entry.name.split("-")
        assert (word, size[-2:], int(size[:-2]) > 0) == ("hugepages", "kB", True)
        assert int((entry / "nr_hugepages").read_text()) == 0


def test_cadvisor_nodes_have_memory_distances_and_cores(root: Path) -> None:
    for nid in (0, 1):
        node = root / NODES / f"node{nid}"
        assert re.search(r"MemTotal:\s*([0-9]+) kB", (node / "meminfo").read_text())
        assert len((node / "distance").read_text().split()) == 2
        cpus = [entry for entry in node.iterdir() if re.fullmatch(r"cpu[0-9]+", entry.name)]
        assert len(cpus) == 2
        for cpu in cpus:
            assert int((cpu / "topology/core_id").read_text()) in {0, 1}
            assert int((cpu / "topology/physical_package_id").read_text()) == nid


def test_kubernetes_memory_manager_free_pages_of_a_node_are_an_integer(root: Path, lab: Lab) -> None:
    lab.client.resize(lab.name, "2048kB", 7, node=1)
    free = [
        int((root / NODES / f"node{nid}/hugepages/hugepages-2048kB/free_hugepages").read_text())
        for nid in (0, 1)
    ]
    assert free == [0, 7]


def test_nova_the_tokens_of_memory_are_followed_by_numbers(root: Path) -> None:
    words = tokens(root)
    assert all(int(words[words.index(name) + 1]) >= 0 for name in ("MemFree:", "Buffers:", "Cached:"))


def test_postgresql_the_page_size_is_a_number_and_a_unit(root: Path) -> None:
    found = [
        line for line in (root / "proc/meminfo").read_text().splitlines() if line.startswith("Hugepagesize:")
    ]
    assert len(found) == 1
    number, unit = re.match(r"Hugepagesize:\s*(\d+)\s*(\S)", found[0]).groups()  # type: ignore[union-attr]
    assert (int(number), unit) == (2048, "k")


def test_jvm_the_default_size_has_its_folder(root: Path) -> None:
    folder = stat.S_IFDIR >> 12  # DT_DIR: it asks no stat(2)
    types = types_of(root / SIZES)
    names = [name for name, kind in types.items() if kind == folder]
    sizes = {int(found[1]) for name in names if (found := re.match(r"hugepages-(\d+)kB", name))}
    assert kb_of_default_size(root) in sizes


def test_telegraf_every_counter_of_a_pool_is_an_integer(root: Path) -> None:
    readable = [
        file
        for folder in FOLDERS_OF_SIZES
        for file in (root / folder).glob("*/*")
        if file.stat().st_mode & 0o444 and file.name != "demote_size"
    ]
    assert len(readable) == 2 * 6 + 2 * 2 * 3
    assert {int(file.read_text()) for file in readable} == {0}


def test_redis_one_word_of_transparent_hugepage_is_in_brackets(root: Path) -> None:
    assert (root / "sys/kernel/mm/transparent_hugepage/enabled").read_text() == "[always] madvise never\n"


def test_ghw_blocks_of_a_node_are_links_and_the_block_size_is_hex(root: Path) -> None:
    size = int((root / MEMORY / "block_size_bytes").read_text().strip(), 16)
    online = 0
    for nid in (0, 1):
        for block in (root / NODES / f"node{nid}").glob("memory[0-9]*"):
            assert block.is_symlink()
            online += (block / "state").read_text().strip() == "online"
    assert online * size == 2 << 30


# -- programs that write -------------------------------------------------------------------------------------


def libvirt_pages(path: Path) -> int:
    """virNumaGetHugePageInfo: one number, and the newline right behind it."""
    text = path.read_text()
    assert text.endswith("\n")
    assert text[:-1].isdigit()
    return int(text[:-1])


@pytest.mark.parametrize("folder", [SIZES, f"{NODES}/node1/hugepages"])
def test_libvirt_what_is_read_after_a_write_is_what_was_written(root: Path, folder: str) -> None:
    path = root / folder / "hugepages-2048kB/nr_hugepages"
    before = libvirt_pages(path)
    path.write_text(f"{before + 16}")
    assert libvirt_pages(path) == before + 16
    assert libvirt_pages(path.with_name("free_hugepages")) == 16


def test_dpdk_available_pages_follow_from_four_counters(root: Path, lab: Lab) -> None:
    lab.client.resize(lab.name, "2048kB", 20)
    lab.client.overcommit(lab.name, "2048kB", 3)
    task = lab.client.start_task(
        lab.name, {"kind": "hugetlb", "size": "2048kB", "count": 8, "touch": 5, "shared": False}
    )
    try:
        folder = root / SIZES / f"hugepages-{kb_of_default_size(root)}kB"
        free, reserved, over, surplus = (
            int((folder / name).read_text())
            for name in (
                "free_hugepages",
                "resv_hugepages",
                "nr_overcommit_hugepages",
                "surplus_hugepages",
            )
        )
        assert (free, reserved, over, surplus) == (15, 3, 3, 0)
        mounts = [line.split() for line in (root / "proc/mounts").read_text().splitlines()]
        assert [row[1] for row in mounts if row[2] == "hugetlbfs"] == ["/dev/hugepages"]
        assert all(len(row) == 6 for row in mounts)
    finally:
        lab.client.exit_task(lab.name, task["pid"])


def reserve(path: Path, pages: int) -> int:
    """dpdk-hugepages.py: write, read back."""
    with path.open("w") as file:
        file.write(f"{pages}\n")
    return int(path.read_text())


def test_dpdk_hugepages_script_reserves_on_a_node_and_sees_a_shortfall(root: Path, lab: Lab) -> None:
    path = root / NODES / "node0/hugepages/hugepages-2048kB/nr_hugepages"
    assert reserve(path, 64) == 64
    got = reserve(path, 100_000)
    assert 64 < got < 512
    assert got == lab.pool()["nr_hugepages"]


def test_spdk_setup_writes_only_when_there_are_too_few(root: Path, lab: Lab) -> None:
    setup = (
        'have=$(<proc/sys/vm/nr_hugepages); if ((have < NR)); then echo "$NR" > proc/sys/vm/nr_hugepages; fi; '
        "echo $(<proc/sys/vm/nr_hugepages)"
    )
    assert shell(f"NR=32; {setup}", root).stdout == "32\n"
    revision = lab.revision
    assert shell(f"NR=16; {setup}", root).stdout == "32\n"
    assert lab.revision == revision


def test_kata_agent_brings_an_offline_block_online(root: Path, lab: Lab) -> None:
    size = int((root / MEMORY / "block_size_bytes").read_text().strip(), 16)
    assert size == 128 << 20
    block = root / MEMORY / "memory4"
    lab.client.set_block_state(lab.name, 4, "offline")
    assert (block / "online").read_text().strip() == "0"
    assert (block / "valid_zones").read_text().split()[0] in {"DMA32", "Normal", "Movable"}
    (block / "online").write_text("1")
    assert (block / "online").read_text().strip() == "1"
    assert (block / "state").read_text() == "online\n"
