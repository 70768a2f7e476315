"""Views for people who ask: the same columns on SQLite and PostgreSQL, one row for one thing.

They are described here as tables, so that code can query them as such, with the SQL that makes them beside. They are
no part of `tables.metadata`: nothing is stored in them. `recreated.py` makes them after each migration.

To change one, change it here and add a migration, even an empty one: a warehouse at the newest migration is left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.warehouse.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DIALECTS", "definition", "v_daily", "v_delivery_latency", "v_notes", "v_sections", "view_metadata"]

DIALECTS = ("sqlite", "postgresql")
"""Databases the views are written for; on others there are none."""

view_metadata = sa.MetaData()

Text = sa.Text()
Count = sa.BigInteger()
Seconds = sa.Float()


def _same(table: str, *names: str) -> list[sa.Column[Any]]:
    """Columns a view takes over from a table as they are, with their comments."""
    columns = metadata.tables[table].columns
    return [sa.Column(name, columns[name].type, comment=columns[name].comment) for name in names]


v_notes = sa.Table(
    "v_notes",
    view_metadata,
    *_same("notes", "note_id", "account", "provider", "stream", "source_id", "kind", "visit_day", "state", "attested"),
    *_same("notes", "title", "language", "template", "specialty", "patient_system", "patient_id"),
    sa.Column("practitioner_system", Text, comment="System of practitioner_id."),
    sa.Column("practitioner_id", Text, comment="First identifier of the clinician."),
    sa.Column("practitioner_name", Text, comment="The clinician's name, where the provider gives it."),
    *_same("notes", "encounter_system", "encounter_id", "started_at", "ended_at"),
    sa.Column("duration_s", Seconds, comment="Length of the visit in seconds."),
    *_same("notes", "created_at", "updated_at", "validated_at", "mapped_at", "version"),
    sa.Column("amended", sa.Boolean, comment="Whether its words were changed after a clinician had signed them off."),
    *_same("notes", "has_text"),
    sa.Column("sections", Count, comment="How many sections it has."),
    sa.Column("characters", Count, comment="Length of their text."),
    sa.Column("has_transcript", sa.Boolean, comment="Whether what was said is there; see v_transcript_turns."),
    comment="One row for each note, newest version.",
)

v_sections = sa.Table(
    "v_sections",
    view_metadata,
    *_same("notes", "note_id", "account", "provider", "stream", "kind", "visit_day", "state", "version"),
    *_same("note_sections", "ordinal", "key", "title", "text", "format"),
    sa.Column("characters", Count, comment="Length of the text."),
    *_same("note_sections", "parent_ordinal"),
    sa.Column("parent_key", Text, comment="Key of the section it is nested in."),
    sa.Column("parent_title", Text, comment="Heading of the section it is nested in."),
    comment="One row for each section of each note.",
)

v_transcript_turns = sa.Table(
    "v_transcript_turns",
    view_metadata,
    *_same("notes", "note_id", "account", "provider", "stream", "kind", "visit_day", "state", "version"),
    sa.Column("ordinal", Count, comment="From 0, in the order it was said."),
    sa.Column("speaker", Text, comment="Who said it, in the provider's words."),
    sa.Column("text", Text, comment="The words. Patient data."),
    sa.Column("start_offset_ms", Count, comment="Milliseconds from the start of the recording."),
    sa.Column("end_offset_ms", Count, comment="Milliseconds from the start of the recording."),
    comment="One row for each utterance of each transcript.",
)

v_daily = sa.Table(
    "v_daily",
    view_metadata,
    *_same("notes", "account", "visit_day", "provider"),
    sa.Column("records", Count, comment="Landed records."),
    sa.Column("records_waiting", Count, comment="Of these, those not mapped since they changed."),
    sa.Column("records_held", Count, comment="Of these, those that make no note yet; outcome_code says why."),
    sa.Column("records_quarantined", Count, comment="Of these, those that could not be mapped."),
    sa.Column("notes", Count, comment="Notes."),
    sa.Column("notes_draft", Count, comment="Of these, those nobody has signed off."),
    sa.Column("notes_validated", Count, comment="Of these, those a clinician has signed off."),
    sa.Column("notes_retracted", Count, comment="Of these, those withdrawn at the source."),
    sa.Column("notes_failed", Count, comment="Of these, those the provider gave up on."),
    sa.Column("notes_without_text", Count, comment="Of these, those without a word."),
    sa.Column("notes_without_patient", Count, comment="Of these, those nobody can be named for."),
    sa.Column("notes_with_document", Count, comment="Of these, those whose newest version has a FHIR document."),
    sa.Column("deliveries", Count, comment="Newest versions in the ledger; one that goes to two targets counts twice."),
    sa.Column("delivered", Count, comment="Of these, those that are in the EHR."),
    sa.Column("held", Count, comment="Of these, those that may not go out; reason says why."),
    sa.Column("rejected", Count, comment="Of these, those the EHR refused."),
    sa.Column("unknown", Count, comment="Of these, those nobody knows the fate of."),
    sa.Column("under_way", Count, comment="Of these, those planned or being sent."),
    sa.Column("changes_waiting", sa.Boolean, comment="Whether something landed on this day after it was built last."),
    comment="One row for each visit day and provider: what came and what became of it. Records that could not be read "
    "have no day yet and are in quarantine only.",
)

v_delivery_latency = sa.Table(
    "v_delivery_latency",
    view_metadata,
    *_same("deliveries", "account"),
    *_same("notes", "provider"),
    *_same("deliveries", "target", "note_id", "version", "visit_day"),
    *_same("notes", "ended_at", "validated_at"),
    *_same("source_records", "fetched_at"),
    *_same("deliveries", "sent_at", "settled_at"),
    sa.Column("visit_to_delivered_s", Seconds, comment="Seconds from the end of the visit to settled_at."),
    sa.Column("validated_to_delivered_s", Seconds, comment="Seconds from validated_at to settled_at."),
    sa.Column("pulled_to_delivered_s", Seconds, comment="Seconds from fetched_at to settled_at."),
    sa.Column("sent_to_delivered_s", Seconds, comment="Seconds from sent_at to settled_at."),
    comment="One row for each note and target its newest version was delivered to: how long that took. NULL where a "
    "time is not known or comes after the delivery: a record fetched again, a clock that is wrong.",
)

_SQL = {
    v_notes.name: """\
SELECT n.note_id, n.account, n.provider, n.stream, n.source_id, n.kind, n.visit_day, n.state, n.attested,
  n.title, n.language, n.template, n.specialty, n.patient_system, n.patient_id,
  {practitioner_system} AS practitioner_system, {practitioner_id} AS practitioner_id,
  {practitioner_name} AS practitioner_name,
  n.encounter_system, n.encounter_id, n.started_at, n.ended_at, {duration} AS duration_s,
  n.created_at, n.updated_at, n.validated_at, n.mapped_at, n.version,
  (n.state = 'validated' AND n.amends IS NOT NULL) AS amended, n.has_text,
  (SELECT COUNT(*) FROM note_sections AS s WHERE s.note_id = n.note_id) AS sections,
  (SELECT COALESCE(SUM(LENGTH(s.text)), 0) FROM note_sections AS s WHERE s.note_id = n.note_id) AS characters,
  EXISTS (SELECT 1 FROM transcripts AS t WHERE t.note_id = n.note_id) AS has_transcript
FROM notes AS n""",
    v_sections.name: """\
SELECT n.note_id, n.account, n.provider, n.stream, n.kind, n.visit_day, n.state, n.version,
  s.ordinal, s.key, s.title, s.text, s.format, LENGTH(s.text) AS characters,
  s.parent_ordinal, p.key AS parent_key, p.title AS parent_title
FROM note_sections AS s
JOIN notes AS n ON n.note_id = s.note_id
LEFT JOIN note_sections AS p ON p.note_id = s.note_id AND p.ordinal = s.parent_ordinal""",
    v_transcript_turns.name: """\
SELECT n.note_id, n.account, n.provider, n.stream, n.kind, n.visit_day, n.state, n.version,
  {turn_ordinal} AS ordinal, {turn_speaker} AS speaker, {turn_text} AS text,
  {turn_start} AS start_offset_ms, {turn_end} AS end_offset_ms
FROM transcripts AS t
JOIN notes AS n ON n.note_id = t.note_id
CROSS JOIN {turns}""",
    v_daily.name: """\
WITH days AS (
  SELECT account, visit_day, provider FROM source_records
  UNION
  SELECT account, visit_day, provider FROM notes
), landed AS (
  SELECT account, visit_day, provider, COUNT(*) AS records,
    COUNT(*) FILTER (WHERE COALESCE(mapped_seq, -1) < change_seq) AS waiting,
    COUNT(*) FILTER (WHERE mapped_seq >= change_seq AND outcome = 'held') AS held,
    COUNT(*) FILTER (WHERE mapped_seq >= change_seq AND outcome = 'quarantined') AS quarantined
  FROM source_records
  GROUP BY account, visit_day, provider
), mapped AS (
  SELECT account, visit_day, provider, COUNT(*) AS notes,
    COUNT(*) FILTER (WHERE state = 'draft') AS draft,
    COUNT(*) FILTER (WHERE state = 'validated') AS validated,
    COUNT(*) FILTER (WHERE state = 'retracted') AS retracted,
    COUNT(*) FILTER (WHERE state = 'failed') AS failed,
    COUNT(*) FILTER (WHERE NOT has_text) AS without_text,
    COUNT(*) FILTER (WHERE patient_id IS NULL) AS without_patient,
    COUNT(*) FILTER (WHERE EXISTS (
      SELECT 1 FROM fhir_documents AS f WHERE f.note_id = notes.note_id AND f.version = notes.version
    )) AS with_document
  FROM notes
  GROUP BY account, visit_day, provider
), filed AS (
  SELECT n.account, n.visit_day, n.provider, COUNT(*) AS deliveries,
    COUNT(*) FILTER (WHERE d.state = 'delivered') AS delivered,
    COUNT(*) FILTER (WHERE d.state = 'held') AS held,
    COUNT(*) FILTER (WHERE d.state = 'rejected') AS rejected,
    COUNT(*) FILTER (WHERE d.state = 'unknown') AS unknown,
    COUNT(*) FILTER (WHERE d.state IN ('planned', 'claimed', 'sent')) AS under_way
  FROM notes AS n
  JOIN (SELECT DISTINCT target, note_id, version, state FROM deliveries) AS d
    ON d.note_id = n.note_id AND d.version = n.version
  GROUP BY n.account, n.visit_day, n.provider
)
SELECT days.account, days.visit_day, days.provider,
  COALESCE(landed.records, 0) AS records, COALESCE(landed.waiting, 0) AS records_waiting,
  COALESCE(landed.held, 0) AS records_held, COALESCE(landed.quarantined, 0) AS records_quarantined,
  COALESCE(mapped.notes, 0) AS notes, COALESCE(mapped.draft, 0) AS notes_draft,
  COALESCE(mapped.validated, 0) AS notes_validated, COALESCE(mapped.retracted, 0) AS notes_retracted,
  COALESCE(mapped.failed, 0) AS notes_failed, COALESCE(mapped.without_text, 0) AS notes_without_text,
  COALESCE(mapped.without_patient, 0) AS notes_without_patient,
  COALESCE(mapped.with_document, 0) AS notes_with_document,
  COALESCE(filed.deliveries, 0) AS deliveries, COALESCE(filed.delivered, 0) AS delivered,
  COALESCE(filed.held, 0) AS held, COALESCE(filed.rejected, 0) AS rejected,
  COALESCE(filed.unknown, 0) AS unknown, COALESCE(filed.under_way, 0) AS under_way,
  COALESCE(v.built_seq < v.changed_seq, FALSE) AS changes_waiting
FROM days
LEFT JOIN landed
  ON landed.account = days.account AND landed.visit_day = days.visit_day AND landed.provider = days.provider
LEFT JOIN mapped
  ON mapped.account = days.account AND mapped.visit_day = days.visit_day AND mapped.provider = days.provider
LEFT JOIN filed
  ON filed.account = days.account AND filed.visit_day = days.visit_day AND filed.provider = days.provider
LEFT JOIN visit_days AS v ON v.account = days.account AND v.visit_day = days.visit_day""",
    v_delivery_latency.name: """\
SELECT d.account, n.provider, d.target, d.note_id, d.version, d.visit_day, n.ended_at, n.validated_at, r.fetched_at,
  d.sent_at, d.settled_at, {from_visit} AS visit_to_delivered_s, {from_validation} AS validated_to_delivered_s,
  {from_pull} AS pulled_to_delivered_s, {from_sending} AS sent_to_delivered_s
FROM (
  SELECT account, target, note_id, version, visit_day, MIN(sent_at) AS sent_at, MAX(settled_at) AS settled_at
  FROM deliveries
  WHERE state = 'delivered'
  GROUP BY account, target, note_id, version, visit_day
) AS d
JOIN notes AS n ON n.note_id = d.note_id AND n.version = d.version
LEFT JOIN source_records AS r
  ON r.account = n.account AND r.provider = n.provider AND r.stream = n.stream AND r.source_id = n.source_id""",
}

_SPANS = {
    "duration": ("n.started_at", "n.ended_at"),
    "from_visit": ("n.ended_at", "d.settled_at"),
    "from_validation": ("n.validated_at", "d.settled_at"),
    "from_pull": ("r.fetched_at", "d.settled_at"),
    "from_sending": ("d.sent_at", "d.settled_at"),
}


def definition(view: sa.Table, dialect: str) -> str:
    """The query a view stands for, in the SQL of one of `DIALECTS`."""
    words = _sqlite_words() if dialect == "sqlite" else _postgresql_words()
    return _SQL[view.name].format_map(words)


def _sqlite_words() -> Mapping[str, str]:
    # Rounded to milliseconds: days as floating point are exact to some ten microseconds.
    return {
        "practitioner_system": "json_extract(n.practitioner, '$.identifiers[0].system')",
        "practitioner_id": "json_extract(n.practitioner, '$.identifiers[0].value')",
        "practitioner_name": "json_extract(n.practitioner, '$.display')",
        "turns": "json_each(t.turns) AS turn",
        "turn_ordinal": "turn.key",
        "turn_speaker": "json_extract(turn.value, '$.speaker')",
        "turn_text": "json_extract(turn.value, '$.text')",
        "turn_start": "json_extract(turn.value, '$.start_offset_ms')",
        "turn_end": "json_extract(turn.value, '$.end_offset_ms')",
        **{
            name: f"CASE WHEN {to} >= {since} THEN ROUND((julianday({to}) - julianday({since})) * 86400, 3) END"
            for name, (since, to) in _SPANS.items()
        },
    }


def _postgresql_words() -> Mapping[str, str]:
    return {
        "practitioner_system": "n.practitioner #>> '{identifiers,0,system}'",
        "practitioner_id": "n.practitioner #>> '{identifiers,0,value}'",
        "practitioner_name": "n.practitioner ->> 'display'",
        "turns": "LATERAL jsonb_array_elements(t.turns) WITH ORDINALITY AS turn (value, position)",
        "turn_ordinal": "turn.position - 1",
        "turn_speaker": "turn.value ->> 'speaker'",
        "turn_text": "turn.value ->> 'text'",
        "turn_start": "CAST(turn.value ->> 'start_offset_ms' AS BIGINT)",
        "turn_end": "CAST(turn.value ->> 'end_offset_ms' AS BIGINT)",
        **{
            name: f"CASE WHEN {to} >= {since} "
            f"THEN CAST(ROUND(EXTRACT(EPOCH FROM {to} - {since}), 3) AS DOUBLE PRECISION) END"
            for name, (since, to) in _SPANS.items()
        },
    }
