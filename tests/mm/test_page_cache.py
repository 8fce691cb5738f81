"""Page cache: whose it is, what the files show of it, and who gets its memory when memory is short."""

import pytest

from hugepool.fs import write as fs_write
from hugepool.fs.procfs import parse_meminfo
from hugepool.fs.render import render
from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.kernel import filemap, vmscan
from hugepool.mm.kernel.hugetlb_vmemmap import available_for_restore
from hugepool.mm.kernel.page_alloc import room
from hugepool.mm.machine.digest import digest, fork
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.mmzone import Use
from hugepool.mm.machine.rmap import from_runs
from hugepool.mm.machine.state import Host
from hugepool.mm.views.blockers import blockers
from tests.mm.hosts import (
    GIB,
    KERNELS,
    MIB,
    ON,
    assert_laws,
    do,
    free_pages,
    machine,
    resize,
    row,
    shortfall_of,
)

MOST = 1 << 20
NET = {"5.14": 506, "6.1": 505, "6.12": 505, "6.18": 505}  # pages that an optimised huge page takes


def cache(host: Host, pages: int, **more: object) -> int:
    """Page cache for an owner; its pid."""
    return int(do(host, c.CreateTask("cache", pages=pages, **more))["pid"])  # type: ignore[arg-type]


def cached(host: Host, use: Use = Use.PAGE_CACHE) -> int:
    return sum(filemap.pages_in_zone(host.mem, zone, use) for zone in host.zones)


def meminfo(host: Host) -> dict[str, int]:
    return parse_meminfo("/proc/meminfo", render(host, "/proc/meminfo"))


def full_of_cache(*nodes: int, kernel: str = "6.1") -> Host:
    host = machine(*nodes, kernel=kernel)
    for node in host.nodes:
        cache(host, MOST, node=node.nid)
    return host


# -- owners and files --------------------------------------------------------------------------------------


def test_an_owner_s_cache_shows_in_the_files_and_goes_with_it() -> None:
    host = machine()
    before, free = meminfo(host), free_pages(host)
    pid = cache(host, 40_000)
    after = meminfo(host)
    assert host.tasks[pid].kind == "cache"
    for line in ("Cached", "Inactive(file)", "Inactive"):
        assert after[line] - before[line] == 160_000
    assert before["MemFree"] - after["MemFree"] == 160_000
    assert after["MemAvailable"] > before["MemAvailable"] - 80_000  # the kernel counts on at least half of it
    assert "nr_zone_inactive_file 40000" in render(host, "/proc/zoneinfo")
    assert "nr_file_pages 40229" in render(host, "/proc/vmstat")  # 229 of the bare system
    assert do(host, c.ExitTask(pid))["freed_pages"] == 40_000
    assert meminfo(host) == before
    assert free_pages(host) == free
    assert_laws(host)


def test_dirty_pages_are_told_as_dirty() -> None:
    host = machine()
    cache(host, 5000, clean=False)
    assert meminfo(host)["Dirty"] == 20_000
    assert cached(host, Use.DIRTY_CACHE) == 5000
    assert do(host, c.DropCaches(3)) == {"cache_pages": 0, "slab_pages": 0}
    assert_laws(host)


def test_cache_stops_at_the_high_watermark_and_then_takes_the_place_of_older_cache() -> None:
    host = machine()
    zone = host.nodes[0].zones[1]
    old = cache(host, MOST)
    assert zone.nr_free == zone.high
    new = cache(host, 10_000)
    assert zone.nr_free == zone.high
    assert filemap.of_owner(host, new) == 10_000
    assert filemap.of_owner(host, old) + 10_000 == cached(host)
    assert_laws(host)


def test_deleting_an_owner_frees_its_pages_on_its_nodes() -> None:
    host = machine(512 * MIB, 512 * MIB)
    first, second = cache(host, 20_000, node=0), cache(host, 30_000, node=1)
    free = [node.nr_free for node in host.nodes]
    do(host, c.ExitTask(second))
    assert [node.nr_free for node in host.nodes] == [free[0], free[1] + 30_000]
    assert filemap.of_owner(host, first) == 20_000
    assert_laws(host)


@pytest.mark.parametrize("mode", [1, 2, 3, 4])
def test_drop_caches_drops_what_its_bits_say(mode: int) -> None:
    host = machine()
    cache(host, 5000)
    slab = filemap.take_out(host, host.nodes[0].zones[1], Use.PAGE_CACHE, 1000, Use.SLAB)
    filemap.lower(host, 0, Use.PAGE_CACHE, slab)
    filemap.raise_share(host, filemap.THE_MACHINE, 0, Use.SLAB, slab)
    free = free_pages(host)
    written = fs_write.parse_write(
        host, "/proc/sys/vm/drop_caches", str(mode).encode(), fs_write.Writer("sh")
    )
    assert isinstance(written.command, c.DropCaches)
    do(host, written.command)
    dropped = 4000 * bool(mode & 1) + 1000 * bool(mode & 2)
    assert free_pages(host) == free + dropped
    assert_laws(host)


# -- growth ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("share", [20, 60, 90])
def test_clean_cache_counts_as_free_to_the_last_page(kernel: str, share: int) -> None:
    host = machine(kernel=kernel)
    most = resize(fork(host), MOST).result.allocated
    cache(host, free_pages(host) * share // 100)
    grown = resize(host, MOST).result
    assert abs(grown.allocated - most) <= 2
    assert grown.reclaimed_pages > 0
    assert cached(host) == 0
    assert resize(host, MOST).result.allocated == 0  # a retry gains nothing
    assert_laws(host)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_growth_takes_no_more_than_it_needs_of_cache_and_free_memory(kernel: str) -> None:
    host = full_of_cache(kernel=kernel)
    both = free_pages(host) + cached(host)
    answer = resize(host, 100).result
    assert answer.allocated == 100
    taken = both - free_pages(host) - cached(host)
    assert taken == NET[kernel] * 100 + answer.vmemmap.page_table_pages
    assert answer.reclaimed_pages > 90 * NET[kernel]


def test_a_growth_leaves_dirty_cache_alone() -> None:
    host = machine()
    cache(host, 100_000, clean=False)
    most = resize(host, MOST)
    assert cached(host, Use.DIRTY_CACHE) == 100_000
    assert most.result.reclaimed_pages == 0
    assert most.result.after.nr_hugepages < resize(machine(), MOST).result.after.nr_hugepages - 190


def test_an_even_split_takes_the_cache_of_a_full_node_before_free_memory_of_the_other() -> None:
    host = machine(GIB, GIB, kernel="6.1")
    cache(host, MOST, node=0)
    free = host.nodes[1].nr_free
    answer = resize(host, 200).result
    assert [(row.node, row.allocated) for row in answer.nodes] == [(0, 100), (1, 100)]
    assert free - host.nodes[1].nr_free < 100 * 512


def test_a_growth_of_one_node_leaves_the_cache_of_others() -> None:
    host = full_of_cache(GIB, GIB)
    other = filemap.held(host, Use.PAGE_CACHE, [1])
    resize(host, MOST, 0)
    assert filemap.held(host, Use.PAGE_CACHE, [0]) == 0
    assert filemap.held(host, Use.PAGE_CACHE, [1]) == other
    assert host.hstates[9].nr_node[1] == 0


def test_between_dust_cache_gives_way_only_where_it_makes_whole_pageblocks() -> None:
    host = machine(kernel="6.1")
    dust = do(host, c.CreateTask("kernel", pages=60_000))["pid"]
    do(host, c.ShrinkTask(dust, keep_of_256=4))
    clean = resize(fork(host), MOST).result.allocated
    cache(host, MOST)
    outcome = resize(host, MOST)
    assert outcome.result.allocated <= clean
    assert cached(host) > 0
    assert shortfall_of(outcome).missing > 0
    do(host, c.DropCaches(1))
    assert resize(host, MOST).result.after.nr_hugepages <= clean
    assert_laws(host)


def test_kswapd_has_the_zone_above_high_again_when_the_answer_is_there() -> None:
    host = full_of_cache()
    zone = host.nodes[0].zones[1]
    resize(host, 64)
    assert room(zone, zone.high, 3) > 0
    assert host.counters["pgsteal_kswapd"] > 0


# -- restores ----------------------------------------------------------------------------------------------


def squeezed(kernel: str, kbytes: int) -> Host:
    """100 optimised pages, the rest page cache, and free memory far below min."""
    host = machine(kernel=kernel)
    resize(host, 100)
    cache(host, MOST)
    do(host, c.SetMinFreeKbytes(kbytes))
    assert available_for_restore(host, 0) == 0
    return host


@pytest.mark.parametrize("kernel", ["5.14", "6.1"])
def test_restores_that_try_once_fail_under_page_cache_far_below_min(kernel: str) -> None:
    host = squeezed(kernel, 200_000)
    before, one = cached(host), vmscan.pass_pages(host, host.nodes[0].zones)
    answer = resize(host, 90)
    assert answer.error is not None
    assert answer.error.errno == "ENOMEM"
    assert row(host)[3] == 10  # they are back as surplus pages
    assert before - cached(host) == 10 * one  # each request made one pass
    assert_laws(host)


@pytest.mark.parametrize("kernel", ["6.12", "6.18"])
def test_restores_that_try_hard_never_fail_while_there_is_clean_cache(kernel: str) -> None:
    host = squeezed(kernel, 200_000)
    answer = resize(host, 0)
    assert answer.error is None
    assert row(host) == (0, 0, 0, 0, 0)
    assert answer.result.reclaimed_pages > 0


def test_a_restore_passes_once_the_passes_of_those_before_it_have_freed_enough() -> None:
    host = squeezed("6.1", 68_200)
    resize(host, 0)
    refused = row(host)[3]
    assert 0 < refused < 100


# -- tasks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["anon", "kernel"])
def test_a_task_takes_the_cache_before_it_is_refused(kind: str) -> None:
    host = full_of_cache()
    most = cached(host)
    do(host, c.CreateTask(kind, pages=most - 2000))
    with pytest.raises(MMError) as refused:
        apply(fork(host), c.CreateTask(kind, pages=most))
    assert refused.value.errno == "ENOMEM"
    assert_laws(host)


def test_pinned_memory_does_not_move_and_its_owner_is_named() -> None:
    host = machine(512 * MIB, 512 * MIB, cmdline="cma=64M", kernel="6.1")
    pid = do(host, c.CreateTask("anon", pages=30_000, pinned=True, node=1))["pid"]
    pinned = [zone for zone in host.zones if filemap.pages_in_zone(host.mem, zone, Use.PINNED)]
    assert {zone.nid for zone in pinned} == {1}
    block = host.mem.zones[pinned[0].index].start_pfn // host.memory_block_pages
    shown = blockers(host, block)
    assert (shown.errno, shown.reason) == ("EINTR", "livelock")
    assert [each.pids for each in shown.unmovable if each.use == "pinned"] == [[pid]]
    start = block * host.memory_block_pages
    outcome = apply(fork(host), c.AllocContigRange(start, start + 512, "MOVABLE"))
    assert outcome.error is not None
    assert (outcome.error.errno, outcome.error.reason) == ("EBUSY", "pinned")
    do(host, c.ExitTask(pid))
    assert_laws(host)


def test_a_pin_moves_pages_out_of_areas_and_of_movable_zones_first() -> None:
    host = machine(896 * MIB, cmdline="kernelcore=600M")
    do(host, c.CreateTask("anon", pages=20_000, pinned=True))
    movable = [zone for zone in host.zones if zone.type == 3 and zone.managed]
    assert movable
    assert not any(filemap.pages_in_zone(host.mem, zone, Use.PINNED) for zone in movable)
    assert_laws(host)


# -- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "errno"),
    [
        (c.CreateTask("cache", pages=10, node=7), "EINVAL"),
        (c.CreateTask("cache", pages=MOST, clean=False), "ENOMEM"),
        (c.CreateTask("cache", pages=10, cgroup="nowhere"), "ENOENT"),
        (c.FillCache(1, 10), "ENOENT"),
        (c.FillCache(1000, 10), "EINVAL"),
        (c.ForkTask(1001), "EINVAL"),
        (c.GrowTask(1001, "anon", 10), "EINVAL"),
        (c.ShrinkTask(1001, 10), "EINVAL"),
        (c.MapHugePages(1001, 9, 1), "EINVAL"),
        (c.DropCaches(0), "EINVAL"),
        (c.DropCaches(5), "EINVAL"),
    ],
    ids=repr,
)
def test_a_refusal_leaves_everything_as_it_was(command: c.Command[object], errno: str) -> None:
    host = machine()
    do(host, c.CreateTask("anon", pages=100))
    cache(host, 1000)
    assert sorted(host.tasks) == [1000, 1001]
    trial, before = fork(host), digest(host)
    with pytest.raises(MMError) as refused:
        apply(trial, command)
    assert refused.value.errno == errno
    assert digest(host) == before


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_part_of_what_a_task_has_is_pinned_the_oldest_first(kernel: str) -> None:
    host = machine(2 * GIB, kernel=kernel, cmdline=f"{ON} movablecore=512M")
    pid = do(host, c.StartTask(resident=100))["pid"]
    do(host, c.GrowTask(pid, "anon", 1000))
    assert do(host, c.PinTask(pid, 300, skip=100))["pages"] == 300
    pinned = from_runs(host.tasks[pid].runs)[host.mem.uses_of(from_runs(host.tasks[pid].runs)) == Use.PINNED]
    zones = {host.zones[int(host.mem.zone[pfn // 512]) - 1].name for pfn in pinned.tolist()}
    assert (pinned.size, "Movable" in zones) == (300, False)
    assert do(host, c.PinTask(pid))["pages"] == 800
    assert_laws(host)


def test_a_task_that_is_not_there_pins_nothing() -> None:
    host = machine(2 * GIB)
    before = digest(host)
    with pytest.raises(MMError) as refused:
        apply(host, c.PinTask(77))
    assert (refused.value.errno, digest(host)) == ("ENOENT", before)
