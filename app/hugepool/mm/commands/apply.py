"""One road into the engine: a command goes in, an outcome comes out.

``apply`` changes the host in place.  When a command raises, the host may be half changed: throw it away (the
service does) or apply to a copy.  A refusal that the kernel itself would leave traces of is not raised but
returned as ``Outcome.error`` with ``result``.
"""

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hugepool.mm.commands import commands as c
from hugepool.mm.commands import memory_block, pool, sysctl, task, virtio_mem
from hugepool.mm.kernel import cma, contig, hugetlb_page, memory_failure, pcp
from hugepool.mm.machine import sparse_vmemmap
from hugepool.mm.machine.errors import BadInput, MMError
from hugepool.mm.machine.fault_inject import make_fault
from hugepool.mm.machine.mmzone import Use
from hugepool.mm.machine.state import Call, Host, HugeMap, Task
from hugepool.mm.machine.tell import vmemmap_of


@dataclass(slots=True)
class Outcome:
    """What a command did.

    Attributes:
        result: the answer as plain JSON data; also present beside an error whose changes are kept.
        error: the refusal, or None.
        events: (type, data) in order.
    """

    result: dict[str, Any]
    error: MMError | None = None
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


def apply(host: Host, command: c.Command, now_ns: int = 0) -> Outcome:
    """Apply one command to a host.

    Raises:
        MMError: refused, nothing of it may be kept.
    """
    call = Call(comm=getattr(command, "comm", "hugepool"), now_ns=now_ns)
    try:
        result = _HANDLERS[type(command)](host, call, command)
    except MMError as error:
        if error.result is None:
            raise
        pcp.settle(host, call)
        return Outcome(error.result, error, call.events)
    pcp.settle(host, call)
    if call.injected:
        result["injected_fault"] = True
    return Outcome(result, None, call.events)


def fork(host: Host) -> Host:
    """An independent copy of a host."""
    return copy.deepcopy(host)


def digest(host: Host) -> str:
    """SHA-256 over the whole state: equal digests, equal machines."""
    h = hashlib.sha256()
    mem = host.mem
    for array in (mem.use, mem.mt, mem.flags, mem.nfree, mem.zone, mem.section_state, mem.section_nid,
                  mem.hot_added, mem.vmemmap_pfn, mem.pte_pfn):  # fmt: skip
        h.update(array.tobytes())
    placed = np.flatnonzero((mem.order.stamp != 0) & (mem.use == Use.BUDDY))
    for zone in host.zones:  # the order by zone, whatever the stamps are
        ordered = mem.order.sorted(placed[mem.zone[placed] == zone.index + 1])
        h.update(ordered.tobytes() + np.sign(mem.order.stamp[ordered]).tobytes())
    mixed = np.flatnonzero(mem.slot)
    h.update(mem.detail[mem.slot[mixed]].tobytes())
    split = np.flatnonzero(mem.pte_slot)
    h.update(sparse_vmemmap.tables(mem, split).tobytes())
    plain = {
        "kernel": host.kernel, "cmdline": host.cmdline, "seed": host.seed,
        "zones": [(z.nid, z.type, z.start_pfn, z.spanned, z.present, z.managed, z.nr_free, z.nr_pcp, z.nr_cached, z.min,
                   z.low, z.high, z.lowmem_reserve, z.cma) for z in host.zones],
        "nodes": [(n.nid, n.cpus, n.distance) for n in host.nodes],
        "hstates": [_hstate_fields(hs) for hs in host.hstates.values()],
        "tasks": [_task_fields(host.tasks[pid]) for pid in sorted(host.tasks)],
        "files": [_map_fields(host.files[path]) for path in sorted(host.files)],
        "contig": [repr(host.contig_ranges[i]) for i in sorted(host.contig_ranges)],
        "cma": [repr(area) for area in host.cma_areas],
        "deferred": [repr(q) for q in host.deferred],
        "faults": [(p, repr(host.faults[p])) for p in sorted(host.faults)],
        "counters": sorted(host.counters.items()),
        "tunables": (host.min_free_kbytes, host.user_min_free_kbytes, host.watermark_scale_factor,
                     host.percpu_pagelist_high_fraction,
                     host.lowmem_reserve_ratio, host.optimize_enabled, host.deferred_mode, host.default_order,
                     host.memory_block_pages, host.auto_online_blocks, host.next_pid, host.next_stamp,
                     host.next_range_id, host.poisoned_pages,
                     host.last_splat_ns),
    }  # fmt: skip
    h.update(repr(plain).encode())
    return h.hexdigest()


def _hstate_fields(hs: Any) -> tuple[Any, ...]:
    return (hs.order, hs.nr_free_vmemmap_pages, hs.max_huge_pages, hs.nr_huge_pages, hs.free_huge_pages,
            hs.resv_huge_pages, hs.surplus_huge_pages, hs.nr_overcommit_huge_pages, hs.next_nid_to_alloc,
            hs.next_nid_to_free, hs.nr_optimized, hs.nr_node, hs.free_node, hs.surplus_node,
            [lst.items().tolist() for lst in hs.free_lists])  # fmt: skip


def _task_fields(task: Task) -> tuple[Any, ...]:
    maps = [_map_fields(task.maps[map_id]) for map_id in sorted(task.maps)]
    return (task.pid, task.kind, task.comm, task.policy_mode, task.policy_nodes, task.cpu, task.mlock, task.node,
            task.runs, maps, task.next_map_id)  # fmt: skip


def _map_fields(m: HugeMap) -> tuple[Any, ...]:
    return (m.map_id, m.order, m.count, m.shared, m.noreserve, m.path, m.start, sorted(m.pages.items()),
            sorted(m.reserved), sorted(m.gone), sorted(m.poisoned))  # fmt: skip


def _set_fault(host: Host, call: Call, cmd: c.SetFault) -> dict[str, Any]:
    fault = make_fault(cmd.point, cmd.probability, cmd.interval, cmd.times, cmd.space, host.seed)
    host.faults[cmd.point] = fault
    call.emit("FaultArmed", point=cmd.point)
    return fault_view(host, cmd.point)


def _clear_fault(host: Host, call: Call, cmd: c.ClearFault) -> dict[str, Any]:
    make_fault(cmd.point, 0, 1, 0, 0, 0)  # refuses an unknown point
    if host.faults.pop(cmd.point, None) is not None:
        call.emit("FaultDisarmed", point=cmd.point)
    return {"point": cmd.point}


def fault_view(host: Host, point: str) -> dict[str, Any]:
    """A fault point as the API shows it."""
    fault = host.faults.get(point)
    if fault is None:
        make_fault(point, 0, 1, 0, 0, 0)
        return {"point": point, "armed": False, "probability": 0, "interval": 1, "times": 0, "space": 0,
                "failures": 0}  # fmt: skip
    return {"point": point, "armed": fault.armed, "probability": fault.probability, "interval": fault.interval,
            "times": fault.times, "space": fault.space, "failures": fault.failures}  # fmt: skip


def _set_deferred_mode(host: Host, call: Call, cmd: c.SetDeferredMode) -> dict[str, Any]:
    if cmd.mode not in ("auto", "manual"):
        raise BadInput(f"must be auto or manual, not {cmd.mode!r}", where="mode")
    host.deferred_mode = cmd.mode
    call.emit("DeferredModeSet", mode=cmd.mode)
    return {"mode": cmd.mode}


def _drain(host: Host, call: Call, cmd: c.RunFreeHpageWork) -> dict[str, Any]:
    done = hugetlb_page.run_free_hpage_work(host, call, comm=cmd.comm)
    return {
        "freed": done.freed,
        "returned_as_surplus": done.refused,
        "vmemmap": vmemmap_of(call),
        "queued": len(host.deferred),
    }


_Handler = Callable[[Host, Call, Any], dict[str, Any]]
_HANDLERS: dict[type, _Handler] = {
    c.SetMaxHugePages: pool.set_max_huge_pages,
    c.SetOvercommit: pool.set_overcommit,
    c.Demote: pool.demote,
    c.SetOptimizeVmemmap: sysctl.set_optimize_vmemmap,
    c.SetMinFreeKbytes: sysctl.set_min_free_kbytes,
    c.SetWatermarkScaleFactor: sysctl.set_watermark_scale_factor,
    c.SetLowmemReserveRatio: sysctl.set_lowmem_reserve_ratio,
    c.WriteWithoutEffect: sysctl.write_without_effect,
    c.StartTask: task.start,
    c.SetMempolicy: task.set_mempolicy,
    c.GrowTask: task.grow,
    c.ShrinkTask: task.shrink,
    c.AdoptPages: task.adopt,
    c.MapHugePages: task.map_huge_pages,
    c.TouchHugePages: task.touch_huge_pages,
    c.UnmapHugePages: task.unmap_huge_pages,
    c.ExitTask: task.exit_task,
    c.FallocateFile: task.fallocate,
    c.UnlinkFile: task.unlink,
    c.SetFault: _set_fault,
    c.ClearFault: _clear_fault,
    c.SetDeferredMode: _set_deferred_mode,
    c.SetBlockState: memory_block.set_block_state,
    c.SetAutoOnline: memory_block.set_auto_online,
    c.AddMemory: memory_block.add_memory,
    c.RemoveMemory: memory_block.remove_memory,
    c.AllocContigRange: contig.take_range,
    c.AllocContigPages: contig.find_and_take,
    c.FreeContigRange: contig.give_back,
    c.AllocCma: cma.alloc_cma,
    c.FreeCma: cma.free_cma,
    c.UnplugMemory: virtio_mem.unplug,
    c.PoisonPage: memory_failure.poison_page,
    c.RunFreeHpageWork: _drain,
    c.CreateTask: task.create,
}
