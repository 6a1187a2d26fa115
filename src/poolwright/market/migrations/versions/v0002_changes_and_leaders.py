"""Changes by number, leaders by term, challenges, and what a reorganisation must look at again."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    now = str(int(time.time() * 1000))
    op.add_column("orders", sa.Column("read_at", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_index("orders_by_reading", "orders", ["chain_id", "read_at"])
    op.add_column(
        "categories", sa.Column("block_number", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.add_column("cursors", sa.Column("number", sa.BigInteger(), nullable=False, server_default=now))
    op.add_column("cursors", sa.Column("term", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("cursors", sa.Column("leader", sa.String(128), nullable=False, server_default=""))
    op.add_column("cursors", sa.Column("lease_until", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "changes",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "number"),
    )
    op.create_table(
        "passed_blocks",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("block_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("block_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "block_number"),
    )
    op.execute(
        "INSERT INTO passed_blocks SELECT chain_id, block_number, block_hash, block_time FROM cursors "
        "WHERE block_number IS NOT NULL"
    )
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    op.create_table(
        "challenges",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("wallet", sa.LargeBinary(20), nullable=False),
        sa.Column("good_until", sa.BigInteger(), nullable=False),
        prefixes=["UNLOGGED"] if is_postgresql else [],  # a crash may lose them; a client asks for another
    )
    op.create_index("challenges_by_end", "challenges", ["good_until"])


def downgrade() -> None:
    for table in ("challenges", "passed_blocks", "changes"):
        op.drop_table(table)
    op.drop_index("orders_by_reading", "orders")
    for table, column in (
        ("cursors", "lease_until"),
        ("cursors", "leader"),
        ("cursors", "term"),
        ("cursors", "number"),
        ("categories", "block_number"),
        ("orders", "read_at"),
    ):
        op.drop_column(table, column)
