"""`medscribe show`: one note with its documents and deliveries, and the patient only on request."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from medscribe_pipeline.sandbox import MARKERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.medscribe_pipeline.cli.conftest import Ran
    from tests.synced import Clinic

NOTE = {
    "note_id",
    "provider",
    "stream",
    "source_id",
    "state",
    "visit_day",
    "language",
    "template",
    "created_at",
    "updated_at",
    "version",
    "patient",
    "encounter",
}
SECTION = {"ordinal", "key", "characters"}
DOCUMENT = {"kind", "version", "mapping_version", "built_at", "resource"}
DELIVERY = {
    "target",
    "kind",
    "version",
    "state",
    "reason",
    "server_id",
    "etag",
    "attempts",
    "settled_at",
}


@pytest.fixture
def delivered(clinic: Clinic) -> str:
    """A note that went all the way."""
    return str(clinic.value("SELECT min(note_id) FROM deliveries WHERE state = 'delivered'"))


def patient_of(clinic: Clinic, note_id: str) -> list[str]:
    """What would tell who a note is about, and what it says."""
    row = clinic.rows("SELECT title, patient_id, encounter_id, practitioner FROM notes WHERE note_id = ?", note_id)[0]
    texts = clinic.rows("SELECT text, title FROM note_sections WHERE note_id = ?", note_id)
    people = [one["value"] for one in orjson.loads(row[3] or "{}").get("identifiers", [])]
    words = [part for pair in texts for part in pair if part and len(part) > 8]
    return [value for value in (*row[:3], *people, *words) if value]


def test_without_text_neither_patient_nor_content_is_shown(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    for note_id in clinic.note_ids():
        for flags in ((), ("--json",)):
            ran = medscribe("show", note_id, *flags)

            said = ran.out + ran.err
            assert ran.code == 0
            assert [value for value in (*MARKERS, *patient_of(clinic, note_id)) if value in said] == []


def test_an_element_nobody_thought_of_is_not_shown_without_text(
    clinic: Clinic, medscribe: Callable[..., Ran], delivered: str
) -> None:
    clinic.change("UPDATE fhir_documents SET resource = json_set(resource, '$.text', json(?))", '{"div": "qxcanary"}')

    without = medscribe("show", delivered, "--json")
    with_text = medscribe("show", delivered, "--text", "--json")

    assert "qxcanary" not in without.out
    assert "qxcanary" in with_text.out


def test_json_without_text_has_a_stable_shape(clinic: Clinic, medscribe: Callable[..., Ran], delivered: str) -> None:
    found = medscribe("show", delivered, "--json").json

    assert set(found) == {"note", "sections", "documents", "deliveries"}
    assert set(found["note"]) == NOTE
    assert {frozenset(each) for each in found["sections"]} == {frozenset(SECTION)}
    assert {frozenset(each) for each in found["documents"]} == {frozenset(DOCUMENT)}
    assert {frozenset(each) for each in found["deliveries"]} == {frozenset(DELIVERY)}
    assert [each["kind"] for each in found["documents"]] == ["Composition", "DocumentReference", "Provenance"]
    assert (found["note"]["note_id"], found["note"]["patient"]) == (delivered, "known")
    assert clinic.value("SELECT count(*) FROM note_sections WHERE note_id = ?", delivered) == len(found["sections"])


def test_with_text_everything_is_shown(clinic: Clinic, medscribe: Callable[..., Ran], delivered: str) -> None:
    found = medscribe("show", delivered, "--text", "--json").json

    stored = clinic.rows("SELECT title, text FROM note_sections WHERE note_id = ? ORDER BY ordinal", delivered)
    assert set(found["note"]) == NOTE | {"title", "patient_system", "patient_id"}
    assert [(each["title"], each["text"]) for each in found["sections"]] == stored
    assert found["note"]["patient_id"] == clinic.value("SELECT patient_id FROM notes WHERE note_id = ?", delivered)
    composition = found["documents"][0]["resource"]
    assert {"subject", "author", "section", "title"} <= set(composition)


def test_with_text_the_terminal_shows_the_words_as_they_are(
    clinic: Clinic, medscribe: Callable[..., Ran], delivered: str
) -> None:
    text = clinic.value("SELECT text FROM note_sections WHERE note_id = ? AND ordinal = 0", delivered)

    ran = medscribe("show", delivered, "--text")

    assert " ".join(text.split()) in ran.words


def test_the_terminal_never_takes_a_patients_words_for_markup(
    clinic: Clinic, medscribe: Callable[..., Ran], delivered: str
) -> None:
    clinic.change("UPDATE note_sections SET text = '[red]5[/red] [/] :smile:', title = '[bold]x[/bold] [/]'")
    clinic.change("UPDATE notes SET title = '[bold]y[/bold] [/]'")

    ran = medscribe("show", delivered, "--text")

    assert ran.code == 0
    assert "[red]5[/red] [/] :smile:" in ran.words
    assert "[bold]x[/bold] [/]" in ran.words
    assert "[bold]y[/bold] [/]" in ran.words


def test_a_patients_words_cannot_steer_the_terminal(
    clinic: Clinic, medscribe: Callable[..., Ran], delivered: str
) -> None:
    clinic.change("UPDATE note_sections SET text = ?, title = ?", "a\x1b[2Jb\x07\n\tc\x9bd", "t\x1b]0;x\x07")

    ran = medscribe("show", delivered, "--text")

    assert "\x1b" not in ran.out
    assert "\x07" not in ran.out
    assert "\x9b" not in ran.out
    assert "a\ufffd[2Jb\ufffd" in ran.words


def test_a_note_has_a_second_name(clinic: Clinic, medscribe: Callable[..., Ran], delivered: str) -> None:
    ((provider, source_id),) = clinic.rows("SELECT provider, source_id FROM notes WHERE note_id = ?", delivered)

    by_name = medscribe("show", f"{provider}:{source_id}", "--json").json
    by_id = medscribe("show", delivered.upper(), "--json").json

    assert by_name == by_id


@pytest.mark.parametrize(
    "name", [str(uuid.UUID(int=7)), "askara:nothing", "nothing", "x" * 5000, "'; DROP TABLE notes; --", ""]
)
@pytest.mark.parametrize("flags", [(), ("--json",)], ids=["people", "json"])
def test_an_unknown_note_is_exit_code_2(
    clinic: Clinic, medscribe: Callable[..., Ran], name: str, flags: tuple[str, ...]
) -> None:
    ran = medscribe("show", *flags, "--", name)

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("medscribe: There is no such note")
    assert "DROP" not in ran.err
    assert len(clinic.note_ids()) > 0


def test_the_note_of_another_account_is_unknown(
    clinic: Clinic, medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, delivered: str
) -> None:
    assert clinic
    monkeypatch.setenv("MEDSCRIBE_ACCOUNT", "north")

    assert medscribe("show", delivered).code == 2


def test_what_is_held_says_why(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    held = clinic.value("SELECT min(note_id) FROM deliveries WHERE state = 'held' AND reason = 'not_validated'")

    deliveries: list[dict[str, Any]] = medscribe("show", held, "--json").json["deliveries"]

    assert {(each["state"], each["reason"], each["server_id"]) for each in deliveries} == {
        ("held", "not_validated", None)
    }
    assert "held" in medscribe("show", held).words
