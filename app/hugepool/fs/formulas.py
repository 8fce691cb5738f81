"""Lines of /proc/meminfo and vmstat that the kernel computes, from plain numbers of pages."""

from collections.abc import Sequence
from typing import NamedTuple

from hugepool.mm.machine.units import PAGE_SIZE


class Marks(NamedTuple):
    """What the formulas need of one zone, in 4 KiB pages."""

    low: int
    high: int
    managed: int
    protection: Sequence[int]


def totalreserve_pages(zones: Sequence[Marks]) -> int:
    """Pages that user space cannot have: the largest reserve and the high watermark of every zone.

    Source: mm/page_alloc.c calculate_totalreserve_pages() (5.14).
    """
    return sum(min(max(zone.protection) + zone.high, zone.managed) for zone in zones)


def si_mem_available(zones: Sequence[Marks], free: int, file_pages: int, reclaimable: int) -> int:
    """Pages that programs can get without swapping.

    ``file_pages``: active and inactive file pages; ``reclaimable``: slab and other kernel caches.
    Source: mm/page_alloc.c si_mem_available() (5.14).
    """
    wmark_low = sum(zone.low for zone in zones)
    available = free - totalreserve_pages(zones)
    available += file_pages - min(file_pages // 2, wmark_low)
    available += reclaimable - min(reclaimable // 2, wmark_low)
    return max(0, available)


def vm_commit_limit(total: int, huge: int, swap: int, ratio: int) -> int:
    """CommitLimit in pages; ``huge``: base pages of all pools, ``ratio`` in percent.

    Source: mm/util.c vm_commit_limit() (5.14).
    """
    return max(0, total - huge) * ratio // 100 + swap


def dirty_thresholds(zones: Sequence[Marks], free: int, file_pages: int) -> dict[str, int]:
    """Dirty pages from which writeback starts and writers are held back: 10 and 20 percent of what may be dirty.

    ``file_pages``: active and inactive file pages.  Not modelled: vm.dirty_ratio and its kin.
    Source: mm/page-writeback.c global_dirtyable_memory(), domain_dirty_limits() (5.14).
    """
    dirtyable = max(0, free - totalreserve_pages(zones)) + file_pages + 1
    shares = {"nr_dirty_threshold": 20, "nr_dirty_background_threshold": 10}
    return {name: share * PAGE_SIZE // 100 * dirtyable // PAGE_SIZE for name, share in shares.items()}
