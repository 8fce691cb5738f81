"""What is sure when many huge pages are made at once: where they, their frames and page tables come from and go to.

Source: mm/page_alloc.c get_page_from_freelist() (5.14).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hugepool.mm.kernel.buddy import has_free_block, listed_blocks
from hugepool.mm.kernel.hugetlb_vmemmap import leading, ptes_of, regular_frames
from hugepool.mm.kernel.optimize import first_touched
from hugepool.mm.kernel.page_alloc import node_zonelist, usable, zonelist
from hugepool.mm.kernel.pcp_sizes import number_of, pages_of
from hugepool.mm.kernel.sparse import on_own_memory
from hugepool.mm.machine import sparse_vmemmap
from hugepool.mm.machine.mmzone import (
    NO_BLOCKS,
    ZONE_MOVABLE,
    ZONE_NORMAL,
    Blocks,
    MemoryMap,
    Migrate,
    Pfns,
    Use,
    Zone,
    pages_in,
)
from hugepool.mm.machine.sparse_vmemmap import pte_pfn
from hugepool.mm.machine.state import Host, HState
from hugepool.mm.machine.units import (
    BLOCKS_PER_SECTION,
    PAGEBLOCK_ORDER,
    PAGEBLOCK_PAGES,
    VMEMMAP_PER_BLOCK,
)

MARGIN = 256  # pages that lists may hold back besides what they take for huge pages
PARKED = 4  # huge pages that may be left on the list

Counts = npt.NDArray[np.int64]


@dataclass(slots=True)
class Part:
    """Huge pages of one node, all of one zone, whose frames go to one list.

    ``heads``: those on the list first, then from the buddy, with some more that may be left on the list; ``listed``:
    how many of them come from the list; ``count``: for how many it is sure; ``words``: their page tables have words of
    their own, and ``frames`` are the frames that each frees.
    """

    nid: int
    zone: Zone
    heads: Blocks
    listed: int
    count: int
    of_frames: Zone
    number: int
    words: bool
    kept: int
    frames: Pfns = field(default_factory=lambda: NO_BLOCKS)
    below: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Batch:
    """Huge pages of nodes that take turns: what is sure to happen.

    ``sections``: PMDs to split, in order; ``tables``: how many of their page tables are taken before the page of each
    round is freed by the node that they come from; the last entry: after all.
    """

    parts: list[Part]
    rounds: int
    of_tables: Zone
    sections: Blocks = field(default_factory=lambda: NO_BLOCKS)
    tables: Counts = field(default_factory=lambda: np.zeros(1, np.int64))


def plan(host: Host, hs: HState, visited: Sequence[int], rounds: int) -> Batch | None:
    """The batch for nodes in the order visited; None where nothing is sure."""
    parts: list[Part] = []
    for nid in visited:
        part = _part(host, hs, nid, rounds)
        if part is None:
            return None
        parts.append(part)
        rounds = min(rounds, part.count)
    if len({part.of_frames.index for part in parts}) < len(parts):
        return None
    of_tables = zonelist(host.nodes, host.running_node(), ZONE_NORMAL)[0]
    above = usable(of_tables, ZONE_NORMAL) - of_tables.low - of_tables.lowmem_reserve[ZONE_NORMAL]
    above -= MARGIN + PARKED * PAGEBLOCK_PAGES
    each = PAGEBLOCK_PAGES if any(part.zone is of_tables for part in parts) else 0
    rounds = min(rounds, above // (each + len(parts)))
    if rounds <= 0 or hs.nr_free_vmemmap_pages < len(parts):
        return None
    batch = Batch(parts, rounds, of_tables)
    plan_tables(host, hs, batch)
    return batch


def plan_tables(host: Host, hs: HState, batch: Batch) -> None:
    """Which PMDs are split in which round.  A node that comes after the one of the tables asks in its next round."""
    payer = next((i for i, p in enumerate(batch.parts) if p.of_frames is batch.of_tables), len(batch.parts))
    sections, when = [], []
    for turn, part in enumerate(batch.parts):
        heads = part.heads[: batch.rounds]
        mine = sparse_vmemmap.unsplit_sections(host.mem, first_touched(hs, heads))
        found, first = np.unique(heads // BLOCKS_PER_SECTION, return_index=True)
        sections.append(mine)
        at = first[np.searchsorted(found, mine)]
        when.append(
            (at + int(turn > payer)) * (2 * len(batch.parts)) + turn - len(batch.parts) * int(turn > payer)
        )
    order = np.argsort(np.concatenate(when), kind="stable")
    batch.sections = np.concatenate(sections)[order]
    slots = (np.concatenate(when)[order] + len(batch.parts)) // (2 * len(batch.parts))
    batch.tables = np.bincount(slots, minlength=batch.rounds + 1)


def _part(host: Host, hs: HState, nid: int, wanted: int) -> Part | None:
    """Pages of one node that are sure to come from one zone."""
    source = _first_zone(host, nid)
    if source is None:
        return None
    zone, most, below = source
    mem = host.mem
    listed = pages_of(host, zone).list_of(number_of(host.profile, PAGEBLOCK_ORDER, Migrate.MOVABLE))
    if host.profile.pcp_round_robin and listed.size > 1:  # what is flushed meanwhile is not what comes next
        return None
    wanted = min(wanted, most)
    fresh = listed_blocks(mem, zone, max(0, wanted - listed.size) + PARKED, (Migrate.MOVABLE,))
    heads = np.concatenate((listed.items()[::-1] // PAGEBLOCK_PAGES, fresh))[: wanted + PARKED]
    count = min(wanted, int(heads.size) - PARKED)
    if count <= 0 or mem.hot_added.any() or zone.pcp_disabled:
        return None
    on_itself = on_own_memory(mem, heads // BLOCKS_PER_SECTION)
    count = min(count, leading(~on_itself))
    part = _with_frames(host, hs, nid, zone, heads, int(listed.size), count)
    if part is not None:
        part.below = below
    return part


def _with_frames(
    host: Host, hs: HState, nid: int, zone: Zone, heads: Blocks, listed: int, count: int
) -> Part | None:
    """The leading pages whose frames all lie in one zone and go onto one list."""
    mem = host.mem
    words = mem.pte_slot[heads // BLOCKS_PER_SECTION] > 0
    count = min(count, leading(words == words[0]))
    if count <= 0:
        return None
    if words[0]:
        frames = pte_pfn(ptes_of(mem, hs, heads[:count])[:, mem.kept :])
        count = min(count, _of_one_list(mem, frames))
    else:
        frames = NO_BLOCKS
        first = regular_frames(mem, hs, heads[:1])
        blocks = mem.vmemmap_pfn[heads[:count] // BLOCKS_PER_SECTION] // PAGEBLOCK_PAGES
        same = (mem.zone[blocks] == mem.zone[blocks[:1]]) & (mem.mt[blocks] == mem.mt[blocks[:1]])
        count = min(count, leading(same))
    block = int((frames if words[0] else first)[0, 0]) // PAGEBLOCK_PAGES
    mt = int(mem.mt[block])
    if count <= 0 or mt == Migrate.ISOLATE or (words[0] and _may_matter(mem, frames[:count])):
        return None
    of_frames = host.zones[int(mem.zone[block]) - 1]
    number = number_of(host.profile, 0, mt)
    return Part(nid, zone, heads, listed, count, of_frames, number, bool(words[0]), mem.kept, frames[:count])


def _of_one_list(mem: MemoryMap, frames: Pfns) -> int:
    """How many leading rows of frames lie in pageblocks of the zone and the type of the first one."""
    blocks = frames // PAGEBLOCK_PAGES
    first = blocks[0, 0]
    return leading(((mem.zone[blocks] == mem.zone[first]) & (mem.mt[blocks] == mem.mt[first])).all(axis=1))


def _may_matter(mem: MemoryMap, frames: Pfns) -> bool:
    """Whether freeing the frames could change which pageblocks huge pages are taken from."""
    blocks = np.unique(frames // PAGEBLOCK_PAGES)
    if mem.mt[blocks[0]] == Migrate.UNMOVABLE:
        other = blocks ^ 1
        return bool(((mem.use[other] == Use.BUDDY) & (mem.mt[other] == Migrate.MOVABLE)).any())
    stays = ~np.isin(mem.uses_of(pages_in(blocks)), (Use.BUDDY, Use.PCP))
    stays[np.isin(pages_in(blocks), frames)] = False
    return not bool(stays.reshape(-1, PAGEBLOCK_PAGES).any(axis=1).all())


def frames_of(host: Host, part: Part, places: Blocks) -> Pfns:
    """Frames by their place in the row in which the huge pages of a part free them."""
    if part.words:
        listed: Pfns = part.frames.ravel()[places]
        return listed
    page, one = np.divmod(places, VMEMMAP_PER_BLOCK - part.kept)
    head = part.heads[page]
    first = host.mem.vmemmap_pfn[head // BLOCKS_PER_SECTION] + head % BLOCKS_PER_SECTION * VMEMMAP_PER_BLOCK
    frames: Pfns = first + part.kept + one
    return frames


def _first_zone(host: Host, nid: int) -> tuple[Zone, int, dict[int, int]] | None:
    """The zone that serves a node's requests above its low mark, for how many pages at most, and what others lack."""
    below: dict[int, int] = {}
    for zone in node_zonelist(host.nodes[nid], ZONE_MOVABLE):
        line = zone.low + zone.lowmem_reserve[ZONE_MOVABLE] + PAGEBLOCK_PAGES - 1
        above = usable(zone, ZONE_MOVABLE) - line
        if above <= 0:
            below[zone.index] = -above
            continue
        if not has_free_block(host.mem, zone, movable=True):
            return None
        most = (above - MARGIN) // (PAGEBLOCK_PAGES + 1) - PARKED
        if zone.nr_free_cma:  # areas are spared while less than half of what is free lies in them
            most = min(most, (zone.nr_free - 2 * zone.nr_free_cma) // (PAGEBLOCK_PAGES + 1) - 2 * PARKED)
        return (zone, most, below) if most > 0 else None
    return None
