from __future__ import annotations

import re
from dataclasses import asdict, replace

import orjson
import pytest

from medscribe_pipeline.sandbox import MARKERS, CorpusOptions
from medscribe_pipeline.sandbox.corpus import Items, generate

STEPS = {"audio_recording", "transcription", "transcribed", "edition", "validated", "failed"}


@pytest.fixture(scope="module")
def demo() -> Items:
    return generate(CorpusOptions())


def test_the_demo_has_its_size(demo: Items) -> None:
    assert (len(demo.audios), len(demo.sessions)) == (60, 40)
    assert len({audio["createdAt"][:10] for audio in demo.audios.values()}) == 10


def test_the_same_seed_makes_the_same_corpus() -> None:
    assert asdict(generate(CorpusOptions())) == asdict(generate(CorpusOptions()))
    assert generate(CorpusOptions()).audios.keys() != generate(CorpusOptions(seed=8)).audios.keys()


def test_a_longer_corpus_keeps_the_items_of_a_shorter_one() -> None:
    short, long = generate(CorpusOptions(days=2)), generate(CorpusOptions(days=5))

    assert set(short.audios) < set(long.audios)
    assert list(short.sessions) == list(long.sessions)[: len(short.sessions)]


def test_every_workflow_step_and_its_notes(demo: Items) -> None:
    with_note = {note["audio"] for note in demo.notes.values()}
    steps_with_note = {demo.audios[key]["step"] for key in with_note}
    due = {key for key, audio in demo.audios.items() if audio["step"] in {"transcribed", "edition", "validated"}}

    assert {audio["step"] for audio in demo.audios.values()} == STEPS
    assert steps_with_note == {"transcribed", "edition", "validated"}
    assert due - with_note, "some finished audios have no note"
    assert len(demo.notes) > len(with_note), "some audios have two"


def test_two_notes_of_an_audio_differ_in_type(demo: Items) -> None:
    types: dict[str, list[str]] = {}
    for note in demo.notes.values():
        types.setdefault(note["audio"], []).append(note["type"])

    assert all(len(set(found)) == len(found) for found in types.values())


def test_the_awkward_cases_are_all_there(demo: Items) -> None:
    audios, sessions = demo.audios.values(), demo.sessions.values()

    assert any(audio["patient"] is None for audio in audios)
    assert any(audio["user"] is None for audio in audios)
    assert any(audio["archivedAt"] for audio in audios)
    assert len({audio["updatedAt"] for audio in audios}) < len(audios), "some share an updatedAt"
    assert any(session["_visit"] is None for session in sessions)
    assert any(not session["note"].strip() for session in sessions)
    assert any(not note["content"].strip() for note in demo.notes.values())
    assert any(session["createdAt"].endswith("Z") for session in sessions)
    assert any(re.search(r":\d\d$", session["createdAt"]) and "+" not in session["createdAt"] for session in sessions)
    assert {session["createdAt"][-6:] for session in sessions} >= {"+01:00", "+02:00"}, "both sides of summer time"


def test_clinicians_have_valid_practice_numbers(demo: Items) -> None:
    for user in demo.users.values():
        digits = [int(digit) for digit in user["rpps"]]
        doubled = [digit * (2 if place % 2 else 1) for place, digit in enumerate(reversed(digits))]

        assert len(digits) == 11
        assert sum(value // 10 + value % 10 for value in doubled) % 10 == 0
        assert re.fullmatch(r"\d{9}", user["am"])


def test_everything_personal_is_marked(demo: Items) -> None:
    def is_marked(text: str) -> bool:
        return any(marker in text for marker in MARKERS)

    for person in [*demo.patients.values(), *demo.users.values()]:
        assert is_marked(person["lastName"])
        assert is_marked(person["email"])
    for note in demo.notes.values():
        assert is_marked(note["content"]) or not note["content"].strip()
    for session in demo.sessions.values():
        assert is_marked(session["title"])
        assert is_marked(session["note"]) or not session["note"].strip()
        assert is_marked(session["originalTranscript"]) or not session["originalTranscript"]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_malformed_records_are_as_many_as_asked_for(count: int) -> None:
    items = generate(CorpusOptions(malformed=count))

    for records in (items.audios, items.notes, items.sessions):
        assert sum("_defect" in record for record in records.values()) == count


def test_the_whole_corpus_is_json(demo: Items) -> None:
    assert orjson.loads(orjson.dumps(asdict(demo))) == asdict(demo)


def test_five_thousand_sessions_are_cheap() -> None:
    options = replace(CorpusOptions(), days=50, audios_per_day=1, sessions_per_day=100)

    items = generate(options)

    assert len(items.sessions) == 5000
    assert len({session["id"] for session in items.sessions.values()}) == 5000
