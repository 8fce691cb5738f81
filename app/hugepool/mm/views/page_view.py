"""Single pages: where a page is, what uses it, and where its ``struct page`` lies."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hugepool.mm.machine import sparse_vmemmap
from hugepool.mm.machine.errors import NotFound
from hugepool.mm.machine.mmzone import BlockFlag, MemoryMap, Migrate, SectionState, Use
from hugepool.mm.machine.rmap import files_of, users_of
from hugepool.mm.machine.state import Host, Task
from hugepool.mm.machine.units import (
    BLOCKS_PER_1G,
    MAX_BUDDY_ORDER,
    ORDER_1G,
    ORDER_2M,
    PAGEBLOCK_PAGES,
    SECTION_PAGES,
    size_name,
)
from hugepool.mm.views.host_view import sections_per_block
from hugepool.mm.views.section_view import short

Origin = Literal["boot", "buddy", "hot-added", "own-block"]

# The API's word for each use, where it is not the enum's own name in small letters with "-" for "_".
USE_WORDS = {
    Use.BOOT_VMEMMAP: "vmemmap",
    Use.EARLY_VMEMMAP: "vmemmap",
    Use.VMEMMAP_COMPOUND: "vmemmap",
    Use.OWN_VMEMMAP: "vmemmap",
    Use.BOOT_PAGE_TABLE: "page-table",
}
VMEMMAP_ORIGIN: dict[Use, Origin] = {
    Use.BOOT_VMEMMAP: "boot",
    Use.EARLY_VMEMMAP: "boot",
    Use.VMEMMAP: "buddy",
    Use.VMEMMAP_COMPOUND: "hot-added",
    Use.OWN_VMEMMAP: "own-block",
}
PAGE_TABLES = (Use.PAGE_TABLE, Use.BOOT_PAGE_TABLE)


# -- what is shown ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StructPage:
    """Where a `struct page` lies: the walk of the simulated page table.

    Attributes:
        virtual_address: in hexadecimal digits, as it is larger than what every reader of JSON keeps exactly.
        pfn: the frame that it is in.
        mapping: how that frame is mapped: `pmd` with its whole section, `pte` by a page table.
        writable: false for the frame that an optimised huge page shares.
    """

    virtual_address: str
    pfn: int
    mapping: Literal["pmd", "pte"]
    writable: bool


@dataclass(frozen=True, slots=True)
class BuddyBlock:
    """The free block that a free page belongs to.

    Attributes:
        order: it has two to the power of it pages.
        head_pfn: its first page.
    """

    order: int
    head_pfn: int


@dataclass(frozen=True, slots=True)
class HugePage:
    """The huge page around a page.

    Attributes:
        size: as sysfs writes it.
        head_pfn: its first page.
        free: no program has it.
        optimized: its vmemmap is given back.
        queued: it waits for the worker that restores its vmemmap and frees it.
        pid: the task that has mapped it, or one of them.
        file: path of the file that it is in.
        cgroup: the one that it is charged to; null: the root, or nobody.
    """

    size: str
    head_pfn: int
    free: bool
    optimized: bool
    queued: bool
    pid: int | None
    file: str | None
    cgroup: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """One page.  What its use has nothing to do with is null.

    Attributes:
        zone: null for memory of an offline block.
        block: the memory block.
        use: what it is used for: `buddy` (free), `hugetlb`, `vmemmap`, `page-table`, `anon`, `kernel` and others.
        buddy: of a free page.
        hugepage: of a page in a huge page.
        origin: of a page of the vmemmap, where it came from.
        page_table_of_section: of a page table of the vmemmap.
        pid: of memory of a task; null also when no task is known to have it.
        struct_page: null where there is no vmemmap.
    """

    pfn: int
    node: int
    zone: str | None
    section: int
    block: int
    pageblock_migratetype: str
    use: str
    buddy: BuddyBlock | None
    hugepage: HugePage | None
    origin: Origin | None
    page_table_of_section: int | None
    pid: int | None
    struct_page: StructPage | None


# -- how it is found -------------------------------------------------------------------------------------


def page(host: Host, pfn: int) -> Page:
    """One page.  Raises ENOENT when there is no memory at the pfn."""
    mem = host.mem
    inside = 0 <= pfn < mem.nr_sections * SECTION_PAGES
    if not inside or mem.section_state[pfn // SECTION_PAGES] == SectionState.ABSENT:
        raise NotFound("no memory at this pfn on this host", pfn=short(pfn))
    pageblock, number = pfn // PAGEBLOCK_PAGES, pfn // SECTION_PAGES
    zone_id, use = int(mem.zone[pageblock]), Use(mem.page_use(pfn))
    return Page(
        pfn=pfn,
        node=int(mem.section_nid[number]),
        zone=mem.zones[zone_id - 1].name if zone_id else None,
        section=number,
        block=number // sections_per_block(host),
        pageblock_migratetype=Migrate(int(mem.mt[pageblock])).name.capitalize(),
        use=USE_WORDS.get(use, use.name.lower().replace("_", "-")),
        buddy=_buddy(mem, pfn) if use == Use.BUDDY else None,
        hugepage=_hugepage(host, pfn) if use == Use.HUGETLB else None,
        origin=VMEMMAP_ORIGIN.get(use),
        page_table_of_section=_section_of_table(mem, pfn) if use in PAGE_TABLES else None,
        pid=_owner(host, pfn) if use in {Use.ANON, Use.PINNED, Use.KERNEL} else None,
        struct_page=_struct_page(mem, pfn),
    )


def _struct_page(mem: MemoryMap, pfn: int) -> StructPage | None:
    found = sparse_vmemmap.walk(mem, pfn)
    if found is None:
        return None
    return StructPage(f"{found.virtual_address:#x}", found.pfn, found.mapping, found.writable)


def _section_of_table(mem: MemoryMap, pfn: int) -> int | None:
    owner = np.flatnonzero(mem.pte_pfn == pfn)
    return int(owner[0]) if owner.size else None


def _owner(host: Host, pfn: int) -> int | None:
    return next((task.pid for task in host.tasks.values() if _has_page(task, pfn)), None)


def _has_page(task: Task, pfn: int) -> bool:
    return any(first <= pfn < first + count for first, count in task.runs)


def _buddy(mem: MemoryMap, pfn: int) -> BuddyBlock:
    """The largest aligned free block around a free page, as free buddies always merge."""
    order = 0
    zone_id = mem.zone[pfn // PAGEBLOCK_PAGES]
    while order < MAX_BUDDY_ORDER and _all_free(mem, pfn, order + 1, int(zone_id)):
        order += 1
    return BuddyBlock(order, pfn >> order << order)


def _all_free(mem: MemoryMap, pfn: int, order: int, zone_id: int) -> bool:
    start = pfn >> order << order
    first, last = start // PAGEBLOCK_PAGES, (start + (1 << order) - 1) // PAGEBLOCK_PAGES
    if last >= mem.nr_blocks or (mem.zone[first : last + 1] != zone_id).any():
        return False
    uses = mem.page_uses(first, last - first + 1).ravel()
    offset = start - first * PAGEBLOCK_PAGES
    return bool((uses[offset : offset + (1 << order)] == Use.BUDDY).all())


def _hugepage(host: Host, pfn: int) -> HugePage:
    flags = host.mem.flags
    head = pfn // PAGEBLOCK_PAGES
    order = ORDER_1G if flags[head] & BlockFlag.GIGANTIC else ORDER_2M
    if order == ORDER_1G:
        head = head // BLOCKS_PER_1G * BLOCKS_PER_1G
    word = int(flags[head])
    return HugePage(
        size=size_name(order),
        head_pfn=head * PAGEBLOCK_PAGES,
        free=bool(word & BlockFlag.FREE),
        optimized=bool(word & BlockFlag.OPTIMIZED),
        queued=bool(word & BlockFlag.QUEUED),
        pid=next(users_of(host, {head}), None),
        file=next(iter(files_of(host, {head})), None),
        cgroup=_payer(host, head),
    )


def _payer(host: Host, head: int) -> str | None:
    charge = host.page_charges.get(head)
    return host.hugetlb_cgroups[charge.pages].path if charge is not None and charge.pages else None
