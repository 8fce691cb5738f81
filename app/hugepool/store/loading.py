"""A host out of its rows.

What can be derived is not stored: free lists are the free huge pages sorted by enqueue stamp, the allocator's
search hints start at 0 and find their place with the first search.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, Table, select

from hugepool.mm.kernel.pcp import adopt_lists
from hugepool.mm.machine.cgroups import Cgroup
from hugepool.mm.machine.fault_inject import FaultAttr
from hugepool.mm.machine.mmzone import BlockFlag, MemoryMap, Node, Zone
from hugepool.mm.machine.pcp_lists import PageList, PerCpuPages
from hugepool.mm.machine.profile import profile_of
from hugepool.mm.machine.state import CmaArea, ContigRange, FreeList, Host, HState, QueuedFree, Task
from hugepool.mm.machine.units import ORDER_1G, PAGEBLOCK_PAGES
from hugepool.store import huge_rows
from hugepool.store import tables as t
from hugepool.store.packing import unpack
from hugepool.store.rows import (
    CPU_FIELDS,
    FAULT_FIELDS,
    HOST_COLUMNS,
    HSTATE_FIELDS,
    TASK_FIELDS,
    ZONE_FIELDS,
)
from hugepool.store.sections import COLUMNS, decode


def sections(connection: Connection, host_id: int) -> Sequence[Row[Any]]:
    """The rows of a host's sections, values as ``COLUMNS``."""
    query = select(*(t.sections.c[name] for name in COLUMNS)).where(t.sections.c.host_id == host_id)
    return connection.execute(query.order_by(t.sections.c.section)).all()


def load(connection: Connection, head: Row[Any], found: Sequence[Row[Any]]) -> Host:
    """The host of a row of ``hosts`` and its ``sections``, in a transaction that sees one moment."""
    host_id = int(head.id)
    profile = profile_of(head.kernel)
    mem = MemoryMap(head.nr_sections, profile.reserved_vmemmap_pages)
    nodes = _nodes(connection, host_id, mem)
    host = Host(head.kernel, head.cmdline, profile, head.seed, nodes, mem, head.memory_block_pages)
    for name in HOST_COLUMNS:
        setattr(host, name, getattr(head, name))
    for name, value in head.more_state.items():
        setattr(host, name, value)
    decode(mem, found)
    _cpu_lists(connection, host_id, host)
    host.carried = _rows(connection, t.carried, host_id)[0].carried
    host.counters = {row.name: row.value for row in _rows(connection, t.counters, host_id, "position")}
    host.hstates = _hstates(connection, host_id, host)
    host.tasks = _tasks(connection, host_id)
    _load_huge(connection, host_id, host)
    host.contig_ranges = {
        row.range_id: ContigRange(row.range_id, row.start_pfn, row.end_pfn)
        for row in _rows(connection, t.contig_ranges, host_id, "range_id")
    }
    host.cma_areas = [
        CmaArea(row.name, row.base_pfn, row.nr_pages)
        for row in _rows(connection, t.cma_areas, host_id, "base_pfn")
    ]
    host.deferred = [
        QueuedFree(row.pfn // PAGEBLOCK_PAGES, row.page_order, row.stamp)
        for row in _rows(connection, t.deferred_frees, host_id, "stamp")
    ]
    faults = _rows(connection, t.faults, host_id, "point")
    host.faults = {row.point: FaultAttr(**_pick(row, FAULT_FIELDS)) for row in faults}
    return host


def _rows(connection: Connection, table: Table, host_id: int, *order: str) -> Sequence[Row[Any]]:
    query = select(table).where(table.c.host_id == host_id).order_by(*(table.c[name] for name in order))
    return connection.execute(query).all()


def _pick(row: Row[Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


def _nodes(connection: Connection, host_id: int, mem: MemoryMap) -> list[Node]:
    for row in _rows(connection, t.zones, host_id, "zone"):
        mem.add_zone(Zone(row.zone, row.node, **_pick(row, ZONE_FIELDS)))
    return [
        Node(row.node, row.cpus, [zone for zone in mem.zones if zone.nid == row.node], row.distance)
        for row in _rows(connection, t.nodes, host_id, "node")
    ]


def _cpu_lists(connection: Connection, host_id: int, host: Host) -> None:
    """The lists of CPUs; where none are stored, pages that lie on some are put on those of the first CPU."""
    zones = {zone.index: zone for zone in host.zones}
    for row in _rows(connection, t.cpu_pages, host_id, "zone", "cpu"):
        zones[row.zone].pcp[row.cpu] = PerCpuPages(**_pick(row, CPU_FIELDS))
    for row in _rows(connection, t.cpu_lists, host_id, "zone", "cpu", "list"):
        zones[row.zone].pcp[row.cpu].lists[row.list] = PageList(unpack(row.pfns, 1)[:, 0])
    for zone in host.zones:
        if zone.nr_pcp and not zone.pcp:
            adopt_lists(host, zone)


def _hstates(connection: Connection, host_id: int, host: Host) -> dict[int, HState]:
    found: dict[int, HState] = {}
    per_node = _rows(connection, t.hstate_nodes, host_id, "page_order", "node")
    for row in _rows(connection, t.hstates, host_id, "position"):
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


def _tasks(connection: Connection, host_id: int) -> dict[int, Task]:
    tasks: dict[int, Task] = {}
    for row in _rows(connection, t.tasks, host_id, "pid"):
        runs = [(first, count) for first, count in unpack(row.runs).tolist()]
        tasks[row.pid] = Task(row.pid, runs=runs, **_pick(row, TASK_FIELDS))
    return tasks


def _load_huge(connection: Connection, host_id: int, host: Host) -> None:
    """Mappings of huge pages, hugetlbfs, cgroups, and what follows from them: which pages are shared."""
    for row in _rows(connection, t.huge_maps, host_id, "pid", "map_id"):
        host.tasks[row.pid].maps[row.map_id] = huge_rows.huge_map_of(row)
    mounts = _rows(connection, t.hugetlbfs_mounts, host_id, "mount_id")
    host.mounts = [huge_rows.mount_of(row) for row in mounts]
    files = _rows(connection, t.hugetlbfs_files, host_id, "file_id")
    host.files = {row.file_id: huge_rows.file_of(row) for row in files}
    cgroups = _rows(connection, t.cgroups, host_id, "path")
    host.cgroups = {row.path: Cgroup(row.path, row.cgroup_id, row.subtree_control) for row in cgroups}
    host.hugetlb_cgroups = huge_rows.hugetlb_cgroups_of(
        _rows(connection, t.hugetlb_cgroups, host_id, "cgroup_id"),
        _rows(connection, t.hugetlb_cgroup_sizes, host_id, "cgroup_id", "page_order"),
    )
    host.page_charges = huge_rows.page_charges_of(_rows(connection, t.page_charges, host_id))
    heads = Counter(h for task in host.tasks.values() for m in task.maps.values() for h in m.pages.values())
    host.mapcounts = {head: mapped for head, mapped in heads.items() if mapped > 1}
