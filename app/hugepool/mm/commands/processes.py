"""Processes that begin with what they use, fork, and end."""

from dataclasses import replace

import numpy as np

from hugepool.mm.commands import commands as c
from hugepool.mm.commands.huge_maps import map_huge_pages, unmap_all
from hugepool.mm.commands.reclaim import fill_cache
from hugepool.mm.commands.registry import handles
from hugepool.mm.commands.task import find, find_process, give_back, grow, pin, start
from hugepool.mm.kernel.filemap import drop_owner
from hugepool.mm.kernel.hugetlb_fault import fork_mapping
from hugepool.mm.machine import task_outcomes as outcomes
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.mmzone import Mask, Pfns, Use
from hugepool.mm.machine.outcomes import shallow, vmemmap_of
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.rmap import from_runs, to_runs
from hugepool.mm.machine.state import Call, Host, Task
from hugepool.mm.machine.task_outcomes import ExitedTask, StartedTask


@handles(c.CreateTask)
def create(host: Host, call: Call, cmd: c.CreateTask) -> StartedTask:
    """Start a process and let it use memory at once, all or nothing (a SIGBUS keeps what was touched).

    Raises:
        MMError: EINVAL no such CPU; ENOMEM when mmap is refused, or when single pages run out and nobody may be killed
            (reason ``oom``); nothing is kept.
    """
    begun = start(host, call, c.StartTask(cmd.kind, cmd.comm, cmd.policy_mode, cmd.policy_nodes, cpu=cmd.cpu,
                                          mlock=cmd.mlock, node=cmd.node, cgroup=cmd.cgroup))  # fmt: skip
    pid = begun.pid
    if cmd.kind == "cache":
        fill_cache(host, call, c.FillCache(pid, cmd.pages, cmd.node, cmd.clean))
    elif cmd.kind != "hugetlb":
        shown = outcomes.Task.of(host, find(host, pid))
        grown = grow(host, call, c.GrowTask(pid, cmd.kind, cmd.pages, cmd.node))
        if pid not in host.tasks:
            return StartedTask(**shallow(shown), signal="SIGKILL", reason=Reason.OOM, oom=grown.oom)
        if cmd.pinned:
            pin(host, find(host, pid))
        return StartedTask(**shallow(outcomes.Task.of(host, find(host, pid))), oom=grown.oom)
    if cmd.kind != "hugetlb":
        return StartedTask(**shallow(outcomes.Task.of(host, find(host, pid))))
    wanted = c.MapHugePages(
        pid, cmd.order, cmd.count, cmd.shared, cmd.noreserve, cmd.touch, cmd.file, cmd.offset
    )
    try:
        mapped = map_huge_pages(host, call, wanted)
    except MMError:
        del host.tasks[pid]
        raise
    return StartedTask(**{**shallow(mapped), **shallow(outcomes.Task.of(host, find(host, pid)))})


@handles(c.ForkTask)
def fork(host: Host, call: Call, cmd: c.ForkTask) -> outcomes.Task:
    """Fork a process: huge pages of private mappings are shared until one of both writes.

    Single pages count for the parent; when it ends, a child keeps those that were there at the fork.
    """
    parent = find_process(host, cmd.pid)
    movable = int((host.mem.uses_of(from_runs(parent.runs)) == Use.ANON).sum())
    child = replace(parent, pid=host.next_pid, comm=cmd.comm or parent.comm, parent=parent.pid, swapped=0,
                    policy_nodes=list(parent.policy_nodes), runs=[], mlock=False, shares=movable or parent.shares,
                    maps={n: fork_mapping(host, mapping) for n, mapping in parent.maps.items()})  # fmt: skip
    host.next_pid += 1
    host.tasks[child.pid] = child
    call.emit(Event.TASK_FORKED, pid=child.pid, parent=parent.pid)
    return outcomes.Task.of(host, child)


@handles(c.ExitTask)
def exit_task(host: Host, call: Call, cmd: c.ExitTask) -> ExitedTask:
    """End a process: its huge pages go in the order their mappings were made, then its single pages."""
    task = find(host, cmd.pid)
    unmap_all(host, call, task)
    pfns = from_runs(task.runs)
    kept = _leave_to_children(host, task, pfns)
    give_back(host, pfns[~kept])
    freed = int((~kept).sum()) + drop_owner(host, task.pid)
    del host.tasks[task.pid]
    call.emit(Event.TASK_EXITED, pid=task.pid)
    return ExitedTask(task.pid, freed, len(host.deferred), vmemmap_of(call))


def _leave_to_children(host: Host, task: Task, pfns: Pfns) -> Mask:
    """Single pages that a child shares go to the oldest child, whose siblings share them with it from then on."""
    kept = np.zeros(pfns.size, np.bool_)
    children = [child for child in host.tasks.values() if child.parent == task.pid]
    if not children:
        return kept
    heir = children[0]
    movable = np.flatnonzero(host.mem.uses_of(pfns) == Use.ANON)
    kept[movable[: heir.shares]] = True
    heir.runs[:0] = to_runs(pfns[kept])
    heir.parent, heir.shares = task.parent, task.shares
    for sibling in children[1:]:
        sibling.parent = heir.pid
    return kept
