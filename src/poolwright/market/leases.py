"""Which process follows a chain: a lease in the chain's row, counted by terms.

Whoever finds the lease over takes it, and the term grows by one. The leader renews its lease while it lives;
when it dies, freezes or loses the database, the lease ends and another process goes on. A lease alone does
not keep a leader from writing late, its term does: each turn of the leader compares it (`turns`).

All times are the database's clock, so the processes' clocks need not agree.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import update

from poolwright.market.schema import CURSORS
from poolwright.market.storage import Storage

LEASE_SECONDS: Final = 3.0
RENEWED_EVERY: Final = 1.0
"""Seconds; a follower looks as often whether the lease is over."""


def take_lease(storage: Storage, chain_id: int, name: str) -> int | None:
    """The new term if nobody has a lease, else None. Raises StorageFailed."""
    now = storage.now()
    take = (
        update(CURSORS)
        .where(CURSORS.c.chain_id == chain_id, CURSORS.c.lease_until < now)
        .values(term=CURSORS.c.term + 1, leader=name[:128], lease_until=now + int(LEASE_SECONDS * 1000))
        .returning(CURSORS.c.term)
    )
    with storage.writing() as connection:
        term: int | None = connection.execute(take).scalar_one_or_none()
        return term


def renew_lease(storage: Storage, chain_id: int, term: int) -> bool:
    """Make the lease last longer; False when another process has taken the lead. Raises StorageFailed."""
    renew = (
        update(CURSORS)
        .where(CURSORS.c.chain_id == chain_id, CURSORS.c.term == term)
        .values(lease_until=storage.now() + int(LEASE_SECONDS * 1000))
    )
    with storage.writing() as connection:
        return connection.execute(renew).rowcount == 1


def release_lease(storage: Storage, chain_id: int, term: int) -> None:
    """End the lease now, so that another process need not wait. Raises StorageFailed."""
    release = (
        update(CURSORS).where(CURSORS.c.chain_id == chain_id, CURSORS.c.term == term).values(lease_until=0)
    )
    with storage.writing() as connection:
        connection.execute(release)
