# noqa: INP001  # Alembic runs it by its path; it is no module of the package
"""The first schema: landed records, notes, FHIR documents, deliveries, quarantine."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Frozen here on purpose: a migration must not change when `tables.py` does.
utc_datetime = sa.DateTime(timezone=True).with_variant(sa.String(32), "sqlite")
json = sa.Text().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Creates all tables."""
    op.create_table(
        "change_counter",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False, comment="Always 1."),
        sa.Column("value", sa.BigInteger(), nullable=False, comment="Last change_seq given out."),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_change_counter")),
        comment="One row. Raised inside the transaction that lands rows: its row lock makes change_seq follow commits.",
    )
    op.create_table(
        "deliveries",
        sa.Column("target", sa.String(64), nullable=False),
        sa.Column("note_id", sa.String(36), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False, comment="Composition or DocumentReference."),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("visit_day", sa.Date(), nullable=False),
        sa.Column("source_seq", sa.BigInteger(), nullable=False, comment="Orders the versions of a note."),
        sa.Column(
            "state",
            sa.String(16),
            nullable=False,
            comment="planned, claimed, sent, delivered, rejected, unknown or held.",
        ),
        sa.Column("reason", sa.String(64), nullable=True, comment="Why it is held, rejected or unknown."),
        sa.Column("server_id", sa.String(64), nullable=True, comment="Logical id of the resource on the target."),
        sa.Column("etag", sa.String(64), nullable=True, comment="ETag of the version we wrote."),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column(
            "outcome_codes",
            json,
            nullable=True,
            comment="HTTP status and OperationOutcome codes of the last answer; never its diagnostics.",
        ),
        sa.Column("claimed_by", sa.String(64), nullable=True, comment="Worker that holds it; see warehouse/locks.py."),
        sa.Column("claimed_at", utc_datetime, nullable=True),
        sa.Column("sent_at", utc_datetime, nullable=True),
        sa.Column("settled_at", utc_datetime, nullable=True),
        sa.PrimaryKeyConstraint("target", "note_id", "kind", "version", name=op.f("pk_deliveries")),
        comment="The delivery ledger: one row for each version of each document and target.",
    )
    op.create_index("ix_deliveries_day", "deliveries", ["account", "target", "visit_day", "state"], unique=False)
    op.create_table(
        "notes",
        sa.Column("note_id", sa.String(36), nullable=False),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("stream", sa.String(64), nullable=False),
        sa.Column("source_id", sa.String(255), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("visit_day", sa.Date(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False, comment="draft, validated, retracted or failed."),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("language", sa.String(64), nullable=True),
        sa.Column("template", sa.String(64), nullable=True),
        sa.Column("patient_system", sa.String(255), nullable=True),
        sa.Column("patient_id", sa.String(255), nullable=True),
        sa.Column("practitioner", json, nullable=True, comment="Identifiers of the clinician."),
        sa.Column("encounter_system", sa.String(255), nullable=True),
        sa.Column("encounter_id", sa.String(255), nullable=True),
        sa.Column("started_at", utc_datetime, nullable=True),
        sa.Column("ended_at", utc_datetime, nullable=True),
        sa.Column("created_at", utc_datetime, nullable=True),
        sa.Column("updated_at", utc_datetime, nullable=True),
        sa.Column("validated_at", utc_datetime, nullable=True),
        sa.Column("has_text", sa.Boolean(), nullable=False, comment="Whether any section holds a word."),
        sa.Column("version", sa.String(64), nullable=False, comment="Hash of the source content."),
        sa.Column(
            "source_seq",
            sa.BigInteger(),
            nullable=False,
            comment="change_seq it was mapped from; an older one never overwrites.",
        ),
        sa.Column("mapped_at", utc_datetime, nullable=False),
        sa.PrimaryKeyConstraint("note_id", name=op.f("pk_notes")),
        sa.UniqueConstraint("account", "provider", "stream", "source_id", "kind", name=op.f("uq_notes_account")),
        comment="The normalised notes, newest version.",
    )
    op.create_index("ix_notes_day", "notes", ["account", "visit_day"], unique=False)
    op.create_table(
        "oauth_tokens",
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column(
            "seed_hash",
            sa.String(64),
            nullable=False,
            comment="Hash of the configured refresh token this chain began with.",
        ),
        sa.Column("refresh_token", sa.Text(), nullable=False, comment="Secret: the next single-use refresh token."),
        sa.Column("access_token", sa.Text(), nullable=False, comment="Secret."),
        sa.Column("expires_at", utc_datetime, nullable=False),
        sa.Column("rotated_at", utc_datetime, nullable=False),
        sa.PrimaryKeyConstraint("account", "provider", name=op.f("pk_oauth_tokens")),
        comment="Rotated OAuth tokens. Protect the warehouse as you protect the credentials themselves.",
    )
    op.create_table(
        "quarantine",
        sa.Column(
            "id",
            sa.String(36),
            nullable=False,
            comment="Derived from stage and source key: the same problem is one row.",
        ),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False, comment="extract, map or fhir."),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("stream", sa.String(64), nullable=False),
        sa.Column(
            "source_id",
            sa.String(255),
            nullable=False,
            comment="The provider's id, or a hash of the payload where it has none.",
        ),
        sa.Column("visit_day", sa.Date(), nullable=True),
        sa.Column("error_code", sa.String(64), nullable=False),
        sa.Column("field_paths", json, nullable=False),
        sa.Column("payload", json, nullable=True, comment="As received, for stage extract. Holds patient data."),
        sa.Column("payload_hash", sa.String(64), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("first_seen_at", utc_datetime, nullable=False),
        sa.Column("last_seen_at", utc_datetime, nullable=False),
        sa.Column("resolved_at", utc_datetime, nullable=True),
        sa.Column("run_id", sa.String(64), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quarantine")),
        comment="Records that could not go on, and why. Nothing is dropped.",
    )
    op.create_index("ix_quarantine_open", "quarantine", ["account", "resolved_at", "stage"], unique=False)
    op.create_table(
        "source_records",
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("stream", sa.String(64), nullable=False),
        sa.Column("source_id", sa.String(255), nullable=False, comment="The provider's own id."),
        sa.Column("payload", json, nullable=False, comment="As received, unknown fields included. Holds patient data."),
        sa.Column("content_hash", sa.String(64), nullable=False, comment="Hash of the payload."),
        sa.Column(
            "list_hash",
            sa.String(64),
            nullable=False,
            comment="Hash of the list item: an unchanged one is not asked for in detail.",
        ),
        sa.Column(
            "source_updated_at",
            utc_datetime,
            nullable=True,
            comment="When the provider says it changed; NULL where it does not say.",
        ),
        sa.Column("fetched_at", utc_datetime, nullable=False, comment="When the request that brought it was sent."),
        sa.Column(
            "visit_day", sa.Date(), nullable=False, comment="Local day of the visit: the partition it is built in."
        ),
        sa.Column(
            "parent_id",
            sa.String(255),
            nullable=True,
            comment="Source id of the audio an Askara note was written from.",
        ),
        sa.Column(
            "change_seq", sa.BigInteger(), nullable=False, comment="Rises with every landed change, in commit order."
        ),
        sa.Column("run_id", sa.String(64), nullable=True),
        sa.Column(
            "outcome",
            sa.String(16),
            nullable=True,
            comment="What mapping made of it: note, held, quarantined, part; NULL until mapped.",
        ),
        sa.Column("outcome_code", sa.String(64), nullable=True, comment="Why, for held and quarantined."),
        sa.Column("mapped_seq", sa.BigInteger(), nullable=True, comment="change_seq the outcome belongs to."),
        sa.Column(
            "mapped_with",
            sa.String(64),
            nullable=True,
            comment="Fingerprint of the mapping (code, data files, settings) the outcome belongs to.",
        ),
        sa.PrimaryKeyConstraint("account", "provider", "stream", "source_id", name=op.f("pk_source_records")),
        comment="Everything pulled, as it came.",
    )
    op.create_index(
        "ix_source_records_day", "source_records", ["account", "visit_day", "provider", "stream"], unique=False
    )
    op.create_index("ix_source_records_parent", "source_records", ["account", "provider", "parent_id"], unique=False)
    op.create_table(
        "sync_cursor_history",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("stream", sa.String(64), nullable=False),
        sa.Column("watermark", utc_datetime, nullable=True),
        sa.Column("signpost", sa.String(255), nullable=True),
        sa.Column("moved_at", utc_datetime, nullable=False),
        sa.Column("run_id", sa.String(64), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sync_cursor_history")),
        comment="One row for each sync that moved a cursor: where it stood when the sync ended.",
    )
    op.create_table(
        "sync_cursors",
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("stream", sa.String(64), nullable=False),
        sa.Column(
            "watermark",
            utc_datetime,
            nullable=True,
            comment="Everything the source changed up to here was surely seen.",
        ),
        sa.Column(
            "signpost", sa.String(255), nullable=True, comment="Source id of the newest record at the watermark."
        ),
        sa.Column("moved_at", utc_datetime, nullable=False),
        sa.Column("run_id", sa.String(64), nullable=True),
        sa.PrimaryKeyConstraint("account", "provider", "stream", name=op.f("pk_sync_cursors")),
        comment="How far each stream was read.",
    )
    op.create_table(
        "visit_days",
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("visit_day", sa.Date(), nullable=False),
        sa.Column("changed_seq", sa.BigInteger(), nullable=False, comment="Newest change_seq that touched this day."),
        sa.Column(
            "built_seq",
            sa.BigInteger(),
            nullable=False,
            comment="changed_seq the last complete build of the day saw; 0 before.",
        ),
        sa.Column(
            "built_with",
            sa.String(64),
            nullable=True,
            comment="Fingerprint of mapping, code tables and target of that build.",
        ),
        sa.PrimaryKeyConstraint("account", "visit_day", name=op.f("pk_visit_days")),
        comment="Which days are out of date: those with built_seq < changed_seq, or built with another fingerprint.",
    )
    op.create_table(
        "visits",
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("correlation_key", sa.String(255), nullable=False, comment="The provider's id of the recording."),
        sa.Column("patient_id", sa.String(255), nullable=True),
        sa.Column("patient_system", sa.String(255), nullable=True, comment="NULL: the provider's default system."),
        sa.Column("practitioner_id", sa.String(255), nullable=True),
        sa.Column("practitioner_system", sa.String(255), nullable=True),
        sa.Column("encounter_id", sa.String(255), nullable=True),
        sa.Column("encounter_system", sa.String(255), nullable=True),
        sa.Column("started_at", utc_datetime, nullable=True),
        sa.Column("ended_at", utc_datetime, nullable=True),
        sa.Column("language", sa.String(64), nullable=True),
        sa.Column("template", sa.String(64), nullable=True),
        sa.Column("imported_at", utc_datetime, nullable=False),
        sa.PrimaryKeyConstraint("account", "provider", "correlation_key", name=op.f("pk_visits")),
        comment="The visits manifest: who, where and when, for recordings whose provider does not say.",
    )
    op.create_table(
        "fhir_documents",
        sa.Column("note_id", sa.String(36), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False, comment="Composition or DocumentReference."),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("visit_day", sa.Date(), nullable=False),
        sa.Column("resource", json, nullable=False, comment="The FHIR R4 JSON."),
        sa.Column("version", sa.String(64), nullable=False, comment="Version of the note it was built from."),
        sa.Column("mapping_version", sa.String(64), nullable=False),
        sa.Column("source_seq", sa.BigInteger(), nullable=False),
        sa.Column("built_at", utc_datetime, nullable=False),
        sa.ForeignKeyConstraint(
            ["note_id"], ["notes.note_id"], name=op.f("fk_fhir_documents_note_id_notes"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("note_id", "kind", name=op.f("pk_fhir_documents")),
        comment="The FHIR documents of each note, newest version.",
    )
    op.create_index("ix_fhir_documents_day", "fhir_documents", ["account", "visit_day"], unique=False)
    op.create_table(
        "note_sections",
        sa.Column("note_id", sa.String(36), nullable=False),
        sa.Column("ordinal", sa.Integer(), autoincrement=False, nullable=False, comment="From 0, depth first."),
        sa.Column("parent_ordinal", sa.Integer(), nullable=True, comment="The section it is nested in, or NULL."),
        sa.Column(
            "key",
            sa.String(255),
            nullable=True,
            comment="Section key, as mapped or as received; NULL without a recognisable heading.",
        ),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["note_id"], ["notes.note_id"], name=op.f("fk_note_sections_note_id_notes"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("note_id", "ordinal", name=op.f("pk_note_sections")),
        comment="The sections of each note, in order.",
    )
    op.create_table(
        "transcripts",
        sa.Column("note_id", sa.String(36), nullable=False),
        sa.Column("turns", json, nullable=False, comment="List of {text, speaker, start_offset_ms, end_offset_ms}."),
        sa.ForeignKeyConstraint(
            ["note_id"], ["notes.note_id"], name=op.f("fk_transcripts_note_id_notes"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("note_id", name=op.f("pk_transcripts")),
        comment="What was said, where the provider gives it.",
    )
    op.execute("INSERT INTO change_counter (id, value) VALUES (1, 0)")


def downgrade() -> None:
    """Refused: a warehouse only moves forward; restore a backup instead."""
    raise NotImplementedError
