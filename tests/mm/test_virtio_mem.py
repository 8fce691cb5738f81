"""virtio-mem: sub-blocks, big blocks, tries, the timer, and the growth that failing restores cause."""

from typing import Any

import numpy as np
import pytest

from hugepool.mm.boot.boot import boot
from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.machine.digest import digest, fork
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.mmzone import BlockFlag
from hugepool.mm.machine.rmap import from_runs
from hugepool.mm.machine.state import Call, Host
from tests.mm.hosts import (
    GIB,
    KERNELS,
    ON,
    assert_laws,
    do,
    fail_restores,
    free_pages,
    machine,
    resize,
    row,
    total_pages,
)

BLOCK = 32


def plugged(kernel: str = "5.14", pool: int = 0) -> Host:
    """2 GiB, and three blocks more as ZONE_MOVABLE with a pool in them."""
    words = f"{ON} memhp_default_state=online_movable"
    host = machine(2 * GIB, kernel=kernel, cmdline=words)
    do(host, c.AddMemory(0, 3 * 32768))
    resize(host, pool)
    return host


@pytest.mark.parametrize("kernel", KERNELS)
def test_huge_pages_of_the_part_are_replaced_and_the_pool_keeps_its_size(kernel: str) -> None:
    host = plugged(kernel, 61)
    total, free = total_pages(host), free_pages(host)
    answer = do(host, c.UnplugMemory(BLOCK, 4096))
    assert answer["sub_block_pages"] == (1024 if kernel == "5.14" else 512)
    assert answer["unplugged_pages"] == 4096
    assert answer["replaced_hugepages"] == 5  # 64 - 61 places of the block were free
    assert row(host) == (61, 61, 0, 0, 61)
    assert total - total_pages(host) == 4096
    lost = 5 * 6 if kernel == "5.14" else 0  # first optimisation of the replacements, in hot-added memory
    assert free - free_pages(host) == 4096 + 1 + lost  # a page table for the next section
    assert_laws(host)


def test_all_of_a_block_can_be_unplugged_and_the_block_then_goes() -> None:
    host = plugged(pool=20)
    marks = [(zone.min, zone.low, zone.high) for zone in host.zones]
    do(host, c.UnplugMemory(BLOCK, 32768))
    assert [(zone.min, zone.low, zone.high) for zone in host.zones] == marks  # only managed pages change
    with pytest.raises(MMError, match="only 0 pages"):
        apply(host, c.UnplugMemory(BLOCK, 1024))
    assert_laws(host)
    do(host, c.SetBlockState(BLOCK, "offline"))
    do(host, c.RemoveMemory(BLOCK))
    assert row(host)[0] == 20
    assert_laws(host)


def test_runaway_growth_five_surplus_pages_for_each_huge_page_that_cannot_be_restored() -> None:
    # A node that has only ZONE_MOVABLE: 61 -> 182 pages until no 2 MiB page was left.
    spec = HostSpec((NodeSpec(2 * GIB), NodeSpec(0)), "6.1", f"{ON} memhp_default_state=online_movable")
    host = boot(spec, Call())
    do(host, c.AddMemory(1, 3 * 32768))
    resize(host, 61, nid=1)
    fail_restores(host)
    refused = apply(host, c.UnplugMemory(BLOCK, 4096))
    assert refused.error is not None
    assert refused.error.errno == "ENOMEM"
    assert refused.result.unplugged_pages < 4096
    nr, free, resv, surplus, most = row(host)
    assert (free, resv, most) == (nr, 0, 61)
    assert surplus == nr - 61 > 100
    assert_laws(host)


def test_kernel_memory_in_the_way_is_passed_over_and_reported() -> None:
    host = machine(2 * GIB)
    block = next(n for n in range(1, 16) if host.mem.nfree[n * 64 : n * 64 + 64].sum() not in (0, 32768))
    refused = apply(host, c.UnplugMemory(block, 32768))
    assert refused.error is not None
    assert refused.error.errno == "EBUSY"
    assert refused.result.busy_sub_blocks > 0
    assert_laws(host)


@pytest.mark.parametrize(
    ("command", "errno"),
    [
        (c.UnplugMemory(99, 1024), "ENOENT"),
        (c.UnplugMemory(BLOCK, 0), "EINVAL"),
        (c.UnplugMemory(BLOCK, 512), "EINVAL"),
        (c.UnplugMemory(BLOCK, 65536), "EINVAL"),
    ],
    ids=repr,
)
def test_what_cannot_be_unplugged_is_refused_and_nothing_changes(command: c.Command[Any], errno: str) -> None:
    host = plugged()
    before = digest(host)
    with pytest.raises(MMError) as refused:
        apply(host, command)
    assert refused.value.errno == errno
    assert digest(host) == before


# -- devices ---------------------------------------------------------------------------------------------

G = 262144  # pages of 1 GiB
SUB = {"5.14": 1024, "6.1": 512, "6.12": 512, "6.18": 512}
Did = tuple[int, str, int, str | None]


def with_device(
    kernel: str = "5.14", word: str = "online_movable", block_pages: int = 512, requested: int = G
) -> Host:
    """2 GiB, and a device of 2 GiB."""
    host = machine(2 * GIB, kernel=kernel, cmdline=f"{ON} memhp_default_state={word}")
    do(host, c.AddVirtioMem("vm0", 0, 2 * G, block_pages, requested))
    return host


def steps(answer: dict[str, Any]) -> list[Did]:
    """(block, action, MiB, errno)."""
    return [(s["block"], s["action"], s["bytes"] >> 20, s["errno"]) for s in answer["steps"]]


def request(host: Host, pages: int) -> dict[str, Any]:
    answer = do(host, c.RequestVirtioMem("vm0", pages))
    assert_laws(host)
    return answer


@pytest.mark.parametrize("kernel", KERNELS)
def test_plugging_fills_the_region_from_its_start_with_whole_blocks(kernel: str) -> None:
    host = with_device(kernel, requested=0)
    total = total_pages(host)
    answer = request(host, 32768 + 3 * SUB[kernel])
    part = 3 * SUB[kernel] // 256
    assert steps(answer) == [(32, "plug", 128, None), (33, "plug", part, None)]
    assert (answer["errno"], answer["retry"]) == (None, {"due": None, "attempt": 0})
    assert total_pages(host) == total + 32768 + 3 * SUB[kernel]
    zone = host.nodes[0].zones[3]
    assert (zone.present, zone.managed) == (65536, 32768 + 3 * SUB[kernel])
    assert steps(request(host, 65536)) == [(33, "plug", 128 - part, None)]
    assert zone.managed == 65536


@pytest.mark.parametrize("kernel", KERNELS)
def test_unplugging_begins_with_blocks_that_are_partly_gone_then_takes_whole_ones_from_the_end(
    kernel: str,
) -> None:
    host = with_device(kernel, requested=4 * 32768)
    assert steps(request(host, 4 * 32768 - 2 * SUB[kernel]))[0][:2] == (35, "unplug")
    rest = 128 - 2 * SUB[kernel] // 256
    assert steps(request(host, 2 * 32768)) == [
        (35, "unplug", rest, None),
        (35, "offline", 128, None),
        (35, "remove", 128, None),
        (34, "unplug", 128, None),
        (34, "offline", 128, None),
        (34, "remove", 128, None),
    ]
    assert sorted(host.virtio_mem["vm0"].plugged) == [32, 33]


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_pool_keeps_its_size_when_its_memory_is_unplugged(kernel: str) -> None:
    # As recorded: 400 huge pages in 1 GiB of a device, then 512 MiB, then nothing.
    host = with_device(kernel)
    resize(host, 400)
    for left in (G // 2, 0):
        answer = request(host, left)
        assert (answer["errno"], answer["plugged_bytes"]) == (None, left * 4096)
        assert row(host) == (400, 400, 0, 0, 400)
    assert not host.virtio_mem["vm0"].plugged


def test_without_memory_for_a_replacement_it_ends_at_once_and_the_timer_runs() -> None:
    # As recorded on 5.14: a node of 384 MiB with 61 huge pages in its first block keeps that block.
    spec = HostSpec((NodeSpec(2 * GIB), NodeSpec(0)), "5.14", f"{ON} memhp_default_state=online_movable")
    host = boot(spec, Call())
    do(host, c.AddVirtioMem("vm0", 1, G, 512, 3 * 32768))
    resize(host, 61, nid=1)
    answer = request(host, 0)
    assert steps(answer)[-1] == (32, "unplug", 0, "ENOMEM")
    assert (answer["errno"], answer["reason"]) == ("ENOMEM", "no-contiguous-memory")
    assert (answer["plugged_bytes"], answer["retry"]) == (128 << 20, {"due": 50, "attempt": 0})
    assert row(host) == (61, 61, 0, 0, 61)


def test_single_pages_below_a_huge_page_that_ends_it_have_moved_to_the_other_node() -> None:
    # As recorded on 5.14: the pages of a process left the block that had to stay.
    spec = HostSpec((NodeSpec(2 * GIB), NodeSpec(0)), "5.14", f"{ON} memhp_default_state=online_movable")
    host = boot(spec, Call())
    do(host, c.AddVirtioMem("vm0", 1, G, 512, 32768))
    pid = do(host, c.StartTask("process"))["pid"]
    do(host, c.GrowTask(pid, "anon", 600, node=1))
    resize(host, 40, nid=1)
    first_huge = int(np.flatnonzero(host.mem.flags & BlockFlag.HEAD)[0])
    below = [pfn for pfn in from_runs(host.tasks[pid].runs).tolist() if 32 * 64 <= pfn // 512 < first_huge]
    assert below
    answer = request(host, 0)
    assert (answer["errno"], answer["migrated_pages"]) == ("ENOMEM", len(below))
    assert not np.isin(from_runs(host.tasks[pid].runs), below).any()
    assert row(host) == (40, 40, 0, 0, 40)


def test_the_timer_doubles_up_to_five_minutes_and_starts_anew_after_success() -> None:
    host = with_device(requested=32768)
    resize(host, 100000)
    request(host, 0)
    due = [do(host, c.RetryVirtioMem("vm0"))["retry"] for _ in range(4)]
    assert [(timer["due"], timer["attempt"]) for timer in due] == [(100, 1), (200, 2), (300, 3), (300, 4)]
    resize(host, 0)
    assert do(host, c.RetryVirtioMem("vm0"))["retry"] == {"due": None, "attempt": 0}
    assert not host.virtio_mem["vm0"].plugged
    assert_laws(host)


def test_runaway_growth_of_a_device_ends_when_no_huge_page_is_left() -> None:
    # A node that has only ZONE_MOVABLE cannot restore: as recorded on 6.1, 61 -> 182 pages.
    spec = HostSpec((NodeSpec(2 * GIB), NodeSpec(0)), "6.1", f"{ON} memhp_default_state=online_movable")
    host = boot(spec, Call())
    do(host, c.AddVirtioMem("vm0", 1, G, 65536, 65536))
    resize(host, 120, nid=1)
    answer = request(host, 0)
    nr, free, _, surplus, most = row(host)
    assert (free, most, answer["errno"]) == (nr, 120, "ENOMEM")
    assert surplus == nr - 120 == answer["refused_hugepages"] > 0


@pytest.mark.parametrize("kernel", KERNELS)
def test_blocks_wait_to_go_online_and_beyond_1_gib_nothing_is_added(kernel: str) -> None:
    host = with_device(kernel, "offline", requested=2 * G)
    assert host.virtio_mem["vm0"].plugged_pages(32768) == G
    answer = do(host, c.RetryVirtioMem("vm0"))
    assert (answer["errno"], answer["steps"], answer["retry"]["due"]) == ("ENOSPC", [], None)
    do(host, c.SetBlockState(32, "online_movable"))
    assert steps(do(host, c.RetryVirtioMem("vm0"))) == [(40, "plug", 128, None)]
    assert_laws(host)


def test_what_is_not_plugged_stays_out_when_its_block_goes_offline_and_online() -> None:
    host = with_device(requested=32768 - 4096)
    total = total_pages(host)
    do(host, c.SetBlockState(32, "offline"))
    assert total_pages(host) == total - (32768 - 4096)
    do(host, c.SetBlockState(32, "online_kernel"))
    assert total_pages(host) == total
    assert_laws(host)
    request(host, 0)
    assert not host.virtio_mem["vm0"].plugged


def test_a_block_in_use_gives_what_it_can_one_part_after_the_other() -> None:
    host = with_device(word="online_kernel", requested=32768)
    pid = do(host, c.StartTask("process"))["pid"]
    do(host, c.GrowTask(pid, "kernel", 40_000, node=0))
    busy = host.mem.page_uses(32 * 64, 64)
    kernel_pages = int(
        (busy == 9).reshape(32, -1).any(axis=1).sum()
    )  # sub-blocks of 4 MiB with a kernel page
    assert kernel_pages > 0
    answer = request(host, 0)
    assert steps(answer) == [(32, "unplug", (32 - kernel_pages) * 4, "EBUSY")]
    assert (answer["errno"], answer["reason"]) == ("EBUSY", "unmovable-page")


# -- big blocks ------------------------------------------------------------------------------------------


def test_a_device_of_large_blocks_comes_and_goes_in_whole_blocks() -> None:
    host = with_device(block_pages=65536, requested=G)
    device = host.virtio_mem["vm0"]
    assert (device.unit_pages, sorted(device.plugged)) == (65536, list(range(32, 40)))
    resize(host, 300)
    assert {step[0] for step in steps(request(host, G // 2))} == {36, 37, 38, 39}
    assert row(host) == (300, 300, 0, 0, 300)


def test_a_big_block_that_refuses_in_part_stays_whole_and_keeps_its_memory() -> None:
    spec = HostSpec((NodeSpec(2 * GIB), NodeSpec(0)), "6.12", f"{ON} memhp_default_state=online_movable")
    host = boot(spec, Call())
    do(host, c.AddVirtioMem("vm0", 1, G, 65536, 65536))
    resize(host, 120, nid=1)  # 64 in the first memory block, the second has 8 places left
    free = free_pages(host)
    answer = request(host, 0)
    assert answer["errno"] == "ENOMEM"
    assert sorted(host.virtio_mem["vm0"].plugged) == [32, 33]
    assert total_pages(host) == sum(zone.managed for zone in host.zones)
    assert free_pages(host) == free
    assert host.nodes[1].managed == 65536


# -- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "errno", "reason"),
    [
        (c.AddVirtioMem("vm0", 0, G, 512, 0), "EEXIST", "device-exists"),
        (c.AddVirtioMem("vm1", 7, G, 512, 0), "EINVAL", None),
        (c.AddVirtioMem("vm1", 0, G + 512, 512, 0), "EINVAL", None),
        (c.AddVirtioMem("vm1", 0, 0, 512, 0), "EINVAL", None),
        (c.AddVirtioMem("vm1", 0, G, 500, 0), "EINVAL", None),
        (c.AddVirtioMem("vm1", 0, G, 256, 0), "EINVAL", None),
        (c.AddVirtioMem("vm1", 0, 32768, 65536, 0), "EINVAL", None),
        (c.AddVirtioMem("vm1", 0, G, 512, G + 512), "EINVAL", None),
        (c.AddVirtioMem("vm1", 0, G, 512, 100), "EINVAL", None),
        (c.AddVirtioMem("vm1", 0, G, 512, 0, start_pfn=0), "EEXIST", "memory-present"),
        (c.AddVirtioMem("vm1", 0, G, 512, 0, start_pfn=6 * G - 32768), "EEXIST", "memory-present"),
        (c.AddVirtioMem("vm1", 0, G, 512, 0, there_pages=32768), "ENOENT", None),
        (c.RequestVirtioMem("vm0", 2 * G + 512), "EINVAL", None),
        (c.RequestVirtioMem("vm0", 511), "EINVAL", None),
        (c.RequestVirtioMem("vm9", 0), "ENOENT", None),
        (c.RetryVirtioMem("vm9"), "ENOENT", None),
        (c.RemoveVirtioMem("vm9"), "ENOENT", None),
        (c.RemoveVirtioMem("vm0"), "EBUSY", "device-plugged"),
        (c.RemoveMemory(32), "EBUSY", "device-memory"),
        (c.EjectMemory(32, 1), "EBUSY", "device-memory"),
        (c.UnplugMemory(32, 1024), "EBUSY", "device-memory"),
        (c.AddMemory(0, 32768, 5 * G), "EEXIST", "memory-present"),
    ],
    ids=repr,
)
def test_what_a_device_forbids_is_refused_and_nothing_changes(
    command: c.Command[Any], errno: str, reason: str | None
) -> None:
    host = with_device()
    before = digest(host)
    with pytest.raises(MMError) as refused:
        apply(fork(host), command)
    assert (refused.value.errno, refused.value.reason) == (errno, reason)
    assert digest(host) == before


def test_memory_and_devices_keep_out_of_each_others_regions() -> None:
    host = with_device()
    assert do(host, c.AddMemory(0, 32768))["blocks"] == [48]
    do(host, c.AddVirtioMem("vm1", 0, G, 512, 32768))
    assert host.virtio_mem["vm1"].start_pfn == 49 * 32768
    request(host, 0)
    assert do(host, c.RemoveVirtioMem("vm0")) == {"id": "vm0"}
    assert list(host.virtio_mem) == ["vm1"]
    assert_laws(host)


def test_no_memory_to_describe_a_block_leaves_nothing_behind() -> None:
    host = with_device(requested=0)
    pid = do(host, c.StartTask("process"))["pid"]
    apply(host, c.GrowTask(pid, "kernel", at_most=200, zone_type=2, partial=True))
    free = free_pages(host)
    answer = request(host, 32768)
    assert steps(answer) == [(32, "plug", 0, "ENOMEM")]
    assert (answer["errno"], answer["reason"]) == ("ENOMEM", "vmemmap-populate")
    assert (free_pages(host), host.virtio_mem["vm0"].plugged) == (free, {})
