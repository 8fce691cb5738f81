"""Which memory blocks can go offline: one by one, and together until so much memory is given back."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hugepool.forms.plans import OfflineBody
from hugepool.mm.commands.commands import SetBlockState
from hugepool.mm.commands.memory_block import block_sections
from hugepool.mm.kernel.memory_hotplug import pageblocks
from hugepool.mm.kernel.page_isolation import pages_of_use
from hugepool.mm.machine.errors import MMError, NotFound
from hugepool.mm.machine.mmzone import MOVABLE_USES, BlockFlag, SectionState, Use
from hugepool.mm.machine.outcomes import shallow
from hugepool.mm.machine.state import Host
from hugepool.mm.machine.units import PAGE_SIZE, PAGEBLOCK_PAGES
from hugepool.mm.views.blockers import verdict
from hugepool.mm.views.host_view import block_states
from hugepool.whatif.plans.search import attempt
from hugepool.whatif.run import Progress

CHUNK = 128  # blocks that one piece of the work tries
TOGETHER: list[int] = []  # the piece that takes blocks away one after the other


@dataclass(frozen=True, slots=True)
class _Cost:
    """What a memory block costs: its huge pages are lost to the pool or moved, its movable pages are moved.

    Attributes:
        bytes: memory that is plugged in it.
        hugepages: 2 MiB blocks of it that are huge pages ...
        free_hugepages: ... and those of them that nobody uses: lost to the pool.
        movable_pages: pages that have to move, those of huge pages in use among them.
    """

    block: int
    node: int | None
    zones: list[str]
    bytes: int
    hugepages: int
    free_hugepages: int
    movable_pages: int


@dataclass(frozen=True, slots=True)
class BlockPlan(_Cost):
    """A memory block, tried alone."""

    can_offline: bool
    errno: str | None
    reason: str | None
    detail: str | None


@dataclass(frozen=True, slots=True)
class _Taken(_Cost):
    """A memory block that went offline after others."""

    hugepages_lost: int


@dataclass(frozen=True, slots=True)
class TogetherPlan:
    """Blocks that go offline one after the other, in this order.

    Attributes:
        hugepages_lost: what the pools are smaller by afterwards, in blocks of 2 MiB.
    """

    bytes: int
    enough: bool
    hugepages_lost: int
    pages_moved: int
    blocks: list[int]


@dataclass(frozen=True, slots=True)
class Offline:
    """Which memory blocks can go offline."""

    block_size_bytes: int
    wanted_bytes: int | None
    together: TogetherPlan
    blocks: list[BlockPlan]


def pieces(host: Host, body: OfflineBody) -> list[list[int]]:
    """The work in pieces: candidates by chunks, and the set of blocks.

    Raises:
        NotFound: a block or node that is named is not there.
    """
    candidates = _candidates(host, body)
    return [TOGETHER, *(candidates[i : i + CHUNK] for i in range(0, len(candidates), CHUNK))]


def offline(host: Host, body: OfflineBody, piece: list[int], progress: Progress) -> Sequence[_Cost]:
    """A piece of the work: rows of blocks tried alone, or of those that go together."""
    if piece == TOGETHER:
        return list(_together(host, body, progress))
    rows = []
    for i, block in enumerate(piece, 1):
        rows.append(BlockPlan(**shallow(_cost(host, block)), **shallow(verdict(host, block))))
        progress(i, len(piece))
    return rows


def combined(host: Host, body: OfflineBody, results: Sequence[Any]) -> Offline:
    """The answer."""
    taken: list[_Taken] = results[0]
    alone: list[BlockPlan] = [row for chunk in results[1:] for row in chunk]
    given = sum(row.bytes for row in taken)
    together = TogetherPlan(
        bytes=given,
        enough=body.memory is None or given >= body.memory,
        hugepages_lost=sum(row.hugepages_lost for row in taken),
        pages_moved=sum(row.movable_pages for row in taken),
        blocks=[row.block for row in taken],
    )
    alone.sort(key=lambda row: row.block)
    return Offline(host.memory_block_pages * PAGE_SIZE, body.memory, together, alone)


def _candidates(host: Host, body: OfflineBody) -> list[int]:
    states = block_states(host)
    online = np.flatnonzero(states == SectionState.ONLINE).tolist()
    if body.node is not None:
        if not 0 <= body.node < len(host.nodes):
            raise NotFound(f"no node {body.node} on this host", node=body.node)
        online = [block for block in online if body.node in _nodes(host, block)]
    if body.blocks is None:
        return online
    for block in body.blocks:
        block_sections(host, block)  # raises NotFound
    return sorted(set(body.blocks) & set(online))


def _nodes(host: Host, block: int) -> set[int]:
    return {int(nid) for nid in host.mem.section_nid[block_sections(host, block)]}


def _cost(host: Host, block: int) -> _Cost:
    blocks = pageblocks(block_sections(host, block))
    huge = host.mem.use[blocks] == Use.HUGETLB
    free = huge & ((host.mem.flags[blocks] & BlockFlag.FREE) != 0)
    movable = pages_of_use(host.mem, blocks, *MOVABLE_USES)
    plugged = blocks.size * PAGEBLOCK_PAGES - pages_of_use(host.mem, blocks, Use.HOLE, Use.UNPLUGGED).size
    zones = host.mem.zones_of(blocks)
    return _Cost(
        block=block,
        node=zones[0].nid if zones else None,
        zones=[zone.name for zone in zones],
        bytes=int(plugged) * PAGE_SIZE,
        hugepages=int(huge.sum()),
        free_hugepages=int(free.sum()),
        movable_pages=int(movable.size) + int((huge & ~free).sum()) * PAGEBLOCK_PAGES,
    )


def _together(host: Host, body: OfflineBody, progress: Progress) -> Iterator[_Taken]:
    """Blocks taken away one after the other, those that cost least first, each on what the last one left."""
    left = body.memory
    rows = [_cost(host, block) for block in _candidates(host, body)]
    for i, row in enumerate(_cheapest(rows), 1):
        if left is not None and left <= 0:
            return
        progress(i, len(rows))
        try:
            trial = attempt(host, SetBlockState(row.block, "offline"))
        except MMError:  # a block with holes cannot go offline on any host
            continue
        if trial.error is None:
            lost = _hugepages(host) - _hugepages(trial.host)
            host, left = trial.host, None if left is None else left - row.bytes
            yield _Taken(**shallow(row), hugepages_lost=lost)


def _hugepages(host: Host) -> int:
    return sum(hs.nr_huge_pages << hs.order for hs in host.hstates.values()) // PAGEBLOCK_PAGES


def _cheapest(rows: Iterable[_Cost]) -> list[_Cost]:
    return sorted(rows, key=lambda row: (row.free_hugepages, row.movable_pages, -row.block))
