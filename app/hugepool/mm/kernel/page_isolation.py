"""Isolating pageblocks before memory goes offline or a range is allocated, and what forbids it.

Source: mm/page_isolation.c start_isolate_page_range(), mm/page_alloc.c has_unmovable_pages() (5.14).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from hugepool.mm.kernel.page_alloc import drain_pcp
from hugepool.mm.machine.errors import MMError
from hugepool.mm.machine.mmzone import (
    IS_MANAGED,
    MOVABLE_USES,
    NO_PFNS,
    ZONE_MOVABLE,
    Blocks,
    Mask,
    MemoryMap,
    Migrate,
    Pfns,
    Use,
    pages_in,
)
from hugepool.mm.machine.reasons import Reason
from hugepool.mm.machine.state import Call, Host
from hugepool.mm.machine.units import PAGEBLOCK_PAGES

Types = npt.NDArray[np.uint8]
CHUNK = 1 << 14  # mixed pageblocks that are looked at together
MOVABLE_OR_FREE = (Use.BUDDY, Use.PCP, *MOVABLE_USES, Use.PINNED, Use.HUGETLB, Use.POISON, Use.UNPLUGGED)


def word_of(use: Use) -> str:
    """A use in plain words."""
    return use.name.lower().replace("_", "-")


def unmovable_pages(host: Host, blocks: Blocks, mt: Migrate = Migrate.MOVABLE) -> Pfns:
    """Pages that forbid isolating the pageblocks (rising) for a request of a type, lowest first.

    In ZONE_MOVABLE only boot memory counts; elsewhere everything that is not free, movable or huge.  A CMA
    pageblock is fine for allocations of type CMA and for no other: its first page stands for it.
    """
    mem = host.mem
    forbidden = np.ones((2, 256), np.bool_)  # by use: outside of ZONE_MOVABLE, and in it
    forbidden[0, list(MOVABLE_OR_FREE)] = False
    forbidden[1] = IS_MANAGED == 0
    forbidden[1, Use.UNPLUGGED] = False
    forbidden[:, Use.HOLE] = True
    is_movable = np.array([False] + [zone.type == ZONE_MOVABLE for zone in host.zones])
    kind = is_movable[mem.zone[blocks]].astype(np.int64)
    in_area = mem.mt[blocks] == Migrate.CMA
    look_at = ~in_area & (forbidden[kind, mem.use[blocks]] | (mem.use[blocks] == Use.MIXED))
    pfns = blocks[look_at][:, None] * PAGEBLOCK_PAGES + np.arange(PAGEBLOCK_PAGES)
    bad = forbidden[kind[look_at][:, None], mem.uses_of(pfns.ravel()).reshape(pfns.shape)]
    areas = blocks[in_area] * PAGEBLOCK_PAGES if mt != Migrate.CMA else NO_PFNS
    return np.sort(np.concatenate((pfns[bad], areas)))


def isolate(host: Host, blocks: Blocks, mt: Migrate = Migrate.MOVABLE, report: Call | None = None) -> Types:
    """Make pageblocks MIGRATE_ISOLATE, so that nothing is allocated from them; ``mt``: what is asked for.

    Returns the types that they have afterwards, for ``unisolate``.
    ``report``: where a page that is in the way is dumped, as REPORT_FAILURE asks for; ranges do without.

    Raises:
        MMError: EBUSY naming the first unmovable page; nothing is isolated, but the pageblocks before it were for a
            moment.
    """
    mem = host.mem
    types = _types_afterwards(host, blocks, mt)
    found = unmovable_pages(host, blocks, mt)
    if found.size:
        pfn = int(found[0])
        in_area = mem.mt[pfn // PAGEBLOCK_PAGES] == Migrate.CMA
        word = "cma" if in_area else word_of(Use(mem.page_use(pfn)))
        before = blocks < pfn // PAGEBLOCK_PAGES
        mem.set_type(blocks[before], Migrate.ISOLATE)
        unisolate(host, blocks[before], types[before])
        if report is not None:
            report.printk("page dumped because: unmovable page")
        raise MMError("EBUSY", f"page {pfn} is {word} memory and cannot be moved", reason=Reason.UNMOVABLE_PAGE,
                      pfn=pfn, use=word)  # fmt: skip
    drain_pcp(mem, mem.zones_of(blocks))
    mem.set_type(blocks, Migrate.ISOLATE)
    return types


def _types_afterwards(host: Host, blocks: Blocks, mt: Migrate) -> Types:
    """The type that the caller asks for; or each its own, where isolation is a bit next to the type.

    Source: mm/page_isolation.c unset_migratetype_isolate() (5.14, 6.18).
    """
    return host.mem.mt[blocks] if host.profile.isolation_keeps_types else np.full(blocks.size, mt, np.uint8)


def unisolate(host: Host, blocks: Blocks, types: Types) -> None:
    """Give isolated pageblocks a type again."""
    for mt in np.unique(types).tolist():
        host.mem.set_type(blocks[types == mt], Migrate(mt))


def pages_of_use(mem: MemoryMap, blocks: Blocks, *uses: Use) -> Pfns:
    """Pfns of pages of some uses in pageblocks, rising."""
    wanted = _among(uses)
    found = [pages_in(blocks[wanted[mem.use[blocks]]])]
    for part in _mixed_parts(mem, blocks):
        row, offset = np.nonzero(wanted[mem.detail[mem.slot[blocks[part]]]])
        found.append(blocks[part][row] * PAGEBLOCK_PAGES + offset)
    return np.sort(np.concatenate(found))


def count_of_use(mem: MemoryMap, blocks: Blocks, *uses: Use) -> Blocks:
    """How many pages of some uses each pageblock has."""
    wanted = _among(uses)
    count: Blocks = wanted[mem.use[blocks]] * np.int64(PAGEBLOCK_PAGES)
    for part in _mixed_parts(mem, blocks):
        count[part] = wanted[mem.detail[mem.slot[blocks[part]]]].sum(axis=1)
    return count


def _among(uses: Sequence[Use]) -> Mask:
    wanted = np.zeros(256, np.bool_)
    wanted[list(uses)] = True
    return wanted


def _mixed_parts(mem: MemoryMap, blocks: Blocks) -> Iterator[Blocks]:
    """Where among some pageblocks those with pages of several uses are: as many together as little memory allows."""
    mixed = np.flatnonzero(mem.use[blocks] == Use.MIXED)
    for start in range(0, mixed.size, CHUNK):
        yield mixed[start : start + CHUNK]


def all_free(mem: MemoryMap, blocks: Blocks) -> bool:
    """Whether every page is free; poisoned and unplugged ones are tolerated."""
    gone = (Use.BUDDY, Use.POISON, Use.UNPLUGGED, Use.MIXED)
    return bool(pages_of_use(mem, blocks, *(u for u in Use if u not in gone)).size == 0)
