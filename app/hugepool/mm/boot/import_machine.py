"""Making a host of a real machine's files: the same counters, and the same buddyinfo cell by cell.

The files say how many free blocks of each order a zone has, not where: any placement in which no two free
buddies meet is as good, so pages are placed lowest first by one rule.  The rest follows from arithmetic:
present - managed is reserved memory (the vmemmap first), managed - free is in use.
"""

from dataclasses import dataclass, field

import numpy as np

from hugepool.mm.boot.boot import add_hstates
from hugepool.mm.boot.buddy_fill import Filler, fill_zone
from hugepool.mm.boot.cma_areas import adopt_areas
from hugepool.mm.boot.cmdline import BootParams, parse_cmdline
from hugepool.mm.boot.early_vmemmap import EARLY_FRAMES, count_early, map_early
from hugepool.mm.boot.image import MachineImage, PoolImage, ZoneImage
from hugepool.mm.boot.layout import FIRMWARE_HOLES, KERNEL_START, type_boot_memory
from hugepool.mm.kernel import hugetlb_page, hugetlbfs
from hugepool.mm.kernel.huge_blocks import type_lone_blocks
from hugepool.mm.kernel.pcp import adopt_lists
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.mappings import HugeMap
from hugepool.mm.machine.mmzone import (
    ZONE_MOVABLE,
    ZONE_NAMES,
    BlockFlag,
    Blocks,
    Mask,
    MemoryMap,
    Migrate,
    Node,
    Pfns,
    SectionState,
    Use,
    Zone,
    pages_in,
)
from hugepool.mm.machine.profile import profile_of
from hugepool.mm.machine.sparse_vmemmap import PTE_RO, make_pte, own_tables, split_vmemmap_huge_pmd
from hugepool.mm.machine.state import Call, Host, HState, Task
from hugepool.mm.machine.units import (
    BLOCKS_PER_1G,
    BLOCKS_PER_SECTION,
    DMA_END,
    MAX_BUDDY_ORDER,
    ORDER_2M,
    PAGEBLOCK_ORDER,
    PAGEBLOCK_PAGES,
    PTRS_PER_PTE,
    SECTION_PAGES,
    VMEMMAP_PER_BLOCK,
    pages_by_order,
)

IMPORTED_PID = 1
MAX_SECTIONS = 1 << 20
REGION_PAGES = 1 << MAX_BUDDY_ORDER


@dataclass(slots=True)
class _Budget:
    """Pages of one zone still to be placed, by what the files say."""

    image: ZoneImage
    zone: Zone
    unmanaged: int
    used: int
    fillers: list[Filler] = field(default_factory=list)


def restore_machine(image: MachineImage, call: Call) -> Host:
    """A host that renders the machine's own MemTotal, MemFree, buddyinfo, watermarks and counters again.

    Raises:
        BadInput: the files contradict each other in a way that no placement can satisfy.
    """
    profile = profile_of(image.kernel)
    end = max(zone.start_pfn + zone.spanned for zone in image.zones)
    mem = MemoryMap(_nr_sections(image, end), profile.reserved_vmemmap_pages)
    nodes = _build_nodes(image, mem)
    host = Host(image.kernel, image.cmdline, profile, 0, nodes, mem, image.block_pages or SECTION_PAGES)
    params = parse_cmdline(image.cmdline, profile, default_on=False)
    _take_over_tunables(host, image, params)
    _mark_present(image, mem, nodes)
    adopt_areas(host, image.zones, params)
    budgets = [
        _Budget(z, nodes[z.nid].zones[ZONE_NAMES.index(z.name)], z.present - z.managed,
                z.managed - z.free - z.pcp)
        for z in image.zones if z.present
    ]  # fmt: skip
    pages = _place_huge_pages(host, image, budgets, count_early(host, params))
    _place_vmemmap(host, budgets, pages)
    if profile.deferred_init:
        type_boot_memory(mem, nodes, (Use.BOOT_VMEMMAP,))
    _optimize_imported(host, budgets, pages)
    for budget in budgets:
        _fill(host, budget)
    for zone in host.zones:
        if zone.nr_pcp:
            adopt_lists(host, zone)
    _adopt_pools(host, pages)
    _take_over_watermarks(image, nodes)
    mem.order.reset()
    hugetlbfs.mount_default(host)
    call.emit(Event.MACHINE_IMPORTED, kernel=image.kernel, nodes=len(nodes))
    return host


def _nr_sections(image: MachineImage, end: int) -> int:
    blocks = [(n + 1) * (image.block_pages or SECTION_PAGES) for n in image.blocks]
    sections = -(-max([end, *blocks]) // SECTION_PAGES)
    if sections > MAX_SECTIONS:
        raise BadInput("memory beyond 128 TiB is not modelled", where="/proc/zoneinfo")
    return sections


def _build_nodes(image: MachineImage, mem: MemoryMap) -> list[Node]:
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


def _take_over_tunables(host: Host, image: MachineImage, params: BootParams) -> None:
    host.default_order = image.default_order
    host.watermark_scale_factor = image.watermark_scale_factor
    host.lowmem_reserve_ratio = list(image.lowmem_reserve_ratio[:4])
    known = image.optimize_enabled
    host.optimize_enabled = params.free_vmemmap if known is None else known
    host.auto_online_blocks = image.auto_online_blocks
    host.movable_node, host.thp = params.movable_node, params.thp
    excluded = host.optimize_enabled and host.profile.memmap_on_memory_excluded
    host.memmap_on_memory = params.memmap_on_memory and not excluded
    host.carried = dict(image.carried)
    host.counters = dict(image.vmstat)
    total = sum(zone.min for zone in image.zones)
    host.min_free_kbytes = image.min_free_kbytes if image.min_free_kbytes is not None else total * 4


def _take_over_watermarks(image: MachineImage, nodes: list[Node]) -> None:
    for z in image.zones:
        zone = nodes[z.nid].zones[ZONE_NAMES.index(z.name)]
        zone.min, zone.low, zone.high, zone.cma = z.min, z.low, z.high, z.cma
        zone.lowmem_reserve = (list(z.protection[:4]) + [0] * 4)[:4]


# -- which pages exist ------------------------------------------------------------------------------------


def _mark_present(image: MachineImage, mem: MemoryMap, nodes: list[Node]) -> None:
    """Give sections and pageblocks to zones, and make present pages of them RESERVED for the time being."""
    block_sections = (image.block_pages or SECTION_PAGES) // SECTION_PAGES
    for number, (state, _zones, nid) in image.blocks.items():
        part = slice(number * block_sections, (number + 1) * block_sections)
        mem.section_state[part] = SectionState.OFFLINE if state == "offline" else SectionState.ONLINE
        if nid is not None:
            mem.section_nid[part] = nid
    for z in sorted(image.zones, key=lambda z: z.start_pfn):
        if z.present:
            _claim_zone(image, mem, nodes[z.nid].zones[ZONE_NAMES.index(z.name)], z)
    offline = np.flatnonzero(mem.section_state == SectionState.OFFLINE)
    blocks = (offline[:, None] * BLOCKS_PER_SECTION + np.arange(BLOCKS_PER_SECTION)).ravel()
    mem.use[blocks[mem.zone[blocks] == 0]] = Use.OFFLINE
    mem.dirty[mem.section_state > 0] = True


def _claim_zone(image: MachineImage, mem: MemoryMap, zone: Zone, z: ZoneImage) -> None:
    span = mem.blocks_of(zone)
    section = np.arange(span.start, span.stop) // BLOCKS_PER_SECTION
    mine = mem.zone[span] == 0
    if image.blocks:
        mine &= mem.section_state[section] == SectionState.ONLINE
        mine &= (mem.section_nid[section] == zone.nid) | (mem.section_nid[section] < 0)
        mine &= ~_only_in_other_zone(image, section, z.name)
    blocks = np.flatnonzero(mine) + span.start
    first_offset = z.start_pfn % PAGEBLOCK_PAGES if blocks.size and blocks[0] == span.start else 0
    room = blocks.size * PAGEBLOCK_PAGES - first_offset
    if room < z.present:
        raise BadInput(
            f"Node {z.nid}, zone {z.name}: present {z.present} pages, but only {room} pages of memory blocks lie "
            "in its span", where="/proc/zoneinfo"
        )  # fmt: skip
    if not image.blocks:  # where the holes are is unknown: RAM first, holes at the end
        blocks = blocks[: -(-(z.present + first_offset) // PAGEBLOCK_PAGES)]
        room = blocks.size * PAGEBLOCK_PAGES - first_offset
        mem.section_state[blocks // BLOCKS_PER_SECTION] = SectionState.ONLINE
    mem.section_nid[blocks // BLOCKS_PER_SECTION] = zone.nid
    mem.zone[blocks] = zone.index + 1
    mem.mt[blocks] = Migrate.MOVABLE
    mem.use[blocks] = Use.RESERVED
    zone.present = z.present
    _punch(mem, zone, blocks, first_offset, room - z.present)


def _only_in_other_zone(image: MachineImage, section: Blocks, name: str) -> Mask:
    """Sections whose memory block says it lies in one other zone (movable blocks between kernel ones)."""
    per_block = (image.block_pages or SECTION_PAGES) // SECTION_PAGES
    other = {n for n, (_, zones, _nid) in image.blocks.items() if zones in ZONE_NAMES and zones != name}
    elsewhere: Mask = np.isin(section // per_block, np.array(sorted(other), np.int64))
    return elsewhere


def _punch(mem: MemoryMap, zone: Zone, blocks: Blocks, first_offset: int, missing: int) -> None:
    """Make ``missing`` pages of a zone holes: below its first page, firmware's, then its last ones."""
    holes = [np.arange(first_offset) + int(blocks[0]) * PAGEBLOCK_PAGES] if first_offset else []
    if zone.start_pfn < DMA_END and missing:
        low, high = FIRMWARE_HOLES[1]
        part = np.arange(low, min(high, low + missing))
        missing -= part.size
        holes.append(part)
    if missing:
        count = (missing + PAGEBLOCK_PAGES - 1) // PAGEBLOCK_PAGES
        last = pages_in(blocks[-count:])
        holes.append(last[-missing:])
    if holes:
        mem.assign_pages(np.unique(np.concatenate(holes)), Use.HOLE)
    zone.managed = zone.nr_free = 0


# -- huge pages and their vmemmap -------------------------------------------------------------------------


@dataclass(slots=True)
class _Placed:
    """First pageblocks of the huge pages of a size, by node; ``early``: those with a small vmemmap from the start."""

    pool: PoolImage
    heads: dict[int, list[int]] = field(default_factory=dict)
    early: frozenset[int] = frozenset()

    def all_heads(self) -> list[int]:
        """Of all nodes, rising."""
        return sorted(head for heads in self.heads.values() for head in heads)


def _place_huge_pages(
    host: Host, image: MachineImage, budgets: list[_Budget], nr_early: int
) -> list[_Placed]:
    add_hstates(host)
    placed = []
    for pool in sorted(image.pools, key=lambda p: -p.order):
        if pool.order not in host.hstates:
            raise BadInput(
                f"huge pages of order {pool.order} are not modelled", where="/sys/kernel/mm/hugepages"
            )
        row = _Placed(pool)
        for nid, (nr, _free, _surplus) in sorted(pool.nodes.items()):
            row.heads[nid] = _place_on_node(host, nid, pool.order, nr, budgets)
        if host.hstates[pool.order].gigantic:
            row.early = frozenset(row.all_heads()[:nr_early])
        placed.append(row)
    return placed


def _place_on_node(host: Host, nid: int, order: int, count: int, budgets: list[_Budget]) -> list[int]:
    heads: list[int] = []
    size = 1 << order
    mine = sorted((b for b in budgets if b.zone.nid == nid), key=lambda b: -b.zone.type)
    if order != ORDER_2M:
        mine = [b for b in mine if b.zone.type != ZONE_MOVABLE] + [
            b for b in mine if b.zone.type == ZONE_MOVABLE
        ]
    for budget in mine:
        overhead = count if host.optimize_enabled and host.profile.fresh_head_frame else 0
        fit = min(
            count - len(heads), max(0, budget.used - overhead) // size
        )  # head frames are in use as well
        found = _free_places(host.mem, budget.zone, 1 << (order - 9), fit)
        budget.used -= len(found) * size
        heads.extend(found)
    if len(heads) < count:
        raise BadInput(
            f"node {nid} has {count} huge pages of {size * 4} kB, more than its memory in use holds",
            where="/sys/devices/system/node",
        )
    return heads


def _free_places(mem: MemoryMap, zone: Zone, blocks: int, count: int) -> list[int]:
    """The highest aligned places in a zone for ``count`` pages of so many pageblocks, now HUGETLB."""
    span = mem.blocks_of(zone)
    found: list[int] = []
    start = span.stop // blocks * blocks - blocks
    while start >= span.start and len(found) < count:
        part = slice(start, start + blocks)
        if (mem.use[part] == Use.RESERVED).all() and (mem.zone[part] == zone.index + 1).all():
            mem.use[part] = Use.HUGETLB
            zone.managed += blocks * PAGEBLOCK_PAGES
            mem.flags[part] = BlockFlag.GIGANTIC if blocks > 1 else 0
            mem.flags[start] |= BlockFlag.HEAD
            found.append(start)
        start -= blocks
    return found


def _place_vmemmap(host: Host, budgets: list[_Budget], placed: list[_Placed]) -> None:
    """512 frames for every section: of the node's reserved memory at its top, else of its memory in use."""
    mem = host.mem
    for node in host.nodes:
        sections = np.flatnonzero((mem.section_nid == node.nid) & (mem.section_state != SectionState.ABSENT))
        mine = sorted((b for b in budgets if b.zone.nid == node.nid), key=lambda b: -b.zone.start_pfn)
        freed = _freed_frames(host, placed, node.nid)
        left = sections
        for budget in mine:
            if left.size == 0:
                break
            fit = min(left.size, (budget.unmanaged + min(freed, left.size * PTRS_PER_PTE)) // PTRS_PER_PTE)
            base = _vmemmap_places(mem, budget.zone, fit, Use.BOOT_VMEMMAP)
            mem.vmemmap_pfn[left[: base.size]] = base
            budget.unmanaged -= base.size * PTRS_PER_PTE
            left = left[base.size :]
        for budget in mine:
            if budget.zone.type == ZONE_MOVABLE or left.size == 0:
                continue
            base = _vmemmap_places(mem, budget.zone, min(left.size, budget.used // PTRS_PER_PTE), Use.VMEMMAP)
            mem.vmemmap_pfn[left[: base.size]] = base
            budget.used -= base.size * PTRS_PER_PTE
            left = left[base.size :]
        _borrow_vmemmap(host, budgets, left)


def _freed_frames(host: Host, placed: list[_Placed], nid: int) -> int:
    if not host.optimize_enabled:
        return 0
    freed = 0
    for row in placed:
        heads = row.heads.get(nid, [])
        early = len(row.early.intersection(heads))
        freed += (len(heads) - early) * host.profile.boot_frames_freed(row.pool.order) + early * EARLY_FRAMES
    return freed


def _vmemmap_places(mem: MemoryMap, zone: Zone, count: int, use: Use) -> Pfns:
    """First frames of the ``count`` highest untouched pageblocks of a zone, ascending, now vmemmap."""
    span = mem.blocks_of(zone)
    free = np.flatnonzero((mem.use[span] == Use.RESERVED) & (mem.zone[span] == zone.index + 1)) + span.start
    blocks = free[max(0, free.size - count) :] if count > 0 else free[:0]
    mem.use[blocks] = use
    if use == Use.VMEMMAP:
        zone.managed += int(blocks.size) * PAGEBLOCK_PAGES
    frames: Pfns = blocks * PAGEBLOCK_PAGES
    return frames


def _borrow_vmemmap(host: Host, budgets: list[_Budget], left: Pfns) -> None:
    """Sections whose own node has no room for their vmemmap take it from any other node's reserved memory."""
    for budget in budgets:
        if left.size == 0:
            return
        base = _vmemmap_places(
            host.mem, budget.zone, min(left.size, budget.unmanaged // PTRS_PER_PTE), Use.BOOT_VMEMMAP
        )
        host.mem.vmemmap_pfn[left[: base.size]] = base
        budget.unmanaged -= base.size * PTRS_PER_PTE
        left = left[base.size :]
    if left.size:
        raise BadInput(
            f"no room for the memmap of {left.size} sections: present - managed is smaller than 64 bytes a page",
            where="/proc/zoneinfo",
        )


def _optimize_imported(host: Host, budgets: list[_Budget], placed: list[_Placed]) -> None:
    """With the feature on, every huge page the machine came with has given its vmemmap back."""
    if not host.optimize_enabled:
        return
    by_zone = {b.zone.index: b for b in budgets}
    for row in placed:
        hs = host.hstates[row.pool.order]
        heads = np.array(row.all_heads(), np.int64)
        if heads.size == 0:
            continue
        for head in sorted(row.early):
            _reserve(host, map_early(host, head), by_zone)
        late = heads[~np.isin(heads, list(row.early))]
        per = 1 if not hs.gigantic else BLOCKS_PER_1G
        blocks = (late[:, None] + np.arange(per)).ravel()
        sections = np.unique(blocks // BLOCKS_PER_SECTION)
        _split_imported(host, sections[host.mem.pte_slot[sections] == 0], budgets)
        for head in late:
            _free_imported(host, int(head), per, by_zone)
        host.mem.flags[heads] |= BlockFlag.OPTIMIZED
        hs.nr_optimized = int(heads.size)


def _split_imported(host: Host, sections: Pfns, budgets: list[_Budget]) -> None:
    """Page tables of split sections are among the machine's memory in use."""
    tables = np.empty(sections.size, np.int64)
    done = 0
    for budget in sorted(budgets, key=lambda b: -b.zone.start_pfn):
        if budget.zone.type == ZONE_MOVABLE:
            continue
        count = min(sections.size - done, budget.used)
        pfns = _lowest_pages(host.mem, budget.zone, count)
        host.mem.assign_pages(pfns, Use.PAGE_TABLE)
        budget.used -= pfns.size
        tables[done : done + pfns.size] = pfns
        done += pfns.size
    if done < sections.size:
        raise BadInput(
            "less memory in use than the page tables of its huge pages need", where="/proc/zoneinfo"
        )
    split_vmemmap_huge_pmd(host.mem, sections, tables)
    own_tables(host.mem, sections)


def _lowest_pages(mem: MemoryMap, zone: Zone, count: int) -> Pfns:
    span = mem.blocks_of(zone)
    free = np.flatnonzero((mem.use[span] == Use.RESERVED) & (mem.zone[span] == zone.index + 1)) + span.start
    blocks = free[: -(-count // PAGEBLOCK_PAGES)]
    return pages_in(blocks)[:count]


def _reserve(host: Host, frames: Pfns, by_zone: dict[int, _Budget]) -> None:
    """Make frames of boot memory places for the fill to use."""
    host.mem.assign_pages(frames, Use.RESERVED)
    zone_ids, counts = np.unique(host.mem.zone[frames // PAGEBLOCK_PAGES], return_counts=True)
    for zone_id, n in zip(zone_ids.tolist(), counts.tolist(), strict=True):
        by_zone[zone_id - 1].unmanaged += n


def _free_imported(host: Host, head: int, per: int, by_zone: dict[int, _Budget]) -> None:
    """Remap one imported huge page; its freed frames become RESERVED places for the fill to use."""
    mem, kept = host.mem, host.profile.reserved_vmemmap_pages
    entries = np.arange(per * VMEMMAP_PER_BLOCK) + head % BLOCKS_PER_SECTION * VMEMMAP_PER_BLOCK
    section = head // BLOCKS_PER_SECTION + entries // PTRS_PER_PTE
    rows = mem.pte_slot[section]
    words = mem.pte[rows, entries % PTRS_PER_PTE]
    frames = words[kept:] >> 12
    mem.pte[rows[kept:], entries[kept:] % PTRS_PER_PTE] = make_pte(words[kept - 1 : kept] >> 12, PTE_RO)
    _reserve(host, frames, by_zone)
    if host.profile.fresh_head_frame:  # all 8 (4096) boot frames went, the head's frame came from the buddy
        head_frame = int(words[0] >> 12)
        budget = by_zone[int(mem.zone[head_frame // PAGEBLOCK_PAGES]) - 1]
        mem.assign_pages(np.array([head_frame]), Use.VMEMMAP)
        budget.unmanaged += 1
        budget.used -= 1


# -- the rest of a zone -----------------------------------------------------------------------------------


def _fill(host: Host, budget: _Budget) -> None:
    """Place the free blocks of buddyinfo, then reserved, used and per-CPU pages, in the zone's open places."""
    z = budget.image
    if budget.used < 0 or budget.unmanaged < 0:
        raise BadInput(
            f"Node {z.nid}, zone {z.name}: {z.managed} managed pages cannot hold its free, huge and vmemmap pages",
            where="/proc/zoneinfo",
        )
    movable = min(budget.used, _movable_share(host, budget))
    lists = _kernel_lists(z)
    fill_top = _top_fillers(host, budget, movable)
    tries = [(lists, fill_top, 0), (lists, [], 0), ({}, [], 0)]
    unmovable = sum(map(pages_by_order, lists.values()))
    if budget.zone.type == ZONE_MOVABLE and unmovable:
        tries.insert(0, (lists, *_beside_early(budget, unmovable)))
    for kernel, top, beside in tries:
        taken = {filler.use: filler.pages for filler in top}
        fillers = [
            Filler(Use.RESERVED, budget.unmanaged - taken.get(Use.RESERVED, 0)),
            Filler(Use.SYSTEM, budget.used - movable),
            Filler(Use.PAGE_CACHE, movable - taken.get(Use.PAGE_CACHE, 0)),
            Filler(Use.PCP, z.pcp),
        ]
        if fill_zone(host.mem, budget.zone, z.free_area, fillers, kernel, top, beside):
            break
    else:
        raise BadInput(
            f"Node {z.nid}, zone {z.name}: the free blocks do not fit into its {z.present} present pages "
            "without two free buddies meeting",
            where="/proc/buddyinfo",
        )
    if z.free_by_type is not None:
        type_lone_blocks(host.mem, budget.zone, z.free_by_type[Migrate.MOVABLE][PAGEBLOCK_ORDER])


def _top_fillers(host: Host, budget: _Budget, movable: int) -> list[Filler]:
    """Early memory is handed out from the top; the kernel's image lies low.

    Page cache soon fills what is left of the last region of 4 MiB; where there is none, only whole regions count.
    """
    zone = budget.zone
    image = host.profile.kernel_image_pages if KERNEL_START in range(zone.start_pfn, zone.end_pfn) else 0
    early = max(0, budget.unmanaged - image)
    beside = -early % REGION_PAGES
    if not image and beside <= movable:
        return [Filler(Use.PAGE_CACHE, beside), Filler(Use.RESERVED, early)]
    return [Filler(Use.RESERVED, early - early % REGION_PAGES)]


def _beside_early(budget: _Budget, free: int) -> tuple[list[Filler], int]:
    """Nothing turns a pageblock of ZONE_MOVABLE unmovable but early memory in it: free blocks lie beside that."""
    early = budget.unmanaged
    beside = -early % REGION_PAGES
    return [Filler(Use.PAGE_CACHE, beside - free), Filler(Use.RESERVED, early)], beside


def _kernel_lists(z: ZoneImage) -> dict[Migrate, list[int]]:
    """Free blocks smaller than a pageblock on the kernel's own lists; none where they contradict buddyinfo."""
    if z.free_by_type is None:
        return {}
    lists = {mt: z.free_by_type[mt][:PAGEBLOCK_ORDER] for mt in (Migrate.UNMOVABLE, Migrate.RECLAIMABLE)}
    fits = all(sum(column) <= free for *column, free in zip(*lists.values(), z.free_area, strict=False))
    return lists if fits else {}


def _movable_share(host: Host, budget: _Budget) -> int:
    """Anonymous and page-cache pages of the zone: ZONE_MOVABLE holds nothing else; /proc/zoneinfo counts them."""
    carried = host.carried.get("zone_movable_pages", {})
    known = carried.get(f"{budget.zone.nid}/{budget.zone.name}") if isinstance(carried, dict) else None
    if budget.zone.type == ZONE_MOVABLE:
        return budget.used
    return int(known) if known is not None else 0


# -- pools ------------------------------------------------------------------------------------------------


def _adopt_pools(host: Host, placed: list[_Placed]) -> None:
    owner = Task(IMPORTED_PID, "imported", "imported")
    for row in placed:
        hs, pool = host.hstates[row.pool.order], row.pool
        used: list[int] = []
        for nid, heads in row.heads.items():
            _nr, free, surplus = pool.nodes[nid]
            ordered = np.array(heads[::-1], np.int64)
            hugetlb_page.account_pages(host, hs, ordered, +1)
            hugetlb_page.enqueue(host, hs, ordered[len(heads) - free :])
            used.extend(ordered[: len(heads) - free].tolist())
            hs.surplus_node[nid] = surplus
        hs.surplus_huge_pages, hs.resv_huge_pages = pool.surplus, pool.resv
        hs.resv_drift = min(0, pool.resv)
        hs.nr_overcommit_huge_pages = pool.overcommit
        hs.max_huge_pages = pool.max if pool.max is not None else max(0, pool.nr - pool.surplus)
        _own(owner, hs, used, max(0, pool.resv))
    if owner.maps:
        host.tasks[IMPORTED_PID] = owner


def _own(owner: Task, hs: HState, used: list[int], resv: int) -> None:
    """Huge pages in use and reservations at import belong to one task that stands for all programs."""
    if not used and not resv:
        return
    count = len(used) + resv
    mapping = HugeMap(owner.next_map_id, hs.order, count, shared=False, noreserve=False, owner=True)
    owner.next_map_id += 1
    mapping.pages = dict(enumerate(used))
    mapping.consumed.add(0, len(used))
    owner.maps[mapping.map_id] = mapping
