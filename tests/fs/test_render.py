"""The file mirror: what a kernel printed comes out again, byte for byte."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from hugepool.fs.machine import read_machine
from hugepool.fs.render import Entry, Symlink, is_directory, listdir, render
from hugepool.fs.textfile import bitmap_list
from hugepool.mm.boot.boot import boot
from hugepool.mm.boot.import_machine import restore_machine
from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.commands.apply import apply
from hugepool.mm.commands.commands import CreateTask, SetMaxHugePages
from hugepool.mm.machine.errors import MMError, NotFound
from hugepool.mm.machine.profile import PROFILES
from hugepool.mm.machine.state import Call, Host

TRACES = sorted((Path(__file__).parents[1] / "data" / "traces").glob("*.json.gz"))
POOL = "/sys/kernel/mm/hugepages/hugepages-2048kB"
# Which free pages are of which migratetype is placement: counts by order are those of the import (buddyinfo).
PLACEMENT = {"/proc/pagetypeinfo"}


def load(name: str) -> dict[str, Any]:
    path = next(path for path in TRACES if path.name.startswith(name))
    with gzip.open(path) as stream:
        trace: dict[str, Any] = json.load(stream)
    return trace


def booted(kernel: str, cmdline: str = "") -> Host:
    nodes = (NodeSpec(memory_bytes=4 << 30, cpus=2), NodeSpec(memory_bytes=4 << 30, cpus=2))
    return boot(HostSpec(kernel=kernel, cmdline=cmdline, nodes=nodes), Call())


def names_of(text: str) -> list[str]:
    return [re.sub(r"^Node [0-9]+ ", "", line).split()[0].rstrip(":") for line in text.splitlines()]


@pytest.mark.parametrize("kernel", PROFILES)
@pytest.mark.parametrize("path", ["/proc/meminfo", "/proc/vmstat", "/sys/devices/system/node/node0/meminfo"])
def test_a_host_from_a_spec_has_the_lines_of_its_kernel(kernel: str, path: str) -> None:
    recorded = load(f"c_numa_even-{kernel}")["boot"]["files"][path]
    assert names_of(render(booted(kernel), path)) == names_of(recorded)


@pytest.mark.parametrize("kernel", PROFILES)
def test_zoneinfo_of_a_host_from_a_spec_can_be_imported_again(kernel: str) -> None:
    host = booted(kernel)
    apply(host, SetMaxHugePages(9, 64))
    files = {path: render(host, path) for path in text_files(host, "/")}
    again = restore_machine(read_machine(files, kernel), Call())
    assert {path: render(again, path) for path in files if path not in PLACEMENT} == {
        path: text for path, text in files.items() if path not in PLACEMENT
    }


def text_files(host: Host, folder: str) -> list[str]:
    found = []
    for entry in listdir(host, folder):
        path = f"{folder.rstrip('/')}/{entry.name}"
        if entry.type == "directory":
            found += text_files(host, path)
        elif entry.type == "file" and entry.mode != "0200":
            found.append(path)
    return found


def test_meminfo_of_the_pool_follows_the_default_size_and_hugetlb_all_sizes() -> None:
    host = booted("5.14")
    apply(host, SetMaxHugePages(9, 10))
    apply(host, SetMaxHugePages(18, 1))
    text = render(host, "/proc/meminfo")
    assert "HugePages_Total:      10\nHugePages_Free:       10\nHugePages_Rsvd:        0\n" in text
    assert f"Hugepagesize:       2048 kB\nHugetlb:         {10 * 2048 + 1048576:7d} kB\n" in text
    assert "HardwareCorrupted:     0 kB\n" in text
    node = render(host, "/sys/devices/system/node/node0/meminfo")
    assert "Node 0 HugePages_Total:     5\nNode 0 HugePages_Free:      5\n" in node
    assert "Node 0 HugePages_Surp:      0\n" in node


def test_sysfs_reads_nr_and_proc_reads_max() -> None:
    host = booted("5.14")
    apply(host, SetMaxHugePages(9, 16))
    host.hstates[9].surplus_huge_pages = host.hstates[9].nr_huge_pages
    host.hstates[9].max_huge_pages = 0
    assert render(host, f"{POOL}/nr_hugepages") == "16\n"
    assert render(host, "/proc/sys/vm/nr_hugepages") == "0\n"


def test_an_underflowed_surplus_is_printed_as_the_kernel_does() -> None:
    host = booted("5.14")
    host.hstates[9].surplus_huge_pages = host.hstates[9].surplus_node[0] = -1
    assert render(host, f"{POOL}/surplus_hugepages") == "18446744073709551615\n"
    assert "HugePages_Surp: 18446744073709551615\n" in render(host, "/proc/meminfo")
    node = "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/surplus_hugepages"
    assert render(host, node) == "4294967295\n"


def test_anonymous_memory_of_a_task_is_seen_where_the_kernel_counts_it() -> None:
    host = booted("5.14")
    before = render(host, "/proc/meminfo")
    apply(host, CreateTask(kind="anon", pages=1000))
    apply(host, CreateTask(kind="anon", pages=500, mlock=True))
    after = render(host, "/proc/meminfo")
    names = ("AnonPages", "Mlocked", "Inactive(anon)")
    grown = {name: kb_of(after, name) - kb_of(before, name) for name in names}
    page_tables_kb = 8
    for name, kb in {"AnonPages": 6000, "Mlocked": 2000, "Inactive(anon)": 4000}.items():
        assert grown[name] == pytest.approx(kb, abs=page_tables_kb)


def kb_of(text: str, name: str) -> int:
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name}:"))


def test_the_folder_of_sizes_holds_nothing_but_sizes() -> None:
    host = booted("6.1")
    sizes = [("hugepages-2048kB", "directory"), ("hugepages-1048576kB", "directory")]
    for folder in ("/sys/kernel/mm/hugepages", "/sys/devices/system/node/node1/hugepages"):
        assert sorted((entry.name, entry.type) for entry in listdir(host, folder)) == sorted(sizes)


def test_demote_and_the_switch_are_there_on_kernels_that_have_them() -> None:
    old, new = booted("5.14"), booted("6.1")
    gigantic = "/sys/kernel/mm/hugepages/hugepages-1048576kB"
    assert {"demote", "demote_size"} & {entry.name for entry in listdir(old, gigantic)} == set()
    assert {"demote", "demote_size"} <= {entry.name for entry in listdir(new, gigantic)}
    assert not {"demote"} & {entry.name for entry in listdir(new, POOL)}
    assert render(new, f"{gigantic}/demote_size") == "2048kB\n"
    assert render(new, "/proc/sys/vm/hugetlb_optimize_vmemmap") == "0\n"
    for path in (f"{gigantic}/demote", "/proc/sys/vm/hugetlb_optimize_vmemmap"):
        with pytest.raises(NotFound):
            render(old, path)


def test_blocks_link_to_their_node_and_nodes_to_their_blocks() -> None:
    host = booted("5.14")
    assert "memory3" in {entry.name for entry in listdir(host, "/sys/devices/system/node/node0")}
    up = "/sys/devices/system"
    assert Symlink("node0", "symlink", "0777", "../../node/node0") in listdir(host, f"{up}/memory/memory3")
    assert Symlink("memory3", "symlink", "0777", "../../memory/memory3") in listdir(host, f"{up}/node/node0")
    assert render(host, "/sys/devices/system/node/node0/memory3/state") == "online\n"
    assert render(host, "/sys/devices/system/memory/memory3/node0/memory3/phys_index") == "00000003\n"
    with pytest.raises(NotFound):
        render(host, "/sys/devices/system/node/node1/memory3/state")


def test_block_files_say_what_lsmem_reads() -> None:
    host = booted("5.14")
    block = "/sys/devices/system/memory/memory3"
    expected = {"state": "online\n", "online": "1\n", "removable": "1\n", "valid_zones": "DMA32\n"}
    assert {name: render(host, f"{block}/{name}") for name in expected} == expected
    assert render(host, "/sys/devices/system/memory/memory0/valid_zones") == "none\n"
    assert render(host, "/sys/devices/system/memory/block_size_bytes") == "8000000\n"


def test_node_files_say_what_numactl_reads() -> None:
    host, node = booted("5.14"), "/sys/devices/system/node"
    assert render(host, f"{node}/online") == "0-1\n"
    assert render(host, f"{node}/node1/cpulist") == "2-3\n"
    assert render(host, f"{node}/node1/cpumap") == "c\n"
    assert render(host, f"{node}/node1/distance") == "20 10\n"
    assert [len(line.split()) for line in render(host, f"{node}/node1/numastat").splitlines()] == [2] * 6
    assert bitmap_list([0, 1, 2, 5, 8, 9]) == "0-2,5,8-9\n"
    assert bitmap_list([]) == "\n"


@pytest.mark.parametrize(
    "path",
    [
        "/proc/nosuch",
        "/proc/meminfo/x",
        "/proc/../proc/meminfo",
        "/{size}",
        f"{POOL}x/nr_hugepages",
        "/sys/kernel/mm/hugepages/{size}/nr_hugepages",
        "/sys/devices/system/node/node2/meminfo",
        "/sys/devices/system/node/node00/meminfo",
        "/sys/devices/system/memory/memory9999/state",
    ],
)
def test_what_a_host_does_not_have_is_not_found(path: str) -> None:
    host = booted("5.14")
    for call in (render, listdir, is_directory):
        with pytest.raises(NotFound):
            call(host, path)


def test_folders_are_listed_and_not_read_and_files_the_other_way() -> None:
    host = booted("5.14")
    assert is_directory(host, "/proc/sys/vm")
    assert not is_directory(host, "/proc/meminfo")
    assert [entry.name for entry in listdir(host, "/")] == ["proc", "sys"]
    assert Entry("nr_hugepages", "file", "0644") in listdir(host, POOL)
    assert Entry("free_hugepages", "file", "0444") in listdir(host, POOL)
    with pytest.raises(NotFound, match="is a directory"):
        render(host, "/proc/sys/vm")
    with pytest.raises(NotFound, match="not a directory"):
        listdir(host, "/proc/meminfo")


@pytest.mark.parametrize("name", ["compact_memory", "drop_caches"])
def test_write_only_files_cannot_be_read(name: str) -> None:
    with pytest.raises(MMError) as caught:
        render(booted("5.14"), f"/proc/sys/vm/{name}")
    assert caught.value.errno == "EACCES"
