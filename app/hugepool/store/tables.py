"""The tables.  They carry the machine and can be read with plain SQL.

Words: a ``section`` is 128 MiB, a ``block`` of ``memory_blocks`` one or more sections, ``page_order`` 9 is a
huge page of 2 MiB and 18 one of 1 GiB, ``pfn`` counts pages of 4 KiB.  Times in columns ``*_ns`` are
nanoseconds since 1970, other times RFC 3339 text in UTC.  The layout of every BLOB is documented where it is
packed: ``sections.py`` and ``packing.py``.
"""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    true,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from hugepool.mm.machine.units import ULONG_MAX

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


# Many rows that are written often: SQLite keeps them in the tree of their key, not in a second one.
BY_KEY: dict[str, Any] = {"sqlite_with_rowid": False}


class UnsignedLong(TypeDecorator[int]):
    """An unsigned long of the kernel, 0..2**64-1, in a signed 64-bit column: two's complement.

    Everyday values read as they are; 2**64 - n reads as -n.
    """

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Into the column."""
        if value is None:
            return None
        return value - (1 << 64) if value >> 63 else value

    def process_result_value(self, value: int | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Out of the column."""
        return None if value is None else value & ULONG_MAX


def _whose() -> Column[Any]:
    return Column("host_id", ForeignKey("hosts.id", ondelete="CASCADE"), primary_key=True)


def _count(name: str, type_: Any = BigInteger) -> Column[Any]:
    return Column(name, type_, nullable=False)


hosts = Table(
    "hosts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(63), nullable=False),
    Column("kernel", String(16), nullable=False),
    Column("cmdline", Text, nullable=False),
    _count("seed"),
    _count("revision"),
    Column("created_at", String(32), nullable=False),
    _count("last_event_id"),
    _count("nr_sections", Integer),
    _count("memory_block_pages"),
    _count("min_free_kbytes"),
    _count("user_min_free_kbytes"),
    _count("watermark_scale_factor", Integer),
    _count("percpu_pagelist_high_fraction", Integer),
    Column("lowmem_reserve_ratio", JSON, nullable=False),
    _count("default_order", Integer),
    Column("optimize_enabled", Boolean, nullable=False),
    Column("vmemmap_supported", Boolean, nullable=False),
    Column("movable_node", Boolean, nullable=False),
    Column("memmap_on_memory", Boolean, nullable=False),
    Column("auto_online_blocks", String(16), nullable=False),
    Column("thp", Boolean, nullable=False, server_default=true()),
    Column("hugetlb_cma_only", Boolean, nullable=False, server_default=false()),
    Column("deferred_mode", String(16), nullable=False),
    _count("next_pid"),
    _count("next_stamp"),
    _count("next_range_id"),
    Column("next_file_id", Integer, nullable=False, server_default="1"),
    Column("next_mount_id", Integer, nullable=False, server_default="1"),
    Column("next_cgroup_id", Integer, nullable=False, server_default="1"),
    Column("hugetlb_shm_group", BigInteger, nullable=False, server_default="0"),
    Column("poisoned_pages", BigInteger, nullable=False, server_default="0"),
    Column("last_splat_ns", BigInteger),
    Column("more_state", JSON, nullable=False),  # plain fields of the engine's Host without a column here
    Column(
        "state_seal", String(32)
    ),  # sums over rows of the host: see seal.py; null: made before a migration
    Column("row_seal", BigInteger),
    UniqueConstraint("name"),
    sqlite_autoincrement=True,  # an id is never given out twice, as on other databases
)

# Apart from hosts, because a changed revision rewrites its whole row.
carried = Table("carried", metadata, _whose(), Column("carried", JSON, nullable=False))

counters = Table(
    "counters",
    metadata,
    _whose(),
    Column("name", String(64), primary_key=True),
    _count("position", Integer),
    _count("value", UnsignedLong),
)

nodes = Table(
    "nodes",
    metadata,
    _whose(),
    Column("node", Integer, primary_key=True),
    Column("cpus", JSON, nullable=False),
    Column("distance", JSON, nullable=False),
)

zones = Table(
    "zones",
    metadata,
    _whose(),
    Column("zone", Integer, primary_key=True),
    _count("node", Integer),
    _count("type", Integer),
    Column("name", String(16), nullable=False),
    *(
        _count(c)
        for c in (
            "start_pfn",
            "spanned",
            "present",
            "managed",
            "nr_free",
            "nr_pcp",
            "pageset_pages",
            "min",
            "low",
            "high",
        )
    ),
    Column("lowmem_reserve", JSON, nullable=False),
    _count("cma"),
    Column("below_high", Boolean, nullable=False),
)

# The lists of one CPU for one zone: what they hold together, and what the kernel remembers of their use.
cpu_pages = Table(
    "cpu_pages",
    metadata,
    _whose(),
    Column("zone", Integer, primary_key=True),
    Column("cpu", Integer, primary_key=True),
    *(_count(c) for c in ("count", "free_factor", "free_count", "alloc_factor", "high")),
)

# One list: the first pages of its free blocks, the head last.
cpu_lists = Table(
    "cpu_lists",
    metadata,
    _whose(),
    Column("zone", Integer, primary_key=True),
    Column("cpu", Integer, primary_key=True),
    Column("list", Integer, primary_key=True),
    _count("nr_blocks", Integer),
    Column("pfns", LargeBinary, nullable=False),
)

sections = Table(
    "sections",
    metadata,
    _whose(),
    Column("section", Integer, primary_key=True),
    Column("state", String(8), nullable=False),  # online, offline, absent
    Column("node", Integer),
    Column("zone", Integer),  # null: its pageblocks lie in several zones, see blocks
    Column("mapping", String(3)),  # pmd, pte; null: no vmemmap
    Column("hot_added", Boolean, nullable=False),
    _count("free_pages", Integer),
    _count("optimized_hugepages", Integer),
    Column("vmemmap_pfn", BigInteger),  # first of its 512 vmemmap frames
    Column("page_table_pfn", BigInteger),
    Column("blocks", LargeBinary),  # use, migratetype, flags of 64 pageblocks; null: all free and movable
    Column("pages", LargeBinary),  # use of every page of its mixed pageblocks
    Column("page_table", LargeBinary),  # 512 PTEs; null: none, or regular
    Column("first_stamp", BigInteger),
    Column("stamps", LargeBinary),  # order of its free huge pages on their free lists; null: it has none
    Column("first_free_stamp", BigInteger),
    Column("free_stamps", LargeBinary),  # order of its free pageblocks on the buddy's lists; null: as booted
    **BY_KEY,
)

memory_blocks = Table(
    "memory_blocks",
    metadata,
    _whose(),
    Column("block", Integer, primary_key=True),
    Column("state", String(8), nullable=False),  # online, offline
    Column("node", Integer),
    _count("start_pfn"),
    _count("nr_pages"),
    **BY_KEY,
)

hstates = Table(
    "hstates",
    metadata,
    _whose(),
    Column("page_order", Integer, primary_key=True),
    _count("position", Integer),
    Column("size", String(16), nullable=False),
    _count("nr_free_vmemmap_pages"),
    _count("max_huge_pages", UnsignedLong),
    _count("nr_huge_pages"),
    _count("free_huge_pages"),
    _count("resv_huge_pages"),
    _count("surplus_huge_pages"),
    _count("nr_overcommit_huge_pages", UnsignedLong),
    _count("next_nid_to_alloc", Integer),
    _count("next_nid_to_free", Integer),
    _count("nr_optimized"),
    Column("resv_drift", BigInteger, nullable=False, server_default="0"),
)

hstate_nodes = Table(
    "hstate_nodes",
    metadata,
    Column("host_id", Integer, primary_key=True),
    Column("page_order", Integer, primary_key=True),
    Column("node", Integer, primary_key=True),
    _count("nr_huge_pages"),
    _count("free_huge_pages"),
    _count("surplus_huge_pages"),
    ForeignKeyConstraint(
        ["host_id", "page_order"], ["hstates.host_id", "hstates.page_order"], ondelete="CASCADE"
    ),
)

tasks = Table(
    "tasks",
    metadata,
    _whose(),
    Column("pid", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("comm", Text, nullable=False),
    Column("policy_mode", String(16), nullable=False),
    Column("policy_nodes", JSON, nullable=False),
    _count("cpu", Integer),
    Column("mlock", Boolean, nullable=False),
    Column("node", Integer),
    _count("next_map_id", Integer),
    _count("nr_pages"),
    Column("runs", LargeBinary, nullable=False),  # (first pfn, count) rows
    Column("cgroup", Text, nullable=False, server_default=""),
    Column("parent", Integer),
    Column("shares", BigInteger, nullable=False, server_default="0"),
)


huge_maps = Table(
    "huge_maps",
    metadata,
    Column("host_id", Integer, primary_key=True),
    Column("pid", Integer, primary_key=True),
    Column("map_id", Integer, primary_key=True),
    _count("page_order", Integer),
    _count("count"),
    Column("shared", Boolean, nullable=False),
    Column("noreserve", Boolean, nullable=False),
    Column("file_id", Integer),  # null: private anonymous memory
    _count("offset"),
    Column("owner", Boolean, nullable=False),  # it made its own reservation
    _count("cgroup", Integer),  # whose reservations it is charged to
    Column("killed", Boolean, nullable=False),
    _count("nr_touched"),
    _count("nr_reserved"),
    Column("pages", LargeBinary, nullable=False),  # (index, first pageblock) rows, in the order touched
    Column("consumed", LargeBinary, nullable=False),  # (first index, end, 0) rows
    Column("file_pages", LargeBinary),  # (first index, count) rows; null: none
    Column("gone", LargeBinary, nullable=False),  # the same
    Column("poisoned", LargeBinary),  # the same; null: none
    ForeignKeyConstraint(["host_id", "pid"], ["tasks.host_id", "tasks.pid"], ondelete="CASCADE"),
)

hugetlbfs_mounts = Table(
    "hugetlbfs_mounts",
    metadata,
    _whose(),
    Column("mount_id", Integer, primary_key=True),
    Column("path", Text, nullable=False),
    _count("page_order", Integer),
    _count("max"),  # -1: no size=
    _count("min"),  # -1: no min_size=
    _count("used"),
    _count("rsv"),  # reserved in the pool for the minimum
)

hugetlbfs_files = Table(
    "hugetlbfs_files",
    metadata,
    _whose(),
    Column("file_id", Integer, primary_key=True),
    Column("path", Text),  # null: unlinked, or it never had a name
    _count("mount", Integer),  # 0: the kernel's own
    _count("page_order", Integer),
    _count("size"),
    Column("segment", Boolean, nullable=False),
    _count("nr_pages"),
    _count("nr_reserved"),
    Column("pages", LargeBinary, nullable=False),  # (index, first pageblock) rows, in the order touched
    Column("regions", LargeBinary, nullable=False),  # (first index, end, cgroup) rows: promised or there
    Column("poisoned", LargeBinary),  # (first index, count) rows; null: none
)

cgroups = Table(
    "cgroups",
    metadata,
    _whose(),
    Column("path", Text, primary_key=True),  # the root: empty
    _count("cgroup_id", Integer),  # 0: the controller is off, or the root
    Column("subtree_control", Boolean, nullable=False),
)

# One that was removed stays while it is charged.
hugetlb_cgroups = Table(
    "hugetlb_cgroups",
    metadata,
    _whose(),
    Column("cgroup_id", Integer, primary_key=True),
    _count("parent", Integer),  # 0: the root
    Column("path", Text, nullable=False),
    Column("online", Boolean, nullable=False),
)

hugetlb_cgroup_sizes = Table(
    "hugetlb_cgroup_sizes",
    metadata,
    Column("host_id", Integer, primary_key=True),
    Column("cgroup_id", Integer, primary_key=True),
    Column("page_order", Integer, primary_key=True),
    _count("pages"),
    Column("pages_max", BigInteger),  # null: no limit
    _count("pages_failcnt"),
    _count("reservations"),
    Column("reservations_max", BigInteger),
    _count("reservations_failcnt"),
    _count("events"),
    _count("events_local"),
    ForeignKeyConstraint(
        ["host_id", "cgroup_id"],
        ["hugetlb_cgroups.host_id", "hugetlb_cgroups.cgroup_id"],
        ondelete="CASCADE",
    ),
)

page_charges = Table(
    "page_charges",
    metadata,
    _whose(),
    Column("pages", Integer, primary_key=True),  # the cgroup charged, 0: the root or none
    Column("reservations", Integer, primary_key=True),
    Column("mount", Integer, primary_key=True),
    _count("nr_pages"),
    Column("heads", LargeBinary, nullable=False),  # (first pageblock of a huge page, count of them) rows
)

contig_ranges = Table(
    "contig_ranges",
    metadata,
    _whose(),
    Column("range_id", Integer, primary_key=True),
    _count("start_pfn"),
    _count("end_pfn"),  # the first page behind the range
)
cma_areas = Table(
    "cma_areas",
    metadata,
    _whose(),
    Column("name", String(64), primary_key=True),
    _count("base_pfn"),
    _count("nr_pages"),
)
deferred_frees = Table(
    "deferred_frees",
    metadata,
    _whose(),
    Column("stamp", BigInteger, primary_key=True),  # rising: the queue's order
    _count("pfn"),
    _count("page_order", Integer),
)

faults = Table(
    "faults",
    metadata,
    _whose(),
    Column("point", String(32), primary_key=True),
    _count("probability", Integer),
    _count("interval", Integer),
    _count("times", Integer),
    _count("space", Integer),
    _count("count"),
    _count("failures"),
    _count("state", UnsignedLong),
)

# The deferred-free worker's own row for every host: who drains it, and how it went.
worker_claims = Table(
    "worker_claims",
    metadata,
    _whose(),
    Column("owner", String(64)),
    _count("claimed_until_ns"),
    _count("failures", Integer),
    _count("retry_at_ns"),
    Column("last_error", Text),
)

events = Table(
    "events",
    metadata,
    _whose(),
    Column("id", Integer, primary_key=True),  # 1, 2, 3 ... within the host
    _count("revision"),
    Column("time", String(32), nullable=False),
    Column("made_by", String(64)),  # name of the token that was used; null: none, or the service itself
    Column("type", String(64), nullable=False),
    Column("data", JSON, nullable=False),
    Column("seal", BigInteger),  # sum over the row: see seal.py; null: made before a migration
    **BY_KEY,
)

# Figures of a host at each revision, packed by ``fs.figures``; ``cause``: the event that made it.
history = Table(
    "history",
    metadata,
    _whose(),
    Column("revision", BigInteger, primary_key=True),
    _count("at_ns"),
    Column("cause", String(64), nullable=False),
    Column("figures", LargeBinary, nullable=False),
    Column("seal", BigInteger),
    **BY_KEY,
)

# Every change of every host in one order; no foreign key, so that a deleted host's changes stay.
changes = Table(
    "changes",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    _count("host_id", Integer),
    Column("name", String(63), nullable=False),
    _count("revision"),
    _count("at_ns"),
    Column("cause", String(64), nullable=False),
    Column("seal", BigInteger),
    sqlite_autoincrement=True,  # a number is never given out twice
)

labels = Table(
    "labels",
    metadata,
    _whose(),
    Column("key", String(63), primary_key=True),
    Column("value", String(63), nullable=False),
    Column("seal", BigInteger),  # sum over all labels of the host
    Index(None, "key", "value"),
    **BY_KEY,
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("key", String(255), primary_key=True),
    Column("fingerprint", Text, nullable=False),
    _count("expires_ns"),
    Column("reply", JSON, nullable=False),
    Column("seal", BigInteger),
    Index(None, "expires_ns"),
)
