"""Swap, and what happens when nothing more can be given up."""

from dataclasses import replace

import pytest

from hugepool.fs.procfs import parse_meminfo
from hugepool.fs.render import render
from hugepool.mm.boot.boot import boot
from hugepool.mm.boot.spec import HostSpec, NodeSpec, check_spec
from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.kernel.page_alloc import allocatable
from hugepool.mm.kernel.swap import used
from hugepool.mm.machine.digest import digest, fork
from hugepool.mm.machine.errors import BadInput, MMError
from hugepool.mm.machine.state import Call, Host
from tests.mm.hosts import GIB, KERNELS, MIB, ON, assert_laws, do, machine, resize

SWAP = 128 * MIB
SWAP_PAGES = SWAP // 4096


def swapping(kernel: str = "6.1") -> Host:
    return machine(kernel=kernel, swap_bytes=SWAP)


def room(host: Host) -> int:
    return allocatable(host.zones, 3)


def meminfo(host: Host) -> dict[str, int]:
    return parse_meminfo("/proc/meminfo", render(host, "/proc/meminfo"))


# -- swap ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_oldest_anonymous_memory_goes_to_swap_once_the_cache_is_gone(kernel: str) -> None:
    host = swapping(kernel)
    old = do(host, c.CreateTask("anon", pages=100_000))["pid"]
    do(host, c.CreateTask("cache", pages=50_000))
    answer = do(host, c.CreateTask("anon", pages=room(host) + 50_000 + 5000))
    assert answer["reclaimed_pages"] >= 55_000
    assert host.cached == []
    marks = sum(zone.high - zone.min for zone in host.zones)  # kswapd goes on to high
    assert 5000 <= host.tasks[old].swapped <= 5000 + marks + 300  # and page tables of the new task
    assert answer["swapped_pages"] == 0
    shown = meminfo(host)
    assert shown["SwapTotal"] == SWAP // 1024
    assert shown["SwapFree"] == (SWAP_PAGES - used(host)) * 4
    assert host.counters["pswpout"] == used(host)
    assert_laws(host)


def test_swap_is_full_at_its_size_and_free_when_its_task_ends() -> None:
    host = swapping()
    old = do(host, c.CreateTask("anon", pages=100_000))["pid"]
    hungry = do(host, c.StartTask("anon"))["pid"]
    do(host, c.GrowTask(hungry, "anon", GIB // 4096, partial=True))
    assert sum(task.swapped for task in host.tasks.values()) == SWAP_PAGES
    assert_laws(host)
    do(host, c.ExitTask(old))
    do(host, c.ExitTask(hungry))
    assert meminfo(host)["SwapFree"] == SWAP // 1024
    assert_laws(host)


@pytest.mark.parametrize("more", [{"mlock": True}, {"pinned": True}])
def test_locked_and_pinned_memory_stays(more: dict[str, bool]) -> None:
    host = swapping()
    kept = do(host, c.CreateTask("anon", pages=100_000, **more))["pid"]  # type: ignore[arg-type]
    hungry = do(host, c.StartTask("anon"))["pid"]
    do(host, c.GrowTask(hungry, "anon", GIB // 4096, partial=True))
    assert host.tasks[kept].swapped == 0
    assert host.tasks[hungry].swapped == SWAP_PAGES  # its own oldest pages went
    assert_laws(host)


def test_a_growth_of_the_pool_swaps_and_compacts() -> None:
    host = swapping()
    do(host, c.CreateTask("anon", pages=room(host) - 2000))
    without = machine(kernel="6.1")
    do(without, c.CreateTask("anon", pages=room(without) - 2000))
    grown = resize(host, 1000).result
    assert grown.reclaimed_pages > SWAP_PAGES // 2
    assert grown.after.nr_hugepages > resize(without, 1000).result.after.nr_hugepages + 50
    assert_laws(host)


def test_a_fork_does_not_count_what_its_parent_has_in_swap() -> None:
    host = swapping()
    old = do(host, c.CreateTask("anon", pages=100_000))["pid"]
    do(host, c.CreateTask("anon", pages=room(host) + 1000))
    child = do(host, c.ForkTask(old))["pid"]
    assert host.tasks[old].swapped > 0
    assert host.tasks[child].swapped == 0
    assert_laws(host)


# -- out of memory -------------------------------------------------------------------------------------------


def test_a_task_that_cannot_have_its_memory_is_refused_and_nothing_is_kept() -> None:
    host = machine()
    before = digest(host)
    with pytest.raises(MMError) as refused:
        apply(fork(host), c.CreateTask("anon", pages=GIB // 4096))
    assert (refused.value.errno, refused.value.reason) == ("ENOMEM", "oom")
    assert digest(host) == before


def test_where_a_host_may_kill_the_largest_task_goes_and_the_next_has_its_memory() -> None:
    host = machine(oom="kill")
    small = do(host, c.CreateTask("anon", comm="small", pages=20_000))["pid"]
    large = do(host, c.CreateTask("anon", comm="large", pages=120_000))["pid"]
    outcome = apply(host, c.CreateTask("anon", comm="new", pages=room(host) + 5000))
    assert [(one.pid, one.comm) for one in outcome.result.oom] == [(large, "large")]
    assert outcome.result.signal is None
    assert sorted(host.tasks) == [small, outcome.result.pid]
    lines = [data["line"] for event, data in outcome.events if event == "KernelMessagePrinted"]
    assert lines[0].startswith("new invoked oom-killer: ")
    assert lines[1].startswith(f"Out of memory: Killed process {large} (large) total-vm:480")
    assert host.counters["oom_kill"] == 1
    assert "TaskKilled" in [event for event, _ in outcome.events]
    assert_laws(host)


def test_the_one_that_asks_for_too_much_is_killed_itself() -> None:
    host = machine(oom="kill")
    outcome = apply(host, c.CreateTask("anon", comm="huge", pages=GIB // 4096))
    answer = outcome.result
    assert (answer.signal, answer.reason, answer.pages) == ("SIGKILL", "oom", 0)
    assert [one.comm for one in answer.oom] == ["huge"]
    assert host.tasks == {}
    assert_laws(host)


def test_memory_of_the_kernel_and_page_cache_are_nobody_to_kill() -> None:
    host = machine(oom="kill")
    do(host, c.CreateTask("kernel", pages=100_000))
    do(host, c.CreateTask("cache", pages=20_000, clean=False))
    with pytest.raises(MMError) as refused:
        apply(fork(host), c.CreateTask("kernel", pages=GIB // 4096))
    assert refused.value.reason == "oom"
    assert len(host.tasks) == 2


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("feature", ["on", "off"])
def test_a_growth_to_the_last_page_says_where_it_can_wake_the_killer(kernel: str, feature: str) -> None:
    host = machine(kernel=kernel, cmdline=f"hugetlb_free_vmemmap={feature}")
    shortfall = resize(host, 1 << 20).result.shortfall
    assert shortfall is not None
    assert ("OOM killer" in shortfall.summary) == (feature == "on" and kernel in ("6.12", "6.18"))


# -- bad input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [("swap_bytes", -4096), ("swap_bytes", 4097), ("swap_bytes", 1 << 60), ("oom", "panic"), ("oom", "")],
)
def test_a_spec_with_a_swap_or_a_word_that_cannot_be_is_refused(field: str, value: object) -> None:
    spec = HostSpec((NodeSpec(GIB, 1),), "6.1", ON)
    boot(spec, Call())
    with pytest.raises(BadInput) as refused:
        check_spec(replace(spec, **{field: value}))  # type: ignore[arg-type]
    assert refused.value.where == field.removesuffix("_bytes")
