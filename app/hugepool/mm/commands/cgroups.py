"""Control groups: making, limiting and removing them, and moving tasks."""

from typing import get_args

from hugepool.mm.commands import commands as c
from hugepool.mm.commands.pool import hstate
from hugepool.mm.commands.registry import handles
from hugepool.mm.kernel import cgroup, hugetlb_cgroup
from hugepool.mm.machine.cgroups import ROOT
from hugepool.mm.machine.errors import BadInput, MMError
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.group_outcomes import Cgroup, CgroupCounters, RemovedCgroup
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Call, Host, HState
from hugepool.mm.machine.task_outcomes import Task

NO_LIMIT = (1 << 63) - 1 >> 12  # pages of 4 KiB from which on a limit reads back as max


@handles(c.MakeCgroup)
def make(host: Host, call: Call, cmd: c.MakeCgroup) -> Cgroup:
    """mkdir, with those above where asked.

    Raises:
        MMError: EINVAL a bad name; ENOENT no cgroup above; EEXIST; EBUSY tasks are in one above that would have to
            pass the controller on.
    """
    cgroup.check_path(cmd.path)
    names = cmd.path.split("/")
    above = ["/".join(names[:depth]) for depth in range(len(names))] if cmd.parents else []
    for path in above:
        if path not in host.cgroups:
            cgroup.make(host, path)
        cgroup.enable(host, path)
    cgroup.make(host, cmd.path)
    call.emit(Event.CGROUP_MADE, path=cmd.path)
    return cgroup_view(host, cmd.path)


@handles(c.PutCgroup)
def put(host: Host, call: Call, cmd: c.PutCgroup) -> Cgroup:
    """A cgroup with limits: it is made, with those above, where it is not there.

    Raises:
        MMError: as for making a cgroup and for setting a limit; then nothing is kept.
    """
    if cmd.path not in host.cgroups:
        make(host, call, c.MakeCgroup(cmd.path, parents=True))
    for order, kind, limit in cmd.limits:
        set_limit(host, call, c.SetCgroupLimit(cmd.path, order, kind, limit))
    return cgroup_view(host, cmd.path)


@handles(c.RemoveCgroup)
def remove(host: Host, call: Call, cmd: c.RemoveCgroup) -> RemovedCgroup:
    """rmdir.  Raises ENOENT; EBUSY with tasks or cgroups in it."""
    cgroup.remove(host, cmd.path)
    call.emit(Event.CGROUP_REMOVED, path=cmd.path)
    return RemovedCgroup(cmd.path)


@handles(c.SetCgroupLimit)
def set_limit(host: Host, call: Call, cmd: c.SetCgroupLimit) -> Cgroup:
    """Set a limit.

    Raises:
        MMError: EINVAL a negative number; ENOENT no such cgroup or size; EBUSY more is charged than the new limit.
    """
    if cmd.kind not in get_args(hugetlb_cgroup.Kind):
        raise BadInput(f"must be one of {', '.join(hugetlb_cgroup.KINDS)}, not {cmd.kind!r}", where="kind")
    if cmd.limit is not None and cmd.limit < 0:
        raise BadInput(f"must be 0 or more, not {cmd.limit}", where="max")
    hs, group = hstate(host, cmd.order), cgroup.hugetlb(host, cmd.path)
    limit = None if cmd.limit is None or cmd.limit >= NO_LIMIT >> hs.order else cmd.limit
    kind: hugetlb_cgroup.Kind = "pages" if cmd.kind == "pages" else "reservations"
    hugetlb_cgroup.set_limit(group, kind, hs.order, limit)
    call.emit(Event.CGROUP_LIMIT_SET, path=cmd.path, size=hs.size, kind=cmd.kind, limit=limit)
    return cgroup_view(host, cmd.path)


@handles(c.SetSubtreeControl)
def set_subtree_control(host: Host, call: Call, cmd: c.SetSubtreeControl) -> Cgroup:
    """Switch the controller on or off for what is in a cgroup.  Raises ENOENT, EBUSY."""
    (cgroup.enable if cmd.enabled else cgroup.disable)(host, cmd.path)
    call.emit(Event.SUBTREE_CONTROL_SET, path=cmd.path, enabled=cmd.enabled)
    return cgroup_view(host, cmd.path)


@handles(c.MoveTask)
def move_task(host: Host, call: Call, cmd: c.MoveTask) -> Task:
    """Move a task to a cgroup; what is charged stays where it is.

    Raises:
        MMError: ENOENT no such cgroup; ESRCH no such task; EBUSY a cgroup that passes the controller on.
    """
    cgroup.find(host, cmd.cgroup)
    if cmd.pid not in host.tasks:
        raise MMError("ESRCH", f"no task {cmd.pid} on this host", reason=Reason.NO_SUCH_TASK)
    task = host.tasks[cmd.pid]
    cgroup.attach(host, task, cmd.cgroup)
    call.emit(Event.TASK_MOVED, pid=task.pid, cgroup=cmd.cgroup)
    return Task.of(host, task)


def cgroup_view(host: Host, path: str) -> Cgroup:
    """A cgroup as answers show it.  Raises ENOENT."""
    group = cgroup.find(host, path)
    on = group.cgroup_id != ROOT
    return Cgroup(
        path,
        {hs.size: _counters(host, group.cgroup_id, hs) for hs in host.hstates.values() if on},
        ["hugetlb"] if cgroup.available(host, path) else [],
        ["hugetlb"] if group.subtree_control else [],
        [task.pid for task in cgroup.tasks_in(host, path)],
        [child.path for child in cgroup.children(host, path)],
    )


def _counters(host: Host, number: int, hs: HState) -> CgroupCounters:
    group = host.hugetlb_cgroups[number]
    pages, reserved = group.pages[hs.order], group.reservations[hs.order]
    return CgroupCounters(pages.max, pages.usage, pages.failcnt, reserved.max, reserved.usage, reserved.failcnt,
                          group.events[hs.order], group.events_local[hs.order])  # fmt: skip
