"""What a monitoring system wants of a host."""

from dataclasses import dataclass

from hugepool.mm.machine.state import Host, HState
from hugepool.mm.views.host_view import Memory, memory
from hugepool.mm.views.pool_view import VmemmapTotals, vmemmap_totals


@dataclass(frozen=True, slots=True)
class Gauges:
    """Numbers that go up and down.

    Attributes:
        hugepages: by size, then by kind: `total`, `free`, `reserved`, `surplus`, `overcommit`, `optimized`.
        deferred: huge pages that wait for the worker.
    """

    hugepages: dict[str, dict[str, int]]
    vmemmap: VmemmapTotals
    deferred: int
    memory: Memory


def gauges(machine: Host) -> Gauges:
    """The gauges of a host."""
    pools = {hs.size: _kinds(hs) for hs in machine.hstates.values()}
    return Gauges(pools, vmemmap_totals(machine), len(machine.deferred), memory(machine.nodes))


def _kinds(hs: HState) -> dict[str, int]:
    return {
        "total": hs.nr_huge_pages,
        "free": hs.free_huge_pages,
        "reserved": hs.resv_shown,
        "surplus": hs.surplus_huge_pages,
        "overcommit": hs.nr_overcommit_huge_pages,
        "optimized": hs.nr_optimized,
    }
