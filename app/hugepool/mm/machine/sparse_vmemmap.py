"""The page tables of the vmemmap: one PMD entry a section, split into 512 PTEs on demand, never joined again.

A PTE word is as the hardware has it: ``pfn << 12 | flags``.  A table is stored once an entry points to a frame
that splitting and optimising alone would not have put there (a restored page, a fresh head frame); until then
its words follow from the section's frames and the flags of its huge pages.
Source: mm/sparse-vmemmap.c (5.14): split_vmemmap_huge_pmd(), vmemmap_remap_free(), vmemmap_remap_alloc().
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hugepool.mm.machine.mmzone import BlockFlag, MemoryMap, Use
from hugepool.mm.machine.units import (
    BLOCKS_PER_SECTION,
    PAGE_SHIFT,
    PAGE_SIZE,
    PTRS_PER_PTE,
    SECTION_PAGES,
    SECTIONS_PER_1G,
    STRUCT_PAGE_BYTES,
    VMEMMAP_BASE,
    VMEMMAP_PER_BLOCK,
)

PAGE_PRESENT = 1
PAGE_RW = 2
PTE_RW = PAGE_PRESENT | PAGE_RW
PTE_RO = PAGE_PRESENT

REGULAR = -1  # in MemoryMap.pte_slot

Ptes = npt.NDArray[np.int64]
Sections = npt.NDArray[np.int64]


def pte_pfn(pte: Ptes) -> Ptes:
    """Frames that PTE words map."""
    frames: Ptes = pte >> PAGE_SHIFT
    return frames


def make_pte(pfn: Ptes, flags: int) -> Ptes:
    """PTE words for frames."""
    words: Ptes = (pfn << PAGE_SHIFT) | flags
    return words


def unsplit_sections(mem: MemoryMap, sections: Sections) -> Sections:
    """Those of the (sorted, unique) sections that are still mapped by one PMD entry."""
    unsplit: Ptes = sections[mem.pte_slot[sections] == 0]
    return unsplit


def split_vmemmap_huge_pmd(mem: MemoryMap, sections: Sections, frames: Ptes) -> None:
    """Replace the PMD mapping of sections by 512 writable PTEs to the same frames.

    ``frames`` are those of the new page-table pages, one a section.
    Source: mm/sparse-vmemmap.c split_vmemmap_huge_pmd() (5.14).
    """
    mem.pte_slot[sections] = REGULAR
    mem.pte_pfn[sections] = frames
    mem.dirty[sections] = True


def lost_frames(mem: MemoryMap) -> int:
    """Vmemmap frames of hot-added sections that were freed and got lost (5.14)."""
    blocks = np.unique(mem.vmemmap_pfn[mem.hot_added & (mem.vmemmap_pfn >= 0)] // PTRS_PER_PTE)
    mixed = blocks[mem.use[blocks] == Use.MIXED]
    return int((mem.detail[mem.slot[mixed]] == Use.LOST).sum())


def tables(mem: MemoryMap, sections: Sections) -> Ptes:
    """The page tables of split sections, shape (n, 512)."""
    slots = mem.pte_slot[sections]
    stored = slots > 0
    words = np.empty((sections.size, PTRS_PER_PTE), np.int64)
    words[stored] = mem.pte[slots[stored]]
    words[~stored] = _regular_tables(mem, sections[~stored])
    return words


def _regular_tables(mem: MemoryMap, sections: Sections) -> Ptes:
    """Tables whose every entry is what splitting and optimising made it: they follow from the flags alone."""
    base = mem.vmemmap_pfn[sections]
    words = make_pte(base[:, None] + np.arange(PTRS_PER_PTE), PTE_RW)
    by_block = words.reshape(sections.size, BLOCKS_PER_SECTION, VMEMMAP_PER_BLOCK)
    flags = mem.flags.reshape(-1, BLOCKS_PER_SECTION)[sections]
    small = (flags & (BlockFlag.OPTIMIZED | BlockFlag.GIGANTIC)) == BlockFlag.OPTIMIZED
    shared = (by_block[:, :, mem.kept - 1 : mem.kept] & ~PAGE_RW)[small]
    by_block[small, mem.kept :] = shared
    first = sections // SECTIONS_PER_1G * SECTIONS_PER_1G
    heads = mem.flags[np.minimum(first * BLOCKS_PER_SECTION, mem.nr_blocks - 1)]
    whole = BlockFlag.OPTIMIZED | BlockFlag.GIGANTIC
    for i in np.flatnonzero((heads & whole) == whole).tolist():
        begin = mem.kept if sections[i] == first[i] else 0
        words[i, begin:] = make_pte(mem.vmemmap_pfn[first[i]] + mem.kept - 1, PTE_RO)
    return words


def own_tables(mem: MemoryMap, sections: Sections) -> None:
    """Store the tables of split sections word by word, because entries are about to become irregular."""
    regular = sections[mem.pte_slot[sections] == REGULAR]
    if regular.size:
        words = _regular_tables(mem, regular)
        mem.add_pte_rows(regular)
        mem.pte[mem.pte_slot[regular]] = words


def share_tails(mem: MemoryMap, sections: Sections) -> None:
    """Map every entry of the sections of one gigantic page to its first frame, all but the first read-only."""
    frame = mem.vmemmap_pfn[sections[0]]
    rows = mem.pte_slot[sections]
    mem.pte[rows] = make_pte(frame, PTE_RO)
    mem.pte[rows[0], 0] = make_pte(frame, PTE_RW)


def block_ptes(mem: MemoryMap, blocks: Sections) -> Ptes:
    """The 8 PTEs that map the struct pages of each pageblock, shape (n, 8); the sections own their tables."""
    rows = mem.pte_slot[blocks // BLOCKS_PER_SECTION]
    columns = (blocks % BLOCKS_PER_SECTION)[:, None] * VMEMMAP_PER_BLOCK + np.arange(VMEMMAP_PER_BLOCK)
    out: Ptes = mem.pte[rows[:, None], columns]
    return out


def set_block_ptes(mem: MemoryMap, blocks: Sections, ptes: Ptes) -> None:
    """Store the 8 PTEs of each pageblock."""
    rows = mem.pte_slot[blocks // BLOCKS_PER_SECTION]
    columns = (blocks % BLOCKS_PER_SECTION)[:, None] * VMEMMAP_PER_BLOCK + np.arange(VMEMMAP_PER_BLOCK)
    mem.pte[rows[:, None], columns] = ptes
    mem.mark_dirty(blocks)


@dataclass(frozen=True, slots=True)
class StructPage:
    """Where the ``struct page`` of a pfn lives: the walk of the simulated page table."""

    virtual_address: int
    pfn: int
    mapping: Literal["pmd", "pte"]
    writable: bool


def walk(mem: MemoryMap, pfn: int) -> StructPage | None:
    """Translate the address of a page's ``struct page``; None when its section has no vmemmap."""
    section, index = pfn // SECTION_PAGES, pfn % SECTION_PAGES
    if mem.vmemmap_pfn[section] < 0:
        return None
    entry = index * STRUCT_PAGE_BYTES // PAGE_SIZE
    address = VMEMMAP_BASE + pfn * STRUCT_PAGE_BYTES
    if mem.pte_slot[section] == 0:
        return StructPage(address, int(mem.vmemmap_pfn[section]) + entry, "pmd", True)
    pte = int(tables(mem, np.array([section]))[0, entry])
    return StructPage(address, pte >> PAGE_SHIFT, "pte", bool(pte & PAGE_RW))


@dataclass(frozen=True, slots=True)
class PteRun:
    """Entries of a page table that follow each other, and so do their frames.

    Attributes:
        first_page: the first entry, 0..511.
        nr_pages: how many entries.
        pfn: the frame of the first entry.
        step: by how much the frame of each next entry is further; 0: all share one.
    """

    first_page: int
    nr_pages: int
    pfn: int
    step: Literal[0, 1]
    writable: bool


def runs(mem: MemoryMap, section: int) -> list[PteRun]:
    """The page table of a section as runs that cover all 512 entries."""
    if mem.pte_slot[section] == 0:
        return [PteRun(0, PTRS_PER_PTE, int(mem.vmemmap_pfn[section]), 1, True)]
    words = tables(mem, np.array([section]))[0]
    frames, flags = (words >> PAGE_SHIFT).tolist(), (words & PAGE_RW).tolist()
    out: list[PteRun] = []
    start = 0
    while start < PTRS_PER_PTE:
        step: Literal[0, 1] = 1
        if start + 1 < PTRS_PER_PTE and flags[start + 1] == flags[start]:
            step = 0 if frames[start + 1] == frames[start] else 1
        end = start + 1
        while end < PTRS_PER_PTE and flags[end] == flags[start] and frames[end] == frames[end - 1] + step:
            end += 1
        out.append(PteRun(start, end - start, frames[start], step, bool(flags[start])))
        start = end
    return out
