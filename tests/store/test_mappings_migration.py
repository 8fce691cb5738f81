"""Databases from before files had a table: pages and promises of shared mappings and files move to it."""

import zlib
from typing import Any

import numpy as np
import pytest
from alembic import command
from sqlalchemy import Connection, MetaData, Table, insert, select

from hugepool.settings import Settings
from hugepool.store import huge_rows, migrate
from hugepool.store import tables as t
from hugepool.store.engine import Database


def packed(*rows: tuple[int, int]) -> bytes:
    words = np.array(rows, np.int64).reshape(-1, 2)
    return zlib.compress(np.diff(words, axis=0, prepend=0).astype("<i8").tobytes())


def _old(connection: Connection, table_name: str, **values: Any) -> None:
    """A row in a table as it was; what is not said is 0 or empty."""
    table = Table(table_name, MetaData(), autoload_with=connection)
    blank: dict[type, Any] = {int: 0, str: "", bool: False, bytes: b"", dict: {}}
    row = {
        column.name: blank.get(column.type.python_type, 0)
        for column in table.c
        if not column.nullable and column.server_default is None
    }
    connection.execute(insert(table).values({**row, **values}))


def _old_map(connection: Connection, map_id: int, **values: Any) -> None:
    _old(connection, "huge_maps", host_id=1, pid=1000, map_id=map_id, page_order=9, gone=packed(), **values)


@pytest.mark.unmigrated
def test_pages_and_promises_move_to_files(settings: Settings) -> None:
    database = Database(settings)
    with database.migrating() as connection:
        config = migrate.config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0006")
        _old(connection, "hosts", id=1, name="lab", default_order=9)
        _old(connection, "tasks", host_id=1, pid=1000, next_map_id=3, policy_nodes=[], runs=packed())
        _old_map(connection, 0, count=6, pages=packed((0, 70), (2, 71)), reserved=packed((3, 2)))
        _old_map(connection, 1, count=4, shared=True, pages=packed((0, 72)), reserved=packed((1, 3)))
        _old_map(connection, 2, count=5, noreserve=True, pages=packed(), reserved=packed())
        for path in ("/dev/hugepages/a", "/mnt/x/b"):
            _old(connection, "files", host_id=1, path=path, page_order=9, count=2, pages=packed((0, 73)),
                 reserved=packed(), gone=packed())  # fmt: skip
    migrate.upgrade(database)
    with database.reading() as connection:
        maps = [huge_rows.huge_map_of(row) for row in connection.execute(select(t.huge_maps)).all()]
        files = [huge_rows.file_of(row) for row in connection.execute(select(t.hugetlbfs_files)).all()]
        mounts = connection.execute(select(t.hugetlbfs_mounts.c.mount_id, t.hugetlbfs_mounts.c.path)).all()
        host = connection.execute(select(t.hosts)).one()
        assert connection.execute(select(t.cgroups.c.path)).scalars().all() == [""]
    private, shared, noreserve = sorted(maps, key=lambda mapping: mapping.map_id)
    assert (private.owner, private.promised, private.pages) == (True, 2, {0: 70, 2: 71})
    assert (shared.owner, shared.pages, shared.file_id) == (False, {}, 3)
    assert (noreserve.owner, noreserve.promised) == (False, 0)
    of_files = {file.file_id: (file.path, file.mount, file.size, file.promised, file.pages) for file in files}
    assert of_files == {
        1: ("/dev/hugepages/a", 1, 2, 0, {0: 73}),
        2: ("/mnt/x/b", 2, 2, 0, {0: 73}),
        3: (None, 0, 4, 3, {0: 72}),
    }
    assert [tuple(row) for row in mounts] == [(1, "/dev/hugepages"), (2, "/mnt/x")]
    assert (host.next_file_id, host.next_mount_id) == (4, 3)
    database.close()
