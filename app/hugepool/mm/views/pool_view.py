"""Huge page pools, and what freeing their vmemmap has come to."""

from dataclasses import dataclass

import numpy as np

from hugepool.mm.kernel.hugetlb import check_size
from hugepool.mm.machine import sparse_vmemmap
from hugepool.mm.machine.state import Host, HState
from hugepool.mm.machine.units import PAGE_SIZE, order_of

# -- what is shown ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HugePagesOfNode:
    """The huge pages of a size on one node."""

    node: int
    nr_hugepages: int
    free_hugepages: int
    surplus_hugepages: int


@dataclass(frozen=True, slots=True)
class HugePages:
    """The pool of one huge page size.

    Attributes:
        size: as sysfs writes it: `2048kB` or `1048576kB`.
        order: a huge page has two to the power of it pages of 4 KiB.
        nr_hugepages: all of them, surplus included.
        free_hugepages: those that no program has.
        resv_hugepages: free ones that are promised to mappings.
        surplus_hugepages: those above the persistent size.
        max_huge_pages: the persistent size last agreed: what `/proc/sys/vm/nr_hugepages` reads back.
        nr_overcommit_hugepages: how many surplus pages may be made on demand.
        nr_free_vmemmap_pages: vmemmap pages that one optimised huge page gives back.
        optimized_hugepages: those whose vmemmap is given back.
        nodes: those that have a hugepages folder.
    """

    size: str
    order: int
    nr_hugepages: int
    free_hugepages: int
    resv_hugepages: int
    surplus_hugepages: int
    max_huge_pages: int
    nr_overcommit_hugepages: int
    nr_free_vmemmap_pages: int
    optimized_hugepages: int
    nodes: list[HugePagesOfNode]


@dataclass(frozen=True, slots=True)
class HugePagesList:
    """All huge page sizes, the smaller first."""

    items: list[HugePages]


@dataclass(frozen=True, slots=True)
class VmemmapTotals:
    """What vmemmap freeing has done, in pages of 4 KiB.

    Attributes:
        sections: those of 128 MiB that have a vmemmap.
        sections_split: those of them that are mapped by a page table.
        page_table_pages: what these page tables take.
        pages_freed: what huge pages give back; frames that got lost on the way (5.14, hot-added memory) are not.
        bytes_saved: what is freed less the page tables that it took, and less the lost frames.
    """

    sections: int
    sections_split: int
    page_table_pages: int
    pages_freed: int
    bytes_saved: int


# -- how it is found -------------------------------------------------------------------------------------


def hugepages(machine: Host) -> list[HugePages]:
    """All huge page sizes, the smaller first."""
    return [_hugepages(machine, machine.hstates[order]) for order in sorted(machine.hstates)]


def hugepages_of(machine: Host, size: str) -> HugePages:
    """One huge page size by its sysfs word.  Raises ENOENT when the host has none."""
    return _hugepages(machine, check_size(machine, order_of(size), size[:40]))


def _hugepages(machine: Host, hs: HState) -> HugePages:
    return HugePages(
        hs.size,
        hs.order,
        hs.nr_huge_pages,
        hs.free_huge_pages,
        hs.resv_shown,
        hs.surplus_huge_pages,
        hs.max_huge_pages,
        hs.nr_overcommit_huge_pages,
        hs.nr_free_vmemmap_pages,
        hs.nr_optimized,
        [
            HugePagesOfNode(nid, hs.nr_node[nid], hs.free_node[nid], hs.surplus_node[nid])
            for nid in _hugepage_nodes(machine)
        ],
    )


def _hugepage_nodes(machine: Host) -> list[int]:
    """Nodes that have a hugepages directory: those with memory; every node since 5.19."""
    if machine.profile.node_dir_without_memory:
        return [each.nid for each in machine.nodes]
    return machine.memory_nodes()


def vmemmap_totals(machine: Host) -> VmemmapTotals:
    """The vmemmap of a host in all."""
    mem = machine.mem
    tables = int(np.count_nonzero(mem.pte_slot))
    freed = sum(hs.nr_optimized * hs.nr_free_vmemmap_pages for hs in machine.hstates.values())
    lost = sparse_vmemmap.lost_frames(mem) if machine.profile.hot_added_frames_lost else 0
    return VmemmapTotals(
        sections=int(np.count_nonzero(mem.vmemmap_pfn >= 0)),
        sections_split=tables,
        page_table_pages=tables,
        pages_freed=max(0, freed - lost),
        bytes_saved=(freed - lost - tables) * PAGE_SIZE,
    )
