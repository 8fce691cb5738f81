"""Isolating pageblocks before memory goes offline or a range is allocated, and what forbids it.

Source: mm/page_isolation.c start_isolate_page_range(), mm/page_alloc.c has_unmovable_pages() (5.14).
"""

from dataclasses import dataclass

import numpy as np

from app.mm.errors import MMError
from app.mm.mmzone import IS_MANAGED, ZONE_MOVABLE, Blocks, MemoryMap, Migrate, Pfns, Use
from app.mm.page_alloc import drain_pcp
from app.mm.state import Call, Host
from app.mm.units import PAGEBLOCK_PAGES

MOVABLE_OR_FREE = (Use.BUDDY, Use.PCP, Use.ANON, Use.PAGE_CACHE, Use.HUGETLB, Use.POISON)


@dataclass(frozen=True, slots=True)
class Unmovable:
    """A page that keeps its pageblock from being isolated."""

    pfn: int
    use: str


def unmovable_pages(host: Host, blocks: Blocks, limit: int = 1) -> list[Unmovable]:
    """Pages that forbid isolating the pageblocks, lowest first.

    In ZONE_MOVABLE only boot memory counts; elsewhere everything that is not free, movable or huge.
    """
    mem = host.mem
    forbidden = np.ones((2, 256), np.bool_)  # by use: outside of ZONE_MOVABLE, and in it
    forbidden[0, list(MOVABLE_OR_FREE)] = False
    forbidden[1] = IS_MANAGED == 0
    forbidden[:, Use.HOLE] = forbidden[:, Use.MIXED] = True  # a mixed pageblock is looked at page by page
    is_movable = np.array([False] + [zone.type == ZONE_MOVABLE for zone in host.zones])
    kind = is_movable[mem.zone[blocks]].astype(np.int64)
    suspects = np.flatnonzero(forbidden[kind, mem.use[blocks]])
    found: list[Unmovable] = []
    for i in suspects.tolist():
        uses = mem.page_uses(int(blocks[i]), 1)[0]
        for offset in np.flatnonzero(forbidden[kind[i], uses])[: limit - len(found)].tolist():
            pfn = int(blocks[i]) * PAGEBLOCK_PAGES + offset
            found.append(Unmovable(pfn, Use(int(uses[offset])).name.lower().replace("_", "-")))
        if len(found) >= limit:
            break
    return found


def isolate(host: Host, call: Call, blocks: Blocks) -> None:
    """Make pageblocks MIGRATE_ISOLATE, so that nothing is allocated from them.

    Raises:
        MMError: EBUSY naming the first unmovable page; nothing is isolated.
    """
    mem = host.mem
    found = unmovable_pages(host, blocks)
    if found:
        call.printk("page dumped because: unmovable page")
        raise MMError(
            "EBUSY",
            f"page {found[0].pfn} is {found[0].use} memory and cannot be moved",
            reason="unmovable-page",
            pfn=found[0].pfn,
            use=found[0].use,
        )
    drain_pcp(mem, [host.zones[int(z) - 1] for z in np.unique(mem.zone[blocks]) if z])
    mem.set_type(blocks, Migrate.ISOLATE)


def pages_of_use(mem: MemoryMap, blocks: Blocks, *uses: Use) -> Pfns:
    """Pfns of pages of some uses in pageblocks, rising."""
    wanted = np.zeros(256, np.bool_)
    wanted[list(uses)] = True
    whole = blocks[wanted[mem.use[blocks]]]
    mixed = blocks[mem.use[blocks] == Use.MIXED]
    row, offset = np.nonzero(wanted[mem.detail[mem.slot[mixed]]])
    inside = mixed[row] * PAGEBLOCK_PAGES + offset
    all_of = (whole[:, None] * PAGEBLOCK_PAGES + np.arange(PAGEBLOCK_PAGES)).ravel()
    return np.sort(np.concatenate((all_of, inside)))


def all_free(mem: MemoryMap, blocks: Blocks) -> bool:
    """Whether every page is free (poisoned ones are tolerated)."""
    return bool(
        pages_of_use(mem, blocks, *(u for u in Use if u not in (Use.BUDDY, Use.POISON, Use.MIXED))).size == 0
    )
