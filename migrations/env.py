"""Alembic's entry: runs the migrations on the connection that it is handed, or on the URL of alembic.ini."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, create_engine

from server.store.tables import Table


def run(connection: Connection) -> None:
    """Run all wanted migrations in one transaction (a batch on SQLite, which cannot alter in place)."""
    context.configure(
        connection=connection, target_metadata=Table.metadata, render_as_batch=True, transactional_ddl=True
    )
    with context.begin_transaction():
        context.run_migrations()


handed: Connection | None = context.config.attributes.get("connection")
if handed is not None:
    run(handed)
else:
    with create_engine(context.config.get_main_option("sqlalchemy.url") or "").begin() as made:
        run(made)
