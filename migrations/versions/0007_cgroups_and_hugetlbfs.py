"""Files of huge pages apart from the mappings of them, hugetlbfs mounts, cgroups and what is charged to them."""

import zlib
from typing import Any

import numpy as np
import sqlalchemy as sa
from alembic import context, op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: None = None
depends_on: None = None

DEFAULT_MOUNT = "/dev/hugepages"
Rows = list[dict[str, Any]]


# -- integers in BLOBs, as the store packs them at this revision --------------------------------------------


def _pack(rows: list[list[int]], columns: int) -> bytes:
    words = np.array(rows, np.int64).reshape(-1, columns)
    return zlib.compress(np.diff(words, axis=0, prepend=0).astype("<i8").tobytes(), 1)


def _unpack(blob: bytes) -> list[list[int]]:
    words = np.frombuffer(zlib.decompress(blob), "<i8").reshape(-1, 2)
    rows: list[list[int]] = np.cumsum(words, axis=0, dtype=np.int64).tolist()
    return rows


def _indexes(blob: bytes) -> set[int]:
    return {index for first, count in _unpack(blob) for index in range(first, first + count)}


def _regions(indexes: set[int]) -> list[list[int]]:
    regions: list[list[int]] = []
    for index in sorted(indexes):
        if regions and regions[-1][1] == index:
            regions[-1][1] = index + 1
        else:
            regions.append([index, index + 1, 0])
    return regions


# -- tables -------------------------------------------------------------------------------------------------


def _whose(table: str) -> tuple[sa.Column[Any], sa.ForeignKeyConstraint]:
    key = sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], f"fk_{table}_host_id_hosts", ondelete="CASCADE")
    return sa.Column("host_id", sa.Integer(), nullable=False), key


def _number(name: str, kind: Any = sa.BigInteger) -> sa.Column[Any]:
    return sa.Column(name, kind(), nullable=False)


def _table(name: str, keys: tuple[str, ...], *columns: Any) -> sa.Table:
    whose, foreign = _whose(name)
    primary = sa.PrimaryKeyConstraint("host_id", *keys, name=f"pk_{name}")
    return op.create_table(name, whose, *columns, foreign, primary)


def _new_huge_maps() -> sa.Table:
    return op.create_table(
        "huge_maps",
        *(_number(name, sa.Integer) for name in ("host_id", "pid", "map_id", "page_order")),
        _number("count"),
        _number("shared", sa.Boolean),
        _number("noreserve", sa.Boolean),
        sa.Column("file_id", sa.Integer()),
        _number("offset"),
        _number("owner", sa.Boolean),
        _number("cgroup", sa.Integer),
        _number("killed", sa.Boolean),
        _number("nr_touched"),
        _number("nr_reserved"),
        _number("pages", sa.LargeBinary),
        _number("consumed", sa.LargeBinary),
        sa.Column("file_pages", sa.LargeBinary()),
        _number("gone", sa.LargeBinary),
        sa.Column("poisoned", sa.LargeBinary()),
        sa.ForeignKeyConstraint(
            ["host_id", "pid"],
            ["tasks.host_id", "tasks.pid"],
            "fk_huge_maps_host_id_pid_tasks",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("host_id", "pid", "map_id", name="pk_huge_maps"),
    )


def _new_tables() -> tuple[sa.Table, sa.Table]:
    mounts = _table("hugetlbfs_mounts", ("mount_id",), _number("mount_id", sa.Integer), _number("path", sa.Text),
                    _number("page_order", sa.Integer), *map(_number, ("max", "min", "used", "rsv")))  # fmt: skip
    files = _table("hugetlbfs_files", ("file_id",), _number("file_id", sa.Integer), sa.Column("path", sa.Text()),
                   _number("mount", sa.Integer), _number("page_order", sa.Integer), _number("size"),
                   _number("segment", sa.Boolean), _number("nr_pages"), _number("nr_reserved"),
                   _number("pages", sa.LargeBinary), _number("regions", sa.LargeBinary),
                   sa.Column("poisoned", sa.LargeBinary()))  # fmt: skip
    cgroups = _table("cgroups", ("path",), _number("path", sa.Text), _number("cgroup_id", sa.Integer),
                     _number("subtree_control", sa.Boolean))  # fmt: skip
    _new_hugetlb_cgroups()
    _table("page_charges", ("pages", "reservations", "mount"),
           *(_number(name, sa.Integer) for name in ("pages", "reservations", "mount")), _number("nr_pages"),
           _number("heads", sa.LargeBinary))  # fmt: skip
    op.execute(sa.insert(cgroups).from_select(
        ["host_id", "path", "cgroup_id", "subtree_control"],
        sa.select(sa.column("id"), sa.literal(""), sa.literal(0), sa.false()).select_from(sa.table("hosts")),
    ))  # fmt: skip
    return mounts, files


def _new_hugetlb_cgroups() -> None:
    _table("hugetlb_cgroups", ("cgroup_id",), _number("cgroup_id", sa.Integer), _number("parent", sa.Integer),
           _number("path", sa.Text), _number("online", sa.Boolean))  # fmt: skip
    op.create_table(
        "hugetlb_cgroup_sizes",
        *(_number(name, sa.Integer) for name in ("host_id", "cgroup_id", "page_order")),
        _number("pages"),
        sa.Column("pages_max", sa.BigInteger()),
        *map(_number, ("pages_failcnt", "reservations")),
        sa.Column("reservations_max", sa.BigInteger()),
        *map(_number, ("reservations_failcnt", "events", "events_local")),
        sa.ForeignKeyConstraint(
            ["host_id", "cgroup_id"],
            ["hugetlb_cgroups.host_id", "hugetlb_cgroups.cgroup_id"],
            "fk_hugetlb_cgroup_sizes_host_id_cgroup_id_hugetlb_cgroups",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("host_id", "cgroup_id", "page_order", name="pk_hugetlb_cgroup_sizes"),
    )


def _more_columns() -> None:
    for name in ("next_file_id", "next_mount_id", "next_cgroup_id"):
        op.add_column("hosts", sa.Column(name, sa.Integer(), nullable=False, server_default="1"))
    op.add_column("hosts", sa.Column("hugetlb_shm_group", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("hstates", sa.Column("resv_drift", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("tasks", sa.Column("cgroup", sa.Text(), nullable=False, server_default=""))
    op.add_column("tasks", sa.Column("parent", sa.Integer()))
    op.add_column("tasks", sa.Column("shares", sa.BigInteger(), nullable=False, server_default="0"))


# -- rows ---------------------------------------------------------------------------------------------------


class _Hosts:
    """What is numbered within a host: its files and mounts."""

    def __init__(self, hosts: Rows) -> None:
        self.mounts = {host["id"]: {DEFAULT_MOUNT: (1, host["default_order"])} for host in hosts}
        self.files: dict[int, Rows] = {host["id"]: [] for host in hosts}

    def mount_of(self, host: int, path: str, order: int) -> int:
        """The mount of a file, made where it lay on none."""
        mounts = self.mounts[host]
        folder = path.rpartition("/")[0] or "/"
        if folder.startswith(DEFAULT_MOUNT) and mounts[DEFAULT_MOUNT][1] == order:
            return 1
        return mounts.setdefault(folder, (len(mounts) + 1, order))[0]

    def add_file(self, row: dict[str, Any], path: str | None, mount: int) -> int:
        """A file with the pages and promises of an old row."""
        pages = _unpack(row["pages"])
        inside = {index for index, _ in pages} | _indexes(row["reserved"])
        files = self.files[row["host_id"]]
        files.append({
            "host_id": row["host_id"], "file_id": len(files) + 1, "path": path, "mount": mount,
            "page_order": row["page_order"], "size": row["count"], "segment": False, "nr_pages": len(pages),
            "nr_reserved": len(inside) - len(pages), "pages": row["pages"], "regions": _pack(_regions(inside), 3),
            "poisoned": row["poisoned"],
        })  # fmt: skip
        return len(files)


def _new_map(row: dict[str, Any], hosts: _Hosts) -> dict[str, Any]:
    shared, owner = bool(row["shared"]), not (row["shared"] or row["noreserve"])
    used = set(range(row["count"])) - _indexes(row["reserved"]) if owner else set()
    kept = ("host_id", "pid", "map_id", "page_order", "count", "shared", "noreserve", "gone")
    return {
        **{name: row[name] for name in kept}, "offset": 0, "cgroup": 0, "killed": False, "owner": owner,
        "file_id": hosts.add_file(row, None, 0) if shared else None,
        "nr_touched": 0 if shared else row["nr_touched"], "nr_reserved": row["nr_reserved"] if owner else 0,
        "pages": _pack([], 2) if shared else row["pages"], "consumed": _pack(_regions(used), 3),
        "poisoned": None if shared else row["poisoned"],
    }  # fmt: skip


def _all(connection: sa.Connection, table: str) -> Rows:
    found = sa.Table(table, sa.MetaData(), autoload_with=connection)
    return [dict(row._mapping) for row in connection.execute(sa.select(found)).all()]  # noqa: SLF001


def upgrade() -> None:
    offline = context.is_offline_mode()  # only the statements are wanted: there are no rows
    connection = op.get_bind()
    old_maps, old_files, old_hosts = (
        [] if offline else _all(connection, table) for table in ("huge_maps", "files", "hosts")
    )
    op.drop_table("huge_maps")
    op.drop_table("files")
    maps = _new_huge_maps()
    mounts, files = _new_tables()
    _more_columns()
    if offline:
        return
    hosts = _Hosts(old_hosts)
    for row in old_files:
        mount = hosts.mount_of(row["host_id"], row["path"], row["page_order"])
        hosts.add_file(row, row["path"], mount)
    op.bulk_insert(maps, [_new_map(row, hosts) for row in old_maps])
    op.bulk_insert(files, [row for rows in hosts.files.values() for row in rows])
    op.bulk_insert(mounts, [
        {"host_id": host, "mount_id": number, "path": path, "page_order": order, "max": -1, "min": -1, "used": 0,
         "rsv": 0}
        for host, of_host in hosts.mounts.items()
        for path, (number, order) in of_host.items()
    ])  # fmt: skip
    table = sa.table("hosts", *map(sa.column, ("id", "next_file_id", "next_mount_id")))
    for host in old_hosts:
        number = host["id"]
        numbers = {
            "next_file_id": len(hosts.files[number]) + 1,
            "next_mount_id": len(hosts.mounts[number]) + 1,
        }
        connection.execute(sa.update(table).where(table.c.id == number).values(numbers))


def downgrade() -> None:
    """Back to mappings that hold their pages.  What only files and cgroups know is lost."""
    for column in ("shares", "parent", "cgroup"):
        op.drop_column("tasks", column)
    op.drop_column("hstates", "resv_drift")
    for column in ("hugetlb_shm_group", "next_cgroup_id", "next_mount_id", "next_file_id"):
        op.drop_column("hosts", column)
    for table in (
        "page_charges",
        "hugetlb_cgroup_sizes",
        "hugetlb_cgroups",
        "cgroups",
        "hugetlbfs_files",
        "hugetlbfs_mounts",
        "huge_maps",
    ):
        op.drop_table(table)
    _old_tables()


def _old_columns() -> list[sa.Column[Any]]:
    return [
        _number("page_order", sa.Integer),
        _number("count"),
        _number("shared", sa.Boolean),
        _number("noreserve", sa.Boolean),
        *map(_number, ("start", "nr_touched", "nr_reserved")),
        *(_number(name, sa.LargeBinary) for name in ("pages", "reserved", "gone")),
        sa.Column("poisoned", sa.LargeBinary()),
    ]


def _old_tables() -> None:
    op.create_table(
        "huge_maps",
        *(_number(name, sa.Integer) for name in ("host_id", "pid", "map_id")),
        sa.Column("path", sa.Text()),
        *_old_columns(),
        sa.ForeignKeyConstraint(
            ["host_id", "pid"],
            ["tasks.host_id", "tasks.pid"],
            "fk_huge_maps_host_id_pid_tasks",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("host_id", "pid", "map_id", name="pk_huge_maps"),
    )
    _table("files", ("path",), _number("path", sa.Text), _number("map_id", sa.Integer), *_old_columns())
