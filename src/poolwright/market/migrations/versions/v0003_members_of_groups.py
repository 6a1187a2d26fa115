"""Who belongs to the groups that orders restrict themselves to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "members",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("restriction", sa.LargeBinary(20), nullable=False),
        sa.Column("account", sa.LargeBinary(20), nullable=False),
        sa.Column("membership", sa.Integer(), nullable=False),
        sa.Column("read_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "restriction", "account"),
    )


def downgrade() -> None:
    op.drop_table("members")
