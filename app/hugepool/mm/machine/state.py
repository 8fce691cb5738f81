"""The whole state of a simulated machine as plain data, and the scratch pad of one command."""

import copy
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from hugepool.mm.machine.cgroups import ROOT_PATH, Cgroup, HugetlbCgroup, PageCharge
from hugepool.mm.machine.events import Event, Occurrence
from hugepool.mm.machine.fault_inject import FaultAttr
from hugepool.mm.machine.mappings import HugeMap, HugetlbFile, Mount
from hugepool.mm.machine.mmzone import LOWMEM_RESERVE_RATIO, NO_BLOCKS, Blocks, MemoryMap, Node, Zone
from hugepool.mm.machine.profile import KernelProfile
from hugepool.mm.machine.units import ORDER_1G, ULONG_MAX, size_name

DeferredMode = Literal["auto", "manual"]


class FreeList:
    """A node's free huge pages as a stack of first pageblocks; the last one in is the list's head."""

    __slots__ = ("_items", "size")

    def __init__(self, items: Blocks = NO_BLOCKS) -> None:
        self._items = items.copy()
        self.size = int(items.size)

    def push(self, blocks: Blocks) -> None:
        """Put pages at the head, one after the other."""
        need = self.size + blocks.size
        if need > self._items.size:
            grown = np.empty(max(need, 2 * self._items.size, 16), np.int64)
            grown[: self.size] = self._items[: self.size]
            self._items = grown
        self._items[self.size : need] = blocks
        self.size = need

    def pop(self, count: int) -> Blocks:
        """Take up to ``count`` pages from the head, most recent first."""
        count = min(count, self.size)
        taken = self._items[self.size - count : self.size][::-1].copy()
        self.size -= count
        return taken

    def remove(self, blocks: Blocks) -> None:
        """Take pages out of the middle."""
        kept = self._items[: self.size]
        if blocks.size == 1:  # as memory goes offline: page by page out of a long list
            at = int(np.flatnonzero(kept == blocks[0])[0])
            kept[at:-1] = kept[at + 1 :]
            self.size -= 1
            return
        kept = kept[~np.isin(kept, blocks)]
        self._items[: kept.size] = kept
        self.size = int(kept.size)

    def items(self) -> Blocks:
        """All pages, head last."""
        return self._items[: self.size]


@dataclass(slots=True)
class HState:
    """One huge page size.  Counters in huge pages, per-node lists by node number.

    ``max_huge_pages`` is the persistent size last agreed: what /proc/sys/vm/nr_hugepages reads back.
    ``resv_drift``: by how much a defect of the kernel has left the reserve count above (or below) what is promised.
    Source: include/linux/hugetlb.h struct hstate (5.14).
    """

    order: int
    nr_free_vmemmap_pages: int
    nr_nodes: int
    max_huge_pages: int = 0
    nr_huge_pages: int = 0
    free_huge_pages: int = 0
    resv_huge_pages: int = 0
    surplus_huge_pages: int = 0
    nr_overcommit_huge_pages: int = 0
    next_nid_to_alloc: int = 0
    next_nid_to_free: int = 0
    nr_optimized: int = 0
    resv_drift: int = 0
    nr_node: list[int] = field(default_factory=list)
    free_node: list[int] = field(default_factory=list)
    surplus_node: list[int] = field(default_factory=list)
    free_lists: list[FreeList] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.nr_node:
            self.nr_node = [0] * self.nr_nodes
            self.free_node = [0] * self.nr_nodes
            self.surplus_node = [0] * self.nr_nodes
            self.free_lists = [FreeList() for _ in range(self.nr_nodes)]

    @property
    def size(self) -> str:
        """The sysfs word: ``2048kB``."""
        return size_name(self.order)

    @property
    def cgroup_name(self) -> str:
        """The size in the names of a cgroup's files: ``2MB``.  Source: mm/hugetlb_cgroup.c mem_fmt() (5.14)."""
        return "1GB" if self.gigantic else "2MB"

    @property
    def pages(self) -> int:
        """Base pages of one huge page."""
        return 1 << self.order

    @property
    def blocks(self) -> int:
        """Pageblocks of one huge page: 1 or 512."""
        return 1 << (self.order - 9)

    @property
    def gigantic(self) -> bool:
        """Too large for the buddy."""
        return self.order == ORDER_1G

    @property
    def available(self) -> int:
        """Free pages that nobody reserved, as the kernel subtracts them: unsigned, so never below 0.

        More reserved than free pages read as very many.  Source: mm/hugetlb.c available_huge_pages() (6.1).
        """
        return (self.free_huge_pages - self.resv_huge_pages) & ULONG_MAX

    @property
    def resv_shown(self) -> int:
        """The reserve count as files show it: an unsigned long, so -1 reads as 2**64 - 1 (a defect with min_size=)."""
        return self.resv_huge_pages & ULONG_MAX

    @property
    def persistent(self) -> int:
        """nr - surplus; negative after the underflow defect of 5.14..6.8."""
        return self.nr_huge_pages - self.surplus_huge_pages


@dataclass(slots=True)
class QueuedFree:
    """A huge page that waits for the deferred-free worker: in no counter, its memory not free."""

    block: int
    order: int
    stamp: int


@dataclass(slots=True)
class Task:
    """A process of the simulated machine.

    ``runs``: its single pages as (first pfn, count) rows, newest last; ``policy``: mempolicy mode and nodes;
    ``cgroup``: path of the cgroup it is in, the root by default; ``parent``: the task that forked it, whose first
    ``shares`` movable single pages it has, too.
    """

    pid: int
    kind: str
    comm: str
    policy_mode: str = "default"
    policy_nodes: list[int] = field(default_factory=list)
    cpu: int = 0
    mlock: bool = False
    node: int | None = None
    runs: list[tuple[int, int]] = field(default_factory=list)
    maps: dict[int, HugeMap] = field(default_factory=dict)
    next_map_id: int = 0
    cgroup: str = ROOT_PATH
    parent: int | None = None
    shares: int = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> "Task":
        """As for its mappings: scattered memory has as many runs as pages."""
        nodes, maps = list(self.policy_nodes), copy.deepcopy(self.maps, memo)
        return replace(self, policy_nodes=nodes, runs=list(self.runs), maps=maps)


@dataclass(slots=True)
class ContigRange:
    """Pages taken by alloc_contig_range, end excluded."""

    range_id: int
    start_pfn: int
    end_pfn: int


@dataclass(slots=True)
class CmaArea:
    """Memory set aside at boot for contiguous ranges; movable pages use it meanwhile.  Pages of 4 KiB."""

    name: str
    base_pfn: int
    nr_pages: int


@dataclass(slots=True)
class Host:
    """One simulated machine.

    Attributes:
        kernel, cmdline: as booted.  profile: the rules of that kernel.
        nodes: all nodes, by number.  mem: every page.
        hstates: by order.  tasks: by pid.  files: hugetlbfs files by number.  mounts: hugetlbfs mounts, oldest first.
        cgroups: by path.  hugetlb_cgroups: the hugetlb controller's state, by number.
        page_charges: who pays for huge pages in use, by first pageblock; not listed: nobody but the root.
        mapcounts: how many private mappings share a page since a fork, where more than one does.
        deferred: queue of the deferred-free worker, oldest first; worked off newest first.
        optimize_enabled: new huge pages give their vmemmap back.
        thp: transparent huge pages were not switched off at boot: khugepaged raises min_free_kbytes.
        hugetlb_cma_only: gigantic pages come out of the areas for them and from nowhere else.
        carried: fields of /proc that hugepool does not model, carried from import or boot.
        counters: vmstat counters that hugepool does model; those of a node (``node_counter``) since boot or import.
        cpu: the processor that runs the present command: its lists give and take single pages.
        last_tick_ns: when the counters of CPUs were last updated.
        last_splat_ns: when the last allocation failure was printed (rate limit), None never.
    """

    kernel: str
    cmdline: str
    profile: KernelProfile
    seed: int
    nodes: list[Node]
    mem: MemoryMap
    memory_block_pages: int
    min_free_kbytes: int = 0
    user_min_free_kbytes: int = -1
    watermark_scale_factor: int = 10
    percpu_pagelist_high_fraction: int = 0
    lowmem_reserve_ratio: list[int] = field(default_factory=lambda: list(LOWMEM_RESERVE_RATIO))
    default_order: int = 9
    optimize_enabled: bool = False
    vmemmap_supported: bool = True
    movable_node: bool = False
    memmap_on_memory: bool = False
    thp: bool = True
    hugetlb_cma_only: bool = False
    auto_online_blocks: str = "offline"
    hstates: dict[int, HState] = field(default_factory=dict)
    tasks: dict[int, Task] = field(default_factory=dict)
    files: dict[int, HugetlbFile] = field(default_factory=dict)
    mounts: list[Mount] = field(default_factory=list)
    cgroups: dict[str, Cgroup] = field(default_factory=lambda: {ROOT_PATH: Cgroup(ROOT_PATH)})
    hugetlb_cgroups: dict[int, HugetlbCgroup] = field(default_factory=dict)
    page_charges: dict[int, PageCharge] = field(default_factory=dict)
    mapcounts: dict[int, int] = field(default_factory=dict)
    deferred: list[QueuedFree] = field(default_factory=list)
    contig_ranges: dict[int, ContigRange] = field(default_factory=dict)
    cma_areas: list[CmaArea] = field(default_factory=list)
    deferred_mode: DeferredMode = "auto"
    faults: dict[str, FaultAttr] = field(default_factory=dict)
    carried: dict[str, Any] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    next_pid: int = 1000
    next_stamp: int = 1
    next_range_id: int = 1
    next_file_id: int = 1
    next_mount_id: int = 1
    next_cgroup_id: int = 1
    hugetlb_shm_group: int = 0
    poisoned_pages: int = 0
    last_splat_ns: int | None = None
    last_tick_ns: int = 0
    cpu: int = 0

    @property
    def zones(self) -> list[Zone]:
        """All zones of all nodes, empty ones included."""
        return self.mem.zones

    def hstate(self, order: int) -> HState:
        """The huge page size of an order."""
        return self.hstates[order]

    @property
    def next_freed(self) -> int:
        """The next stamp in the order of free pageblocks."""
        return self.mem.order.next_stamp

    @next_freed.setter
    def next_freed(self, stamp: int) -> None:
        self.mem.order.next_stamp = stamp

    def memory_nodes(self) -> list[int]:
        """Node numbers with memory (N_MEMORY)."""
        return [node.nid for node in self.nodes if node.present]

    def running_node(self) -> int:
        """The node of the running processor, or the first one with memory where that has none."""
        return next((n.nid for n in self.nodes if self.cpu in n.cpus and n.present), self.memory_nodes()[0])

    def node_of_block(self, block: int) -> int:
        """Node of a pageblock."""
        return self.mem.zones[int(self.mem.zone[block]) - 1].nid

    def count(self, counter: str, by: int = 1) -> None:
        """Advance a vmstat counter."""
        if by:
            self.counters[counter] = self.counters.get(counter, 0) + by

    def count_on_node(self, nid: int, counter: str, by: int) -> None:
        """Advance a vmstat counter that nodes have, too."""
        self.count(counter, by)
        self.count(node_counter(nid, counter), by)


def node_counter(nid: int, counter: str) -> str:
    """Where ``Host.counters`` keeps the counter of one node."""
    return f"node{nid}/{counter}"


@dataclass(slots=True)
class VmemmapDelta:
    """What a command did to the vmemmap, in pages of 4 KiB.

    Attributes:
        pages_freed: given back as huge pages were optimised.
        pages_restored: taken as huge pages had to have their own vmemmap again.
        page_table_pages: taken for page tables of split sections.
    """

    pages_freed: int = 0
    pages_restored: int = 0
    page_table_pages: int = 0


@dataclass(slots=True)
class Call:
    """The scratch pad of one command: who calls, when, and what the answer needs.

    Attributes:
        comm: name of the acting process, for the console.  now_ns: the command's time.
        events: (type, data) in order.  injected: some refusal was injected by a fault point;
        ``injected_nodes``: nodes whose huge page allocation was.
        full_nodes: nodes that were asked for a huge page in vain.
    """

    comm: str = "hugepool"
    now_ns: int = 0
    vmemmap: VmemmapDelta = field(default_factory=VmemmapDelta)
    events: list[Occurrence] = field(default_factory=list)
    injected: bool = False
    injected_nodes: set[int] = field(default_factory=set)
    full_nodes: set[int] = field(default_factory=set)

    def emit(self, event: Event, **data: Any) -> None:
        """Record an event of the host's history."""
        self.events.append((event, data))

    def printk(self, line: str) -> None:
        """Print a console line; ``dmesg`` is the list of these events."""
        self.events.append((Event.KERNEL_MESSAGE_PRINTED, {"line": line}))
