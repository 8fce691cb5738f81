"""The vmemmap of memory that is plugged in or out: where it comes from, and where it goes.

Source: mm/sparse.c section_activate(), section_deactivate(); arch/x86/mm/init_64.c vmemmap_populate_hugepages(),
free_pagetable() (5.14).
"""

from dataclasses import dataclass

import numpy as np

from hugepool.mm.kernel.page_alloc import alloc_pages, alloc_unmovable_block, zonelist
from hugepool.mm.kernel.pcp import free_pages
from hugepool.mm.machine import sparse_vmemmap
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.mmzone import NO_PFNS, ZONE_NORMAL, Blocks, Mask, MemoryMap, Migrate, Use
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.sparse_vmemmap import PTE_RW, make_pte, pte_pfn, tables
from hugepool.mm.machine.state import Call, Host
from hugepool.mm.machine.units import (
    BLOCKS_PER_SECTION,
    PAGEBLOCK_ORDER,
    PAGEBLOCK_PAGES,
    PTRS_PER_PTE,
    SECTION_PAGES,
)


@dataclass(slots=True)
class FreedVmemmap:
    """4 KiB pages that removing memory gave back, and those that got lost on the way."""

    pages: int = 0
    lost: int = 0
    tables: int = 0


# -- in --------------------------------------------------------------------------------------------------


def alloc_vmemmap(host: Host, call: Call, nid: int, sections: Blocks) -> None:
    """Take 2 MiB for the vmemmap of each section from the node's kernel zones, or from another node's.

    One 2 MiB block mapped by a PMD if there is one, else 512 single pages behind a page table.
    Raises ENOMEM; the caller throws the half-changed host away.
    """
    for section in sections.tolist():
        if not _take_block(host, nid, section):
            _take_pages(host, call, nid, section)


def _take_block(host: Host, nid: int, section: int) -> bool:
    use = Use.VMEMMAP_COMPOUND if host.profile.hot_added_frames_lost else Use.VMEMMAP
    block = alloc_unmovable_block(host, zonelist(host.nodes, nid, ZONE_NORMAL), use)
    if block.size:
        host.mem.vmemmap_pfn[section] = int(block[0]) * PAGEBLOCK_PAGES
    return bool(block.size)


def _take_pages(host: Host, call: Call, nid: int, section: int) -> None:
    mem = host.mem
    zones = zonelist(host.nodes, nid, ZONE_NORMAL)
    table = alloc_pages(host, zones, 1, Migrate.UNMOVABLE, ZONE_NORMAL, Use.PAGE_TABLE)
    frames = NO_PFNS
    if table.size:
        frames = alloc_pages(host, zones, PTRS_PER_PTE, Migrate.UNMOVABLE, ZONE_NORMAL, Use.VMEMMAP)
    if frames.size < PTRS_PER_PTE:
        raise MMError("ENOMEM", f"no memory for the vmemmap of the section at page {section * SECTION_PAGES}",
                      reason=Reason.VMEMMAP_POPULATE, node=nid, pages_needed=PTRS_PER_PTE + 1,
                      pages_available=int(table.size + frames.size))  # fmt: skip
    one = np.array([section])
    sparse_vmemmap.split_vmemmap_huge_pmd(mem, one, table)
    mem.add_pte_rows(one)
    mem.pte[mem.pte_slot[section]] = make_pte(frames, PTE_RW)
    mem.vmemmap_pfn[section] = int(frames[0])
    call.vmemmap.page_table_pages += 1


def put_vmemmap_on_itself(mem: MemoryMap, sections: Blocks) -> None:
    """memmap_on_memory: the first pageblocks of a memory block hold the vmemmap of all of it."""
    first = int(sections[0]) * BLOCKS_PER_SECTION
    blocks = np.arange(first, first + sections.size)
    mem.assign_blocks(blocks, Use.OWN_VMEMMAP)
    mem.vmemmap_pfn[sections] = blocks * PAGEBLOCK_PAGES


def on_own_memory(mem: MemoryMap, sections: Blocks) -> Mask:
    """Sections whose vmemmap lies on their own memory block (memmap_on_memory)."""
    own: Mask = mem.use[mem.vmemmap_pfn[sections] // PAGEBLOCK_PAGES] == Use.OWN_VMEMMAP
    return own


# -- out -------------------------------------------------------------------------------------------------


def free_vmemmap(host: Host, sections: Blocks) -> FreedVmemmap:
    """Free the vmemmap of sections that are being removed; one on their own memory goes with it.

    Until 5.18 a split block that was never divided into single pages gives back its first page only.
    """
    mem, freed = host.mem, FreedVmemmap()
    for section in sections[~on_own_memory(mem, sections)].tolist():
        one = np.array([section])
        if mem.pte_slot[section] == 0:
            block = mem.vmemmap_pfn[one]
            if mem.uses_of(block)[0] == Use.BOOT_VMEMMAP:
                free_pages(host, int(block[0]) + np.arange(PTRS_PER_PTE))
            else:
                free_pages(host, block, PAGEBLOCK_ORDER)
            freed.pages += PTRS_PER_PTE
            continue
        frames = np.unique(pte_pfn(tables(mem, one))[0])
        compound = _of_undivided_block(mem, section, frames)
        mem.assign_pages(frames[compound], Use.LOST)
        free_pages(host, frames[~compound])
        free_pages(host, mem.pte_pfn[one])
        freed.pages += int((~compound).sum())
        freed.lost += int(compound.sum())
        freed.tables += 1
    mem.vmemmap_pfn[sections] = mem.pte_pfn[sections] = -1
    mem.pte_slot[sections] = 0
    return freed


def _of_undivided_block(mem: MemoryMap, section: int, frames: Blocks) -> Mask:
    """Frames that are tail pages of the one order-9 block the section's vmemmap was taken as."""
    tails: Mask = (mem.uses_of(frames) == Use.VMEMMAP_COMPOUND) & (frames != mem.vmemmap_pfn[section])
    return tails
