"""Where RAM, zones and the vmemmap of a machine lie.

Source: mm/page_alloc.c find_zone_movable_pfns_for_nodes(), calculate_node_totalpages();
mm/sparse.c sparse_init_nid(); arch/x86/kernel/e820.c (5.14).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hugepool.mm.machine.mmzone import (
    ZONE_MOVABLE,
    ZONE_NORMAL,
    MemoryMap,
    Migrate,
    Node,
    SectionState,
    Use,
    Zone,
)
from hugepool.mm.machine.units import (
    BLOCKS_PER_SECTION,
    DMA32_END,
    DMA_END,
    GIB_PAGES,
    MAX_ORDER_PAGES,
    PAGEBLOCK_PAGES,
    SECTION_PAGES,
)

LOW_RAM_END = 3 * GIB_PAGES  # a machine of 3.5 GiB or more continues above 4 GiB
SPLIT_FROM = 7 * GIB_PAGES // 2
FIRMWARE_HOLES = ((0, 1), (0x9F, 0x100))  # real-mode page, EBDA and video memory
FIRMWARE_TOP = 32  # ACPI tables below the end of low RAM
KERNEL_START = 4096  # the image begins at 16 MiB
ZONE_BOUNDS = ((0, DMA_END), (DMA_END, DMA32_END), (DMA32_END, 1 << 40))

PfnRange = tuple[int, int]


@dataclass(slots=True)
class NodeLayout:
    """RAM of one node as pfn ranges, and where its ZONE_MOVABLE begins (None: it has none)."""

    nid: int
    ranges: list[PfnRange]
    movable_start: int | None = None
    movable_only: bool = False
    boot: bool = True
    cpus: list[int] = field(default_factory=list)

    @property
    def start(self) -> int:
        """First pfn."""
        return self.ranges[0][0]

    @property
    def end(self) -> int:
        """First pfn behind the node."""
        return self.ranges[-1][1]

    @property
    def pages(self) -> int:
        """RAM pages."""
        return sum(end - start for start, end in self.ranges)


def ram_ranges(total_pages: int) -> list[PfnRange]:
    """RAM of a PC: up to 3 GiB below the PCI hole when it has 3.5 GiB or more, the rest from 4 GiB up."""
    if total_pages < SPLIT_FROM:
        return [(0, total_pages)]
    return [(0, LOW_RAM_END), (DMA32_END, DMA32_END + total_pages - LOW_RAM_END)]


def spread(nodes_pages: Sequence[int]) -> list[NodeLayout]:
    """Cut the RAM of a machine into nodes, in order of address."""
    left = ram_ranges(sum(nodes_pages))
    layouts = []
    for nid, pages in enumerate(nodes_pages):
        ranges: list[PfnRange] = []
        wanted = pages
        while wanted:
            start, end = left[0]
            take = min(wanted, end - start)
            ranges.append((start, start + take))
            wanted -= take
            left[0] = (start + take, end)
            if start + take == end:
                left.pop(0)
        layouts.append(NodeLayout(nid, ranges))
    return layouts


def find_zone_movable(layouts: list[NodeLayout], kernelcore: int | None, movablecore: int | None) -> None:
    """Set ``movable_start`` of each node from kernelcore= and movablecore= (pages), spread evenly over nodes.

    Source: mm/page_alloc.c find_zone_movable_pfns_for_nodes() (5.14).
    """
    total = sum(node.pages for node in layouts)
    required = kernelcore or 0
    if movablecore is not None:
        rounded = -(-movablecore // MAX_ORDER_PAGES) * MAX_ORDER_PAGES
        required = max(required, total - min(total, rounded))
    if not required or required >= total:
        return
    usable = DMA32_END if layouts[-1].end > DMA32_END else DMA_END
    starts = [0] * len(layouts)
    for nodes in range(len(layouts), 0, -1):
        required = _spread_kernelcore(layouts, starts, required, nodes, usable)
        if required <= nodes - 1:
            break
    for node, start in zip(layouts, starts, strict=True):
        aligned = -(-start // MAX_ORDER_PAGES) * MAX_ORDER_PAGES
        node.movable_start = aligned if aligned < node.end else None


def _spread_kernelcore(
    layouts: list[NodeLayout], starts: list[int], required: int, nodes: int, usable: int
) -> int:
    """One round over all nodes; what is still required then.

    The share is that of the round's beginning, and made anew only when less than that is left.
    """
    share = required // nodes
    for i, node in enumerate(layouts):
        if required < share:
            share = required // nodes
        required = _give_kernelcore(node, i, starts, share, required, usable)
    return required


def _give_kernelcore(
    node: NodeLayout, i: int, starts: list[int], share: int, required: int, usable: int
) -> int:
    remaining = share
    for range_start, end in node.ranges:
        start = max(range_start, starts[i])
        if start >= end:
            continue
        if start < usable:
            kernel = min(end, usable) - start
            remaining -= min(kernel, remaining)
            required -= min(kernel, required)
            if end <= usable:
                starts[i] = end
                continue
            start = usable
        size = min(end - start, remaining)
        starts[i] = start + size
        required -= min(required, size)
        remaining -= size
        if remaining == 0:
            break
    return required


def build_nodes(layouts: Sequence[NodeLayout], mem: MemoryMap) -> list[Node]:
    """Zones by type for every node, registered with ``mem``; pageblocks belong to zones, all use HOLE."""
    nodes = []
    for layout in layouts:
        zones = [Zone(layout.nid * 4 + t, layout.nid, t) for t in range(4)]
        for zone in zones:
            mem.add_zone(zone)
        distance = [10 if other.nid == layout.nid else 20 for other in layouts]
        nodes.append(Node(layout.nid, layout.cpus, zones, distance))
        if layout.ranges:
            _span_zones(layout, zones)
            for zone in zones:
                _claim_blocks(layout, zone, mem)
    return nodes


def _span_zones(layout: NodeLayout, zones: list[Zone]) -> None:
    start, end = max(layout.start, 1), layout.end
    movable = layout.start if layout.movable_only else layout.movable_start
    for zone in zones[: ZONE_NORMAL + 1]:
        low, high = ZONE_BOUNDS[zone.type]
        low, high = max(start, low), min(end, high if movable is None else min(high, movable))
        if low < high:
            zone.start_pfn, zone.spanned = low, high - low
    if movable is not None and movable < end:
        zones[ZONE_MOVABLE].start_pfn = max(movable, start)
        zones[ZONE_MOVABLE].spanned = end - max(movable, start)


def _claim_blocks(layout: NodeLayout, zone: Zone, mem: MemoryMap) -> None:
    for start, end in layout.ranges:
        low = max(start, zone.start_pfn) // PAGEBLOCK_PAGES
        high = -(-min(end, zone.end_pfn) // PAGEBLOCK_PAGES)
        if low < high and zone.spanned:
            mem.zone[low:high] = zone.id
            mem.mt[low:high] = Migrate.MOVABLE


def populate(layouts: Sequence[NodeLayout], nodes: Sequence[Node], mem: MemoryMap) -> None:
    """Make all RAM free buddy pages, in bulk, and set present pages and section states."""
    for layout in layouts:
        for start, end in layout.ranges:
            first, last = start // PAGEBLOCK_PAGES, -(-end // PAGEBLOCK_PAGES)
            mem.use[first:last] = Use.BUDDY
            mem.nfree[first:last] = PAGEBLOCK_PAGES
            for section in range(start // SECTION_PAGES, -(-end // SECTION_PAGES)):
                mem.section_state[section] = SectionState.ONLINE
                mem.section_nid[section] = layout.nid
    for node in nodes:
        for zone in node.zones:
            blocks = mem.blocks_of(zone)
            pages = int((mem.zone[blocks] == zone.id).sum()) * PAGEBLOCK_PAGES
            zone.present = zone.managed = zone.nr_free = pages
    mem.dirty[mem.section_state > 0] = True


def punch_hole(mem: MemoryMap, zones: Sequence[Zone], start: int, end: int) -> None:
    """Take pages out of RAM: no memory there."""
    pfns = np.arange(start, end)
    for pfn in pfns:
        zone = int(mem.zone[pfn // PAGEBLOCK_PAGES])
        if zone:
            zones[zone - 1].present -= 1
    mem.assign_pages(pfns, Use.HOLE)


def type_boot_memory(mem: MemoryMap, nodes: Sequence[Node], uses: tuple[Use, ...]) -> None:
    """Deferred initialisation frees what is left of a node's last zone: pageblocks of earlier uses stay Unmovable.

    The zone's first section is initialised early.
    Source: mm/page_alloc.c defer_init(), deferred_free_range() (6.1).
    """
    for node in nodes:
        populated = [zone for zone in node.zones if zone.present]
        if not populated:
            continue
        span = mem.blocks_of(populated[-1])
        late = np.arange(span.start + BLOCKS_PER_SECTION, span.stop)
        mine = mem.zone[late] == populated[-1].id
        mem.set_type(late[mine & np.isin(mem.use[late], uses)], Migrate.UNMOVABLE)


def place_boot_vmemmap(mem: MemoryMap, layout: NodeLayout) -> None:
    """Reserve 512 frames per section of a node at the top of its memory, below what is taken there already.

    Source: mm/sparse.c sparse_buffer_init(), mm/sparse-vmemmap.c vmemmap_populate_hugepages() (5.14).
    """
    left = np.flatnonzero(mem.section_nid == layout.nid)
    for start, end in reversed(layout.ranges):
        top = end // PAGEBLOCK_PAGES
        bottom = max(start // PAGEBLOCK_PAGES, 32 if start == 0 else 0)
        while top > bottom and mem.use[top - 1] != Use.BUDDY:
            top -= 1
        fits = min(left.size, top - bottom)
        blocks = np.arange(top - fits, top)
        mem.vmemmap_pfn[left[:fits]] = blocks * PAGEBLOCK_PAGES
        mem.assign_blocks(blocks, Use.BOOT_VMEMMAP)
        left = left[fits:]
