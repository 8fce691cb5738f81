"""The picture of memory shows every page once, and what could be formed is never less than what is there."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hugepool.mm.boot.boot import boot
from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.mmzone import Use
from hugepool.mm.machine.state import Call, Host
from hugepool.mm.views.memory_map import WORDS, buddy, memory_map

WORD_OF = {use: word for word, uses in WORDS.items() for use in uses}


@pytest.fixture(scope="module")
def host() -> Host:
    spec = HostSpec((NodeSpec(2 << 30), NodeSpec(1 << 30)), cmdline="hugetlb_free_vmemmap=on")
    machine = boot(spec, Call())
    for command in (
        c.SetMaxHugePages(9, 200),
        c.CreateTask("anon", pages=70_000),
        c.CreateTask("kernel", pages=9_001, node=1),
        c.ShrinkTask(1000, keep_of_256=3),
    ):
        apply(machine, command)
    return machine


def test_every_use_has_one_word() -> None:
    assert set(WORD_OF) == set(Use) - {Use.MIXED}
    assert len(WORD_OF) == sum(len(uses) for uses in WORDS.values())


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_page_of_a_range_is_counted_once_by_its_use(host: Host, data: st.DataObject) -> None:
    end = host.mem.nr_blocks * 512
    start = data.draw(st.integers(0, end - 1))
    stop = data.draw(st.integers(start + 1, min(end, start + 60_000)))
    bins = data.draw(st.integers(1, 3000))
    found = memory_map(host, start, stop, bins)
    assert found.bin_pages.bit_count() == 1
    assert len(found.bins) <= bins
    assert found.start_pfn <= start
    assert found.end_pfn >= stop
    assert len(found.bins) <= bins
    for i, first in enumerate(found.bins):
        pfns = range(first, min(first + found.bin_pages, found.end_pfn))
        here = Counter(WORD_OF[Use(use)] for use in host.mem.uses_of(np.array(pfns)).tolist())
        assert {word: counts[i] for word, counts in found.uses.items() if counts[i]} == here


def test_nodes_zones_and_split_sections_are_those_of_the_machine(host: Host) -> None:
    found = memory_map(host, 0, None, 64)
    assert sum(found.split_sections) == int(np.count_nonzero(host.mem.pte_slot))
    assert {nid for nid in found.node if nid is not None} == {0, 1}
    assert {zone for zone in found.zone if zone} == {z.name for z in host.zones if z.present}
    assert len(found.node) == len(found.zone) == len(found.unmovable_blocks) == len(found.bins)


def test_what_can_be_formed_counts_free_blocks_then_what_moves(host: Host) -> None:
    small = buddy(host).hugepages[0]
    mem = host.mem
    assert small.now == int(np.count_nonzero((mem.use == Use.BUDDY) & (mem.zone > 0)))
    assert small.now <= small.after_compaction <= small.after_reclaim
    assert small.after_compaction <= sum(zone.nr_free for zone in host.zones) // 512
    free = sum(count << order for zone in buddy(host).zones for counts in zone.free.values()
               for order, count in enumerate(counts))  # fmt: skip
    assert free == sum(zone.nr_free for zone in host.zones)


@pytest.mark.parametrize(
    ("start", "end", "bins"), [(9, 9, 1), (5, 3, 1), (1 << 39, None, 1), (0, None, 0), (0, None, 9000)]
)
def test_impossible_pictures_are_refused(host: Host, start: int, end: int | None, bins: int) -> None:
    with pytest.raises(BadInput):
        memory_map(host, start, end, bins)


def test_a_large_host_fits_a_small_answer() -> None:
    machine = boot(HostSpec((NodeSpec(1 << 38),)), Call())
    found = memory_map(machine, 0, None, 1024)
    assert len(found.bins) <= 1024


@pytest.mark.parametrize(("start", "end"), [(0, None), (300_000, 540_672), (3, 70)])
def test_nodes_have_what_their_pages_are_used_for(host: Host, start: int, end: int | None) -> None:
    found = memory_map(host, start, end, 8192)
    total: Counter[str] = Counter()
    for each in found.by_node:
        assert all(each.uses.values())
        total.update(each.uses)
    holes = sum(found.uses.get("hole", []))
    assert total.total() - total["hole"] == found.end_pfn - found.start_pfn - holes
    assert all(total[word] == sum(counts) for word, counts in found.uses.items() if word != "hole")
    if end is None:
        huge = {each.node: each.uses["hugetlb"] for each in found.by_node}
        assert huge == {nid: count * 512 for nid, count in enumerate(host.hstates[9].nr_node)}
