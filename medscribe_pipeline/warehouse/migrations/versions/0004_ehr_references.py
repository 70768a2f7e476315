# noqa: INP001  # Alembic runs it by its path; it is no module of the package
"""Who and where on each target: patients, clinicians and encounters found there or linked by hand."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Frozen here on purpose: a migration must not change when `tables.py` does.
utc_datetime = sa.DateTime(timezone=True).with_variant(sa.String(32), "sqlite")


def upgrade() -> None:
    """Adds the table of references."""
    op.create_table(
        "ehr_references",
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("target", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False, comment="Patient, Practitioner or Encounter."),
        sa.Column(
            "system",
            sa.String(255),
            nullable=False,
            comment="Identifier system; by-time: an encounter known by its visit.",
        ),
        sa.Column(
            "value",
            sa.String(255),
            nullable=False,
            comment="Identifier, or a hash of patient and time of the visit.",
        ),
        sa.Column("state", sa.String(16), nullable=False, comment="found, missing, ambiguous or refused."),
        sa.Column("server_id", sa.String(64), comment="Logical id on the target, when found."),
        sa.Column("subject_id", sa.String(64), comment="Logical id of the patient an encounter was found to be of."),
        sa.Column("origin", sa.String(16), nullable=False, comment="search, or link: entered by a person."),
        sa.Column("looked_at", utc_datetime, nullable=False),
        sa.PrimaryKeyConstraint("account", "target", "kind", "system", "value", name=op.f("pk_ehr_references")),
        comment="Who and where of our notes on each target.",
    )


def downgrade() -> None:
    """Refused: a warehouse only moves forward; restore a backup instead."""
    raise NotImplementedError
