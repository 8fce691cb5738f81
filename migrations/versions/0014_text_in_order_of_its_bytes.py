"""Text that rows are put in order by: PostgreSQL compares it by its bytes, as SQLite always did."""

import sqlalchemy as sa
from alembic import op

revision: str = "0014"
down_revision: str | None = "0013"
branch_labels: None = None
depends_on: None = None

COLUMNS = (
    ("hosts", "name", sa.String, 63),
    ("cgroups", "path", sa.Text, None),
    ("virtio_mem", "name", sa.String, 64),
    ("faults", "point", sa.String, 32),
    ("labels", "key", sa.String, 63),
)


def _collate(collation: str) -> None:
    if op.get_context().dialect.name != "postgresql":
        return
    for table, column, kind, length in COLUMNS:
        op.alter_column(table, column, type_=kind(length, collation=collation), existing_nullable=False)


def upgrade() -> None:
    _collate("C")


def downgrade() -> None:
    _collate("default")
