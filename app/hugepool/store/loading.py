"""A host out of its rows.

What can be derived is not stored: free lists are the free huge pages sorted by enqueue stamp, the allocator's
search hints start at 0 and find their place with the first search.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from sqlalchemy import Connection, Row, Table, select

from hugepool.mm.machine.cgroups import Cgroup
from hugepool.mm.machine.devices import VirtioMem
from hugepool.mm.machine.fault_inject import FaultAttr
from hugepool.mm.machine.mmzone import BlockFlag, MemoryMap, Node, Zone
from hugepool.mm.machine.profile import profile_of
from hugepool.mm.machine.state import (
    CacheShare,
    CmaArea,
    ContigRange,
    FreeList,
    Host,
    HState,
    QueuedFree,
    Task,
)
from hugepool.mm.machine.units import ORDER_1G, PAGEBLOCK_PAGES
from hugepool.store import huge_rows
from hugepool.store import tables as t
from hugepool.store.packing import unpack
from hugepool.store.rows import (
    FAULT_FIELDS,
    HOST_COLUMNS,
    HSTATE_FIELDS,
    TASK_FIELDS,
    VIRTIO_MEM_FIELDS,
    ZONE_FIELDS,
)
from hugepool.store.sections import COLUMNS, decode


def sections(connection: Connection, host_id: int) -> Sequence[Row[Any]]:
    """The rows of a host's sections, values as ``COLUMNS``."""
    query = select(*(t.sections.c[name] for name in COLUMNS)).where(t.sections.c.host_id == host_id)
    return connection.execute(query.order_by(t.sections.c.section)).all()


class Rows(Protocol):
    """Where the rows of a host are."""

    def __call__(self, table: Table, *order: str) -> Sequence[Any]:
        """Those of a table, in order of some columns; columns are attributes."""


def stored(connection: Connection, host_id: int) -> Rows:
    """The rows of a host in the database."""

    def rows(table: Table, *order: str) -> Sequence[Row[Any]]:
        query = select(table).where(table.c.host_id == host_id).order_by(*(table.c[name] for name in order))
        return connection.execute(query).all()

    return rows


def load(rows: Rows, head: Any, found: Sequence[Sequence[Any]]) -> Host:
    """The host of a row of ``hosts``, of its ``sections`` and of all its other rows, which are of one moment."""
    profile = profile_of(head.kernel)
    mem = MemoryMap(head.nr_sections, profile.reserved_vmemmap_pages)
    nodes = _nodes(rows, mem)
    host = Host(head.kernel, head.cmdline, profile, head.seed, nodes, mem, head.memory_block_pages)
    for name in HOST_COLUMNS:
        setattr(host, name, getattr(head, name))
    for name, value in head.more_state.items():
        setattr(host, name, value)
    decode(mem, found)
    host.carried = rows(t.carried)[0].carried
    host.counters = {row.name: row.value for row in rows(t.counters, "position")}
    host.hstates = _hstates(rows, host)
    host.tasks = _tasks(rows)
    host.cached = [
        CacheShare(row.pid, row.node, row.kind, row.pages) for row in rows(t.page_cache, "position")
    ]
    _load_huge(rows, host)
    host.contig_ranges = {
        row.range_id: ContigRange(row.range_id, row.start_pfn, row.end_pfn)
        for row in rows(t.contig_ranges, "range_id")
    }
    host.cma_areas = [CmaArea(row.name, row.base_pfn, row.nr_pages) for row in rows(t.cma_areas, "base_pfn")]
    host.virtio_mem = _virtio_mem(rows)
    host.deferred = [
        QueuedFree(row.pfn // PAGEBLOCK_PAGES, row.page_order, row.stamp)
        for row in rows(t.deferred_frees, "stamp")
    ]
    faults = rows(t.faults, "point")
    host.faults = {row.point: FaultAttr(**_pick(row, FAULT_FIELDS)) for row in faults}
    return host


def _pick(row: Row[Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


def _nodes(rows: Rows, mem: MemoryMap) -> list[Node]:
    for row in rows(t.zones, "zone"):
        mem.add_zone(Zone(row.zone, row.node, **_pick(row, ZONE_FIELDS)))
    return [
        Node(row.node, row.cpus, [zone for zone in mem.zones if zone.nid == row.node], row.distance)
        for row in rows(t.nodes, "node")
    ]


def _hstates(rows: Rows, host: Host) -> dict[int, HState]:
    found: dict[int, HState] = {}
    per_node = rows(t.hstate_nodes, "page_order", "node")
    for row in rows(t.hstates, "position"):
        mine = [node for node in per_node if node.page_order == row.page_order]
        found[row.page_order] = HState(
            order=row.page_order,
            nr_nodes=len(mine),
            nr_node=[node.nr_huge_pages for node in mine],
            free_node=[node.free_huge_pages for node in mine],
            surplus_node=[node.surplus_huge_pages for node in mine],
            free_lists=_free_lists(host, row.page_order, len(mine)),
            **_pick(row, HSTATE_FIELDS),
        )
    return found


def _free_lists(host: Host, order: int, nr_nodes: int) -> list[FreeList]:
    """Free huge pages of a size, per node, in the order they were put on their list."""
    mem = host.mem
    heads = np.flatnonzero(mem.flags & BlockFlag.FREE)
    heads = heads[((mem.flags[heads] & BlockFlag.GIGANTIC) != 0) == (order == ORDER_1G)]
    heads = heads[np.argsort(mem.seq[heads], kind="stable")]
    nid_of_zone = np.array([-1] + [zone.nid for zone in mem.zones], np.int64)
    nids = nid_of_zone[mem.zone[heads]]
    return [FreeList(heads[nids == nid]) for nid in range(nr_nodes)]


def _tasks(rows: Rows) -> dict[int, Task]:
    tasks: dict[int, Task] = {}
    for row in rows(t.tasks, "pid"):
        runs = [(first, count) for first, count in unpack(row.runs).tolist()]
        tasks[row.pid] = Task(row.pid, runs=runs, **_pick(row, TASK_FIELDS))
    return tasks


def _virtio_mem(rows: Rows) -> dict[str, VirtioMem]:
    devices = {
        row.name: VirtioMem(row.name, row.node, **_pick(row, VIRTIO_MEM_FIELDS))
        for row in rows(t.virtio_mem, "name")
    }
    for row in rows(t.virtio_mem_blocks, "block"):
        devices[row.name].plugged[row.block] = int(row.plugged, 16)
    return devices


def _load_huge(rows: Rows, host: Host) -> None:
    """Mappings of huge pages, hugetlbfs, cgroups, and what follows from them: which pages are shared."""
    for row in rows(t.huge_maps, "pid", "map_id"):
        host.tasks[row.pid].maps[row.map_id] = huge_rows.huge_map_of(row)
    mounts = rows(t.hugetlbfs_mounts, "mount_id")
    host.mounts = [huge_rows.mount_of(row) for row in mounts]
    files = rows(t.hugetlbfs_files, "file_id")
    host.files = {row.file_id: huge_rows.file_of(row) for row in files}
    cgroups = rows(t.cgroups, "path")
    host.cgroups = {row.path: Cgroup(row.path, row.cgroup_id, row.subtree_control) for row in cgroups}
    host.hugetlb_cgroups = huge_rows.hugetlb_cgroups_of(
        rows(t.hugetlb_cgroups, "cgroup_id"),
        rows(t.hugetlb_cgroup_sizes, "cgroup_id", "page_order"),
    )
    host.page_charges = huge_rows.page_charges_of(rows(t.page_charges))
    heads = Counter(h for task in host.tasks.values() for m in task.maps.values() for h in m.pages.values())
    host.mapcounts = {head: mapped for head, mapped in heads.items() if mapped > 1}
