"""Landed records of one visit day into notes: the stage behind the asset `scribe_notes`."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from pydantic import ValidationError

from medscribe_pipeline.errors import MedscribeError, place_of
from medscribe_pipeline.notes import NoteState, content_hash
from medscribe_pipeline.processes import Batch, batches_of, differs, share
from medscribe_pipeline.providers.catalogue import PROVIDERS
from medscribe_pipeline.providers.due import is_due, read_due, still_due
from medscribe_pipeline.providers.headings_file import headings_version
from medscribe_pipeline.providers.pull import UNEXPECTED, field_paths
from medscribe_pipeline.providers.records import Held
from medscribe_pipeline.warehouse.history import keep_replaced
from medscribe_pipeline.warehouse.notes import MappedNote, read_notes, too_long, write_notes
from medscribe_pipeline.warehouse.outcomes import write_outcomes
from medscribe_pipeline.warehouse.quarantine import DISCARDED, quarantine_id, resolve_quarantine, write_quarantine
from medscribe_pipeline.warehouse.tables import note_sections, notes, source_records
from medscribe_pipeline.warehouse.tombstones import GONE, PAYLOAD_REMOVED
from medscribe_pipeline.watching import bound, telemetry, working

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import date, datetime

    from medscribe_pipeline.notes import ScribeNote
    from medscribe_pipeline.providers.due import DueRecord, Key
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["NotesReport", "build_batch", "build_notes", "build_notes_of", "count_due", "mapping_fingerprint"]

CODE_VERSION = "2"
"""Raise it when `to_notes` of any provider maps differently: all days are then built again, from what has landed."""

BATCH = 500
WORTH_SHARING = 4_000
"""So many due records take longer than it takes to start a helper, which is most of a second of a core."""

QUARANTINED = "quarantined"

log = logging.getLogger(__name__)


@dataclass(slots=True)
class NotesReport:
    """What became of a day's landed records. `looked_at` were new, changed or mapped by an older mapping.

    `landed` is the sum of `notes`, `parts` (their text is in another record), `held` and `quarantined`; `states`
    counts all notes there are, those held for want of text included. `newly_quarantined` are those of `looked_at` that
    are in quarantine and were not before.
    """

    landed: int = 0
    looked_at: int = 0
    newly_quarantined: int = 0
    notes: int = 0
    parts: int = 0
    states: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)
    unknown_headings: int = 0


def mapping_fingerprint(settings: Settings) -> str:
    """Short hash of everything that decides how a record is mapped: code, heading table, settings."""
    systems = [
        settings.identifier_system(provider, kind)
        for provider in PROVIDERS
        for kind in ("patient", "practitioner", "encounter")
    ]
    facts = [
        CODE_VERSION,
        headings_version(),
        settings.timezone,
        settings.fhir.base_uri,
        # Providers that cannot tell what was signed off are told by a setting; for Askara one may widen what counts.
        [getattr(getattr(settings, provider), "reviewed", None) for provider in PROVIDERS],
        sorted(settings.askara.reviewed_steps),
        settings.nabla.make_notes,
        systems,
    ]
    return content_hash(facts)[:16]


def build_notes(
    warehouse: Warehouse,
    settings: Settings,
    day: date,
    *,
    clock: Callable[[], datetime],
    run_id: str | None = None,
) -> NotesReport:
    """As `build_notes_of`, for one day; returns its report."""
    reports: dict[date, NotesReport] = {}
    with bound(day=day):
        build_notes_of(warehouse, settings, [day], clock=clock, run_id=run_id, done=reports.__setitem__)
    return reports[day]


def build_notes_of(
    warehouse: Warehouse,
    settings: Settings,
    days: Iterable[date],
    *,
    clock: Callable[[], datetime],
    run_id: str | None = None,
    done: Callable[[date, NotesReport], object],
) -> None:
    """Maps what is new, changed or mapped by another mapping on those days; the rest costs one comparison.

    A record that cannot be mapped goes to quarantine and stops nothing else; one that can be mapped leaves it. What
    changes while it is being mapped is left for the next time, and the day stays due.

    Args:
        warehouse: The warehouse.
        settings: The settings; as many processes as they allow share the work.
        days: The visit days; the next is taken when there is nothing left to give out of the last.
        clock: Gives the current time, aware UTC.
        run_id: The run this is part of.
        done: Called with each day, in order, once nothing of it is left to do.
    """
    fingerprint = mapping_fingerprint(settings)
    looked_at: Counter[date] = Counter()
    fresh: Counter[date] = Counter()

    def batches() -> Iterator[Batch]:
        for day in days:
            due = _due(warehouse, day, fingerprint)
            looked_at[day] = len(due)
            yield from batches_of(day, due, BATCH, version=fingerprint, run_id=run_id)

    def built(batch: Batch, quarantined: int) -> None:
        day = batch.day
        fresh[day] += quarantined
        if not batch.last:
            return
        report = _totals(warehouse, day)
        report.looked_at, report.newly_quarantined = looked_at.pop(day), fresh.pop(day)
        looked, new = report.looked_at, report.newly_quarantined
        log.info("Notes built: day=%s looked_at=%d notes=%d quarantined=%d", day, looked, report.notes, new)
        telemetry.add("medscribe.notes", report.looked_at)
        done(day, report)

    with working("medscribe.build.notes", run=run_id):
        share(warehouse, settings, build_batch, batches(), clock=clock, worth=WORTH_SHARING, done=built)


def count_due(connection: sa.Connection, account: str, day: date, fingerprint: str) -> int:
    """How many landed records of the day are not mapped yet, or mapped by another mapping."""
    due = _due_query(account, day, fingerprint).subquery()
    return connection.scalar(sa.select(sa.func.count()).select_from(due)) or 0


def _due(warehouse: Warehouse, day: date, fingerprint: str) -> list[tuple[str, str, str]]:
    with warehouse.read() as connection:
        found = connection.execute(_due_query(warehouse.account, day, fingerprint)).all()
    return sorted((provider, stream, source_id) for provider, stream, source_id in found)


def _due_query(account: str, day: date, fingerprint: str) -> sa.Select[str, str, str]:
    # In no order: for that of the keys SQLite would go through all records of the account, and not those of the day.
    return sa.select(source_records.c.provider, source_records.c.stream, source_records.c.source_id).where(
        source_records.c.account == account, source_records.c.visit_day == day, is_due(fingerprint)
    )


@dataclass(frozen=True, slots=True)
class _Made:
    """What one record became."""

    outcome: str
    code: str | None = None
    notes: tuple[ScribeNote, ...] = ()
    paths: Sequence[str] = ()


def build_batch(warehouse: Warehouse, settings: Settings, batch: Batch, now: datetime) -> int:
    """Maps one batch and writes it in one transaction, in whatever process.

    It is mapped outside of that transaction: mapping takes longer than writing, and others want to write meanwhile.
    Written is what is due still and as it was read; what is not stays as it is, and is due or is settled already.

    Returns:
        How many records are in quarantine now and were not before.

    Raises:
        MedscribeError: `mapping_differs`: the batch is for another mapping than this.
    """
    if not batch.keys:
        return 0
    if batch.version != mapping_fingerprint(settings):
        raise differs()
    with warehouse.read() as connection:
        read = read_due(warehouse, connection, batch.keys, batch.version)
    if not read:
        return 0
    made: dict[Key, _Made] = {}
    for each in read:
        # Those of what was withdrawn are read, not mapped: in the transaction that changes them.
        if not _is_withdrawn(each):
            removed = each.row.payload_removed_at is not None
            made[each.key] = _Made(QUARANTINED, PAYLOAD_REMOVED) if removed else _map(each, settings)
    with warehouse.begin() as connection:
        became = [
            (each.row, made[each.key] if each.key in made else _withdrawn(connection, each.row))
            for each in still_due(warehouse, connection, read, batch.version)
        ]
        return _write(warehouse, connection, became, batch, now, keep_history=bool(settings.history_days))


def _write(
    warehouse: Warehouse,
    connection: sa.Connection,
    became: Sequence[tuple[sa.Row[Any], _Made]],
    batch: Batch,
    now: datetime,
    *,
    keep_history: bool,
) -> int:
    mapped: list[MappedNote] = []
    outcomes: list[dict[str, Any]] = []
    problems: list[dict[str, Any]] = []
    for row, made in became:
        mapped.extend(MappedNote(note, row.visit_day, row.change_seq) for note in made.notes)
        if made.outcome == QUARANTINED:
            problems.append(_problem(warehouse, row, made.code or UNEXPECTED, made.paths, now, batch.run_id))
        outcomes.append(
            {
                "provider": row.provider,
                "stream": row.stream,
                "source_id": row.source_id,
                "outcome": made.outcome,
                "outcome_code": made.code,
                "mapped_seq": row.change_seq,
                "mapped_with": batch.version,
            }
        )
    if keep_history:
        keep_replaced(warehouse, connection, mapped, now)
    write_notes(warehouse, connection, mapped, now)
    written = write_quarantine(warehouse, connection, problems)
    kept = {problem["id"] for problem in problems}
    resolved: list[str] = []
    for each in outcomes:
        key = quarantine_id(warehouse.account, "map", each["provider"], each["stream"], each["source_id"])
        if key in written.put_aside:
            each.update(outcome="held", outcome_code=DISCARDED)
        elif key not in kept:
            resolved.append(key)
    write_outcomes(connection, warehouse.account, outcomes)
    resolve_quarantine(connection, resolved, now)
    return written.fresh


def _map(each: DueRecord, settings: Settings) -> _Made:
    """Maps one record; whatever it holds, nothing is raised."""
    try:
        result = PROVIDERS[each.row.provider].to_notes(each.record, settings)
        if isinstance(result, Held):
            return _Made("part" if result.part else "held", result.code)
        if paths := sorted({path for note in result for path in too_long(note)}):
            return _Made(QUARANTINED, "too_long", paths=paths)
        worded = any(note.has_text for note in result)
    except ValidationError as error:
        return _Made(QUARANTINED, "wire_model", paths=field_paths(error))
    except MedscribeError as error:
        return _Made(QUARANTINED, error.code, paths=error.field_paths)
    except Exception as error:  # noqa: BLE001  # one record that trips us must not stop the others
        return _Made(QUARANTINED, UNEXPECTED, paths=(place_of(error),))
    return _Made("note", notes=result) if worded else _Made("held", "empty_note", notes=result)


def _is_withdrawn(each: DueRecord) -> bool:
    """Whether the notes of a record are to be what they were, retracted.

    That an audio is archived shows when its notes are mapped; where they cannot be, it is read off the audio.
    """
    row, record = each.row, each.record
    if record.gone:
        return True
    has_payload = row.payload_removed_at is None
    return not has_payload and record.parent is not None and PROVIDERS[row.provider].withdraws(record.parent)


def _withdrawn(connection: sa.Connection, row: sa.Row[Any]) -> _Made:
    ids = sa.select(notes.c.note_id).where(
        *(notes.c[name] == getattr(row, name) for name in ("account", "provider", "stream", "source_id"))
    )
    stored = read_notes(connection, list(connection.scalars(ids)), with_transcripts=True)
    return _Made("note", notes=tuple(_retracted(item.note) for item in stored)) if stored else _Made("held", GONE)


def _retracted(note: ScribeNote) -> ScribeNote:
    """The note, withdrawn: another version, made from the one that is withdrawn."""
    if note.state is NoteState.RETRACTED:
        return note
    version = content_hash([note.version, NoteState.RETRACTED])
    return replace(note, state=NoteState.RETRACTED, version=version, attested=False)


def _problem(
    warehouse: Warehouse, row: sa.Row[Any], code: str, paths: Sequence[str], now: datetime, run_id: str | None
) -> dict[str, Any]:
    """A quarantine row of stage `map`. Its payload is the landed record itself, so no second copy is kept."""
    return {
        "id": quarantine_id(warehouse.account, "map", row.provider, row.stream, row.source_id),
        "account": warehouse.account,
        "stage": "map",
        "provider": row.provider,
        "stream": row.stream,
        "source_id": row.source_id,
        "visit_day": row.visit_day,
        "error_code": code,
        "field_paths": list(paths),
        "payload": None,
        "payload_hash": row.content_hash,
        "attempts": 1,
        "first_seen_at": now,
        "last_seen_at": now,
        "resolved_at": None,
        "run_id": run_id,
    }


def _totals(warehouse: Warehouse, day: date) -> NotesReport:
    report = NotesReport()
    of = {"of_account": warehouse.account, "of_day": day}
    with warehouse.read() as connection:
        for outcome, code, count in connection.execute(_OUTCOMES, of):
            report.landed += count
            if outcome == "note":
                report.notes += count
            elif outcome == "part":
                report.parts += count
            elif outcome == "held":
                report.held[code] += count
            elif outcome == QUARANTINED:
                report.quarantined[code] += count
        report.states.update(dict(connection.execute(_STATES, of).all()))
        report.unknown_headings = connection.scalar(_UNKNOWN_HEADINGS, of) or 0
    return report


def _of_day(table: sa.Table) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.account == sa.bindparam("of_account"), table.c.visit_day == sa.bindparam("of_day"))


# Made once: to put them together takes longer than to ask them, and they are asked for each day.
_OUTCOMES = (
    sa.select(source_records.c.outcome, source_records.c.outcome_code, sa.func.count())
    .where(_of_day(source_records))
    .group_by(source_records.c.outcome, source_records.c.outcome_code)
)
_STATES = sa.select(notes.c.state, sa.func.count()).where(_of_day(notes)).group_by(notes.c.state)
_UNKNOWN_HEADINGS = (
    sa.select(sa.func.count())
    .select_from(note_sections)
    .join(notes, notes.c.note_id == note_sections.c.note_id)
    .where(_of_day(notes), note_sections.c.key.is_(None), note_sections.c.title.is_not(None))
)
