"""Shares of the page cache, swap, and what happens when memory runs out."""

import sqlalchemy as sa
from alembic import op

revision: str = "0013"
down_revision: str | None = "0012"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    op.create_table(
        "page_cache",
        sa.Column("host_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("node", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("pages", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_id"], ["hosts.id"], name=op.f("fk_page_cache_host_id_hosts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("host_id", "position", name=op.f("pk_page_cache")),
    )
    op.add_column("hosts", sa.Column("swap_pages", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("hosts", sa.Column("oom", sa.String(length=16), server_default="refuse", nullable=False))
    op.add_column("tasks", sa.Column("swapped", sa.BigInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("tasks", "swapped")
    op.drop_column("hosts", "oom")
    op.drop_column("hosts", "swap_pages")
    op.drop_table("page_cache")
