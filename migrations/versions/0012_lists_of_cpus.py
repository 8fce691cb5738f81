"""Free pages on the lists of CPUs, list by list; how many of them there were without their places goes."""

import sqlalchemy as sa
from alembic import op

revision: str = "0012"
down_revision: str | None = "0011"
branch_labels: None = None
depends_on: None = None

OWNER = ("host_id", "zone", "cpu")
COUNTERS = ("count", "free_factor", "free_count", "alloc_factor", "high")


def upgrade() -> None:
    op.create_table(
        "cpu_pages",
        sa.Column("host_id", sa.Integer(), sa.ForeignKey("hosts.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("zone", sa.Integer(), primary_key=True),
        sa.Column("cpu", sa.Integer(), primary_key=True),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in COUNTERS),
    )
    op.create_table(
        "cpu_lists",
        sa.Column("host_id", sa.Integer(), sa.ForeignKey("hosts.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("zone", sa.Integer(), primary_key=True),
        sa.Column("cpu", sa.Integer(), primary_key=True),
        sa.Column("list", sa.Integer(), primary_key=True),
        sa.Column("nr_blocks", sa.Integer(), nullable=False),
        sa.Column("pfns", sa.LargeBinary(), nullable=False),
    )
    op.add_column("zones", sa.Column("below_high", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("zones", sa.Column("pageset_pages", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute("UPDATE zones SET pageset_pages = managed")
    op.drop_column("zones", "nr_cached")


def downgrade() -> None:
    op.add_column("zones", sa.Column("nr_cached", sa.BigInteger(), nullable=False, server_default="0"))
    op.drop_column("zones", "pageset_pages")
    op.drop_column("zones", "below_high")
    op.drop_table("cpu_lists")
    op.drop_table("cpu_pages")
