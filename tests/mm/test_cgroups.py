"""The hugetlb controller: limits, charges, events; what goes with whom."""

from typing import Any

import pytest

from hugepool.fs.render import listdir, render
from hugepool.fs.write import parse_write
from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.machine.digest import digest, fork
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.state import Host
from tests.mm.hosts import GIB, MIB, assert_laws, do, machine, row

SIZE = 2 * MIB
CGROUPS = "/sys/fs/cgroup"


def pool(pages: int = 60, kernel: str = "6.1") -> Host:
    host = machine(GIB, kernel=kernel)
    do(host, c.SetMaxHugePages(9, pages))
    return host


def limited(host: Host, path: str, limit: int | None, kind: str = "pages") -> None:
    if path not in host.cgroups:
        do(host, c.MakeCgroup(path, parents=True))
    do(host, c.SetCgroupLimit(path, 9, kind, limit))


def task(host: Host, cgroup: str, count: int, **more: object) -> int:
    return int(do(host, c.CreateTask("hugetlb", count=count, cgroup=cgroup, **more))["pid"])  # type: ignore[arg-type]


def counts(host: Host, path: str) -> tuple[int, int, int, int]:
    """Pages, reservations, events, local events."""
    group = host.hugetlb_cgroups[host.cgroups[path].cgroup_id]
    return group.pages[9].usage, group.reservations[9].usage, group.events[9], group.events_local[9]


def refused(host: Host, command: c.Command[Any]) -> MMError:
    """The refusal of a command that leaves no trace."""
    before = digest(host)
    trial = fork(host)
    with pytest.raises(MMError) as refusal:
        apply(trial, command)
    assert refusal.value.result is None
    assert digest(host) == before
    return refusal.value


def write(host: Host, path: str, text: str) -> None:
    command = parse_write(host, f"{CGROUPS}/{path}", text.encode()).command
    if command is not None:
        do(host, command)


# -- limits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["5.14", "6.1", "6.12"])
def test_a_touch_beyond_the_limit_is_a_sigbus_although_the_pool_has_pages(kernel: str) -> None:
    host = pool(100, kernel)
    limited(host, "a", 10)
    answer = do(host, c.CreateTask("hugetlb", count=15, touch=15, cgroup="a"))
    assert (answer["touched"], answer["signal"], answer["reason"]) == (10, "SIGBUS", "cgroup-limit")
    assert answer["facts"] == {"cgroup": "a", "file": "hugetlb.2MB.max", "limit": 10, "charged": 10}
    assert row(host)[:3] == (100, 90, 5)
    assert counts(host, "a") == (10, 15, 1, 1)
    assert do(host, c.TouchHugePages(answer["pid"], 0, 1))["signal"] == "SIGBUS"
    assert counts(host, "a")[2:] == (2, 2)
    do(host, c.UnmapHugePages(answer["pid"], 0, 0, 3))
    assert counts(host, "a")[:2] == (7, 12)
    assert do(host, c.TouchHugePages(answer["pid"], 0, 5))["touched"] == 3
    assert_laws(host)


def test_a_mapping_beyond_the_reservation_limit_is_refused_and_counted() -> None:
    host = pool()
    limited(host, "a", 10, "reservations")
    outcome = apply(host, c.CreateTask("hugetlb", count=11, cgroup="a"))
    assert outcome.error is not None
    assert (outcome.error.errno, outcome.error.reason) == ("ENOMEM", "cgroup-limit")
    assert outcome.error.facts["file"] == "hugetlb.2MB.rsvd.max"
    assert counts(host, "a") == (0, 0, 1, 1)
    assert not host.tasks
    task(host, "a", 10, touch=10)
    assert counts(host, "a")[:2] == (10, 10)  # touched pages keep the charge of their reservation
    outcome = apply(host, c.CreateTask("hugetlb", count=1, cgroup="a"))
    assert outcome.error is not None
    assert_laws(host)


def test_a_page_without_reservation_is_charged_for_both() -> None:
    host = pool()
    limited(host, "a", 3, "reservations")
    answer = do(host, c.CreateTask("hugetlb", count=5, touch=5, noreserve=True, cgroup="a"))
    assert (answer["touched"], answer["facts"]["file"]) == (3, "hugetlb.2MB.rsvd.max")
    assert counts(host, "a") == (3, 3, 1, 1)
    do(host, c.ExitTask(answer["pid"]))
    assert counts(host, "a")[:2] == (0, 0)
    assert_laws(host)


def test_a_limit_above_stops_a_task_and_the_event_is_its_own() -> None:
    host = pool(100)
    limited(host, "a/b", 8)
    limited(host, "a/c", None)
    do(host, c.SetCgroupLimit("a", 9, "pages", 10))
    assert do(host, c.CreateTask("hugetlb", count=12, touch=12, cgroup="a/b"))["touched"] == 8
    stopped = do(host, c.CreateTask("hugetlb", count=5, touch=5, cgroup="a/c"))
    assert (stopped["touched"], stopped["facts"]["cgroup"]) == (2, "a")
    assert counts(host, "a") == (10, 17, 2, 0)
    assert counts(host, "a/c") == (2, 5, 1, 1)
    assert host.hugetlb_cgroups[host.cgroups["a"].cgroup_id].pages[9].failcnt == 1
    assert_laws(host)


def test_sizes_are_counted_apart() -> None:
    host = machine(6 * GIB, cmdline="hugepagesz=1G hugepages=2", kernel="6.1")
    do(host, c.SetMaxHugePages(9, 20))
    limited(host, "g", 3)
    do(host, c.SetCgroupLimit("g", 18, "pages", 1))
    answer = do(host, c.CreateTask("hugetlb", order=18, count=2, touch=2, cgroup="g"))
    assert (answer["touched"], answer["facts"]["file"]) == (1, "hugetlb.1GB.max")
    assert counts(host, "g") == (0, 0, 0, 0)
    assert_laws(host)


@pytest.mark.parametrize(
    ("limit", "errno"), [(4, "EBUSY"), (-1, "EINVAL")], ids=["below what is charged", "negative"]
)
def test_a_limit_that_cannot_be_set_changes_nothing(limit: int, errno: str) -> None:
    host = pool()
    limited(host, "a", 10)
    task(host, "a", 5, touch=5)
    assert refused(host, c.SetCgroupLimit("a", 9, "pages", limit)).errno == errno
    do(host, c.SetCgroupLimit("a", 9, "pages", 5))


# -- moving and removing ----------------------------------------------------------------------------------


def test_a_move_leaves_what_was_charged_and_removal_hands_pages_up() -> None:
    host = pool()
    for path in ("a/b", "a/c"):
        limited(host, path, None)
    pid = task(host, "a/b", 8, touch=5)
    do(host, c.MoveTask(pid, "a/c"))
    assert counts(host, "a/b")[:2] == (5, 8)
    do(host, c.TouchHugePages(pid, 0, 1))
    assert counts(host, "a/c")[:2] == (1, 0)  # reserved in b, touched in c
    do(host, c.RemoveCgroup("a/b"))
    assert counts(host, "a")[:2] == (6, 8)
    assert_laws(host)
    do(host, c.UnmapHugePages(pid, 0))
    assert counts(host, "a")[:2] == (0, 0)
    assert len(host.hugetlb_cgroups) == 2  # the removed one went with its last reservation
    assert_laws(host)


def test_a_file_stays_charged_to_a_removed_cgroup_until_it_goes() -> None:
    host = pool()
    limited(host, "a/d", None)
    do(host, c.SetCgroupLimit("a", 9, "reservations", 6))
    pid = task(host, "a/d", 6, touch=4, file="/dev/hugepages/f", shared=True, order=None)
    do(host, c.ExitTask(pid))
    do(host, c.RemoveCgroup("a/d"))
    assert counts(host, "a")[:2] == (4, 6)
    assert_laws(host)
    do(host, c.UnlinkFile("/dev/hugepages/f"))
    assert counts(host, "a")[:2] == (0, 0)
    assert_laws(host)


def test_pages_that_cannot_be_freed_are_charged_to_nobody() -> None:
    host = pool(10)
    do(host, c.SetOvercommit(9, 10))
    limited(host, "g", None)
    pid = task(host, "g", 20, touch=20)
    do(host, c.SetFault("vmemmap-restore"))
    do(host, c.ExitTask(pid))
    assert counts(host, "g")[:2] == (0, 0)  # at once, while they wait for the worker
    do(host, c.RunFreeHpageWork())
    assert row(host)[:4] == (20, 20, 0, 10)
    assert counts(host, "g")[:2] == (0, 0)
    assert_laws(host)


def test_a_migrated_page_takes_its_charge_along() -> None:
    host = machine(GIB, cmdline="movablecore=512M", kernel="6.1")
    do(host, c.SetMaxHugePages(9, 40))
    limited(host, "a", None)
    pid = task(host, "a", 8, touch=8)
    charged = dict(host.page_charges)
    head = next(iter(host.tasks[pid].maps[0].pages.values()))
    do(host, c.PoisonPage(head * 512 + 3, "soft"))
    assert set(host.page_charges) != set(charged)
    assert counts(host, "a")[:2] == (8, 8)
    assert_laws(host)


# -- the tree ---------------------------------------------------------------------------------------------


def test_a_cgroup_with_the_controller_on_below_takes_no_task() -> None:
    host = pool()
    do(host, c.MakeCgroup("a/b", parents=True))
    assert refused(host, c.CreateTask("hugetlb", count=1, cgroup="a")).reason == "cgroup-internal"
    pid = task(host, "a/b", 1)
    assert refused(host, c.MoveTask(pid, "a")).errno == "EBUSY"
    do(host, c.MoveTask(pid, ""))
    assert host.tasks[pid].cgroup == ""
    inside = task(host, "a/b", 1)
    refusal = refused(host, c.SetSubtreeControl("a/b", enabled=True))
    assert (refusal.errno, refusal.facts["pids"]) == ("EBUSY", [inside])


@pytest.mark.parametrize(
    ("command", "errno"),
    [
        (c.RemoveCgroup("a"), "EBUSY"),
        (c.RemoveCgroup("a/b"), "EBUSY"),
        (c.RemoveCgroup(""), "EBUSY"),
        (c.RemoveCgroup("x"), "ENOENT"),
        (c.MakeCgroup("x/y"), "ENOENT"),
        (c.MakeCgroup("a"), "EEXIST"),
        (c.MakeCgroup("a/../b"), "EINVAL"),
        (c.MakeCgroup("a//b"), "EINVAL"),
        (c.MakeCgroup("a/."), "EINVAL"),
        (c.MakeCgroup("n" * 256), "EINVAL"),
        (c.MakeCgroup("/".join("x" * 40), parents=True), "EINVAL"),
        (c.MakeCgroup("cgroup.procs"), "EEXIST"),
        (c.SetCgroupLimit("x", 9, "pages", 1), "ENOENT"),
        (c.SetCgroupLimit("", 9, "pages", 1), "ENOENT"),
        (c.SetCgroupLimit("a", 9, "tasks", 1), "EINVAL"),
        (c.MoveTask(99, "a/b"), "ESRCH"),
        (c.MoveTask(1000, "x"), "ENOENT"),
        (c.SetSubtreeControl("a/plain/x", enabled=True), "ENOENT"),
        (c.SetSubtreeControl("a", enabled=False), "EBUSY"),
        (c.CreateTask("anon", pages=1, cgroup="x"), "ENOENT"),
    ],
    ids=str,
)
def test_what_the_kernel_refuses_changes_nothing(command: c.Command[Any], errno: str) -> None:
    host = pool()
    do(host, c.MakeCgroup("a/b", parents=True))
    task(host, "a/b", 1)
    do(host, c.MakeCgroup("a/c/d", parents=True))
    do(host, c.MakeCgroup("a/plain"))
    do(host, c.MakeCgroup("a/plain/x"))
    assert refused(host, command).errno == errno
    assert_laws(host)


def test_without_the_controller_tasks_are_charged_above() -> None:
    host = pool()
    limited(host, "a", None)
    do(host, c.MakeCgroup("a/plain"))
    task(host, "a/plain", 3, touch=2)
    assert counts(host, "a")[:2] == (2, 3)
    do(host, c.SetSubtreeControl("a", enabled=True))
    task(host, "a/plain", 3, touch=1)
    assert counts(host, "a")[:2] == (3, 6)
    assert counts(host, "a/plain")[:2] == (1, 3)
    do(host, c.SetSubtreeControl("a", enabled=False))
    assert counts(host, "a")[:2] == (3, 6)
    assert_laws(host)


# -- files ------------------------------------------------------------------------------------------------


def test_the_files_read_as_the_kernel_prints_them() -> None:
    host = machine(GIB, GIB, kernel="6.1")
    do(host, c.SetMaxHugePages(9, 20))
    limited(host, "pods/a", 4)
    pid = task(host, "pods/a", 6, touch=6)
    folder = f"{CGROUPS}/pods/a/hugetlb.2MB"
    assert render(host, f"{folder}.max") == f"{4 * SIZE}\n"
    assert render(host, f"{folder}.current") == f"{4 * SIZE}\n"
    assert render(host, f"{folder}.rsvd.max") == "max\n"
    assert render(host, f"{folder}.rsvd.current") == f"{6 * SIZE}\n"
    assert render(host, f"{folder}.events") == render(host, f"{folder}.events.local") == "max 1\n"
    assert render(host, f"{folder}.numa_stat") == f"total={4 * SIZE} N0={4 * SIZE} N1=0\n"
    assert render(host, f"{CGROUPS}/pods/a/cgroup.procs") == f"{pid}\n"
    assert render(host, f"{CGROUPS}/pods/cgroup.subtree_control") == "hugetlb\n"
    assert render(host, f"{CGROUPS}/pods/a/cgroup.subtree_control") == ""
    assert render(host, f"{CGROUPS}/cgroup.controllers") == "hugetlb\n"
    assert "a" in {entry.name for entry in listdir(host, f"{CGROUPS}/pods")}
    assert "hugetlb.1GB.max" in {entry.name for entry in listdir(host, f"{CGROUPS}/pods/a")}
    assert not any(entry.name.startswith("hugetlb") for entry in listdir(host, CGROUPS))


def test_an_older_kernel_has_no_numa_stat() -> None:
    host = pool(kernel="5.14")
    limited(host, "a", None)
    assert not any("numa" in entry.name for entry in listdir(host, f"{CGROUPS}/a"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [("20M", "20971520"), ("5000000\n", "4194304"), (" 0x200000 ", "2097152"), ("0", "0"), ("max", "max"),
     ("8E", "max"), ("9223372036854775807", "max")],
    ids=repr,
)  # fmt: skip
def test_a_limit_is_bytes_or_a_size_rounded_down_to_pages(text: str, shown: str) -> None:
    host = pool()
    limited(host, "a", 7)
    write(host, "a/hugetlb.2MB.max", text)
    assert render(host, f"{CGROUPS}/a/hugetlb.2MB.max") == f"{shown}\n"


@pytest.mark.parametrize(
    ("file", "text", "errno"),
    [
        ("hugetlb.2MB.max", "garbage", "EINVAL"),
        ("hugetlb.2MB.max", "-1", "EINVAL"),
        ("hugetlb.2MB.max", "2MB", "EINVAL"),
        ("hugetlb.2MB.rsvd.max", "1 2", "EINVAL"),
        ("hugetlb.2MB.current", "0", "EINVAL"),
        ("cgroup.procs", "abc", "EINVAL"),
        ("cgroup.procs", "-5", "EINVAL"),
        ("cgroup.procs", "77", "ESRCH"),
        ("cgroup.subtree_control", "hugetlb", "EINVAL"),
        ("cgroup.subtree_control", "+nonsense", "EINVAL"),
        ("cgroup.subtree_control", "+memory", "ENOENT"),
        ("hugetlb.64KB.max", "1", "ENOENT"),
        ("b/cgroup.procs", "1", "ENOENT"),
    ],
)
def test_a_write_that_a_file_does_not_take_changes_nothing(file: str, text: str, errno: str) -> None:
    host = pool()
    limited(host, "a", 7)
    before = digest(host)
    with pytest.raises(MMError) as refusal:
        write(host, f"a/{file}", text)
    assert refusal.value.errno == errno
    assert digest(host) == before


def test_tasks_and_controllers_are_written_through_files() -> None:
    host = pool()
    pid = task(host, "", 2)
    write(host, "cgroup.subtree_control", "+hugetlb")
    do(host, c.MakeCgroup("kube"))
    write(host, "kube/cgroup.procs", f"{pid}\n")
    write(host, "kube/hugetlb.2MB.max", "2M")
    assert do(host, c.TouchHugePages(pid, 0, 2))["touched"] == 1
    write(host, "cgroup.procs", str(pid))
    write(host, "cgroup.subtree_control", "-hugetlb -memory")
    assert not any(entry.name.startswith("hugetlb") for entry in listdir(host, f"{CGROUPS}/kube"))
    assert_laws(host)
