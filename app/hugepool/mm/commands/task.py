"""Processes: who uses the memory.  Their life, and movable and unmovable single pages."""

from typing import Any

import numpy as np

from hugepool.mm.commands import commands as c
from hugepool.mm.commands.registry import handles
from hugepool.mm.kernel import cgroup
from hugepool.mm.kernel.hugetlb_reserve import policy_of
from hugepool.mm.kernel.hugetlb_resv_map import Asker
from hugepool.mm.kernel.hugetlb_vmemmap import leading
from hugepool.mm.kernel.page_alloc import alloc_pages, allocatable, node_zonelist, zonelist
from hugepool.mm.kernel.pcp import free_pages
from hugepool.mm.machine import task_outcomes as outcomes
from hugepool.mm.machine.errors import BadInput, MMError, NotFound
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.mmzone import ZONE_MOVABLE, ZONE_NORMAL, Mask, Migrate, Pfns, Use, Zone
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.rmap import from_runs, to_runs
from hugepool.mm.machine.state import Call, Host, Task
from hugepool.mm.machine.task_outcomes import TaskPages
from hugepool.mm.machine.units import PAGEBLOCK_PAGES, ULONG_MAX

KINDS = {
    "anon": (Use.ANON, Migrate.MOVABLE, ZONE_MOVABLE),
    "kernel": (Use.KERNEL, Migrate.UNMOVABLE, ZONE_NORMAL),
}
POLICY_MODES = ("default", "bind", "interleave", "preferred", "local")
GROW_STEP = 1 << 16


# -- processes --------------------------------------------------------------------------------------------


@handles(c.StartTask)
def start(host: Host, call: Call, cmd: c.StartTask) -> outcomes.Task:
    """Begin a process with its resident memory.

    Raises:
        MMError: ENOENT no such cgroup; EBUSY one that takes no tasks.
    """
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


# -- single pages -----------------------------------------------------------------------------------------


@handles(c.GrowTask)
def grow(host: Host, call: Call, cmd: c.GrowTask) -> TaskPages:
    """Take more single pages.

    Raises:
        MMError: ENOMEM when not all can be allocated and ``partial`` is off: nothing is kept.
    """
    task = find(host, cmd.pid)
    if cmd.kind not in KINDS:
        raise BadInput(f"must be one of {', '.join(KINDS)}, not {cmd.kind!r}", where="kind")
    if cmd.node is not None:
        _node(host, cmd.node)
    if cmd.at_most is not None:
        taken = _grow_until(host, task, cmd)
    else:
        taken = _take(host, task, cmd.kind, cmd.pages, cmd.node)
        if taken < cmd.pages and not cmd.partial:
            raise MMError("ENOMEM", f"only {taken} of {cmd.pages} pages can be allocated above the watermarks",
                          reason=Reason.WATERMARK, pages_needed=cmd.pages, pages_available=taken)  # fmt: skip
    call.emit(Event.TASK_GREW, pid=task.pid, kind=cmd.kind, pages=taken)
    return TaskPages(task.pid, taken)


def _grow_until(host: Host, task: Task, cmd: c.GrowTask) -> int:
    taken = 0
    at_most = cmd.at_most or 0
    while (left := _margin(host, cmd.until_node, cmd.zone_type) - at_most) > 0:
        step = min(left, GROW_STEP)
        got = _take(
            host, task, cmd.kind, step - step // PAGEBLOCK_PAGES, cmd.node
        )  # leave room for page tables
        taken += got
        if got == 0:
            break
    return taken


def _margin(host: Host, node: int | None, zone_type: int) -> int:
    nodes = host.nodes if node is None else [host.nodes[node]]
    return allocatable((z for n in nodes for z in n.zones[: zone_type + 1]), zone_type)


def _take(host: Host, task: Task, kind: str, pages: int, node: int | None) -> int:
    """Take single pages for a task, and a page-table page for each 512 movable ones; the pages taken."""
    if pages <= 0:
        return 0
    use, mt, highest = KINDS[kind]
    zones = _zones(host, task, node, highest)
    pfns = alloc_pages(host, zones, pages, mt, highest, use)
    task.runs.extend(to_runs(pfns))
    if kind == "anon":
        tables = pfns.size // PAGEBLOCK_PAGES
        kernel_zones = _zones(host, task, None, ZONE_NORMAL)
        got = alloc_pages(host, kernel_zones, tables, Migrate.UNMOVABLE, ZONE_NORMAL, Use.KERNEL)
        task.runs[:0] = to_runs(got)
    return int(pfns.size)


def _zones(host: Host, task: Task, node: int | None, highest: int) -> list[Zone]:
    if node is not None:
        return node_zonelist(host.nodes[node], highest)
    local = task.node if task.node is not None else _local_node(host, task)
    if task.policy_mode == "bind":
        return [z for z in zonelist(host.nodes, local, highest) if z.nid in task.policy_nodes]
    if task.policy_mode == "preferred" and task.policy_nodes:
        local = min(task.policy_nodes)
    return zonelist(host.nodes, local, highest)


def _local_node(host: Host, task: Task) -> int:
    return next((n.nid for n in host.nodes if task.cpu in n.cpus and n.present), host.memory_nodes()[0])


@handles(c.ShrinkTask)
def shrink(host: Host, call: Call, cmd: c.ShrinkTask) -> TaskPages:
    """Give single pages back: the newest first, or thinned out."""
    task = find(host, cmd.pid)
    pfns = from_runs(task.runs)
    empty = 0
    if cmd.keep_of_256 is not None:
        keep = np.arange(pfns.size) % 256 < cmd.keep_of_256
    else:
        keep = np.arange(pfns.size) < pfns.size - min(cmd.pages, pfns.size)
        empty = _empty_page_tables(host, pfns, keep)
    freed = int((~keep).sum())
    keep[:empty] = False
    give_back(host, pfns[~keep])
    task.runs = to_runs(pfns[keep])
    call.emit(Event.TASK_SHRANK, pid=task.pid, pages=freed)
    return TaskPages(task.pid, freed)


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
    free_pages(host, pfns[~movable])
    free_pages(host, pfns[movable])


@handles(c.AdoptPages)
def adopt(host: Host, call: Call, cmd: c.AdoptPages) -> TaskPages:
    """Make pages that the machine had in use at import the task's own, highest pfns first."""
    task = find(host, cmd.pid)
    use = Use.PAGE_CACHE if cmd.kind == "anon" else Use.SYSTEM
    mem = host.mem
    whole = np.flatnonzero(mem.use == use)
    mixed = np.flatnonzero(mem.slot)
    row, offset = np.nonzero(mem.detail[mem.slot[mixed]] == use)
    inside = mixed[row] * PAGEBLOCK_PAGES + offset
    pfns = np.sort(
        np.concatenate(((whole[:, None] * PAGEBLOCK_PAGES + np.arange(PAGEBLOCK_PAGES)).ravel(), inside))
    )[-cmd.pages :]
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
