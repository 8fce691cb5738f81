"""Which pages of an imported machine exist, and whose they are: sections, zones, holes.

Source: drivers/base/memory.c, mm/memory_hotplug.c (5.14) for what the files of memory blocks mean.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hugepool.mm.boot.buddy_pack import fewest
from hugepool.mm.boot.image import MachineImage, ZoneImage
from hugepool.mm.boot.layout import FIRMWARE_HOLES
from hugepool.mm.machine.errors import BadInput, TooLarge
from hugepool.mm.machine.mmzone import (
    NO_BLOCKS,
    NO_PFNS,
    ZONE_MOVABLE,
    ZONE_NAMES,
    Blocks,
    Mask,
    MemoryMap,
    Migrate,
    Node,
    Pfns,
    SectionState,
    Use,
    Zone,
)
from hugepool.mm.machine.units import (
    BLOCKS_PER_SECTION,
    DMA_END,
    MAX_ORDER_PAGES,
    NR_ORDERS,
    PAGE_SIZE,
    PAGEBLOCK_ORDER,
    PAGEBLOCK_PAGES,
    SECTION_PAGES,
)

CAPPED = 100_000  # where pagetypeinfo stops counting
MAX_PAGES = (16 << 40) // PAGE_SIZE
MAX_MAP_BYTES = 4 << 30
BYTES_A_PAGEBLOCK = 32  # of all arrays of MemoryMap
LOW_END = FIRMWARE_HOLES[1][1]  # the first MiB: what the firmware took of it ends here


@dataclass(slots=True)
class Budget:
    """Pages of one zone still to be placed, by what the files say.

    ``unmanaged``: reserved at boot; ``used``: taken from the buddy; ``pcp``: on per-CPU lists; ``lists``: free blocks
    by type and order; ``low_hole``: holes below 1 MiB, whose place is the likeliest one; ``area``: open pageblocks of
    its CMA areas, in which ``movable_in_area`` pages are in use; ``clean``, ``slab``: of those
    used, clean page cache and reclaimable slab.
    """

    image: ZoneImage
    zone: Zone
    unmanaged: int
    used: int
    pcp: int
    lists: npt.NDArray[np.int64]
    low_hole: Pfns = field(default_factory=lambda: NO_PFNS)
    area: Blocks = field(default_factory=lambda: NO_BLOCKS)
    movable_in_area: int = 0
    clean: int = 0
    slab: int = 0


def nr_sections(image: MachineImage) -> int:
    """Sections up to the end of the machine's memory.

    Raises:
        TooLarge: it has more than 16 TiB, or its map of pages would take more than 4 GiB.
    """
    present = sum(zone.present for zone in image.zones)
    if present > MAX_PAGES:
        raise TooLarge(
            f"the machine has {present >> 18} GiB of memory; machines of up to 16 TiB are modelled"
        )
    ends = [zone.start_pfn + zone.spanned for zone in image.zones if zone.present]
    blocks = [(n + 1) * (image.block_pages or SECTION_PAGES) for n in image.blocks]
    sections = -(-max([*ends, *blocks]) // SECTION_PAGES)
    cut = sum(min(_pageblocks_cut(zone), zone.present // PAGEBLOCK_PAGES) for zone in image.zones)
    size = sections * BLOCKS_PER_SECTION * BYTES_A_PAGEBLOCK + cut * PAGEBLOCK_PAGES
    if size > MAX_MAP_BYTES:
        raise TooLarge(
            f"the machine's map of pages would take {size >> 20} MiB; {MAX_MAP_BYTES >> 20} are the most"
        )
    return sections


def _pageblocks_cut(zone: ZoneImage) -> int:
    """About how many pageblocks of a zone have pages of several uses: a byte a page is kept of these."""
    return fewest(zone.free_area[:PAGEBLOCK_ORDER])


def build_nodes(image: MachineImage, mem: MemoryMap) -> list[Node]:
    """All nodes with their zones, empty ones included."""
    count = max([zone.nid for zone in image.zones] + list(image.node_cpus)) + 1
    by_place = {(z.nid, z.name): z for z in image.zones}
    nodes = []
    for nid in range(count):
        zones = []
        for type_, name in enumerate(ZONE_NAMES):
            zone = Zone(nid * 4 + type_, nid, type_)
            found = by_place.get((nid, name))
            if found and found.spanned:
                zone.start_pfn, zone.spanned = found.start_pfn, found.spanned
            mem.add_zone(zone)
            zones.append(zone)
        distance = image.distance.get(nid) or [10 if n == nid else 20 for n in range(count)]
        nodes.append(Node(nid, image.node_cpus.get(nid, []), zones, distance[:count]))
    return nodes


def claim_memory(image: MachineImage, mem: MemoryMap, nodes: list[Node]) -> list[Budget]:
    """Give sections and pageblocks to zones, and make present pages of them RESERVED for the time being."""
    block_sections = (image.block_pages or SECTION_PAGES) // SECTION_PAGES
    for number, (state, _zones, nid) in image.blocks.items():
        part = slice(number * block_sections, (number + 1) * block_sections)
        mem.section_state[part] = SectionState.OFFLINE if state == "offline" else SectionState.ONLINE
        if nid is not None:
            mem.section_nid[part] = nid
    budgets = []
    for z in sorted(image.zones, key=lambda z: z.start_pfn):
        if z.present:
            zone = nodes[z.nid].zones[ZONE_NAMES.index(z.name)]
            low_hole = _claim_zone(image, mem, zone, z)
            used = z.managed - z.free - z.pcp
            budgets.append(Budget(z, zone, z.present - z.managed, used, z.pcp, free_lists(z), low_hole))
    _forget_empty_sections(mem)
    offline = np.flatnonzero(mem.section_state == SectionState.OFFLINE)
    blocks = (offline[:, None] * BLOCKS_PER_SECTION + np.arange(BLOCKS_PER_SECTION)).ravel()
    mem.use[blocks[mem.zone[blocks] == 0]] = Use.OFFLINE
    mem.dirty[mem.section_state > 0] = True
    _mark_hot_added(mem, nodes, budgets)
    return budgets


def _claim_zone(image: MachineImage, mem: MemoryMap, zone: Zone, z: ZoneImage) -> Pfns:
    """Make pageblocks the zone's; returns its holes below 1 MiB."""
    span = mem.blocks_of(zone)
    section = np.arange(span.start, span.stop) // BLOCKS_PER_SECTION
    mine = mem.zone[span] == 0
    if image.blocks:
        mine &= mem.section_state[section] == SectionState.ONLINE
        mine &= (mem.section_nid[section] == zone.nid) | (mem.section_nid[section] < 0)
        mine &= ~_only_in_other_zone(image, section, z.name)
    blocks = np.flatnonzero(mine) + span.start
    before = z.start_pfn % PAGEBLOCK_PAGES if blocks.size and blocks[0] == span.start else 0
    room = blocks.size * PAGEBLOCK_PAGES - before
    if room < z.present:
        raise BadInput(
            f"Node {z.nid}, zone {z.name}: present {z.present} pages, but only {room} pages of memory blocks lie "
            "in its span", where="/proc/zoneinfo"
        )  # fmt: skip
    if not image.blocks:  # where the holes are is unknown: RAM first, holes at the end
        blocks = blocks[: -(-(z.present + before) // PAGEBLOCK_PAGES)]
        room = blocks.size * PAGEBLOCK_PAGES - before
        mem.section_state[blocks // BLOCKS_PER_SECTION] = SectionState.ONLINE
    mem.section_nid[blocks // BLOCKS_PER_SECTION] = zone.nid
    mem.zone[blocks] = zone.id
    mem.mt[blocks] = Migrate.MOVABLE
    mem.use[blocks] = Use.RESERVED
    zone.present = z.present
    first = np.arange(before) + int(blocks[0]) * PAGEBLOCK_PAGES
    low_hole = _low_hole(zone, room - z.present)
    mem.assign_pages(np.concatenate((first, low_hole)), Use.HOLE)
    _punch(mem, _in_order_of_holes(image, zone, blocks), room - z.present - low_hole.size)
    zone.managed = zone.nr_free = 0
    return low_hole


def _only_in_other_zone(image: MachineImage, section: Blocks, name: str) -> Mask:
    """Sections whose memory block says it lies in one other zone (movable blocks between kernel ones)."""
    per_block = (image.block_pages or SECTION_PAGES) // SECTION_PAGES
    other = {n for n, (_, zones, _nid) in image.blocks.items() if zones in ZONE_NAMES and zones != name}
    elsewhere: Mask = np.isin(section // per_block, np.array(sorted(other), np.int64))
    return elsewhere


# -- holes -----------------------------------------------------------------------------------------------


def _low_hole(zone: Zone, missing: int) -> Pfns:
    """What firmware keeps below 1 MiB ends there: all that is missing if it fits, else what it usually is."""
    if zone.start_pfn >= DMA_END or not missing:
        return NO_PFNS
    low, high = FIRMWARE_HOLES[1]
    fits = missing < LOW_END - zone.start_pfn
    return np.arange(LOW_END - missing if fits else low, high)


def _in_order_of_holes(image: MachineImage, zone: Zone, blocks: Blocks) -> Blocks:
    """Pageblocks in the order in which they become holes: where the files say so, then from the end."""
    per_block = (image.block_pages or SECTION_PAGES) // PAGEBLOCK_PAGES
    spans = [
        (
            z.start_pfn // PAGEBLOCK_PAGES // per_block,
            (z.start_pfn + z.spanned - 1) // PAGEBLOCK_PAGES // per_block,
        )
        for z in image.zones
        if z.present and (z.nid, z.name) != (zone.nid, zone.name)
    ]
    partly = [
        n
        for n, (state, zones, _nid) in image.blocks.items()
        if state != "offline" and zones == "none" and not any(low <= n <= high for low, high in spans)
    ]
    from_end = blocks[::-1]
    return from_end[np.argsort(~np.isin(from_end // per_block, partly), kind="stable")]


def _punch(mem: MemoryMap, blocks: Blocks, missing: int) -> None:
    """Make ``missing`` pages holes.  Less than 4 MiB is nothing that a memory block would show: it lies at the end."""
    if missing < MAX_ORDER_PAGES:
        blocks = np.sort(blocks)[::-1]
    whole, rest = divmod(missing, PAGEBLOCK_PAGES)
    mem.assign_blocks(blocks[:whole], Use.HOLE)
    if rest:
        mem.assign_pages((int(blocks[whole]) + 1) * PAGEBLOCK_PAGES - np.arange(rest, 0, -1), Use.HOLE)


def _forget_empty_sections(mem: MemoryMap) -> None:
    """Sections of memory blocks in which there is no page are not there."""
    empty = (mem.use.reshape(-1, BLOCKS_PER_SECTION) == Use.HOLE).all(axis=1)
    gone = np.flatnonzero(empty & (mem.section_state == SectionState.ONLINE))
    mem.section_state[gone], mem.section_nid[gone] = SectionState.ABSENT, -1
    mem.zone.reshape(-1, BLOCKS_PER_SECTION)[gone] = 0


# -- memory that was added after the boot ----------------------------------------------------------------


def _mark_hot_added(mem: MemoryMap, nodes: list[Node], budgets: list[Budget]) -> None:
    """A node's highest zones without any reserved page hold no early memory: they were added later.

    A lower one may have none because the kernel took what it needed from the top.
    """
    for node in nodes:
        for budget in _above_early_memory(node, budgets):
            span = mem.blocks_of(budget.zone)
            blocks = np.flatnonzero(mem.zone[span] == budget.zone.id) + span.start
            mem.hot_added[blocks // BLOCKS_PER_SECTION] = True


def _above_early_memory(node: Node, budgets: list[Budget]) -> Iterator[Budget]:
    mine = sorted((b for b in budgets if b.zone.nid == node.nid), key=lambda b: -b.zone.end_pfn)
    for budget in mine:
        if budget.unmanaged or budget.zone.start_pfn < DMA_END:
            return
        yield budget


def kernel_zones(budgets: list[Budget], nid: int) -> list[Budget]:
    """Zones of a node that the kernel takes memory from, the highest first."""
    mine = [b for b in budgets if b.zone.nid == nid and b.zone.type != ZONE_MOVABLE]
    return sorted(mine, key=lambda b: -b.zone.start_pfn)


# -- free lists ------------------------------------------------------------------------------------------


def free_lists(z: ZoneImage) -> npt.NDArray[np.int64]:
    """Free blocks by type and order that add up to buddyinfo; all movable where pagetypeinfo is not known.

    The two files are of different moments: a count that was capped, else the largest, gives or takes.
    """
    lists = np.zeros((len(Migrate), NR_ORDERS), np.int64)
    if z.free_by_type is None:
        lists[Migrate.MOVABLE] = z.free_area
        return lists
    lists[:] = [[CAPPED if count is None else count for count in row] for row in z.free_by_type]
    for order, total in enumerate(z.free_area):
        capped = [mt for mt in Migrate if z.free_by_type[mt][order] is None] or [Migrate.MOVABLE]
        left = total - int(lists[:, order].sum())
        for mt in (*capped, *np.argsort(-lists[:, order]).tolist()):
            change = max(left, -int(lists[mt, order]))
            lists[mt, order] += change
            left -= change
    return lists
