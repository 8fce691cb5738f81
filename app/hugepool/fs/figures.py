"""The figures of a host that boards show: small, flat, and kept for every revision.

One row of whole numbers holds a host's pools, its memory and what the vmemmap saves; ``pack`` and ``unpack`` make it
bytes and back.  Everything that shows many hosts or many moments reads these rows, and no host has to be loaded.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hugepool.fs.account import available_kb
from hugepool.mm.machine.events import Event, Occurrence
from hugepool.mm.machine.state import Host, HState
from hugepool.mm.machine.units import KB_PER_PAGE, PAGE_SIZE, ULONG_MAX
from hugepool.mm.views.pool_view import vmemmap_totals

Row = npt.NDArray[np.int64]
HEAD = 9  # numbers before the first pool
A_POOL = 8  # numbers of a pool of the whole host
A_NODE = 3  # numbers of a node before its pools
A_NODE_POOL = 3  # numbers of a pool on one node
WIDTHS = (1, 2, 4, 8)  # bytes of one number, the smallest that fits is taken


@dataclass(frozen=True, slots=True)
class PoolFigures:
    """One huge page size of the whole host, in huge pages.

    ``asked``: the persistent size that was last asked for; the pool has ``max_huge_pages`` of it.
    """

    order: int
    nr: int
    free: int
    resv: int
    surplus: int
    max: int
    overcommit: int
    asked: int


@dataclass(frozen=True, slots=True)
class NodePool:
    """One huge page size on one node, in huge pages."""

    nr: int
    free: int
    surplus: int


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """One node: pages of 4 KiB in all and free, and its pools in the order of the host's."""

    nid: int
    total_pages: int
    free_pages: int
    pools: tuple[NodePool, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """A host at one revision.  Memory in pages of 4 KiB; ``saved_pages`` is less than 0 where tables cost more.

    ``vmemmap_freeing``: new huge pages give their vmemmap back.
    """

    total_pages: int
    free_pages: int
    available_pages: int
    saved_pages: int
    table_pages: int
    faults_armed: int
    queued: int
    vmemmap_freeing: bool
    pools: tuple[PoolFigures, ...]
    nodes: tuple[NodeFigures, ...]


def figures(host: Host, events: Iterable[Occurrence], before: Figures | None) -> Figures:
    """The figures of a host now.  ``events`` of this change and the figures ``before`` say what was asked for."""
    totals = vmemmap_totals(host)
    pools = [host.hstates[order] for order in sorted(host.hstates)]
    asked = _asked(pools, events, before)
    return Figures(
        total_pages=sum(zone.managed for zone in host.zones),
        free_pages=sum(zone.nr_free for zone in host.zones),
        available_pages=available_kb(host) // KB_PER_PAGE,
        saved_pages=totals.pages_freed - totals.page_table_pages,
        table_pages=totals.page_table_pages,
        faults_armed=sum(fault.armed for fault in host.faults.values()),
        queued=len(host.deferred),
        vmemmap_freeing=host.optimize_enabled,
        pools=tuple(_pool(hs, asked[hs.order]) for hs in pools),
        nodes=tuple(
            NodeFigures(node.nid, node.managed, node.nr_free, tuple(_on_node(hs, node.nid) for hs in pools))
            for node in host.nodes
        ),
    )


def _pool(hs: HState, asked: int) -> PoolFigures:
    return PoolFigures(
        hs.order,
        hs.nr_huge_pages,
        hs.free_huge_pages,
        hs.resv_huge_pages,
        hs.surplus_huge_pages,
        hs.max_huge_pages,
        hs.nr_overcommit_huge_pages,
        asked,
    )


def _on_node(hs: HState, nid: int) -> NodePool:
    return NodePool(hs.nr_node[nid], hs.free_node[nid], hs.surplus_node[nid])


def _asked(pools: Iterable[HState], events: Iterable[Occurrence], before: Figures | None) -> dict[int, int]:
    """By order: what was asked for last.  A write to one node asks for the rest of the pool besides."""
    known = {pool.order: pool.asked for pool in before.pools} if before else {}
    asked = {hs.order: known.get(hs.order, hs.max_huge_pages) for hs in pools}
    order = {hs.size: hs.order for hs in pools}
    node_pages = {hs.size: hs.nr_node for hs in pools}
    for event, data in events:
        if event != Event.POOL_RESIZED:
            continue
        size, nid = data["size"], data["node"]
        others = 0 if nid is None else sum(node_pages[size]) - node_pages[size][nid]
        asked[order[size]] = min(data["requested"] + others, ULONG_MAX)
    return asked


# -- as bytes ----------------------------------------------------------------------------------------------


def pack(found: Figures) -> bytes:
    """Figures as bytes: one that says how wide a number is, then the numbers, little-endian, signed, deflated."""
    numbers = [
        len(found.pools),
        found.total_pages,
        found.free_pages,
        found.available_pages,
        found.saved_pages,
        found.table_pages,
        found.faults_armed,
        found.queued,
        int(found.vmemmap_freeing),
    ]
    for pool in found.pools:
        numbers += [
            pool.order,
            pool.nr,
            pool.free,
            pool.resv,
            pool.surplus,
            pool.max,
            pool.overcommit,
            pool.asked,
        ]
    for node in found.nodes:
        numbers += [node.nid, node.total_pages, node.free_pages]
        for part in node.pools:
            numbers += [part.nr, part.free, part.surplus]
    row = np.array([number & ULONG_MAX for number in numbers], np.uint64).view(np.int64)
    low, high = int(row.min()), int(row.max())
    width = next(w for w in WIDTHS if -(1 << (8 * w - 1)) <= low and high < 1 << (8 * w - 1))
    return bytes([width]) + zlib.compress(row.astype(f"<i{width}").tobytes(), 1)


def numbers_of(packed: bytes) -> Row:
    """The numbers of packed figures."""
    row: Row = np.frombuffer(zlib.decompress(packed[1:]), f"<i{packed[0]}").astype(np.int64)
    return row


def unpack(packed: bytes) -> Figures:
    """Figures out of their bytes."""
    row = numbers_of(packed).tolist()
    nr_pools = row[0]
    at = HEAD
    pools = []
    for _ in range(nr_pools):
        order, *counts = row[at : at + A_POOL]
        pools.append(PoolFigures(order, *(count & ULONG_MAX for count in counts)))
        at += A_POOL
    nodes = []
    while at < len(row):
        nid, total, free = row[at : at + A_NODE]
        at += A_NODE
        parts = [row[at + i * A_NODE_POOL :][:A_NODE_POOL] for i in range(nr_pools)]
        at += nr_pools * A_NODE_POOL
        on_node = tuple(NodePool(*(count & ULONG_MAX for count in part)) for part in parts)
        nodes.append(NodeFigures(nid, total, free, on_node))
    total, free, available, saved, tables, faults, queued, freeing = row[1:HEAD]
    return Figures(
        total, free, available, saved, tables, faults, queued, bool(freeing), tuple(pools), tuple(nodes)
    )


class Series(NamedTuple):
    """One huge page size over many moments, of the whole host (``nid`` None) or one node: lists by figure."""

    nid: int | None
    order: int
    values: dict[str, list[int]]


def series(rows: Sequence[Row]) -> list[Series]:
    """Numbers of moments of one layout (as many sizes and nodes): for each size the host, then its nodes."""
    table = np.stack(rows)
    nr_pools = int(table[0, 0])
    nodes = range(HEAD + nr_pools * A_POOL, table.shape[1], A_NODE + nr_pools * A_NODE_POOL)
    found = []
    for index in range(nr_pools):
        pool = HEAD + index * A_POOL
        whole = {**_counts(table, pool + 1, HOST_COUNTS), **_bytes(table, 1, HOST_BYTES)}
        whole["page_table_pages"] = table[:, 5].tolist()
        found.append(Series(None, int(table[0, pool]), whole))
        for node in nodes:
            part = node + A_NODE + index * A_NODE_POOL
            mine = {**_counts(table, part, NODE_COUNTS), **_bytes(table, node + 1, NODE_BYTES)}
            found.append(Series(int(table[0, node]), int(table[0, pool]), mine))
    return found


HOST_COUNTS = ("nr_hugepages", "free_hugepages", "resv_hugepages", "surplus_hugepages", "max_huge_pages", None,
               "asked_hugepages")  # fmt: skip
NODE_COUNTS = ("nr_hugepages", "free_hugepages", "surplus_hugepages")
HOST_BYTES = ("total_bytes", "free_bytes", "available_bytes", "bytes_saved")
NODE_BYTES = ("total_bytes", "free_bytes")


def _counts(table: Row, first: int, names: Sequence[str | None]) -> dict[str, list[int]]:
    """Columns of unsigned counters."""
    columns = {name: table[:, first + i].copy() for i, name in enumerate(names) if name}
    return {name: column.view(np.uint64).tolist() for name, column in columns.items()}


def _bytes(table: Row, first: int, names: Sequence[str]) -> dict[str, list[int]]:
    """Columns of pages of 4 KiB, as bytes."""
    return {name: (table[:, first + i] * PAGE_SIZE).tolist() for i, name in enumerate(names)}


# -- what they say -----------------------------------------------------------------------------------------

STATES = ("surplus-stuck", "pool-short", "fault-armed", "deferred-queued", "node-full")
NODE_FULL_PERCENT = 1  # a node with less of its memory free than this is full


def states(found: Figures) -> list[str]:
    """In which states a host is that somebody should look at; the words of the list of hosts."""
    words = []
    if any(_stuck(pool) for pool in found.pools):
        words.append("surplus-stuck")
    if any(pool.asked > pool.nr for pool in found.pools):
        words.append("pool-short")
    if found.faults_armed:
        words.append("fault-armed")
    if found.queued:
        words.append("deferred-queued")
    if any(node.free_pages * 100 < node.total_pages * NODE_FULL_PERCENT for node in found.nodes):
        words.append("node-full")
    return words


def _stuck(pool: PoolFigures) -> bool:
    """Free surplus pages that nobody may have on demand: they could not be given back."""
    return 0 < pool.surplus <= ULONG_MAX >> 1 and pool.free > pool.resv and pool.surplus > pool.overcommit
