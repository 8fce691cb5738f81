"""Mounts with size= and min_size=, files that several tasks map, SysV segments."""

from typing import Any

import pytest

from hugepool.fs.render import render
from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.machine.digest import digest, fork
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.mappings import Mount
from hugepool.mm.machine.state import Host
from hugepool.mm.views.check import check
from tests.mm.hosts import GIB, assert_laws, do, machine, row

F = "/mnt/h/f"


def pool(pages: int = 30, kernel: str = "6.1") -> Host:
    host = machine(GIB, kernel=kernel)
    do(host, c.SetMaxHugePages(9, pages))
    return host


def mounted(host: Host, maximum: int | None = None, minimum: int | None = None) -> Mount:
    do(host, c.MountHugetlbfs("/mnt/h", 9, maximum, minimum))
    return host.mounts[-1]


def mapped(host: Host, count: int, path: str | None = F, **more: object) -> int:
    command = c.CreateTask("hugetlb", order=None, count=count, file=path, **{"shared": True, **more})  # type: ignore[arg-type]
    return int(do(host, command)["pid"])


def refused(host: Host, command: c.Command[Any]) -> MMError:
    before = digest(host)
    trial = fork(host)
    with pytest.raises(MMError) as refusal:
        apply(trial, command)
    assert digest(host) == before
    return refusal.value


# -- mounts -----------------------------------------------------------------------------------------------


def test_a_minimum_is_reserved_and_given_back() -> None:
    host = pool()
    mounted(host, 20, 10)
    assert row(host)[:3] == (30, 30, 10)
    assert refused(host, c.MountHugetlbfs("/mnt/x", 9, None, 21)).errno == "ENOMEM"
    assert refused(host, c.MountHugetlbfs("/mnt/x", 9, 5, 6)).errno == "EINVAL"
    assert refused(host, c.MountHugetlbfs("/mnt/x", 9, -2)).errno == "EINVAL"
    assert refused(host, c.MountHugetlbfs("relative", 9)).errno == "EINVAL"
    assert refused(host, c.MountHugetlbfs("/mnt/../x", 9)).errno == "EINVAL"
    assert refused(host, c.MountHugetlbfs("/mnt/x", 10)).errno == "ENOENT"
    do(host, c.Umount("/mnt/h"))
    assert row(host)[:3] == (30, 30, 0)
    assert refused(host, c.Umount("/mnt/h")).errno == "ENOENT"
    assert_laws(host)


def test_overcommit_serves_the_minimum_of_a_mount() -> None:
    host = pool(10)
    do(host, c.SetOvercommit(9, 5))
    mounted(host, None, 14)
    assert row(host)[:4] == (14, 14, 14, 4)
    do(host, c.Umount("/mnt/h"))
    do(host, c.RunFreeHpageWork())
    assert row(host)[:4] == (10, 10, 0, 0)
    assert_laws(host)


def test_a_mount_hides_an_older_one_at_its_path() -> None:
    host = pool()
    do(host, c.FallocateFile("/dev/hugepages/old", 2))
    do(host, c.MountHugetlbfs("/dev/hugepages", 9, 4))
    assert refused(host, c.UnlinkFile("/dev/hugepages/old")).errno == "ENOENT"
    assert do(host, c.FallocateFile("/dev/hugepages/old", 4))["allocated"] == 4  # in the new one
    do(host, c.Umount("/dev/hugepages"))
    assert do(host, c.UnlinkFile("/dev/hugepages/old"))["freed"] == 2
    assert_laws(host)


def test_proc_mounts_lists_limits_in_bytes() -> None:
    host = machine(4 * GIB, cmdline="hugepagesz=1G hugepages=2", kernel="6.1")
    do(host, c.MountHugetlbfs("/mnt/a b", 18, 2, 1))
    assert render(host, "/proc/mounts").splitlines()[-2:] == [
        "hugetlbfs /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0",
        "hugetlbfs /mnt/a\\040b hugetlbfs rw,relatime,pagesize=1024M,size=2147483648,min_size=1073741824 0 0",
    ]


# -- size= ------------------------------------------------------------------------------------------------


def test_pages_promises_and_private_copies_count_for_the_size() -> None:
    host = pool(50)
    mount = mounted(host, 10)
    refusal = refused(host, c.CreateTask("hugetlb", order=None, count=11, file=F, shared=True))
    assert (refusal.errno, refusal.reason, refusal.facts["limit"]) == ("ENOMEM", "mount-full", 10)
    first = mapped(host, 8)
    mapped(host, 8)  # the same file: nothing more
    assert (mount.used, row(host)[2]) == (8, 8)
    mapped(host, 4, offset=6)
    assert (mount.used, row(host)[2]) == (10, 10)
    private = do(host, c.CreateTask("hugetlb", order=None, count=3, touch=1, noreserve=True, file=F))
    assert (private["signal"], private["reason"]) == ("SIGBUS", "mount-full")
    assert private["facts"] == {"mount": "/mnt/h", "limit": 10, "used": 10}
    do(host, c.TouchHugePages(first, 0, 4, 0))
    do(host, c.PunchFile(F, 2))
    assert (mount.used, row(host)[:3]) == (8, (50, 48, 6))
    assert do(host, c.TouchHugePages(private["pid"], 0, 3, 0))["touched"] == 2
    assert mount.used == 10
    assert_laws(host)


def test_a_file_that_cannot_be_filled_keeps_what_it_got_and_not_the_size() -> None:
    host = pool(50)
    mounted(host, 10)
    outcome = apply(host, c.FallocateFile(F, 12))
    assert outcome.error is not None
    assert (outcome.error.errno, outcome.error.reason) == ("ENOSPC", "mount-full")
    assert (outcome.result.allocated, outcome.result.count, outcome.result.blocks) == (10, 0, 40960)
    assert row(host)[1] == 40
    assert_laws(host)


# -- min_size= --------------------------------------------------------------------------------------------


def test_the_arithmetic_of_a_minimum() -> None:
    host = pool(50)
    mounted(host, None, 10)
    pid = mapped(host, 6)
    assert row(host)[:3] == (50, 50, 10)
    do(host, c.TouchHugePages(pid, 0, 3))
    assert row(host)[:3] == (50, 47, 7)
    other = mapped(host, 10, "/mnt/h/g")  # four of the minimum, six of the pool
    assert row(host)[:3] == (50, 47, 13)
    do(host, c.TouchHugePages(other, 0, 10))
    assert row(host)[:3] == (50, 37, 3)
    do(host, c.TruncateFile("/mnt/h/g", 0))
    assert row(host)[:3] == (50, 47, 13)
    assert_laws(host)


@pytest.mark.parametrize("kernel", ["5.14", "6.1", "6.12"])
def test_a_refused_mapping_gives_the_minimum_too_much(kernel: str) -> None:
    host = pool(30, kernel)
    mount = mounted(host, 20, 10)
    do(host, c.FallocateFile("/mnt/h/n", 1))
    pid = mapped(host, 20, None, shared=False)
    assert (row(host)[:3], mount.rsv) == ((30, 29, 29), 9)
    outcome = apply(host, c.CreateTask("hugetlb", order=None, count=12, file=F, shared=True))
    assert outcome.error is not None
    assert (outcome.error.errno, mount.rsv, host.hstates[9].resv_drift) == ("ENOMEM", 10, -1)
    mapped(host, 10)
    assert row(host)[:3] == (30, 29, 29)  # promised twice
    do(host, c.FallocateFile(F, 10))
    assert do(host, c.TouchHugePages(pid, 0, 20))["touched"] == 19
    assert_laws(host)
    assert any(law.known_defect for law in check(host))


def test_a_newer_kernel_gives_a_mount_back_what_it_gave() -> None:
    host = pool(30, "6.18")
    mount = mounted(host, 20, 10)
    do(host, c.FallocateFile("/mnt/h/n", 1))
    mapped(host, 20, None, shared=False)
    refused(host, c.CreateTask("hugetlb", order=None, count=12, file=F, shared=True))
    assert (mount.rsv, mount.used) == (9, 1)
    pid = mapped(host, 4, shared=False, touch=4)
    child = int(do(host, c.ForkTask(pid))["pid"])
    assert do(host, c.TouchHugePages(child, 0, 4, 0))["touched"] == 4  # out of the minimum, and counted
    assert host.hstates[9].resv_drift == 0
    touched = do(
        host, c.CreateTask("hugetlb", order=None, count=3, touch=3, file=F, shared=True, noreserve=True)
    )
    assert (touched["touched"], touched["reason"]) == (1, "pool-exhausted")
    assert (mount.rsv, mount.used, host.hstates[9].resv_drift) == (0, 10, 0)
    assert_laws(host)
    assert not any(law.known_defect for law in check(host))


def test_the_reserve_count_goes_below_zero_with_that_defect() -> None:
    host = pool(30)
    mounted(host, 20, 10)
    do(host, c.FallocateFile("/mnt/h/n", 1))
    pid = mapped(host, 20, None, shared=False)
    apply(host, c.CreateTask("hugetlb", order=None, count=12, file=F, shared=True))
    do(host, c.ExitTask(pid))
    do(host, c.Umount("/mnt/h"))
    assert render(host, "/sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages") == f"{2**64 - 1}\n"
    assert ["HugePages_Rsvd:", f"{2**64 - 1}"] in map(str.split, render(host, "/proc/meminfo").splitlines())
    assert_laws(host)


def test_a_childs_copy_out_of_a_minimum_leaves_a_reservation_for_ever() -> None:
    host = pool(30)
    mounted(host, 20, 10)
    pid = mapped(host, 4, shared=False, touch=4)
    child = int(do(host, c.ForkTask(pid))["pid"])
    do(host, c.TouchHugePages(child, 0, 1, 0))
    for each in (child, pid):
        do(host, c.ExitTask(each))
    do(host, c.Umount("/mnt/h"))
    assert row(host)[:3] == (30, 30, 1)
    assert host.hstates[9].resv_drift == 1
    assert_laws(host)


@pytest.mark.parametrize(("kernel", "reserved"), [("5.14", 6), ("6.1", 5), ("6.12", 5)])
def test_an_owners_copy_uses_up_a_promise_of_the_minimum(kernel: str, reserved: int) -> None:
    host = pool(30, kernel)
    mounted(host, 20, 10)
    pid = mapped(host, 4, shared=False, touch=4)
    do(host, c.ForkTask(pid))
    do(host, c.TouchHugePages(pid, 0, 1, 0))
    assert row(host)[:3] == (30, 25, reserved)
    assert_laws(host)


@pytest.mark.parametrize(("kernel", "reserved"), [("6.1", 0), ("6.12", 4)])
def test_what_an_owner_gives_up_is_promised_anew(kernel: str, reserved: int) -> None:
    host = pool(30, kernel)
    pid = mapped(host, 4, None, shared=False, touch=4)
    do(host, c.AdviseHugePages(pid, 0, "dontneed"))
    assert row(host)[:3] == (30, 30, reserved)
    assert_laws(host)
    do(host, c.UnmapHugePages(pid, 0))
    assert row(host)[:3] == (30, 30, 0)
    assert_laws(host)


def test_nothing_is_promised_anew_while_a_child_has_the_page_or_there_is_surplus() -> None:
    host = pool(30, "6.12")
    pid = mapped(host, 4, None, shared=False, touch=4)
    child = int(do(host, c.ForkTask(pid))["pid"])
    do(host, c.AdviseHugePages(pid, 0, "dontneed"))
    assert row(host)[:3] == (30, 26, 0)
    do(host, c.ExitTask(child))
    assert row(host)[:3] == (30, 30, 0)
    do(host, c.SetOvercommit(9, 10))
    other = mapped(host, 32, None, shared=False, touch=4)
    do(host, c.AdviseHugePages(other, 0, "dontneed"))
    assert row(host)[2] == 28
    assert_laws(host)


def test_a_private_copy_on_a_mount_with_limits_cannot_be_migrated() -> None:
    host = machine(GIB, cmdline="movablecore=512M", kernel="6.1")
    do(host, c.SetMaxHugePages(9, 20))
    mounted(host, 20)
    task = host.tasks[mapped(host, 3, touch=1)]  # a page of the file moves
    private = host.tasks[mapped(host, 3, "/mnt/h/p", shared=False, touch=1)]
    (of_file,) = host.files[task.maps[0].file_id or 0].pages.values()
    (copy,) = private.maps[0].pages.values()
    assert of_file // 64 == copy // 64  # both in one memory block
    refusal = apply(host, c.AllocContigRange(copy * 512, copy * 512 + 512)).error
    assert refusal is not None
    assert (refusal.errno, refusal.reason) == ("EBUSY", "not-migratable")
    outcome = apply(host, c.SetBlockState(copy // 64, "offline"))
    assert outcome.error is not None
    assert (outcome.error.errno, outcome.error.reason) == ("EINTR", "livelock")
    assert copy in private.maps[0].pages.values()
    moved = {data["pfn"] for event, data in outcome.events if event == "HugePageMigrated"}
    assert of_file * 512 in moved
    assert copy * 512 not in moved
    assert_laws(host)


# -- files ------------------------------------------------------------------------------------------------


def test_a_file_keeps_its_promises_until_it_goes() -> None:
    host = pool()
    mounted(host)
    pid = mapped(host, 6, touch=2)
    do(host, c.ExitTask(pid))
    assert row(host)[:3] == (30, 28, 4)
    do(host, c.TruncateFile(F, 3))
    assert row(host)[:3] == (30, 28, 1)
    do(host, c.TruncateFile(F, 9))  # longer again: nothing is promised
    assert row(host)[:3] == (30, 28, 1)
    assert do(host, c.UnlinkFile(F))["freed"] == 2
    assert row(host)[:3] == (30, 30, 0)
    assert_laws(host)


def test_an_unlinked_file_lives_while_it_is_mapped() -> None:
    host = pool()
    mounted(host)
    pid = mapped(host, 3, touch=3)
    answer = do(host, c.UnlinkFile(F))
    assert (answer["freed"], answer["mapped"]) == (0, True)
    assert refused(host, c.Umount("/mnt/h")).reason == "mount-busy"
    other = do(host, c.FallocateFile(F, 1))  # another file of the same name
    assert other["pages"] == 1
    do(host, c.ExitTask(pid))
    assert row(host)[1] == 29
    assert do(host, c.Umount("/mnt/h"))["freed"] == 1
    assert_laws(host)


def test_a_hole_frees_pages_and_the_next_touch_takes_an_unpromised_one() -> None:
    host = pool(4)
    mounted(host)
    pid = mapped(host, 4, touch=4)
    do(host, c.PunchFile(F, 2, 1))
    assert row(host)[:3] == (4, 2, 0)
    mapped(host, 2, None)
    answer = do(host, c.TouchHugePages(pid, 0, 4, 0))
    assert (answer["touched"], answer["reason"]) == (1, "pool-exhausted")
    assert_laws(host)


@pytest.mark.parametrize(("kernel", "errno"), [("5.14", "EINVAL"), ("6.1", None)])
def test_advice_frees_private_pages_or_punches_the_file(kernel: str, errno: str | None) -> None:
    host = pool(30, kernel)
    mounted(host)
    private = mapped(host, 3, None, shared=False, touch=3)
    shared = mapped(host, 3, touch=3)
    if errno:
        assert refused(host, c.AdviseHugePages(private, 0, "dontneed")).errno == errno
    else:
        assert do(host, c.AdviseHugePages(private, 0, "dontneed"))["freed"] == 3
        assert do(host, c.AdviseHugePages(shared, 0, "dontneed"))["freed"] == 0
    assert refused(host, c.AdviseHugePages(private, 0, "remove")).errno == "EINVAL"
    assert refused(host, c.AdviseHugePages(private, 0, "hugepage")).errno == "EINVAL"
    assert do(host, c.AdviseHugePages(shared, 0, "remove"))["freed"] == 3
    assert_laws(host)


@pytest.mark.parametrize("kernel", ["5.14", "6.1"])
def test_a_page_behind_the_end_of_a_file(kernel: str) -> None:
    """Pages of a failed fallocate lie behind the end: older kernels ask for the size first."""
    host = pool(6, kernel)
    mounted(host)
    pid = mapped(host, 6)
    do(host, c.TruncateFile(F, 1))
    apply(host, c.FallocateFile(F, 9, 1))
    answer = do(host, c.TouchHugePages(pid, 0, 3, 0))
    assert (answer["touched"], answer["reason"]) == (
        (1, "beyond-end-of-file") if kernel == "5.14" else (3, None)
    )


@pytest.mark.parametrize(
    ("command", "errno"),
    [
        (c.FallocateFile("/elsewhere/f", 1), "ENOENT"),
        (c.FallocateFile("/mnt/h/../f", 1), "EINVAL"),
        (c.FallocateFile(F, 0), "EINVAL"),
        (c.FallocateFile(F, 1, -1), "EINVAL"),
        (c.FallocateFile(F, 1, 0, 77), "ENOENT"),
        (c.PunchFile("/mnt/h/none", 1), "ENOENT"),
        (c.TruncateFile(F, -1), "EINVAL"),
        (c.UnlinkFile("/mnt/h/none"), "ENOENT"),
        (c.CreateTask("hugetlb", order=18, count=1, file=F, shared=True), "EINVAL"),
        (c.CreateTask("hugetlb", order=None, count=1, file="/elsewhere/f"), "ENOENT"),
        (c.CreateTask("hugetlb", count=1, offset=3), "EINVAL"),
        (c.CreateTask("hugetlb", order=None, count=1, file=F, offset=-1), "EINVAL"),
    ],
    ids=str,
)
def test_what_cannot_be_done_with_files_changes_nothing(command: c.Command[Any], errno: str) -> None:
    host = machine(4 * GIB, cmdline="hugepagesz=1G hugepages=1", kernel="6.1")
    mounted(host)
    assert refused(host, command).errno == errno


# -- SysV segments ----------------------------------------------------------------------------------------


def test_a_segment_is_reserved_as_it_is_made_and_goes_with_its_last_mapping() -> None:
    host = pool()
    made = do(host, c.MakeSegment(42, 9, 5))
    assert (made["path"], row(host)[:3]) == ("SYSV0000002a", (30, 30, 5))
    assert refused(host, c.MakeSegment(42, 9, 5)).errno == "EEXIST"
    assert refused(host, c.MakeSegment(43, 9, 26)).errno == "ENOMEM"
    pids = [mapped(host, 5, "SYSV0000002a", touch=3) for _ in range(2)]
    assert row(host)[:3] == (30, 27, 2)
    assert refused(host, c.TruncateFile("SYSV0000002a", 1)).errno == "EINVAL"
    assert refused(host, c.MapHugePages(pids[0], None, 2, shared=True, file="SYSV0000002a")).errno == "EINVAL"
    do(host, c.UnlinkFile("SYSV0000002a"))
    do(host, c.ExitTask(pids[0]))
    assert row(host)[:3] == (30, 27, 2)
    do(host, c.ExitTask(pids[1]))
    assert row(host)[:3] == (30, 30, 0)
    assert_laws(host)


def test_only_a_group_or_a_privilege_makes_huge_segments() -> None:
    host = pool()
    refusal = refused(host, c.MakeSegment(1, 9, 1, groups=(100, 1001)))
    assert (refusal.errno, refusal.reason, refusal.facts["group"]) == ("EPERM", "not-in-shm-group", 0)
    do(host, c.SetShmGroup(1001))
    assert render(host, "/proc/sys/vm/hugetlb_shm_group") == "1001\n"
    do(host, c.MakeSegment(1, 9, 1, groups=(100, 1001)))
    assert refused(host, c.SetShmGroup(-1)).errno == "EINVAL"
    assert refused(host, c.MakeSegment(2, 9, 0)).errno == "EINVAL"
    assert refused(host, c.MakeSegment(-2, 9, 1)).errno == "EINVAL"
