"""Machines of many kinds: what is read of each, what is assumed, and what is refused in one sentence."""

import re
from dataclasses import replace

import pytest

from hugepool.fs.machine import read_machine
from hugepool.fs.pools import shares
from hugepool.fs.render import render
from hugepool.mm.boot.import_machine import restore_machine
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.state import Call, Host
from tests.fs.machines import (
    DMA,
    DMA32,
    NODE,
    NORMAL,
    SMALL,
    Files,
    ZoneOf,
    buddyinfo,
    machine,
    meminfo,
    memory_blocks,
    zoneinfo,
)
from tests.mm.hosts import assert_laws

FAR = ZoneOf(1, "Normal", 3 << 19, 1 << 19, 1 << 19, 511000, (1, 0, 1, 0, 0, 0, 0, 0, 0, 1, 227))
POOL = "/sys/kernel/mm/hugepages/hugepages-2048kB"


def restored(files: Files, kernel: str | None = None) -> Host:
    host = restore_machine(read_machine(files, kernel), Call())
    assert_laws(host)
    assert render(host, "/proc/buddyinfo") == files["/proc/buddyinfo"]
    assert render(host, "/proc/zoneinfo") == files["/proc/zoneinfo"]
    return host


def refusal(files: Files) -> str:
    with pytest.raises(BadInput) as caught:
        read_machine(files)
    return caught.value.detail


# -- zones -------------------------------------------------------------------------------------------------


def test_a_counter_without_a_name_is_kept_as_4_18_prints_it() -> None:
    files = machine()
    nameless = "                   83328\n"
    files["/proc/zoneinfo"] = zoneinfo(SMALL, node_stats=nameless)
    files["/proc/vmstat"] = "nr_free_pages 1000\n 83328\npgfault 7\n"
    host = restored(files)
    assert nameless in render(host, "/proc/zoneinfo")
    assert " 83328\n" in render(host, "/proc/vmstat")


def test_zoneinfo_of_4_10_has_its_lines_in_another_order() -> None:
    files = machine()
    old = files["/proc/zoneinfo"].replace("        spanned", "   node_scanned  0\n        spanned")
    old = old.replace("        protection: (0, 0, 0, 0)\n", "")
    old = old.replace("  pagesets\n", "        protection: (0, 0, 0, 0)\n  pagesets\n")
    files["/proc/zoneinfo"] = "".join(
        line + ("  node_inactive_ratio: 3\n" if "start_pfn" in line else "") for line in old.splitlines(True)
    )
    host = restore_machine(read_machine(files), Call())
    assert_laws(host)
    shown = render(host, "/proc/zoneinfo")
    reported, given = (sorted(map(str.split, text.splitlines())) for text in (shown, files["/proc/zoneinfo"]))
    assert reported == given


@pytest.mark.parametrize("spanned", [1 << 18, (1 << 30) + 512])
def test_a_zone_of_device_memory_is_no_memory_of_the_buddy(spanned: int) -> None:
    files = machine()
    device = (
        f"Node 0, zone   Device\n  pages free     0\n        min      0\n        low      0\n        high     0\n"
        f"        spanned  {spanned}\n        present  0\n        managed  0\n        cma      0\n"
        "        protection: (0, 0, 0, 0)\n"
    )
    files["/proc/zoneinfo"] += device
    assert sum(zone.present for zone in restored(files).zones) == sum(zone.present for zone in SMALL)


def interleaved() -> tuple[ZoneOf, ...]:
    """Memory of node 0 that was plugged in later lies behind node 1."""
    return DMA, DMA32, replace(NORMAL, spanned=3 << 19, present=1 << 20, managed=1035000), FAR


def test_interleaved_nodes_are_recognised_by_the_links_of_memory_blocks() -> None:
    owners = [(range(1), "none", 0), (range(1, 24), "DMA32", 0), (range(32, 48), "Normal", 0),
              (range(48, 64), "Normal", 1), (range(64, 80), "Normal", 0)]  # fmt: skip
    blocks = memory_blocks((n, zone, nid) for numbers, zone, nid in owners for n in numbers)
    host = restored({**machine(interleaved()), **blocks})
    assert [host.mem.section_nid[n] for n in (47, 48, 63, 64)] == [0, 1, 1, 0]


def test_interleaved_nodes_without_links_are_refused_with_what_to_collect() -> None:
    said = refusal(machine(interleaved()))
    assert "memory was hot-plugged" in said
    assert "/sys/devices/system/memory" in said


def test_a_block_that_two_nodes_share_is_split_where_their_zones_meet() -> None:
    near = replace(
        NORMAL, spanned=(1 << 19) - (1 << 18), present=1 << 18, managed=250000, free_area=(0,) * 11
    )
    far = replace(FAR, start_pfn=(1 << 20) + (1 << 18), spanned=1 << 18, present=1 << 18, managed=250000,
                  free_area=(0,) * 10 + (200,))  # fmt: skip
    rows = [(0, "none", 0), (1, "none", 0), (2, "none", 0)]
    blocks = memory_blocks(rows, 2 << 30) | {NODE.format(1) + "/memory2": ""}
    host = restored({**machine((DMA, DMA32, near, far)), **blocks})
    assert [host.mem.section_nid[n] for n in (32, 39, 40, 47)] == [0, 0, 1, 1]


# -- pools -------------------------------------------------------------------------------------------------


def two_nodes() -> tuple[ZoneOf, ...]:
    return DMA, DMA32, NORMAL, FAR


def test_a_pool_is_split_as_the_meminfo_of_the_nodes_says() -> None:
    files = machine(two_nodes(), HugePages_Total=90, HugePages_Free=40, HugePages_Rsvd=0, HugePages_Surp=0)
    for nid, nr, free in ((0, 70, 30), (1, 20, 10)):
        files[NODE.format(nid) + "/meminfo"] = (
            f"Node {nid} HugePages_Total: {nr:5d}\nNode {nid} HugePages_Free:  {free:5d}\n"
            f"Node {nid} HugePages_Surp:  {0:5d}\n"
        )
    pool = read_machine(files).pools[0]
    assert pool.nodes == {0: (70, 30, 0), 1: (20, 10, 0)}
    assert [hs.nr_node for hs in restored(files).hstates.values() if hs.order == 9] == [[70, 20]]


def test_a_pool_whose_nodes_nobody_knows_is_split_evenly_and_the_answer_says_so() -> None:
    image = read_machine(machine(two_nodes(), HugePages_Total=91, HugePages_Free=40))
    assert image.pools[0].nodes == {0: (46, 20, 0), 1: (45, 20, 0)}
    assert any("split evenly" in sentence and "46 on node 0" in sentence for sentence in image.assumptions)


def test_pages_of_the_other_size_are_found_in_the_line_hugetlb() -> None:
    zones = (DMA, DMA32, replace(NORMAL, free_area=(0,) * 10 + (100,)))
    files = machine(zones, HugePages_Total=10, HugePages_Free=10, Hugepagesize=2048, Hugetlb=10 * 2048)
    assert [pool.order for pool in read_machine(files).pools] == [9]
    files["/proc/meminfo"] = meminfo(
        zones, HugePages_Total=10, HugePages_Free=10, Hugetlb=10 * 2048 + (1 << 20)
    )
    image = read_machine(files)
    assert [(pool.order, pool.nr, pool.free) for pool in image.pools] == [(9, 10, 10), (18, 1, 0)]
    assert any("1048576kB: 1, taken as in use" in sentence for sentence in image.assumptions)
    files["/proc/meminfo"] = meminfo(zones, HugePages_Total=10, Hugetlb=10 * 2048 + 5000)
    assert "Hugetlb is 25480 kB" in refusal(files)


@pytest.mark.parametrize("below", [1, 5])
def test_counters_that_went_below_zero_come_in_as_they_are(below: int) -> None:
    files = machine(
        HugePages_Total=10, HugePages_Free=10, HugePages_Rsvd=2**64 - below, HugePages_Surp=2**64 - 2
    )
    host = restored(files)
    hs = host.hstates[9]
    assert (hs.resv_huge_pages, hs.surplus_huge_pages) == (-below, -2)
    assert f"HugePages_Rsvd:{2**64 - below:>21}" in render(host, "/proc/meminfo")
    assert render(host, f"{POOL}/resv_hugepages") == f"{2**64 - below}\n"
    assert any("below zero" in sentence for sentence in host.carried["assumptions"])


def test_free_pages_that_moved_between_two_files_are_those_of_the_nodes() -> None:
    files = machine(two_nodes())
    counts = {"nr": (90, 70, 20), "free": (41, 30, 10), "surplus": (0, 0, 0)}
    for word, numbers in counts.items():
        folders = (POOL, *(f"{NODE.format(nid)}/hugepages/hugepages-2048kB" for nid in (0, 1)))
        files |= {f"{f}/{word}_hugepages": f"{n}\n" for f, n in zip(folders, numbers, strict=True)}
    image = read_machine(files)
    assert image.pools[0].free == 40
    assert any("41 free" in sentence and "those of the nodes" in sentence for sentence in image.assumptions)


def test_shares_are_dealt_out_in_turn() -> None:
    assert shares(7, [10, 10]) == [4, 3]
    assert shares(7, [1, 10, 10]) == [1, 3, 3]
    assert shares(99, [1, 2]) == [1, 2]
    assert shares(0, []) == []


# -- how files were collected ------------------------------------------------------------------------------


def test_the_nuls_that_tar_pads_files_of_sys_with_are_cut() -> None:
    files = machine() | {f"{POOL}/{word}_hugepages": "0\n" for word in ("nr", "free", "surplus")}
    padded = {
        path: text.ljust(4096, "\0") if path.startswith("/sys") else text for path, text in files.items()
    }
    assert read_machine(padded) == read_machine(files)
    padded[f"{POOL}/nr_hugepages"] = "0\0\0\n"
    assert "NUL characters" in refusal(padded)


@pytest.mark.parametrize("path", ["/proc/zoneinfo", "/proc/buddyinfo", "/proc/meminfo"])
def test_an_empty_file_of_proc_is_refused_with_the_reason_and_the_way_out(path: str) -> None:
    said = refusal(machine() | {path: ""})
    assert "the file is empty, as tar and cp leave files of /proc" in said
    assert "/collect.sh" in said


def test_an_empty_file_that_is_not_needed_is_as_if_it_were_not_there() -> None:
    files = machine()
    assert read_machine(files | {"/proc/vmstat": "", "/proc/sys/vm/nr_hugepages": ""}) == read_machine(files)


# -- what is not modelled ----------------------------------------------------------------------------------


@pytest.mark.parametrize("page_kb", [16, 64])
def test_pages_of_another_size_are_named(page_kb: int) -> None:
    said = refusal(machine() | {"/proc/meminfo": meminfo(SMALL, page_kb)})
    assert f"pages of {page_kb} KiB" in said
    assert "x86-64" in said


def test_zones_of_another_architecture_are_named() -> None:
    arm = (ZoneOf(0, "DMA", 1 << 18, 1 << 18, 1 << 18, 250000, (0,) * 10 + (10,)),)
    assert "such as arm64" in refusal(machine(arm))
    assert "aarch64" in refusal(machine() | {"/proc/sys/kernel/arch": "aarch64\n"})
    assert "such as arm64" in refusal(machine(Hugepagesize=524288))


def test_the_meminfo_of_a_container_is_named() -> None:
    said = refusal(machine() | {"/proc/meminfo": "MemTotal: 2097152 kB\nMemFree: 1024 kB\n"})
    assert "container (lxcfs" in said
    assert "collect all files on the host" in said


def test_files_of_different_moments_are_named() -> None:
    later = (DMA, DMA32, replace(NORMAL, free_area=(0,) * 10 + (300,)))
    said = refusal(machine() | {"/proc/buddyinfo": buddyinfo(later)})
    assert "of different moments; collect them again" in said
    said = refusal(machine() | {"/proc/meminfo": meminfo([*SMALL, FAR])})
    assert "of different moments" in said


def test_a_count_of_many_digits_is_refused_wherever_it_stands() -> None:
    types = "Page block order: 9\nNode    0, zone      DMA, type      Movable " + " ".join(["0"] * 10)
    for path in ("/proc/buddyinfo", "/proc/meminfo", "/proc/zoneinfo"):
        text = machine()[path]
        assert "cannot be above" in refusal(machine() | {path: re.sub(r"\d+", "9" * 4301, text, count=1)})
    assert "cannot be above" in refusal(machine() | {"/proc/pagetypeinfo": f"{types} {'9' * 4301}\n"})


# -- only meminfo ------------------------------------------------------------------------------------------


def test_of_a_machine_with_only_meminfo_a_booted_one_matches_it() -> None:
    zones = (DMA, DMA32, replace(NORMAL, free_area=(0,) * 10 + (100,)))
    text = meminfo(zones, HugePages_Total=500, HugePages_Free=300, HugePages_Rsvd=20, HugePages_Surp=10,
                   Hugepagesize=2048, Slab=200_000, Cached=900_000)  # fmt: skip
    host = restore_machine(read_machine({"/proc/meminfo": text}), Call())
    assert_laws(host)
    assert render(host, "/proc/meminfo") == text
    hs = host.hstates[9]
    assert (hs.nr_huge_pages, hs.free_huge_pages, hs.resv_huge_pages, hs.surplus_huge_pages) == (
        500,
        300,
        20,
        10,
    )
    assert abs(host.carried["lag"]["meminfo"].get("MemTotal", 0)) < 1 << 20
    assert "MemFree" not in host.carried["lag"]["meminfo"]
    assert host.carried["approximate"]
    assert host.carried["assumptions"][0].startswith("There is no zoneinfo and no buddyinfo")


def test_nodes_of_an_approximate_host_are_as_large_as_their_meminfo_says() -> None:
    files = {
        "/proc/meminfo": meminfo(SMALL),
        NODE.format(0) + "/cpulist": "0-3\n",
        NODE.format(1) + "/cpulist": "4-5\n",
    }
    for nid, total in ((0, 3_000_000), (1, 2_000_000)):
        files[NODE.format(nid) + "/meminfo"] = f"Node {nid} MemTotal:  {total} kB\n"
    host = restore_machine(read_machine(files, "6.1"), Call())
    assert_laws(host)
    assert [len(node.cpus) for node in host.nodes] == [4, 2]
    sizes = [node.managed * 4 for node in host.nodes]
    assert sizes == [pytest.approx(3_000_000, rel=0.05), pytest.approx(2_000_000, rel=0.05)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("MemTotal: 1000 kB\nMemFree: 500 kB\n", "at least 128M"),
        ("MemTotal: 8000000 kB\nMemFree: 9000000 kB\n", "above MemTotal"),
        ("MemTotal: 8000000 kB\n", "no line MemFree"),
        (
            "MemTotal: 8000000 kB\nMemFree: 5000000 kB\nHugePages_Total: 2000\nHugePages_Free: 0\n",
            "different moments",
        ),
        (f"MemTotal: {1 << 36} kB\nMemFree: 500 kB\n", "must be at most 64T"),
    ],
)
def test_a_meminfo_that_no_machine_has_is_refused(text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        restore_machine(read_machine({"/proc/meminfo": text}), Call())


def test_a_pool_that_finds_no_room_on_an_approximate_host_is_reported() -> None:
    text = (
        "MemTotal: 4000000 kB\nMemFree: 1000 kB\n"
        "HugePages_Total: 1950\nHugePages_Free: 1950\nHugepagesize: 2048 kB\n"
    )
    host = restore_machine(read_machine({"/proc/meminfo": text}), Call())
    assert_laws(host)
    assert any("Of 1950 huge pages of 2048kB" in sentence for sentence in host.carried["assumptions"])


# -- kernels -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "kernel", "said"),
    [
        ({}, "5.14", "No line of a newer kernel is there"),
        ({"/proc/version": "Linux version 5.14.0 (x@y)\n"}, "5.14", None),
        ({"/proc/version": "Linux version 6.1.0-56-amd64 (x@y)\n"}, "6.1", None),
        ({"/proc/version": "Linux version 5.15.0-91-generic (x@y)\n"}, "5.14", "5.15.0-91-generic: the rule"),
        ({"/proc/version": "Linux version 4.18.0-553.el8_10.x86_64 (x@y)\n"}, "5.14", "before 5.14 free no vmemmap"),
        ({"/proc/version": "Linux version 5.14.0-70.13.1.el9_0.x86_64 (x@y)\n"}, "5.14", "RHEL 9"),
        ({"/proc/version": "Linux version 5.14.0-427.13.1.el9_4.x86_64 (x@y)\n"}, "6.1", "RHEL 9"),
        ({"/proc/version": "Linux version 6.4.0-150600.23-default (x@y)\n"}, "6.1", "6.4.0-150600"),
        ({"/proc/version": "Linux version 6.12.0-55.el10.x86_64 (x@y)\n"}, "6.12", None),
        ({"/proc/sys/kernel/osrelease": "6.8.0-45-generic\n"}, "6.12", "6.8.0-45"),
        ({"/proc/cmdline": "BOOT_IMAGE=(hd0,gpt2)/vmlinuz-5.14.0-503.el9.x86_64 ro\n"}, "6.1", "up to Linux 6.1"),
        ({"/proc/cmdline": "BOOT_IMAGE=(hd0,gpt2)/vmlinuz-5.14.0-570.el9.x86_64 ro\n",
          "/proc/vmstat": "nr_free_pages 1\nnr_memmap_boot_pages 0\n"}, "6.12", "up to Linux 6.11"),
        ({"/proc/cmdline": "BOOT_IMAGE=/boot/vmlinuz ro quiet\n"}, "5.14", "No file names"),
        ({"/proc/vmstat": "nr_free_pages 1\nnr_throttled_written 0\n"}, "5.14", "nr_throttled_written"),
        ({"/proc/vmstat": "nr_free_pages 1\nnr_memmap_boot_pages 0\n"}, "6.12", "came with 6.11"),
        ({"/proc/sys/vm/hugetlb_optimize_vmemmap": "0\n"}, "6.1", "hugetlb_optimize_vmemmap"),
    ],
)  # fmt: skip
def test_the_rule_set_is_the_nearest_and_the_answer_says_what_that_means(
    files: Files, kernel: str, said: str | None
) -> None:
    image = read_machine(machine() | files)
    assert image.kernel == kernel
    found = [sentence for sentence in image.assumptions if "rule set" in sentence]
    assert found == [] if said is None else said in found[0]


def test_five_protection_entries_say_nothing_of_the_version() -> None:
    files = machine()
    files["/proc/zoneinfo"] = files["/proc/zoneinfo"].replace("(0, 0, 0, 0)", "(0, 0, 0, 0, 0)")
    assert read_machine(files).kernel == "5.14"
