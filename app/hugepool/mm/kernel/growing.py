"""Many fresh huge pages at once that each free their vmemmap before the next one is taken (until 6.6).

Which pages are taken and freed does not depend on how the lists of the CPU fill and empty meanwhile; only how many of
them end on which list does.  So the pages are taken and freed together, and the lists are run through as numbers.

Source: mm/hugetlb.c alloc_pool_huge_page() (5.14); mm/page_alloc.c as in ``pcp``.
"""

from dataclasses import dataclass

import numpy as np

from hugepool.mm.kernel.buddy import has_free_block, take_pages
from hugepool.mm.kernel.huge_blocks import find_huge_blocks
from hugepool.mm.kernel.hugetlb_vmemmap import map_shared, pattern_of, regular_frames
from hugepool.mm.kernel.list_counts import Growth
from hugepool.mm.kernel.optimize import first_touched
from hugepool.mm.kernel.page_alloc import node_zonelist, usable, zonelist
from hugepool.mm.kernel.pcp import number_of, pages_of
from hugepool.mm.kernel.sparse import on_own_memory
from hugepool.mm.machine import sparse_vmemmap
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.mmzone import (
    NO_BLOCKS,
    ZONE_MOVABLE,
    ZONE_NORMAL,
    BlockFlag,
    Blocks,
    Migrate,
    Pfns,
    Use,
    Zone,
)
from hugepool.mm.machine.state import Call, Host, HState
from hugepool.mm.machine.units import BLOCKS_PER_SECTION, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES, VMEMMAP_PER_BLOCK

FEWEST = 16  # huge pages that are not worth the trouble
MARGIN = 256  # pages that lists may hold back besides what they take for huge pages


@dataclass(slots=True)
class _Batch:
    """Huge pages of one zone whose frames go to one list: what is sure to happen.

    ``heads``: those on the list first, then from the buddy, with some more that may be left on the list; ``taken``: how
    many of them come from the list; ``sections``: PMDs to split, in order, before the pages ``at``.
    """

    zone: Zone
    heads: Blocks
    taken: int
    count: int
    of_frames: Zone
    number: int
    of_tables: Zone
    sections: Blocks
    at: Blocks


def grow_together(host: Host, call: Call, hs: HState, nid: int, wanted: int) -> Blocks:
    """Take and optimise many huge pages of a node, in order; none where that could differ from one after the other."""
    armed = any(fault.armed for fault in host.faults.values())
    if host.profile.bulk or not host.optimize_enabled or armed or hs.gigantic or wanted < FEWEST:
        return NO_BLOCKS
    batch = _sure_batch(host, hs, nid, wanted)
    if batch is None:
        return NO_BLOCKS
    runs = _run_lists(host, hs, batch)
    heads = batch.heads[: batch.count]
    _take_huge_pages(host, batch, runs[batch.zone.index])
    tables = _take_tables(host, hs, batch, runs[batch.of_tables.index])
    if batch.sections.size:
        sparse_vmemmap.split_vmemmap_huge_pmd(host.mem, batch.sections, tables)
        call.vmemmap.page_table_pages += int(batch.sections.size)
        about = {
            "count": int(tables.size),
            "first": int(batch.sections.min()),
            "last": int(batch.sections.max()),
        }
        call.emit(Event.VMEMMAP_SPLIT, sections=about)
    _free_frames(host, hs, batch, runs[batch.of_frames.index], tables)
    map_shared(host, call, hs, heads)
    for run in runs.values():
        pcp = pages_of(host, run.zone)
        pcp.count, pcp.free_factor = run.count, run.factor
    host.count("htlb_buddy_alloc_success", batch.count)
    return heads


# -- what is sure -----------------------------------------------------------------------------------------


def _sure_batch(host: Host, hs: HState, nid: int, wanted: int) -> _Batch | None:
    source = _first_zone(host, nid, hs)
    if source is None:
        return None
    zone, most = source
    mem = host.mem
    listed = pages_of(host, zone).list_of(number_of(host.profile, PAGEBLOCK_ORDER, Migrate.MOVABLE))
    if host.profile.pcp_round_robin and listed.size > 1:  # what is flushed meanwhile is not what comes next
        return None
    wanted = min(wanted, most)
    fresh = find_huge_blocks(mem, zone, max(0, wanted - listed.size) + 4)
    heads = np.concatenate((listed.items()[::-1] // PAGEBLOCK_PAGES, fresh))[: wanted + 2]
    count = min(wanted, int(heads.size) - 4, _of_one_list(host, heads))
    if count < FEWEST or mem.hot_added.any() or on_own_memory(mem, heads // BLOCKS_PER_SECTION).any():
        return None
    frame = int(regular_frames(mem, hs, heads[:1])[0, 0])
    block = frame // PAGEBLOCK_PAGES
    of_frames, number = host.zones[int(mem.zone[block]) - 1], number_of(host.profile, 0, int(mem.mt[block]))
    sections = sparse_vmemmap.unsplit_sections(mem, first_touched(hs, heads[:count]))
    of_tables = _zone_of_tables(host, int(sections.size) + (PAGEBLOCK_PAGES + 8) * count)
    if of_tables is not zone or of_frames is not zone or mem.mt[block] == Migrate.ISOLATE:
        return None
    at = _first_pages(heads[:count], sections)
    return _Batch(zone, heads, min(listed.size, count), count, of_frames, number, of_tables, sections, at)


def _first_pages(heads: Blocks, sections: Blocks) -> Blocks:
    of_section, first = np.unique(heads // BLOCKS_PER_SECTION, return_index=True)
    at: Blocks = first[np.searchsorted(of_section, sections)]
    return at


def _of_one_list(host: Host, heads: Blocks) -> int:
    """How many leading huge pages have regular page tables and frames of one zone and one type."""
    mem = host.mem
    sections = heads // BLOCKS_PER_SECTION
    blocks = mem.vmemmap_pfn[sections] // PAGEBLOCK_PAGES
    same = (mem.zone[blocks] == mem.zone[blocks[:1]]) & (mem.mt[blocks] == mem.mt[blocks[:1]])
    same &= mem.pte_slot[sections] <= 0
    stops = np.flatnonzero(~same)
    return int(stops[0]) if stops.size else int(heads.size)


def _first_zone(host: Host, nid: int, hs: HState) -> tuple[Zone, int] | None:
    """The zone that serves a node's requests above its low mark, and for how many pages surely no other one does."""
    most = host.mem.nr_blocks
    for zone in node_zonelist(host.nodes[nid], ZONE_MOVABLE):
        line = zone.low + zone.lowmem_reserve[ZONE_MOVABLE] + PAGEBLOCK_PAGES - 1
        above = usable(zone, ZONE_MOVABLE) - line
        if above <= 0:  # the frames that are freed into it may lift it
            most = min(most, -above // (hs.nr_free_vmemmap_pages + 1))
            continue
        if not has_free_block(host.mem, zone, movable=True) or zone.nr_free_cma:
            return None
        return zone, min(most, (above - MARGIN) // PAGEBLOCK_PAGES - 4)
    return None


def _zone_of_tables(host: Host, pages: int) -> Zone | None:
    """The zone that page tables come from, if it stays above its low mark while so many pages are taken."""
    zone = zonelist(host.nodes, host.running_node(), ZONE_NORMAL)[0]
    above = usable(zone, ZONE_NORMAL) - zone.low - zone.lowmem_reserve[ZONE_NORMAL]
    return zone if above > pages + MARGIN else None


def _run_lists(host: Host, hs: HState, batch: _Batch) -> dict[int, Growth]:
    runs = {}
    for zone in (batch.zone, batch.of_frames, batch.of_tables):
        tables = np.zeros(batch.count, np.bool_)
        if zone is batch.of_tables:
            tables[batch.at] = True
        frames = hs.nr_free_vmemmap_pages if zone is batch.of_frames else 0
        runs[zone.index] = Growth(host, zone, zone is batch.zone, frames, batch.number, tables)
    for run in runs.values():
        run.run()
    return runs


# -- what happens -----------------------------------------------------------------------------------------


def _take_huge_pages(host: Host, batch: _Batch, run: Growth) -> None:
    """Those handed out are huge pages, and the next ones are left on the list."""
    mem, number = host.mem, number_of(host.profile, PAGEBLOCK_ORDER, Migrate.MOVABLE)
    listed = pages_of(host, batch.zone).list_of(number)
    listed.pop(batch.taken)
    heads = batch.heads[: batch.count]
    mem.assign_blocks(heads, Use.HUGETLB)
    mem.flags[heads] = BlockFlag.HEAD
    parked = run.sizes.get(number, 0) - listed.size
    rest = batch.heads[batch.count : batch.count + max(0, parked)]
    mem.assign_blocks(rest, Use.PCP)
    listed.refill(rest * PAGEBLOCK_PAGES)
    mem.split_off(np.concatenate((heads[batch.taken :], rest)))


def _frames_at(host: Host, hs: HState, batch: _Batch, places: Blocks) -> Pfns:
    """Frames by their place in the row in which the huge pages free them."""
    page, one = np.divmod(places, hs.nr_free_vmemmap_pages)
    head = batch.heads[page]
    first = host.mem.vmemmap_pfn[head // BLOCKS_PER_SECTION] + head % BLOCKS_PER_SECTION * VMEMMAP_PER_BLOCK
    frames: Pfns = first + host.mem.kept + one
    return frames


def _take_tables(host: Host, hs: HState, batch: _Batch, run: Growth) -> Pfns:
    """Page tables: where frames go onto the list that they come from, the frame that was freed last."""
    listed = pages_of(host, batch.of_tables).list_of(0)
    if _same_list(batch) and batch.at.size:
        before = batch.at * hs.nr_free_vmemmap_pages - 1
        tables = _frames_at(host, hs, batch, np.maximum(before, 0))
        if before[0] < 0:
            tables[0] = _first_table(host, batch, run)
        host.mem.assign_pages(tables, Use.PAGE_TABLE)
        return tables
    came = take_pages(
        host.mem, batch.of_tables, run.refilled - run.flushed.get(0, 0), Migrate.UNMOVABLE, Use.PCP
    )
    listed.refill(came)
    tables = listed.pop(int(batch.at.size))
    host.mem.assign_pages(tables, Use.PAGE_TABLE)
    excess = listed.pop_oldest(max(0, listed.size - run.sizes.get(0, 0)))
    host.mem.assign_pages(excess, Use.BUDDY)
    return tables


def _first_table(host: Host, batch: _Batch, run: Growth) -> int:
    listed = pages_of(host, batch.of_tables).list_of(0)
    if listed.size == 0:
        listed.refill(take_pages(host.mem, batch.of_tables, run.refilled, Migrate.UNMOVABLE, Use.PCP))
    return int(listed.pop(1)[0])


def _same_list(batch: _Batch) -> bool:
    return batch.of_tables is batch.of_frames and batch.number == 0


def _free_frames(host: Host, hs: HState, batch: _Batch, run: Growth, tables: Pfns) -> None:
    """The frames freed last are left on the list, the others are in the buddy."""
    mem = host.mem
    listed = pages_of(host, batch.of_frames).list_of(batch.number)
    mem.assign_masked(*pattern_of(mem, hs, batch.heads[: batch.count]), Use.BUDDY)
    gone = np.empty(0, np.int64)
    if _same_list(batch):
        mem.assign_pages(tables, Use.PAGE_TABLE)
        gone = batch.at * hs.nr_free_vmemmap_pages - 1
    old = listed.pop_oldest(run.flushed.get(batch.number, 0))
    mem.assign_pages(old, Use.BUDDY)
    left = run.sizes.get(batch.number, 0) - listed.size
    every = batch.count * hs.nr_free_vmemmap_pages
    places = np.arange(max(0, every - left - gone.size), every)
    rest = _frames_at(host, hs, batch, np.setdiff1d(places, gone)[-left:] if left else places[:0])
    mem.assign_pages(rest, Use.PCP)
    listed.push(rest)
