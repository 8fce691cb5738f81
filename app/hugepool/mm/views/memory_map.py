"""Where the memory of a host is: what every part of it is used for, and what could still be formed of what is free."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hugepool.mm.kernel.buddy import free_area_by_type
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.mmzone import MOVABLE_USES, ZONE_NAMES, Blocks, MemoryMap, Migrate, Use
from hugepool.mm.machine.state import Host, HState
from hugepool.mm.machine.units import BLOCKS_PER_SECTION, PAGEBLOCK_PAGES

Counts = npt.NDArray[np.int64]
MAX_BINS = 8192

# What people look for, in the order they are drawn.
WORDS: dict[str, tuple[Use, ...]] = {
    "buddy": (Use.BUDDY, Use.PCP),
    "hugetlb": (Use.HUGETLB,),
    "anon": (Use.ANON,),
    "cache": (Use.PAGE_CACHE,),
    "kernel": (Use.KERNEL, Use.SYSTEM),
    "contig": (Use.CONTIG,),
    "vmemmap": (Use.VMEMMAP, Use.VMEMMAP_COMPOUND, Use.BOOT_VMEMMAP, Use.EARLY_VMEMMAP, Use.OWN_VMEMMAP),
    "page-table": (Use.PAGE_TABLE, Use.BOOT_PAGE_TABLE),
    "reserved": (Use.RESERVED,),
    "lost": (Use.LOST, Use.POISON),
    "offline": (Use.OFFLINE, Use.UNPLUGGED),
    "hole": (Use.HOLE,),
}
_WORD_OF = np.zeros(256, np.int64)
for _number, _kinds in enumerate(WORDS.values()):
    _WORD_OF[list(_kinds)] = _number
_MAY_MOVE = np.zeros(256, np.bool_)
_MAY_MOVE[[Use.BUDDY, Use.PCP, *MOVABLE_USES]] = True


@dataclass(frozen=True, slots=True)
class MemoryPicture:
    """Physical memory cut into bins of the same number of pages; every list has a value for each bin.

    Attributes:
        start_pfn: first page of the first bin.
        end_pfn: the page behind the last bin.
        bin_pages: pages of a bin; the last one may be shorter.
        bins: first page of each bin.
        uses: pages in each bin by what they are used for; a use that no page has is left out.
        node: NUMA node of the bin's first memory, null where it has none.
        zone: zone of the bin's first memory, null where it is offline or none.
        split_sections: sections whose vmemmap mapping is split and that begin in the bin.
        unmovable_blocks: pageblocks of the bin in which memory is that cannot be moved.
    """

    start_pfn: int
    end_pfn: int
    bin_pages: int
    bins: list[int]
    uses: dict[str, list[int]]
    node: list[int | None]
    zone: list[str | None]
    split_sections: list[int]
    unmovable_blocks: list[int]


def memory_map(host: Host, start_pfn: int, end_pfn: int | None, bins: int) -> MemoryPicture:
    """What every part of physical memory is used for.

    ``start_pfn`` is rounded down and ``end_pfn`` up to whole pageblocks; bins are whole pageblocks where the range has
    at least one for each, else 2**n pages.

    Raises:
        BadInput: an empty range, one behind the memory, or no number of bins.
    """
    mem = host.mem
    first, last = _range(mem, start_pfn, end_pfn)
    width = _width((last - first) * PAGEBLOCK_PAGES, bins)
    nr_bins = -(-(last - first) * PAGEBLOCK_PAGES // width)
    blocks = np.arange(first, last)
    bin_of = (blocks - first) * PAGEBLOCK_PAGES // width
    uses = _uses(mem, blocks, bin_of, width, nr_bins)
    unmovable = _has_unmovable(mem, blocks)
    step = max(1, width // PAGEBLOCK_PAGES)
    starts = np.arange(nr_bins) * width // PAGEBLOCK_PAGES
    return MemoryPicture(
        start_pfn=first * PAGEBLOCK_PAGES,
        end_pfn=last * PAGEBLOCK_PAGES,
        bin_pages=width,
        bins=(first * PAGEBLOCK_PAGES + np.arange(nr_bins) * width).tolist(),
        uses={word: uses[i].tolist() for i, word in enumerate(WORDS) if uses[i].any()},
        node=[None if nid < 0 else nid for nid in _first_of(_node_of(mem, blocks), starts, step, -1)],
        zone=[
            None if zone == 0 else ZONE_NAMES[host.zones[zone - 1].type]
            for zone in _first_of(mem.zone[blocks].astype(np.int64), starts, step, 0)
        ],
        split_sections=_split_sections(mem, first, last, width, nr_bins),
        unmovable_blocks=np.bincount(bin_of[unmovable], minlength=nr_bins).tolist(),
    )


def _range(mem: MemoryMap, start_pfn: int, end_pfn: int | None) -> tuple[int, int]:
    end = mem.nr_blocks * PAGEBLOCK_PAGES if end_pfn is None else end_pfn
    if not 0 <= start_pfn < end:
        raise BadInput(f"{start_pfn}..{end} is no range", where="query start")
    if start_pfn >= mem.nr_blocks * PAGEBLOCK_PAGES:
        raise BadInput(f"memory ends at page {mem.nr_blocks * PAGEBLOCK_PAGES}", where="query start")
    return start_pfn // PAGEBLOCK_PAGES, min(-(-end // PAGEBLOCK_PAGES), mem.nr_blocks)


def _width(pages: int, bins: int) -> int:
    """Pages of a bin so that there are at most ``bins``."""
    if not 1 <= bins <= MAX_BINS:
        raise BadInput(f"must be 1..{MAX_BINS}, not {bins}", where="query bins")
    least = -(-pages // bins)
    if least >= PAGEBLOCK_PAGES:
        return -(-least // PAGEBLOCK_PAGES) * PAGEBLOCK_PAGES
    return 1 << (least - 1).bit_length()


def _uses(mem: MemoryMap, blocks: Blocks, bin_of: Counts, width: int, nr_bins: int) -> Counts:
    """Pages by word and bin, shape (words, bins)."""
    if width < PAGEBLOCK_PAGES:
        pages = _WORD_OF[mem.page_uses(int(blocks[0]), blocks.size)].ravel()
        where = np.arange(pages.size) // width
        return np.bincount(pages * nr_bins + where, minlength=len(WORDS) * nr_bins).reshape(
            len(WORDS), nr_bins
        )
    use = mem.use[blocks]
    whole = use != Use.MIXED
    keys = _WORD_OF[use[whole]] * nr_bins + bin_of[whole]
    total = np.bincount(keys, minlength=len(WORDS) * nr_bins) * PAGEBLOCK_PAGES
    mixed = np.flatnonzero(~whole)
    if mixed.size:
        pages = _WORD_OF[mem.detail[mem.slot[blocks[mixed]]]]
        keys = (pages * nr_bins + bin_of[mixed][:, None]).ravel()
        total = total + np.bincount(keys, minlength=len(WORDS) * nr_bins)
    return total.reshape(len(WORDS), nr_bins)


def _has_unmovable(mem: MemoryMap, blocks: Blocks) -> npt.NDArray[np.bool_]:
    """Pageblocks with memory that cannot be moved; huge pages can, holes and offline memory are none."""
    fixed = ~_MAY_MOVE
    fixed[[Use.HUGETLB, Use.HOLE, Use.OFFLINE, Use.UNPLUGGED]] = False
    use = mem.use[blocks]
    found = fixed[use]
    mixed = np.flatnonzero(use == Use.MIXED)
    found[mixed] = fixed[mem.detail[mem.slot[blocks[mixed]]]].any(axis=1)
    return found


def _node_of(mem: MemoryMap, blocks: Blocks) -> Counts:
    return mem.section_nid[blocks // BLOCKS_PER_SECTION].astype(np.int64)


def _first_of(values: Counts, starts: Counts, step: int, nothing: int) -> list[int]:
    """For each bin the first value that is not ``nothing``."""
    found = values[starts]
    for offset in range(1, step):
        missing = np.flatnonzero(found == nothing)
        if missing.size == 0:
            break
        found[missing] = values[np.minimum(starts[missing] + offset, values.size - 1)]
    return found.tolist()  # type: ignore[no-any-return]


def _split_sections(mem: MemoryMap, first: int, last: int, width: int, nr_bins: int) -> list[int]:
    sections = np.flatnonzero(mem.pte_slot)
    at = (sections * BLOCKS_PER_SECTION - first) * PAGEBLOCK_PAGES // width
    inside = (sections * BLOCKS_PER_SECTION >= first) & (sections * BLOCKS_PER_SECTION < last)
    return np.bincount(at[inside], minlength=nr_bins).tolist()  # type: ignore[no-any-return]


# -- free memory -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FreeArea:
    """Free blocks of one zone: for each migratetype the number of each order, 0 to 10, as in pagetypeinfo."""

    node: int
    zone: str
    free: dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class Formable:
    """How many huge pages of a size could be formed at most; watermarks are not asked.

    Attributes:
        now: of memory that is free and in one piece.
        after_compaction: when all that can be moved has been moved out of the way.
        after_reclaim: when page cache has been given up besides.
    """

    size: str
    now: int
    after_compaction: int
    after_reclaim: int


@dataclass(frozen=True, slots=True)
class Buddy:
    """What is free, and what it is good for."""

    zones: list[FreeArea]
    hugepages: list[Formable]


def buddy(host: Host) -> Buddy:
    """Free blocks by zone, migratetype and order, and how many huge pages could be formed of them."""
    zones = [
        FreeArea(zone.nid, zone.name, _by_type(free_area_by_type(host.mem, zone)))
        for zone in host.zones
        if zone.managed
    ]
    return Buddy(zones, [_formable(host, host.hstates[order]) for order in sorted(host.hstates)])


def _by_type(counts: Counts) -> dict[str, list[int]]:
    return {kind.name.title(): counts[kind].tolist() for kind in Migrate if counts[kind].any()}


def _formable(host: Host, hs: HState) -> Formable:
    mem = host.mem
    blocks = np.arange(mem.nr_blocks)
    online = mem.zone > 0
    free = online & (mem.use == Use.BUDDY)
    movable = online & ~_has_unmovable(mem, blocks) & (mem.use != Use.HUGETLB) & (mem.use != Use.HOLE)
    pages = sum(zone.nr_free for zone in host.zones)
    cache = int(np.count_nonzero(mem.use == Use.PAGE_CACHE)) * PAGEBLOCK_PAGES
    cache += int(np.count_nonzero(mem.detail[mem.slot[mem.use == Use.MIXED]] == Use.PAGE_CACHE))
    fits = _runs(movable, hs.blocks)
    return Formable(
        hs.size,
        _runs(free, hs.blocks),
        min(fits, pages // hs.pages),
        min(fits, (pages + cache) // hs.pages),
    )


def _runs(good: npt.NDArray[np.bool_], blocks: int) -> int:
    """Aligned rows of that number of pageblocks that are all good."""
    whole = good[: good.size // blocks * blocks].reshape(-1, blocks)
    return int(whole.all(axis=1).sum())
