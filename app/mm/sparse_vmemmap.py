"""The page tables of the vmemmap: one PMD entry a section, split into 512 PTEs on demand, never joined again.

A PTE word is kept as the hardware has it: ``pfn << 12 | flags``.
Source: mm/sparse-vmemmap.c (5.14): split_vmemmap_huge_pmd(), vmemmap_remap_free(), vmemmap_remap_alloc().
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.mm.mmzone import MemoryMap
from app.mm.units import (
    PAGE_SHIFT,
    PAGE_SIZE,
    PTRS_PER_PTE,
    SECTION_PAGES,
    STRUCT_PAGE_BYTES,
    VMEMMAP_BASE,
    VMEMMAP_PER_BLOCK,
)

PAGE_PRESENT = 1
PAGE_RW = 2
PTE_RW = PAGE_PRESENT | PAGE_RW
PTE_RO = PAGE_PRESENT

Ptes = npt.NDArray[np.int64]


def pte_pfn(pte: Ptes) -> Ptes:
    """Frames that PTE words map."""
    return pte >> PAGE_SHIFT


def make_pte(pfn: Ptes, flags: int) -> Ptes:
    """PTE words for frames."""
    return (pfn << PAGE_SHIFT) | flags


def unsplit_sections(mem: MemoryMap, sections: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Those of the (sorted, unique) sections that are still mapped by one PMD entry."""
    return sections[mem.pte_slot[sections] == 0]


def split_vmemmap_huge_pmd(mem: MemoryMap, sections: npt.NDArray[np.int64], tables: Ptes) -> None:
    """Replace the PMD mapping of sections by 512 writable PTEs to the same frames.

    ``tables`` are the frames of the new page-table pages, one a section.
    Source: mm/sparse-vmemmap.c split_vmemmap_huge_pmd() (5.14).
    """
    mem.add_pte_rows(sections)
    mem.pte_pfn[sections] = tables
    frames = mem.vmemmap_pfn[sections][:, None] + np.arange(PTRS_PER_PTE)
    mem.pte[mem.pte_slot[sections]] = make_pte(frames, PTE_RW)


def block_ptes(mem: MemoryMap, blocks: npt.NDArray[np.int64]) -> Ptes:
    """The 8 PTEs that map the struct pages of each pageblock, shape (n, 8); the sections must be split."""
    rows = mem.pte_slot[blocks // 64]
    columns = (blocks % 64)[:, None] * VMEMMAP_PER_BLOCK + np.arange(VMEMMAP_PER_BLOCK)
    out: Ptes = mem.pte[rows[:, None], columns]
    return out


def set_block_ptes(mem: MemoryMap, blocks: npt.NDArray[np.int64], ptes: Ptes) -> None:
    """Store the 8 PTEs of each pageblock."""
    rows = mem.pte_slot[blocks // 64]
    columns = (blocks % 64)[:, None] * VMEMMAP_PER_BLOCK + np.arange(VMEMMAP_PER_BLOCK)
    mem.pte[rows[:, None], columns] = ptes
    mem.mark_dirty(blocks)


@dataclass(frozen=True, slots=True)
class StructPage:
    """Where the ``struct page`` of a pfn lives: the walk of the simulated page table."""

    virtual_address: int
    pfn: int
    mapping: str
    writable: bool


def walk(mem: MemoryMap, pfn: int) -> StructPage | None:
    """Translate the address of a page's ``struct page``; None when its section has no vmemmap."""
    section, index = pfn // SECTION_PAGES, pfn % SECTION_PAGES
    if mem.vmemmap_pfn[section] < 0:
        return None
    entry = index * STRUCT_PAGE_BYTES // PAGE_SIZE
    address = VMEMMAP_BASE + pfn * STRUCT_PAGE_BYTES
    slot = int(mem.pte_slot[section])
    if slot == 0:
        return StructPage(address, int(mem.vmemmap_pfn[section]) + entry, "pmd", True)
    pte = int(mem.pte[slot, entry])
    return StructPage(address, pte >> PAGE_SHIFT, "pte", bool(pte & PAGE_RW))


@dataclass(frozen=True, slots=True)
class PteRun:
    """Entries ``first_page`` .. of a page table whose frames advance by ``step`` (0: one shared frame)."""

    first_page: int
    nr_pages: int
    pfn: int
    step: int
    writable: bool


def runs(mem: MemoryMap, section: int) -> list[PteRun]:
    """The page table of a section as runs that cover all 512 entries."""
    slot = int(mem.pte_slot[section])
    if slot == 0:
        return [PteRun(0, PTRS_PER_PTE, int(mem.vmemmap_pfn[section]), 1, True)]
    words = mem.pte[slot]
    frames, flags = (words >> PAGE_SHIFT).tolist(), (words & PAGE_RW).tolist()
    out: list[PteRun] = []
    start = 0
    while start < PTRS_PER_PTE:
        step = 1
        if start + 1 < PTRS_PER_PTE and flags[start + 1] == flags[start]:
            step = 0 if frames[start + 1] == frames[start] else 1
        end = start + 1
        while end < PTRS_PER_PTE and flags[end] == flags[start] and frames[end] == frames[end - 1] + step:
            end += 1
        out.append(PteRun(start, end - start, frames[start], step, bool(flags[start])))
        start = end
    return out
