"""Gigantic pages of the command line whose vmemmap is small from the start (6.15+).

Source: mm/hugetlb_vmemmap.c hugetlb_vmemmap_init_early(), mm/sparse-vmemmap.c vmemmap_populate_hvo() (6.18).
"""

import numpy as np

from hugepool.mm.boot.cmdline import BootParams
from hugepool.mm.machine.mmzone import BlockFlag, Blocks, Pfns, Use
from hugepool.mm.machine.sparse_vmemmap import own_tables, share_tails, split_vmemmap_huge_pmd
from hugepool.mm.machine.state import Call, Host, HState
from hugepool.mm.machine.units import BLOCKS_PER_SECTION, ORDER_1G, PTRS_PER_PTE, SECTIONS_PER_1G

EARLY_FRAMES = (
    SECTIONS_PER_1G * PTRS_PER_PTE - 1 - SECTIONS_PER_1G
)  # saved: all but a frame and 8 page tables


def is_early(host: Host) -> bool:
    """Whether gigantic pages of the command line get a small vmemmap."""
    return host.profile.early_vmemmap and host.optimize_enabled


def count_early(host: Host, params: BootParams) -> int:
    """How many such pages the command line asks for."""
    wanted = params.hugepages.get(ORDER_1G, 0)
    return (sum(wanted.values()) if isinstance(wanted, dict) else wanted) if is_early(host) else 0


def populate_early(host: Host, call: Call, hs: HState, heads: Blocks) -> None:
    """Make the vmemmap of pages small; what it would have taken is free memory."""
    for head in heads.tolist():
        host.mem.assign_pages(map_early(host, head), Use.BUDDY)
        hs.nr_optimized += 1
        call.vmemmap.pages_freed += hs.nr_free_vmemmap_pages
        call.vmemmap.page_table_pages += SECTIONS_PER_1G
    host.mem.flags[heads] |= BlockFlag.OPTIMIZED


def map_early(host: Host, head: int) -> Pfns:
    """Map all of a page's vmemmap to its first frame, by page tables in the next eight; the frames that are left."""
    mem = host.mem
    first = head // BLOCKS_PER_SECTION
    sections = np.arange(first, first + SECTIONS_PER_1G)
    frames: Pfns = (mem.vmemmap_pfn[sections][:, None] + np.arange(PTRS_PER_PTE)).ravel()
    shared, tables, left = np.split(frames, [1, 1 + SECTIONS_PER_1G])
    split_vmemmap_huge_pmd(mem, sections, tables)
    own_tables(mem, sections)
    share_tails(mem, sections)
    mem.assign_pages(tables, Use.BOOT_PAGE_TABLE)
    mem.assign_pages(shared, Use.EARLY_VMEMMAP)
    return left
