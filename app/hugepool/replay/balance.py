"""What a snapshot says about free memory, and about memory in use that the model has no rule for."""

import re
from typing import Any

from hugepool.mm.machine.units import KB_PER_PAGE

UNMODELLED = (
    "Slab",
    "VmallocUsed",
    "Cached",
    "Buffers",
)  # meminfo: kernel objects, kernel stacks, page cache
PAGES_PER_GIB = 1 << 18
PAGES_OF_THE_READER = 64


def stat_threshold(zoneinfo: str) -> int:
    """Pages that all processors together may hold back from the counters of free pages, as zoneinfo states it."""
    return sum(int(pages) for pages in re.findall(r"vm stats threshold: (\d+)", zoneinfo))


def change(before: dict[str, Any], after: dict[str, Any], threshold: int) -> int:
    """Pages by which free memory changed between two snapshots, had nothing unmodelled taken or given any."""
    free = free_pages(after, threshold) - free_pages(before, threshold)
    taken = sum(_pages(after, word) - _pages(before, word) for word in UNMODELLED)
    return free + taken + _mapping_tables(before, after)


def cache_lag(before: dict[str, Any], after: dict[str, Any]) -> int:
    """Pages by which the cache grew more by its lists than as pages of files: reclaim takes them off both in turn."""
    listed = _on_file_lists(after) - _on_file_lists(before)
    counted = sum(_pages(after, word) - _pages(before, word) for word in ("Cached", "Buffers"))
    return listed - counted


def has_cache(counters: dict[str, Any]) -> bool:
    """Whether there is page cache to speak of: more than a snapshot, which drops it, reads in itself."""
    return _on_file_lists(counters) > PAGES_OF_THE_READER


def between_marks(counters: dict[str, Any]) -> int:
    """Pages between the min and the high watermarks: kswapd stops anywhere there, with pages in its hands."""
    return sum(int(zone["high"] - zone["min"]) for zone in counters["zones"].values())


def _on_file_lists(counters: dict[str, Any]) -> int:
    return sum(int(counters.get("vmstat", {}).get(f"nr_{name}_file") or 0) for name in ("inactive", "active"))


def slab_change(before: dict[str, Any], after: dict[str, Any]) -> int:
    """Pages by which the kernel's objects grew."""
    return _pages(after, "Slab") - _pages(before, "Slab")


def free_pages(counters: dict[str, Any], threshold: int) -> int:
    """Free pages, those on per-CPU lists included.

    The free lists themselves (buddyinfo) hold nothing back.  They count unless they are further from the zones'
    counters than ``threshold`` explains: then a process grew between the two reads, and one read must do.
    """
    lists = sum(
        blocks << order for zone in counters["buddyinfo"].values() for order, blocks in enumerate(zone)
    )
    zones = sum(zone["free"] for zone in counters["zones"].values())
    return int((lists if abs(lists - zones) <= threshold else zones) + counters["pcp_pages"])


def in_the_reader_s_hand(before: dict[str, Any], after: dict[str, Any]) -> int:
    """A page that one of two snapshots found in use because it was being read, where nothing else moved."""
    nr_free = [sum(zone["free"] for zone in counters["zones"].values()) for counters in (before, after)]
    return int(nr_free[0] == nr_free[1] and abs(after["pcp_pages"] - before["pcp_pages"]) == 1)


def _mapping_tables(before: dict[str, Any], after: dict[str, Any]) -> int:
    """Page tables of the kernel's own mapping: one for each GiB of new memory that is mapped in pieces of 2 MiB."""
    if before["memory_blocks"].keys() >= after["memory_blocks"].keys():
        return 0
    return max(0, -(-(_pages(after, "DirectMap2M") - _pages(before, "DirectMap2M")) // PAGES_PER_GIB))


def _pages(counters: dict[str, Any], word: str) -> int:
    return int(counters["meminfo_kb"].get(word, 0)) // KB_PER_PAGE
