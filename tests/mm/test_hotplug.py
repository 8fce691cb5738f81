"""Memory blocks plugged in and out, held against the arithmetic of the recorded kernels."""

from typing import Any

import numpy as np
import pytest

from hugepool.fs.render import render
from hugepool.mm.boot.boot import boot
from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.machine.digest import digest, fork
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.mmzone import SectionState, Use
from hugepool.mm.machine.state import Call, Host
from hugepool.mm.views.block_view import block as block_view
from hugepool.mm.views.blockers import blockers
from hugepool.mm.views.pool_view import vmemmap_totals
from hugepool.mm.views.vmstat import block_states
from tests.mm.hosts import (
    GIB,
    KERNELS,
    ON,
    assert_laws,
    do,
    free_pages,
    machine,
    resize,
    row,
    total_pages,
)

MOVABLE = " memhp_default_state=online_movable"
DIMM = 262144  # pages of 1 GiB
FIRST = 32  # the block at 4 GiB, where a PC of 2 GiB gets added memory
PER_PAGE = {"5.14": 6, "6.1": 7, "6.12": 7, "6.18": 7}


def plugged(kernel: str = "5.14", cmdline: str = ON + MOVABLE, node: int = 0, **more: int) -> Host:
    """2 GiB, and 1 GiB more plugged into a node."""
    host = machine(2 * GIB, kernel=kernel, cmdline=cmdline)
    do(host, c.AddMemory(node, DIMM, **more))
    return host


def empty_and_unplug(host: Host) -> dict[str, int]:
    """Take every block of the added memory offline and out; what came of the vmemmap in all."""
    for block in range(FIRST, FIRST + 8):
        do(host, c.SetBlockState(block, "offline"))
    answers = [do(host, c.RemoveMemory(block)) for block in range(FIRST, FIRST + 8)]
    return {key: sum(a[key] for a in answers) for key in answers[0] if key != "block"}


@pytest.mark.parametrize("kernel", KERNELS)
def test_added_memory_costs_one_vmemmap_block_a_section(kernel: str) -> None:
    # o_hotadd: free + slab +258048 = 262144 - 8 sections of 512, MemTotal +262144.
    host = machine(2 * GIB, kernel=kernel, cmdline=ON + MOVABLE)
    free, total = free_pages(host), total_pages(host)
    answer = do(host, c.AddMemory(0, DIMM))
    assert (answer["blocks"], answer["state"]) == (list(range(FIRST, FIRST + 8)), "online")
    assert free_pages(host) - free == DIMM - 8 * 512
    assert total_pages(host) - total == DIMM
    assert (host.zones[3].present, host.zones[3].start_pfn) == (DIMM, FIRST * 32768)
    assert_laws(host)


@pytest.mark.parametrize("kernel", KERNELS)
def test_only_5_14_loses_the_frames_of_the_first_optimisation(kernel: str) -> None:
    # o_hotadd: 5.14 -204807 then +202400 and +-202400 from then on; 6.1 and 6.12 -202007, +-202000.
    host = plugged(kernel)
    free, total = free_pages(host), total_pages(host)
    lost = 2400 if kernel == "5.14" else 0
    each = 512 - PER_PAGE[kernel]
    resize(host, 400)
    assert free_pages(host) - free == -400 * each - 7 - lost
    resize(host, 0)
    assert free_pages(host) - free == -7 - lost
    resize(host, 400)
    assert free_pages(host) - free == -7 - lost - 400 * each
    assert total_pages(host) == total  # frames of added memory were counted already
    assert_laws(host)


def test_frames_that_got_lost_are_no_savings() -> None:
    host = plugged()
    said = resize(host, 10).result.vmemmap
    assert (said.pages_freed, said.page_table_pages) == (0, 1)
    assert vmemmap_totals(host).pages_freed == 0
    assert vmemmap_totals(host).bytes_saved == -4096
    resize(host, 0)
    assert vmemmap_totals(host).bytes_saved == -61 * 4096  # 60 are lost for good


@pytest.mark.parametrize("kernel", KERNELS)
def test_unplugging_gives_the_vmemmap_back_but_what_5_14_loses(kernel: str) -> None:
    # FINDINGS of 5.14: every original page of a split section but the first: 7 * 511 in the whole round.
    host = machine(2 * GIB, kernel=kernel, cmdline=ON + MOVABLE)
    free, total = free_pages(host), total_pages(host)
    do(host, c.AddMemory(0, DIMM))
    resize(host, 400)
    resize(host, 0)
    freed = empty_and_unplug(host)
    assert free_pages(host) - free == (-7 * 511 if kernel == "5.14" else 0)
    assert freed["page_table_pages_freed"] == 7
    assert freed["vmemmap_pages_lost"] == (7 * 511 - 2400 if kernel == "5.14" else 0)
    assert total_pages(host) == total
    assert not host.mem.section_state[FIRST : FIRST + 8].any()
    assert_laws(host)


def test_the_same_place_is_used_again() -> None:
    host = plugged()
    empty_and_unplug(host)
    assert do(host, c.AddMemory(0, DIMM))["start_pfn"] == FIRST * 32768
    more = do(host, c.AddMemory(0, 32768))
    assert more["blocks"] == [FIRST + 8]


def test_without_the_word_added_blocks_stay_offline() -> None:
    host = plugged(cmdline=ON)
    assert (host.mem.section_state[FIRST : FIRST + 8] == SectionState.OFFLINE).all()
    assert total_pages(host) == total_pages(machine(2 * GIB))
    do(host, c.SetBlockState(FIRST, "online_kernel"))
    assert host.zones[2].present == 32768
    do(host, c.SetAutoOnline("online_movable"))
    do(host, c.AddMemory(0, 32768))
    assert host.zones[3].present == 32768
    assert_laws(host)


def test_a_movable_only_node_of_added_memory_cannot_restore() -> None:
    # o_node_movable on 5.14: 16 pages, eff -8193; write 0: 16/16/0/16/0 for ever.
    spec = HostSpec((NodeSpec(2 * GIB), NodeSpec(0)), "5.14", ON + MOVABLE)
    host = boot(spec, Call())
    assert host.memory_nodes() == [0]
    do(host, c.AddMemory(1, 3 * 32768))
    assert host.memory_nodes() == [0, 1]
    free = free_pages(host)
    resize(host, 16, nid=1)
    assert free_pages(host) - free == -16 * 512 - 1
    assert resize(host, 0).error is not None
    assert row(host) == (16, 16, 0, 16, 0)
    refused = apply(host, c.SetBlockState(FIRST, "offline"))
    assert refused.error is not None
    assert refused.error.errno == "ENOMEM"
    do(host, c.SetBlockState(FIRST + 1, "offline"))
    assert_laws(host)


def test_boot_memory_that_is_taken_out_gives_its_vmemmap_to_the_system() -> None:
    host = machine(6 * GIB, cmdline=ON + " movablecore=2G")
    do(host, c.SetBlockState(40, "offline"))
    total = total_pages(host)
    do(host, c.RemoveMemory(40))
    assert total_pages(host) == total + 512
    assert_laws(host)


# -- memmap_on_memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "feature", "blocks", "own"),
    [
        ("5.14", "off", 1, True),
        ("5.14", "on", 1, False),  # vmemmap freeing switches it off, silently
        ("5.14", "off", 2, False),  # one block at a time
        ("6.1", "on", 1, True),
        ("6.1", "on", 2, False),
        ("6.12", "on", 2, True),
    ],
)
def test_memmap_on_memory_by_version(kernel: str, feature: str, blocks: int, own: bool) -> None:
    words = f"hugetlb_free_vmemmap={feature} memory_hotplug.memmap_on_memory=1{MOVABLE}"
    host = machine(2 * GIB, kernel=kernel, cmdline=words)
    total = total_pages(host)
    answer = do(host, c.AddMemory(0, blocks * 32768))
    assert answer["memmap_on_memory"] is own
    assert total_pages(host) - total == blocks * (32768 - (512 if own else 0))
    assert_laws(host)


def test_huge_pages_of_a_block_with_its_own_memmap_stay_unoptimised_and_it_can_leave() -> None:
    words = f"{ON} memory_hotplug.memmap_on_memory=1{MOVABLE}"
    host = machine(2 * GIB, kernel="6.1", cmdline=words)
    free, total = free_pages(host), total_pages(host)
    do(host, c.AddMemory(0, 32768))
    resize(host, 60)
    assert free_pages(host) - free == 32256 - 60 * 512
    assert host.hstates[9].nr_optimized == 0
    assert_laws(host)
    do(host, c.SetBlockState(FIRST, "offline"))
    assert row(host)[0] == 0
    assert_laws(host)
    do(host, c.RemoveMemory(FIRST))
    assert (free_pages(host), total_pages(host)) == (free, total)
    assert host.mem.use[FIRST * 64] == Use.HOLE
    assert_laws(host)


# -- when memory is short ------------------------------------------------------------------------------------


def test_where_no_2_mib_block_is_free_the_vmemmap_is_single_pages_behind_a_table() -> None:
    host = machine(1 * GIB)
    do(host, c.SetMinFreeKbytes(128))
    pid = do(host, c.StartTask("kernel"))["pid"]
    do(host, c.GrowTask(pid, "kernel", at_most=0, partial=True))
    do(host, c.ShrinkTask(pid, keep_of_256=200))  # 56 of 256 free everywhere, hardly a 2 MiB block
    do(host, c.SetMinFreeKbytes(67584))
    added = do(host, c.AddMemory(0, 32768))
    section = added["start_pfn"] // 32768
    assert host.mem.pte_slot[section] > 0
    assert_laws(host)
    do(host, c.RemoveMemory(section))
    assert_laws(host)


def test_without_memory_for_the_vmemmap_nothing_is_added() -> None:
    host = machine(1 * GIB)
    pid = do(host, c.StartTask("kernel"))["pid"]
    do(host, c.GrowTask(pid, "kernel", at_most=0, partial=True))
    before = digest(host)
    with pytest.raises(MMError) as refused:
        apply(fork(host), c.AddMemory(0, 32768))
    assert (refused.value.errno, refused.value.reason) == ("ENOMEM", "vmemmap-populate")
    assert digest(host) == before


@pytest.mark.parametrize(
    ("command", "errno"),
    [
        (c.AddMemory(0, 512), "EINVAL"),
        (c.AddMemory(0, 0), "EINVAL"),
        (c.AddMemory(3, 32768), "EINVAL"),
        (c.AddMemory(0, 32768, 5), "EINVAL"),
        (c.AddMemory(0, 32768, (1 << 34)), "EINVAL"),
        (c.AddMemory(0, 32768, 0), "EEXIST"),
        (c.RemoveMemory(0), "EBUSY"),
        (c.RemoveMemory(99), "ENOENT"),
        (c.RemoveMemory(-1), "ENOENT"),
    ],
    ids=repr,
)
def test_what_cannot_be_plugged_is_refused_and_nothing_changes(command: c.Command[Any], errno: str) -> None:
    host = machine(1 * GIB)
    before = digest(host)
    with pytest.raises(MMError) as refused:
        apply(host, command)
    assert refused.value.errno == errno
    assert digest(host) == before


# -- what stops an offline ----------------------------------------------------------------------------------


def test_blockers_say_who_holds_the_pages() -> None:
    host = machine(6 * GIB, cmdline=ON + " movablecore=2G")
    kernel = do(host, c.CreateTask("kernel", pages=1000))["pid"]
    block = next(
        n
        for n in (*range(24), *range(32, 48))
        if any(row.pids == [kernel] for row in blockers(host, n).unmovable)
    )
    found = blockers(host, block)
    assert (found.can_offline, found.errno, found.reason) == (False, "EBUSY", "unmovable-page")
    resize(host, 100)
    held = do(host, c.CreateTask("hugetlb", count=40, touch=40))["pid"]
    found = blockers(host, 40)
    assert found.hugepages[0].in_use + found.hugepages[0].free == 64
    assert found.hugepages[0].pids == [held]
    assert found.hugepages[0].vmemmap_pages_needed == 6 * found.hugepages[0].free
    assert found.unmovable == []


@pytest.mark.parametrize("kernel", KERNELS)
def test_blockers_agree_with_the_attempt_and_change_nothing(kernel: str) -> None:
    rng = np.random.default_rng(5)
    host = machine(2 * GIB, 1 * GIB, kernel=kernel, cmdline=ON + " kernelcore=1G")
    for _ in range(12):
        count = int(rng.integers(0, 500))
        resize(host, count, nid=int(rng.integers(0, 2)))
        do(host, c.CreateTask("anon", pages=int(rng.integers(1, 9000))))
        do(
            host,
            c.SetFault("vmemmap-restore", times=int(rng.integers(0, 2)), space=int(rng.integers(0, 300))),
        )
        block = int(rng.integers(0, 24))
        before = digest(host)
        found = blockers(host, block)
        assert digest(host) == before
        trial = fork(host)
        try:
            error = apply(trial, c.SetBlockState(block, "offline")).error
        except MMError as refused:
            error = refused
        else:
            host = trial
        assert found.can_offline == (error is None)
        assert (found.errno, found.reason) == ((error.errno, error.reason) if error else (None, None))


def test_a_gigantic_page_in_use_leaves_a_block_that_holds_only_a_part_of_it() -> None:
    host = machine(8 * GIB, 8 * GIB)
    for nid, count in ((0, 2), (1, 1)):
        do(host, c.SetMaxHugePages(18, count, nid))
    pid = do(host, c.StartTask("process", "db"))["pid"]
    do(host, c.SetMempolicy(pid, "bind", (0,)))
    do(host, c.MapHugePages(pid, 18, 1, touch=1))
    head = next(iter(host.tasks[pid].maps[0].pages.values()))
    block = head // 64 + 1
    found = blockers(host, block)
    assert [(row.size, row.in_use, row.pids) for row in found.hugepages if row.in_use] == [
        ("1048576kB", 1, [pid])
    ]
    result = do(host, c.SetBlockState(block, "offline"))
    assert (result["migrated_hugepages"], result["dissolved"]) == (1, {"1048576kB": 1})
    assert host.node_of_block(next(iter(host.tasks[pid].maps[0].pages.values()))) == 1
    assert_laws(host)


@pytest.mark.parametrize(
    ("nodes", "words", "block", "word", "zone"),
    [
        ((2 * GIB,), "movablecore=1G", 12, "online_kernel", "Normal"),
        ((2 * GIB,), "movablecore=1G", 12, "online_movable", "Movable"),
        ((2 * GIB,), "movablecore=1G", 12, "online", "Movable"),
        ((2 * GIB, 2 * GIB), "", 16, "online", "Normal"),
    ],
)
def test_a_block_goes_to_the_zone_that_overlaps_it_else_to_normal(
    nodes: tuple[int, ...], words: str, block: int, word: str, zone: str
) -> None:
    """default_kernel_zone_for_pfn(): the address decides nothing."""
    host = machine(*nodes, cmdline=words)
    do(host, c.SetBlockState(block, "offline"))
    words_of_sysfs = render(host, f"/sys/devices/system/memory/memory{block}/valid_zones").split()
    assert words_of_sysfs == block_view(host, block).valid_zones.split()
    assert zone == words_of_sysfs[0] if word == "online" else zone in words_of_sysfs
    assert do(host, c.SetBlockState(block, word))["zone"] == zone
    assert_laws(host)


@pytest.mark.parametrize("words", ["", "transparent_hugepage=never"])
def test_onlining_keeps_min_free_kbytes_where_the_memory_is_the_same(words: str) -> None:
    """khugepaged raises it only when transparent huge pages are on."""
    host = machine(4 * GIB, cmdline=words)
    before = host.min_free_kbytes
    assert (before == 67584) == (words == "")
    do(host, c.SetBlockState(12, "offline"))
    do(host, c.SetBlockState(12, "online"))
    assert abs(host.min_free_kbytes - before) <= 8  # it counts what lies above the marks of the moment


def test_a_zone_shrinks_only_at_the_end_that_went() -> None:
    """shrink_zone_span(): DMA32 of a PC spans the hole below 4 GiB, and keeps doing so."""
    host = machine(4 * GIB, cmdline="")
    zone = host.nodes[0].zones[1]
    start, spanned = zone.start_pfn, zone.spanned
    assert zone.end_pfn == 1 << 20
    do(host, c.SetBlockState(10, "offline"))
    assert (zone.start_pfn, zone.spanned) == (start, spanned)
    other = machine(6 * GIB, cmdline="movablecore=2G")
    movable = other.nodes[0].zones[3]
    first, last = movable.start_pfn // 32768, movable.end_pfn // 32768 - 1
    end = movable.end_pfn
    do(other, c.SetBlockState(first, "offline"))
    assert (movable.start_pfn, movable.end_pfn) == ((first + 1) * 32768, end)
    assert last > first


# -- a DIMM that is asked to leave -------------------------------------------------------------------------


def with_dimm(kernel: str, first: str = "online_kernel") -> Host:
    """2 GiB and a DIMM of four blocks: one in Normal unless ``first`` says else, one offline, two in Movable."""
    host = machine(2 * GIB, kernel=kernel, cmdline=f"{ON} memhp_default_state=offline")
    do(host, c.AddMemory(0, 4 * 32768))
    for block, word in ((32, first), (34, "online_movable"), (35, "online_movable")):
        do(host, c.SetBlockState(block, word))
    return host


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_dimm_that_is_asked_to_leave_goes_with_all_its_blocks(kernel: str) -> None:
    host = with_dimm(kernel, "online_movable")
    resize(host, 150)
    answer = do(host, c.EjectMemory(32, 4))
    assert (answer["gone"], answer["refused"], answer["blocks"]) == (True, {}, [32, 33, 34, 35])
    assert row(host)[0] < 150  # free huge pages of it are dissolved
    with pytest.raises(MMError, match="no memory block 34"):
        apply(host, c.SetBlockState(34, "online"))
    assert_laws(host)


@pytest.mark.parametrize("kernel", KERNELS)
def test_one_block_that_refuses_brings_the_others_back_online_in_normal(kernel: str) -> None:
    # As recorded on 6.1 and 6.12: those that were offline before stay so.
    host = with_dimm(kernel)
    pid = do(host, c.StartTask("process"))["pid"]
    do(host, c.GrowTask(pid, "kernel", 20_000, node=0))
    total = total_pages(host)
    refused = apply(host, c.EjectMemory(32, 4))
    assert refused.error is not None
    assert (refused.error.errno, refused.error.reason) == ("EBUSY", "unmovable-page")
    assert (refused.result.gone, refused.result.refused) == (False, {32: "EBUSY"})
    assert [block_states(host)[str(block)] for block in range(32, 36)] == [
        "online",
        "offline",
        "online",
        "online",
    ]
    normal, movable = host.nodes[0].zones[2:4]
    assert (normal.present, movable.present, total_pages(host)) == (3 * 32768, 0, total)
    assert_laws(host)


@pytest.mark.parametrize(
    ("first", "count", "errno"), [(32, 0, "EINVAL"), (32, 5, "ENOENT"), (99, 1, "ENOENT")]
)
def test_a_dimm_that_is_not_there_cannot_leave_and_nothing_changes(
    first: int, count: int, errno: str
) -> None:
    host = with_dimm("5.14")
    before = digest(host)
    with pytest.raises(MMError) as refused:
        apply(host, c.EjectMemory(first, count))
    assert refused.value.errno == errno
    assert digest(host) == before
