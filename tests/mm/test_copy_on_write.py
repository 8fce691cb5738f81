"""Private huge pages after a fork: who copies, who gets a SIGBUS."""

import pytest

from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.machine.digest import digest, fork
from hugepool.mm.machine.state import Host
from tests.mm.hosts import GIB, assert_laws, do, machine, row


def pool(pages: int = 10, kernel: str = "6.1") -> Host:
    host = machine(GIB, kernel=kernel)
    do(host, c.SetMaxHugePages(9, pages))
    return host


def mapped(host: Host, count: int, touch: int = 0, **more: object) -> int:
    return int(do(host, c.CreateTask("hugetlb", count=count, touch=touch, **more))["pid"])  # type: ignore[arg-type]


def forked(host: Host, pid: int) -> int:
    return int(do(host, c.ForkTask(pid))["pid"])


def touched(host: Host, pid: int, count: int, *, read: bool = False) -> tuple[int, str | None]:
    answer = do(host, c.TouchHugePages(pid, 0, count, 0, read))
    return answer["touched"], answer["reason"]


@pytest.mark.parametrize("kernel", ["5.14", "6.1", "6.12"])
def test_a_written_page_is_copied_once_by_whoever_writes_first(kernel: str) -> None:
    host = pool(kernel=kernel)
    parent = mapped(host, 4, 4)
    child = forked(host, parent)
    assert row(host)[:3] == (10, 6, 0)
    assert touched(host, child, 2) == (2, None)
    assert row(host)[1] == 4
    assert touched(host, parent, 4) == (4, None)  # copies the two that are shared still
    assert row(host)[1] == 2
    assert touched(host, child, 4) == (4, None)  # nobody shares any more
    assert row(host)[1] == 2
    assert_laws(host)
    do(host, c.ExitTask(parent))
    do(host, c.ExitTask(child))
    assert row(host)[:3] == (10, 10, 0)
    assert_laws(host)


def test_an_owner_that_finds_no_page_takes_it_from_the_child() -> None:
    host = pool(4)
    parent = mapped(host, 4, 4)
    child = forked(host, parent)
    assert touched(host, child, 4) == (0, "pool-exhausted")
    assert touched(host, parent, 2) == (2, None)
    assert row(host)[1] == 0
    assert touched(host, child, 1, read=True) == (0, "taken-by-parent")
    answer = do(host, c.TouchHugePages(child, 0, 2, 2, read=True))
    assert answer["touched"] == 2  # what is mapped still can be read
    assert_laws(host)
    outcome = fork(host)
    do(outcome, c.ExitTask(parent))
    assert row(outcome)[1] == 2  # the child keeps the pages it shares
    assert do(outcome, c.TouchHugePages(child, 0, 2, 2))["touched"] == 2  # and writes them without a copy
    assert row(outcome)[1] == 2
    assert_laws(outcome)


def test_the_console_tells_who_is_killed() -> None:
    host = pool(2)
    parent = mapped(host, 2, 2)
    child = forked(host, parent)
    touched(host, parent, 2)
    outcome = apply(host, c.TouchHugePages(child, 0, 1, 0))
    lines = [data["line"] for event, data in outcome.events if event == "KernelMessagePrinted"]
    assert lines == [f"PID {child} killed due to inadequate hugepage pool"]


def test_a_child_has_no_reservation_of_its_parent() -> None:
    host = pool(6)
    parent = mapped(host, 4)
    child = forked(host, parent)
    assert row(host)[:3] == (6, 6, 4)
    assert touched(host, child, 4) == (2, "pool-exhausted")
    assert touched(host, parent, 4) == (4, None)
    assert row(host)[:3] == (6, 0, 0)
    assert_laws(host)


def test_copies_of_a_grandchild_are_taken_as_well() -> None:
    host = pool(3)
    parent = mapped(host, 1, 1)
    child = forked(host, parent)
    grandchild = forked(host, child)
    mapped(host, 2, 2)
    assert touched(host, parent, 1) == (1, None)
    for pid in (child, grandchild):
        assert touched(host, pid, 1, read=True) == (0, "taken-by-parent")
    assert not host.mapcounts
    assert_laws(host)


def test_a_copy_is_charged_to_the_childs_cgroup_and_the_owner_pays_no_second_time() -> None:
    host = pool(60)
    do(host, c.MakeCgroup("a", parents=True))
    do(host, c.SetCgroupLimit("a", 9, "pages", 6))
    parent = mapped(host, 4, 4, cgroup="a")
    child = forked(host, parent)
    assert touched(host, child, 4) == (2, "cgroup-limit")
    assert touched(host, parent, 4) == (4, None)  # takes the two that are shared still
    group = host.hugetlb_cgroups[host.cgroups["a"].cgroup_id]
    assert (group.pages[9].usage, group.reservations[9].usage, group.events[9]) == (6, 6, 3)
    assert_laws(host)


def test_a_private_mapping_of_a_file_reads_its_pages_and_copies_what_it_writes() -> None:
    host = pool()
    path = "/dev/hugepages/s"
    owner = mapped(host, 5, 5, file=path, shared=True, order=None)
    private = mapped(host, 5, file=path, order=None)
    assert row(host)[:3] == (10, 5, 5)
    assert touched(host, private, 5, read=True) == (5, None)
    assert row(host)[:3] == (10, 5, 5)
    assert touched(host, private, 3) == (3, None)
    assert row(host)[:3] == (10, 2, 2)
    do(host, c.TruncateFile(path, 2))
    assert row(host)[1] == 6  # three of the file, and a copy beyond its end
    assert touched(host, private, 5, read=True) == (2, "beyond-end-of-file")
    assert_laws(host)
    do(host, c.ExitTask(private))
    do(host, c.ExitTask(owner))
    assert row(host)[:3] == (10, 8, 0)
    assert_laws(host)


def test_a_copied_host_forks_on_its_own() -> None:
    host = pool()
    parent = mapped(host, 4, 4)
    forked(host, parent)
    before, twin = digest(host), fork(host)
    touched(twin, parent, 4)
    assert digest(host) == before
    assert host.mapcounts
    assert not twin.mapcounts
    assert_laws(twin)
