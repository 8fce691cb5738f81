"""A real machine as its files describe it: what ``fs`` reads from text and ``import_machine`` makes a host of."""

from dataclasses import dataclass, field
from typing import NamedTuple

from hugepool.mm.boot.spec import HostSpec
from hugepool.mm.machine.units import PAGE_SIZE


@dataclass(slots=True)
class ZoneImage:
    """One zone of /proc/zoneinfo with its line of /proc/buddyinfo.  Pages of 4 KiB.

    ``pcp``: pages on the per-CPU lists; ``free_area``: free blocks per order 0..10; ``type_blocks``:
    pageblocks per migratetype of /proc/pagetypeinfo in the order of ``Migrate``, or None; ``clean_cache``: pages of
    the page cache that are neither dirty nor mapped; ``free_by_type``:
    free blocks by migratetype and order as that file has them, None for a count that it caps; or None;
    ``clean_cache``: pages of the page cache that are neither dirty nor mapped.
    """

    nid: int
    name: str
    start_pfn: int
    spanned: int
    present: int
    managed: int
    free: int
    min: int
    low: int
    high: int
    protection: list[int]
    cma: int = 0
    pcp: int = 0
    free_area: list[int] = field(default_factory=list)
    type_blocks: list[int] | None = None
    free_by_type: list[list[int | None]] | None = None
    clean_cache: int = 0


class PoolOfNode(NamedTuple):
    """Huge pages of one size on one node."""

    nr: int
    free: int
    surplus: int


@dataclass(slots=True)
class PoolImage:
    """One huge page size: counters of the machine and of its nodes; ``resv`` and ``surplus`` may have underflowed."""

    order: int
    nr: int = 0
    free: int = 0
    resv: int = 0
    surplus: int = 0
    overcommit: int = 0
    max: int | None = None
    nodes: dict[int, PoolOfNode] = field(default_factory=dict)


@dataclass(slots=True)
class MachineImage:
    """Everything an import takes over.

    ``blocks``: memory block number -> (state, valid_zones or "", nid or None).  ``meminfo_kb``: every line of
    /proc/meminfo.  ``reclaimable_slab``: pages by node.  ``node_cpus``: CPUs per node.
    ``distance``: rows per node.  ``carried``: raw text or values
    of fields that hugepool does not model, shown again as they were.  ``assumptions``: what no file says and what
    is taken instead, a sentence each.  ``spec``: what to boot where only meminfo is known, and no zones.
    """

    kernel: str
    cmdline: str
    zones: list[ZoneImage]
    pools: list[PoolImage]
    meminfo_kb: dict[str, int]
    default_order: int = 9
    block_pages: int | None = None
    blocks: dict[int, tuple[str, str, int | None]] = field(default_factory=dict)
    node_cpus: dict[int, list[int]] = field(default_factory=dict)
    distance: dict[int, list[int]] = field(default_factory=dict)
    min_free_kbytes: int | None = None
    watermark_scale_factor: int = 10
    lowmem_reserve_ratio: list[int] = field(default_factory=lambda: [256, 256, 32, 0])
    optimize_enabled: bool | None = None
    vmstat: dict[str, int] = field(default_factory=dict)
    auto_online_blocks: str = "offline"
    carried: dict[str, object] = field(default_factory=dict)
    reclaimable_slab: dict[int, int] = field(default_factory=dict)
    assumptions: list[str] = field(default_factory=list)
    spec: HostSpec | None = None

    @property
    def map_pages(self) -> int:
        """Pages that the machine's map has, holes included, as far as zones say it."""
        if self.spec is not None:
            return sum(node.memory_bytes for node in self.spec.nodes) // PAGE_SIZE
        return sum(zone.spanned for zone in self.zones if zone.present)

    def memory_nodes(self) -> list[int]:
        """Nodes with memory."""
        return sorted({zone.nid for zone in self.zones if zone.present})

    def used_pages(self, nid: int) -> int:
        """Managed pages of a node that are neither free nor on a per-CPU list."""
        return sum(zone.managed - zone.free - zone.pcp for zone in self.zones if zone.nid == nid)
