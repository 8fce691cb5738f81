"""Contiguous ranges that were taken, and the areas that are set aside for them."""

from dataclasses import dataclass

from hugepool.mm.commands.contig_ranges import find
from hugepool.mm.kernel.cma import taken_pages
from hugepool.mm.machine.memory_outcomes import ContigRange
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.units import PAGEBLOCK_PAGES


@dataclass(frozen=True, slots=True)
class CmaArea:
    """Memory set aside at boot for contiguous ranges; movable pages use it meanwhile.  Pages of 4 KiB.

    Attributes:
        name: as `cma=` or `hugetlb_cma=` names it.
        base_pfn: its first page.
        taken_pages: those that ranges or gigantic pages have.
    """

    name: str
    base_pfn: int
    nr_pages: int
    taken_pages: int
    node: int


def areas(machine: Host) -> list[CmaArea]:
    """All areas in the order of their making."""
    return [
        CmaArea(
            name=area.name,
            base_pfn=area.base_pfn,
            nr_pages=area.nr_pages,
            taken_pages=int(taken_pages(machine, area).sum()),
            node=machine.node_of_block(area.base_pfn // PAGEBLOCK_PAGES),
        )
        for area in machine.cma_areas
    ]


def ranges(machine: Host, after: int, limit: int) -> list[ContigRange]:
    """Up to ``limit`` ranges with numbers above ``after``."""
    ids = sorted(number for number in machine.contig_ranges if number > after)[:limit]
    return [ContigRange.of(machine.contig_ranges[number]) for number in ids]


def contig_range(machine: Host, number: int) -> ContigRange:
    """One range.  Raises ENOENT."""
    return ContigRange.of(find(machine, number))
