"""Who made a change: the name of the token that was used."""

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    op.add_column("events", sa.Column("made_by", sa.String(64), nullable=True))


def downgrade() -> None:
    op.drop_column("events", "made_by")
