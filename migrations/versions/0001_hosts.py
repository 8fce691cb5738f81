"""The tables of hosts, their history, and stored answers."""

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    op.create_table(
        "hosts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("kernel", sa.String(length=16), nullable=False),
        sa.Column("cmdline", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("last_event_id", sa.BigInteger(), nullable=False),
        sa.Column("nr_sections", sa.Integer(), nullable=False),
        sa.Column("memory_block_pages", sa.BigInteger(), nullable=False),
        sa.Column("min_free_kbytes", sa.BigInteger(), nullable=False),
        sa.Column("user_min_free_kbytes", sa.BigInteger(), nullable=False),
        sa.Column("watermark_scale_factor", sa.Integer(), nullable=False),
        sa.Column("percpu_pagelist_high_fraction", sa.Integer(), nullable=False),
        sa.Column("lowmem_reserve_ratio", sa.JSON(), nullable=False),
        sa.Column("default_order", sa.Integer(), nullable=False),
        sa.Column("optimize_enabled", sa.Boolean(), nullable=False),
        sa.Column("vmemmap_supported", sa.Boolean(), nullable=False),
        sa.Column("movable_node", sa.Boolean(), nullable=False),
        sa.Column("memmap_on_memory", sa.Boolean(), nullable=False),
        sa.Column("auto_online_blocks", sa.String(length=16), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.Column("deferred_mode", sa.String(length=16), nullable=False),
        sa.Column("next_pid", sa.BigInteger(), nullable=False),
        sa.Column("next_stamp", sa.BigInteger(), nullable=False),
        sa.Column("next_range_id", sa.BigInteger(), nullable=False),
        sa.Column("last_splat_ns", sa.BigInteger(), nullable=True),
        sa.Column("more_state", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hosts")),
        sa.UniqueConstraint("name", name=op.f("uq_hosts_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("expires_ns", sa.BigInteger(), nullable=False),
        sa.Column("reply", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_idempotency_keys")),
    )
    with op.batch_alter_table("idempotency_keys", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_idempotency_keys_expires_ns"), ["expires_ns"], unique=False)

    op.create_table(
        "carried",
        sa.Column("host_id", sa.Integer(), nullable=False),
        sa.Column("carried", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_id"], ["hosts.id"], name=op.f("fk_carried_host_id_hosts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("host_id", name=op.f("pk_carried")),
    )
    op.create_table(
        "contig_ranges",
        sa.Column("host_id", sa.Integer(), nullable=False),
        sa.Column("range_id", sa.Integer(), nullable=False),
        sa.Column("start_pfn", sa.BigInteger(), nullable=False),
        sa.Column("end_pfn", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_id"], ["hosts.id"], name=op.f("fk_contig_ranges_host_id_hosts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("host_id", "range_id", name=op.f("pk_contig_ranges")),
    )
    op.create_table(
        "counters",
        sa.Column("host_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_id"], ["hosts.id"], name=op.f("fk_counters_host_id_hosts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("host_id", "name", name=op.f("pk_counters")),
    )
    op.create_table(
        "deferred_frees",
        sa.Column("host_id", sa.Integer(), nullable=False),
        sa.Column("stamp", sa.BigInteger(), nullable=False),
        sa.Column("pfn", sa.BigInteger(), nullable=False),
        sa.Column("page_order", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_id"], ["hosts.id"], name=op.f("fk_deferred_frees_host_id_hosts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("host_id", "stamp", name=op.f("pk_deferred_frees")),
    )
    op.create_table(
        "events",
        sa.Column("host_id", sa.Integer(), nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("time", sa.String(length=32), nullable=False),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_id"], ["hosts.id"], name=op.f("fk_events_host_id_hosts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("host_id", "id", name=op.f("pk_events")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "faults",
        sa.Column("host_id", sa.Integer(), nullable=False),
        sa.Column("point", sa.String(length=32), nullable=False),
        sa.Column("probability", sa.Integer(), nullable=False),
        sa.Column("interval", sa.Integer(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("space", sa.Integer(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_id"], ["hosts.id"], name=op.f("fk_faults_host_id_hosts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("host_id", "point", name=op.f("pk_faults")),
    )
    op.create_table(
        "files",
        sa.Column("host_id", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("map_id", sa.Integer(), nullable=False),
        sa.Column("page_order", sa.Integer(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("noreserve", sa.Boolean(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("nr_touched", sa.BigInteger(), nullable=False),
        sa.Column("nr_reserved", sa.BigInteger(), nullable=False),
        sa.Column("pages", sa.LargeBinary(), nullable=False),
        sa.Column("reserved", sa.LargeBinary(), nullable=False),
        sa.Column("gone", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_id"], ["hosts.id"], name=op.f("fk_files_host_id_hosts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("host_id", "path", name=op.f("pk_files")),
    )
    op.create_table(
        "hstates",
        sa.Column("host_id", sa.Integer(), nullable=False),
        sa.Column("page_order", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("size", sa.String(length=16), nullable=False),
        sa.Column("nr_free_vmemmap_pages", sa.BigInteger(), nullable=False),
        sa.Column("max_huge_pages", sa.BigInteger(), nullable=False),
        sa.Column("nr_huge_pages", sa.BigInteger(), nullable=False),
        sa.Column("free_huge_pages", sa.BigInteger(), nullable=False),
        sa.Column("resv_huge_pages", sa.BigInteger(), nullable=False),
        sa.Column("surplus_huge_pages", sa.BigInteger(), nullable=False),
        sa.Column("nr_overcommit_huge_pages", sa.BigInteger(), nullable=False),
        sa.Column("next_nid_to_alloc", sa.Integer(), nullable=False),
        sa.Column("next_nid_to_free", sa.Integer(), nullable=False),
        sa.Column("nr_optimized", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_id"], ["hosts.id"], name=op.f("fk_hstates_host_id_hosts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("host_id", "page_order", name=op.f("pk_hstates")),
    )
    op.create_table(
        "memory_blocks",
        sa.Column("host_id", sa.Integer(), nullable=False),
        sa.Column("block", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("node", sa.Integer(), nullable=True),
        sa.Column("start_pfn", sa.BigInteger(), nullable=False),
        sa.Column("nr_pages", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_id"], ["hosts.id"], name=op.f("fk_memory_blocks_host_id_hosts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("host_id", "block", name=op.f("pk_memory_blocks")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "nodes",
        sa.Column("host_id", sa.Integer(), nullable=False),
        sa.Column("node", sa.Integer(), nullable=False),
        sa.Column("cpus", sa.JSON(), nullable=False),
        sa.Column("distance", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_id"], ["hosts.id"], name=op.f("fk_nodes_host_id_hosts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("host_id", "node", name=op.f("pk_nodes")),
    )
    op.create_table(
        "sections",
        sa.Column("host_id", sa.Integer(), nullable=False),
        sa.Column("section", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("node", sa.Integer(), nullable=True),
        sa.Column("zone", sa.Integer(), nullable=True),
        sa.Column("mapping", sa.String(length=3), nullable=True),
        sa.Column("hot_added", sa.Boolean(), nullable=False),
        sa.Column("free_pages", sa.Integer(), nullable=False),
        sa.Column("optimized_hugepages", sa.Integer(), nullable=False),
        sa.Column("vmemmap_pfn", sa.BigInteger(), nullable=True),
        sa.Column("page_table_pfn", sa.BigInteger(), nullable=True),
        sa.Column("blocks", sa.LargeBinary(), nullable=True),
        sa.Column("pages", sa.LargeBinary(), nullable=True),
        sa.Column("page_table", sa.LargeBinary(), nullable=True),
        sa.Column("first_stamp", sa.BigInteger(), nullable=True),
        sa.Column("stamps", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["host_id"], ["hosts.id"], name=op.f("fk_sections_host_id_hosts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("host_id", "section", name=op.f("pk_sections")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tasks",
        sa.Column("host_id", sa.Integer(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("comm", sa.Text(), nullable=False),
        sa.Column("policy_mode", sa.String(length=16), nullable=False),
        sa.Column("policy_nodes", sa.JSON(), nullable=False),
        sa.Column("cpu", sa.Integer(), nullable=False),
        sa.Column("mlock", sa.Boolean(), nullable=False),
        sa.Column("node", sa.Integer(), nullable=True),
        sa.Column("next_map_id", sa.Integer(), nullable=False),
        sa.Column("nr_pages", sa.BigInteger(), nullable=False),
        sa.Column("runs", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_id"], ["hosts.id"], name=op.f("fk_tasks_host_id_hosts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("host_id", "pid", name=op.f("pk_tasks")),
    )
    op.create_table(
        "worker_claims",
        sa.Column("host_id", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=True),
        sa.Column("claimed_until_ns", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("retry_at_ns", sa.BigInteger(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["host_id"], ["hosts.id"], name=op.f("fk_worker_claims_host_id_hosts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("host_id", name=op.f("pk_worker_claims")),
    )
    op.create_table(
        "zones",
        sa.Column("host_id", sa.Integer(), nullable=False),
        sa.Column("zone", sa.Integer(), nullable=False),
        sa.Column("node", sa.Integer(), nullable=False),
        sa.Column("type", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.Column("start_pfn", sa.BigInteger(), nullable=False),
        sa.Column("spanned", sa.BigInteger(), nullable=False),
        sa.Column("present", sa.BigInteger(), nullable=False),
        sa.Column("managed", sa.BigInteger(), nullable=False),
        sa.Column("nr_free", sa.BigInteger(), nullable=False),
        sa.Column("nr_pcp", sa.BigInteger(), nullable=False),
        sa.Column("nr_cached", sa.BigInteger(), nullable=False),
        sa.Column("min", sa.BigInteger(), nullable=False),
        sa.Column("low", sa.BigInteger(), nullable=False),
        sa.Column("high", sa.BigInteger(), nullable=False),
        sa.Column("lowmem_reserve", sa.JSON(), nullable=False),
        sa.Column("cma", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_id"], ["hosts.id"], name=op.f("fk_zones_host_id_hosts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("host_id", "zone", name=op.f("pk_zones")),
    )
    op.create_table(
        "hstate_nodes",
        sa.Column("host_id", sa.Integer(), nullable=False),
        sa.Column("page_order", sa.Integer(), nullable=False),
        sa.Column("node", sa.Integer(), nullable=False),
        sa.Column("nr_huge_pages", sa.BigInteger(), nullable=False),
        sa.Column("free_huge_pages", sa.BigInteger(), nullable=False),
        sa.Column("surplus_huge_pages", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_id", "page_order"],
            ["hstates.host_id", "hstates.page_order"],
            name=op.f("fk_hstate_nodes_host_id_page_order_hstates"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("host_id", "page_order", "node", name=op.f("pk_hstate_nodes")),
    )
    op.create_table(
        "huge_maps",
        sa.Column("host_id", sa.Integer(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("map_id", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("page_order", sa.Integer(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("noreserve", sa.Boolean(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("nr_touched", sa.BigInteger(), nullable=False),
        sa.Column("nr_reserved", sa.BigInteger(), nullable=False),
        sa.Column("pages", sa.LargeBinary(), nullable=False),
        sa.Column("reserved", sa.LargeBinary(), nullable=False),
        sa.Column("gone", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_id", "pid"],
            ["tasks.host_id", "tasks.pid"],
            name=op.f("fk_huge_maps_host_id_pid_tasks"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("host_id", "pid", "map_id", name=op.f("pk_huge_maps")),
    )


def downgrade() -> None:
    op.drop_table("huge_maps")
    op.drop_table("hstate_nodes")
    op.drop_table("zones")
    op.drop_table("worker_claims")
    op.drop_table("tasks")
    op.drop_table("sections")
    op.drop_table("nodes")
    op.drop_table("memory_blocks")
    op.drop_table("hstates")
    op.drop_table("files")
    op.drop_table("faults")
    op.drop_table("events")
    op.drop_table("deferred_frees")
    op.drop_table("counters")
    op.drop_table("contig_ranges")
    op.drop_table("carried")
    with op.batch_alter_table("idempotency_keys", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_idempotency_keys_expires_ns"))

    op.drop_table("idempotency_keys")
    op.drop_table("hosts")
