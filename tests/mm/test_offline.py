"""Memory blocks going offline and coming back, held against the behaviour file's table and recordings."""

from typing import Any

import numpy as np
import pytest

from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.kernel.buddy import lone_free_blocks
from hugepool.mm.kernel.dissolve import dissolve_free_huge_page, dissolve_free_huge_pages
from hugepool.mm.kernel.page_alloc import allocatable
from hugepool.mm.kernel.page_isolation import unmovable_pages
from hugepool.mm.machine.digest import digest, fork
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.mmzone import ZONE_MOVABLE, BlockFlag, Migrate, Use
from hugepool.mm.machine.state import Call, Host
from tests.mm.hosts import (
    GIB,
    KERNELS,
    assert_laws,
    do,
    fail_restores,
    free_pages,
    let_restores_pass,
    machine,
    resize,
    row,
    total_pages,
)

BLOCK = 40  # the first movable block of the machine below


def movable_machine(kernel: str = "5.14", pool: int = 0) -> Host:
    """6 GiB, the upper 2 GiB movable; the pool lies in ZONE_MOVABLE from block 40 upwards.

    The lone free block beside early memory, which would go first, is page cache.
    """
    host = machine(6 * GIB, kernel=kernel, cmdline="hugetlb_free_vmemmap=on movablecore=2G")
    assert host.zones[3].start_pfn // 32768 == BLOCK
    host.mem.assign_blocks(lone_free_blocks(host.mem, host.zones[3]), Use.PAGE_CACHE)
    resize(host, pool)
    return host


def huge_in_block(host: Host, block: int = BLOCK) -> int:
    """Huge pages in a memory block of 128 MiB."""
    flags = host.mem.flags[block * 64 : (block + 1) * 64]
    return int(((flags & BlockFlag.HEAD) != 0).sum())


@pytest.mark.parametrize("kernel", KERNELS)
def test_free_huge_pages_are_dissolved_and_leave_the_pool_for_good(kernel: str) -> None:
    # g_offline_free: nr, free and max -64, the block's memory leaves MemTotal, the vmemmap is restored.
    host = movable_machine(kernel, 100)
    assert huge_in_block(host) == 64
    total, free = total_pages(host), free_pages(host)
    result = do(host, c.SetBlockState(BLOCK, "offline"))
    need = host.hstates[9].nr_free_vmemmap_pages
    assert result["dissolved"] == {"2048kB": 64}
    assert result["vmemmap"]["pages_restored"] == 64 * need
    assert row(host) == (36, 36, 0, 0, 36)
    assert total - total_pages(host) == 32768
    assert free - free_pages(host) == 64 * need
    assert_laws(host)
    do(host, c.SetBlockState(BLOCK, "online_movable"))
    assert total_pages(host) == total
    assert row(host) == (36, 36, 0, 0, 36)
    assert_laws(host)


def test_table_11_3_a_failing_dissolve_keeps_what_was_dissolved() -> None:
    # 121 requests pass 20 pages of 6: the 21st fails.
    host = movable_machine(pool=100)
    fail_restores(host, space=121)
    first = apply(host, c.SetBlockState(BLOCK, "offline"))
    assert first.error is not None
    assert (first.error.errno, first.error.reason) == ("ENOMEM", "injected-fault")
    assert first.result.dissolved == {"2048kB": 20}
    assert row(host) == (80, 80, 0, 0, 80)
    assert host.mem.section_state[BLOCK] == 1
    again = apply(host, c.SetBlockState(BLOCK, "offline"))
    assert again.error is not None
    assert row(host) == (80, 80, 0, 0, 80)
    assert_laws(host)
    let_restores_pass(host)
    do(host, c.SetBlockState(BLOCK, "offline"))
    assert row(host) == (36, 36, 0, 0, 36)
    assert_laws(host)


def test_enomem_although_zone_movable_has_plenty_of_free_memory() -> None:
    # The kernel zones are starved, Movable is not.
    host = movable_machine(pool=100)
    pid = do(host, c.StartTask())["pid"]
    do(host, c.GrowTask(pid, "kernel", at_most=25, partial=True))
    assert host.zones[3].nr_free > 100_000
    outcome = apply(host, c.SetBlockState(BLOCK, "offline"))
    assert outcome.error is not None
    assert (outcome.error.errno, outcome.error.reason) == ("ENOMEM", "vmemmap-restore")
    assert outcome.result.dissolved.get("2048kB", 0) < 4  # frames on the list of the CPU do not pay
    assert outcome.error.facts["pages_needed"] == 6
    assert_laws(host)


def test_reserved_pages_block_an_offline() -> None:
    # g_offline_inuse (v): every free page is promised.
    host = movable_machine(pool=64)
    do(host, c.CreateTask("hugetlb", count=64))
    outcome = apply(host, c.SetBlockState(BLOCK, "offline"))
    assert outcome.error is not None
    assert (outcome.error.errno, outcome.error.reason) == ("EBUSY", "all-free-pages-reserved")
    assert row(host) == (64, 64, 64, 0, 64)
    assert_laws(host)


@pytest.mark.parametrize("kernel", ["5.14", "6.1"])
def test_used_huge_pages_move_to_fresh_ones_when_the_pool_has_no_free_page(kernel: str) -> None:
    # g_offline_inuse (ii): success, the pool unchanged.
    host = movable_machine(kernel, 64)
    pid = do(host, c.CreateTask("hugetlb", count=64, touch=64))["pid"]
    result = do(host, c.SetBlockState(BLOCK, "offline"))
    assert result["migrated_hugepages"] == 64
    assert row(host) == (64, 0, 0, 0, 64)
    assert huge_in_block(host) == 0
    pages = host.tasks[pid].maps[0].pages.values()
    assert all(page // 64 != BLOCK for page in pages)
    assert_laws(host)
    do(host, c.ExitTask(pid))
    assert_laws(host)


@pytest.mark.parametrize(("kernel", "moved"), [("5.14", 64), ("6.1", 32768)])
def test_migrations_of_huge_pages_are_counted(kernel: str, moved: int) -> None:
    """pgmigrate_success of g_offline_inuse step 14: pages on 5.14, their base pages on 6.1."""
    host = movable_machine(kernel, 64)
    do(host, c.CreateTask("hugetlb", count=64, touch=64))
    assert huge_in_block(host) == 64
    before = host.counters.get("pgmigrate_success", 0)
    do(host, c.SetBlockState(BLOCK, "offline"))
    assert host.counters["pgmigrate_success"] - before == moved


def test_6_12_finds_moved_pages_with_the_worker_and_gives_up_when_none_is_unpromised() -> None:
    # g_offline_inuse (ii) on 6.12 with the feature: "failure to dissolve huge pages".
    host = movable_machine("6.12", 64)
    pid = do(host, c.CreateTask("hugetlb", count=64, touch=64))["pid"]
    outcome = apply(host, c.SetBlockState(BLOCK, "offline"))
    assert outcome.error is not None
    assert (outcome.error.errno, outcome.error.reason) == ("EBUSY", "in-flight")
    assert outcome.error.result is not None
    assert outcome.error.result.migrated_hugepages == 64
    assert outcome.error.result.state == "online"
    assert row(host) == (64, 0, 0, 0, 64)
    assert len(host.deferred) == huge_in_block(host) == 64
    assert_laws(host)
    do(host, c.RunFreeHpageWork())
    assert do(host, c.SetBlockState(BLOCK, "offline"))["migrated_pages"] == 0
    do(host, c.ExitTask(pid))
    assert_laws(host)


def test_6_12_waits_for_the_worker_while_an_unpromised_page_is_left() -> None:
    host = movable_machine("6.12", 65)
    pid = do(host, c.CreateTask("hugetlb", count=64, touch=64))["pid"]
    other = do(host, c.CreateTask("hugetlb", count=1, touch=1))["pid"]
    assert apply(host, c.SetBlockState(BLOCK, "offline")).error is not None
    do(host, c.ExitTask(other))
    assert (len(host.deferred), row(host)) == (64, (65, 1, 0, 0, 65))
    do(host, c.SetBlockState(BLOCK, "offline"))
    assert host.deferred == []
    assert row(host) == (65, 1, 0, 0, 65)
    do(host, c.ExitTask(pid))
    assert_laws(host)


def test_used_pages_and_free_ones_in_one_block_never_end() -> None:
    # g_offline_inuse (i): ping-pong until a signal.
    host = movable_machine(pool=64)
    do(host, c.CreateTask("hugetlb", count=20, touch=20))
    outcome = apply(host, c.SetBlockState(BLOCK, "offline"))
    assert outcome.error is not None
    assert (outcome.error.errno, outcome.error.reason) == ("EINTR", "livelock")
    assert row(host) == (64, 44, 0, 0, 64)
    assert outcome.result.passes < 20
    assert_laws(host)


def test_movable_pages_of_tasks_are_migrated() -> None:
    # g_offline_inuse (iii).
    host = movable_machine()
    pid = do(host, c.CreateTask("anon", pages=20_000))["pid"]
    inside = sum(n for first, n in host.tasks[pid].runs if first // 32768 == BLOCK)
    assert inside > 0
    result = do(host, c.SetBlockState(BLOCK, "offline"))
    assert result["migrated_pages"] == inside
    assert all(first // 32768 != BLOCK for first, _ in host.tasks[pid].runs)
    assert_laws(host)
    do(host, c.ExitTask(pid))
    assert_laws(host)


@pytest.mark.parametrize(
    ("block", "word", "errno", "reason"),
    [
        (0, "offline", "EINVAL", "memory-holes"),
        (BLOCK, "online", "EINVAL", None),
        (BLOCK, "Offline", "EINVAL", None),
        (26, "offline", "ENOENT", None),
        (9999, "offline", "ENOENT", None),
    ],
)
def test_refusals_leave_no_trace(block: int, word: str, errno: str, reason: str | None) -> None:
    host = movable_machine()
    before = digest(host)
    with pytest.raises(MMError) as refusal:
        apply(fork(host), c.SetBlockState(block, word))
    assert (refusal.value.errno, refusal.value.reason) == (errno, reason)
    assert digest(host) == before


@pytest.mark.parametrize("block", [32, 55])
def test_an_unmovable_page_is_told_on_the_console(block: int) -> None:
    host = movable_machine()
    refused = apply(host, c.SetBlockState(block, "offline"))
    assert refused.error is not None
    assert (refused.error.errno, refused.error.reason) == ("EBUSY", "unmovable-page")
    assert refused.result.state == "online"
    assert ("KernelMessagePrinted", {"line": "page dumped because: unmovable page"}) in refused.events
    assert_laws(host)


def test_pageblocks_before_an_unmovable_page_become_movable() -> None:
    """docs/kernel-rules.md 8.2: they were isolated for a moment, and isolation forgets types."""
    host, block = movable_machine("6.1"), 36  # in ZONE_NORMAL
    part = np.arange(block * 64, block * 64 + 64)
    host.mem.assign_blocks(part[40:41], Use.SYSTEM)
    before, behind = part[:40], part[40:]
    assert unmovable_pages(host, part)[0] == part[40] * 512
    host.mem.set_type(behind[1:9], Migrate.UNMOVABLE)
    types = host.mem.mt[behind].copy()
    host.mem.set_type(before, Migrate.UNMOVABLE)
    outcome = apply(host, c.SetBlockState(block, "offline"))
    assert outcome.error is not None
    assert (host.mem.mt[before] == Migrate.MOVABLE).all()
    assert np.array_equal(host.mem.mt[behind], types)
    assert_laws(host)


def test_underflow_of_the_persistent_size_until_6_8_and_none_on_6_12() -> None:
    # docs/kernel-rules.md 11.5: 100 stuck, two offlines, a dead pool.
    host = movable_machine(pool=100)
    fail_restores(host)
    resize(host, 0)
    let_restores_pass(host)
    do(host, c.SetBlockState(BLOCK, "offline"))
    assert row(host) == (36, 36, 0, 100, 2**64 - 64)
    do(host, c.SetBlockState(BLOCK + 1, "offline"))
    assert row(host) == (0, 0, 0, 100, 2**64 - 100)
    resize(host, 5)
    assert row(host)[0] == 0
    assert_laws(host)
    later = movable_machine("6.12", 100)
    fail_restores(later)
    resize(later, 0)
    let_restores_pass(later)
    do(later, c.SetBlockState(BLOCK, "offline"))
    assert row(later) == (36, 36, 0, 36, 0)
    assert_laws(later)


def test_onlining_follows_the_word_and_the_neighbourhood() -> None:
    host = movable_machine()
    for word, zone in (("online_kernel", "Normal"), ("online_movable", "Movable")):
        do(host, c.SetBlockState(BLOCK, "offline"))
        assert do(host, c.SetBlockState(BLOCK, word))["zone"] == zone
        assert_laws(host)
    do(host, c.SetBlockState(BLOCK + 2, "offline"))
    assert do(host, c.SetBlockState(BLOCK + 2, "online"))["zone"] == "Movable"  # inside that zone's span
    assert_laws(host)


def test_table_11_4_a_failing_replacement_grows_the_pool_by_one_page_a_try() -> None:
    host = movable_machine(pool=61)
    head = int(np.flatnonzero(host.mem.flags & BlockFlag.HEAD)[0])
    fail_restores(host)
    for tries in (1, 2, 3):
        command = c.AllocContigRange(head * 512, (head + 1) * 512)
        outcome = apply(host, command)
        assert outcome.error is not None
        assert (outcome.error.errno, outcome.error.reason) == ("EBUSY", "vmemmap-restore")
        assert outcome.result.after.nr_hugepages == 61 + tries
        assert row(host) == (61 + tries, 61 + tries, 0, tries, 61)
        assert_laws(host)
    let_restores_pass(host)
    taken = do(host, c.AllocContigRange(head * 512, (head + 1) * 512))
    assert taken["replaced_hugepages"] == 1
    assert row(host) == (64, 64, 0, 3, 61)
    assert host.mem.page_use(head * 512) == Use.CONTIG
    assert_laws(host)
    do(host, c.FreeContigRange(taken["id"]))
    assert host.mem.page_use(head * 512) in (Use.BUDDY, Use.PCP)
    assert_laws(host)


def test_a_gigantic_page_ends_a_contiguous_allocation_with_enomem() -> None:
    host = machine(6 * GIB, cmdline="hugepagesz=1G hugepages=1")
    head = int(np.flatnonzero(host.mem.flags & BlockFlag.HEAD)[0])
    outcome = apply(host, c.AllocContigRange(head * 512, head * 512 + 1024))
    assert outcome.error is not None
    assert (outcome.error.errno, outcome.error.reason) == ("ENOMEM", "gigantic-page")
    assert_laws(host)


def test_a_search_finds_a_range_and_a_full_node_has_none() -> None:
    host = machine(1 * GIB)
    taken = do(host, c.AllocContigPages(4096))
    assert (taken["end_pfn"] - taken["start_pfn"], taken["start_pfn"] % 4096) == (4096, 0)
    assert_laws(host)
    outcome = apply(host, c.AllocContigPages(1 << 18))
    assert outcome.error is not None
    assert (outcome.error.errno, outcome.error.reason) == ("ENOMEM", "no-contiguous-memory")


def test_5_14_searches_through_huge_pages_and_grows_their_pool() -> None:
    # n_contig_2m: a 1 GiB request with failing restores leaves one surplus page per huge page it met.
    grown = {}
    for kernel in ("5.14", "6.1"):
        host = machine(8 * GIB, kernel=kernel)
        resize(host, 1400)
        fail_restores(host)
        resize(host, 1, order=18)
        grown[kernel] = row(host)
        assert_laws(host)
    nr, _free, _resv, surplus, persistent = grown["5.14"]
    assert (nr - 1400, persistent) == (surplus, 1400)
    assert surplus > 0
    assert grown["6.1"] == (1400, 1400, 0, 0, 1400)


@pytest.mark.parametrize(
    ("command", "errno"),
    [
        (c.AllocContigRange(5, 5), "EINVAL"),
        (c.AllocContigRange(-1, 5), "EINVAL"),
        (c.AllocContigRange(0, 1 << 50), "EINVAL"),
        (c.AllocContigRange(0, 512, "RECLAIMABLE"), "EINVAL"),
        (c.AllocContigPages(0), "EINVAL"),
        (c.AllocContigPages(512, node=4), "EINVAL"),
        (c.FreeContigRange(3), "ENOENT"),
    ],
)
def test_bad_ranges_are_refused(command: c.Command[Any], errno: str) -> None:
    with pytest.raises(MMError) as refusal:
        apply(machine(), command)
    assert refusal.value.errno == errno
    assert refusal.value.result is None


def test_the_kernel_image_cannot_be_moved() -> None:
    outcome = apply(machine(), c.AllocContigRange(4096, 5120))
    assert outcome.error is not None
    assert (outcome.error.errno, outcome.error.reason) == ("EBUSY", "unmovable-page")


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("margin", [0, 5, 40, 300, 3000])
@pytest.mark.parametrize("reserved", [0, 30])
def test_dissolving_together_is_dissolving_one_after_the_other(
    kernel: str, margin: int, reserved: int
) -> None:
    host = movable_machine(kernel, 100)
    if reserved:
        do(host, c.CreateTask("hugetlb", count=reserved))
    pid = do(host, c.StartTask("kernel"))["pid"]
    do(host, c.GrowTask(pid, "kernel", at_most=margin, partial=True))
    heads = np.flatnonzero(host.mem.flags[: (BLOCK + 1) * 64] & BlockFlag.HEAD)
    one_by_one, together = fork(host), fork(host)
    hs = one_by_one.hstates[9]
    count, refusal = 0, None
    for head in heads.tolist():
        try:
            dissolve_free_huge_page(one_by_one, Call(), hs, head)
        except MMError as error:
            refusal = error
            break
        count += 1
    done, refused = dissolve_free_huge_pages(together, Call(), together.hstates[9], heads)
    assert done == count
    assert (refused is None) == (refusal is None)
    if refused and refusal:
        assert (refused.errno, refused.reason, refused.facts) == (
            refusal.errno,
            refusal.reason,
            refusal.facts,
        )
    assert row(together) == row(one_by_one)
    assert [z.nr_free for z in together.zones] == [z.nr_free for z in one_by_one.zones]
    assert_laws(together)


def test_free_pages_of_the_block_itself_make_no_room_for_what_must_leave_it() -> None:
    host = machine(GIB)
    pid = do(host, c.CreateTask("anon", pages=1))["pid"]
    do(host, c.GrowTask(pid, "anon", 1 << 20, partial=True))  # as far as the watermarks let it
    left = allocatable(host.zones, ZONE_MOVABLE) + sum(
        zone.nr_pcp for zone in host.zones
    )  # lists are drained

    outcome = apply(host, c.SetBlockState(4, "offline"))

    assert outcome.error is not None
    assert (outcome.error.errno, outcome.error.reason) == ("EINTR", "livelock")
    assert outcome.result.migrated_pages <= left + 1
    assert outcome.result.passes < 20
    assert all(zone.nr_isolated == 0 for zone in host.zones)
    assert_laws(host)
