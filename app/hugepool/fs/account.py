"""What the state of a host says about the kernel's counters: numbers for several files, no format."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hugepool.fs.bare_system import BARE_SYSTEM_KB, BARE_SYSTEM_STATS, BARE_SYSTEM_ZONE_STATS
from hugepool.fs.formulas import Marks, dirty_thresholds, si_mem_available, vm_commit_limit
from hugepool.mm.kernel.buddy import free_area, free_area_by_type
from hugepool.mm.machine.file_lines import FileLines
from hugepool.mm.machine.mmzone import Migrate, Zone
from hugepool.mm.machine.profile import KernelProfile
from hugepool.mm.machine.state import Host, Task, node_counter
from hugepool.mm.machine.units import KB_PER_PAGE, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES, ULONG_MAX, pages_by_order

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


def lines_of(host: Host) -> FileLines:
    """The lines of the files of a host that was not imported."""
    lines = host.profile.lines
    return lines.with_cma() if any(zone.cma for zone in host.zones) else lines


def unsigned(number: int) -> int:
    """A counter as the kernel prints an unsigned long, underflow included."""
    return number & ULONG_MAX


def anon_by_zone(host: Host) -> dict[int, AnonPages]:
    """Anonymous memory that tasks took in the simulation, by index of the zone."""
    found = {zone.index: AnonPages() for zone in host.zones}
    for task in host.tasks.values():
        if task.kind == "kernel":
            continue
        for index, pages in _pages_by_zone(host, task):
            if task.mlock:
                found[index].locked += pages
            else:
                found[index].lru += pages
    return found


def _pages_by_zone(host: Host, task: Task) -> Iterable[tuple[int, int]]:
    if not task.runs:
        return
    runs = np.array(task.runs, np.int64)
    zone_of = host.mem.zone[runs[:, 0] // PAGEBLOCK_PAGES].astype(np.int64)
    by_zone = np.bincount(zone_of, weights=runs[:, 1], minlength=len(host.zones) + 1)
    for zone in host.zones:
        yield zone.index, int(by_zone[zone.id])


def anon_by_node(host: Host) -> dict[int, AnonPages]:
    """The same by node."""
    by_zone = anon_by_zone(host)
    return {node.nid: added_up(by_zone[zone.index] for zone in node.zones) for node in host.nodes}


def added_up(parts: Iterable[AnonPages]) -> AnonPages:
    """All of it."""
    total = AnonPages()
    for part in parts:
        total.lru += part.lru
        total.locked += part.locked
    return total


def free_cma_pages(host: Host, zone: Zone) -> int:
    """Free pages of a zone's CMA pageblocks."""
    if not zone.cma:
        return 0
    return pages_by_order(free_area_by_type(host.mem, zone)[Migrate.CMA])


def free_stats(host: Host, zone: Zone, names: Container[str]) -> dict[str, int]:
    """Counters of a zone that follow from its free pages, those of them that are asked for."""
    found = {"nr_free_cma": free_cma_pages(host, zone)}
    if "nr_free_pages_blocks" in names:  # in blocks of at least a pageblock
        counts = free_area(host.mem, zone)
        found["nr_free_pages_blocks"] = pages_by_order([0] * PAGEBLOCK_ORDER + counts[PAGEBLOCK_ORDER:])
    return {name: pages for name, pages in found.items() if name in names}


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
        "Hugepagesize": hs.pages * KB_PER_PAGE,
        "Hugetlb": hugetlb_pages(host) * KB_PER_PAGE,
    }


def hugetlb_pages(host: Host) -> int:
    """Base pages of all pools."""
    return sum(hs.nr_huge_pages << hs.order for hs in host.hstates.values())


def memory_lines(host: Host) -> dict[str, int]:
    """MemTotal, MemFree, MemAvailable, CommitLimit, CMA and what the tasks add, in kB."""
    late = lag(host, "meminfo")
    carried = carried_kb(host)
    total = sum(zone.managed for zone in host.zones) * KB_PER_PAGE + late.get("MemTotal", 0)
    free = max(0, sum(zone.nr_free for zone in host.zones) * KB_PER_PAGE + late.get("MemFree", 0))
    ratio = host.carried.get("overcommit_ratio", DEFAULT_OVERCOMMIT_RATIO)
    swap = carried.get("SwapTotal", 0) // KB_PER_PAGE
    limit = vm_commit_limit(total // KB_PER_PAGE, hugetlb_pages(host), swap, ratio) * KB_PER_PAGE
    lines = {
        "MemTotal": total,
        "MemFree": free,
        "MemAvailable": available_kb(host),
        "CommitLimit": max(0, limit + late.get("CommitLimit", 0)),
        "HardwareCorrupted": carried.get("HardwareCorrupted", 0) + host.poisoned_pages * KB_PER_PAGE,
        "CmaTotal": sum(zone.cma for zone in host.zones) * KB_PER_PAGE,
        "CmaFree": sum(free_cma_pages(host, zone) for zone in host.zones) * KB_PER_PAGE,
    }
    return lines | anon_lines(host, carried, anon_by_node(host).values())


def available_kb(host: Host) -> int:
    """MemAvailable in kB."""
    late, carried = lag(host, "meminfo"), carried_kb(host)
    free = max(0, sum(zone.nr_free for zone in host.zones) * KB_PER_PAGE + late.get("MemFree", 0))
    file_pages = (carried.get("Active(file)", 0) + carried.get("Inactive(file)", 0)) // KB_PER_PAGE
    reclaimable = carried.get("KReclaimable", carried.get("SReclaimable", 0)) // KB_PER_PAGE
    available = (
        si_mem_available(marks(host.zones), free // KB_PER_PAGE, file_pages, reclaimable) * KB_PER_PAGE
    )
    lagging: int = late.get("MemAvailable", 0)
    return max(0, available + lagging)


def anon_lines(host: Host, carried: dict[str, int], anon: Iterable[AnonPages]) -> dict[str, int]:
    """The lines that anonymous memory of tasks is added to, in kB.

    Fresh pages count as inactive or as active, by the profile.
    """
    total = added_up(anon)
    lru, locked = total.lru * KB_PER_PAGE, total.locked * KB_PER_PAGE
    activity = "Active" if host.profile.fresh_anon_active else "Inactive"
    added = {"AnonPages": lru + locked, activity: lru, f"{activity}(anon)": lru}
    added |= {"Unevictable": locked, "Mlocked": locked}
    return {name: carried.get(name, 0) + kb for name, kb in added.items()}


def carried_kb(host: Host) -> dict[str, int]:
    """Lines of /proc/meminfo as imported, or those of a bare system."""
    if "meminfo" in host.carried:
        kept: dict[str, int] = host.carried["meminfo"]
        return kept
    total = sum(zone.present for zone in host.zones) * KB_PER_PAGE
    return BARE_SYSTEM_KB | {"DirectMap2M": total}


# -- node and zone counters ------------------------------------------------------------------------------


def node_stats(host: Host, nid: int) -> dict[str, int]:
    """Per-node counters as imported; on a host from a spec those of the bare system, on its first node."""
    stats = dict.fromkeys(lines_of(host).node_stats, 0)
    if "zoneinfo" not in host.carried:
        stats |= BARE_SYSTEM_STATS if nid == host.memory_nodes()[0] else {}
    else:
        kept = (record["node_stats"] for record in host.carried["zoneinfo"] if record["nid"] == nid)
        stats = next(filter(None, kept), stats)
    since = {name: host.counters.get(node_counter(nid, name), 0) for name in stats}
    return {name: max(0, count + since[name]) for name, count in stats.items()}


def zone_stat_names(host: Host) -> Iterable[str]:
    """Counters that a zone has, in their order."""
    kept = (record["stats"] for record in host.carried.get("zoneinfo", []))
    return next(filter(None, kept), dict.fromkeys(lines_of(host).zone_stats))


def zone_stats(host: Host, zone: Zone) -> dict[str, int]:
    """Counters of a zone as imported; on a host from a spec the bare system lies in the first node's highest zone."""
    zeros = dict.fromkeys(zone_stat_names(host), 0)
    if "zoneinfo" in host.carried:
        kept = (
            r["stats"] for r in host.carried["zoneinfo"] if (r["nid"], r["name"]) == (zone.nid, zone.name)
        )
        return next(filter(None, kept), zeros)
    first = [other for other in host.nodes[host.memory_nodes()[0]].zones if other.present]
    return zeros | (BARE_SYSTEM_ZONE_STATS if zone is first[-1] else {})


def free_counters(host: Host, stats: Mapping[str, int]) -> dict[str, int]:
    """Counters of /proc/vmstat that follow from free memory; ``stats``: those that do not."""
    late = lag(host, "vmstat")
    free = max(0, sum(zone.nr_free for zone in host.zones) + late.get("nr_free_pages", 0))
    file_pages = stats.get("nr_active_file", 0) + stats.get("nr_inactive_file", 0)
    limits = dirty_thresholds(marks(host.zones), free, file_pages)
    return {"nr_free_pages": free} | {name: max(0, n + late.get(name, 0)) for name, n in limits.items()}


def with_tasks(stats: dict[str, int], anon: AnonPages, profile: KernelProfile) -> dict[str, int]:
    """Counters of a zone, of a node or of both, with what tasks took since."""
    activity = "active" if profile.fresh_anon_active else "inactive"
    added = {
        "nr_anon_pages": anon.lru + anon.locked,
        f"nr_{activity}_anon": anon.lru,
        f"nr_zone_{activity}_anon": anon.lru,
        "nr_unevictable": anon.locked,
        "nr_zone_unevictable": anon.locked,
        "nr_mlock": anon.locked,
    }
    return stats | {name: stats[name] + pages for name, pages in added.items() if name in stats}
