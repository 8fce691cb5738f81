"""Whether gigantic pages come out of the areas for them alone (``hugetlb_cma_only=``)."""

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    op.add_column(
        "hosts", sa.Column("hugetlb_cma_only", sa.Boolean(), nullable=False, server_default=sa.false())
    )


def downgrade() -> None:
    op.drop_column("hosts", "hugetlb_cma_only")
