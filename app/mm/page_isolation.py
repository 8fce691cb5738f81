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

MOVABLE_OR_FREE = (Use.BUDDY, Use.PCP, Use.ANON, Use.PAGE_CACHE, Use.HUGETLB, Use.POISON, Use.UNPLUGGED)


@dataclass(frozen=True, slots=True)
class Unmovable:
    """A page that keeps its pageblock from being isolated."""

    pfn: int
    use: Use

    @property
    def word(self) -> str:
        """Its use in plain words."""
        return self.use.name.lower().replace("_", "-")


def unmovable_pages(
    host: Host, blocks: Blocks, limit: int = 1, mt: Migrate = Migrate.MOVABLE
) -> list[Unmovable]:
    """Pages that forbid isolating the pageblocks, lowest first.

    In ZONE_MOVABLE only boot memory counts; elsewhere everything that is not free, movable or huge.  A CMA
    pageblock is fine for allocations of type CMA and for no other.
    """
    mem = host.mem
    forbidden = np.ones((2, 256), np.bool_)  # by use: outside of ZONE_MOVABLE, and in it
    forbidden[0, list(MOVABLE_OR_FREE)] = False
    forbidden[1] = IS_MANAGED == 0
    forbidden[1, Use.UNPLUGGED] = False
    forbidden[:, Use.HOLE] = forbidden[:, Use.MIXED] = True  # a mixed pageblock is looked at page by page
    is_movable = np.array([False] + [zone.type == ZONE_MOVABLE for zone in host.zones])
    kind = is_movable[mem.zone[blocks]].astype(np.int64)
    in_area = mem.mt[blocks] == Migrate.CMA
    suspects = forbidden[kind, mem.use[blocks]] & ~in_area
    if mt != Migrate.CMA:
        suspects |= in_area
    found: list[Unmovable] = []
    for i in np.flatnonzero(suspects).tolist():
        uses = mem.page_uses(int(blocks[i]), 1)[0]
        bad = [0] if in_area[i] else np.flatnonzero(forbidden[kind[i], uses])[: limit - len(found)].tolist()
        first = int(blocks[i]) * PAGEBLOCK_PAGES
        found.extend(Unmovable(first + offset, Use(int(uses[offset]))) for offset in bad)
        if len(found) >= limit:
            break
    return found


def isolate(host: Host, call: Call, blocks: Blocks, mt: Migrate = Migrate.MOVABLE) -> None:
    """Make pageblocks MIGRATE_ISOLATE, so that nothing is allocated from them; ``mt``: what is asked for.

    Raises:
        MMError: EBUSY naming the first unmovable page; nothing is isolated.
    """
    mem = host.mem
    found = unmovable_pages(host, blocks, mt=mt)
    if found:
        call.printk("page dumped because: unmovable page")
        raise MMError(
            "EBUSY",
            f"page {found[0].pfn} is {found[0].word} memory and cannot be moved",
            reason="unmovable-page",
            pfn=found[0].pfn,
            use=found[0].word,
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
    """Whether every page is free; poisoned and unplugged ones are tolerated."""
    gone = (Use.BUDDY, Use.POISON, Use.UNPLUGGED, Use.MIXED)
    return bool(pages_of_use(mem, blocks, *(u for u in Use if u not in gone)).size == 0)
