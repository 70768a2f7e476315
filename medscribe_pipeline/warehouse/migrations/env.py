# noqa: INP001  # Alembic runs it by its path; it is no module of the package
"""Alembic's entry point: migrates over the connection `migrate.upgrade` hands in."""

from __future__ import annotations

from alembic import context

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.warehouse.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    try:
        context.run_migrations()
    except NotImplementedError:
        # What `downgrade` of every migration of ours raises.
        raise ConfigError(
            "A warehouse only moves forward, so nothing was changed; to go back, restore the backup made before the "
            "upgrade, with the program it was made with",
            code="no_downgrade",
        ) from None
