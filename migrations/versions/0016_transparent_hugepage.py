"""What was written to the files of transparent huge pages."""

import sqlalchemy as sa
from alembic import op

revision: str = "0016"
down_revision: str | None = "0015"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    op.add_column("hosts", sa.Column("transparent_hugepage", sa.JSON(), server_default="{}", nullable=False))


def downgrade() -> None:
    op.drop_column("hosts", "transparent_hugepage")
