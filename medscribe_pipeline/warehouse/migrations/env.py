# noqa: INP001  # Alembic runs it by its path; it is no module of the package
"""Alembic's entry point: migrates over the connection `migrate.upgrade` hands in."""

from __future__ import annotations

from alembic import context

from medscribe_pipeline.warehouse.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
