"""Reading a real machine: every recorded boot, and every refusal with its file and line."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from hugepool.fs.machine import read_machine
from hugepool.mm.machine.errors import BadInput

TRACES = sorted((Path(__file__).parents[1] / "data" / "traces").glob("*.json.gz"))
MEMINFO, ZONEINFO, BUDDYINFO = "/proc/meminfo", "/proc/zoneinfo", "/proc/buddyinfo"
POOL = "/sys/kernel/mm/hugepages/hugepages-2048kB"
NODE_POOL = "/sys/devices/system/node/node{}/hugepages/hugepages-2048kB"
BLOCKS = "/sys/devices/system/memory"


def load(path: Path) -> dict[str, Any]:
    with gzip.open(path) as stream:
        trace: dict[str, Any] = json.load(stream)
    return trace


def recorded(name: str) -> dict[str, str]:
    path = next(path for path in TRACES if path.name.startswith(name))
    files: dict[str, str] = load(path)["boot"]["files"]
    return dict(files)


@pytest.fixture
def files() -> dict[str, str]:
    """Two nodes, 5.14: node 0 with DMA and DMA32, node 1 with DMA32 and Normal."""
    return recorded("c_numa_even-5.14")


def with_line(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.name.removesuffix(".json.gz"))
def test_every_recorded_boot_is_read_as_the_recorder_counted_it(path: Path) -> None:
    trace = load(path)
    if trace["boot"]["files"] is None:
        pytest.skip("the guest did not come up")
    image, after = read_machine(trace["boot"]["files"]), trace["boot"]["counters"]
    assert image.kernel == trace["kernel"]
    assert image.cmdline == trace["cmdline"]
    assert sum(zone.free + zone.pcp for zone in image.zones) == pytest.approx(
        after["free_plus_pcp_pages"], abs=skew_of(image)
    )
    for zone in image.zones:
        counted = after["zones"].get(f"{zone.nid}/{zone.name}")
        if counted:
            assert (zone.managed, zone.min, zone.low, zone.high) == tuple(
                counted[name] for name in ("managed", "min", "low", "high")
            )
    for pool in image.pools:
        counted = after["hugepages"]["2048kB" if pool.order == 9 else "1048576kB"]
        assert (pool.nr, pool.free) == (counted["nr_hugepages"], counted["free_hugepages"])
    assert {n: state for n, (state, _, _) in image.blocks.items()} == {
        int(n): state for n, state in after["memory_blocks"].items()
    }


def skew_of(image: Any) -> int:
    return sum(abs(pages) for pages in image.carried["lag"]["zoneinfo"].values())


def test_zones_and_buddy_cells_come_as_they_are_written(files: dict[str, str]) -> None:
    image = read_machine(files)
    dma32 = next(zone for zone in image.zones if (zone.nid, zone.name) == (0, "DMA32"))
    assert dma32.free_area == [2, 3, 1, 1, 2, 0, 3, 3, 3, 2, 491]
    assert (dma32.start_pfn, dma32.spanned, dma32.present, dma32.managed) == (4096, 520192, 520192, 509350)
    assert dma32.pcp == 324 + 1162  # both CPUs
    assert dma32.type_blocks == [6, 1008, 2, 0, 0, 0]
    assert image.node_cpus == {0: [0], 1: [1]}


def test_a_fifth_protection_entry_and_an_empty_device_zone_are_dropped() -> None:
    image = read_machine(recorded("c_numa_even-6.12"))
    assert {zone.name for zone in image.zones} == {"DMA", "DMA32", "Normal", "Movable"}
    assert all(len(zone.protection) == 4 for zone in image.zones)
    assert image.lowmem_reserve_ratio == [256, 256, 32, 0]


def test_buddyinfo_wins_over_a_lagging_free_counter() -> None:
    image = read_machine(recorded("c_numa_even-6.12.113-HVOon"))
    normal = next(zone for zone in image.zones if (zone.nid, zone.name) == (1, "Normal"))
    assert normal.free == sum(count << order for order, count in enumerate(normal.free_area)) == 245496
    assert image.carried["lag"]["meminfo"] == {"MemFree": -48}  # type: ignore[index]


def test_three_files_are_enough(files: dict[str, str]) -> None:
    image = read_machine({path: files[path] for path in (MEMINFO, ZONEINFO, BUDDYINFO)})
    assert image.kernel == "5.14"
    assert [(pool.order, pool.nr) for pool in image.pools] == [(9, 0)]
    assert image.blocks == {}
    assert image.min_free_kbytes is None


@pytest.mark.parametrize(
    ("version", "kernel"),
    [("5.4.0", "5.14"), ("5.14.2", "5.14"), ("5.18.19", "5.14"), ("5.19.0", "6.1"), ("6.1.0-56", "6.1"),
     ("6.6.9", "6.1"), ("6.7.0", "6.12"), ("6.14.0", "6.12"), ("6.18.44", "6.18"), ("7.0.0", "6.18")],
)  # fmt: skip
def test_a_kernel_version_takes_the_nearest_profile(files: dict[str, str], version: str, kernel: str) -> None:
    files["/proc/version"] = f"Linux version {version} (builder@host) #1 SMP\n"
    assert read_machine(files).kernel == kernel
    assert read_machine(files, "6.1").kernel == "6.1"


def test_pool_max_is_the_sysctl_of_the_default_size_and_nr_minus_surplus_of_others() -> None:
    files = recorded("i_boot_1g_2m-6.1-HVOoff")
    for path, value in (("nr_hugepages", "10"), ("free_hugepages", "10"), ("surplus_hugepages", "2")):
        files[f"{POOL}/{path}"] = files[NODE_POOL.format(0) + f"/{path}"] = value + "\n"
    files["/proc/sys/vm/nr_hugepages"] = "7\n"
    files[MEMINFO] = set_meminfo(files[MEMINFO], HugePages_Total=10)
    pools = {pool.order: pool for pool in read_machine(files).pools}
    assert pools[9].max == 7
    del files["/proc/sys/vm/nr_hugepages"]
    assert read_machine(files).pools[0].max == 8
    assert pools[9].nodes == {0: (10, 10, 2)}


def set_meminfo(text: str, **values: int) -> str:
    lines = []
    for line in text.splitlines():
        name = line.partition(":")[0]
        lines.append(f"{name}: {values[name]}{line[24:]}" if name in values else line)
    return "\n".join(lines) + "\n"


def test_an_underflowed_surplus_is_a_negative_number() -> None:
    files = recorded("a_grow_shrink-5.14-HVOoff")
    files[f"{POOL}/surplus_hugepages"] = f"{2**64 - 1}\n"
    files[NODE_POOL.format(0) + "/surplus_hugepages"] = f"{2**32 - 1}\n"
    pool = read_machine(files).pools[0]
    assert (pool.surplus, pool.nodes[0]) == (-1, (0, 0, -1))


def test_without_per_node_files_one_node_has_all_huge_pages_and_two_share_them() -> None:
    one = {path: text for path, text in recorded("i_boot_2m-6.12").items() if path.startswith("/proc")}
    pool = read_machine(one).pools[0]
    assert pool.nr > 0
    assert pool.nodes == {0: (pool.nr, pool.free, 0)}
    two = {path: text for path, text in recorded("i_boot_nodes-6.1").items() if path.startswith("/proc")}
    image = read_machine(two)
    assert image.pools[0].nodes == {0: (100, 100, 0), 1: (50, 50, 0)}
    assert "split as the command line asks for: 100 on node 0, 50 on node 1" in " ".join(image.assumptions)
    del two["/proc/cmdline"]
    image = read_machine(two)
    assert image.pools[0].nodes == {0: (91, 91, 0), 1: (59, 59, 0)}  # node 1 has no more memory in use
    assert "split evenly, as the kernel fills a pool: 91 on node 0, 59 on node 1" in " ".join(
        image.assumptions
    )


def test_links_tell_the_node_of_a_block(files: dict[str, str]) -> None:
    files["/sys/devices/system/node/node1/memory32"] = ""
    files[f"{BLOCKS}/memory3/node0"] = ""
    blocks = read_machine(files).blocks
    assert blocks[32] == ("online", "Normal", 1)
    assert blocks[3] == ("online", "DMA32", 0)
    assert blocks[4] == ("online", "DMA32", None)


# -- refusals --------------------------------------------------------------------------------------------

REPLACED = {
    "a negative number": (ZONEINFO, "managed  3840", "managed  -1", "cannot be negative"),
    "no number": (ZONEINFO, "managed  3840", "managed  lots", "must be a number"),
    "2**63 pages": (ZONEINFO, "present  3998", f"present  {2**63}", "cannot be above"),
    "digits of another script": (ZONEINFO, "managed  3840", "managed  ٣٨٤٠", "must be a number"),
    "a very long number": (ZONEINFO, "managed  3840", "managed  " + "9" * 5000, "cannot be above"),
    "a zone above 64 TiB": (
        ZONEINFO,
        "start_pfn:           1048576",
        f"start_pfn: {2**34 - 5}",
        "above 64 TiB",
    ),
    "managed above present": (ZONEINFO, "managed  3840", "managed  3999", "managed pages of 3998 present"),
    "present above spanned": (ZONEINFO, "spanned  4095", "spanned  3997", "present pages in a span of 3997"),
    "marks that fall": (ZONEINFO, "low      106", "low      84", "watermarks that do not rise"),
    "a zone twice": (ZONEINFO, "Node 0, zone    DMA32", "Node 0, zone      DMA", "is there twice"),
    "an unknown zone": (
        ZONEINFO,
        "Node 0, zone    DMA32",
        "Node 0, zone  HighMem",
        "x86-64 has memory in DMA, DMA32",
    ),
    "a populated Device zone": (
        ZONEINFO,
        "Node 1, zone   Normal",
        "Node 1, zone   Device",
        "has memory; x86-64",
    ),
    "overlapping zones": (
        ZONEINFO,
        "start_pfn:           4096",
        "start_pfn: 4000",
        "begins inside zone DMA ",
    ),
    "six protections": (ZONEINFO, "(0, 1989, 1989, 1989)", "(0, 1, 1, 1, 1, 1)", "protection has 6 entries"),
    "a line of another file": (
        ZONEINFO,
        "  pages free     3840",
        "MemTotal:  1 kB",
        "not a name and a number",
    ),
    "a free count of another machine": (
        ZONEINFO,
        "pages free     505204",
        "pages free     405204",
        "adds up to",
    ),
    "ten orders": (BUDDYINFO, "0      1      1      3 ", "0      1      1 ", "11 columns"),
    "a buddy line without zone": (BUDDYINFO, "Node 0, zone      DMA", "Node zero", "is not a line such as"),
    "a buddy zone twice": (BUDDYINFO, "Node 0, zone    DMA32", "Node 0, zone      DMA", "is there twice"),
    "a buddy zone too many": (
        BUDDYINFO,
        "Node 1, zone   Normal",
        "Node 7, zone   Normal",
        "is not in /proc/zoneinfo",
    ),
    "more free than managed": (BUDDYINFO, "1      1      3 ", "1      1      4 ", "only 3840 managed"),
    "no MemTotal": (MEMINFO, "MemTotal:", "MemTotals:", "no line MemTotal"),
    "MemTotal of another machine": (MEMINFO, "MemTotal:        4045724", "MemTotal: 8045724", "zones manage"),
    "a MemTotal too small": (MEMINFO, "MemTotal:        4045724", "MemTotal: 3945724", "zones manage"),
    "MemFree above MemTotal": (
        MEMINFO,
        "MemFree:         4020792",
        "MemFree:         4120792",
        "above MemTotal",
    ),
    "a meminfo line twice": (MEMINFO, "Buffers:", "MemFree:", "is there twice"),
    "half a meminfo line": (MEMINFO, "Cached:              916 kB", "Cached:", "is not a line of meminfo"),
    "a huge page size of ARM": (
        MEMINFO,
        "Hugepagesize:       2048",
        "Hugepagesize:       64",
        "Hugepagesize is 64",
    ),
    "a total of another pool": (MEMINFO, "HugePages_Total:       0", "HugePages_Total:       4", "is 4, but"),
    "an unknown migratetype": (
        "/proc/pagetypeinfo",
        "HighAtomic          CMA",
        "HighAtomic          XYZ",
        "XYZ",
    ),
    "pageblocks of 4 MiB": ("/proc/pagetypeinfo", "order: 9", "order: 10", "x86-64 has order 9"),
    "too many pageblocks": ("/proc/pagetypeinfo", "1            7", "1            17", "18 pageblocks"),
    "a vmstat line of one word": (
        "/proc/vmstat",
        "nr_zone_inactive_anon ",
        "nr_zone_inactive_anon_",
        "2|two|words",
    ),
}


@pytest.mark.parametrize("case", REPLACED)
def test_a_broken_proc_file_is_refused_with_its_name(files: dict[str, str], case: str) -> None:
    path, old, new, text = REPLACED[case]
    files[path] = with_line(files[path], old, new)
    with pytest.raises(BadInput, match=text) as caught:
        read_machine(files)
    assert (caught.value.where or "").startswith((path, "/proc/"))


SET = {
    "free above nr": (f"{POOL}/free_hugepages", "3\n", "3 free huge pages of 0"),
    "reserved above free": (f"{POOL}/resv_hugepages", "3\n", "only 0 are free"),
    "an empty counter": (f"{POOL}/nr_hugepages", "", "one line is expected, found 0"),
    "two lines": (f"{POOL}/nr_hugepages", "0\n0\n", "one line is expected, found 2"),
    "a counter in hex": (f"{POOL}/nr_hugepages", "0x0\n", "must be a number"),
    "a node's free above nr": (NODE_POOL.format(1) + "/free_hugepages", "1\n", "1 free huge pages of 0"),
    "nodes that do not add up": (NODE_POOL.format(1) + "/nr_hugepages", "1\n", "the nodes have 1"),
    "a size of ARM": ("/sys/kernel/mm/hugepages/hugepages-64kB/nr_hugepages", "0\n", "not a huge page size"),
    "an unknown state": (f"{BLOCKS}/memory3/state", "onlin\n", "not a state of a memory block"),
    "an unknown zone": (f"{BLOCKS}/memory3/valid_zones", "High\n", "not a list of zones"),
    "a block above 64 TiB": (f"{BLOCKS}/memory600000/state", "online\n", "above 64 TiB"),
    "a block size with 0x": (f"{BLOCKS}/block_size_bytes", "0x8000000\n", "hexadecimal number without 0x"),
    "a block of 1 MiB": (f"{BLOCKS}/block_size_bytes", "100000\n", "not a block size"),
    "a block of nothing": (f"{BLOCKS}/block_size_bytes", "0\n", "not a block size"),
    "too much memory offline": (f"{BLOCKS}/memory3/state", "offline\n", "the online memory blocks hold"),
    "a CPU on two nodes": ("/sys/devices/system/node/node0/cpulist", "0-1\n", "belongs to two nodes"),
    "a falling list": ("/sys/devices/system/node/node0/cpulist", "3-1\n", "not an ascending list"),
    "ten million CPUs": ("/sys/devices/system/node/node0/cpulist", "0-9999999\n", "cannot be above"),
    "min_free_kbytes": ("/proc/sys/vm/min_free_kbytes", "-3\n", "cannot be negative"),
    "three ratios": ("/proc/sys/vm/lowmem_reserve_ratio", "256 256 32\n", "3 numbers"),
    "a switch of two": ("/proc/sys/vm/hugetlb_optimize_vmemmap", "2\n", "cannot be above 1"),
    "a strange version": ("/proc/version", "FreeBSD 14\n", "does not begin with"),
}


@pytest.mark.parametrize("case", SET)
def test_a_broken_small_file_is_refused_with_its_name(files: dict[str, str], case: str) -> None:
    path, content, text = SET[case]
    files["/sys/devices/system/node/node1/cpulist"] = "1\n"
    files[path] = content
    with pytest.raises(BadInput, match=text) as caught:
        read_machine(files)
    assert "/" in (caught.value.where or "")


@pytest.mark.parametrize("path", [MEMINFO, ZONEINFO, BUDDYINFO])
def test_a_needed_file_that_is_missing_is_named(files: dict[str, str], path: str) -> None:
    del files[path]
    with pytest.raises(BadInput, match="missing") as caught:
        read_machine(files)
    assert caught.value.where == path


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.77, 0.98])
def test_a_truncated_zoneinfo_is_refused(files: dict[str, str], share: float) -> None:
    files[ZONEINFO] = files[ZONEINFO][: int(len(files[ZONEINFO]) * share)]
    with pytest.raises(BadInput):
        read_machine(files)


@pytest.mark.parametrize("path", [MEMINFO, ZONEINFO, BUDDYINFO])
def test_an_empty_needed_file_is_refused(files: dict[str, str], path: str) -> None:
    files[path] = "\n"
    with pytest.raises(BadInput):
        read_machine(files)


@pytest.mark.parametrize(
    ("path", "text"),
    [("/proc/../etc/shadow", "'..' part"), ("/proc//meminfo", "empty"), ("proc/meminfo", "not absolute"),
     ("/proc/mem\0info", "NUL"), ("/" + "a" * 600, "longer than"), ("/proc/./meminfo", "part")],
)  # fmt: skip
def test_path_tricks_are_refused(files: dict[str, str], path: str, text: str) -> None:
    files[path] = "1\n"
    with pytest.raises(BadInput, match=text):
        read_machine(files)


def test_what_is_not_text_or_too_much_is_refused(files: dict[str, str]) -> None:
    for content, text in (
        (b"bytes", "not bytes"),
        ("a\0b", "NUL"),
        ("x" * (17 << 20), "at most"),
        (None, "NoneType"),
    ):
        with pytest.raises(BadInput, match=text):
            read_machine({**files, "/proc/cmdline": content})  # type: ignore[dict-item]
    with pytest.raises(BadInput, match="too many"):
        read_machine({f"/x/{i}": "" for i in range(200_001)})


def test_files_that_no_import_reads_are_ignored(files: dict[str, str]) -> None:
    image = read_machine({**files, "/proc/cpuinfo": "model name: ?\n", "/etc/hostname": "prod-17\n"})
    assert image == read_machine(files)


def test_a_pool_larger_than_the_memory_in_use_is_refused(files: dict[str, str]) -> None:
    for folder in (POOL, NODE_POOL.format(0)):
        files[f"{folder}/nr_hugepages"] = "500\n"
    files[MEMINFO] = set_meminfo(files[MEMINFO], HugePages_Total=500)
    with pytest.raises(BadInput, match="256000 in huge pages"):
        read_machine(files)
