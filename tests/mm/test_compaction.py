"""Compaction: movable memory makes way for huge pages, by itself and on request; its owners keep it."""

import pytest

from hugepool.fs import write as fs_write
from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.kernel.huge_blocks import count_free_blocks
from hugepool.mm.machine.digest import digest, fork
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.rmap import from_runs
from hugepool.mm.machine.state import Host
from tests.mm.hosts import KERNELS, MIB, assert_laws, do, free_pages, machine, resize

MOST = 1 << 20


def riddled(
    *nodes: int, kernel: str = "6.1", kind: str = "anon", keep: int = 64, pinned: bool = False
) -> Host:
    """A machine whose memory a task has filled, and then given back but for ``keep`` of every 256 pages."""
    host = machine(*(nodes or (512 * MIB,)), kernel=kernel)
    trial = fork(host)
    filler = do(trial, c.StartTask(kind))["pid"]
    most = int(do(trial, c.GrowTask(filler, kind, MOST, partial=True))["pages"])
    pid = do(host, c.CreateTask(kind, pages=most - 4000, pinned=pinned))["pid"]
    do(host, c.ShrinkTask(pid, keep_of_256=keep))
    return host


def blocks(host: Host) -> int:
    return sum(count_free_blocks(host.mem, zone, MOST) for zone in host.zones)


@pytest.mark.parametrize("kernel", KERNELS)
def test_pages_between_free_ones_move_together_and_stay_their_owner_s(kernel: str) -> None:
    host = riddled(kernel=kernel)
    task = next(task for task in host.tasks.values() if task.runs)
    pages, free, whole = from_runs(task.runs).size, free_pages(host), blocks(host)
    answer = do(host, c.CompactMemory())
    assert answer["compacted_blocks"] > 100
    assert blocks(host) == whole + answer["compacted_blocks"]
    assert (from_runs(task.runs).size, free_pages(host)) == (pages, free)
    assert host.counters["pgmigrate_success"] == answer["migrated_pages"]
    assert do(host, c.CompactMemory())["compacted_blocks"] == 0
    assert_laws(host)


def test_a_growth_compacts_what_it_needs_and_says_so() -> None:
    host = riddled()
    whole = blocks(host)
    answer = resize(host, whole + 20).result
    assert answer.shortfall is None
    assert answer.compacted_blocks >= 20 - 1  # what the first pages free of vmemmap may make one whole
    assert answer.reclaimed_pages == 0
    assert_laws(host)


@pytest.mark.parametrize(("kind", "pinned"), [("kernel", False), ("anon", True)])
def test_a_page_that_does_not_move_keeps_its_pageblock(kind: str, pinned: bool) -> None:
    host = riddled(kind=kind, pinned=pinned)
    assert do(host, c.CompactMemory())["compacted_blocks"] <= 4
    assert_laws(host)


def test_lists_of_cpus_are_drained_before_pages_move_and_that_may_do() -> None:
    host = machine(512 * MIB)
    most = resize(fork(host), MOST).result.allocated
    pids = [do(host, c.CreateTask("anon", pages=9000))["pid"] for _ in range(11)]
    for pid in pids:
        do(host, c.ShrinkTask(pid, keep_of_256=100))
    for pid in pids:
        do(host, c.ExitTask(pid))
    assert host.mem.resting_blocks.size > 10
    assert resize(host, MOST).result.allocated >= most - 2
    assert_laws(host)


def test_cache_moves_as_well() -> None:
    host = riddled(keep=128)
    cached = do(host, c.CreateTask("cache", pages=20_000, clean=False))
    do(host, c.ShrinkTask(min(host.tasks), keep_of_256=0))
    assert do(host, c.CompactMemory())["compacted_blocks"] > 20
    assert do(host, c.ExitTask(cached["pid"]))["freed_pages"] == 20_000
    assert_laws(host)


def test_cache_between_memory_that_moves_is_given_up_and_what_is_left_is_compacted() -> None:
    host = riddled(keep=32)
    most = resize(fork(host), MOST).result.after.nr_hugepages
    do(host, c.CreateTask("cache", pages=MOST))
    whole = blocks(host)
    grown = resize(host, MOST).result
    assert grown.reclaimed_pages > 0
    assert grown.compacted_blocks > 0
    assert most * 0.9 <= grown.after.nr_hugepages <= most + 2
    assert whole < grown.after.nr_hugepages
    assert_laws(host)


def test_write_drop_compact_write_helps_where_dirty_cache_was_in_the_way_and_was_synced() -> None:
    host = riddled(keep=32)
    dirty = do(host, c.CreateTask("cache", pages=40_000, clean=False))["pid"]
    first = resize(host, MOST).result.after.nr_hugepages
    do(host, c.ExitTask(dirty))
    do(host, c.DropCaches(3))
    do(host, c.CompactMemory())
    assert resize(host, MOST).result.after.nr_hugepages > first + 60
    assert_laws(host)


def test_the_file_of_a_node_compacts_that_node() -> None:
    host = riddled(512 * MIB, 512 * MIB)
    before = [zone.nr_free for zone in host.zones]
    path = "/sys/devices/system/node/node1/compact"
    written = fs_write.parse_write(host, path, b"1", fs_write.Writer("sh"))
    assert written.command == c.CompactMemory(1)
    whole = [count_free_blocks(host.mem, zone, MOST) for zone in host.zones]
    assert do(host, c.CompactMemory(1))["compacted_blocks"] > 0
    after = [count_free_blocks(host.mem, zone, MOST) for zone in host.zones]
    assert {zone.nid for zone in host.zones if after[zone.index] != whole[zone.index]} == {1}
    assert [zone.nr_free for zone in host.zones] == before


@pytest.mark.parametrize("nid", [-1, 9])
def test_a_node_that_is_not_there_cannot_be_compacted(nid: int) -> None:
    host = riddled()
    before = digest(host)
    with pytest.raises(MMError) as refused:
        apply(host, c.CompactMemory(nid))
    assert refused.value.errno == "EINVAL"
    assert digest(host) == before
