"""All tables of the warehouse, as SQLAlchemy Core.

Every key starts with the account, or with an id derived from it (`notes.stable_id`). Times are aware UTC
(`UtcDateTime`), days are local days in `MEDSCRIBE_TIMEZONE`. Column comments are the data dictionary: they
reach PostgreSQL as `COMMENT ON` and Dagster as column schema.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from medscribe_pipeline.notes import canonical_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Dialect

__all__ = [
    "access_log",
    "change_counter",
    "delivered_days",
    "deliveries",
    "ehr_references",
    "fhir_documents",
    "inbox",
    "metadata",
    "note_sections",
    "notes",
    "notes_history",
    "oauth_tokens",
    "quarantine",
    "rate_budgets",
    "scribe_jobs",
    "source_records",
    "sweep_sightings",
    "sync_cursor_history",
    "sync_cursors",
    "transcripts",
    "visit_days",
    "visits",
]


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """An aware UTC datetime; refuses naive ones.

    SQLite has no such type: there it is text of one fixed width in UTC, so that text order is time order.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Any]:
        """Text on SQLite, the database's own aware type elsewhere."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(sa.String(32))
        return dialect.type_descriptor(sa.DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Normalises to UTC on the way in."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("naive datetime for a UTC column")
        value = value.astimezone(UTC)
        # Not strftime: it writes the year 999 with three digits.
        return value.isoformat(timespec="microseconds") if dialect.name == "sqlite" else value

    def result_processor(self, dialect: Dialect, _coltype: object) -> Callable[[Any], datetime | None]:
        """Always an aware UTC datetime on the way out. One call a value, where a decorator's usual hook takes two."""
        return _of_text if dialect.name == "sqlite" else _in_utc


def _of_text(value: str | None) -> datetime | None:
    if value is None:
        return None
    moment = datetime.fromisoformat(value)
    # SQLite's own CURRENT_TIMESTAMP, the default of rows people insert, is UTC and does not say so.
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _in_utc(value: datetime | None) -> datetime | None:
    if value is None:
        return None
    # A database whose times have no zone was given UTC.
    return value.astimezone(UTC) if value.tzinfo is not None else value.replace(tzinfo=UTC)


class Json(sa.types.TypeDecorator[Any]):
    """JSON: `JSONB` on PostgreSQL, text elsewhere, in canonical form (see `notes.canonical_json`).

    Bytes, which no JSON value is, are taken for that form, made already.
    """

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Any]:
        """JSONB where there is one; its own serialiser is bypassed, we hand over text."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.JSONB(none_as_null=True))
        return dialect.type_descriptor(sa.Text())

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Python value to what the driver takes."""
        if value is None:
            return None
        if dialect.name == "postgresql":
            return value
        return (value if isinstance(value, bytes) else canonical_json(value)).decode()

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any] | None:
        """What the driver gives to Python value, where the driver does not do so itself; one call a value, too."""
        return super().result_processor(dialect, coltype) if dialect.name == "postgresql" else _of_json


def _of_json(value: str | None) -> Any:
    return None if value is None else orjson.loads(value)


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

ID = sa.String(36)  # a UUID as text: the same on every database, and readable in a query
NAME = sa.String(64)
KEY = sa.String(255)
HASH = sa.String(64)  # SHA-256, hex


change_counter = sa.Table(
    "change_counter",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False, comment="Always 1."),
    sa.Column("value", sa.BigInteger, nullable=False, comment="Last change_seq given out."),
    comment="One row. Raised inside the transaction that lands rows: its row lock makes change_seq follow commits.",
)

sync_cursors = sa.Table(
    "sync_cursors",
    metadata,
    sa.Column("account", NAME, primary_key=True),
    sa.Column("provider", NAME, primary_key=True),
    sa.Column("stream", NAME, primary_key=True),
    sa.Column("watermark", UtcDateTime, comment="Everything the source changed up to here was surely seen."),
    sa.Column("signpost", KEY, comment="Source id of the newest record at the watermark."),
    sa.Column("moved_at", UtcDateTime, nullable=False, comment="When it was written last."),
    sa.Column("run_id", NAME),
    comment="How far each stream was read. A row whose stream ends in `.complete` says until when it is complete: its "
    "watermark is the start of the newest sync that read it to the end.",
)

sync_cursor_history = sa.Table(
    "sync_cursor_history",
    metadata,
    sa.Column("id", sa.Integer, sa.Identity(), primary_key=True, comment="Counts up."),
    sa.Column("account", NAME, nullable=False),
    sa.Column("provider", NAME, nullable=False),
    sa.Column("stream", NAME, nullable=False),
    sa.Column("watermark", UtcDateTime, comment="As in sync_cursors."),
    sa.Column("signpost", KEY, comment="As in sync_cursors."),
    sa.Column("moved_at", UtcDateTime, nullable=False, comment="When the sync ended."),
    sa.Column("run_id", NAME),
    comment="One row for each sync that moved a cursor: where it stood when the sync ended.",
)

source_records = sa.Table(
    "source_records",
    metadata,
    sa.Column("account", NAME, primary_key=True),
    sa.Column("provider", NAME, primary_key=True),
    sa.Column("stream", NAME, primary_key=True),
    sa.Column("source_id", KEY, primary_key=True, comment="The provider's own id."),
    sa.Column("payload", Json, nullable=False, comment="As received, unknown fields included. Holds patient data."),
    sa.Column("content_hash", HASH, nullable=False, comment="Hash of the payload."),
    sa.Column(
        "list_hash", HASH, nullable=False, comment="Hash of the list item: an unchanged one is not asked for in detail."
    ),
    sa.Column(
        "source_updated_at", UtcDateTime, comment="When the provider says it changed; NULL where it does not say."
    ),
    sa.Column("fetched_at", UtcDateTime, nullable=False, comment="When the request that brought it was sent."),
    sa.Column("visit_day", sa.Date, nullable=False, comment="Local day of the visit: the partition it is built in."),
    sa.Column("parent_id", KEY, comment="Source id of the audio an Askara note was written from."),
    sa.Column("change_seq", sa.BigInteger, nullable=False, comment="Rises with every landed change, in commit order."),
    sa.Column("run_id", NAME),
    sa.Column(
        "outcome", sa.String(16), comment="What mapping made of it: note, held, quarantined, part; NULL until mapped."
    ),
    sa.Column("outcome_code", NAME, comment="Why, for held and quarantined."),
    sa.Column("mapped_seq", sa.BigInteger, comment="change_seq the outcome belongs to."),
    sa.Column(
        "mapped_with", NAME, comment="Fingerprint of the mapping (code, data files, settings) the outcome belongs to."
    ),
    sa.Column("gone_at", UtcDateTime, comment="Tombstone: when the provider was found to hold it no more."),
    sa.Column("payload_removed_at", UtcDateTime, comment="When the payload was removed; it is {} since."),
    sa.Column("forgotten_at", UtcDateTime, comment="Forgotten on request: never landed or mapped again."),
    sa.Index("ix_source_records_day", "account", "visit_day", "provider", "stream"),
    sa.Index("ix_source_records_parent", "account", "provider", "parent_id"),
    # Each is written twice: see the migration 0010.
    postgresql_with={"toast_tuple_target": 512, "fillfactor": 50},
    comment="Everything pulled, as it came.",
)

visit_days = sa.Table(
    "visit_days",
    metadata,
    sa.Column("account", NAME, primary_key=True),
    sa.Column("visit_day", sa.Date, primary_key=True),
    sa.Column("changed_seq", sa.BigInteger, nullable=False, comment="Newest change_seq that touched this day."),
    sa.Column(
        "built_seq",
        sa.BigInteger,
        nullable=False,
        comment="changed_seq the last complete build of the day saw; 0 before.",
    ),
    sa.Column("built_with", NAME, comment="Fingerprint of mapping, code tables and target of that build."),
    comment="Which days are out of date: those with built_seq < changed_seq, or built with another fingerprint.",
)


def _time_readable(column: str) -> sa.CheckConstraint:
    """On SQLite times are text and rows of `visits` come by SQL too: what is no time is refused where it is written.

    SQLite's own `datetime` takes 31 February and 24:00 for times, and an offset may lead out of the calendar.
    """
    text = (
        f"{column} GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*' AND {column} BETWEEN '1000' AND '9998'"
        f" AND datetime({column}) IS NOT NULL AND date(substr({column}, 1, 10), '+0 days') = substr({column}, 1, 10)"
        f" AND substr({column}, 12, 2) < '24'"
    )
    constraint = sa.CheckConstraint(f"{column} IS NULL OR ({text})", name=f"{column}_is_a_time")
    return constraint.ddl_if(dialect="sqlite")


visits = sa.Table(
    "visits",
    metadata,
    sa.Column("account", NAME, primary_key=True),
    sa.Column("provider", NAME, primary_key=True),
    sa.Column("correlation_key", KEY, primary_key=True, comment="The provider's id of the recording."),
    sa.Column("patient_id", KEY, comment="Identifier of the patient."),
    sa.Column("patient_system", KEY, comment="NULL: the provider's default system."),
    sa.Column("practitioner_id", KEY, comment="Identifier of the clinician."),
    sa.Column("practitioner_system", KEY, comment="NULL: the provider's default system."),
    sa.Column("encounter_id", KEY, comment="Identifier of the encounter."),
    sa.Column("encounter_system", KEY, comment="NULL: the provider's default system."),
    sa.Column("started_at", UtcDateTime, comment="When the visit began; decides its day."),
    sa.Column("ended_at", UtcDateTime, comment="When the visit ended."),
    sa.Column("language", NAME, comment="Language of the recording, as a BCP 47 tag."),
    sa.Column("template", NAME, comment="Template of the note to ask for."),
    sa.Column("audio_url", sa.Text, comment="Where the provider fetches the recording; makes the row a job."),
    sa.Column("audio_path", sa.Text, comment="The recording as a file of ours to upload; makes the row a job."),
    sa.Column(
        "section_style", NAME, comment="Style of the note's sections to ask for, where the provider has several."
    ),
    sa.Column("split_by_problem", sa.Boolean, comment="Whether the plan is to be split by problem."),
    sa.Column("diarization", sa.Boolean, comment="Whether speakers are to be told apart."),
    sa.Column("category", NAME, comment="Kind of recording, where the provider distinguishes them."),
    sa.Column("specialty", NAME, comment="Medical specialty of the visit, as a key of the FHIR mapping."),
    sa.Column(
        "imported_at",
        UtcDateTime,
        server_default=sa.func.current_timestamp(),
        nullable=False,
        comment="When the row came in.",
    ),
    sa.Column("forgotten_at", UtcDateTime, comment="Forgotten on request: an import leaves the row as it is."),
    _time_readable("started_at"),
    _time_readable("ended_at"),
    comment="The visits manifest: who, where and when, for recordings whose provider does not say.",
)

notes = sa.Table(
    "notes",
    metadata,
    sa.Column("note_id", ID, primary_key=True),
    sa.Column("account", NAME, nullable=False),
    sa.Column("provider", NAME, nullable=False),
    sa.Column("stream", NAME, nullable=False),
    sa.Column("source_id", KEY, nullable=False, comment="The provider's own id of the record it was mapped from."),
    sa.Column(
        "kind",
        NAME,
        nullable=False,
        comment="What it is of that record: note, and further kinds where a record makes several.",
    ),
    sa.Column("visit_day", sa.Date, nullable=False),
    sa.Column("state", sa.String(16), nullable=False, comment="draft, validated, retracted or failed."),
    sa.Column("title", sa.Text, comment="As the provider has it. Holds patient data."),
    sa.Column("language", NAME, comment="BCP 47 tag, as the provider says or the manifest does."),
    sa.Column("template", NAME, comment="The provider's template, in its own words."),
    sa.Column("patient_system", KEY, comment="System of patient_id."),
    sa.Column("patient_id", KEY, comment="Identifier of the patient; NULL: nobody knows."),
    sa.Column("practitioner", Json, comment="Identifiers of the clinician."),
    sa.Column("encounter_system", KEY, comment="System of encounter_id."),
    sa.Column("encounter_id", KEY, comment="Identifier of the encounter."),
    sa.Column("specialty", NAME, comment="Medical specialty of the visit, as a key of the FHIR mapping."),
    sa.Column("started_at", UtcDateTime, comment="When the visit began."),
    sa.Column("ended_at", UtcDateTime, comment="When the visit ended."),
    sa.Column("created_at", UtcDateTime, comment="When the provider made the note."),
    sa.Column("updated_at", UtcDateTime, comment="When the provider changed the note last."),
    sa.Column("validated_at", UtcDateTime, comment="When a clinician signed it off, where the provider says so."),
    sa.Column("has_text", sa.Boolean, nullable=False, comment="Whether any section holds a word."),
    sa.Column("version", HASH, nullable=False, comment="Hash of the source content."),
    sa.Column("attested", sa.Boolean, comment="Whether the provider says that a clinician signed it off."),
    sa.Column("validated_version", HASH, comment="The last version with a validated text; NULL: none is known."),
    sa.Column("text_hash", HASH, comment="Hash of the words of validated_version."),
    sa.Column("amends", HASH, comment="The validated version whose words validated_version changed."),
    sa.Column(
        "source_seq",
        sa.BigInteger,
        nullable=False,
        comment="change_seq it was mapped from; an older one never overwrites.",
    ),
    sa.Column("mapped_at", UtcDateTime, nullable=False, comment="When this row was written."),
    sa.Column("forgotten_at", UtcDateTime, comment="Forgotten on request: what it said and of whom is gone."),
    sa.UniqueConstraint("account", "provider", "stream", "source_id", "kind"),
    sa.Index("ix_notes_day", "account", "visit_day"),
    comment="The normalised notes, newest version.",
)

_UNKNOWN_HEADING = sa.text("key IS NULL AND title IS NOT NULL")

note_sections = sa.Table(
    "note_sections",
    metadata,
    sa.Column("note_id", ID, sa.ForeignKey("notes.note_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("ordinal", sa.Integer, primary_key=True, autoincrement=False, comment="From 0, depth first."),
    sa.Column("parent_ordinal", sa.Integer, comment="The section it is nested in, or NULL."),
    sa.Column("key", KEY, comment="Section key, as mapped or as received; NULL without a recognisable heading."),
    sa.Column("title", sa.Text, comment="Heading, as received."),
    sa.Column("text", sa.Text, nullable=False, comment="The words. Patient data."),
    sa.Column("format", sa.String(16), nullable=False, server_default="text", comment="text or markdown."),
    # Counted for each day that is built; there are few.
    sa.Index(
        "ix_note_sections_unknown",
        "note_id",
        sqlite_where=_UNKNOWN_HEADING,
        postgresql_where=_UNKNOWN_HEADING,
    ),
    comment="The sections of each note, in order.",
)

transcripts = sa.Table(
    "transcripts",
    metadata,
    sa.Column("note_id", ID, sa.ForeignKey("notes.note_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("turns", Json, nullable=False, comment="List of {text, speaker, start_offset_ms, end_offset_ms}."),
    comment="What was said, where the provider gives it.",
)

notes_history = sa.Table(
    "notes_history",
    metadata,
    sa.Column("id", sa.Integer, sa.Identity(), primary_key=True, comment="Order in which they were replaced."),
    sa.Column("account", NAME, nullable=False),
    sa.Column("note_id", ID, nullable=False),
    sa.Column("provider", NAME, nullable=False),
    sa.Column("visit_day", sa.Date, nullable=False),
    sa.Column("version", HASH, nullable=False, comment="The version that was replaced."),
    sa.Column("replaced_by", HASH, nullable=False, comment="The version that replaced it."),
    sa.Column("state", sa.String(16), nullable=False, comment="draft, validated, retracted or failed."),
    sa.Column("attested", sa.Boolean, comment="Whether the provider said that a clinician signed it off."),
    sa.Column("title", sa.Text, comment="Title. Patient's text."),
    sa.Column("language", NAME, comment="Language, as a BCP 47 tag."),
    sa.Column("template", NAME, comment="The provider's template key."),
    sa.Column(
        "sections", Json, nullable=False, comment="List of {key, title, text, format, sections}. Patient's text."
    ),
    sa.Column("transcript", Json, comment="As `turns` of transcripts; NULL where there was none. Patient's text."),
    sa.Column("source_seq", sa.BigInteger, nullable=False, comment="change_seq it was mapped from."),
    sa.Column("created_at", UtcDateTime, comment="When the provider created the text."),
    sa.Column("updated_at", UtcDateTime, comment="When the provider had last changed it."),
    sa.Column("validated_at", UtcDateTime, comment="When a clinician signed it off, where the provider said."),
    sa.Column("mapped_at", UtcDateTime, nullable=False, comment="When it became the newest version here."),
    sa.Column("replaced_at", UtcDateTime, nullable=False, comment="When it ceased to be."),
    sa.Index("ix_notes_history_note", "account", "note_id"),
    sa.Index("ix_notes_history_age", "account", "replaced_at"),
    comment="Versions of notes that were replaced; kept for MEDSCRIBE_HISTORY_DAYS.",
)

fhir_documents = sa.Table(
    "fhir_documents",
    metadata,
    sa.Column("note_id", ID, sa.ForeignKey("notes.note_id", ondelete="CASCADE"), primary_key=True),
    sa.Column(
        "kind",
        NAME,
        primary_key=True,
        comment="Composition, DocumentReference, Provenance or Transcript (a DocumentReference of its own).",
    ),
    sa.Column("account", NAME, nullable=False),
    sa.Column("visit_day", sa.Date, nullable=False),
    sa.Column("resource", Json, nullable=False, comment="The FHIR JSON."),
    sa.Column("version", HASH, nullable=False, comment="Version of the note it was built from."),
    sa.Column("mapping_version", NAME, nullable=False, comment="Hash of the mapping it was built with."),
    sa.Column("source_seq", sa.BigInteger, nullable=False, comment="As source_seq of the note."),
    sa.Column("built_at", UtcDateTime, nullable=False, comment="When it was built."),
    sa.Index("ix_fhir_documents_day", "account", "visit_day"),
    comment="The FHIR documents of each note, newest version.",
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("target", NAME, primary_key=True),
    sa.Column("note_id", ID, primary_key=True),
    sa.Column("kind", NAME, primary_key=True, comment="Composition or DocumentReference."),
    sa.Column("version", HASH, primary_key=True, comment="Version of the note it holds."),
    sa.Column("account", NAME, nullable=False),
    sa.Column("visit_day", sa.Date, nullable=False),
    sa.Column("source_seq", sa.BigInteger, nullable=False, comment="Orders the versions of a note."),
    sa.Column(
        "state", sa.String(16), nullable=False, comment="planned, claimed, sent, delivered, rejected, unknown or held."
    ),
    sa.Column("reason", NAME, comment="Why it is held, rejected or unknown."),
    sa.Column("server_id", NAME, comment="Logical id of the resource on the target."),
    sa.Column("etag", NAME, comment="ETag of the version we wrote."),
    sa.Column("attempts", sa.Integer, nullable=False, comment="How often sending was begun."),
    sa.Column(
        "outcome_codes",
        Json,
        comment="HTTP status and OperationOutcome codes of the last answer; never its diagnostics.",
    ),
    sa.Column("claimed_by", NAME, comment="Worker that holds it; see warehouse/locks.py."),
    sa.Column("claimed_at", UtcDateTime, comment="When the worker took it."),
    sa.Column("sent_at", UtcDateTime, comment="When the request went out."),
    sa.Column("settled_at", UtcDateTime, comment="When it was known how it ended."),
    sa.Index("ix_deliveries_day", "account", "target", "visit_day", "state"),
    # Of those that have one only: a row is written several times before it has.
    sa.Index(
        "ix_deliveries_server_id",
        "account",
        "target",
        "server_id",
        sqlite_where=sa.text("server_id IS NOT NULL"),
        postgresql_where=sa.text("server_id IS NOT NULL"),
    ),
    comment="The delivery ledger: one row for each version of each document and target.",
)

delivered_days = sa.Table(
    "delivered_days",
    metadata,
    sa.Column("account", NAME, primary_key=True),
    sa.Column("target", NAME, primary_key=True),
    sa.Column("visit_day", sa.Date, primary_key=True),
    sa.Column("delivered_seq", sa.BigInteger, nullable=False, comment="changed_seq of the day when it began."),
    sa.Column("delivered_with", NAME, nullable=False, comment="As built_with of visit_days."),
    comment="Where there are several targets: how far each day is delivered to each. It is built when all are.",
)

ehr_references = sa.Table(
    "ehr_references",
    metadata,
    sa.Column("account", NAME, primary_key=True),
    sa.Column("target", NAME, primary_key=True),
    sa.Column("kind", NAME, primary_key=True, comment="Patient, Practitioner or Encounter."),
    sa.Column("system", KEY, primary_key=True, comment="Identifier system; by-time: an encounter known by its visit."),
    sa.Column("value", KEY, primary_key=True, comment="Identifier, or a hash of patient and time of the visit."),
    sa.Column("state", sa.String(16), nullable=False, comment="found, missing, ambiguous or refused."),
    sa.Column("server_id", NAME, comment="Logical id on the target, when found."),
    sa.Column("subject_id", NAME, comment="Logical id of the patient an encounter was found to be of."),
    sa.Column("origin", sa.String(16), nullable=False, comment="search, or link: entered by a person."),
    sa.Column("looked_at", UtcDateTime, nullable=False, comment="When the target was asked, or the link was entered."),
    comment="Who and where of our notes on each target.",
)

quarantine = sa.Table(
    "quarantine",
    metadata,
    sa.Column("id", ID, primary_key=True, comment="Derived from stage and source key: the same problem is one row."),
    sa.Column("account", NAME, nullable=False),
    sa.Column("stage", sa.String(16), nullable=False, comment="extract, map or fhir."),
    sa.Column("provider", NAME, nullable=False),
    sa.Column("stream", NAME, nullable=False),
    sa.Column(
        "source_id", KEY, nullable=False, comment="The provider's id, or a hash of the payload where it has none."
    ),
    sa.Column("visit_day", sa.Date),
    sa.Column("error_code", NAME, nullable=False, comment="What is wrong with it."),
    sa.Column("field_paths", Json, nullable=False, comment="Where in the record, as a list of paths; never values."),
    sa.Column("payload", Json, comment="As received, or sealed; for stage extract. Holds patient data."),
    sa.Column("sealed_with", NAME, comment="Id of the key the payload is sealed with; NULL: it is not."),
    sa.Column(
        "payload_hash",
        HASH,
        nullable=False,
        comment="Hash of the list item or record: the same one is not tried again.",
    ),
    sa.Column("attempts", sa.Integer, nullable=False, comment="How often it failed."),
    sa.Column("first_seen_at", UtcDateTime, nullable=False, comment="When it failed first."),
    sa.Column("last_seen_at", UtcDateTime, nullable=False, comment="When it failed last."),
    sa.Column("resolved_at", UtcDateTime, comment="When it went on, or was put aside; NULL: it waits."),
    sa.Column("closed_by", NAME, comment="Who put it aside; NULL: nobody did."),
    sa.Column("closed_for", NAME, comment="Why somebody put it aside."),
    sa.Column("run_id", NAME),
    sa.Index("ix_quarantine_open", "account", "resolved_at", "stage"),
    comment="Records that could not go on, and why. Nothing is dropped.",
)

oauth_tokens = sa.Table(
    "oauth_tokens",
    metadata,
    sa.Column("account", NAME, primary_key=True),
    sa.Column("provider", NAME, primary_key=True),
    sa.Column("seed_hash", HASH, nullable=False, comment="Hash of the configured refresh token this chain began with."),
    sa.Column("refresh_token", sa.Text, nullable=False, comment="Secret: the next single-use refresh token."),
    sa.Column("access_token", sa.Text, nullable=False, comment="Secret."),
    sa.Column("expires_at", UtcDateTime, nullable=False, comment="When the access token ends."),
    sa.Column("rotated_at", UtcDateTime, nullable=False, comment="When the provider gave this pair out."),
    comment="Rotated OAuth tokens. Protect the warehouse as you protect the credentials themselves.",
)

scribe_jobs = sa.Table(
    "scribe_jobs",
    metadata,
    sa.Column("account", NAME, primary_key=True),
    sa.Column("provider", NAME, primary_key=True),
    sa.Column("job_key", KEY, primary_key=True, comment="Correlation key and step: `visit-1/listen`."),
    sa.Column("correlation_key", KEY, nullable=False, comment="The visit it works for."),
    sa.Column("step", NAME, nullable=False, comment="What is asked of the provider: listen, transcribe, note, upload."),
    sa.Column(
        "client_request_id",
        sa.String(128),
        nullable=False,
        comment="Our name for it, derived; the provider gives it back.",
    ),
    sa.Column("request", Json, nullable=False, comment="What to submit. Holds patient data where a note is asked for."),
    sa.Column("request_hash", HASH, nullable=False, comment="Another audio or other options are another job."),
    sa.Column("state", sa.String(16), nullable=False, comment="See providers/jobs.py."),
    sa.Column("vendor_job_id", KEY, comment="The provider's id, once it gave one."),
    sa.Column("code", NAME, comment="Why it failed, expired, was cancelled or is unknown; the provider's own code."),
    sa.Column("submissions", sa.Integer, nullable=False, comment="How often it was sent."),
    sa.Column("polls", sa.Integer, nullable=False, comment="How often it was asked after."),
    sa.Column("next_poll_at", UtcDateTime, comment="Not to be asked after before."),
    sa.Column("expires_at", UtcDateTime, comment="Given up after."),
    sa.Column("claimed_by", NAME, comment="Worker that submits it; see warehouse/locks.py."),
    sa.Column("wanted_at", UtcDateTime, nullable=False, comment="When the manifest asked for it."),
    sa.Column("submitted_at", UtcDateTime, comment="When it was sent."),
    sa.Column("settled_at", UtcDateTime, comment="When it was fetched, failed, expired or cancelled."),
    sa.Column("run_id", NAME),
    sa.Index("ix_scribe_jobs_due", "account", "provider", "state", "next_poll_at"),
    sa.Index("ix_scribe_jobs_visit", "account", "provider", "correlation_key"),
    sa.Index("ix_scribe_jobs_vendor", "account", "provider", "vendor_job_id"),
    sa.Index("ix_scribe_jobs_client", "account", "provider", "client_request_id"),
    comment="Work a provider does for us, from wanted to fetched.",
)

inbox = sa.Table(
    "inbox",
    metadata,
    sa.Column("account", NAME, primary_key=True),
    sa.Column("provider", NAME, primary_key=True),
    sa.Column(
        "event_id",
        KEY,
        primary_key=True,
        comment="The event's own id, or a hash of its body: the same event twice is one row.",
    ),
    sa.Column("seq", sa.BigInteger, nullable=False, comment="Order of arrival, in commit order."),
    sa.Column("kind", NAME, nullable=False, comment="callback, session, new_note, new_document, document_synchronize."),
    sa.Column("payload", Json, nullable=False, comment="As received. Holds patient data."),
    sa.Column(
        "verified",
        sa.Boolean,
        nullable=False,
        comment="Whether a signature proved it; else it is asked for again by id.",
    ),
    sa.Column("received_at", UtcDateTime, nullable=False, comment="When it arrived first."),
    sa.Column("deliveries", sa.Integer, nullable=False, comment="How often it arrived."),
    sa.Column("attempts", sa.Integer, nullable=False, comment="How often processing was tried."),
    sa.Column("code", NAME, comment="Why it is not processed yet, or could not be."),
    sa.Column("processed_at", UtcDateTime, comment="When it was heeded; NULL: it waits."),
    sa.Index("ix_inbox_open", "account", "processed_at", "seq"),
    comment="Callbacks and webhooks, as received.",
)

rate_budgets = sa.Table(
    "rate_budgets",
    metadata,
    sa.Column("account", NAME, primary_key=True),
    sa.Column("provider", NAME, primary_key=True),
    sa.Column("kind", NAME, primary_key=True, comment="What is counted: status, upload."),
    sa.Column("window_at", UtcDateTime, nullable=False, comment="When the last call was let go."),
    sa.Column("used", sa.Integer, nullable=False, comment="Calls since the last quiet minute."),
    comment="Calls a minute, shared by all runs of an account.",
)

sweep_sightings = sa.Table(
    "sweep_sightings",
    metadata,
    sa.Column("account", NAME, primary_key=True),
    sa.Column("provider", NAME, primary_key=True),
    sa.Column("stream", NAME, primary_key=True),
    sa.Column("source_id", KEY, primary_key=True, comment="The provider's own id."),
    sa.Column("first_missing_at", UtcDateTime, nullable=False, comment="First sweep that did not find it."),
    sa.Column("last_missing_at", UtcDateTime, nullable=False, comment="Latest one."),
    sa.Column("confirmed_at", UtcDateTime, comment="When it was believed to be gone; NULL: not yet."),
    comment="Landed records a provider does not list any more; a row goes when the record is there again, "
    "or retracted.",
)

access_log = sa.Table(
    "access_log",
    metadata,
    sa.Column("id", sa.Integer, sa.Identity(), primary_key=True, comment="Order of the rows."),
    sa.Column("account", NAME, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False, comment="When."),
    sa.Column("who", NAME, nullable=False, comment="User of the operating system."),
    sa.Column("what", NAME, nullable=False, comment="What was shown or done, as a code: show_text, delivery_retried."),
    sa.Column("subject", KEY, nullable=False, comment="Of what: an id of ours or a name, never a patient's."),
    sa.Index("ix_access_log_at", "account", "at"),
    comment="Who had patients' texts or identifiers shown or removed, and who decided something by hand.",
)

_EVERYWHERE = {
    "account": "MEDSCRIBE_ACCOUNT it belongs to.",
    "provider": "Who it comes from: askara, audioscribe, nabla, intron.",
    "stream": "Kind of record at the provider.",
    "target": "Name of the FHIR server.",
    "note_id": "The note, through all its versions.",
    "visit_day": "Local day of the visit.",
    "run_id": "The Dagster run that wrote it.",
}
"""What the columns of these names mean in every table that says nothing more particular. Keep this the last part."""

for _table in metadata.tables.values():
    for _column in _table.columns:
        _column.comment = _column.comment or _EVERYWHERE.get(_column.name)
