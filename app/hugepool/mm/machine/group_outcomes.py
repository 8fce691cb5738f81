"""Answers about cgroups, hugetlbfs mounts and files, as plain data; all counts are huge pages."""

from dataclasses import dataclass

from hugepool.mm.machine.state import VmemmapDelta


@dataclass(frozen=True, slots=True)
class CgroupCounters:
    """What a cgroup has of one huge page size.

    Attributes:
        max: how many pages it may have; null: no limit.
        current: pages charged to it and to all below.
        failcnt: how often this limit refused a page.
        rsvd_max: how many pages it may reserve; null: no limit.
        rsvd_current: reservations charged to it and to all below.
        rsvd_failcnt: how often this limit refused a reservation.
        events_max: refusals of its tasks and of those below, whatever limit refused.
        events_local_max: refusals of its own tasks.
    """

    max: int | None
    current: int
    failcnt: int
    rsvd_max: int | None
    rsvd_current: int
    rsvd_failcnt: int
    events_max: int
    events_local_max: int


@dataclass(frozen=True, slots=True)
class Cgroup:
    """A control group.

    Attributes:
        path: below /sys/fs/cgroup; the root: empty.
        hugetlb: by huge page size; empty where the cgroup above does not pass the controller on, and for the root.
        controllers: what it can pass on.
        subtree_control: what it passes on; such a cgroup takes no tasks.
        tasks: pids of the tasks in it.
        children: paths of the cgroups in it.
    """

    path: str
    hugetlb: dict[str, CgroupCounters]
    controllers: list[str]
    subtree_control: list[str]
    tasks: list[int]
    children: list[str]


@dataclass(frozen=True, slots=True)
class HugetlbfsMount:
    """A hugetlbfs mount.

    Attributes:
        path: where it is mounted.
        size: its huge page size, as sysfs writes it.
        max: `size=`; null: no limit.
        min: `min_size=`, reserved for it in the pool; null: nothing.
        used: pages and reservations that count for `max`; null without one.
        min_left: what is reserved of `min` and not used.
        pages: pages of its files.
        files: paths of its files; unlinked ones have none.
    """

    path: str
    size: str
    max: int | None
    min: int | None
    used: int | None
    min_left: int
    pages: int
    files: list[str]


@dataclass(frozen=True, slots=True)
class HugetlbFile:
    """A file of huge pages, or a SysV segment.

    Attributes:
        path: where it is; null: unlinked and still mapped, or shared anonymous memory.
        size: its huge page size, as sysfs writes it.
        count: its length in huge pages (st_size).
        pages: pages that are there.
        reserved: pages that are promised and not there.
        blocks: units of 512 bytes that are there (st_blocks).
        segment: it is a SysV segment.
        pids: tasks that map it.
    """

    path: str | None
    size: str
    count: int
    pages: int
    reserved: int
    blocks: int
    segment: bool
    pids: list[int]


# -- what commands did -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RemovedCgroup:
    """A cgroup that is gone."""

    path: str


@dataclass(frozen=True, slots=True)
class MountedHugetlbfs(HugetlbfsMount):
    """A mount that was just made.

    Attributes:
        injected_fault: an armed fault point refused a request of it.
    """

    injected_fault: bool = False


@dataclass(frozen=True, slots=True)
class Unmounted:
    """A mount that is gone, and what became of its files.

    Attributes:
        files: how many it had.
        freed: huge pages of theirs that nobody has any more.
        queued: huge pages that wait for the worker that frees them.
        injected_fault: an armed fault point refused a request of it.
    """

    path: str
    files: int
    freed: int
    queued: int
    vmemmap: VmemmapDelta
    injected_fault: bool = False


@dataclass(frozen=True, slots=True)
class ChangedFile(HugetlbFile):
    """A file after a change.

    Attributes:
        allocated: huge pages that it got.
        freed: huge pages of it that nobody has any more.
        queued: huge pages that wait for the worker that frees them.
        injected_fault: an armed fault point refused a request of it.
    """

    allocated: int
    freed: int
    queued: int
    vmemmap: VmemmapDelta
    injected_fault: bool = False


@dataclass(frozen=True, slots=True)
class UnlinkedFile:
    """A file or a SysV segment that has no name any more.

    Attributes:
        freed: huge pages of it that nobody has any more.
        mapped: a task maps it still, and it keeps its pages until then.
        queued: huge pages that wait for the worker that frees them.
        injected_fault: an armed fault point refused a request of it.
    """

    path: str
    freed: int
    mapped: bool
    queued: int
    vmemmap: VmemmapDelta
    injected_fault: bool = False


@dataclass(frozen=True, slots=True)
class MadeSegment(HugetlbFile):
    """A SysV segment that was just made.

    Attributes:
        injected_fault: an armed fault point refused a request of it.
    """

    vmemmap: VmemmapDelta
    injected_fault: bool = False
