"""Seals of the changes of all hosts."""

import sqlalchemy as sa
from alembic import op

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    op.add_column("changes", sa.Column("seal", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("changes", "seal")
