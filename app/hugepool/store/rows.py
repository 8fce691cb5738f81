"""All of a host but its sections, as rows of small tables; and only the rows that changed are written.

``snapshot`` gives every row of a host by table and key; the last one saved is kept with the loaded host and
compared with the present one.
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Table, and_, bindparam, delete, insert, update

from hugepool.mm.machine.fault_inject import FaultAttr
from hugepool.mm.machine.mmzone import Zone
from hugepool.mm.machine.pcp_lists import PerCpuPages
from hugepool.mm.machine.state import Host, HState, Task
from hugepool.mm.machine.units import PAGEBLOCK_PAGES
from hugepool.store import huge_rows
from hugepool.store import tables as t
from hugepool.store.huge_rows import Key, Row
from hugepool.store.packing import Packed, rows_of_pairs

Snapshot = dict[str, dict[Key, Row]]


def _shared(kind: Any, table: Table) -> tuple[str, ...]:
    """The fields that have a column of the same name."""
    return tuple(f.name for f in fields(kind) if f.name in table.c)


_ELSEWHERE = frozenset(
    (
        "profile",
        "nodes",
        "mem",
        "hstates",
        "tasks",
        "files",
        "mounts",
        "cgroups",
        "hugetlb_cgroups",
        "page_charges",
        "mapcounts",
        "deferred",
        "faults",
        "carried",
        "counters",
        "contig_ranges",
        "cma_areas",
        "cpu",
    )
)
HOST_FIELDS = tuple(f.name for f in fields(Host) if f.name not in _ELSEWHERE)
HOST_COLUMNS = _shared(Host, t.hosts)
MORE_STATE = tuple(name for name in HOST_FIELDS if name not in t.hosts.c)
ZONE_FIELDS = _shared(Zone, t.zones)
HSTATE_FIELDS = _shared(HState, t.hstates)
CPU_FIELDS = _shared(PerCpuPages, t.cpu_pages)
TASK_FIELDS = tuple(name for name in _shared(Task, t.tasks) if name not in ("pid", "runs"))
FAULT_FIELDS = _shared(FaultAttr, t.faults)


def _pick(thing: Any, names: Iterable[str]) -> Row:
    return {name: getattr(thing, name) for name in names}


# -- into rows --------------------------------------------------------------------------------------------


def host_row(host: Host) -> Row:
    """The columns of ``hosts`` that the engine owns; fields without a column go into ``more_state``."""
    row = _pick(host, HOST_COLUMNS)
    more = {**_pick(host, MORE_STATE), "next_freed": host.next_freed}
    return {**row, "nr_sections": host.mem.nr_sections, "more_state": more}


def _carried(host: Host) -> Iterator[tuple[Key, Row]]:
    yield (), {"carried": host.carried}


def _counters(host: Host) -> Iterator[tuple[Key, Row]]:
    for position, (name, value) in enumerate(host.counters.items()):
        yield (name,), {"position": position, "value": int(value)}


def _nodes(host: Host) -> Iterator[tuple[Key, Row]]:
    for node in host.nodes:
        yield (node.nid,), {"cpus": node.cpus, "distance": node.distance}


def _zones(host: Host) -> Iterator[tuple[Key, Row]]:
    for zone in host.zones:
        yield (zone.index,), {"node": zone.nid, "name": zone.name, **_pick(zone, ZONE_FIELDS)}


def _cpu_pages(host: Host) -> Iterator[tuple[Key, Row]]:
    for zone in host.zones:
        for cpu, pcp in zone.pcp.items():
            yield (zone.index, cpu), _pick(pcp, CPU_FIELDS)


def _cpu_lists(host: Host) -> Iterator[tuple[Key, Row]]:
    for zone in host.zones:
        for cpu, pcp in zone.pcp.items():
            for number, listed in pcp.lists.items():
                if listed.size:
                    pfns = Packed(listed.items()[:, None].copy())
                    yield (zone.index, cpu, number), {"nr_blocks": listed.size, "pfns": pfns}


def _hstates(host: Host) -> Iterator[tuple[Key, Row]]:
    for position, hs in enumerate(host.hstates.values()):
        yield (hs.order,), {"position": position, "size": hs.size, **_pick(hs, HSTATE_FIELDS)}


def _hstate_nodes(host: Host) -> Iterator[tuple[Key, Row]]:
    for hs in host.hstates.values():
        for nid in range(hs.nr_nodes):
            yield (hs.order, nid), {"nr_huge_pages": hs.nr_node[nid], "free_huge_pages": hs.free_node[nid],
                                    "surplus_huge_pages": hs.surplus_node[nid]}  # fmt: skip


def _tasks(host: Host) -> Iterator[tuple[Key, Row]]:
    for pid, task in host.tasks.items():
        runs = rows_of_pairs(task.runs)
        yield (pid,), {**_pick(task, TASK_FIELDS), "nr_pages": int(runs[:, 1].sum()), "runs": Packed(runs)}


def _contig_ranges(host: Host) -> Iterator[tuple[Key, Row]]:
    for kept in host.contig_ranges.values():
        yield (kept.range_id,), {"start_pfn": kept.start_pfn, "end_pfn": kept.end_pfn}


def _cma_areas(host: Host) -> Iterator[tuple[Key, Row]]:
    for area in host.cma_areas:
        yield (area.name,), {"base_pfn": area.base_pfn, "nr_pages": area.nr_pages}


def _deferred(host: Host) -> Iterator[tuple[Key, Row]]:
    for queued in host.deferred:
        yield (queued.stamp,), {"pfn": queued.block * PAGEBLOCK_PAGES, "page_order": queued.order}


def _faults(host: Host) -> Iterator[tuple[Key, Row]]:
    for point, fault in host.faults.items():
        yield (point,), _pick(fault, FAULT_FIELDS)


class _Small:
    """A table of small rows: its key columns besides ``host_id``, where its rows come from, its statements."""

    def __init__(
        self, table: Table, keys: tuple[str, ...], rows: Callable[[Host], Iterator[tuple[Key, Row]]]
    ) -> None:
        self.table, self.keys, self.rows = table, keys, rows
        one = and_(*(table.c[name] == bindparam(f"key_{name}") for name in ("host_id", *keys)))
        self.insert = insert(table)
        self.update = update(table).where(one)
        self.delete = delete(table).where(one)


# Parents before their children.
SMALL_TABLES = (
    _Small(t.carried, (), _carried),
    _Small(t.counters, ("name",), _counters),
    _Small(t.nodes, ("node",), _nodes),
    _Small(t.zones, ("zone",), _zones),
    _Small(t.cpu_pages, ("zone", "cpu"), _cpu_pages),
    _Small(t.cpu_lists, ("zone", "cpu", "list"), _cpu_lists),
    _Small(t.hstates, ("page_order",), _hstates),
    _Small(t.hstate_nodes, ("page_order", "node"), _hstate_nodes),
    _Small(t.tasks, ("pid",), _tasks),
    _Small(t.huge_maps, ("pid", "map_id"), huge_rows.huge_maps),
    _Small(t.hugetlbfs_mounts, ("mount_id",), huge_rows.mounts),
    _Small(t.hugetlbfs_files, ("file_id",), huge_rows.files),
    _Small(t.cgroups, ("path",), huge_rows.cgroups),
    _Small(t.hugetlb_cgroups, ("cgroup_id",), huge_rows.hugetlb_cgroups),
    _Small(t.hugetlb_cgroup_sizes, ("cgroup_id", "page_order"), huge_rows.hugetlb_cgroup_sizes),
    _Small(t.page_charges, ("pages", "reservations", "mount"), huge_rows.page_charges),
    _Small(t.contig_ranges, ("range_id",), _contig_ranges),
    _Small(t.cma_areas, ("name",), _cma_areas),
    _Small(t.deferred_frees, ("stamp",), _deferred),
    _Small(t.faults, ("point",), _faults),
)


def snapshot(host: Host) -> Snapshot:
    """Every row of a host, by table and key.  Rows refer to the host: see ``settle``."""
    state = {small.table.name: dict(small.rows(host)) for small in SMALL_TABLES}
    state["hosts"] = {(): host_row(host)}
    return state


def settle(present: Snapshot, saved: Snapshot) -> None:
    """Make a snapshot that was saved independent of the host it was taken of; unchanged rows stay shared."""
    for name, rows in present.items():
        before = saved.get(name, {})
        for key, row in rows.items():
            if before.get(key) == row:
                rows[key] = before[key]
                continue
            for column, value in row.items():
                if isinstance(value, Packed):
                    value.settle()
                elif isinstance(value, (list, dict)):
                    row[column] = copy.deepcopy(value)


def save_changes(connection: Connection, host_id: int, saved: Snapshot, present: Snapshot) -> None:
    """Write the rows of the small tables that differ; children go before their parents and come after them."""
    for small in reversed(SMALL_TABLES):
        before, now = saved.get(small.table.name, {}), present[small.table.name]
        gone = [_bound(small, host_id, key) for key in before if key not in now]
        if gone:
            connection.execute(small.delete, gone)
    for small in SMALL_TABLES:
        before, now = saved.get(small.table.name, {}), present[small.table.name]
        fresh = [
            {"host_id": host_id, **dict(zip(small.keys, key, strict=True)), **_stored(row)}
            for key, row in now.items()
            if key not in before
        ]
        changed = [
            {**_bound(small, host_id, key), **_stored(row)}
            for key, row in now.items()
            if key in before and before[key] != row
        ]
        if fresh:
            connection.execute(small.insert, fresh)
        if changed:
            connection.execute(small.update, changed)


def _bound(small: _Small, host_id: int, key: Key) -> Row:
    return {
        "key_host_id": host_id,
        **{f"key_{name}": part for name, part in zip(small.keys, key, strict=True)},
    }


def _stored(row: Row) -> Row:
    return {name: value.blob() if isinstance(value, Packed) else value for name, value in row.items()}
