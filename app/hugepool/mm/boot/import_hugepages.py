"""The huge pages of an imported machine, the vmemmap of its memory, and what the pages have given back of it."""

from dataclasses import dataclass, field

import numpy as np

from hugepool.mm.boot.boot import add_hstates
from hugepool.mm.boot.early_vmemmap import EARLY_FRAMES, map_early
from hugepool.mm.boot.image import MachineImage, PoolImage
from hugepool.mm.boot.import_zones import Budget, kernel_zones
from hugepool.mm.boot.pageblock_types import set_type, without
from hugepool.mm.kernel import hugetlb_page
from hugepool.mm.kernel.hugetlb_vmemmap import ptes_of, set_ptes, vmemmap_sections
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.mappings import HugeMap
from hugepool.mm.machine.mmzone import (
    NO_BLOCKS,
    NO_PFNS,
    ZONE_MOVABLE,
    BlockFlag,
    Blocks,
    Mask,
    MemoryMap,
    Migrate,
    Pfns,
    SectionState,
    Use,
    Zone,
    pages_in,
)
from hugepool.mm.machine.sparse_vmemmap import (
    PTE_RO,
    PTE_RW,
    make_pte,
    own_tables,
    split_vmemmap_huge_pmd,
)
from hugepool.mm.machine.state import Host, HState, Task
from hugepool.mm.machine.units import (
    BLOCKS_PER_SECTION,
    KB_PER_PAGE,
    ORDER_2M,
    PAGEBLOCK_ORDER,
    PAGEBLOCK_PAGES,
    PTRS_PER_PTE,
    VMEMMAP_PER_BLOCK,
)

IMPORTED_PID = 1


@dataclass(slots=True)
class Placed:
    """First pageblocks of the huge pages of a size, by node; ``early``: those with a small vmemmap from the start."""

    pool: PoolImage
    heads: dict[int, Blocks] = field(default_factory=dict)
    early: Blocks = field(default_factory=lambda: NO_BLOCKS)

    @property
    def all_heads(self) -> Blocks:
        """Of all nodes, rising."""
        return np.sort(np.concatenate([NO_BLOCKS, *self.heads.values()]))


# -- places ----------------------------------------------------------------------------------------------


def place_huge_pages(host: Host, image: MachineImage, budgets: list[Budget], nr_early: int) -> list[Placed]:
    """Put every huge page at the highest place of its node, the larger ones first.

    ``nr_early``: gigantic pages that have a small vmemmap from the start.

    Raises:
        BadInput: a node has more huge pages than its memory in use holds.
    """
    add_hstates(host)
    placed = []
    for pool in sorted(image.pools, key=lambda p: -p.order):
        row = Placed(pool)
        for nid, of_node in sorted(pool.nodes.items()):
            row.heads[nid] = _place_on_node(host, nid, pool.order, of_node.nr, budgets)
        if host.hstates[pool.order].gigantic:
            row.early = row.all_heads[:nr_early]
        placed.append(row)
    return placed


def _place_on_node(host: Host, nid: int, order: int, count: int, budgets: list[Budget]) -> Blocks:
    size, left = 1 << order, count
    heads = [NO_BLOCKS]
    mine = sorted((b for b in budgets if b.zone.nid == nid), key=lambda b: -b.zone.type)
    if order != ORDER_2M:
        mine.sort(key=lambda b: b.zone.type == ZONE_MOVABLE)
    fresh_frames = count if host.optimize_enabled and host.profile.fresh_head_frame else 0
    for budget in mine:
        fit = min(left, max(0, budget.used - fresh_frames) // size)  # new head frames are in use as well
        found = _free_places(host.mem, budget.zone, 1 << (order - PAGEBLOCK_ORDER), fit)
        budget.used -= found.size * size
        left -= found.size
        heads.append(found)
    if left:
        raise BadInput(
            f"node {nid} has {count} huge pages of {size * KB_PER_PAGE} kB, more than its memory in use holds",
            where="/sys/devices/system/node",
        )
    return np.concatenate(heads)


def _free_places(mem: MemoryMap, zone: Zone, blocks: int, count: int) -> Blocks:
    """The highest aligned places in a zone for ``count`` pages of ``blocks`` pageblocks, now HUGETLB; highest first."""
    span = mem.blocks_of(zone)
    first, stop = -(-span.start // blocks), span.stop // blocks
    if count <= 0 or first >= stop:
        return NO_BLOCKS
    part = slice(first * blocks, stop * blocks)
    is_open = (mem.use[part] == Use.RESERVED) & (mem.zone[part] == zone.id)
    heads: Blocks = (np.flatnonzero(is_open.reshape(-1, blocks).all(axis=1))[-count:][::-1] + first) * blocks
    taken = (heads[:, None] + np.arange(blocks)).ravel()
    mem.assign_blocks(taken, Use.HUGETLB)
    mem.flags[taken] = BlockFlag.GIGANTIC if blocks > 1 else 0
    mem.flags[heads] |= BlockFlag.HEAD
    return heads


# -- the vmemmap -----------------------------------------------------------------------------------------


def place_vmemmap(host: Host, budgets: list[Budget], placed: list[Placed]) -> None:
    """512 frames for every section: of its node's reserved memory, at the top; of hot-added memory from the buddy.

    Raises:
        BadInput: there is not as much memory reserved and in use as the vmemmap takes.
    """
    mem = host.mem
    for node in host.nodes:
        there = (mem.section_nid == node.nid) & (mem.section_state != SectionState.ABSENT)
        early, added = (np.flatnonzero(there & (mem.hot_added == later)) for later in (False, True))
        mine = sorted((b for b in budgets if b.zone.nid == node.nid), key=lambda b: -b.zone.start_pfn)
        freed = _freed_frames(host, placed, node.nid)
        early = _from_reserved(mem, mine, early, freed)
        left = _from_buddy(host, kernel_zones(budgets, node.nid), np.concatenate((early, added)))
        later = _from_buddy(host, budgets, left[mem.hot_added[left]])  # a node without kernel zones
        left = np.concatenate((left[~mem.hot_added[left]], later))
        left = _from_reserved(mem, budgets, left, 0)
        left = _from_buddy(host, budgets, left)
        if left.size:
            raise BadInput(
                f"no room for the memmap of {left.size} sections: present - managed is smaller than 64 bytes a page",
                where="/proc/zoneinfo",
            )


def _freed_frames(host: Host, placed: list[Placed], nid: int) -> int:
    if not host.optimize_enabled:
        return 0
    freed = 0
    for row in placed:
        heads = row.heads.get(nid, NO_BLOCKS)
        early = int(np.isin(heads, row.early).sum())
        freed += (heads.size - early) * host.profile.boot_frames_freed(row.pool.order) + early * EARLY_FRAMES
    return freed


def _from_reserved(mem: MemoryMap, budgets: list[Budget], left: Blocks, freed: int) -> Blocks:
    """Vmemmap in what was reserved at boot; the sections that it has no room for."""
    for budget in budgets:
        fit = (budget.unmanaged + min(freed, left.size * PTRS_PER_PTE)) // PTRS_PER_PTE
        left, taken = _put(mem, budget.zone, left, fit, Use.BOOT_VMEMMAP)
        budget.unmanaged -= taken * PTRS_PER_PTE
    return left


def _from_buddy(host: Host, budgets: list[Budget], left: Blocks) -> Blocks:
    """Vmemmap in memory that was taken from the buddy after the boot."""
    of_added = Use.VMEMMAP_COMPOUND if host.profile.hot_added_frames_lost else Use.VMEMMAP
    for budget in budgets:
        if budget.zone.type == ZONE_MOVABLE:
            continue
        fit = budget.used // PTRS_PER_PTE
        use = of_added if left.size and host.mem.hot_added[left].all() else Use.VMEMMAP
        left, taken = _put(host.mem, budget.zone, left, fit, use)
        budget.used -= taken * PTRS_PER_PTE
    return left


def _put(mem: MemoryMap, zone: Zone, left: Blocks, fit: int, use: Use) -> tuple[Blocks, int]:
    """Vmemmap for the first sections in the highest open pageblocks of a zone; the others, and how many it took."""
    count = min(left.size, max(0, fit))
    if count == 0:
        return left, 0
    span = mem.blocks_of(zone)
    free = np.flatnonzero((mem.use[span] == Use.RESERVED) & (mem.zone[span] == zone.id)) + span.start
    blocks = free[max(0, free.size - count) :]
    mem.assign_blocks(blocks, use)
    if use != Use.BOOT_VMEMMAP:
        set_type(mem, blocks, Migrate.UNMOVABLE)
    mem.vmemmap_pfn[left[: blocks.size]] = blocks * PAGEBLOCK_PAGES
    return left[blocks.size :], int(blocks.size)


# -- what huge pages gave back ---------------------------------------------------------------------------


def optimize_imported(host: Host, budgets: list[Budget], placed: list[Placed]) -> None:
    """With the feature on, every huge page the machine came with has given its vmemmap back.

    Raises:
        BadInput: less memory is in use than the page tables and new head frames take.
    """
    if not host.optimize_enabled:
        return
    for row in placed:
        hs = host.hstates[row.pool.order]
        for head in row.early.tolist():
            _open_frames(host, map_early(host, head), budgets)
        heads = without(row.all_heads, row.early)
        host.mem.flags[row.all_heads] |= BlockFlag.OPTIMIZED
        hs.nr_optimized = int(row.all_heads.size)
        if heads.size == 0:
            continue
        sections = vmemmap_sections(hs, heads)
        fresh = sections[host.mem.pte_slot[sections] == 0]
        split_vmemmap_huge_pmd(host.mem, fresh, _take_lowest(host, budgets, fresh.size, Use.PAGE_TABLE))
        frames = NO_PFNS
        if host.profile.fresh_head_frame:
            frames = _take_lowest(host, budgets, heads.size, Use.VMEMMAP)
            own_tables(host.mem, sections)
            ptes = ptes_of(host.mem, hs, heads)
            ptes[:, 0] = make_pte(frames, PTE_RW)
            ptes[:, host.mem.kept :] = make_pte(frames[:, None], PTE_RO)
            set_ptes(host.mem, hs, heads, ptes)
        _open_freed(host, hs, heads, sections, budgets)


def _open_frames(host: Host, frames: Pfns, budgets: list[Budget]) -> None:
    """Make frames of boot memory open places."""
    host.mem.assign_pages(frames, Use.RESERVED)
    counts = np.bincount(host.mem.zone[frames // PAGEBLOCK_PAGES], minlength=len(host.zones) + 1)
    for budget in budgets:
        budget.unmanaged += int(counts[budget.zone.id])


def _take_lowest(host: Host, budgets: list[Budget], count: int, use: Use) -> Pfns:
    """The lowest open pages of kernel zones, the highest zone first, for what the kernel took after the boot."""
    mem, found, left = host.mem, [NO_PFNS], count
    for budget in sorted(budgets, key=lambda b: -b.zone.start_pfn):
        if budget.zone.type == ZONE_MOVABLE or left == 0:
            continue
        pfns = _lowest_pages(mem, budget.zone, min(left, max(0, budget.used)))
        mem.assign_pages(pfns, use)
        set_type(mem, np.unique(pfns // PAGEBLOCK_PAGES), Migrate.UNMOVABLE)
        budget.used -= pfns.size
        left -= pfns.size
        found.append(pfns)
    if left:
        raise BadInput(
            "less memory in use than the page tables and vmemmap of its huge pages need",
            where="/proc/zoneinfo",
        )
    return np.concatenate(found)


def _lowest_pages(mem: MemoryMap, zone: Zone, count: int) -> Pfns:
    span = mem.blocks_of(zone)
    free = np.flatnonzero((mem.use[span] == Use.RESERVED) & (mem.zone[span] == zone.id)) + span.start
    return pages_in(free[: -(-count // PAGEBLOCK_PAGES)])[:count]


def _open_freed(host: Host, hs: HState, heads: Blocks, sections: Blocks, budgets: list[Budget]) -> None:
    """Freed frames are open places: boot memory that the buddy has now.  Those that 5.14 loses are lost."""
    mem = host.mem
    freed = _freed_entries(host, hs, heads, sections)
    blocks = mem.vmemmap_pfn[sections] // PAGEBLOCK_PAGES
    by_zone = {b.zone.id: b for b in budgets}
    for use in (Use.BOOT_VMEMMAP, Use.VMEMMAP, Use.VMEMMAP_COMPOUND):
        mine = _was(mem, blocks, use)
        lost = use == Use.VMEMMAP_COMPOUND and host.profile.hot_added_frames_lost
        counts = np.bincount(
            mem.zone[blocks[mine]], weights=freed[mine].sum(axis=1), minlength=len(mem.zones) + 1
        )
        mem.assign_masked(blocks[mine], freed[mine], Use.LOST if lost else Use.RESERVED)
        for zone_id in np.flatnonzero(counts).tolist() if not lost else []:
            if use == Use.BOOT_VMEMMAP:
                by_zone[zone_id].unmanaged += int(counts[zone_id])
            else:
                by_zone[zone_id].used += int(counts[zone_id])


def _was(mem: MemoryMap, blocks: Blocks, use: Use) -> Mask:
    """Which pageblocks hold vmemmap of a kind, in part opened or not."""
    mixed = mem.use[blocks] == Use.MIXED
    found: Mask = mem.use[blocks] == use
    found[mixed] = (mem.detail[mem.slot[blocks[mixed]]] == use).any(axis=1)
    return found


def _freed_entries(host: Host, hs: HState, heads: Blocks, sections: Blocks) -> Mask:
    """Which of a section's 512 first frames its huge pages gave back, shape (sections, 512)."""
    first_kept = 0 if host.profile.fresh_head_frame else host.mem.kept
    row = np.searchsorted(sections, heads // BLOCKS_PER_SECTION)
    if hs.gigantic:
        freed = np.ones((sections.size, PTRS_PER_PTE), np.bool_)
        freed[row, :first_kept] = False
        return freed
    by_block = np.zeros((sections.size, BLOCKS_PER_SECTION, VMEMMAP_PER_BLOCK), np.bool_)
    by_block[row, heads % BLOCKS_PER_SECTION, first_kept:] = True
    return by_block.reshape(sections.size, PTRS_PER_PTE)


# -- pools -----------------------------------------------------------------------------------------------


def adopt_pools(host: Host, placed: list[Placed]) -> None:
    """Take over the counters; huge pages in use and reservations belong to one task that stands for all programs."""
    owner = Task(IMPORTED_PID, "imported", "imported")
    for row in placed:
        hs, pool = host.hstates[row.pool.order], row.pool
        used = [NO_BLOCKS]
        for nid, heads in row.heads.items():
            of_node = pool.nodes[nid]
            ordered = heads[::-1]
            hugetlb_page.account_pages(host, hs, ordered, +1)
            hugetlb_page.enqueue(host, hs, ordered[heads.size - of_node.free :])
            used.append(ordered[: heads.size - of_node.free])
            hs.surplus_node[nid] = of_node.surplus
        hs.surplus_huge_pages, hs.resv_huge_pages = pool.surplus, pool.resv
        hs.resv_drift = min(0, pool.resv)
        hs.nr_overcommit_huge_pages = pool.overcommit
        hs.max_huge_pages = pool.max if pool.max is not None else max(0, pool.nr - pool.surplus)
        own(owner, hs, np.concatenate(used).tolist(), max(0, pool.resv))
    if owner.maps:
        host.tasks[IMPORTED_PID] = owner


def own(owner: Task, hs: HState, used: list[int], resv: int) -> None:
    """Huge pages in use, by their first pageblocks, and reservations become a mapping of the owner's."""
    if not used and not resv:
        return
    count = len(used) + resv
    mapping = HugeMap(owner.next_map_id, hs.order, count, shared=False, noreserve=False, owner=True)
    owner.next_map_id += 1
    mapping.pages = dict(enumerate(used))
    mapping.consumed.add(0, len(used))
    owner.maps[mapping.map_id] = mapping
