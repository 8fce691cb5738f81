"""Processes: who uses the memory.  Their life, and movable and unmovable single pages."""

from typing import Any

import numpy as np

from hugepool.mm.commands import commands as c
from hugepool.mm.commands import oom
from hugepool.mm.commands.registry import handles
from hugepool.mm.kernel import cgroup
from hugepool.mm.kernel.hugetlb_reserve import policy_of
from hugepool.mm.kernel.hugetlb_resv_map import Asker
from hugepool.mm.kernel.hugetlb_vmemmap import leading
from hugepool.mm.kernel.page_alloc import alloc_pages, allocatable, node_zonelist, zonelist
from hugepool.mm.kernel.page_isolation import pages_of_use
from hugepool.mm.kernel.pcp import free_movable_pages
from hugepool.mm.kernel.vmscan import make_room, reclaimable_in
from hugepool.mm.machine import task_outcomes as outcomes
from hugepool.mm.machine.errors import BadInput, MMError, NotFound
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.mmzone import ZONE_MOVABLE, ZONE_NORMAL, Mask, Migrate, Pfns, Use, Zone
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.rmap import from_runs, to_runs
from hugepool.mm.machine.state import Call, Host, Task
from hugepool.mm.machine.task_outcomes import KilledTask, TaskPages
from hugepool.mm.machine.units import PAGEBLOCK_PAGES, ULONG_MAX

KINDS = {
    "anon": (Use.ANON, Migrate.MOVABLE, ZONE_MOVABLE),
    "kernel": (Use.KERNEL, Migrate.UNMOVABLE, ZONE_NORMAL),
}
POLICY_MODES = ("default", "bind", "interleave", "preferred", "local")
GROW_STEP = 1 << 20


# -- processes --------------------------------------------------------------------------------------------


@handles(c.StartTask)
def start(host: Host, call: Call, cmd: c.StartTask) -> outcomes.Task:
    """Begin a process with its resident memory.

    Raises:
        MMError: EINVAL no such node or CPU; ENOENT no such cgroup; EBUSY one that takes no tasks.
    """
    _check_cpu(host, cmd.cpu)
    _check_policy(host, cmd.policy_mode, cmd.policy_nodes)
    if cmd.node is not None:
        _node(host, cmd.node)
    task = Task(host.next_pid, cmd.kind, cmd.comm, cmd.policy_mode, list(cmd.policy_nodes), cmd.cpu, cmd.mlock,
                cmd.node)  # fmt: skip
    cgroup.attach(host, task, cmd.cgroup)
    host.next_pid += 1
    host.tasks[task.pid] = task
    _take(host, task, "anon", cmd.resident, None)
    _take(host, task, "kernel", cmd.tables, None)
    call.emit(Event.TASK_STARTED, pid=task.pid, kind=task.kind)
    return outcomes.Task.of(host, task)


@handles(c.RunOnCpu)
def run_on_cpu(host: Host, call: Call, cmd: c.RunOnCpu) -> outcomes.Task:
    """Move a task to a CPU: what it takes from now on comes from its node first.  Raises EINVAL: no such CPU."""
    task = find(host, cmd.pid)
    _check_cpu(host, cmd.cpu)
    task.cpu = cmd.cpu
    call.emit(Event.TASK_RUNS_ON_CPU, pid=task.pid, cpu=cmd.cpu)
    return outcomes.Task.of(host, task)


def _check_cpu(host: Host, cpu: int) -> None:
    if cpu and not any(cpu in node.cpus for node in host.nodes):  # an imported machine may name none
        raise BadInput(f"this host has no CPU {cpu}", where="cpu")


@handles(c.SetMempolicy)
def set_mempolicy(host: Host, call: Call, cmd: c.SetMempolicy) -> outcomes.Task:
    """Set a task's memory policy.  Raises EINVAL for an unknown mode or nodes without memory."""
    task = find(host, cmd.pid)
    _check_policy(host, cmd.mode, cmd.nodes)
    task.policy_mode, task.policy_nodes = cmd.mode, list(cmd.nodes)
    call.emit(Event.MEMPOLICY_SET, pid=task.pid, mode=cmd.mode, nodes=list(cmd.nodes))
    return outcomes.Task.of(host, task)


def find(host: Host, pid: int) -> Task:
    """A task by pid.  Raises ENOENT."""
    if pid not in host.tasks:
        raise NotFound(f"no task {pid} on this host", pid=pid)
    return host.tasks[pid]


def find_process(host: Host, pid: int) -> Task:
    """A task that is a process.  Raises ENOENT; EINVAL for what stands for page cache, which can only be removed."""
    task = find(host, pid)
    if task.kind == "cache":
        raise BadInput(f"task {pid} stands for page cache, which is no process", where="pid")
    return task


# -- single pages -----------------------------------------------------------------------------------------


@handles(c.GrowTask)
def grow(host: Host, call: Call, cmd: c.GrowTask) -> TaskPages:
    """Take more single pages.

    Raises:
        MMError: ENOMEM when not all can be allocated and ``partial`` is off: nothing is kept.  A host that may kill
            tasks then kills the largest, maybe this one, and goes on.
    """
    task = find_process(host, cmd.pid)
    if cmd.kind not in KINDS:
        raise BadInput(f"must be one of {', '.join(KINDS)}, not {cmd.kind!r}", where="kind")
    if cmd.node is not None:
        _node(host, cmd.node)
    if cmd.at_most is not None:
        taken = _grow_until(host, task, cmd)
    else:
        taken = _take(host, task, cmd.kind, cmd.pages, cmd.node)
    killed = [] if cmd.partial or cmd.at_most is not None else _kill_for_rest(host, call, task, cmd, taken)
    if killed:
        taken = cmd.pages if task.pid in host.tasks else 0
    call.emit(Event.TASK_GREW, pid=task.pid, kind=cmd.kind, pages=taken)
    return TaskPages(task.pid, taken, oom=killed)


def _kill_for_rest(host: Host, call: Call, task: Task, cmd: c.GrowTask, taken: int) -> list[KilledTask]:
    """Kill tasks until one that wants more pages has all of them, or is killed itself; who was killed.

    Raises:
        MMError: ENOMEM where nobody may be killed, or nobody is left.
    """
    killed: list[KilledTask] = []
    while taken < cmd.pages and task.pid in host.tasks:
        one = oom.kill_largest(host, call, task) if host.oom == "kill" else None
        if one is None:
            raise MMError("ENOMEM", f"only {taken} of {cmd.pages} pages can be allocated above the watermarks",
                          reason=Reason.OOM, pages_needed=cmd.pages, pages_available=taken)  # fmt: skip
        killed.append(one)
        if task.pid in host.tasks:
            taken += _take(host, task, cmd.kind, cmd.pages - taken, cmd.node)
    return killed


def _grow_until(host: Host, task: Task, cmd: c.GrowTask) -> int:
    taken = 0
    at_most = cmd.at_most or 0
    while (left := _margin(host, cmd.until_node, cmd.zone_type) - at_most) > 0:
        step = min(left, GROW_STEP) if not cmd.pages else min(left, GROW_STEP, cmd.pages - taken)
        got = _take(
            host, task, cmd.kind, step - step // PAGEBLOCK_PAGES, cmd.node
        )  # leave room for page tables
        taken += got
        if got == 0:
            break
    return taken


def _margin(host: Host, node: int | None, zone_type: int) -> int:
    nodes = host.nodes if node is None else [host.nodes[node]]
    zones = [zone for n in nodes for zone in n.zones[: zone_type + 1]]
    return allocatable(zones, zone_type) + reclaimable_in(host, zones)


def _take(host: Host, task: Task, kind: str, pages: int, node: int | None) -> int:
    """Take single pages for a task, and a page-table page for each 512 movable ones; the pages taken."""
    if pages <= 0:
        return 0
    use, mt, highest = KINDS[kind]
    zones = zones_of(host, task, node, highest)
    taken = 0
    while taken < pages:
        pfns = alloc_pages(host.mem, zones, pages - taken, mt, highest, use)
        task.runs.extend(to_runs(pfns))  # at once: the oldest of them may go to swap for the rest
        taken += int(pfns.size)
        make_room(host, zones, highest, pages - taken)
        if not pfns.size or not allocatable(zones, highest):
            break
    if kind == "anon":
        tables = taken // PAGEBLOCK_PAGES
        kernel_zones = zones_of(host, task, None, ZONE_NORMAL)
        make_room(host, kernel_zones, ZONE_NORMAL, tables)
        got = alloc_pages(host.mem, kernel_zones, tables, Migrate.UNMOVABLE, ZONE_NORMAL, Use.KERNEL)
        task.runs[:0] = to_runs(got)
    return taken


@handles(c.PinTask)
def pin_task(host: Host, call: Call, cmd: c.PinTask) -> TaskPages:
    """Pin anonymous pages of a task.  Raises ENOENT no such task; ENOMEM as ``pin``; nothing is kept."""
    pinned = pin(host, find(host, cmd.pid), cmd.pages, cmd.skip)
    call.emit(Event.PAGES_PINNED, pid=cmd.pid, pages=pinned)
    return TaskPages(cmd.pid, pinned)


def pin(host: Host, task: Task, pages: int | None = None, skip: int = 0) -> int:
    """A long-term pin of a task's anonymous pages: out of ZONE_MOVABLE and areas of CMA first, and fixed from then on.

    Args:
        pages: how many, the oldest first; None: all.  skip: how many older ones stay as they are.

    Raises:
        MMError: ENOMEM when what has to move finds no place.
    Source: mm/gup.c check_and_migrate_movable_pages() (5.14).
    """
    mem, zones = host.mem, zones_of(host, task, None, ZONE_NORMAL)
    pfns, anon, away = _to_pin(host, task, pages, skip)
    if away.any():
        make_room(host, zones, ZONE_NORMAL, int(away.sum()))
        pfns, anon, away = _to_pin(host, task, pages, skip)  # some may have gone to swap
        count = int(away.sum())
        goal = alloc_pages(mem, zones, count, Migrate.UNMOVABLE, ZONE_NORMAL, Use.ANON)
        if goal.size < count:
            raise MMError("ENOMEM", f"no place for {count - goal.size} pinned pages outside of movable memory",
                          reason=Reason.MIGRATION_TARGET, pages_needed=count,
                          pages_available=int(goal.size))  # fmt: skip
        mem.assign_pages(pfns[away], Use.BUDDY)
        pfns[away] = goal
        task.runs = to_runs(pfns)
    mem.assign_pages(pfns[anon], Use.PINNED)
    return int(anon.sum())


def _to_pin(host: Host, task: Task, pages: int | None, skip: int) -> tuple[Pfns, Mask, Mask]:
    """All pages of a task; which ones are to be pinned, and which of these have to move first."""
    mem, pfns = host.mem, from_runs(task.runs)
    anon = mem.uses_of(pfns) == Use.ANON
    rank = np.cumsum(anon) - 1
    anon &= (rank >= skip) & (rank < skip + (pfns.size if pages is None else pages))
    is_movable = np.array([False] + [zone.type == ZONE_MOVABLE for zone in host.zones])
    blocks = pfns // PAGEBLOCK_PAGES
    return pfns, anon, anon & (is_movable[mem.zone[blocks]] | (mem.mt[blocks] == Migrate.CMA))


def zones_of(host: Host, task: Task, node: int | None, highest: int) -> list[Zone]:
    """The zones that a task takes pages of, in its order."""
    if node is not None:
        return node_zonelist(host.nodes[node], highest)
    local = task.node if task.node is not None else _local_node(host, task)
    if task.policy_mode == "bind":
        return [z for z in zonelist(host.nodes, local, highest) if z.nid in task.policy_nodes]
    if task.policy_mode == "preferred" and task.policy_nodes:
        local = min(task.policy_nodes)
    return zonelist(host.nodes, local, highest)


def _local_node(host: Host, task: Task) -> int:
    """The node of a task's CPU; where that has no memory, the nearest that has."""
    near = next((node for node in host.nodes if task.cpu in node.cpus), host.nodes[0])
    return min(host.memory_nodes(), key=lambda nid: (near.distance[nid], nid))


@handles(c.ShrinkTask)
def shrink(host: Host, call: Call, cmd: c.ShrinkTask) -> TaskPages:
    """Give single pages back: the newest first, or thinned out."""
    task = find_process(host, cmd.pid)
    pfns = from_runs(task.runs)
    empty = 0
    if cmd.keep_of_256 is not None:
        keep = _thinned(host, pfns, cmd.keep_of_256)
    else:
        keep = np.arange(pfns.size) < pfns.size - min(cmd.pages, pfns.size)
        empty = _empty_page_tables(host, pfns, keep)
    freed = int((~keep).sum())
    keep[:empty] = False
    give_back(host, pfns[~keep])
    task.runs = to_runs(pfns[keep])
    call.emit(Event.TASK_SHRANK, pid=task.pid, pages=freed)
    return TaskPages(task.pid, freed)


def _thinned(host: Host, pfns: Pfns, keep_of_256: int) -> Mask:
    """Pages that stay when those are thinned out that a task has most of: the kernel's, or its own."""
    thinned = host.mem.uses_of(pfns) == Use.KERNEL
    if 2 * int(thinned.sum()) < pfns.size:
        thinned = ~thinned
    keep: Mask = ~thinned
    keep[thinned] = np.arange(int(thinned.sum())) % 256 < keep_of_256
    return keep


def _empty_page_tables(host: Host, pfns: Pfns, keep: Mask) -> int:
    """Page tables of a task, first among its pages, that map nothing once the rest is given back.

    Source: mm/pt_reclaim.c try_to_free_pte() (6.14).
    """
    if not host.profile.empty_page_tables_freed:
        return 0
    anon = host.mem.uses_of(pfns) == Use.ANON
    needed = int((anon & keep).sum()) // PAGEBLOCK_PAGES
    return min(int(anon.sum()) // PAGEBLOCK_PAGES - needed, leading(~anon & keep))


def give_back(host: Host, pfns: Pfns) -> None:
    """Free single pages of a task."""
    movable = host.mem.uses_of(pfns) == Use.ANON
    host.mem.assign_pages(pfns[~movable], Use.BUDDY)
    free_movable_pages(host, pfns[movable])


@handles(c.AdoptPages)
def adopt(host: Host, call: Call, cmd: c.AdoptPages) -> TaskPages:
    """Make pages that the machine had in use at import the task's own, highest pfns first."""
    task = find(host, cmd.pid)
    use = Use.SYSTEM_MOVABLE if cmd.kind == "anon" else Use.SYSTEM
    pfns = pages_of_use(host.mem, np.arange(host.mem.nr_blocks), use)[-cmd.pages :]
    host.mem.assign_pages(pfns, KINDS[cmd.kind][0])
    task.runs.extend(to_runs(pfns))
    call.emit(Event.PAGES_ADOPTED, pid=task.pid, pages=int(pfns.size))
    return TaskPages(task.pid, int(pfns.size))


# -- checks -----------------------------------------------------------------------------------------------


def asker_of(host: Host, task: Task, index: int = 0) -> Asker:
    """A task as it asks for page ``index`` of a mapping: its nodes, its cgroup."""
    local = task.node if task.node is not None else _local_node(host, task)
    policy = policy_of(host, task.policy_mode, task.policy_nodes, local, index)
    return Asker(policy, cgroup.effective(host, task.cgroup))


def _node(host: Host, nid: int) -> None:
    if not 0 <= nid < len(host.nodes) or not host.nodes[nid].present:
        raise BadInput(f"node {nid} has no memory on this host", where="node")


def _check_policy(host: Host, mode: str, nodes: Any) -> None:
    if mode not in POLICY_MODES:
        raise BadInput(f"must be one of {', '.join(POLICY_MODES)}, not {mode!r}", where="policy")
    if mode in ("bind", "interleave", "preferred") and not set(nodes):
        raise BadInput(f"{mode} needs nodes", where="policy")
    for nid in nodes:
        _node(host, nid)
    if any(not 0 <= nid <= ULONG_MAX for nid in nodes):
        raise BadInput("node numbers are 0 or more", where="policy")
