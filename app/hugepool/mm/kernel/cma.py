"""Areas of the contiguous memory allocator: reserving them at boot, and taking ranges out of them.

Which pages of an area are taken is not kept apart from the pages: those of contiguous ranges and of gigantic pages are.
Source: mm/cma.c cma_declare_contiguous_nid(), cma_alloc(), cma_release(); kernel/dma/contiguous.c early_cma(),
dma_contiguous_reserve(); mm/hugetlb.c hugetlb_cma_reserve(); mm/cma_debug.c cma_free_mem() (5.14).
"""

import numpy as np

from hugepool.mm.kernel.contig import alloc_contig_range
from hugepool.mm.kernel.replace_hugepages import ContigProgress
from hugepool.mm.machine.errors import MMError, NotFound
from hugepool.mm.machine.mmzone import BlockFlag, Mask, Migrate, Use
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Call, CmaArea, Host
from hugepool.mm.machine.units import PAGEBLOCK_PAGES

AREA_ALIGN = 1024  # pages: areas begin and end with the buddy's largest block
RESERVED = "reserved"  # the area of cma=
HUGETLB = "hugetlb"  # and of hugetlb_cma=, followed by the node


# -- reserving -------------------------------------------------------------------------------------------


# -- taking ----------------------------------------------------------------------------------------------


def area_of(host: Host, name: str) -> CmaArea:
    """An area by its name.  Raises ENOENT."""
    for area in host.cma_areas:
        if area.name == name:
            return area
    known = ", ".join(area.name for area in host.cma_areas) or "none"
    raise NotFound(f"no CMA area {name[:40]!r} on this host; it has {known}")


def gigantic_area(host: Host, nid: int) -> CmaArea | None:
    """The area of ``hugetlb_cma=`` on a node, if there is one."""
    return next((area for area in host.cma_areas if area.name == f"{HUGETLB}{nid}"), None)


def failure_lines(host: Host, area: CmaArea, pages: int, ret: int) -> list[str]:
    """What the console says when an area has no pages.

    Source: mm/cma.c cma_alloc() (5.14), __cma_alloc(), cma_debug_show_areas() (6.18).
    """
    text = f"{area.name}: alloc failed, req-size: {pages} pages, ret: {ret}"
    if not host.profile.cma_names_range:
        return [f"cma: cma_alloc: {text}"]
    edges = np.flatnonzero(np.diff(np.concatenate(([True], taken_pages(host, area), [True])).astype(np.int8)))
    runs = "+".join(f"{end - start}@{start}" for start, end in edges.reshape(-1, 2).tolist())
    return [f"cma: __cma_alloc: {text}", "cma: number of available pages: ", f"cma: range 0: {runs}", "cma: "]


def taken_pages(host: Host, area: CmaArea) -> Mask:
    """Which pages of an area are allocated: its bitmap."""
    mem = host.mem
    pfns = np.arange(area.base_pfn, area.base_pfn + area.nr_pages)
    uses = mem.uses_of(pfns)
    gigantic = (mem.flags[pfns // PAGEBLOCK_PAGES] & BlockFlag.GIGANTIC) != 0
    taken: Mask = (uses == Use.CONTIG) | ((uses == Use.HUGETLB) & gigantic)
    return taken


def cma_alloc(
    host: Host, call: Call, area: CmaArea, pages: int, align: int, progress: ContigProgress
) -> int | MMError:
    """Empty and isolate the first range of an area that can be; its first page, or why the last try failed.

    After EBUSY the search goes on behind the tried place; any other error ends it.
    """
    taken = np.concatenate(([0], np.cumsum(taken_pages(host, area))))
    if host.profile.cma_counts_available and pages > area.nr_pages - int(taken[-1]):
        host.count("cma_alloc_fail")
        return MMError("EBUSY", f"the CMA area {area.name} has {area.nr_pages - int(taken[-1])} pages left",
                       reason=Reason.NO_CONTIGUOUS_MEMORY)  # fmt: skip
    failure = MMError("ENOMEM", f"{pages} pages in a row are not free in the CMA area {area.name}",
                      reason=Reason.NO_CONTIGUOUS_MEMORY)  # fmt: skip
    offsets = np.arange(-area.base_pfn % align, area.nr_pages - pages + 1, align)
    for start in (area.base_pfn + offsets[taken[offsets + pages] == taken[offsets]]).tolist():
        try:
            alloc_contig_range(host, call, start, start + pages, Migrate.CMA, progress)
        except MMError as error:
            failure = error
            if error.errno != "EBUSY":
                break
            continue
        host.count("cma_alloc_success")
        return int(start)
    host.count("cma_alloc_fail")
    return failure


# -- commands --------------------------------------------------------------------------------------------
