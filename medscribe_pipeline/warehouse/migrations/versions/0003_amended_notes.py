# noqa: INP001  # Alembic runs it by its path; it is no module of the package
"""Amended notes: what a note changed after its validation, how its text reads, the specialty of its visit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds columns to visits, notes and sections."""
    op.add_column(
        "visits",
        sa.Column("specialty", sa.String(64), comment="Medical specialty of the visit, as a key of the FHIR mapping."),
    )
    op.add_column("notes", sa.Column("specialty", sa.String(64)))
    # NULL until the note is mapped again, which the new mapping asks for by itself.
    op.add_column("notes", sa.Column("text_hash", sa.String(64), comment="Hash of title and sections alone."))
    op.add_column(
        "notes",
        sa.Column("amends", sa.String(64), comment="The validated version whose text this one changed afterwards."),
    )
    op.add_column(
        "note_sections",
        sa.Column("format", sa.String(16), nullable=False, server_default="text", comment="text or markdown."),
    )


def downgrade() -> None:
    """Refused: a warehouse only moves forward; restore a backup instead."""
    raise NotImplementedError
