"""Orders, the facts that decide which are open, deals, categories, and how far each chain was read."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ADDRESS = sa.LargeBinary(20)
_HASH = sa.LargeBinary(32)


def _required(name: str, type_: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=False)


def upgrade() -> None:
    op.create_table(
        "orders",
        _required("chain_id", sa.BigInteger()),
        _required("order_hash", _HASH),
        _required("kind", sa.String(16)),
        _required("signer", _ADDRESS),
        _required("document", sa.Text()),
        _required("remaining", sa.BigInteger()),
        _required("status", sa.String(8)),
        _required("blocks", sa.Integer()),
        _required("published", sa.BigInteger()),
        _required("expires", sa.BigInteger()),
        sa.PrimaryKeyConstraint("chain_id", "order_hash"),
    )
    op.create_index("orders_by_status", "orders", ["chain_id", "status"])
    op.create_table(
        "stakes",
        _required("chain_id", sa.BigInteger()),
        _required("wallet", _ADDRESS),
        _required("stake", sa.BigInteger()),
        _required("read_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("chain_id", "wallet"),
    )
    op.create_table(
        "owners",
        _required("chain_id", sa.BigInteger()),
        _required("resource", _ADDRESS),
        _required("owner", _ADDRESS),
        _required("read_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("chain_id", "resource"),
    )
    op.create_table(
        "deals",
        _required("chain_id", sa.BigInteger()),
        _required("deal_id", _HASH),
        _required("block_number", sa.BigInteger()),
        _required("category", sa.BigInteger()),
        *(
            _required(name, _ADDRESS)
            for name in (
                "requester",
                "beneficiary",
                "app",
                "dataset",
                "workerpool",
                "app_owner",
                "dataset_owner",
                "workerpool_owner",
            )
        ),
        *(
            _required(name, _HASH)
            for name in ("apporder_hash", "datasetorder_hash", "workerpoolorder_hash", "requestorder_hash")
        ),
        _required("document", sa.Text()),
        sa.PrimaryKeyConstraint("chain_id", "deal_id"),
    )
    op.create_index("deals_by_block", "deals", ["chain_id", "block_number"])
    op.create_index("deals_by_requester", "deals", ["chain_id", "requester", "block_number"])
    op.create_index("deals_by_category", "deals", ["chain_id", "category", "block_number"])
    op.create_table(
        "categories",
        _required("chain_id", sa.BigInteger()),
        _required("category", sa.BigInteger()),
        _required("timeref", sa.BigInteger()),
        _required("document", sa.Text()),
        sa.PrimaryKeyConstraint("chain_id", "category"),
    )
    op.create_table(
        "cursors",
        sa.Column("chain_id", sa.BigInteger(), primary_key=True, autoincrement=False),
        _required("hub", _ADDRESS),
        _required("start_block", sa.BigInteger()),
        sa.Column("block_number", sa.BigInteger()),
        sa.Column("block_hash", _HASH),
        sa.Column("block_time", sa.BigInteger()),
    )


def downgrade() -> None:
    for table in ("cursors", "categories", "deals", "owners", "stakes", "orders"):
        op.drop_table(table)
