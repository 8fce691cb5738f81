"""Reserving the areas of cma= and hugetlb_cma= at boot, and finding those of an imported machine.

Source: mm/cma.c cma_declare_contiguous_nid(); kernel/dma/contiguous.c early_cma(), dma_contiguous_reserve();
mm/hugetlb.c hugetlb_cma_reserve() (5.14).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hugepool.mm.boot.cmdline import BootParams
from hugepool.mm.boot.import_zones import Budget
from hugepool.mm.kernel.cma import AREA_ALIGN, HUGETLB, RESERVED
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.mmzone import Blocks, Migrate, Use
from hugepool.mm.machine.state import Call, CmaArea, Host
from hugepool.mm.machine.units import (
    DMA32_END,
    GIB_PAGES,
    MAX_BUDDY_ORDER,
    PAGE_SIZE,
    PAGEBLOCK_PAGES,
    memparse,
)

_CMA_WORD = re.compile(r"([^@]+?)(?:@([^-]+)(?:-(.+))?)?")


@dataclass(frozen=True, slots=True)
class _Wish:
    """An area that the command line asks for; pages of 4 KiB."""

    name: str
    pages: int
    align: int = AREA_ALIGN
    base: int | None = None
    limit: int | None = None
    nid: int | None = None


def reserve_areas(host: Host, call: Call, params: BootParams) -> None:
    """Set the areas of cma= and hugetlb_cma= aside: free memory that only movable pages may use meanwhile."""
    for wish in _wishes(host, params, call.printk):
        where = free_place(host, wish, Use.BUDDY)
        mib = wish.pages * PAGE_SIZE >> 20
        if where is not None:
            declare(host, wish.name, where, wish.pages)
        for line in _lines(host, wish, where, mib):
            call.printk(line)


def _lines(host: Host, wish: _Wish, where: int | None, mib: int) -> list[str]:
    """What the console says of one area."""
    if where is None:
        lines = [f"cma: Failed to reserve {mib} MiB"]
        return (
            lines
            if wish.nid is None
            else [*lines, f"hugetlb_cma: reservation failed: err -12, node {wish.nid}"]
        )
    done = f"cma: Reserved {mib} MiB at 0x{where * PAGE_SIZE:016x}"
    if wish.nid is None:
        return [done]
    if host.profile.cma_names_range:
        done = f"cma: Reserved {mib} MiB in 1 range"
    return [done, f"hugetlb_cma: reserved {mib} MiB on node {wish.nid}"]


def adopt_areas(host: Host, budgets: Sequence[Budget], params: BootParams) -> None:
    """Areas of an imported machine, where its kernel put them.

    What is free in them says pagetypeinfo; without it they are free as a whole, as they are unless something runs
    there.  An area that its zone's counters or free blocks do not allow for is left out.
    """
    for wish in _wishes(host, params, lambda _line: None):
        where = free_place(host, wish, Use.RESERVED)
        if where is None:
            continue
        blocks = _blocks(where, wish.pages)
        budget = next(b for b in budgets if b.zone.id == host.mem.zone[blocks[0]])
        z, listed = budget.image, budget.lists[Migrate.MOVABLE]
        free_unknown = z.free_by_type is None or z.type_blocks is None
        known = 0 if z.type_blocks is None else z.type_blocks[Migrate.CMA] * PAGEBLOCK_PAGES
        room = int(listed[MAX_BUDDY_ORDER]) * AREA_ALIGN if free_unknown else known - budget.zone.cma
        if (host.mem.zone[blocks] != budget.zone.id).any() or min(z.cma - budget.zone.cma, room) < wish.pages:
            continue
        if free_unknown:
            listed[MAX_BUDDY_ORDER] -= wish.pages // AREA_ALIGN
            host.mem.assign_blocks(blocks, Use.BUDDY)
        else:
            budget.area = np.concatenate((budget.area, blocks))
        declare(host, wish.name, where, wish.pages)


def _wishes(host: Host, params: BootParams, printk: Callable[[str], None]) -> list[_Wish]:
    wishes = [] if params.hugetlb_cma is None else _of_hugetlb(host, params.hugetlb_cma, printk)
    if params.cma is not None:
        pages, base, limit = cma_word(params.cma)
        if pages:
            wishes.append(_Wish(RESERVED, pages, base=base, limit=limit))
    return wishes


def _of_hugetlb(host: Host, word: str, printk: Callable[[str], None]) -> list[_Wish]:
    """The same for every node, in whole gigantic pages, until there is enough."""
    try:
        total = memparse(word) // PAGE_SIZE
    except BadInput:
        return []
    if total < GIB_PAGES:
        printk("hugetlb_cma: cma area should be at least 1024 MiB")
        return []
    nids = host.memory_nodes()
    per_node = -(-total // len(nids))
    printk(
        f"hugetlb_cma: reserve {total * PAGE_SIZE >> 20} MiB, up to {per_node * PAGE_SIZE >> 20} MiB per node"
    )
    wishes: list[_Wish] = []
    for nid in nids:
        left = total - sum(wish.pages for wish in wishes)
        if left > 0:
            pages = -(-min(per_node, left) // GIB_PAGES) * GIB_PAGES
            wishes.append(_Wish(f"{HUGETLB}{nid}", pages, GIB_PAGES, nid=nid))
    return wishes


def cma_word(word: str) -> tuple[int, int | None, int | None]:
    """``64M``, ``64M@1G`` or ``64M@1G-2G``: size, first page and end of the search, in pages; 0 for what is none."""
    match = _CMA_WORD.fullmatch(word)
    try:
        size, base, limit = (
            (part if part is None else memparse(part) for part in match.groups()) if match else (None,) * 3
        )
    except BadInput:
        return 0, None, None
    pages = -(-(size or 0) // (AREA_ALIGN * PAGE_SIZE)) * AREA_ALIGN
    return pages, base if base is None else base // PAGE_SIZE, limit if limit is None else limit // PAGE_SIZE


def free_place(host: Host, wish: _Wish, use: Use) -> int | None:
    """First page of memory of a use that has room for an area, or None.

    A base without a limit, or one that fills it, is fixed; else from 4 GiB upwards where the machine reaches that
    far, and from the top downwards below.
    """
    mem, pages = host.mem, wish.pages
    free = (mem.use == use) & (mem.mt != Migrate.CMA)
    if wish.nid is not None:
        free &= np.isin(mem.zone, [zone.id for zone in host.nodes[wish.nid].zones])
    end = mem.nr_blocks * PAGEBLOCK_PAGES
    starts = np.arange(0, end - pages + 1, wish.align)
    total = np.concatenate(([0], np.cumsum(free)))
    first, last = starts // PAGEBLOCK_PAGES, (starts + pages) // PAGEBLOCK_PAGES
    fits = starts[total[last] - total[first] == pages // PAGEBLOCK_PAGES]
    if wish.base is not None and wish.limit in (None, wish.base + pages):
        return wish.base if wish.base in fits.tolist() else None
    fits = fits[(fits >= (wish.base or 0)) & (fits + pages <= (wish.limit or end))]
    high = fits[fits >= DMA32_END]
    if high.size:
        return int(high[0])
    return int(fits[-1]) if fits.size else None


def _blocks(pfn: int, pages: int) -> Blocks:
    return np.arange(pfn // PAGEBLOCK_PAGES, (pfn + pages) // PAGEBLOCK_PAGES)


def declare(host: Host, name: str, base_pfn: int, pages: int) -> None:
    """Make free pages an area: their pageblocks are CMA from now on."""
    host.cma_areas.append(CmaArea(name, base_pfn, pages))
    blocks = _blocks(base_pfn, pages)
    zone_ids, counts = np.unique(host.mem.zone[blocks], return_counts=True)
    for zone_id, count in zip(zone_ids.tolist(), counts.tolist(), strict=True):
        host.zones[zone_id - 1].cma += count * PAGEBLOCK_PAGES
    host.mem.set_type(blocks, Migrate.CMA)
