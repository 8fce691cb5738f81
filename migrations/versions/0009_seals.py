"""Seals: sums that show whether rows are what was written."""

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    op.add_column("hosts", sa.Column("state_seal", sa.String(32), nullable=True))
    op.add_column("hosts", sa.Column("row_seal", sa.BigInteger(), nullable=True))
    op.add_column("events", sa.Column("seal", sa.BigInteger(), nullable=True))
    op.add_column("history", sa.Column("seal", sa.BigInteger(), nullable=True))
    op.add_column("labels", sa.Column("seal", sa.BigInteger(), nullable=True))
    op.add_column("idempotency_keys", sa.Column("seal", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("idempotency_keys", "seal")
    op.drop_column("labels", "seal")
    op.drop_column("history", "seal")
    op.drop_column("events", "seal")
    op.drop_column("hosts", "row_seal")
    op.drop_column("hosts", "state_seal")
