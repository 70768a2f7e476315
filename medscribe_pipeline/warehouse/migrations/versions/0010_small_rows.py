# noqa: INP001  # Alembic runs it by its path; it is no module of the package
"""Records whose rows stay small and are changed where they are; sections with an unknown heading found by an index."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds an index; on PostgreSQL, how records are stored that are written from now on.

    Each record is written twice, when it lands and when it is known what became of it. Payloads of more than some
    hundred bytes go to pages of their own, where the second time does not touch them, and half of each page is left for
    it, so that it touches no index either. Rows that are there stay as they are.
    """
    unknown = sa.text("key IS NULL AND title IS NOT NULL")
    op.create_index(
        "ix_note_sections_unknown",
        "note_sections",
        ["note_id"],
        unique=False,
        sqlite_where=unknown,
        postgresql_where=unknown,
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE source_records SET (toast_tuple_target = 512, fillfactor = 50)")


def downgrade() -> None:
    """Refused: a warehouse only moves forward; restore a backup instead."""
    raise NotImplementedError
