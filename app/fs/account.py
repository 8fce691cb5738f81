"""What the state of a host says about the kernel's counters: numbers for several files, no format."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.fs.formulas import Marks, si_mem_available, vm_commit_limit
from app.fs.templates import BARE_SYSTEM_KB, BARE_SYSTEM_STATS
from app.mm.mmzone import Migrate, Zone
from app.mm.page_alloc import free_area_by_type
from app.mm.state import Host, Task
from app.mm.units import ULONG_MAX

DEFAULT_OVERCOMMIT_RATIO = 50


@dataclass(slots=True)
class AnonPages:
    """Movable pages of tasks, in 4 KiB pages: on the LRU lists, and locked in memory."""

    lru: int = 0
    locked: int = 0


def lag(host: Host, file: str) -> dict[str, Any]:
    """By how much a file of the imported machine differed from its state (see ``carried``)."""
    found: dict[str, Any] = host.carried.get("lag", {}).get(file, {})
    return found


def unsigned(number: int) -> int:
    """A counter as the kernel prints an unsigned long, underflow included."""
    return number & ULONG_MAX


def anon_by_node(host: Host) -> dict[int, AnonPages]:
    """Anonymous memory that tasks took in the simulation, by node."""
    found = {node.nid: AnonPages() for node in host.nodes}
    for task in host.tasks.values():
        if task.kind == "kernel":
            continue
        for nid, pages in _pages_by_node(host, task):
            if task.mlock:
                found[nid].locked += pages
            else:
                found[nid].lru += pages
    return found


def _pages_by_node(host: Host, task: Task) -> Iterable[tuple[int, int]]:
    if not task.runs:
        return
    runs = np.array(task.runs, np.int64)
    zone_of = host.mem.zone[runs[:, 0] >> 9].astype(np.int64)
    by_zone = np.bincount(zone_of, weights=runs[:, 1], minlength=len(host.zones) + 1)
    for zone in host.zones:
        yield zone.nid, int(by_zone[zone.index + 1])


def free_cma_pages(host: Host, zone: Zone) -> int:
    """Free pages of a zone's CMA pageblocks."""
    if not zone.cma:
        return 0
    counts = free_area_by_type(host.mem, zone)[Migrate.CMA]
    return int(sum(int(count) << order for order, count in enumerate(counts)))


def marks(zones: Sequence[Zone]) -> list[Marks]:
    """Zones as the formulas want them."""
    return [Marks(zone.low, zone.high, zone.managed, zone.lowmem_reserve) for zone in zones]


# -- /proc/meminfo ---------------------------------------------------------------------------------------


def meminfo(host: Host) -> dict[str, int]:
    """The lines of /proc/meminfo that follow from the state; kB, and counts for HugePages_*."""
    hs = host.hstates[host.default_order]
    return {
        **memory_lines(host),
        "HugePages_Total": unsigned(hs.nr_huge_pages),
        "HugePages_Free": unsigned(hs.free_huge_pages),
        "HugePages_Rsvd": unsigned(hs.resv_huge_pages),
        "HugePages_Surp": unsigned(hs.surplus_huge_pages),
        "Hugepagesize": hs.pages * 4,
        "Hugetlb": hugetlb_pages(host) * 4,
    }


def hugetlb_pages(host: Host) -> int:
    """Base pages of all pools."""
    return sum(hs.nr_huge_pages << hs.order for hs in host.hstates.values())


def memory_lines(host: Host) -> dict[str, int]:
    """MemTotal, MemFree, MemAvailable, CommitLimit, CMA and what the tasks add, in kB."""
    late = lag(host, "meminfo")
    carried = carried_kb(host)
    total = sum(zone.managed for zone in host.zones) * 4 + late.get("MemTotal", 0)
    free = max(0, sum(zone.nr_free for zone in host.zones) * 4 + late.get("MemFree", 0))
    file_pages = (carried.get("Active(file)", 0) + carried.get("Inactive(file)", 0)) // 4
    reclaimable = carried.get("KReclaimable", carried.get("SReclaimable", 0)) // 4
    available = si_mem_available(marks(host.zones), free // 4, file_pages, reclaimable) * 4
    ratio = host.carried.get("overcommit_ratio", DEFAULT_OVERCOMMIT_RATIO)
    swap = carried.get("SwapTotal", 0) // 4
    limit = vm_commit_limit(total // 4, hugetlb_pages(host), swap, ratio) * 4
    lines = {
        "MemTotal": total,
        "MemFree": free,
        "MemAvailable": max(0, available + late.get("MemAvailable", 0)),
        "CommitLimit": max(0, limit + late.get("CommitLimit", 0)),
        "HardwareCorrupted": carried.get("HardwareCorrupted", 0) + host.poisoned_pages * 4,
        "CmaTotal": sum(zone.cma for zone in host.zones) * 4,
        "CmaFree": sum(free_cma_pages(host, zone) for zone in host.zones) * 4,
    }
    return lines | anon_lines(host, carried, anon_by_node(host).values())


def anon_lines(host: Host, carried: dict[str, int], anon: Iterable[AnonPages]) -> dict[str, int]:
    """The lines that anonymous memory of tasks is added to, in kB.

    Fresh pages go to the inactive list; 6.12 with its generations counts them as active.
    """
    lru = locked = 0
    for part in anon:
        lru += part.lru * 4
        locked += part.locked * 4
    activity = "Active" if host.profile.name == "6.12" else "Inactive"
    added = {"AnonPages": lru + locked, activity: lru, f"{activity}(anon)": lru}
    added |= {"Unevictable": locked, "Mlocked": locked}
    return {name: carried.get(name, 0) + kb for name, kb in added.items()}


def carried_kb(host: Host) -> dict[str, int]:
    """Lines of /proc/meminfo as imported, or those of a bare system."""
    if "meminfo" in host.carried:
        kept: dict[str, int] = host.carried["meminfo"]
        return kept
    total = sum(zone.present for zone in host.zones) * 4
    return BARE_SYSTEM_KB | {"DirectMap2M": total}


# -- node and zone counters ------------------------------------------------------------------------------


def node_stats(host: Host, nid: int) -> dict[str, int] | None:
    """Per-node counters as imported, those of a bare system on the first node; None: zeros."""
    for record in host.carried.get("zoneinfo", []):
        if record["nid"] == nid and record["node_stats"]:
            kept: dict[str, int] = record["node_stats"]
            return kept
    if "zoneinfo" in host.carried:
        return None
    return BARE_SYSTEM_STATS if nid == host.memory_nodes()[0] else None


def with_tasks(host: Host, stats: dict[str, int], anon: AnonPages) -> dict[str, int]:
    """Per-node counters with what tasks took since."""
    activity = "active" if host.profile.name == "6.12" else "inactive"
    added = {
        "nr_anon_pages": anon.lru + anon.locked,
        f"nr_{activity}_anon": anon.lru,
        "nr_unevictable": anon.locked,
    }
    return stats | {name: stats[name] + pages for name, pages in added.items() if name in stats}
