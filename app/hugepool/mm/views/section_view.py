"""The vmemmap section by section: 128 MiB of memory, 2 MiB of vmemmap, one PMD entry or one page table."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hugepool.mm.machine import sparse_vmemmap
from hugepool.mm.machine.errors import NotFound
from hugepool.mm.machine.mmzone import BlockFlag, MemoryMap
from hugepool.mm.machine.sparse_vmemmap import PAGE_RW, PteRun
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.units import BLOCKS_PER_1G, BLOCKS_PER_SECTION
from hugepool.mm.views.host_view import sections_per_block
from hugepool.mm.views.pool_view import VmemmapTotals, vmemmap_totals

Numbers = npt.NDArray[np.int64]

OPTIMIZED_GIGANTIC = BlockFlag.HEAD | BlockFlag.OPTIMIZED | BlockFlag.GIGANTIC


# -- what is shown ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SectionRow:
    """One section of 128 MiB.

    Attributes:
        section: its number.
        mapping: how its vmemmap is mapped: `pmd` whole, `pte` by a page table.
        optimized_hugepages: huge pages in it whose vmemmap is given back.
        pages_freed: entries of the page table that share a frame with another.
    """

    section: int
    mapping: Literal["pmd", "pte"]
    optimized_hugepages: int
    pages_freed: int


@dataclass(frozen=True, slots=True)
class Section(SectionRow):
    """A section with its page table.

    Attributes:
        block: the memory block that it belongs to.
        page_table_pfn: where the page table lies; null: there is none.
        runs: entries in order, all 512 of them.
    """

    node: int
    block: int
    page_table_pfn: int | None
    runs: list[PteRun]


@dataclass(frozen=True, slots=True)
class Vmemmap(VmemmapTotals):
    """Totals, and a page of sections.

    Attributes:
        next_cursor: for `cursor` of the next request; null: there are no more.
    """

    items: list[SectionRow]
    next_cursor: str | None


# -- how it is found -------------------------------------------------------------------------------------


def sections(host: Host, after: int, limit: int) -> list[SectionRow]:
    """Up to ``limit`` rows of sections that have a vmemmap, numbered above ``after``."""
    first = min(max(after + 1, 0), host.mem.nr_sections)
    numbers = first + np.flatnonzero(host.mem.vmemmap_pfn[first:] >= 0)[:limit]
    return _rows(host.mem, numbers)


def section(host: Host, number: int) -> Section:
    """One section with its page table as runs.  Raises ENOENT when it has no vmemmap."""
    mem = host.mem
    if not 0 <= number < mem.nr_sections or mem.vmemmap_pfn[number] < 0:
        raise NotFound("no section of this number has a vmemmap on this host", section=short(number))
    row = _rows(mem, np.array([number], np.int64))[0]
    return Section(
        section=number,
        mapping=row.mapping,
        optimized_hugepages=row.optimized_hugepages,
        pages_freed=row.pages_freed,
        node=int(mem.section_nid[number]),
        block=number // sections_per_block(host),
        page_table_pfn=int(mem.pte_pfn[number]) if mem.pte_slot[number] else None,
        runs=sparse_vmemmap.runs(mem, number),
    )


def vmemmap(host: Host, items: list[SectionRow], next_cursor: str | None) -> Vmemmap:
    """The totals of a host over some of its sections."""
    totals = vmemmap_totals(host)
    return Vmemmap(
        sections=totals.sections,
        sections_split=totals.sections_split,
        page_table_pages=totals.page_table_pages,
        pages_freed=totals.pages_freed,
        bytes_saved=totals.bytes_saved,
        items=items,
        next_cursor=next_cursor,
    )


def short(number: int) -> int | str:
    """A number as it may stand in an answer: one that a stranger made endless is not repeated."""
    return number if abs(number) < 1 << 64 else "out of range"


def _rows(mem: MemoryMap, numbers: Numbers) -> list[SectionRow]:
    columns = (numbers, mem.pte_slot[numbers] != 0, _optimized(mem, numbers), _pages_freed(mem, numbers))
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [SectionRow(number, "pte" if split else "pmd", nr, freed) for number, split, nr, freed in rows]


def _optimized(mem: MemoryMap, numbers: Numbers) -> Numbers:
    """Optimised huge pages per section; a gigantic one counts in each of the eight sections it covers."""
    flags = mem.flags.reshape(-1, BLOCKS_PER_SECTION)[numbers]
    small = (flags & (BlockFlag.OPTIMIZED | BlockFlag.GIGANTIC)) == BlockFlag.OPTIMIZED
    heads = mem.flags[numbers * BLOCKS_PER_SECTION // BLOCKS_PER_1G * BLOCKS_PER_1G]
    gigantic = (heads & OPTIMIZED_GIGANTIC) == OPTIMIZED_GIGANTIC
    counts: Numbers = small.sum(axis=1) + gigantic
    return counts


def _pages_freed(mem: MemoryMap, numbers: Numbers) -> Numbers:
    """Entries that share a frame with another, read from the page tables: the shared ones are read-only."""
    freed = np.zeros(numbers.size, np.int64)
    split = np.flatnonzero(mem.pte_slot[numbers])
    tables = sparse_vmemmap.tables(mem, numbers[split])
    freed[split] = ((tables & PAGE_RW) == 0).sum(axis=1)
    return freed
