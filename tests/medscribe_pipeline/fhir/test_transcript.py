"""The transcript is a document of its own: asked for, restricted, and never taken for a note."""

from __future__ import annotations

import base64
import uuid
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscribe_pipeline.fhir import build_documents, check
from medscribe_pipeline.fhir.transcript import transcript, transcript_identifier, transcript_text
from medscribe_pipeline.notes import Identifier, NoteState, ScribeNote, TranscriptTurn, stable_id
from tests.fhir_options import options

TURNS = (
    TranscriptTurn("Bonjour.", "doctor", 0, 900),
    TranscriptTurn("Je tousse\ndepuis 3 jours.", "patient", 65_999, 70_000),
    TranscriptTurn(" \n", "doctor", 71_000, 72_000),
    TranscriptTurn("D'accord.", None, 3_600_000 * 100, None),
    TranscriptTurn("Merci.", "patient"),
    TranscriptTurn("[00:00:01 doctor] x"),
)
LINES = (
    "[00:00:00 doctor] Bonjour.\n"
    "[00:01:05 patient] Je tousse\n    depuis 3 jours.\n"
    "[100:00:00] D'accord.\n"
    "[patient] Merci.\n"
    "[00:00:01 doctor] x"
)
ASKED = options(transcripts=True)


@pytest.fixture
def spoken(note: ScribeNote) -> ScribeNote:
    return replace(note, transcript=TURNS)


def built(note: ScribeNote, **changes: Any) -> dict[str, Any]:
    found = transcript(note, options(**{"transcripts": True} | changes))
    assert found is not None
    check(found)
    return found


def test_a_transcript_shows_who_spoke_when(spoken: ScribeNote) -> None:
    content = built(spoken)["content"]

    assert [each["attachment"]["contentType"] for each in content] == ["text/plain; charset=utf-8"]
    assert base64.b64decode(content[0]["attachment"]["data"]).decode() == (
        f"Transcription de la consultation\n\n{LINES}\n\n"
        "Transcrit par Askara (reconnaissance vocale). Non vérifié par un professionnel de santé.\n"
    )


@pytest.mark.parametrize("state", [NoteState.DRAFT, NoteState.VALIDATED])
def test_a_transcript_is_restricted_and_nobody_has_checked_it(spoken: ScribeNote, state: NoteState) -> None:
    found = built(replace(spoken, state=state), profile="us")

    assert (found["status"], found["docStatus"]) == ("current", "preliminary")
    assert [(each["system"].rpartition("/")[2], each["code"]) for each in found["meta"]["security"]] == [
        ("v3-ObservationValue", "DICTAST"),
        ("v3-Confidentiality", "R"),
    ]
    assert found["securityLabel"][0]["coding"][0]["code"] == "R"
    assert found["author"][0]["type"] == "Device"
    assert "profile" not in found["meta"]


def test_whoever_searches_for_notes_does_not_find_it(spoken: ScribeNote) -> None:
    found = built(spoken)

    own = "https://example.org/fhir/CodeSystem/scribe-document"
    assert found["category"] == [{"coding": [{"system": own, "code": "transcript"}]}]
    assert [coding["code"] for coding in found["type"]["coding"]] == ["34109-9", "transcript"]
    assert "clinical-note" not in str(found)


def test_it_is_another_document_about_the_same_visit(spoken: ScribeNote) -> None:
    documents = build_documents(spoken, ASKED)
    note, found = documents.document_reference, documents.transcript

    assert found is not None
    assert found["identifier"][0]["system"] == "https://example.org/fhir/sid/askara/clinic-a/transcript"
    assert found["identifier"] != note["identifier"]
    assert found["masterIdentifier"] != note["masterIdentifier"]
    assert found["subject"] == note["subject"]
    assert found["context"]["encounter"] == note["context"]["encounter"]
    assert found["context"]["related"] == [{"type": "DocumentReference", "identifier": note["identifier"][0]}]
    assert "related" not in note["context"]
    assert documents.resources()["Transcript"] is found


def test_an_edit_of_the_note_is_no_new_transcript(spoken: ScribeNote) -> None:
    edited = replace(spoken, version="c" * 64, amends=spoken.version)
    more = replace(spoken, transcript=(*TURNS, TranscriptTurn("Encore.")))

    before = built(spoken)["masterIdentifier"]

    assert built(edited)["masterIdentifier"] == before
    assert built(more)["masterIdentifier"] != before
    assert built(more)["identifier"] == built(spoken)["identifier"]


def test_a_retracted_note_retracts_its_transcript(spoken: ScribeNote) -> None:
    found = built(replace(spoken, state=NoteState.RETRACTED, language="en"))

    assert (found["status"], found["docStatus"]) == ("entered-in-error", "entered-in-error")
    assert found["masterIdentifier"] != built(spoken)["masterIdentifier"]
    assert base64.b64decode(found["content"][0]["attachment"]["data"]).decode().endswith("do not use.\n")


@pytest.mark.parametrize("turns", [(), (TranscriptTurn(" \x00\n"), TranscriptTurn("", "doctor", 0, 1))])
def test_where_nothing_was_said_there_is_none(note: ScribeNote, turns: tuple[TranscriptTurn, ...]) -> None:
    assert transcript(replace(note, transcript=turns), ASKED) is None


def test_there_is_none_unless_it_is_asked_for(spoken: ScribeNote) -> None:
    documents = build_documents(spoken, options())

    assert documents.transcript is None
    assert "Transcript" not in documents.resources()


def test_the_keeper_is_named(spoken: ScribeNote) -> None:
    found = built(spoken, custodian=Identifier("urn:oid:1.2.3", "clinic-1"))

    assert found["custodian"] == {
        "type": "Organization",
        "identifier": {"system": "urn:oid:1.2.3", "value": "clinic-1"},
    }


def test_identifiers_differ_by_note_account_and_provider() -> None:
    notes = [stable_id("nabla", "a", name, "note") for name in ("1", "2")]
    found = [
        tuple(transcript_identifier("https://example.org/fhir", provider, account, note_id).values())
        for provider in ("nabla", "intron")
        for account in ("a", "b")
        for note_id in notes
    ]

    assert len(set(found)) == len(found)
    assert all(uuid.UUID(value) not in notes for _, value in found)


WORDS = st.lists(st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), max_size=8), max_size=4)
SPOKEN = st.builds(
    TranscriptTurn,
    WORDS.map("\n".join),
    st.none() | st.sampled_from(["doctor", "patient", " "]),
    st.none() | st.integers(-5, 10**9),
    st.none() | st.integers(0, 10**9),
)


@settings(max_examples=60, deadline=None)
@given(turns=st.lists(SPOKEN, max_size=5).map(tuple))
def test_every_word_that_was_said_is_there_in_order(turns: tuple[TranscriptTurn, ...]) -> None:
    note = ScribeNote(
        note_id=uuid.UUID(int=1),
        provider="nabla",
        account="default",
        stream="results",
        source_id="synthetic-1",
        state=NoteState.DRAFT,
        version="0" * 64,
        transcript=turns,
    )

    text = transcript_text(note)

    position = 0
    for word in (word for turn in turns for word in turn.text.split()):
        position = text.index(word, position) + len(word)
