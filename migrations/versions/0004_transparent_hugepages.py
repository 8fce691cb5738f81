"""Whether a host was booted with transparent huge pages; the boot id, which nothing used, goes."""

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    op.add_column("hosts", sa.Column("thp", sa.Boolean(), nullable=False, server_default=sa.true()))
    hosts = sa.table("hosts", sa.column("cmdline", sa.Text), sa.column("thp", sa.Boolean))
    never = hosts.c.cmdline.like("%transparent\\_hugepage=never%", escape="\\")
    op.execute(hosts.update().where(never).values(thp=False))
    op.drop_column("hosts", "boot_id")


def downgrade() -> None:
    op.add_column("hosts", sa.Column("boot_id", sa.Text(), nullable=False, server_default=""))
    op.drop_column("hosts", "thp")
