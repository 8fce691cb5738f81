"""virtio-mem devices, and the memory blocks that they have plugged."""

import sqlalchemy as sa
from alembic import op

revision: str = "0012"
down_revision: str | None = "0011"
branch_labels: None = None
depends_on: None = None

COUNTS = ("start_pfn", "nr_pages", "block_pages", "unit_pages", "requested_pages")


def _whose(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["host_id"], ["hosts.id"], name=op.f(f"fk_{table}_host_id_hosts"), ondelete="CASCADE"
    )


def upgrade() -> None:
    op.create_table(
        "virtio_mem",
        sa.Column("host_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("node", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in COUNTS),
        sa.Column("timer_s", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        _whose("virtio_mem"),
        sa.PrimaryKeyConstraint("host_id", "name", name=op.f("pk_virtio_mem")),
    )
    op.create_table(
        "virtio_mem_blocks",
        sa.Column("host_id", sa.Integer(), nullable=False),
        sa.Column("block", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("plugged", sa.Text(), nullable=False),
        _whose("virtio_mem_blocks"),
        sa.PrimaryKeyConstraint("host_id", "block", name=op.f("pk_virtio_mem_blocks")),
    )


def downgrade() -> None:
    op.drop_table("virtio_mem_blocks")
    op.drop_table("virtio_mem")
