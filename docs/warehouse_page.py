"""`docs/warehouse.md`: the tables and views with their comments, read off the schema, and queries a test runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from docs.markdown import code, page, table
from medscribe_pipeline.warehouse.dictionary import type_name
from medscribe_pipeline.warehouse.tables import metadata
from medscribe_pipeline.warehouse.views import view_metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import sqlalchemy as sa

__all__ = ["QUERIES", "Query", "render"]


class Query(NamedTuple):
    """A query that reads no patient's text, for SQLite and PostgreSQL alike."""

    title: str
    text: str
    sql: str


QUERIES = (
    Query(
        "What became of each day's records",
        "Landed records by visit day and outcome. Without an outcome they are not mapped yet.",
        """\
SELECT visit_day, provider, COALESCE(outcome, 'waiting') AS outcome, COUNT(*) AS records
FROM source_records
WHERE account = 'default'
GROUP BY visit_day, provider, COALESCE(outcome, 'waiting')
ORDER BY visit_day, provider, outcome""",
    ),
    Query(
        "What does not reach the EHR, and why",
        "The newest version of each note, by state and reason. [Delivery](delivery.md) says what to do about each.",
        """\
SELECT d.target, d.state, d.reason, COUNT(*) AS notes, MIN(d.visit_day) AS oldest_day
FROM deliveries AS d
JOIN notes AS n ON n.note_id = d.note_id AND n.version = d.version
WHERE d.account = 'default' AND d.kind = 'DocumentReference' AND d.state <> 'delivered'
GROUP BY d.target, d.state, d.reason
ORDER BY notes DESC, d.target, d.state, d.reason""",
    ),
    Query(
        "How a week went",
        "Days and providers with what came and what became of it, newest first.",
        """\
SELECT visit_day, provider, records, notes, notes_with_document, delivered, held, rejected, unknown, changes_waiting
FROM v_daily
WHERE account = 'default'
ORDER BY visit_day DESC, provider
LIMIT 7""",
    ),
    Query(
        "How long the last notes took",
        "Seconds from the clinician's signature, and from our pull, until the EHR had them.",
        """\
SELECT provider, target, visit_day, validated_to_delivered_s, pulled_to_delivered_s
FROM v_delivery_latency
WHERE account = 'default'
ORDER BY settled_at DESC
LIMIT 100""",
    ),
    Query(
        "What waits in quarantine",
        "Open problems by stage and code, with the first sighting of the oldest.",
        """\
SELECT stage, provider, stream, error_code, COUNT(*) AS records, MIN(first_seen_at) AS since
FROM quarantine
WHERE account = 'default' AND resolved_at IS NULL
GROUP BY stage, provider, stream, error_code
ORDER BY records DESC, stage, provider, stream, error_code""",
    ),
    Query(
        "Recordings nobody can be named for",
        "Recordings whose notes have no patient: the rows a [visits manifest](visits.md) should have. For an Askara "
        "note the recording is its audio.",
        """\
SELECT n.provider, COALESCE(r.parent_id, r.source_id) AS correlation_key, n.visit_day, COUNT(*) AS notes
FROM notes AS n
JOIN source_records AS r
  ON r.account = n.account AND r.provider = n.provider AND r.stream = n.stream AND r.source_id = n.source_id
WHERE n.account = 'default' AND n.patient_id IS NULL AND n.state <> 'retracted'
GROUP BY n.provider, COALESCE(r.parent_id, r.source_id), n.visit_day
ORDER BY n.provider, n.visit_day, correlation_key""",
    ),
    Query(
        "Where a note is in the EHR",
        "Server ids of delivered documents, newest first.",
        """\
SELECT n.provider, n.source_id, d.kind, d.server_id, d.etag, d.settled_at
FROM deliveries AS d
JOIN notes AS n ON n.note_id = d.note_id AND n.version = d.version
WHERE d.account = 'default' AND d.target = 'ehr' AND d.state = 'delivered'
ORDER BY d.settled_at DESC, n.provider, n.source_id, d.kind""",
    ),
    Query(
        "Which sections are recognised",
        "How often each section key occurs. A section without a key stands under a heading nobody knows, or none.",
        """\
SELECT n.provider, s.key, COUNT(*) AS sections
FROM note_sections AS s
JOIN notes AS n ON n.note_id = s.note_id
WHERE n.account = 'default'
GROUP BY n.provider, s.key
ORDER BY n.provider, sections DESC, s.key""",
    ),
)

_INTRODUCTION = """\
# The warehouse

SQLite by default, one file; PostgreSQL with `MEDSCRIBE_WAREHOUSE_URL`. `medscribe init` makes the tables, or migrates
them to the installed version; every other command does the same first if it has to.

**It holds patients' texts, identifiers and OAuth tokens.** Protect it as you protect the EHR: see
[operations](operations.md#protecting-the-warehouse).

- Times are UTC. In SQLite they are ISO 8601 text of a fixed width, so text order is time order.
- Days are local days in `MEDSCRIBE_TIMEZONE`.
- JSON is `JSONB` in PostgreSQL and text in SQLite.
- Ids are UUIDs as text, derived from provider, account and source id: the same record has the same id in every
  warehouse. No id is made from a patient's name or number.
- Every row belongs to one account, directly or through its note. Filter by it.

Read what you like. Write nothing by hand: the ledger and the visit days are only right together.

PostgreSQL knows all of this page, too: `\\d+ notes` shows it. So does the Dagster UI, with each asset."""

_VIEWS = """\
## Views

For questions rather than for the program: they have the same columns on SQLite and PostgreSQL, and change less than the
tables. Every migration makes them again. On PostgreSQL those who were granted a view keep it; views of your own that
are built on these must be dropped for the time of a migration, which says so.

`v_notes`, `v_sections` and `v_transcript_turns` hold patients' text. `v_daily` and `v_delivery_latency` hold none."""

_OTHERS = """\
## Other databases

With any other database SQLAlchemy has a dialect for, everything is written by plain SQL: slower, and without the views.
**Nobody has tested MySQL, MariaDB, Oracle, SQL Server or Snowflake as servers**; what is tested is this path, on
PostgreSQL under another name. `medscribe` warns when it opens one. Before you do:

- Install the driver. The account must be allowed to make tables, and the database must know `SAVEPOINT` and enforce
  primary keys.
- Locks are files under `MEDSCRIBE_HOME`, so all runs must be on one machine. From another one a run would not be seen.
- Its clock must be UTC, and its times must keep microseconds. Texts hold whole documents and may need a larger type
  than the database chooses by itself."""

_QUERIES = """\
## Useful queries

None of them reads a patient's text. Put your own account and target."""


def render() -> str:
    """The page."""
    blocks = [_INTRODUCTION, "## Tables", _contents(metadata.tables.values())]
    for each in metadata.tables.values():
        blocks += [f"### {each.name}", each.comment or "", _columns(each)]
    blocks += [_VIEWS, _contents(view_metadata.tables.values())]
    for each in view_metadata.tables.values():
        blocks += [f"### {each.name}", each.comment or "", _columns(each)]
    blocks += [_OTHERS, _QUERIES]
    for query in QUERIES:
        blocks += [f"### {query.title}", query.text, f"```sql\n{query.sql};\n```"]
    return page(*blocks)


def _contents(tables: Iterable[sa.Table]) -> str:
    """In the order of the schema, which is the order data moves through them."""
    return "\n".join(f"- [{each.name}](#{each.name}): {each.comment}" for each in tables)


def _columns(of: sa.Table) -> str:
    rows = (
        (code(column.name), type_name(column), ", ".join(_notes(column)), column.comment or "") for column in of.columns
    )
    return table(("column", "type", "key or NULL", "meaning"), rows)


def _notes(column: sa.Column[object]) -> Iterator[str]:
    if column.primary_key:
        yield "key"
    elif column.nullable:
        yield "may be NULL"
    for reference in column.foreign_keys:
        yield f"of {reference.target_fullname}"
