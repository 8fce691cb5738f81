"""The order of free pageblocks on the lists of the buddy."""

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    op.add_column("sections", sa.Column("first_free_stamp", sa.BigInteger(), nullable=True))
    op.add_column("sections", sa.Column("free_stamps", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    op.drop_column("sections", "free_stamps")
    op.drop_column("sections", "first_free_stamp")
