"""A copied host is a machine apart; shortcuts of the engine change nothing but the time they take."""

from typing import Any

import pytest

from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.kernel import contig
from hugepool.mm.machine.digest import digest, fork
from hugepool.mm.machine.state import Host
from tests.mm.hosts import GIB, MIB, assert_laws, do, machine


def busy() -> Host:
    """Two nodes with everything that a host can have."""
    host = machine(GIB, 512 * MIB, cmdline="hugetlb_free_vmemmap=on kernelcore=900M")
    do(host, c.SetMaxHugePages(9, 60))
    vm = do(host, c.CreateTask("hugetlb", count=9, touch=4))
    do(host, c.CreateTask("anon", pages=3000))
    do(host, c.ShrinkTask(vm["pid"] + 1, keep_of_256=10))
    do(host, c.FallocateFile("/dev/hugepages/file", 3))
    do(host, c.SetFault("vmemmap-restore", probability=50))
    do(host, c.AllocContigPages(700))
    do(host, c.SetDeferredMode("manual"))
    return host


CHANGES = [
    c.TouchHugePages(1000, 0, 3),
    c.UnmapHugePages(1000, 0, 0, 2),
    c.ExitTask(1001),
    c.GrowTask(1001, "anon", 2000),
    c.ShrinkTask(1001, 20),
    c.SetMempolicy(1000, "bind", (1,)),
    c.UnlinkFile("/dev/hugepages/file"),
    c.SetMaxHugePages(9, 3),
    c.FreeContigRange(1),
    c.ClearFault("vmemmap-restore"),
    c.SetMinFreeKbytes(9000),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: type(change).__name__)
def test_a_change_of_a_copy_leaves_the_origin_and_the_other_way_round(change: c.Command[Any]) -> None:
    host = busy()
    before = digest(host)
    copied = fork(host)
    assert digest(copied) == before
    apply(copied, change)
    assert digest(host) == before != digest(copied)
    changed = digest(copied)
    apply(host, change)
    assert digest(host) == changed == digest(copied)
    assert_laws(copied)


@pytest.mark.parametrize("kernel", ["5.14", "6.1"])
def test_skipping_gigantic_pages_in_a_search_changes_no_outcome(
    kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = machine(7 * GIB, kernel=kernel)
    do(host, c.SetMaxHugePages(9, 100))
    quick, slow = fork(host), fork(host)
    reported = [apply(quick, command) for command in SEARCHES]
    monkeypatch.setattr(contig, "_fails_without_trace", lambda *_: False)
    assert [apply(slow, command).result for command in SEARCHES] == [outcome.result for outcome in reported]
    assert digest(slow) == digest(quick)
    assert reported[0].result.allocated > 1


SEARCHES = [c.SetMaxHugePages(18, 2**64 - 1), c.SetMaxHugePages(18, 1), c.SetMaxHugePages(18, 3)]
