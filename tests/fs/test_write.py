"""write(2) on files: the golden parse tables of the kernel, and what each file asks of the engine."""

from typing import Any

import pytest

from hugepool.fs import parse
from hugepool.fs.write import Writer, parse_write
from hugepool.mm.boot.boot import boot
from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.commands import commands as c
from hugepool.mm.machine.errors import MMError, NotFound
from hugepool.mm.machine.state import Call, Host

POOL = "/sys/kernel/mm/hugepages/hugepages-2048kB"
GIGANTIC = "/sys/kernel/mm/hugepages/hugepages-1048576kB"
NODE_POOL = "/sys/devices/system/node/node1/hugepages/hugepages-2048kB"
VM = "/proc/sys/vm"
BLOCK = "/sys/devices/system/memory/memory3"


def booted(kernel: str = "5.14", cmdline: str = "") -> Host:
    nodes = (NodeSpec(memory_bytes=2 << 30, cpus=1), NodeSpec(memory_bytes=2 << 30, cpus=1))
    return boot(HostSpec(kernel=kernel, cmdline=cmdline, nodes=nodes), Call())


def outcome(call: Any, *args: Any, **kwargs: Any) -> Any:
    try:
        return call(*args, **kwargs)
    except MMError as error:
        return error.errno


SYSFS = {
    b"20": 20,
    b"20\n": 20,
    b"+20": 20,
    b"020": 20,
    b"0": 0,
    b"18446744073709551615": 2**64 - 1,
    b"00000000000000000000000000007": 7,
    b"5\0junk": 5,
    b" 20": "EINVAL",
    b"20 ": "EINVAL",
    b"20\n\n": "EINVAL",
    b"0x14": "EINVAL",
    b"20abc": "EINVAL",
    b"-1": "EINVAL",
    b"\n": "EINVAL",
    b"1.5": "EINVAL",
    b"12 34": "EINVAL",
    b"abc": "EINVAL",
    b"++2": "EINVAL",
    "٢٠".encode(): "EINVAL",
    b"\xff\xfe": "EINVAL",
    b"18446744073709551616": "ERANGE",
    b"9" * 4000: "ERANGE",
    b"99999999999999999999x": "ERANGE",
}


@pytest.mark.parametrize("data", SYSFS)
def test_sysfs_numbers(data: bytes) -> None:
    """docs/kernel-rules.md 1.3."""
    assert outcome(parse.kstrtoul, data) == SYSFS[data]


PROC = {
    b"4": (4, 1),
    b" 4": (4, 2),
    b"\t\n4": (4, 3),
    b"0x10": (16, 4),
    b"0X1f": (31, 4),
    b"010": (8, 3),
    b"0": (0, 1),
    b"9\n": (9, 2),
    b"9\n\n": (9, 3),
    b"12 34": (12, 3),
    b"12 34\n": (12, 3),
    b"12\tx": (12, 3),
    b"7 ": (7, 2),
    b"18446744073709551615": (2**64 - 1, 20),
    b"0x6": (6, 3),
    b"3abc": "EINVAL",
    b"abc": "EINVAL",
    b"+5": "EINVAL",
    b"-": "EINVAL",
    b"\n": "EINVAL",
    b" ": "EINVAL",
    b"08": "EINVAL",
    b"0x": "EINVAL",
    b"1_000": "EINVAL",
    b"18446744073709551616": "EINVAL",
    b"1" * 21: "EINVAL",
    b"0" * 21: "EINVAL",
    "٤".encode(): "EINVAL",
}


@pytest.mark.parametrize("data", PROC)
def test_sysctl_numbers(data: bytes) -> None:
    """docs/kernel-rules.md 1.4: value and bytes used."""
    assert outcome(parse.proc_doulongvec, data, negative_ignored=False) == PROC[data]


def test_a_negative_sysctl_number_is_ignored_until_5_15_and_refused_later() -> None:
    assert parse.proc_doulongvec(b"-5", negative_ignored=True) == (None, 2)
    assert outcome(parse.proc_doulongvec, b"-5", negative_ignored=False) == "EINVAL"


INTEGERS = {
    b"7": ([7], 1),
    b"-1": ([-1], 2),
    b"0x10\n": ([16], 5),
    b"2147483647": ([2**31 - 1], 10),
    b"2147483648": "EINVAL",
    b"x": "EINVAL",
    b"1x": "EINVAL",
    b"": "EINVAL",
}


@pytest.mark.parametrize("data", INTEGERS)
def test_sysctl_integers(data: bytes) -> None:
    assert outcome(parse.proc_dointvec, data, 1) == INTEGERS[data]


def test_several_integers_and_a_short_count() -> None:
    assert parse.proc_dointvec(b"256\t256\t32\t0\n", 4) == ([256, 256, 32, 0], 13)
    assert parse.proc_dointvec(b"1 2 3", 2) == ([1, 2], 4)


WORDS = {
    b"offline": "offline",
    b"online_movable\n": "online_movable",
    b"Online": "EINVAL",
    b" online": "EINVAL",
    b"online ": "EINVAL",
    b"online\n\n": "EINVAL",
    b"garbage": "EINVAL",
    b"\n": "EINVAL",
}


@pytest.mark.parametrize("data", WORDS)
def test_block_words(data: bytes) -> None:
    """docs/kernel-rules.md 7.1."""
    words = ("offline", "online", "online_kernel", "online_movable")
    assert outcome(parse.sysfs_word, data, words) == WORDS[data]


SIZES = {
    b"2M": 2 << 20,
    b"2048k": 2 << 20,
    b"2048kB\n": 2 << 20,
    b"0x200000": 2 << 20,
    b"4kB": 4096,
    b"1G": 1 << 30,
    b"x": "EINVAL",
    b"-2M": "EINVAL",
}


@pytest.mark.parametrize("data", SIZES)
def test_sizes(data: bytes) -> None:
    assert outcome(parse.memparse_bytes, data) == SIZES[data]


def test_switches() -> None:
    assert all(parse.kstrtobool(data) for data in (b"1", b"y\n", b"ON"))
    assert not any(parse.kstrtobool(data) for data in (b"0", b"No", b"off"))
    assert outcome(parse.kstrtobool, b"2") == outcome(parse.kstrtobool, b"o") == "EINVAL"


COMMANDS: dict[tuple[str, str, bytes], Any] = {
    ("5.14", f"{POOL}/nr_hugepages", b"64\n"): c.SetMaxHugePages(9, 64),
    ("5.14", f"{GIGANTIC}/nr_hugepages", b"1"): c.SetMaxHugePages(18, 1),
    ("5.14", f"{NODE_POOL}/nr_hugepages", b"8"): c.SetMaxHugePages(9, 8, 1),
    ("5.14", f"{VM}/nr_hugepages", b"0x10\n"): c.SetMaxHugePages(9, 16),
    ("5.14", f"{VM}/nr_overcommit_hugepages", b"4"): c.SetOvercommit(9, 4),
    ("5.14", f"{POOL}/nr_overcommit_hugepages", b"4"): c.SetOvercommit(9, 4),
    ("5.14", f"{GIGANTIC}/nr_overcommit_hugepages", b"x"): "EINVAL",
    ("5.14", f"{VM}/nr_hugepages", b"-1"): c.SetMaxHugePages(9, 0),
    ("6.12", f"{VM}/nr_hugepages", b"-1"): "EINVAL",
    ("5.14", f"{VM}/min_free_kbytes", b"3000\n"): c.SetMinFreeKbytes(3000),
    ("5.14", f"{VM}/min_free_kbytes", b"-1"): "EINVAL",
    ("5.14", f"{VM}/watermark_scale_factor", b"1001"): "EINVAL",
    ("6.1", f"{VM}/watermark_scale_factor", b"3000"): c.SetWatermarkScaleFactor(3000),
    ("5.14", f"{VM}/lowmem_reserve_ratio", b"64 64"): c.SetLowmemReserveRatio((64, 64, 32, 0)),
    ("5.14", f"{VM}/hugetlb_optimize_vmemmap", b"1"): "ENOENT",
    ("6.1", f"{VM}/hugetlb_optimize_vmemmap", b"7"): c.SetOptimizeVmemmap(True),
    ("6.1", f"{VM}/hugetlb_optimize_vmemmap", b"-1"): c.SetOptimizeVmemmap(True),
    ("6.1", f"{VM}/hugetlb_optimize_vmemmap", b"on"): "EINVAL",
    ("5.14", f"{VM}/drop_caches", b"3"): c.DropCaches(3),
    ("5.14", f"{VM}/drop_caches", b"9"): "EINVAL",
    ("5.14", f"{GIGANTIC}/demote", b"1"): "ENOENT",
    ("6.1", f"{GIGANTIC}/demote", b"1"): c.Demote(18, 1),
    ("6.1", f"{POOL}/demote", b"1"): "ENOENT",
    ("6.1", f"{GIGANTIC}/demote_size", b"2048kB"): None,
    ("6.1", f"{GIGANTIC}/demote_size", b"4kB"): "EINVAL",
    ("5.14", f"{POOL}/free_hugepages", b"5"): "EACCES",
    ("5.14", f"{POOL}/resv_hugepages", b""): "EACCES",
    ("5.14", "/proc/meminfo", b"5"): "EACCES",
    ("5.14", f"{POOL}/nr_hugepages", b""): None,
    ("5.14", f"{BLOCK}/state", b"garbage"): "EINVAL",
    ("5.14", f"{BLOCK}/removable", b"1"): "EACCES",
}


@pytest.mark.parametrize("case", COMMANDS)
def test_a_write_becomes_a_command_or_an_errno(case: tuple[str, str, bytes]) -> None:
    kernel, path, data = case
    found = outcome(parse_write, booted(kernel), path, data)
    assert (found if isinstance(found, str) else found.command) == COMMANDS[case]


def test_a_short_count_and_the_requested_number_are_reported() -> None:
    found = parse_write(booted(), f"{VM}/nr_hugepages", b"12 34\n")
    assert (found.used, found.requested) == (3, 12)


def test_only_mempolicy_files_use_the_writer_s_mempolicy() -> None:
    writer = Writer("numactl", (1,))
    for folder in (POOL, VM):
        for name, policy in (("nr_hugepages_mempolicy", (1,)), ("nr_hugepages", None)):
            command = parse_write(booted(), f"{folder}/{name}", b"4", writer).command
            assert command == c.SetMaxHugePages(9, 4, None, policy, "numactl")


def test_proc_files_are_of_the_default_size() -> None:
    host = booted(cmdline="default_hugepagesz=1G")
    assert parse_write(host, f"{VM}/nr_hugepages", b"0").command == c.SetMaxHugePages(18, 0)
    assert outcome(parse_write, host, f"{VM}/nr_overcommit_hugepages", b"x") == "EINVAL"


def test_folders_and_missing_files_cannot_be_written() -> None:
    for path in ("/proc", "/proc/sys/vm/swappiness", f"{POOL}/nr"):
        with pytest.raises(NotFound):
            parse_write(booted(), path, b"1")
