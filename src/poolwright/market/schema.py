"""The tables of the marketplace, the same on SQLite and PostgreSQL; `migrations/` makes and changes them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

METADATA: Final = MetaData()

ORDERS: Final = Table(
    "orders",
    METADATA,
    Column("chain_id", BigInteger, nullable=False),
    Column("order_hash", LargeBinary(32), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("signer", LargeBinary(20), nullable=False),
    Column("document", Text, nullable=False),
    Column("remaining", BigInteger, nullable=False),
    Column("status", String(8), nullable=False),
    Column("blocks", Integer, nullable=False),
    Column("published", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("read_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("chain_id", "order_hash"),
    Index("orders_by_status", "chain_id", "status"),
    Index("orders_by_reading", "chain_id", "read_at"),
)
"""Every published order but those that were unpublished; `document` is the signed order's JSON, `read_at` the
block at which `remaining` was last found on the chain."""

STAKES: Final = Table(
    "stakes",
    METADATA,
    Column("chain_id", BigInteger, nullable=False),
    Column("wallet", LargeBinary(20), nullable=False),
    Column("stake", BigInteger, nullable=False),
    Column("read_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("chain_id", "wallet"),
)
"""Free stake in nRLC of wallets that have, or had, orders; `read_at` is the block of the reading."""

OWNERS: Final = Table(
    "owners",
    METADATA,
    Column("chain_id", BigInteger, nullable=False),
    Column("resource", LargeBinary(20), nullable=False),
    Column("owner", LargeBinary(20), nullable=False),
    Column("read_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("chain_id", "resource"),
)
"""Owners of resources that have, or had, orders."""

MEMBERS: Final = Table(
    "members",
    METADATA,
    Column("chain_id", BigInteger, nullable=False),
    Column("restriction", LargeBinary(20), nullable=False),
    Column("account", LargeBinary(20), nullable=False),
    Column("membership", Integer, nullable=False),
    Column("read_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("chain_id", "restriction", "account"),
)
"""What restrictions answered about accounts (ERC-734), where a published request depends on it: 0 for no
answer, 1 for an outsider, 2 for a member."""

DEALS: Final = Table(
    "deals",
    METADATA,
    Column("chain_id", BigInteger, nullable=False),
    Column("deal_id", LargeBinary(32), nullable=False),
    Column("block_number", BigInteger, nullable=False),
    Column("category", BigInteger, nullable=False),
    *(
        Column(name, LargeBinary(20), nullable=False)
        for name in ("requester", "beneficiary", "app", "dataset", "workerpool")
    ),
    *(
        Column(name, LargeBinary(20), nullable=False)
        for name in ("app_owner", "dataset_owner", "workerpool_owner")
    ),
    *(
        Column(name, LargeBinary(32), nullable=False)
        for name in ("apporder_hash", "datasetorder_hash", "workerpoolorder_hash", "requestorder_hash")
    ),
    Column("document", Text, nullable=False),
    PrimaryKeyConstraint("chain_id", "deal_id"),
    Index("deals_by_block", "chain_id", "block_number"),
    Index("deals_by_requester", "chain_id", "requester", "block_number"),
    Index("deals_by_category", "chain_id", "category", "block_number"),
)

CATEGORIES: Final = Table(
    "categories",
    METADATA,
    Column("chain_id", BigInteger, nullable=False),
    Column("category", BigInteger, nullable=False),
    Column("timeref", BigInteger, nullable=False),
    Column("block_number", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
    PrimaryKeyConstraint("chain_id", "category"),
)

CURSORS: Final = Table(
    "cursors",
    METADATA,
    Column("chain_id", BigInteger, primary_key=True, autoincrement=False),
    Column("hub", LargeBinary(20), nullable=False),
    Column("start_block", BigInteger, nullable=False),
    Column("block_number", BigInteger),
    Column("block_hash", LargeBinary(32)),
    Column("block_time", BigInteger),
    Column("number", BigInteger, nullable=False),
    Column("term", BigInteger, nullable=False),
    Column("leader", String(128), nullable=False),
    Column("lease_until", BigInteger, nullable=False),
)
"""Which hub a chain's rows are of, up to which block its logs are in the other tables, the number of its last
change, and which process follows the chain: its term, its name, and until when (milliseconds since 1970 by
the database's clock). Who changes anything of a chain holds this row locked."""

CHANGES: Final = Table(
    "changes",
    METADATA,
    Column("chain_id", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    PrimaryKeyConstraint("chain_id", "number"),
)
"""The last changes of each chain's book in the order of their commits, for the other processes and for who
listens; a change has the numbers from `first` to `number`, one for each piece of its news."""

PASSED: Final = Table(
    "passed_blocks",
    METADATA,
    Column("chain_id", BigInteger, nullable=False),
    Column("block_number", BigInteger, nullable=False),
    Column("block_hash", LargeBinary(32), nullable=False),
    Column("block_time", BigInteger, nullable=False),
    PrimaryKeyConstraint("chain_id", "block_number"),
)
"""Where the cursor was: the first block and the last ones, to find back to when the chain is reorganised."""

CHALLENGES: Final = Table(
    "challenges",
    METADATA,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("chain_id", BigInteger, nullable=False),
    Column("wallet", LargeBinary(20), nullable=False),
    Column("good_until", BigInteger, nullable=False),
    Index("challenges_by_end", "good_until"),
)
"""Challenges that were given and not used yet."""
