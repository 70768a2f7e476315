# noqa: INP001  # Alembic runs it by its path; it is no module of the package
"""What was withdrawn, replaced, pruned and forgotten, and who looked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# Frozen here on purpose: a migration must not change when `tables.py` does.
utc_datetime = sa.DateTime(timezone=True).with_variant(sa.String(32), "sqlite")
json = sa.Text().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Adds three tables, and marks to records, notes and visits."""
    op.create_table(
        "notes_history",
        sa.Column("id", sa.Integer, sa.Identity(), nullable=False),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("note_id", sa.String(36), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("visit_day", sa.Date, nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("replaced_by", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attested", sa.Boolean),
        sa.Column("title", sa.Text),
        sa.Column("language", sa.String(64)),
        sa.Column("template", sa.String(64)),
        sa.Column("sections", json, nullable=False),
        sa.Column("transcript", json),
        sa.Column("source_seq", sa.BigInteger, nullable=False),
        sa.Column("created_at", utc_datetime),
        sa.Column("updated_at", utc_datetime),
        sa.Column("validated_at", utc_datetime),
        sa.Column("mapped_at", utc_datetime, nullable=False),
        sa.Column("replaced_at", utc_datetime, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notes_history")),
    )
    op.create_index("ix_notes_history_note", "notes_history", ["account", "note_id"], unique=False)
    op.create_index("ix_notes_history_age", "notes_history", ["account", "replaced_at"], unique=False)
    op.create_table(
        "sweep_sightings",
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("stream", sa.String(64), nullable=False),
        sa.Column("source_id", sa.String(255), nullable=False),
        sa.Column("first_missing_at", utc_datetime, nullable=False),
        sa.Column("last_missing_at", utc_datetime, nullable=False),
        sa.Column("confirmed_at", utc_datetime),
        sa.PrimaryKeyConstraint("account", "provider", "stream", "source_id", name=op.f("pk_sweep_sightings")),
    )
    op.create_table(
        "access_log",
        sa.Column("id", sa.Integer, sa.Identity(), nullable=False),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("at", utc_datetime, nullable=False),
        sa.Column("who", sa.String(64), nullable=False),
        sa.Column("what", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_log")),
    )
    op.create_index("ix_access_log_at", "access_log", ["account", "at"], unique=False)
    for table, column in (
        ("source_records", "gone_at"),
        ("source_records", "payload_removed_at"),
        ("source_records", "forgotten_at"),
        ("notes", "forgotten_at"),
        ("visits", "forgotten_at"),
    ):
        op.add_column(table, sa.Column(column, utc_datetime))


def downgrade() -> None:
    """Refused: a warehouse only moves forward; restore a backup instead."""
    raise NotImplementedError
