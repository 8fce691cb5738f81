"""Where a page of 1 GiB comes from: the node's CMA area, else a search for a range.

Source: mm/hugetlb.c alloc_gigantic_page() (5.14).
"""

import numpy as np

from hugepool.mm.kernel.cma import cma_alloc, gigantic_area
from hugepool.mm.kernel.contig import alloc_contig_pages
from hugepool.mm.kernel.page_alloc import node_zonelist
from hugepool.mm.kernel.replace_hugepages import ContigProgress
from hugepool.mm.machine.mmzone import ZONE_NORMAL, Use
from hugepool.mm.machine.state import Call, Host
from hugepool.mm.machine.units import BLOCKS_PER_1G, GIB_PAGES, PAGEBLOCK_PAGES


def alloc_gigantic_block(host: Host, call: Call, nid: int) -> int | None:
    """First pageblock of a 1 GiB range taken on a node, or None; the search has zones NORMAL, DMA32, DMA."""
    start = _from_cma(host, call, nid)
    if start is None and not host.hugetlb_cma_only:
        zones = node_zonelist(host.nodes[nid], ZONE_NORMAL)
        start = alloc_contig_pages(host, call, zones, GIB_PAGES, ContigProgress())
    if start is None:
        return None
    first = start // PAGEBLOCK_PAGES
    host.mem.assign_blocks(np.arange(first, first + BLOCKS_PER_1G), Use.HUGETLB)
    return first


def _from_cma(host: Host, call: Call, nid: int) -> int | None:
    area = gigantic_area(host, nid)
    if area is None:
        return None
    start = cma_alloc(host, call, area, GIB_PAGES, GIB_PAGES, ContigProgress())
    return start if isinstance(start, int) else None
