# noqa: INP001  # Alembic runs it by its path; it is no module of the package
"""Amended notes: what a note changed after its validation, how its text reads, the specialty of its visit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds columns to visits, notes and sections; documents come in more kinds."""
    op.add_column(
        "visits",
        sa.Column("specialty", sa.String(64), comment="Medical specialty of the visit, as a key of the FHIR mapping."),
    )
    op.add_column("notes", sa.Column("specialty", sa.String(64)))
    # NULL until the note is mapped again, which the new mapping asks for by itself.
    op.add_column(
        "notes",
        sa.Column("attested", sa.Boolean(), comment="Whether the provider says that a clinician signed it off."),
    )
    op.add_column(
        "notes",
        sa.Column(
            "validated_version", sa.String(64), comment="The last version with a validated text; NULL: none is known."
        ),
    )
    op.add_column("notes", sa.Column("text_hash", sa.String(64), comment="Hash of the words of validated_version."))
    op.add_column(
        "notes",
        sa.Column("amends", sa.String(64), comment="The validated version whose words validated_version changed."),
    )
    op.add_column(
        "note_sections",
        sa.Column("format", sa.String(16), nullable=False, server_default="text", comment="text or markdown."),
    )
    if op.get_context().dialect.supports_comments:
        op.alter_column(
            "fhir_documents",
            "kind",
            comment="Composition, DocumentReference, Provenance or Transcript (a DocumentReference of its own).",
            existing_comment="Composition or DocumentReference.",
            existing_type=sa.String(64),
            existing_nullable=False,
        )
        op.alter_column(
            "fhir_documents",
            "resource",
            comment="The FHIR JSON.",
            existing_comment="The FHIR R4 JSON.",
            existing_type=postgresql.JSONB(),
            existing_nullable=False,
        )


def downgrade() -> None:
    """Refused: a warehouse only moves forward; restore a backup instead."""
    raise NotImplementedError
