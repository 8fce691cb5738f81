"""Areas of the contiguous memory allocator, and poisoned pages."""

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    op.create_table(
        "cma_areas",
        sa.Column("host_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("base_pfn", sa.BigInteger(), nullable=False),
        sa.Column("nr_pages", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_id"], ["hosts.id"], name=op.f("fk_cma_areas_host_id_hosts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("host_id", "name", name=op.f("pk_cma_areas")),
    )
    op.add_column("hosts", sa.Column("poisoned_pages", sa.BigInteger(), server_default="0", nullable=False))
    for table in ("huge_maps", "files"):
        op.add_column(table, sa.Column("poisoned", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    for table in ("huge_maps", "files"):
        op.drop_column(table, "poisoned")
    op.drop_column("hosts", "poisoned_pages")
    op.drop_table("cma_areas")
