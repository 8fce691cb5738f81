"""A host as a whole: what ``GET /v1/hosts/{host}`` and the list of hosts show.  Nothing here changes the host.

Every function of this room costs what it shows, or a few numpy passes over arrays by section.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hugepool.mm.machine import mmzone, state
from hugepool.mm.machine.fault_inject import FaultPoint
from hugepool.mm.machine.mmzone import ZoneName
from hugepool.mm.machine.outcomes import Fault
from hugepool.mm.machine.state import DeferredMode
from hugepool.mm.machine.units import PAGE_SIZE, SECTION_PAGES
from hugepool.mm.views.pool_view import HugePages, VmemmapTotals, hugepages, vmemmap_totals
from hugepool.mm.views.range_view import CmaArea, areas

# -- what is shown ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Memory:
    """Managed and free memory.  Pages on the lists of the CPUs are not free, as in MemFree.

    Attributes:
        total_bytes: managed memory: MemTotal.
    """

    total_bytes: int
    free_bytes: int
    managed_pages: int
    free_pages: int


@dataclass(frozen=True, slots=True)
class Node(Memory):
    """One NUMA node.

    Attributes:
        node: its number.
        cpus: numbers of its CPUs.
        distance: to every node, as firmware says.
        present_pages: pages of all its zones, holes left out.
    """

    node: int
    cpus: list[int]
    distance: list[int]
    present_pages: int


@dataclass(frozen=True, slots=True)
class Zone:
    """One zone; all but its node and name in pages of 4 KiB.

    Attributes:
        spanned: from its first page to its last, holes included.
        present: without the holes.
        managed: those of them that the page allocator has.
        min: the watermark that only urgent requests may go below.
        low: the watermark that wakes the reclaim.
        high: the watermark that ends the reclaim.
        lowmem_reserve: what requests that could use a higher zone must leave, by the type of that zone.
    """

    node: int
    name: ZoneName
    start_pfn: int
    spanned: int
    present: int
    managed: int
    free: int
    min: int
    low: int
    high: int
    lowmem_reserve: list[int]


@dataclass(frozen=True, slots=True)
class MemoryBlockCount:
    """How large memory blocks are, and how many are online and offline.

    Attributes:
        offline: those with an offline section.
    """

    size_bytes: int
    online: int
    offline: int


@dataclass(frozen=True, slots=True)
class DeferredCount:
    """How many huge pages wait for the worker that restores their vmemmap and frees them.

    Attributes:
        mode: who works off the queue: `auto` the service's worker, `manual` only a drain or a resize.
    """

    mode: DeferredMode
    queued: int


@dataclass(frozen=True, slots=True)
class Identity:
    """What the engine does not know of a host.

    Attributes:
        revision: counts its changes; 0 in a dry run.
        created_at: time in UTC (RFC 3339); null in a dry run.
    """

    name: str
    revision: int
    created_at: str | None


@dataclass(frozen=True, slots=True)
class HostRow(Identity):
    """A host in a list.

    Attributes:
        kernel: the version whose rules it follows.
        cmdline: parameters that it was booted with.
    """

    kernel: str
    cmdline: str


@dataclass(frozen=True, slots=True)
class Host(HostRow):
    """A host in full.

    Attributes:
        seed: what all chance of this host begins with.
        zones: those that span pages.
        hugepages: by size, the smaller first.
        faults: the points that were armed and not disarmed since.
        tasks: how many there are.
        assumptions: of an imported machine: what no file said and what was taken instead, a sentence each.
        approximate: it stands for a machine of which only meminfo was given.
    """

    seed: int
    memory: Memory
    nodes: list[Node]
    zones: list[Zone]
    hugepages: list[HugePages]
    vmemmap: VmemmapTotals
    memory_blocks: MemoryBlockCount
    cma_areas: list[CmaArea]
    deferred_frees: DeferredCount
    faults: list[Fault]
    tasks: int
    assumptions: list[str]
    approximate: bool


# -- how it is found -------------------------------------------------------------------------------------


def host(machine: state.Host, identity: Identity) -> Host:
    """The summary of a host."""
    return Host(
        name=identity.name,
        revision=identity.revision,
        created_at=identity.created_at,
        kernel=machine.kernel,
        cmdline=machine.cmdline,
        seed=machine.seed,
        memory=memory(machine.nodes),
        nodes=[node(each) for each in machine.nodes],
        zones=[zone(each) for each in machine.zones if each.spanned or each.present],
        hugepages=hugepages(machine),
        vmemmap=vmemmap_totals(machine),
        memory_blocks=memory_blocks(machine),
        cma_areas=areas(machine),
        deferred_frees=DeferredCount(machine.deferred_mode, len(machine.deferred)),
        faults=[Fault.of(point, machine.faults[point]) for point in FaultPoint if point in machine.faults],
        tasks=len(machine.tasks),
        assumptions=list(machine.carried.get("assumptions", [])),
        approximate=bool(machine.carried.get("approximate", False)),
    )


def memory(nodes: Iterable[mmzone.Node]) -> Memory:
    """Memory of some nodes."""
    managed = free = 0
    for each in nodes:
        managed += each.managed
        free += each.nr_free
    return Memory(managed * PAGE_SIZE, free * PAGE_SIZE, managed, free)


def node(each: mmzone.Node) -> Node:
    """One NUMA node."""
    managed, free = each.managed, each.nr_free
    return Node(
        total_bytes=managed * PAGE_SIZE,
        free_bytes=free * PAGE_SIZE,
        managed_pages=managed,
        free_pages=free,
        node=each.nid,
        cpus=list(each.cpus),
        distance=list(each.distance),
        present_pages=each.present,
    )


def zone(each: mmzone.Zone) -> Zone:
    """One zone."""
    return Zone(
        node=each.nid,
        name=each.name,
        start_pfn=each.start_pfn,
        spanned=each.spanned,
        present=each.present,
        managed=each.managed,
        free=each.nr_free,
        min=each.min,
        low=each.low,
        high=each.high,
        lowmem_reserve=list(each.lowmem_reserve),
    )


def block_states(machine: state.Host) -> npt.NDArray[np.uint8]:
    """The state of every memory block by number: the highest ``SectionState`` word of its sections, 0 absent.

    A block with any offline section is offline.
    """
    states, per_block = machine.mem.section_state, sections_per_block(machine)
    padded = np.zeros(-(-states.size // per_block) * per_block, np.uint8)
    padded[: states.size] = states
    highest: npt.NDArray[np.uint8] = padded.reshape(-1, per_block).max(axis=1)
    return highest


def sections_per_block(machine: state.Host) -> int:
    """Sections of 128 MiB in one memory block."""
    return machine.memory_block_pages // SECTION_PAGES


def memory_blocks(machine: state.Host) -> MemoryBlockCount:
    """How many memory blocks there are."""
    _, online, offline = np.bincount(block_states(machine), minlength=3)[:3].tolist()
    return MemoryBlockCount(machine.memory_block_pages * PAGE_SIZE, online, offline)
