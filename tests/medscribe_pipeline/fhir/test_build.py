"""Notes into stored documents: built once for each version, checked, and never half."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import pytest
import sqlalchemy as sa

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.fhir import BuildOptions, build, version_identifier
from medscribe_pipeline.fhir.build import DocumentsReport, build_day, count_due, mapping_version
from medscribe_pipeline.fhir.documents import build_documents
from medscribe_pipeline.fhir.rules import check
from medscribe_pipeline.notes import (
    NoteSection,
    NoteState,
    ScribeNote,
    TranscriptTurn,
    canonical_json,
    content_hash,
    stable_id,
)
from medscribe_pipeline.processes import Batch
from medscribe_pipeline.settings import FhirSettings
from medscribe_pipeline.warehouse.erasure import Scope, forget
from medscribe_pipeline.warehouse.notes import MappedNote, write_notes
from medscribe_pipeline.warehouse.tables import fhir_documents, quarantine
from tests.databases import NOW, TODAY, dump, rows_of

if TYPE_CHECKING:
    from datetime import date

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

DAY = timedelta(days=1)
KINDS = ["Composition", "DocumentReference", "Provenance"]


def a_note(number: int, text: str = "Cough.", state: NoteState = NoteState.VALIDATED) -> ScribeNote:
    source_id = f"n-{number}"
    return ScribeNote(
        note_id=stable_id("askara", "default", source_id, "note"),
        provider="askara",
        account="default",
        stream="notes",
        source_id=source_id,
        state=state,
        version=content_hash([text, state]),
        sections=(NoteSection("PLAN", "Plan", text),),
        created_at=datetime(2026, 3, 2, 8, 0, tzinfo=UTC),
    )


def spoken(number: int, text: str = "Cough.", state: NoteState = NoteState.VALIDATED) -> ScribeNote:
    """The same note with a transcript."""
    return replace(a_note(number, text, state), transcript=(TranscriptTurn("I cough.", "patient", 0, 900),))


def documents(warehouse: Warehouse) -> dict[str, dict[str, Any]]:
    """The resources there are, by kind; of one note, if there are several."""
    return {row["kind"]: row["resource"] for row in rows_of(warehouse, fhir_documents)}


def write(warehouse: Warehouse, *notes: ScribeNote, day: date = TODAY, seq: int = 1) -> None:
    with warehouse.begin() as connection:
        write_notes(warehouse, connection, [MappedNote(note, day, seq) for note in notes], NOW)


def run(warehouse: Warehouse, settings: Settings, day: date = TODAY, at: datetime = NOW) -> DocumentsReport:
    return build_day(warehouse, settings, day, clock=lambda: at, run_id="run-3")


def due(warehouse: Warehouse, settings: Settings) -> int:
    with warehouse.read() as connection:
        return count_due(connection, warehouse.account, TODAY, mapping_version(settings))


@pytest.fixture
def with_transcripts(settings: Settings) -> Settings:
    return settings.model_copy(update={"fhir": FhirSettings(transcripts=True)})


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Words that no document may hold: the rules as they would be for a note that breaks one."""
    words: set[str] = set()

    def strict(resource: dict[str, Any], release: Literal["R4", "R5"], _how: str) -> None:
        if any(word in str(resource) for word in words):
            raise MedscribeError("A rule is broken", code="fhir_rules", field_paths=("Composition.section:cmp-1",))
        check(resource, release)

    monkeypatch.setattr(build, "check", strict)
    return words


@pytest.mark.parametrize("how", ["shape", "strict"])
def test_documents_are_checked_as_the_setting_says(
    warehouse: Warehouse, settings: Settings, monkeypatch: pytest.MonkeyPatch, how: Literal["shape", "strict"]
) -> None:
    seen: list[tuple[str, ...]] = []
    monkeypatch.setattr(build, "check", lambda resource, *told: seen.append((resource["resourceType"], *told)))
    write(warehouse, a_note(1))

    run(warehouse, settings.model_copy(update={"fhir": FhirSettings(check=how)}))

    assert seen == [(kind, "R4", how) for kind in KINDS]


def test_each_note_becomes_its_documents(warehouse: Warehouse, settings: Settings) -> None:
    write(warehouse, a_note(1), a_note(2, state=NoteState.DRAFT))
    before = due(warehouse, settings)

    report = run(warehouse, settings)

    assert (before, due(warehouse, settings)) == (2, 0)
    assert (report.built, report.compositions, report.document_references, report.provenances) == (2, 2, 2, 2)
    rows = rows_of(warehouse, fhir_documents)
    assert sorted(row["kind"] for row in rows) == sorted(KINDS * 2)
    assert all(row["resource"]["resourceType"] == row["kind"] for row in rows)
    assert {row["version"] for row in rows} == {a_note(1).version, a_note(2, state=NoteState.DRAFT).version}
    assert {(row["mapping_version"], row["visit_day"]) for row in rows} == {(mapping_version(settings), TODAY)}


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_what_is_stored_is_what_was_built_to_the_byte(warehouse: Warehouse, settings: Settings) -> None:
    """PostgreSQL keeps values and not their text."""
    note = a_note(1, "Toux < 3 jours \u2014 38 \u00b0C \U0001f912\n- repos")
    write(warehouse, note)

    run(warehouse, settings)

    with warehouse.read() as connection:
        stored: dict[str, str] = dict(connection.exec_driver_sql("SELECT kind, resource FROM fhir_documents").all())
    built = build_documents(note, BuildOptions.of(settings.fhir)).resources()
    assert stored == {kind: canonical_json(resource).decode() for kind, resource in built.items()}


def test_a_note_that_cannot_be_written_stops_nothing(
    warehouse: Warehouse, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflow(content: dict[str, Any]) -> bytes:
        if "Unwritable" in str(content):
            raise OverflowError
        return canonical_json(content)

    monkeypatch.setattr(build, "canonical_json", overflow)
    write(warehouse, a_note(1), a_note(2, "Unwritable."), a_note(3))

    report = run(warehouse, settings)

    assert (report.built, report.quarantined) == (2, {"unexpected": 1})


def test_forms_that_cannot_be_made_are_counted(warehouse: Warehouse, settings: Settings) -> None:
    with_pdf = settings.model_copy(update={"fhir": FhirSettings(renderings=("text", "pdf"))})
    write(warehouse, a_note(1), a_note(2, "胸の痛み"))

    report = run(warehouse, with_pdf)

    assert (report.built, report.left_out) == (2, {"pdf": 1})


def test_a_second_build_writes_nothing(warehouse: Warehouse, settings: Settings) -> None:
    write(warehouse, a_note(1), a_note(2, " "), a_note(3, state=NoteState.FAILED))
    run(warehouse, settings)
    before = dump(warehouse)

    report = run(warehouse, settings, at=NOW + DAY)

    assert dump(warehouse) == before
    assert (report.built, report.compositions, report.document_references) == (0, 1, 1)


@pytest.mark.parametrize(
    ("note", "reason"),
    [(a_note(1, " "), "empty_note"), (a_note(1, state=NoteState.FAILED), "failed_at_provider")],
    ids=["empty", "failed"],
)
def test_a_note_with_nothing_to_say_has_no_documents_and_is_not_due(
    warehouse: Warehouse, settings: Settings, note: ScribeNote, reason: str
) -> None:
    write(warehouse, note)

    assert due(warehouse, settings) == 0
    assert run(warehouse, settings).without == {reason: 1}
    assert rows_of(warehouse, fhir_documents) == []


def test_a_retracted_note_is_built_even_when_it_is_empty(warehouse: Warehouse, settings: Settings) -> None:
    write(warehouse, a_note(1, " ", NoteState.RETRACTED))

    assert due(warehouse, settings) == 1
    assert run(warehouse, settings).built == 1
    assert due(warehouse, settings) == 0


def test_only_a_changed_note_is_built_again(warehouse: Warehouse, settings: Settings) -> None:
    write(warehouse, a_note(1), a_note(2))
    run(warehouse, settings)
    write(warehouse, a_note(1), a_note(2, "Fever."), seq=2)

    report = run(warehouse, settings, at=NOW + DAY)

    assert report.built == 1
    built = {(row["note_id"], row["built_at"]) for row in rows_of(warehouse, fhir_documents)}
    assert built == {(str(a_note(1).note_id), NOW), (str(a_note(2).note_id), NOW + DAY)}


def test_another_mapping_builds_everything_again(warehouse: Warehouse, settings: Settings) -> None:
    write(warehouse, a_note(1))
    run(warehouse, settings)
    other = settings.model_copy(update={"fhir": FhirSettings(base_uri="https://hospital.example/fhir")})

    assert due(warehouse, other) == 1
    assert run(warehouse, other).built == 1
    assert "https://hospital.example/fhir" in str(rows_of(warehouse, fhir_documents)[0]["resource"])


def test_a_note_that_moves_to_another_day_takes_its_documents_along(warehouse: Warehouse, settings: Settings) -> None:
    write(warehouse, a_note(1))
    run(warehouse, settings)
    write(warehouse, a_note(1), day=TODAY - DAY, seq=2)

    old_day, new_day = run(warehouse, settings), run(warehouse, settings, TODAY - DAY)

    assert (old_day.compositions, new_day.compositions) == (1, 1)
    assert run(warehouse, settings).compositions == 0
    assert {row["visit_day"] for row in rows_of(warehouse, fhir_documents)} == {TODAY - DAY}


def test_an_older_build_never_replaces_a_newer_one(
    warehouse: Warehouse, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one run builds, another one lands a newer version and builds it: the slow one must not win."""
    write(warehouse, a_note(1, "Old."))

    def overtaken(note: ScribeNote, options: BuildOptions) -> Any:
        monkeypatch.setattr(build, "build_documents", build_documents)
        write(warehouse, a_note(1, "New."), seq=2)
        run(warehouse, settings)
        return build_documents(note, options)

    monkeypatch.setattr(build, "build_documents", overtaken)
    run(warehouse, settings)

    assert {row["version"] for row in rows_of(warehouse, fhir_documents)} == {a_note(1, "New.").version}


def test_a_note_that_breaks_a_rule_stops_nothing(warehouse: Warehouse, settings: Settings, refused: set[str]) -> None:
    refused.add("Forbidden")
    write(warehouse, a_note(1), a_note(2, "Forbidden."), a_note(3))

    report = run(warehouse, settings)

    assert (report.built, report.quarantined) == (2, {"fhir_rules": 1})
    assert due(warehouse, settings) == 0
    (row,) = rows_of(warehouse, quarantine)
    assert (row["stage"], row["source_id"], row["payload"]) == ("fhir", "n-2", None)
    assert row["field_paths"] == ["Composition.section:cmp-1"]
    assert str(a_note(2).note_id) not in {row["note_id"] for row in rows_of(warehouse, fhir_documents)}


def test_a_note_that_breaks_no_rule_any_more_leaves_the_quarantine(
    warehouse: Warehouse, settings: Settings, refused: set[str]
) -> None:
    refused.add("Forbidden")
    write(warehouse, a_note(1, "Forbidden."))
    run(warehouse, settings)
    write(warehouse, a_note(1, "Allowed."), seq=2)
    waiting = due(warehouse, settings)

    report = run(warehouse, settings, at=NOW + DAY)

    assert (waiting, report.built, report.quarantined) == (1, 1, {})
    assert rows_of(warehouse, quarantine)[0]["resolved_at"] == NOW + DAY


def test_a_note_in_quarantine_does_not_stand_for_another_of_its_record(
    warehouse: Warehouse, settings: Settings, refused: set[str]
) -> None:
    refused.add("Forbidden")
    broken = a_note(1, "Forbidden.")
    write(warehouse, broken)
    run(warehouse, settings)

    write(
        warehouse,
        replace(
            a_note(1), note_id=stable_id("askara", "default", "n-1", "summary"), kind="summary", version=broken.version
        ),
    )

    assert due(warehouse, settings) == 1


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_what_is_due_is_looked_up_in_the_quarantine_by_its_id(
    warehouse: Warehouse, settings: Settings, refused: set[str]
) -> None:
    refused.add("Forbidden")
    write(warehouse, *(a_note(number, "Forbidden.") for number in range(3)))
    run(warehouse, settings)
    plans: list[str] = []

    def look(_connection: object, cursor: Any, statement: str, parameters: Any, *_: object) -> None:
        if "FROM quarantine" in statement:
            plans.append(str(cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()))

    sa.event.listen(warehouse.engine, "before_cursor_execute", look)
    found = due(warehouse, settings)
    sa.event.remove(warehouse.engine, "before_cursor_execute", look)

    assert found == 0
    assert ["(id=?)" in plan for plan in plans] == [True]


def test_both_documents_are_written_or_none(warehouse: Warehouse, settings: Settings) -> None:
    write(warehouse, a_note(1), a_note(2))
    before = dump(warehouse)

    def refuse(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE quarantine"):
            raise ZeroDivisionError

    sa.event.listen(warehouse.engine, "before_cursor_execute", refuse)
    try:
        with pytest.raises(ZeroDivisionError):
            run(warehouse, settings)
    finally:
        sa.event.remove(warehouse.engine, "before_cursor_execute", refuse)

    assert dump(warehouse) == before


def test_an_edit_after_validation_is_built_as_an_amendment(warehouse: Warehouse, settings: Settings) -> None:
    for seq, (text, state) in enumerate(
        [("Rest.", NoteState.VALIDATED), ("Rest and", NoteState.DRAFT), ("Rest and tea.", NoteState.VALIDATED)], 1
    ):
        write(warehouse, a_note(1, text, state), seq=seq)
        run(warehouse, settings)

    stored = documents(warehouse)
    assert stored["Composition"]["status"] == stored["DocumentReference"]["docStatus"] == "amended"
    (related,) = stored["DocumentReference"]["relatesTo"]
    replaced = version_identifier(a_note(1).note_id, a_note(1, "Rest.").version)
    assert (related["code"], related["target"]["identifier"]["value"]) == ("replaces", replaced)


def test_a_transcript_is_built_where_it_is_asked_for(warehouse: Warehouse, with_transcripts: Settings) -> None:
    write(warehouse, spoken(1), a_note(2))

    report = run(warehouse, with_transcripts)

    assert (report.built, report.compositions, report.transcripts, report.removed) == (2, 2, 1, 0)
    assert [row["note_id"] for row in rows_of(warehouse, fhir_documents) if row["kind"] == "Transcript"] == [
        str(spoken(1).note_id)
    ]
    before = dump(warehouse)
    assert run(warehouse, with_transcripts, at=NOW + DAY).removed == 0
    assert dump(warehouse) == before


def test_transcripts_go_when_their_setting_is_switched_off(
    warehouse: Warehouse, settings: Settings, with_transcripts: Settings
) -> None:
    write(warehouse, spoken(1), spoken(2))
    run(warehouse, with_transcripts)

    report = run(warehouse, settings)

    assert (report.built, report.transcripts, report.removed) == (2, 0, 2)
    assert "Transcript" not in documents(warehouse)


def test_a_transcript_goes_with_what_was_said_and_leaves_other_notes_alone(
    warehouse: Warehouse, with_transcripts: Settings
) -> None:
    write(warehouse, spoken(1), spoken(2))
    run(warehouse, with_transcripts)
    untouched = [row for row in rows_of(warehouse, fhir_documents) if row["note_id"] == str(spoken(2).note_id)]
    write(warehouse, a_note(1, "Fever."), seq=2)

    report = run(warehouse, with_transcripts, at=NOW + DAY)

    assert (report.built, report.transcripts, report.removed) == (1, 1, 1)
    rows = rows_of(warehouse, fhir_documents)
    assert [row for row in rows if row["note_id"] == str(spoken(2).note_id)] == untouched
    assert {row["kind"] for row in rows if row["note_id"] == str(spoken(1).note_id)} >= set(KINDS)


def test_a_retracted_note_retracts_its_transcript(warehouse: Warehouse, with_transcripts: Settings) -> None:
    write(warehouse, spoken(1))
    run(warehouse, with_transcripts)
    write(warehouse, spoken(1, state=NoteState.RETRACTED), seq=2)

    run(warehouse, with_transcripts)

    stored = documents(warehouse)
    assert {stored[kind]["status"] for kind in ("Composition", "DocumentReference", "Transcript")} == {
        "entered-in-error"
    }


def test_a_run_that_was_overtaken_removes_nothing_that_is_newer(
    warehouse: Warehouse, with_transcripts: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slow run builds a version without transcript, the quick one a newer version that has one."""
    write(warehouse, a_note(1, "Old."))

    def overtaken(note: ScribeNote, options: BuildOptions) -> Any:
        monkeypatch.setattr(build, "build_documents", build_documents)
        write(warehouse, spoken(1, "New."), seq=2)
        run(warehouse, with_transcripts)
        return build_documents(note, options)

    monkeypatch.setattr(build, "build_documents", overtaken)
    report = run(warehouse, with_transcripts)

    assert report.removed == 0
    assert "Transcript" in documents(warehouse)


def test_a_run_that_was_overtaken_leaves_nothing_that_is_older(
    warehouse: Warehouse, with_transcripts: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other way round: only the old version has a transcript, and the newer one has none."""
    write(warehouse, spoken(1, "Old."))

    def overtaken(note: ScribeNote, options: BuildOptions) -> Any:
        monkeypatch.setattr(build, "build_documents", build_documents)
        write(warehouse, a_note(1, "New."), seq=2)
        run(warehouse, with_transcripts)
        return build_documents(note, options)

    monkeypatch.setattr(build, "build_documents", overtaken)
    run(warehouse, with_transcripts)

    rows = rows_of(warehouse, fhir_documents)
    assert {row["version"] for row in rows} == {a_note(1, "New.").version}
    assert "Transcript" not in {row["kind"] for row in rows}


@pytest.mark.parametrize("words", ["Old.", "Forbidden."], ids=["built", "refused"])
def test_a_note_that_is_forgotten_while_it_is_built_leaves_nothing(
    warehouse: Warehouse, settings: Settings, monkeypatch: pytest.MonkeyPatch, refused: set[str], words: str
) -> None:
    refused.add("Forbidden")
    write(warehouse, a_note(1, words), a_note(2))

    def slow(note: ScribeNote, options: BuildOptions) -> Any:
        monkeypatch.setattr(build, "build_documents", build_documents)
        forget(warehouse, Scope(notes={str(a_note(1).note_id)}), now=NOW, who="somebody")
        return build_documents(note, options)

    monkeypatch.setattr(build, "build_documents", slow)
    report = run(warehouse, settings)

    assert (report.built, report.quarantined) == (1, {})
    assert {row["note_id"] for row in rows_of(warehouse, fhir_documents)} == {str(a_note(2).note_id)}
    assert rows_of(warehouse, quarantine) == []


def test_a_note_that_changed_while_it_was_built_is_due_still(
    warehouse: Warehouse, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(warehouse, a_note(1, "Old."))

    def slow(note: ScribeNote, options: BuildOptions) -> Any:
        monkeypatch.setattr(build, "build_documents", build_documents)
        write(warehouse, a_note(1, "New."), seq=2)
        return build_documents(note, options)

    monkeypatch.setattr(build, "build_documents", slow)
    overtaken, waiting = run(warehouse, settings), due(warehouse, settings)

    assert (overtaken.built, overtaken.compositions, waiting) == (0, 0, 1)
    assert run(warehouse, settings).built == 1


def test_documents_are_built_by_the_mapping_they_are_to_be_built_by(warehouse: Warehouse, settings: Settings) -> None:
    write(warehouse, a_note(1))

    with pytest.raises(MedscribeError) as raised:
        build.build_batch(warehouse, settings, Batch(TODAY, (str(a_note(1).note_id),), True, "another"), NOW)

    assert raised.value.code == "mapping_differs"
    assert rows_of(warehouse, fhir_documents) == []


def test_more_notes_than_one_batch_are_all_built(
    warehouse: Warehouse, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "BATCH", 2)
    write(warehouse, *(a_note(number) for number in range(5)))

    assert run(warehouse, settings).built == 5


def test_an_account_sees_only_its_own(warehouse: Warehouse, settings: Settings) -> None:
    write(warehouse, a_note(1))
    warehouse.account = "other"

    assert run(warehouse, settings.model_copy(update={"account": "other"})).built == 0
