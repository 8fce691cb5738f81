"""Physical memory: nodes, zones, and the use of every page in two levels.

A pageblock (2 MiB) has one use, or the use ``MIXED`` and a row of 512 page uses.  All page state changes go
through ``MemoryMap.assign_pages`` and ``MemoryMap.assign_blocks``, which keep the zone counters by
construction: free and managed pages are differences of the very assignment.

Source: include/linux/mmzone.h struct zone, struct pglist_data (5.14).
"""

import sys
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from hugepool.mm.machine.free_order import FreeOrder
from hugepool.mm.machine.pcp_lists import PerCpuPages
from hugepool.mm.machine.units import BLOCKS_PER_SECTION, PAGEBLOCK_PAGES, PTRS_PER_PTE

Pfns = npt.NDArray[np.int64]
Blocks = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
LOWMEM_RESERVE_RATIO = (256, 256, 32, 0)
NO_BLOCKS: Blocks = np.empty(0, np.int64)
NO_PFNS: Pfns = np.empty(0, np.int64)


def pages_in(blocks: Blocks) -> Pfns:
    """The pfns of whole pageblocks, one after the other."""
    pfns: Pfns = (blocks[:, None] * PAGEBLOCK_PAGES + np.arange(PAGEBLOCK_PAGES)).ravel()
    return pfns


def pairs_of(low: Blocks) -> Blocks:
    """Both pageblocks of pairs, by their lower halves."""
    both: Blocks = (low[:, None] + np.arange(2)).ravel()
    return both


EVERYWHERE = (0, sys.maxsize)  # spans of pageblocks, the end not in it
NOWHERE = (sys.maxsize, 0)


class Use(IntEnum):
    """What a page is used for.  The names are the API's words with ``_`` for ``-``."""

    HOLE = 0  # no memory at this pfn
    BUDDY = 1
    RESERVED = 2  # taken from memblock at boot: kernel image, firmware tables, ... never managed
    BOOT_VMEMMAP = 3  # vmemmap taken from memblock: unmanaged until it is freed to the buddy
    VMEMMAP = 4  # vmemmap taken from the buddy
    VMEMMAP_COMPOUND = 5  # vmemmap of a hot-added section: part of one order-9 buddy block
    PAGE_TABLE = 6  # PTE table of a split vmemmap PMD
    HUGETLB = 7
    ANON = 8  # movable pages of tasks
    KERNEL = 9  # unmovable pages of tasks
    SYSTEM = 10  # in use since boot or import, unmovable
    PAGE_CACHE = 11  # in use since boot or import, movable
    PCP = 12  # free, but on a per-CPU list since import
    CONTIG = 13  # taken by alloc_contig_range
    POISON = 14
    LOST = 15  # freed wrongly by the kernel and in no list (hot-added vmemmap on 5.14)
    OFFLINE = 16  # memory of an offline block
    OWN_VMEMMAP = 17  # vmemmap of a memory block on the block itself (memmap_on_memory): never managed
    UNPLUGGED = 18  # taken out by the virtio-mem driver: present, not managed
    EARLY_VMEMMAP = (
        19  # the one frame of a page whose vmemmap was built small at boot: it is never freed (6.15+)
    )
    BOOT_PAGE_TABLE = 20  # the page tables of that vmemmap, taken from memblock
    MIXED = 255


class Migrate(IntEnum):
    """Migratetypes, in the order of /proc/pagetypeinfo."""

    UNMOVABLE = 0
    MOVABLE = 1
    RECLAIMABLE = 2
    HIGHATOMIC = 3
    CMA = 4
    ISOLATE = 5


class BlockFlag:
    """Flags of a huge page, kept at its first pageblock; GIGANTIC also at the others.

    Plain integers, so that numpy keeps the array's own type.
    """

    FREE = 1  # on a free list
    OPTIMIZED = 2  # HPageVmemmapOptimized
    GIGANTIC = 4  # part of a 1 GiB page
    STAYS = 8  # in use, and cannot be migrated before it is freed (6.18)
    QUEUED = 16  # waits for the deferred-free worker
    HEAD = 32  # first pageblock of a huge page
    SPOILT = 64  # has a poisoned page in it (5.14): freeing it loses all of it


class SectionState(IntEnum):
    """Presence of a 128 MiB section."""

    ABSENT = 0
    ONLINE = 1
    OFFLINE = 2


ZoneName = Literal["DMA", "DMA32", "Normal", "Movable"]
ZONE_NAMES: tuple[ZoneName, ...] = get_args(ZoneName)
ZONE_DMA, ZONE_DMA32, ZONE_NORMAL, ZONE_MOVABLE = range(4)

_UNMANAGED = (
    Use.HOLE,
    Use.RESERVED,
    Use.BOOT_VMEMMAP,
    Use.EARLY_VMEMMAP,
    Use.BOOT_PAGE_TABLE,
    Use.OFFLINE,
    Use.OWN_VMEMMAP,
    Use.UNPLUGGED,
)
IS_MANAGED = np.ones(256, np.int64)
IS_MANAGED[list(_UNMANAGED)] = 0
MOVABLE_USES = (Use.ANON, Use.PAGE_CACHE)
FIRST_ROWS = 64


@dataclass(slots=True)
class Zone:
    """One zone of one node.  All sizes in 4 KiB pages; ``lowmem_reserve`` by zone type.

    ``pageset_pages``: its managed pages when the limits of its lists were set last, as watermarks are.
    ``nr_pcp``: pages on the lists of CPUs, which ``pcp`` has by CPU; ``pcp_disabled``: they take none while a part of
    the zone goes offline; ``below_high``: a request found fewer free pages than the high watermark (6.7+).
    ``cma``: pages of CMA areas; ``nr_free_cma``: those of them that are free, and not isolated; ``nr_isolated``: free
    pages of isolated pageblocks, while a range is emptied.
    """

    index: int
    nid: int
    type: int
    start_pfn: int = 0
    spanned: int = 0
    present: int = 0
    managed: int = 0
    nr_free: int = 0
    nr_pcp: int = 0
    pageset_pages: int = 0
    min: int = 0
    low: int = 0
    high: int = 0
    lowmem_reserve: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    cma: int = 0
    nr_free_cma: int = 0
    nr_isolated: int = 0
    pcp_disabled: bool = False
    below_high: bool = False
    pcp: dict[int, PerCpuPages] = field(default_factory=dict)

    @property
    def id(self) -> int:
        """Its number in ``MemoryMap.zone``, where 0 is no zone."""
        return self.index + 1

    @property
    def name(self) -> ZoneName:
        """The kernel's name: DMA, DMA32, Normal, Movable."""
        return ZONE_NAMES[self.type]

    @property
    def end_pfn(self) -> int:
        """First pfn behind the zone."""
        return self.start_pfn + self.spanned


@dataclass(slots=True)
class Node:
    """One NUMA node: its CPUs and its four zones (empty ones included), by zone type."""

    nid: int
    cpus: list[int]
    zones: list[Zone]
    distance: list[int]

    @property
    def present(self) -> int:
        """Present pages of all zones."""
        return sum(zone.present for zone in self.zones)

    @property
    def managed(self) -> int:
        """Managed pages of all zones: the node's MemTotal."""
        return sum(zone.managed for zone in self.zones)

    @property
    def nr_free(self) -> int:
        """Free pages of all zones, per-CPU lists excluded."""
        return sum(zone.nr_free for zone in self.zones)


class MemoryMap:
    """The use of every page and the page tables of the vmemmap, as arrays by pageblock and by section.

    Shapes: ``use, mt, flags`` uint8, ``nfree`` uint16, ``zone`` int16 (index into ``zones`` + 1, 0 none),
    ``seq`` uint32 (enqueue stamp of a free huge page), ``slot`` int32 (row of ``detail``, 0 none), all by
    pageblock; ``section_state`` uint8, ``section_nid`` int16, ``vmemmap_pfn`` int64 (first of the section's
    512 vmemmap frames, -1 none), ``pte_slot`` int32 (row of ``pte``; 0 PMD-mapped; -1 split, and every entry
    still is what splitting and optimising made it), ``pte_pfn`` int64 (frame of the page-table page), all by
    section; ``cma_blocks``: pageblocks that are CMA, or isolated ones that were; ``isolated_blocks``: those isolated
    now; ``order``: which free pageblock goes first; ``lone_span``: by zone, no free pageblock with a buddy that is
    not free lies outside, ``rare_span``: none whose type is not movable; ``detail`` uint8, ``pte`` int64, of shape
    (rows, 512).  ``kept``: vmemmap pages that an optimised huge page keeps.
    """

    def __init__(self, nr_sections: int, kept: int) -> None:
        blocks = nr_sections * BLOCKS_PER_SECTION
        self.kept = kept
        self.nr_sections = nr_sections
        self.nr_blocks = blocks
        self.zones: list[Zone] = []
        self.use = np.zeros(blocks, np.uint8)
        self.mt = np.zeros(blocks, np.uint8)
        self.flags = np.zeros(blocks, np.uint8)
        self.nfree = np.zeros(blocks, np.uint16)
        self.zone = np.zeros(blocks, np.int16)
        self.seq = np.zeros(blocks, np.uint32)
        self.slot = np.zeros(blocks, np.int32)
        self.detail = np.zeros((FIRST_ROWS, PAGEBLOCK_PAGES), np.uint8)
        self.spare_slots: list[int] = list(range(FIRST_ROWS - 1, 0, -1))
        self.section_state = np.zeros(nr_sections, np.uint8)
        self.section_nid = np.full(nr_sections, -1, np.int16)
        self.hot_added = np.zeros(nr_sections, np.bool_)
        self.vmemmap_pfn = np.full(nr_sections, -1, np.int64)
        self.pte_slot = np.zeros(nr_sections, np.int32)
        self.pte_pfn = np.full(nr_sections, -1, np.int64)
        self.pte = np.zeros((FIRST_ROWS, PTRS_PER_PTE), np.int64)
        self.nr_pte_rows = 1
        self.dirty = np.zeros(nr_sections, np.bool_)
        self.cma_blocks: Blocks = np.empty(0, np.int64)
        self.isolated_blocks: Blocks = np.empty(0, np.int64)
        self.block_hint: list[int] = []
        self.page_hint: list[list[int]] = []
        self.lone_span: list[tuple[int, int]] = []
        self.rare_span: list[tuple[int, int]] = []
        self.order = FreeOrder(blocks)

    # -- layout ------------------------------------------------------------------------------------------

    def add_zone(self, zone: Zone) -> None:
        """Register a zone; its index is its place in ``zones``."""
        self.zones.append(zone)
        self.block_hint.append(0)
        self.page_hint.append([0] * len(Migrate))
        self.lone_span.append(EVERYWHERE)
        self.rare_span.append(EVERYWHERE)
        self.order.add_zone()

    def grow(self, nr_sections: int) -> None:
        """Make room for sections up to ``nr_sections`` (hot-added memory above the boot memory)."""
        if nr_sections <= self.nr_sections:
            return
        for name, count in (("use", 64), ("mt", 64), ("flags", 64), ("nfree", 64), ("zone", 64), ("seq", 64),
                            ("slot", 64), ("section_state", 1), ("hot_added", 1), ("pte_slot", 1),
                            ("dirty", 1)):  # fmt: skip
            old = getattr(self, name)
            new = np.zeros(nr_sections * count, old.dtype)
            new[: old.size] = old
            setattr(self, name, new)
        for name in ("section_nid", "vmemmap_pfn", "pte_pfn"):
            old = getattr(self, name)
            new = np.full(nr_sections, -1, old.dtype)
            new[: old.size] = old
            setattr(self, name, new)
        self.nr_sections = nr_sections
        self.nr_blocks = nr_sections * BLOCKS_PER_SECTION
        self.order.grow(self.nr_blocks)

    # -- reading -----------------------------------------------------------------------------------------

    def page_use(self, pfn: int) -> int:
        """The use of one page (a value of ``Use``, never MIXED)."""
        block = pfn // PAGEBLOCK_PAGES
        use = int(self.use[block])
        return use if use != Use.MIXED else int(self.detail[self.slot[block], pfn % PAGEBLOCK_PAGES])

    def uses_of(self, pfns: Pfns) -> npt.NDArray[np.uint8]:
        """The uses of single pages, none of them MIXED."""
        blocks = pfns // PAGEBLOCK_PAGES
        uses = self.use[blocks].copy()
        mixed = uses == Use.MIXED
        uses[mixed] = self.detail[self.slot[blocks[mixed]], pfns[mixed] % PAGEBLOCK_PAGES]
        return uses

    def page_uses(self, first_block: int, nr_blocks: int) -> npt.NDArray[np.uint8]:
        """Uses of all pages of some pageblocks, shape (nr_blocks, 512)."""
        part = slice(first_block, first_block + nr_blocks)
        out = np.repeat(self.use[part][:, None], PAGEBLOCK_PAGES, axis=1)
        mixed = np.flatnonzero(self.use[part] == Use.MIXED)
        out[mixed] = self.detail[self.slot[part][mixed]]
        return out

    def blocks_of(self, zone: Zone) -> slice:
        """The pageblocks that a zone spans."""
        return slice(zone.start_pfn // PAGEBLOCK_PAGES, -(-zone.end_pfn // PAGEBLOCK_PAGES))

    def free_in(self, zone: Zone, where: Blocks | slice) -> Mask:
        """Which pageblocks are wholly free memory of a zone, and whole in the buddy."""
        free: Mask = self._whole(where) & (self.zone[where] == zone.id)
        return free

    def zones_of(self, blocks: Blocks) -> list[Zone]:
        """The zones that pageblocks lie in."""
        return [self.zones[zone_id - 1] for zone_id in np.unique(self.zone[blocks]).tolist() if zone_id]

    # -- changing ----------------------------------------------------------------------------------------

    def assign_blocks(self, blocks: Blocks, use: Use) -> None:
        """Give whole pageblocks (unique, any order) one use; zone counters follow."""
        if blocks.size == 0:
            return
        before = self.use[blocks]
        if before[0] != Use.MIXED and (before == before[0]).all():
            pages = np.bincount(self.zone[blocks], minlength=len(self.zones) + 1) * PAGEBLOCK_PAGES
            self._account_change(np.arange(pages.size), pages, before[:1], use)
        else:
            self._account_blocks(blocks, use)
            self._drop_rows(blocks)
        self.use[blocks] = use
        self.nfree[blocks] = PAGEBLOCK_PAGES if use == Use.BUDDY else 0
        self._touched(blocks, use)

    def assign_pages(self, pfns: Pfns, use: Use) -> None:
        """Give single pages (unique, one after the other) one use; zone counters follow.

        A pageblock that becomes free in whole is on the buddy's list from its last page on.
        """
        if pfns.size == 0:
            return
        block, in_turn = pfns // PAGEBLOCK_PAGES, None
        if block.size > 1 and np.any(block[1:] < block[:-1]):
            in_turn = np.argsort(block, kind="stable")
            pfns, block = pfns[in_turn], block[in_turn]
        first = np.flatnonzero(np.concatenate(([True], block[1:] != block[:-1])))
        blocks = block[first]
        self._expand(blocks)
        rows = np.repeat(self.slot[blocks], np.diff(np.append(first, block.size)))
        offset = pfns & (PAGEBLOCK_PAGES - 1)
        old = self.detail[rows, offset]
        self.detail[rows, offset] = use
        zone_ids = self.zone[blocks].astype(np.int64)
        free = np.add.reduceat(int(use == Use.BUDDY) - (old == Use.BUDDY).astype(np.int64), first)
        self._account(zone_ids, free, np.add.reduceat(IS_MANAGED[use] - IS_MANAGED[old], first))
        self._account_pcp(
            zone_ids, np.add.reduceat(int(use == Use.PCP) - (old == Use.PCP).astype(np.int64), first)
        )
        self.nfree[blocks] = (self.nfree[blocks].astype(np.int64) + free).astype(np.uint16)
        self._collapse(blocks)
        if in_turn is not None:
            blocks = blocks[np.argsort(np.maximum.reduceat(in_turn, first), kind="stable")]
        self._touched(blocks, use)

    def assign_masked(self, blocks: Blocks, mask: Mask, use: Use) -> None:
        """Give the masked pages of pageblocks (unique) one use; ``mask`` has shape (blocks, 512)."""
        before, count = self.use[blocks], mask.sum(axis=1)
        zone_ids = self.zone[blocks].astype(np.int64)
        self._expand(blocks)
        if not (before == Use.MIXED).any():
            self.detail[self.slot[blocks]] = np.where(mask, np.uint8(use), before[:, None])
            self.nfree[blocks] = np.where(before == Use.BUDDY, PAGEBLOCK_PAGES - count, 0)
            self.nfree[blocks] += (count * (use == Use.BUDDY)).astype(np.uint16)
            self._account_change(zone_ids, count, before, use)
            self._collapse(blocks[(count == PAGEBLOCK_PAGES) | (count == 0)])
            self._touched(blocks, use)
            return
        old = self.detail[self.slot[blocks]]
        self.detail[self.slot[blocks]] = np.where(mask, np.uint8(use), old)
        free = int(use == Use.BUDDY) * count - (mask & (old == Use.BUDDY)).sum(axis=1)
        managed = IS_MANAGED[use] * count - (mask & IS_MANAGED.astype(np.bool_)[old]).sum(axis=1)
        self._account(zone_ids, free, managed)
        self._account_pcp(zone_ids, int(use == Use.PCP) * count - (mask & (old == Use.PCP)).sum(axis=1))
        self.nfree[blocks] = (self.nfree[blocks].astype(np.int64) + free).astype(np.uint16)
        self._collapse(blocks)
        self._touched(blocks, use)

    def assign_rows(self, blocks: Blocks, row: npt.NDArray[np.uint8]) -> None:
        """Give pageblocks (unique, none of them mixed) the same 512 page uses; zone counters follow."""
        before, zone_ids = self.use[blocks], self.zone[blocks].astype(np.int64)
        free, managed = int((row == Use.BUDDY).sum()), int(IS_MANAGED[row].sum())
        self._account(
            zone_ids,
            free - self.nfree[blocks].astype(np.int64),
            managed - IS_MANAGED[before] * PAGEBLOCK_PAGES,
        )
        self._account_pcp(
            zone_ids, int((row == Use.PCP).sum()) - (before == Use.PCP).astype(np.int64) * PAGEBLOCK_PAGES
        )
        rows = self._take_rows(blocks)
        self.detail[rows] = row
        self.nfree[blocks] = free
        self._touched(blocks, Use.MIXED)

    def set_type(self, blocks: Blocks, mt: Migrate) -> None:
        """Change the migratetype of pageblocks."""
        self.mt[blocks] = mt
        self.dirty[blocks // BLOCKS_PER_SECTION] = True
        self._lower_hints(blocks)
        self._widen_rare_span(blocks)
        if mt == Migrate.CMA:
            self.cma_blocks = np.union1d(self.cma_blocks, blocks)
        if mt == Migrate.ISOLATE:
            self.isolated_blocks = np.union1d(self.isolated_blocks, blocks)
            self._count_isolated()
        elif self.isolated_blocks.size:
            self.put_back(np.intersect1d(blocks, self.isolated_blocks))
            self.isolated_blocks = np.setdiff1d(self.isolated_blocks, blocks)
            self._count_isolated()
        self.count_free_cma()

    def put_back(self, blocks: Blocks) -> None:
        """Free pageblocks go to the tail of their list, as what comes back from isolation or goes online does."""
        free = blocks[self.use[blocks] == Use.BUDDY]
        self.order.put_last(free, self.zone[free])

    def split_off(self, blocks: Blocks) -> None:
        """Pageblocks were taken; their buddies that stay free are blocks of their own now, freed last."""
        left = blocks ^ 1
        left = left[self.use[left] == Use.BUDDY]
        self.order.put_first(left, self.zone[left])

    def count_free_cma(self) -> None:
        """Count the free pages of each zone that lie in CMA pageblocks."""
        if self.cma_blocks.size == 0:
            return
        counts = self._free_by_zone(self.cma_blocks[self.mt[self.cma_blocks] == Migrate.CMA])
        for zone in self.zones:
            zone.nr_free_cma = counts[zone.id]

    def _count_isolated(self) -> None:
        counts = self._free_by_zone(self.isolated_blocks)
        for zone in self.zones:
            zone.nr_isolated = counts[zone.id]

    def _free_by_zone(self, blocks: Blocks) -> list[int]:
        counts = np.bincount(self.zone[blocks], weights=self.nfree[blocks], minlength=len(self.zones) + 1)
        return [int(count) for count in counts]

    def mark_dirty(self, blocks: Blocks) -> None:
        """Remember that the sections of these pageblocks must be stored."""
        self.dirty[blocks // BLOCKS_PER_SECTION] = True

    # -- page tables of the vmemmap ----------------------------------------------------------------------

    def add_pte_rows(self, sections: npt.NDArray[np.int64]) -> None:
        """Give PMD-mapped sections an (empty) page table each."""
        need = self.nr_pte_rows + sections.size
        if need > len(self.pte):
            bigger = np.zeros(
                (max(need, min(2 * len(self.pte), self.nr_sections + 1)), PTRS_PER_PTE), np.int64
            )
            bigger[: self.nr_pte_rows] = self.pte[: self.nr_pte_rows]
            self.pte = bigger
        self.pte_slot[sections] = np.arange(self.nr_pte_rows, need)
        self.nr_pte_rows = need
        self.dirty[sections] = True

    # -- inside ------------------------------------------------------------------------------------------

    def _account(self, zone_ids: npt.NDArray[np.int64], free: Any, managed: Any) -> None:
        length = len(self.zones) + 1
        by_free = np.bincount(zone_ids, weights=free, minlength=length)
        by_managed = np.bincount(zone_ids, weights=managed, minlength=length)
        for zone in self.zones:
            zone.nr_free += int(by_free[zone.id])
            zone.managed += int(by_managed[zone.id])

    def _account_change(
        self,
        zone_ids: npt.NDArray[np.int64],
        pages: npt.NDArray[np.int64],
        old: npt.NDArray[np.uint8],
        new: Use,
    ) -> None:
        """Account for a number of pages that had an ``old`` use and get a new one."""
        free = int(new == Use.BUDDY) - (old == Use.BUDDY).astype(np.int64)
        self._account(zone_ids, pages * free, pages * (IS_MANAGED[new] - IS_MANAGED[old]))
        self._account_pcp(zone_ids, pages * (int(new == Use.PCP) - (old == Use.PCP).astype(np.int64)))

    def _account_blocks(self, blocks: Blocks, use: Use) -> None:
        """Account for whole pageblocks of whatever uses that get one."""
        zone_ids = self.zone[blocks].astype(np.int64)
        new_free = PAGEBLOCK_PAGES if use == Use.BUDDY else 0
        new_managed = IS_MANAGED[use] * PAGEBLOCK_PAGES
        new_pcp = PAGEBLOCK_PAGES if use == Use.PCP else 0
        self._account(
            zone_ids, new_free - self.nfree[blocks].astype(np.int64), new_managed - self._managed_of(blocks)
        )
        self._account_pcp(zone_ids, new_pcp - self._count_of(blocks, Use.PCP))

    def _account_pcp(self, zone_ids: npt.NDArray[np.int64], delta: Any) -> None:
        if np.any(delta):
            by_zone = np.bincount(zone_ids, weights=delta, minlength=len(self.zones) + 1)
            for zone in self.zones:
                zone.nr_pcp += int(by_zone[zone.id])

    def _managed_of(self, blocks: Blocks) -> npt.NDArray[np.int64]:
        return self._sum_of(blocks, IS_MANAGED)

    def _count_of(self, blocks: Blocks, use: Use) -> npt.NDArray[np.int64]:
        weight = np.zeros(256, np.int64)
        weight[use] = 1
        return self._sum_of(blocks, weight)

    def _sum_of(self, blocks: Blocks, weight: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        uses = self.use[blocks]
        total = weight[uses] * PAGEBLOCK_PAGES
        mixed = np.flatnonzero(uses == Use.MIXED)
        if mixed.size:
            total[mixed] = weight[self.detail[self.slot[blocks[mixed]]]].sum(axis=1)
        return total

    def _expand(self, blocks: Blocks) -> None:
        fresh = blocks[self.slot[blocks] == 0]
        if fresh.size:
            uses, rows = self.use[fresh], self._take_rows(fresh)
            self.detail[rows] = uses[:, None]

    def _take_rows(self, blocks: Blocks) -> npt.NDArray[np.int64]:
        """Make pageblocks mixed: the rows of ``detail`` that are theirs from now on, to be written."""
        missing = blocks.size - len(self.spare_slots)
        if missing > 0:
            rows = len(self.detail)
            enough = max(2 * rows, rows + missing)
            grown = np.zeros((enough, PAGEBLOCK_PAGES), np.uint8)
            grown[:rows] = self.detail
            self.detail = grown
            self.spare_slots[:0] = range(enough - 1, rows - 1, -1)
        taken = np.array(self.spare_slots[-blocks.size :][::-1], np.int64)
        del self.spare_slots[-blocks.size :]
        self.slot[blocks] = taken
        self.use[blocks] = Use.MIXED
        return taken

    def _collapse(self, blocks: Blocks) -> None:
        rows = self.detail[self.slot[blocks]]
        uniform = np.flatnonzero((rows == rows[:, :1]).all(axis=1))
        if uniform.size:
            same = blocks[uniform]
            uses = rows[uniform, 0]
            self._drop_rows(same)
            self.use[same] = uses

    def _drop_rows(self, blocks: Blocks) -> None:
        held = blocks[self.slot[blocks] > 0]
        if held.size:
            self.spare_slots.extend(int(s) for s in self.slot[held][::-1])
            self.slot[held] = 0

    def _touched(self, blocks: Blocks, use: Use) -> None:
        self.dirty[blocks // BLOCKS_PER_SECTION] = True
        self.count_free_cma()
        if self.isolated_blocks.size:
            self._count_isolated()
        if use == Use.BUDDY or (self.use[blocks] == Use.MIXED).any():  # what stays free in a mixed pageblock
            self._lower_hints(blocks)
        if use == Use.BUDDY:
            whole = blocks[self.use[blocks] == Use.BUDDY]
            self.order.put_first(whole, self.zone[whole])
            self._widen_rare_span(whole)
        self._widen_lone_span(blocks)

    def _widen_lone_span(self, blocks: Blocks) -> None:
        near = np.concatenate((blocks, blocks ^ 1))
        self._widen(self.lone_span, near[self._whole(near) & ~self._whole(near ^ 1)])

    def _widen_rare_span(self, blocks: Blocks) -> None:
        self._widen(self.rare_span, blocks[self.mt[blocks] != Migrate.MOVABLE])

    def _widen(self, spans: list[tuple[int, int]], blocks: Blocks) -> None:
        zone_ids = self.zone[blocks]
        for zone_id in np.unique(zone_ids[zone_ids > 0]).tolist():
            found = blocks[zone_ids == zone_id]
            start, stop = spans[zone_id - 1]
            spans[zone_id - 1] = (min(start, int(found.min())), max(stop, int(found.max()) + 1))

    def _whole(self, where: Blocks | slice) -> Mask:
        whole: Mask = self.use[where] == Use.BUDDY
        return whole

    def _lower_hints(self, blocks: Blocks) -> None:
        zone_ids = self.zone[blocks]
        for zone_id in np.unique(zone_ids[zone_ids > 0]).tolist():
            mine, hints = blocks[zone_ids == zone_id], self.page_hint[zone_id - 1]
            self.block_hint[zone_id - 1] = min(self.block_hint[zone_id - 1], int(mine.min()))
            mixed = mine[self.use[mine] == Use.MIXED]
            for mt in np.unique(self.mt[mixed]).tolist():
                hints[mt] = min(hints[mt], int(mixed[self.mt[mixed] == mt].min()))
