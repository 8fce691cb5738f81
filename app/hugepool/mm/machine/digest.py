"""Copies of a host, and the number that says whether two hosts are equal."""

import copy
import hashlib
from typing import Any

import numpy as np

from hugepool.mm.machine import sparse_vmemmap
from hugepool.mm.machine.mmzone import Use
from hugepool.mm.machine.state import Host, HugeMap, Task


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
