"""Every file of every recorded boot against the file that hugepool renders: line by line, field by field.

Two ways lead to a host.  An import carries what is not modelled, so its files are those of the recording.  A host from
a spec knows only the machine's shape: its files have the same lines in the same form, and the same numbers but for the
fields that are listed here, each with its reason.
"""

import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hugepool.fs.machine import read_machine
from hugepool.fs.render import render
from hugepool.mm.boot.boot import boot
from hugepool.mm.boot.import_machine import restore_machine
from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.commands.apply import apply
from hugepool.mm.commands.commands import CreateTask, SetMaxHugePages
from hugepool.mm.machine.profile import PROFILES
from hugepool.mm.machine.state import Call, Host

FOLDER = Path(__file__).parents[1] / "data" / "traces"
NODE = "/sys/devices/system/node/node"
PAGETYPEINFO = "/proc/pagetypeinfo"
Files = dict[str, str]


@cache
def recorded(name: str) -> dict[str, Any]:
    with gzip.open(FOLDER / f"{name}.json.gz") as stream:
        trace: dict[str, Any] = json.load(stream)
    return trace


RECORDINGS = sorted(path.name.removesuffix(".json.gz") for path in FOLDER.glob("*.json.gz"))
BOOTED = [name for name in RECORDINGS if recorded(name)["boot"]["files"]]


# -- fields ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """A line that is not the recorded one."""

    path: str
    field: str
    ours: str
    theirs: str

    @property
    def numbers(self) -> list[tuple[int, int]]:
        found = (map(int, re.findall(r"\d+", line)) for line in (self.ours, self.theirs))
        return list(zip(*found, strict=True))


def field_of(path: str, line: str) -> str:
    """The name that a line has: ``MemFree``, ``nr_free_pages``, ``high``; else that of the file."""
    plain = re.sub(r"^Node +\d+,? +(zone +\w+(, type)?)? *", "", line)
    found = re.match(r" *([A-Za-z_][\w()]*):? +\S", plain)
    return found[1] if found else Path(path).name


RIGHT_ALIGNED = re.compile(r"/meminfo$|/buddyinfo$|/pagetypeinfo$")


def shape(path: str, line: str) -> str:
    """A line with its numbers blanked: where columns are right-aligned, a number is as wide as its column."""
    if RIGHT_ALIGNED.search(path):
        return re.sub(r"(?<![\w]) *\d+\b", lambda match: "#" * len(match[0]), line)
    return re.sub(r"\b\d+\b", "#", line)


def differences(host: Host, files: Files) -> Iterator[Difference]:
    """Lines that are not as recorded.  Fails where a file has other lines than the recorded one."""
    for path, theirs in files.items():
        ours = render(host, path)
        assert ours.endswith("\n"), path
        pairs = zip(ours.splitlines(), theirs.splitlines(), strict=True)
        for mine, line in pairs:
            if mine != line:
                assert field_of(path, mine) == field_of(path, line), path
                yield Difference(path, field_of(path, line), mine, line)


# -- an import ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOOTED)
def test_an_import_shows_every_line_as_it_was_recorded(name: str) -> None:
    files: Files = recorded(name)["boot"]["files"]
    host = restore_machine(read_machine(files), Call())
    assert list(differences(host, files)) == []


@pytest.mark.parametrize("name", BOOTED)
def test_pagetypeinfo_of_an_import_is_placed_and_not_only_shown(name: str) -> None:
    files: Files = recorded(name)["boot"]["files"]
    host = restore_machine(read_machine(files), Call())
    assert host.carried["lag"][PAGETYPEINFO.removeprefix("/proc/")] == {}


# -- a host from a spec ------------------------------------------------------------------------------------

# Fields whose numbers may differ, by reason.  Whatever is not here must be as recorded.
FIRMWARE = "MemTotal CommitLimit spanned managed protection min low high promo high_min high_max"
FREE = (
    "MemFree MemUsed MemAvailable nr_free_pages nr_free_pages_blocks pages nr_dirty_threshold "
    "nr_dirty_background_threshold"
)
PROCESS = (
    "Active Active(anon) Inactive Inactive(anon) Unevictable Mlocked AnonPages Mapped Shmem Cached FilePages "
    "Committed_AS PageTables nr_active_anon nr_inactive_anon nr_unevictable nr_mlock nr_anon_pages nr_mapped nr_shmem "
    "nr_file_pages nr_page_table_pages nr_zone_active_anon nr_zone_inactive_anon nr_zone_unevictable"
)
KERNEL = (
    "Slab KReclaimable SReclaimable SUnreclaim KernelStack Percpu VmallocUsed nr_slab_reclaimable "
    "nr_slab_unreclaimable nr_kernel_stack"
)
EVENTS = (
    "numa_hit numa_miss numa_foreign numa_interleave numa_local numa_other pgalloc_dma pgalloc_dma32 "
    "pgalloc_normal pgalloc_movable pgfree pgactivate pgdeactivate pgfault pgreuse drop_pagecache drop_slab "
    "slabs_scanned unevictable_pgs_culled unevictable_pgs_mlocked unevictable_pgs_munlocked "
    "unevictable_pgs_rescued"
)
MAY_DIFFER = {
    "firmware and the kernel's image take another few pages of each machine": FIRMWARE,
    "what is free follows from all of the others": FREE,
    "the guest's one process; its size differs from recording to recording, and 6.12 calls it active": PROCESS,
    "what the guest's kernel has allocated since its boot is not modelled": KERNEL,
    "events since the boot: a host from a spec has seen none": EVENTS,
    "which pages are free, and of which type, is placement": "buddyinfo pagetypeinfo Unmovable Movable Reclaimable CMA",
    "movable pages lie in the guest's CMA area": "CmaFree nr_free_cma",
    "per-CPU lists are approximated, and their threshold is from before gigantic pages of the boot": "count vm",
    "pages of the kernel's own mapping depend on the processor": "DirectMap4k DirectMap2M DirectMap1G",
    "frames of the vmemmap are not counted in vmstat": "nr_memmap_pages nr_memmap_boot_pages",
    "a choice of the kernel's configuration": "auto_online_blocks",
}
ALLOWED = {field for fields in MAY_DIFFER.values() for field in fields.split()}
CLOSE = dict.fromkeys(FIRMWARE.split(), 0.01) | {
    "min": 0.025,
    "low": 0.025,
    "high": 0.035,
    "promo": 0.04,
    "high_min": 0.025,
}
# The form differs: the recorder wrote these lines of meminfo anew, with one width for all; and some stable releases
# of 6.1 print the last two one column narrower.
FORM_OF_RECORDER = {
    "HardwareCorrupted",
    "HugePages_Total",
    "HugePages_Free",
    "HugePages_Surp",
    "FileHugePages",
    "FilePmdMapped",
}


def from_spec(trace: dict[str, Any]) -> Host:
    """A host of the recorded machine's size, nodes, processors and command line."""
    cpus = set(re.findall(r"cpu: (\d+)", trace["boot"]["files"]["/proc/zoneinfo"]))
    sizes = re.findall(r"memory-backend-ram,size=(\d+)G", " ".join(trace["machine"]))
    sizes = sizes or [trace["memory"].removesuffix("G")]
    nodes = tuple(NodeSpec(int(size) << 30, cpus=len(cpus) // len(sizes)) for size in sizes)
    return boot(HostSpec(kernel=trace["kernel"], cmdline=trace["cmdline"], nodes=nodes), Call())


def has_the_model_s_layout(trace: dict[str, Any]) -> bool:
    """Memory from 0 and from 4 GiB on as the model lays it out, and none that may be plugged in."""
    has_disk = any(
        "-drive" in str(word) for word in trace["machine"]
    )  # its cache and its counters are the guest's
    return re.fullmatch(r"[2468]G", trace["memory"]) is not None and not has_disk


FROM_SPEC = [name for name in BOOTED if has_the_model_s_layout(recorded(name))]


@pytest.mark.parametrize("name", FROM_SPEC)
def test_a_host_from_a_spec_shows_the_lines_of_its_kernel(name: str) -> None:
    trace = recorded(name)
    for found in differences(from_spec(trace), trace["boot"]["files"]):
        if found.field in FORM_OF_RECORDER:
            assert found.ours.split() == found.theirs.split()
            continue
        assert found.field in ALLOWED, found
        if found.field != "auto_online_blocks":
            assert shape(found.path, found.ours) == shape(found.path, found.theirs)
        if found.field in CLOSE and not re.match(r" +high: ", found.ours):  # the limit of a per-CPU list
            for ours, theirs in found.numbers:
                assert ours == pytest.approx(theirs, rel=CLOSE[found.field], abs=1), found


def test_each_field_that_may_differ_does_so_somewhere() -> None:
    seen = {
        found.field
        for name in FROM_SPEC
        for found in differences(from_spec(recorded(name)), recorded(name)["boot"]["files"])
    }
    assert seen == ALLOWED | FORM_OF_RECORDER


# -- counters that no recording shows, and what they become ------------------------------------------------


def counters(host: Host, path: str) -> dict[str, int]:
    rows = (line.split() for line in render(host, path).splitlines())
    return {name: int(number) for name, number in rows}


def zone_counter(host: Host, name: str) -> int:
    return sum(map(int, re.findall(rf"^ +{name} +(\d+)$", render(host, "/proc/zoneinfo"), re.MULTILINE)))


@pytest.mark.parametrize("kernel", PROFILES)
def test_counters_agree_between_the_files_also_when_tasks_take_memory(kernel: str) -> None:
    node = NodeSpec(memory_bytes=2 << 30, cpus=2)
    host = boot(HostSpec(kernel=kernel, cmdline="", nodes=(node, node)), Call())
    for _ in range(2):
        whole = counters(host, "/proc/vmstat")
        parts = [counters(host, f"{NODE}{nid}/vmstat") for nid in (0, 1)]
        assert parts[0].keys() == parts[1].keys() <= whole.keys()
        for name in parts[0].keys() - {"nr_free_cma"}:
            assert sum(part[name] for part in parts) == whole[name], name
            assert zone_counter(host, name) == whole[name], name
        apply(host, CreateTask(kind="anon", pages=1000, mlock=True))
        apply(host, CreateTask(kind="anon", pages=3000))
    activity = "active" if PROFILES[kernel].fresh_anon_active else "inactive"
    assert zone_counter(host, f"nr_zone_{activity}_anon") >= 3000
    assert zone_counter(host, "nr_mlock") >= 1000


def test_dirty_thresholds_follow_free_memory() -> None:
    host = restore_machine(read_machine(recorded("a_grow_shrink-6.1-HVOon")["boot"]["files"]), Call())
    before = counters(host, "/proc/vmstat")
    apply(host, SetMaxHugePages(9, 256))
    after = counters(host, "/proc/vmstat")
    taken = before["nr_free_pages"] - after["nr_free_pages"]
    assert taken > 120_000  # 256 pages without most of their vmemmap
    lost = before["nr_dirty_threshold"] - after["nr_dirty_threshold"]
    assert lost == pytest.approx(taken * 0.2, rel=0.001)
