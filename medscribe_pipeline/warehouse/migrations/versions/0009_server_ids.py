# noqa: INP001  # Alembic runs it by its path; it is no module of the package
"""Deliveries found by the id a server gave, so that no two notes share one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the index of server ids."""
    given = sa.text("server_id IS NOT NULL")
    op.create_index(
        "ix_deliveries_server_id",
        "deliveries",
        ["account", "target", "server_id"],
        unique=False,
        sqlite_where=given,
        postgresql_where=given,
    )


def downgrade() -> None:
    """Refused: a warehouse only moves forward; restore a backup instead."""
    raise NotImplementedError
