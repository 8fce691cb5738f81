"""The audit notices every stored field that differs from the running host."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Table, create_engine, select, update

from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.commands import commands as c
from hugepool.service import Damaged, Service, Terms
from hugepool.settings import Settings
from hugepool.store import huge_rows, rows
from hugepool.store import tables as t
from hugepool.store.packing import pack

LAW = "the stored host equals the running one"
FIELDS: list[tuple[Table, str]] = [
    *((t.hosts, name) for name in rows.HOST_COLUMNS if name != "kernel"),  # another kernel has other rows
    *((t.zones, name) for name in rows.ZONE_FIELDS),
    *((t.hstates, name) for name in rows.HSTATE_FIELDS),
    *((t.tasks, name) for name in rows.TASK_FIELDS),
    *((t.huge_maps, name) for name in huge_rows.MAP_FIELDS),
    *((t.hugetlbfs_files, name) for name in huge_rows.FILE_FIELDS),
    *((t.hugetlbfs_mounts, name) for name in huge_rows.MOUNT_FIELDS),
    *((t.cgroups, name) for name in ("cgroup_id", "subtree_control")),
    *((t.hugetlb_cgroups, name) for name in huge_rows.CGROUP_FIELDS),
    *((t.hugetlb_cgroup_sizes, name) for name in huge_rows.CGROUP_COUNTS),
    (t.page_charges, "heads"),
    *((t.faults, name) for name in rows.FAULT_FIELDS),
    (t.nodes, "cpus"),
    (t.nodes, "distance"),
    (t.counters, "value"),
    (t.carried, "carried"),
    (t.deferred_frees, "page_order"),
    (t.contig_ranges, "end_pfn"),
    (t.cma_areas, "base_pfn"),
    *((t.page_cache, name) for name in ("pid", "node", "kind", "pages")),
    *((t.virtio_mem, name) for name in rows.VIRTIO_MEM_FIELDS),
    (t.virtio_mem, "node"),
    (t.virtio_mem_blocks, "plugged"),
    (t.virtio_mem_blocks, "name"),
]
NOW: list[c.Command[Any]] = [
    c.SetMaxHugePages(9, 40),
    c.CreateTask("hugetlb", count=6, touch=4),
    c.CreateTask("hugetlb", count=6, touch=4),
    c.SetDeferredMode("manual"),
    c.FallocateFile("/dev/hugepages/a", 2),
    c.MakeCgroup("pods/a", parents=True),
    c.CreateTask("hugetlb", count=2, touch=1, cgroup="pods/a"),
    c.SetFault("hugepage-alloc", probability=0),
    c.AllocContigPages(512),
    c.CreateTask("cache", pages=900),
    c.AddVirtioMem("vm0", 1, 65536, 512, 1024),
    c.SetMaxHugePages(9, 0),
    c.ExitTask(1000),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Path]]:
    """A service with one host that has every kind of state, and its database."""
    file = tmp_path_factory.mktemp("whole") / "hugepool.db"
    service = Service(Settings(database_url=f"sqlite:///{file}"))
    service.start()
    spec = HostSpec((NodeSpec(2 << 30), NodeSpec(2 << 30)), cmdline="hugetlb_free_vmemmap=on cma=64M")
    service.create("lab", spec, Terms())
    for command in NOW:
        service.execute("lab", command, Terms())
    yield service, file
    service.close()


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, bytes):
        return pack(np.array([[1, 1]]))
    if isinstance(value, list):
        return [*value, 1]
    return {**value, "other": 1} if isinstance(value, dict) else (value or 0) + 1


@pytest.mark.parametrize(("table", "column"), FIELDS, ids=lambda value: getattr(value, "name", value))
def test_a_stored_field_that_was_changed_is_noticed(
    whole: tuple[Service, Path], table: Table, column: str
) -> None:
    service, file = whole
    assert LAW not in _broken(service)
    engine = create_engine(f"sqlite:///{file}")
    keys = table.primary_key.columns
    with engine.begin() as connection:
        row = connection.execute(select(table)).mappings().first()
        assert row is not None, "the host has no such state"
        same = [key == row[key.name] for key in keys]
        connection.execute(update(table).where(*same).values({column: other(row[column])}))
    try:
        assert LAW in _broken(service)
    finally:
        with engine.begin() as connection:
            connection.execute(update(table).where(*same).values({column: row[column]}))
        engine.dispose()
    assert LAW not in _broken(service)


def _broken(service: Service) -> set[str]:
    """Laws that do not hold.  A row that is not what was written is no host at all."""
    try:
        return {law.law for law in service.audit("lab")[0].laws if not law.ok}
    except Damaged:
        return {LAW}


def test_every_table_of_a_host_is_covered() -> None:
    small = {small.table.name for small in rows.SMALL_TABLES} | {"hosts"}
    assert small - {table.name for table, _ in FIELDS} == {"hstate_nodes"}  # recounted by a law of the engine
