"""What counts as a change of free memory between two snapshots."""

from typing import Any

import pytest

from hugepool.replay.balance import change, free_pages, stat_threshold

THRESHOLD = 12


def snapshot(lists: int = 1000, zones: int = 1000, pcp: int = 0, **meminfo: int) -> dict[str, Any]:
    """Counters with so many free pages in buddyinfo and in zoneinfo; ``meminfo`` in pages."""
    return {
        "buddyinfo": {"0/DMA32": [lists % 512, 0, 0, 0, 0, 0, 0, 0, 0, lists // 512, 0]},
        "zones": {"0/DMA32": {"free": zones}},
        "pcp_pages": pcp,
        "memory_blocks": {"0": "online"},
        "meminfo_kb": {word: pages * 4 for word, pages in meminfo.items()},
    }


def test_the_threshold_is_the_sum_over_zones_and_processors() -> None:
    assert stat_threshold("  vm stats threshold: 4\n free 3\n  vm stats threshold: 20\n") == 24


@pytest.mark.parametrize("held_back", [-THRESHOLD, 0, THRESHOLD])
def test_free_lists_count_where_a_processor_has_not_folded_in_its_share(held_back: int) -> None:
    assert free_pages(snapshot(1000, 1000 + held_back, pcp=7), THRESHOLD) == 1007


def test_lists_that_were_read_at_another_time_do_not_count() -> None:
    assert free_pages(snapshot(1000, 1000 + THRESHOLD + 1, pcp=7), THRESHOLD) == 1020


@pytest.mark.parametrize("word", ["Slab", "VmallocUsed", "Cached"])
def test_pages_taken_for_what_is_not_modelled_are_no_change(word: str) -> None:
    before, after = snapshot(1000, 1000, **{word: 5}), snapshot(970, 970, **{word: 35})
    assert change(before, after, THRESHOLD) == 0
    assert change(before, snapshot(970, 970, **{word: 5}), THRESHOLD) == -30


def test_new_memory_mapped_in_pieces_of_2_mib_costs_a_table_and_a_whole_gib_none() -> None:
    before, after = snapshot(DirectMap2M=0), snapshot(999, 999, DirectMap2M=32768)
    assert change(before, after, THRESHOLD) == -1
    after["memory_blocks"]["1"] = "online"
    assert change(before, after, THRESHOLD) == 0
    after["meminfo_kb"] = {"DirectMap1G": 1 << 20}
    assert change(before, after, THRESHOLD) == -1
