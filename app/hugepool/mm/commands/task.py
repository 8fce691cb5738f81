"""Tasks: who uses the memory.  Huge mappings, movable and unmovable single pages.

Source: mm/hugetlb.c hugetlb_reserve_pages(), hugetlb_no_page(), hugetlb_vm_op_close();
fs/hugetlbfs/inode.c hugetlbfs_fallocate() (5.14).
"""

from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np

from hugepool.mm.commands import commands as c
from hugepool.mm.commands.pool import hstate
from hugepool.mm.commands.registry import handles
from hugepool.mm.kernel import hugetlb_reserve as reserve
from hugepool.mm.kernel.hugetlb_reserve import Policy, policy_of
from hugepool.mm.kernel.page_alloc import alloc_pages, allocatable, node_zonelist, zonelist
from hugepool.mm.kernel.pcp import free_movable_pages
from hugepool.mm.machine.errors import BadInput, MMError, NotFound
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.mmzone import ZONE_MOVABLE, ZONE_NORMAL, Migrate, Pfns, Use, Zone
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.rmap import from_runs, to_runs
from hugepool.mm.machine.state import Call, Host, HState, HugeMap, Task, VmemmapDelta
from hugepool.mm.machine.tell import counters, vmemmap_of
from hugepool.mm.machine.units import PAGE_SIZE, PAGEBLOCK_PAGES, ULONG_MAX

KINDS = {
    "anon": (Use.ANON, Migrate.MOVABLE, ZONE_MOVABLE),
    "kernel": (Use.KERNEL, Migrate.UNMOVABLE, ZONE_NORMAL),
}
POLICY_MODES = ("default", "bind", "interleave", "preferred", "local")
MAX_MAP_PAGES = 1 << 24  # 32 TiB of 2 MiB pages
GROW_STEP = 1 << 16


# -- processes --------------------------------------------------------------------------------------------


@handles(c.StartTask)
def start(host: Host, call: Call, cmd: c.StartTask) -> dict[str, Any]:
    """Begin a process with its resident memory."""
    _check_policy(host, cmd.policy_mode, cmd.policy_nodes)
    if cmd.node is not None:
        _node(host, cmd.node)
    task = Task(host.next_pid, cmd.kind, cmd.comm, cmd.policy_mode, list(cmd.policy_nodes), cmd.cpu, cmd.mlock,
                cmd.node)  # fmt: skip
    host.next_pid += 1
    host.tasks[task.pid] = task
    _take(host, task, "anon", cmd.resident, None)
    _take(host, task, "kernel", cmd.tables, None)
    call.emit(Event.TASK_STARTED, pid=task.pid, kind=task.kind)
    return view(host, task)


@handles(c.SetMempolicy)
def set_mempolicy(host: Host, call: Call, cmd: c.SetMempolicy) -> dict[str, Any]:
    """Set a task's memory policy.  Raises EINVAL for an unknown mode or nodes without memory."""
    task = find(host, cmd.pid)
    _check_policy(host, cmd.mode, cmd.nodes)
    task.policy_mode, task.policy_nodes = cmd.mode, list(cmd.nodes)
    call.emit(Event.MEMPOLICY_SET, pid=task.pid, mode=cmd.mode, nodes=list(cmd.nodes))
    return view(host, task)


@handles(c.CreateTask)
def create(host: Host, call: Call, cmd: c.CreateTask) -> dict[str, Any]:
    """Start a process and let it use memory at once, all or nothing (a SIGBUS keeps what was touched).

    Raises:
        MMError: ENOMEM when mmap is refused, or when single pages run out (a real kernel would start the OOM
            killer); nothing is kept.
    """
    begun = start(host, call, c.StartTask(cmd.kind, cmd.comm, cmd.policy_mode, cmd.policy_nodes, mlock=cmd.mlock,
                                          node=cmd.node))  # fmt: skip
    pid = begun["pid"]
    if cmd.kind == "hugetlb":
        wanted = c.MapHugePages(pid, cmd.order, cmd.count, cmd.shared, cmd.noreserve, cmd.touch)
        try:
            mapped = map_huge_pages(host, call, wanted)
        except MMError:
            del host.tasks[pid]
            raise
        return {
            **view(host, find(host, pid)),
            **{k: mapped[k] for k in ("map", "touched", "signal", "vmemmap")},
        }
    grow(host, call, c.GrowTask(pid, cmd.kind, cmd.pages, cmd.node))
    return view(host, find(host, pid))


@handles(c.ExitTask)
def exit_task(host: Host, call: Call, cmd: c.ExitTask) -> dict[str, Any]:
    """End a process: mappings go in the order they were made, then its single pages."""
    task = find(host, cmd.pid)
    freed = sum(n for _, n in task.runs)
    for mapping in list(task.maps.values()):
        _unmap(host, call, mapping, 0, mapping.count)
    _give_back(host, from_runs(task.runs))
    del host.tasks[task.pid]
    call.emit(Event.TASK_EXITED, pid=task.pid)
    return {"pid": task.pid, "freed_pages": freed, "queued": len(host.deferred), "vmemmap": vmemmap_of(call)}


def find(host: Host, pid: int) -> Task:
    """A task by pid.  Raises ENOENT."""
    if pid not in host.tasks:
        raise NotFound(f"no task {pid} on this host", pid=pid)
    return host.tasks[pid]


def view(host: Host, task: Task) -> dict[str, Any]:
    """A task as the API shows it."""
    maps = [
        {
            "map": m.map_id,
            "size": host.hstates[m.order].size,
            "count": m.count,
            "touched": len(m.pages),
            "reserved": len(m.reserved),
            "shared": m.shared,
            "noreserve": m.noreserve,
        }
        for m in task.maps.values()
    ]
    policy: dict[str, Any] = {"mode": task.policy_mode, "nodes": task.policy_nodes}
    pages = sum(n for _, n in task.runs)
    return {"pid": task.pid, "kind": task.kind, "comm": task.comm, "policy": policy, "node": task.node,
            "mlock": task.mlock, "pages": pages, "memory_bytes": pages * PAGE_SIZE, "maps": maps}  # fmt: skip


# -- single pages -----------------------------------------------------------------------------------------


@handles(c.GrowTask)
def grow(host: Host, call: Call, cmd: c.GrowTask) -> dict[str, Any]:
    """Take more single pages.

    Raises:
        MMError: ENOMEM when not all can be had and ``partial`` is off: nothing is kept.
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
            raise MMError("ENOMEM", f"only {taken} of {cmd.pages} pages can be had above the watermarks",
                          reason=Reason.WATERMARK, pages_needed=cmd.pages, pages_available=taken)  # fmt: skip
    call.emit(Event.TASK_GREW, pid=task.pid, kind=cmd.kind, pages=taken)
    return {"pid": task.pid, "pages": taken}


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
    pfns = alloc_pages(host.mem, zones, pages, mt, highest, use)
    task.runs.extend(to_runs(pfns))
    if kind == "anon":
        tables = pfns.size // PAGEBLOCK_PAGES
        kernel_zones = _zones(host, task, None, ZONE_NORMAL)
        got = alloc_pages(host.mem, kernel_zones, tables, Migrate.UNMOVABLE, ZONE_NORMAL, Use.KERNEL)
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
def shrink(host: Host, call: Call, cmd: c.ShrinkTask) -> dict[str, Any]:
    """Give single pages back: the newest first, or thinned out."""
    task = find(host, cmd.pid)
    pfns = from_runs(task.runs)
    if cmd.keep_of_256 is not None:
        keep = np.arange(pfns.size) % 256 < cmd.keep_of_256
    else:
        keep = np.arange(pfns.size) < pfns.size - min(cmd.pages, pfns.size)
    _give_back(host, pfns[~keep])
    task.runs = to_runs(pfns[keep])
    freed = int((~keep).sum())
    call.emit(Event.TASK_SHRANK, pid=task.pid, pages=freed)
    return {"pid": task.pid, "pages": freed}


def _give_back(host: Host, pfns: Pfns) -> None:
    movable = host.mem.uses_of(pfns) == Use.ANON
    host.mem.assign_pages(pfns[~movable], Use.BUDDY)
    free_movable_pages(host, pfns[movable])


@handles(c.AdoptPages)
def adopt(host: Host, call: Call, cmd: c.AdoptPages) -> dict[str, Any]:
    """Make pages that the machine had in use at import the task's own, highest pfns first."""
    task = find(host, cmd.pid)
    use = Use.PAGE_CACHE if cmd.kind == "anon" else Use.SYSTEM
    mem = host.mem
    whole = np.flatnonzero(mem.use == use)
    mixed = np.flatnonzero(mem.slot)
    row, offset = np.nonzero(mem.detail[mem.slot[mixed]] == use)
    inside = mixed[row] * PAGEBLOCK_PAGES + offset
    pfns = np.sort(np.concatenate(((whole[:, None] * 512 + np.arange(512)).ravel(), inside)))[-cmd.pages :]
    host.mem.assign_pages(pfns, KINDS[cmd.kind][0])
    task.runs.extend(to_runs(pfns))
    call.emit(Event.PAGES_ADOPTED, pid=task.pid, pages=int(pfns.size))
    return {"pid": task.pid, "pages": int(pfns.size)}


# -- huge mappings ----------------------------------------------------------------------------------------


@handles(c.MapHugePages)
def map_huge_pages(host: Host, call: Call, cmd: c.MapHugePages) -> dict[str, Any]:
    """mmap huge pages, and touch some.

    Raises:
        MMError: ENOMEM when the reservation cannot be had; nothing is kept but what the kernel itself keeps
            (frames of surplus pages that were optimised for a moment count in MemTotal for ever).
    """
    task, hs = find(host, cmd.pid), hstate(host, cmd.order)
    if not 1 <= cmd.count <= MAX_MAP_PAGES:
        raise BadInput(f"must be 1..{MAX_MAP_PAGES}, not {cmd.count}", where="count")
    if not 0 <= cmd.touch <= cmd.count:
        raise BadInput(f"must be 0..count ({cmd.count}), not {cmd.touch}", where="touch")
    mapping = HugeMap(task.next_map_id, cmd.order, cmd.count, cmd.shared, cmd.noreserve, cmd.path)
    if not cmd.noreserve:
        policy = _policy(host, task, 0)
        free = hs.free_huge_pages - hs.resv_huge_pages
        if policy.strict:
            free = min(free, sum(hs.free_node[n] for n in policy.order))
        before = counters(hs)
        if not reserve.acct_memory(host, call, hs, cmd.count, policy):
            left_traces = call.vmemmap != VmemmapDelta() or counters(hs) != before
            raise _mmap_refused(call, hs, cmd.count, max(0, free), left_traces=left_traces)
        mapping.reserved = set(range(cmd.count))
    task.next_map_id += 1
    task.maps[mapping.map_id] = mapping
    touched, signal = _touch(host, call, task, mapping, range(cmd.touch))
    call.emit(Event.HUGE_PAGES_MAPPED, pid=task.pid, map=mapping.map_id, size=hs.size, count=cmd.count)
    return {"pid": task.pid, "map": mapping.map_id, "touched": touched, "signal": signal,
            "vmemmap": vmemmap_of(call)}  # fmt: skip


def _mmap_refused(call: Call, hs: HState, count: int, free: int, *, left_traces: bool) -> MMError:
    """ENOMEM; kept where pages were made for a moment (their boot frames stay in MemTotal) or given back."""
    return MMError(
        "ENOMEM",
        f"{count} huge pages of {hs.size} asked, {free} free and unreserved, surplus limited to "
        f"{hs.nr_overcommit_huge_pages}",
        reason=Reason.POOL_EXHAUSTED,
        result={"vmemmap": vmemmap_of(call)} if left_traces else None,
        pages_needed=count,
        pages_available=free,
    )


@handles(c.TouchHugePages)
def touch_huge_pages(host: Host, call: Call, cmd: c.TouchHugePages) -> dict[str, Any]:
    """Fault in pages of a mapping; stops with ``signal: SIGBUS`` at the first that cannot be had."""
    task = find(host, cmd.pid)
    mapping = _mapping(task, cmd.map_id)
    if cmd.count < 0:
        raise BadInput(f"must be 0 or more, not {cmd.count}", where="count")
    indexes: Iterable[int]
    if cmd.first is None:
        untouched = (i for i in range(mapping.count) if i not in mapping.pages and i not in mapping.gone)
        indexes = islice(untouched, cmd.count)
    else:
        indexes = range(cmd.first, cmd.first + cmd.count)
        outside = cmd.first < 0 or cmd.first + cmd.count > mapping.count
        if outside or any(i in indexes for i in mapping.gone):
            raise BadInput(
                f"pages {cmd.first}.. are not mapped: the mapping has {mapping.count}", where="first"
            )
    touched, signal = _touch(host, call, task, mapping, indexes)
    call.emit(Event.HUGE_PAGES_TOUCHED, pid=task.pid, map=mapping.map_id, count=touched)
    return {"pid": task.pid, "map": mapping.map_id, "touched": touched, "signal": signal,
            "vmemmap": vmemmap_of(call)}  # fmt: skip


def _touch(
    host: Host, call: Call, task: Task, mapping: HugeMap, indexes: Iterable[int]
) -> tuple[int, str | None]:
    hs = host.hstates[mapping.order]
    done = 0
    for i in indexes:
        if i in mapping.poisoned:
            return done, "SIGBUS"
        if i not in mapping.pages:
            policy = _policy(host, task, i)
            head = reserve.alloc_huge_page(host, call, hs, policy, reserved=i in mapping.reserved)
            if head is None:
                return done, "SIGBUS"
            mapping.reserved.discard(i)
            mapping.pages[i] = head
        done += 1
    return done, None


@handles(c.UnmapHugePages)
def unmap_huge_pages(host: Host, call: Call, cmd: c.UnmapHugePages) -> dict[str, Any]:
    """munmap a mapping or a part of it."""
    task = find(host, cmd.pid)
    mapping = _mapping(task, cmd.map_id)
    count = mapping.count - cmd.first if cmd.count is None else cmd.count
    if cmd.first < 0 or count < 1 or cmd.first + count > mapping.count:
        raise BadInput(f"pages {cmd.first}..{cmd.first + count - 1} are outside the mapping", where="first")
    freed = _unmap(host, call, mapping, cmd.first, count)
    if count == mapping.count or len(mapping.gone) == mapping.count:
        del task.maps[mapping.map_id]
    call.emit(Event.HUGE_PAGES_UNMAPPED, pid=task.pid, map=mapping.map_id, count=count)
    return {"pid": task.pid, "map": mapping.map_id, "freed": freed, "queued": len(host.deferred),
            "vmemmap": vmemmap_of(call)}  # fmt: skip


def _unmap(host: Host, call: Call, mapping: HugeMap, first: int, count: int) -> int:
    """Free the touched pages of a range, then give its untouched reservations back."""
    hs = host.hstates[mapping.order]
    inside = range(first, first + count)
    if mapping.shared and count < mapping.count:  # pages and promises belong to the file, not to the range
        mapping.gone.update(inside)
        if len(mapping.gone) < mapping.count:
            return 0
        inside, count = range(mapping.count), mapping.count
    heads = [mapping.pages.pop(i) for i in sorted(mapping.pages) if i in inside]
    for head in heads:
        reserve.free_huge_page(host, call, hs, head)
    dropped = {i for i in mapping.reserved if i in inside}
    mapping.reserved -= dropped
    if count < mapping.count:  # of a mapping that goes whole nobody asks again
        mapping.gone.update(inside)
    if dropped:
        reserve.return_unused_surplus_pages(host, call, hs, len(dropped))
    return len(heads)


@handles(c.FallocateFile)
def fallocate(host: Host, call: Call, cmd: c.FallocateFile) -> dict[str, Any]:
    """Fill a hugetlbfs file with pages.  Raises ENOSPC when the pool has no more; what was filled stays."""
    hs = hstate(host, cmd.order)
    task = find(host, cmd.pid) if cmd.pid is not None else None
    file = host.files.setdefault(
        cmd.path, HugeMap(0, cmd.order, 0, shared=True, noreserve=True, path=cmd.path)
    )
    file.count = max(file.count, cmd.count)
    for i in range(cmd.count):
        if i in file.pages:
            continue
        policy = (
            _policy(host, task, i) if task else Policy(tuple(host.memory_nodes()), host.memory_nodes()[0])
        )
        head = reserve.alloc_huge_page(host, call, hs, policy, reserved=False)
        if head is None:
            raise MMError("ENOSPC", f"the pool ran out after {i} of {cmd.count} pages", reason=Reason.POOL_EXHAUSTED,
                          result={"path": cmd.path, "allocated": i})  # fmt: skip
        file.pages[i] = head
    call.emit(Event.FILE_ALLOCATED, path=cmd.path, count=cmd.count)
    return {"path": cmd.path, "allocated": cmd.count}


@handles(c.UnlinkFile)
def unlink(host: Host, call: Call, cmd: c.UnlinkFile) -> dict[str, Any]:
    """Remove a hugetlbfs file: its pages are freed."""
    file = host.files.pop(cmd.path, None)
    if file is None:
        raise NotFound(f"no hugetlbfs file {cmd.path!r}")
    for i in sorted(file.pages):
        reserve.free_huge_page(host, call, host.hstates[file.order], file.pages[i])
    call.emit(Event.FILE_UNLINKED, path=cmd.path)
    return {"path": cmd.path, "freed": len(file.pages), "queued": len(host.deferred)}


# -- checks -----------------------------------------------------------------------------------------------


def _policy(host: Host, task: Task, index: int) -> Policy:
    local = task.node if task.node is not None else _local_node(host, task)
    return policy_of(host, task.policy_mode, task.policy_nodes, local, index)


def _mapping(task: Task, map_id: int) -> HugeMap:
    if map_id not in task.maps:
        raise NotFound(f"task {task.pid} has no mapping {map_id}", pid=task.pid)
    return task.maps[map_id]


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
