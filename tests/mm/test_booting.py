"""Booting from a spec: layout, watermarks, the command line as each kernel reads it."""

from typing import Any

import pytest

from hugepool.mm.boot.boot import boot
from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.mmzone import Use
from hugepool.mm.machine.state import Call
from tests.mm.hosts import GIB, KERNELS, MIB, assert_laws, boot_lines, machine, row


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    "sizes",
    [(128 * MIB,), (1 * GIB,), (3 * GIB,), (4 * GIB,), (2 * GIB, 2 * GIB), (6 * GIB, 1 * GIB, 130 * MIB)],
)
def test_every_machine_obeys_the_laws(kernel: str, sizes: tuple[int, ...]) -> None:
    assert_laws(machine(*sizes, kernel=kernel))


def test_zones_lie_as_on_a_recorded_4_gib_guest() -> None:
    # a_grow_shrink-5.14: spanned, present and start of each zone; the hole below 4 GiB.
    zones = {z.name: (z.start_pfn, z.spanned, z.present) for z in machine(4 * GIB).zones if z.present}
    assert zones == {
        "DMA": (1, 4095, 3998),
        "DMA32": (4096, 1044480, 782304),
        "Normal": (1048576, 262144, 262144),
    }


def test_zones_lie_as_on_a_recorded_numa_guest() -> None:
    # c_numa_even: 2 x 2 GiB.
    zones = {(z.nid, z.name): (z.spanned, z.present) for z in machine(2 * GIB, 2 * GIB).zones if z.present}
    assert zones == {
        (0, "DMA"): (4095, 3998),
        (0, "DMA32"): (520192, 520192),
        (1, "DMA32"): (524288, 262112),
        (1, "Normal"): (262144, 262144),
    }


def test_kernelcore_makes_the_rest_movable() -> None:
    # o_kernelcore: 4 GiB, kernelcore=1G: everything above 4 GiB is Movable, nothing Normal.
    zones = {z.name: z.present for z in machine(4 * GIB, cmdline="kernelcore=1G").zones}
    assert zones == {"DMA": 3998, "DMA32": 782304, "Normal": 0, "Movable": 262144}


def test_watermarks_follow_the_kernels_formula() -> None:
    # docs/kernel-rules.md 9.3: 67584 kB for three kernel zones, shared by managed pages, rounded down.
    host = machine(4 * GIB)
    assert host.min_free_kbytes == 67584
    total = sum(z.managed for z in host.zones)
    for zone in host.zones:
        expected = 67584 // 4 * zone.managed // total
        gap = max(expected // 4, zone.managed * 10 // 10000)
        assert (zone.min, zone.low, zone.high) == (expected, expected + gap, expected + 2 * gap)


def test_the_vmemmap_takes_64_bytes_a_page_on_its_own_node() -> None:
    host = machine(2 * GIB, 2 * GIB)
    for node in host.nodes:
        sections = host.mem.section_nid == node.nid
        frames = host.mem.vmemmap_pfn[sections]
        assert (frames > 0).all()
        zones = host.mem.zone[frames // 512] - 1
        assert {host.zones[z].nid for z in zones.tolist()} == {node.nid}
        assert (host.mem.use[frames // 512] == Use.BOOT_VMEMMAP).all()


@pytest.mark.parametrize(
    ("bytes_", "expected"),
    [(4 * GIB, 128 * MIB), (63 * GIB, 2 << 30), (60 * GIB, 128 * MIB), (128 * GIB, 2 << 30)],
)
def test_memory_blocks_have_the_size_of_the_kernels_rule(bytes_: int, expected: int) -> None:
    assert machine(bytes_).memory_block_pages * 4096 == expected


@pytest.mark.parametrize(
    ("kernel", "word", "on"),
    [
        ("5.14", "hugetlb_free_vmemmap=on", True),
        ("5.14", "hugetlb_free_vmemmap=off", False),
        ("5.14", "", False),
        ("5.14", "hugetlb_free_vmemmap", False),
        ("5.14", "hugetlb_free_vmemmap=1", False),
        ("5.14", "hugetlb_free_vmemmap=ON", False),
        ("5.14", "hugetlb_free_vmemmap=on hugetlb_free_vmemmap=off", False),
        ("6.1", "hugetlb_free_vmemmap", True),
        ("6.1", "hugetlb_free_vmemmap=Y", True),
        ("6.1", "hugetlb_free_vmemmap=ON", True),
        ("6.1", "hugetlb_free_vmemmap=of", False),
        ("6.12", "hugetlb_free_vmemmap=1", True),
        ("6.12", "hugetlb_free_vmemmap=x", False),
    ],
)
def test_the_switch_is_read_as_the_booted_kernel_reads_it(kernel: str, word: str, on: bool) -> None:
    host = machine(cmdline=word, kernel=kernel)
    assert host.optimize_enabled is on
    assert host.cmdline == word


@pytest.mark.parametrize(
    ("kernel", "cmdline", "line"),
    [
        ("5.14", "hugetlb_free_vmemmap=1", "Malformed early option 'hugetlb_free_vmemmap'"),
        ("6.1", "hugetlb_free_vmemmap=x", "Booting kernel: `x' invalid for parameter `hugetlb_free_vmemmap'"),
        ("5.14", "hugepagesz=3M", "HugeTLB: unsupported hugepagesz=3M"),
        (
            "5.14",
            "hugepagesz=3M hugepages=4",
            "HugeTLB: hugepages=4 does not follow a valid hugepagesz, ignoring",
        ),
        (
            "5.14",
            "hugepagesz=2M hugepages=1 hugepagesz=2M",
            "HugeTLB: hugepagesz=2M specified twice, ignoring",
        ),
        (
            "5.14",
            "hugepages=4 hugepages=5",
            "HugeTLB: hugepages= specified twice without interleaving hugepagesz=, ignoring hugepages=5",
        ),
        (
            "5.14",
            "default_hugepagesz=2M default_hugepagesz=1G",
            "HugeTLB: default_hugepagesz previously specified, ignoring 1G",
        ),
        (
            "5.14",
            "hugepagesz=1G hugepages=9",
            "HugeTLB: allocating 9 of page size 1.00 GiB failed.  Only allocated 1 hugepages.",
        ),
        ("5.14", "hugetlb_free_vmemmap=on", "HugeTLB: can free 6 vmemmap pages for hugepages-2048kB"),
        ("5.14", "hugetlb_free_vmemmap=on", "HugeTLB: can free 4094 vmemmap pages for hugepages-1048576kB"),
        ("6.1", "", "HugeTLB: 28 KiB vmemmap can be freed for a 2.00 MiB page"),
        ("6.12", "", "HugeTLB: 16380 KiB vmemmap can be freed for a 1.00 GiB page"),
        ("5.14", "hugepages=7", "HugeTLB registered 2.00 MiB page size, pre-allocated 7 pages"),
        ("6.1", "hugepages=7", "HugeTLB: registered 2.00 MiB page size, pre-allocated 7 pages"),
    ],
)
def test_the_console_says_what_the_kernel_says(kernel: str, cmdline: str, line: str) -> None:
    assert line in boot_lines(kernel, cmdline)


def test_5_14_says_nothing_of_savings_when_the_feature_is_off() -> None:
    assert not [line for line in boot_lines("5.14", "") if "can free" in line]


@pytest.mark.parametrize(("kernel", "expected"), [("5.14", [0, 0]), ("6.1", [100, 50]), ("6.12", [100, 50])])
def test_pages_per_node_on_the_command_line(kernel: str, expected: list[int]) -> None:
    # i_boot_nodes: 5.14 reads 0 out of 0:100,1:50.
    host = machine(2 * GIB, 2 * GIB, kernel=kernel, cmdline="hugepages=0:100,1:50")
    assert host.hstates[9].nr_node == expected


def test_boot_pages_of_both_sizes_and_the_default_size() -> None:
    host = machine(6 * GIB, cmdline="default_hugepagesz=1G hugepages=2 hugepagesz=2M hugepages=256")
    assert (row(host, 18), row(host)) == ((2, 2, 0, 0, 2), (256, 256, 0, 0, 256))
    assert host.default_order == 18
    assert_laws(host)


def test_a_struct_page_that_crosses_pages_switches_the_feature_off() -> None:
    lines = boot_lines("5.14", "hugetlb_free_vmemmap=on", struct_page_size=80)
    assert 'HugeTLB: cannot free vmemmap pages because "struct page" crosses page boundaries' in lines
    assert not machine(struct_page_size=80).optimize_enabled


def test_the_config_default_switches_the_feature_on_and_the_word_off_again() -> None:
    assert machine(cmdline="", default_on=True).optimize_enabled
    assert not machine(cmdline="hugetlb_free_vmemmap=off", default_on=True).optimize_enabled


@pytest.mark.parametrize(("kernel", "kept"), [("5.14", False), ("6.1", True)])
def test_the_feature_and_memmap_on_memory(kernel: str, kept: bool) -> None:
    words = "memory_hotplug.memmap_on_memory=1 hugetlb_free_vmemmap=on"
    assert machine(kernel=kernel, cmdline=words).memmap_on_memory is kept


def test_hugetlb_cma_skips_boot_time_gigantic_pages() -> None:
    lines = boot_lines("5.14", "hugetlb_cma=1G hugepagesz=1G hugepages=1")
    assert "HugeTLB: hugetlb_cma is enabled, skip boot time allocation" in lines


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        ({"nodes": ()}, "nodes"),
        ({"nodes": (NodeSpec(64 * MIB),)}, r"nodes\[0\].memory"),
        ({"nodes": (NodeSpec(GIB + 4096),)}, r"nodes\[0\].memory"),
        ({"nodes": (NodeSpec(65 << 40),)}, r"nodes\[0\].memory"),
        ({"nodes": (NodeSpec(GIB, movable=True),)}, r"nodes\[0\].movable"),
        ({"nodes": (NodeSpec(GIB),), "kernel": "4.4"}, "kernel"),
        ({"nodes": (NodeSpec(GIB),), "memory_block_size": 64 * MIB}, "memory_block_size"),
        ({"nodes": (NodeSpec(GIB),), "struct_page_size": 7}, "struct_page_size"),
        ({"nodes": (NodeSpec(GIB),), "seed": -1}, "seed"),
        ({"nodes": (NodeSpec(GIB),), "cmdline": "a\x00b"}, "cmdline"),
    ],
)
def test_impossible_machines_are_refused_by_name(spec: dict[str, Any], where: str) -> None:
    with pytest.raises(BadInput, match=where):
        boot(HostSpec(**spec), Call())


@pytest.mark.parametrize(
    "sizes", [(3074, 510), (3072, 512), (3074, 510, 512), (510, 3074), (3586,), (2050, 1534)]
)
@pytest.mark.parametrize("kernel", ["5.14", "6.12"])
def test_memory_of_any_size_boots_with_all_laws_kept(sizes: tuple[int, ...], kernel: str) -> None:
    assert_laws(machine(*(size << 20 for size in sizes), kernel=kernel))


@pytest.mark.parametrize(
    ("cmdline", "sizes", "movable"),
    [
        ("movablecore=2G", (8, 8), [1 << 18, 1 << 18]),
        (
            "movablecore=2G",
            (4, 12),
            [0, 1 << 19],
        ),  # node 0 has no more above 4 GiB than its share of the kernel's
        ("movablecore=3G", (8, 8, 8), [1 << 18, 1 << 18, 1 << 18]),
        ("kernelcore=6G", (8, 8), [5 << 18, 5 << 18]),
    ],
)
def test_memory_for_the_kernel_is_shared_between_the_nodes(
    cmdline: str, sizes: tuple[int, ...], movable: list[int]
) -> None:
    host = machine(*(size * GIB for size in sizes), cmdline=cmdline)
    assert_laws(host)
    assert [node.zones[3].present for node in host.nodes] == movable
