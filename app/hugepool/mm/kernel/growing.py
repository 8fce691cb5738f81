"""Many fresh huge pages at once that each free their vmemmap before the next one is taken (until 6.6).

Which pages are taken and freed does not depend on how the lists of the CPU fill and empty meanwhile; only how many of
them end on which list does.  So the pages are taken and freed together, and the lists are run through as numbers.
Nodes take turns, and differ in nothing but that page tables come from one of them.

Source: mm/hugetlb.c alloc_pool_huge_page() (5.14); mm/page_alloc.c as in ``pcp``.
"""

from collections.abc import Sequence

import numpy as np

from hugepool.mm.kernel.buddy import take_pages
from hugepool.mm.kernel.growing_plan import Batch, Part, frames_of, plan, plan_tables
from hugepool.mm.kernel.hugetlb_vmemmap import map_shared, pattern_of, remap_free
from hugepool.mm.kernel.list_counts import Growth
from hugepool.mm.kernel.pcp import flush_oldest, time_matters
from hugepool.mm.kernel.pcp_sizes import number_of, pages_of
from hugepool.mm.machine import sparse_vmemmap
from hugepool.mm.machine.events import Event
from hugepool.mm.machine.mmzone import NO_BLOCKS, NO_PFNS, BlockFlag, Blocks, Migrate, Pfns, Use, Zone
from hugepool.mm.machine.state import Call, Host, HState
from hugepool.mm.machine.units import PAGEBLOCK_ORDER, PAGEBLOCK_PAGES

FEWEST = 16  # huge pages that are not worth the trouble


def grow_together(host: Host, call: Call, hs: HState, visited: Sequence[int], wanted: int) -> Blocks:
    """Take and optimise many huge pages of nodes in turn, in order; none where that could differ from one by one."""
    armed = any(fault.armed for fault in host.faults.values())
    if host.profile.bulk or not host.optimize_enabled or armed or hs.gigantic or wanted < FEWEST:
        return NO_BLOCKS
    batch = plan(host, hs, visited, wanted // len(visited))
    if batch is None or batch.rounds < FEWEST:
        return NO_BLOCKS
    runs = _run_lists(host, hs, batch)
    while _lifts_a_zone(batch, runs):
        batch.rounds //= 2
        if batch.rounds < FEWEST:
            return NO_BLOCKS
        plan_tables(host, hs, batch)
        runs = _run_lists(host, hs, batch)
    others = {index: _others(batch, run) for index, run in runs.items()}
    if any(time_matters(host, pages_of(host, host.zones[i]), blocks) for i, blocks in others.items()):
        return NO_BLOCKS
    for part in batch.parts:
        _take_huge_pages(host, part, batch.rounds, runs[part.zone.index])
    tables = _take_tables(host, batch, runs[batch.of_tables.index])
    _split(host, call, batch, tables)
    for part in batch.parts:
        _free_frames(host, call, hs, batch, part, runs[part.of_frames.index], tables)
    for run in runs.values():
        pcp = pages_of(host, run.zone)
        flush_oldest(host, pcp, others[run.zone.index])
        pcp.count, pcp.free_factor = run.count, run.factor
    heads: Blocks = np.stack([part.heads[: batch.rounds] for part in batch.parts], axis=1).ravel()
    host.count("htlb_buddy_alloc_success", int(heads.size))
    return heads


def _run_lists(host: Host, hs: HState, batch: Batch) -> dict[int, Growth]:
    runs = {}
    taking = {part.zone.index for part in batch.parts}
    freeing = {part.of_frames.index: part.number for part in batch.parts}
    for index in sorted(taking | freeing.keys() | {batch.of_tables.index}):
        tables = batch.tables if index == batch.of_tables.index else np.zeros_like(batch.tables)
        frames = hs.nr_free_vmemmap_pages if index in freeing else 0
        run = Growth(host, host.zones[index], index in taking, frames, freeing.get(index, 0), tables)
        run.run()
        runs[index] = run
    return runs


def _lifts_a_zone(batch: Batch, runs: dict[int, Growth]) -> bool:
    """Whether lists give a zone that comes first so much back that it could serve a request."""
    return any(
        index in runs and runs[index].pages_flushed() >= lacks
        for part in batch.parts
        for index, lacks in part.below.items()
    )


def _others(batch: Batch, run: Growth) -> dict[int, int]:
    """What lists of a zone give back that neither the pages, nor their frames or page tables go through."""
    known = {part.number for part in batch.parts if part.of_frames is run.zone}
    known |= {0} if batch.of_tables is run.zone else set()
    known |= {run.huge} if run.takes_huge else set()
    return {number: blocks for number, blocks in run.flushed.items() if blocks and number not in known}


def _take_huge_pages(host: Host, part: Part, count: int, run: Growth) -> None:
    """Those handed out are huge pages, and the next ones are left on the list."""
    mem, number = host.mem, number_of(host.profile, PAGEBLOCK_ORDER, Migrate.MOVABLE)
    listed = pages_of(host, part.zone).list_of(number)
    taken = min(part.listed, count)
    listed.pop(taken)
    heads = part.heads[:count]
    mem.assign_blocks(heads, Use.HUGETLB)
    mem.flags[heads] = BlockFlag.HEAD
    parked = run.sizes.get(number, 0) - listed.size
    rest = part.heads[count : count + max(0, parked)]
    mem.assign_blocks(rest, Use.PCP)
    listed.refill(rest * PAGEBLOCK_PAGES)
    mem.split_off(np.concatenate((heads[taken:], rest)))


def _split(host: Host, call: Call, batch: Batch, tables: Pfns) -> None:
    if batch.sections.size == 0:
        return
    sparse_vmemmap.split_vmemmap_huge_pmd(host.mem, batch.sections, tables)
    call.vmemmap.page_table_pages += int(batch.sections.size)
    about = {
        "count": int(tables.size),
        "first": int(batch.sections.min()),
        "last": int(batch.sections.max()),
    }
    call.emit(Event.VMEMMAP_SPLIT, sections=about)


# -- page tables and frames ---------------------------------------------------------------------------------


def _same_list(batch: Batch, zone: Zone, number: int) -> bool:
    """Whether frames of a zone go onto the list that page tables come from."""
    return batch.of_tables is zone and number == 0


def _used_up(batch: Batch, need: int) -> Blocks:
    """Which frames, by their place in the row in which they are freed, become page tables: those freed last.

    Negative for page tables that are taken before any is freed.
    """
    rounds = np.repeat(np.arange(batch.tables.size), batch.tables)
    first = np.cumsum(batch.tables) - batch.tables
    places: Blocks = rounds * need - 1 - (np.arange(rounds.size) - first[rounds])
    return places


def _take_tables(host: Host, batch: Batch, run: Growth) -> Pfns:
    """Page tables: where frames go onto the list that they come from, the frame that was freed last."""
    listed = pages_of(host, batch.of_tables).list_of(0)
    part = next((p for p in batch.parts if _same_list(batch, p.of_frames, p.number)), None)
    if part is not None:
        places = _used_up(batch, run.frames)
        early = int(batch.tables[0])
        first = _early_tables(host, batch, run, early)
        tables = np.concatenate((first, frames_of(host, part, places[early:])))
        host.mem.assign_pages(tables, Use.PAGE_TABLE)
        return tables
    came = take_pages(
        host.mem, batch.of_tables, run.refilled - run.flushed.get(0, 0), Migrate.UNMOVABLE, Use.PCP
    )
    listed.refill(came)
    tables = listed.pop(int(batch.sections.size))
    host.mem.assign_pages(tables, Use.PAGE_TABLE)
    excess = listed.pop_oldest(max(0, listed.size - run.sizes.get(0, 0)))
    host.mem.assign_pages(excess, Use.BUDDY)
    return tables


def _early_tables(host: Host, batch: Batch, run: Growth, count: int) -> Pfns:
    """Page tables before any frame is freed: from the list, and then from the buddy."""
    if count == 0:
        return NO_PFNS
    listed = pages_of(host, batch.of_tables).list_of(0)
    if listed.size < count:
        listed.refill(take_pages(host.mem, batch.of_tables, run.refilled, Migrate.UNMOVABLE, Use.PCP))
    return listed.pop(count)


def _free_frames(
    host: Host, call: Call, hs: HState, batch: Batch, part: Part, run: Growth, tables: Pfns
) -> None:
    """The frames freed last are left on the list, the others are in the buddy."""
    mem, heads = host.mem, part.heads[: batch.rounds]
    listed = pages_of(host, part.of_frames).list_of(part.number)
    every = heads.size * run.frames
    gone = NO_BLOCKS
    if _same_list(batch, part.of_frames, part.number):
        gone = _used_up(batch, run.frames)[int(batch.tables[0]) :]
    old = listed.pop_oldest(run.flushed.get(part.number, 0))
    left = run.sizes.get(part.number, 0) - listed.size
    places = np.arange(max(0, every - left - gone.size), every)
    places = np.setdiff1d(places, gone)[places.size - left if left == 0 else -left :] if left else places[:0]
    rest = frames_of(host, part, places)
    if part.words:
        frames = remap_free(host, call, hs, heads, None)
        mem.assign_pages(old, Use.BUDDY)
        kept = np.zeros(every, np.bool_)
        kept[places] = True
        kept[gone] = True
        mem.assign_pages(frames[~kept], Use.BUDDY)
    else:
        mem.assign_masked(*pattern_of(mem, hs, heads), Use.BUDDY)
        if gone.size:
            mem.assign_pages(tables[int(batch.tables[0]) :], Use.PAGE_TABLE)
        mem.assign_pages(old, Use.BUDDY)
        map_shared(host, call, hs, heads)
    mem.assign_pages(rest, Use.PCP)
    listed.push(rest)
