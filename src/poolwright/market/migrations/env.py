"""How Alembic runs our migrations: on the connection that `market.storage` hands it, in its transaction."""

from __future__ import annotations

from alembic import context

from poolwright.market.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
