"""A host as plain data for reading: what the API's GETs show.  Nothing here changes the host.

Every function costs what it shows, or a few numpy passes over arrays by section.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from hugepool.mm.commands.contig_ranges import find as find_range
from hugepool.mm.commands.contig_ranges import range_view
from hugepool.mm.commands.faults import fault_view
from hugepool.mm.commands.task import find as find_task
from hugepool.mm.commands.task import view as task_view
from hugepool.mm.kernel.cma import taken_pages
from hugepool.mm.kernel.hugetlb import check_size
from hugepool.mm.machine import sparse_vmemmap
from hugepool.mm.machine.fault_inject import POINTS
from hugepool.mm.machine.mmzone import Node, Zone
from hugepool.mm.machine.state import Host, HState
from hugepool.mm.machine.units import PAGE_SIZE, PAGEBLOCK_PAGES, order_of, size_name


def host(machine: Host) -> dict[str, Any]:
    """The summary of a host: all but name, revision and time of creation, which the engine does not know."""
    return {
        "kernel": machine.kernel,
        "cmdline": machine.cmdline,
        "seed": machine.seed,
        "memory": memory(machine.nodes),
        "nodes": [node(each) for each in machine.nodes],
        "zones": [zone(each) for each in machine.zones if each.spanned or each.present],
        "hugepages": hugepages(machine),
        "vmemmap": vmemmap_totals(machine),
        "memory_blocks": memory_blocks(machine),
        "cma_areas": areas(machine),
        "deferred_frees": {"mode": machine.deferred_mode, "queued": len(machine.deferred)},
        "faults": [fault_view(machine, point) for point in POINTS if point in machine.faults],
        "tasks": len(machine.tasks),
        "assumptions": list(machine.carried.get("assumptions", [])),
        "approximate": bool(machine.carried.get("approximate", False)),
    }


# -- memory ----------------------------------------------------------------------------------------------


def memory(nodes: Iterable[Node]) -> dict[str, int]:
    """Managed and free memory of nodes; pages on per-CPU lists are not free, as in MemFree."""
    managed = free = 0
    for each in nodes:
        managed += each.managed
        free += each.nr_free
    return {
        "total_bytes": managed * PAGE_SIZE,
        "free_bytes": free * PAGE_SIZE,
        "managed_pages": managed,
        "free_pages": free,
    }


def node(each: Node) -> dict[str, Any]:
    """One NUMA node."""
    return {
        "node": each.nid,
        "cpus": list(each.cpus),
        "distance": list(each.distance),
        "present_pages": each.present,
        **memory([each]),
    }


def zone(each: Zone) -> dict[str, Any]:
    """One zone, in pages of 4 KiB; ``lowmem_reserve`` by zone type."""
    return {
        "node": each.nid,
        "name": each.name,
        "start_pfn": each.start_pfn,
        "spanned": each.spanned,
        "present": each.present,
        "managed": each.managed,
        "free": each.nr_free,
        "min": each.min,
        "low": each.low,
        "high": each.high,
        "lowmem_reserve": list(each.lowmem_reserve),
    }


def block_states(machine: Host) -> npt.NDArray[np.uint8]:
    """The state of every memory block by number: the highest ``SectionState`` word of its sections, 0 absent.

    A block with any offline section is offline.
    """
    states, per_block = machine.mem.section_state, sections_per_block(machine)
    padded = np.zeros(-(-states.size // per_block) * per_block, np.uint8)
    padded[: states.size] = states
    highest: npt.NDArray[np.uint8] = padded.reshape(-1, per_block).max(axis=1)
    return highest


def sections_per_block(machine: Host) -> int:
    """Sections of 128 MiB in one memory block."""
    return machine.memory_block_pages >> 15


def memory_blocks(machine: Host) -> dict[str, int]:
    """How large memory blocks are, and how many are online and offline."""
    _, online, offline = np.bincount(block_states(machine), minlength=3)[:3].tolist()
    return {"size_bytes": machine.memory_block_pages * PAGE_SIZE, "online": online, "offline": offline}


# -- huge pages ------------------------------------------------------------------------------------------


def hugepages(machine: Host) -> list[dict[str, Any]]:
    """All huge page sizes, the smaller first."""
    return [_hugepages(machine, machine.hstates[order]) for order in sorted(machine.hstates)]


def hugepages_of(machine: Host, size: str) -> dict[str, Any]:
    """One huge page size by its sysfs word.  Raises ENOENT when the host has none."""
    return _hugepages(machine, check_size(machine, order_of(size), size[:40]))


def _hugepages(machine: Host, hs: HState) -> dict[str, Any]:
    return {
        "size": hs.size,
        "order": hs.order,
        "nr_hugepages": hs.nr_huge_pages,
        "free_hugepages": hs.free_huge_pages,
        "resv_hugepages": hs.resv_shown,
        "surplus_hugepages": hs.surplus_huge_pages,
        "max_huge_pages": hs.max_huge_pages,
        "nr_overcommit_hugepages": hs.nr_overcommit_huge_pages,
        "nr_free_vmemmap_pages": hs.nr_free_vmemmap_pages,
        "optimized_hugepages": hs.nr_optimized,
        "nodes": [_hugepages_of_node(hs, nid) for nid in _hugepage_nodes(machine)],
    }


def _hugepage_nodes(machine: Host) -> list[int]:
    """Nodes that have a hugepages directory: those with memory; every node since 5.19."""
    if machine.profile.node_dir_without_memory:
        return [each.nid for each in machine.nodes]
    return machine.memory_nodes()


def _hugepages_of_node(hs: HState, nid: int) -> dict[str, int]:
    return {
        "node": nid,
        "nr_hugepages": hs.nr_node[nid],
        "free_hugepages": hs.free_node[nid],
        "surplus_hugepages": hs.surplus_node[nid],
    }


# -- the vmemmap in all ----------------------------------------------------------------------------------


def vmemmap_totals(machine: Host) -> dict[str, int]:
    """What vmemmap freeing has done: ``bytes_saved`` is what is left once the page tables are paid for.

    Frames that it lost on the way (5.14, hot-added memory) are not freed, and stay lost when pages are given back.
    """
    mem = machine.mem
    tables = int(np.count_nonzero(mem.pte_slot))
    freed = sum(hs.nr_optimized * hs.nr_free_vmemmap_pages for hs in machine.hstates.values())
    lost = sparse_vmemmap.lost_frames(mem) if machine.profile.hot_added_frames_lost else 0
    return {
        "sections": int(np.count_nonzero(mem.vmemmap_pfn >= 0)),
        "sections_split": tables,
        "page_table_pages": tables,
        "pages_freed": max(0, freed - lost),
        "bytes_saved": (freed - lost - tables) * PAGE_SIZE,
    }


# -- contiguous ranges and areas ---------------------------------------------------------------------------


def ranges(host: Host, after: int, limit: int) -> list[dict[str, int]]:
    """Up to ``limit`` ranges with ids above ``after``."""
    ids = sorted(i for i in host.contig_ranges if i > after)[:limit]
    return [range_view(host.contig_ranges[i]) for i in ids]


def contig_range(machine: Host, range_id: int) -> dict[str, int]:
    """One contiguous range.  Raises ENOENT."""
    return range_view(find_range(machine, range_id))


def areas(host: Host) -> list[dict[str, object]]:
    """All areas as the API shows them; pages of 4 KiB."""
    return [
        {
            "name": area.name,
            "base_pfn": area.base_pfn,
            "nr_pages": area.nr_pages,
            "taken_pages": int(taken_pages(host, area).sum()),
            "node": host.node_of_block(area.base_pfn // PAGEBLOCK_PAGES),
        }
        for area in host.cma_areas
    ]


# -- tasks, deferred frees, faults -----------------------------------------------------------------------


def tasks(machine: Host, after: int, limit: int) -> list[dict[str, Any]]:
    """Up to ``limit`` tasks with a pid above ``after``."""
    pids = sorted(pid for pid in machine.tasks if pid > after)[:limit]
    return [task_view(machine, machine.tasks[pid]) for pid in pids]


def task(machine: Host, pid: int) -> dict[str, Any]:
    """One task.  Raises ENOENT."""
    return task_view(machine, find_task(machine, pid))


def deferred_frees(machine: Host) -> dict[str, Any]:
    """The queue of the deferred-free worker, oldest first; it is worked off from the other end."""
    queued = [{"pfn": each.block * 512, "size": size_name(each.order)} for each in machine.deferred]
    return {"mode": machine.deferred_mode, "queued": queued}


def faults(machine: Host) -> list[dict[str, Any]]:
    """All fault points, armed or not."""
    return [fault_view(machine, point) for point in POINTS]


def gauges(machine: Host) -> dict[str, Any]:
    """What a monitoring system wants of a host: counters per size, vmemmap, queue."""
    return {
        "hugepages": {hs.size: _kinds(hs) for hs in machine.hstates.values()},
        "vmemmap": vmemmap_totals(machine),
        "deferred": len(machine.deferred),
        "memory": memory(machine.nodes),
    }


def _kinds(hs: HState) -> dict[str, int]:
    return {
        "total": hs.nr_huge_pages,
        "free": hs.free_huge_pages,
        "reserved": hs.resv_shown,
        "surplus": hs.surplus_huge_pages,
        "overcommit": hs.nr_overcommit_huge_pages,
        "optimized": hs.nr_optimized,
    }


def fault(machine: Host, point: str) -> dict[str, Any]:
    """One fault point.  Raises ENOENT."""
    return fault_view(machine, point[:40])
