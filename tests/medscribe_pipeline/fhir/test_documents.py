from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import uuid
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.fhir import (
    VERSION_SYSTEM,
    build_documents,
    check,
    clean_text,
    note_identifier,
    version_identifier,
)
from medscribe_pipeline.notes import Identifier, NoteSection, NoteState, Practitioner, ScribeNote, Visit, stable_id
from tests.fhir_options import options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypothesis.strategies import SearchStrategy

BASE_URI = "https://example.org/fhir"


# Any text a provider could send, odd characters more often than chance would bring them.
ODD = st.sampled_from(
    ["<", "&", ">", "]]>", "\x00", "\x0b", "\r\n", "\u2028", "\ud800", "😀", "\u202e", "é", "- ", "&nbsp;"]
)
TEXTS = st.lists(st.text(alphabet=st.characters(exclude_categories=()), max_size=12) | ODD, max_size=8).map("".join)

TIMES = st.none() | st.datetimes(
    min_value=datetime(1900, 1, 1),  # noqa: DTZ001  hypothesis wants naive bounds and adds the zone itself
    max_value=datetime(2200, 1, 1),  # noqa: DTZ001  as above
    timezones=st.just(UTC),
)

IDENTIFIERS = st.none() | st.builds(
    Identifier,
    system=st.sampled_from(["https://example.org/id", "urn:oid:1.2.3", ""]),
    value=st.text(alphabet="abc-123/| é", max_size=12),
)

PRACTITIONERS = st.none() | st.builds(
    Practitioner,
    identifiers=st.lists(IDENTIFIERS.filter(bool), max_size=2).map(tuple),
    display=st.none() | TEXTS,
)


def sections(depth: int = 2) -> SearchStrategy[tuple[NoteSection, ...]]:
    nested = sections(depth - 1) if depth else st.just(())
    keys = st.none() | st.sampled_from(["PLAN", "soap_plan", "ALLERGIES"]) | TEXTS
    section = st.builds(NoteSection, key=keys, title=st.none() | TEXTS, text=TEXTS, sections=nested)
    return st.lists(section, max_size=3).map(tuple)


@st.composite
def notes(draw: st.DrawFn) -> ScribeNote:
    """A note of any content that can be built: not failed, with a time, and with text unless retracted."""
    source_id = draw(st.text(alphabet="abc123", min_size=1, max_size=4))
    return ScribeNote(
        note_id=stable_id("nabla", "a", source_id, "note"),
        provider=draw(st.sampled_from(["askara", "audioscribe", "nabla", "intron", "next"])),
        account=draw(st.sampled_from(["default", "clinic.a"])),
        stream="notes",
        source_id=source_id,
        state=draw(st.sampled_from([NoteState.DRAFT, NoteState.VALIDATED, NoteState.RETRACTED])),
        version=draw(st.text(alphabet="0123456789abcdef", min_size=4, max_size=8)),
        kind=draw(st.sampled_from(["note", "summary", "news"])),
        title=draw(st.none() | TEXTS),
        language=draw(st.none() | st.sampled_from(["fr", "en-US", "zh-Hant-TW", "en_US", "French!", ""])),
        template=draw(st.none() | st.sampled_from(["SOAP", "CARDIOLOGY", "UNHEARD_OF"])),
        sections=(*draw(sections()), NoteSection("ASSESSMENT", None, "certain words")),
        visit=Visit(draw(IDENTIFIERS), draw(PRACTITIONERS), draw(IDENTIFIERS), draw(TIMES), draw(TIMES)),
        created_at=draw(TIMES),
        updated_at=draw(TIMES.filter(bool)),
        validated_at=draw(TIMES),
    )


def attachment_text(document: dict[str, Any]) -> str:
    return base64.b64decode(document["content"][0]["attachment"]["data"]).decode()


def narratives(section: dict[str, Any]) -> Iterator[str]:
    """The visible words of a section and of those nested in it, in order."""
    if "text" in section:
        root = ET.fromstring(section["text"]["div"])  # noqa: S314  written by our own code a moment ago
        yield from "".join(root.itertext()).split()
    for nested in section.get("section", []):
        yield from narratives(nested)


def spoken(sections: tuple[NoteSection, ...]) -> Iterator[str]:
    """The words of a note, in order, without bullet marks (which become list items)."""
    for section in sections:
        for line in clean_text(section.text).split("\n"):
            parts = line.split()
            yield from parts[1:] if len(parts) > 1 and parts[0] in ("-", "•") else parts
        yield from spoken(section.sections)


def in_order(needles: Iterator[str], haystack: list[str]) -> bool:
    rest = iter(haystack)
    return all(any(word == needle for word in rest) for needle in needles)


@settings(max_examples=70, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(notes(), st.sampled_from(["us", "fr", "international"]))
def test_any_note_is_valid_and_whole(note: ScribeNote, profile: str) -> None:
    documents = build_documents(note, options(profile=profile))

    check(documents.composition)
    check(documents.document_reference)
    in_composition = [word for section in documents.composition["section"] for word in narratives(section)]
    assert in_composition == list(spoken(note.sections))
    assert in_order(spoken(note.sections), attachment_text(documents.document_reference).split())


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(notes())
def test_same_note_same_bytes(note: ScribeNote) -> None:
    first, second = (build_documents(note, options()) for _ in range(2))

    assert orjson.dumps(first.composition) == orjson.dumps(second.composition)
    assert orjson.dumps(first.document_reference) == orjson.dumps(second.document_reference)


def test_documents_share_no_parts(note: ScribeNote) -> None:
    first = build_documents(note, options())
    first.composition["meta"]["security"][0]["code"] = "changed"
    first.composition["category"][0]["coding"][0]["code"] = "changed"

    second = build_documents(note, options())

    assert b"changed" not in orjson.dumps([first.document_reference, second.composition])


def test_what_is_done_to_a_document_is_not_done_to_the_next(note: ScribeNote) -> None:
    before = orjson.dumps(build_documents(note, options()).resources())
    for resource in build_documents(note, options()).resources().values():
        spoil(resource)
    assert orjson.dumps(build_documents(note, options()).resources()) == before


def spoil(part: Any) -> None:
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        spoil(inner)
    if isinstance(part, dict | list):
        part.clear()


def test_composition_of_a_validated_note(note: ScribeNote) -> None:
    composition = build_documents(note, options(profile="fr")).composition

    practitioner = {
        "type": "Practitioner",
        "identifier": {"system": "https://example.org/user", "value": "synthetic-user-1"},
        "display": "Dr Exemple Synthétique",
    }
    sections = composition.pop("section")
    assert composition == {
        "resourceType": "Composition",
        "meta": {
            "security": [
                {
                    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
                    "code": "AIAST",
                    "display": "Artificial Intelligence asserted",
                }
            ]
        },
        "language": "fr-FR",
        "identifier": {"system": f"{BASE_URI}/sid/askara/clinic-a/note", "value": str(note.note_id)},
        "status": "final",
        "type": {
            "coding": [{"system": "http://loinc.org", "code": "11488-4"}],
            "text": "Compte rendu de consultation",
        },
        "category": [
            {
                "coding": [
                    {
                        "system": "http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category",
                        "code": "clinical-note",
                    }
                ]
            }
        ],
        "subject": {
            "type": "Patient",
            "identifier": {"system": "https://example.org/patient", "value": "synthetic-patient-1"},
        },
        "encounter": {
            "type": "Encounter",
            "identifier": {"system": "https://example.org/encounter", "value": "synthetic-encounter-1"},
        },
        "date": "2025-03-04T09:30:00Z",
        "author": [practitioner],
        "title": "Consultation de synthèse",
        "attester": [{"mode": "professional", "time": "2025-03-04T09:31:00Z", "party": practitioner}],
    }
    own = f"{BASE_URI}/CodeSystem/scribe-section"
    plan = [{"system": "http://loinc.org", "code": "18776-5"}, {"system": own, "code": "PLAN"}]
    xhtml = '<div xmlns="http://www.w3.org/1999/xhtml">{}</div>'
    assert sections == [
        {
            "title": "Motif de consultation",
            "code": {
                "coding": [
                    {"system": "http://loinc.org", "code": "10154-3"},
                    {"system": own, "code": "CHIEF_COMPLAINT"},
                ],
                "text": "Motif de consultation",
            },
            "text": {"status": "additional", "div": xhtml.format("<p>Toux &lt;3 jours &amp; fièvre</p>")},
        },
        {
            "title": "Suites",
            "code": {"coding": plan, "text": "Suites"},
            "section": [
                {
                    "title": "Problème 1",
                    "code": {"coding": plan, "text": "Problème 1"},
                    "text": {
                        "status": "additional",
                        "div": xhtml.format("<ul>\n<li>repos</li>\n<li>eau</li>\n</ul>"),
                    },
                }
            ],
        },
        {
            "title": "VENDOR_NEWS",
            "code": {"coding": [{"system": own, "code": "VENDOR_NEWS"}], "text": "VENDOR_NEWS"},
            "text": {"status": "additional", "div": xhtml.format("<p>texte</p>")},
        },
        {"text": {"status": "additional", "div": xhtml.format("<p>fin</p>")}},
    ]


def test_document_reference_of_a_validated_note(note: ScribeNote) -> None:
    documents = build_documents(note, options(profile="us"))
    document = documents.document_reference

    attachment = document["content"][0]["attachment"]
    text = attachment_text(document)
    same = ("language", "type", "category", "subject", "author")
    assert {name: document[name] for name in same} == {name: documents.composition[name] for name in same}
    assert document["masterIdentifier"] == {
        "system": "urn:ietf:rfc:3986",
        "value": f"urn:uuid:{uuid.uuid5(note.note_id, note.version)}",
    }
    assert document["identifier"] == [documents.composition["identifier"]]
    assert (document["status"], document["docStatus"]) == ("current", "final")
    assert document["date"] == "2025-03-04T09:30:00Z"
    assert document["context"] == {
        "encounter": [documents.composition["encounter"]],
        "period": {"start": "2025-03-04T09:00:00Z", "end": "2025-03-04T09:20:00Z"},
    }
    assert attachment["contentType"] == "text/plain; charset=utf-8"
    assert attachment["creation"] == "2025-03-04T09:21:00Z"
    assert attachment["title"] == "Consultation de synthèse"
    assert attachment["size"] == len(text.encode())
    assert base64.b64decode(attachment["hash"]) == hashlib.sha1(text.encode(), usedforsecurity=False).digest()
    assert text == (
        "Consultation de synthèse\n\n"
        "Motif de consultation\nToux <3 jours & fièvre\n\n"
        "Suites\n\n"
        "Problème 1\n- repos\n- eau\n\n"
        "VENDOR_NEWS\ntexte\n\n"
        "fin\n\n"
        "Rédigé par Askara (intelligence artificielle). Validé par un professionnel de santé.\n"
    )


@pytest.mark.parametrize(
    ("state", "status", "document_status", "attested", "sentence"),
    [
        (NoteState.DRAFT, "preliminary", "current", False, "Not validated by a clinician."),
        (NoteState.VALIDATED, "final", "current", True, "Validated by a clinician."),
        (NoteState.RETRACTED, "entered-in-error", "entered-in-error", False, "Withdrawn at its source: do not use."),
    ],
)
def test_status_follows_the_state(
    note: ScribeNote,
    state: NoteState,
    status: str,
    document_status: str,
    attested: bool,
    sentence: str,
) -> None:
    documents = build_documents(replace(note, state=state, language="en"), options())

    assert documents.composition["status"] == status
    assert documents.document_reference["docStatus"] == status
    assert documents.document_reference["status"] == document_status
    assert ("attester" in documents.composition) is attested
    assert attachment_text(documents.document_reference).endswith(
        f"\n\nDrafted by Askara (artificial intelligence). {sentence}\n"
    )


@pytest.mark.parametrize(
    ("language", "emitted", "title", "last_words"),
    [
        ("fr", "fr", "Compte rendu de consultation", "professionnel de santé."),
        ("en-GB", "en-GB", "Progress note", "a clinician."),
        ("de", "de", "Verlaufsnotiz", "Fachperson freigegeben."),
        ("sw", "sw", "Progress note", "a clinician."),
        ("zh-Hant-TW", "zh-Hant-TW", "Progress note", "a clinician."),
        ("fil", "fil", "Progress note", "a clinician."),
        ("en_GB", None, "Progress note", "a clinician."),
        ("French", None, "Progress note", "a clinician."),
        (None, None, "Progress note", "a clinician."),
    ],
)
def test_language(note: ScribeNote, language: str | None, emitted: str | None, title: str, last_words: str) -> None:
    documents = build_documents(replace(note, language=language, title=None), options())

    assert documents.composition.get("language") == emitted
    assert documents.document_reference["content"][0]["attachment"].get("language") == emitted
    assert documents.composition["title"] == title
    assert attachment_text(documents.document_reference).rstrip().endswith(last_words)


def test_author_is_the_scribe_when_no_clinician_is_known(note: ScribeNote) -> None:
    # Identifiers of a place of practice say nothing about who it was.
    nobody = Practitioner(role_identifiers=(Identifier("https://example.org/am", "000000000"),), display=" ")

    composition = build_documents(replace(note, visit=replace(note.visit, practitioner=nobody)), options()).composition

    assert composition["author"] == [
        {"type": "Device", "identifier": {"system": f"{BASE_URI}/sid/device", "value": "askara"}, "display": "Askara"}
    ]
    assert "attester" not in composition


def test_clinician_known_by_name_only(note: ScribeNote) -> None:
    named = replace(
        note, visit=Visit(practitioner=Practitioner(display="Dr Exemple")), validated_at=None, attested=True
    )

    composition = build_documents(named, options()).composition

    expected = {"type": "Practitioner", "display": "Dr Exemple"}
    assert composition["author"] == [expected]
    assert composition["attester"] == [{"mode": "professional", "party": expected}]


@pytest.mark.parametrize("unknown", [None, Identifier("https://example.org/patient", " "), Identifier("", "p-1")])
def test_unknown_patient_and_encounter_leave_no_trace(note: ScribeNote, unknown: Identifier | None) -> None:
    documents = build_documents(replace(note, visit=Visit(patient=unknown, encounter=unknown)), options())

    assert not documents.composition.keys() & {"subject", "encounter"}
    assert not documents.document_reference.keys() & {"subject", "context"}


def test_a_period_never_ends_before_it_starts(note: ScribeNote) -> None:
    assert note.visit.started_at is not None
    backwards = replace(note.visit, ended_at=note.visit.started_at - timedelta(hours=1))

    document = build_documents(replace(note, visit=backwards), options()).document_reference

    assert document["context"]["period"] == {"start": "2025-03-04T09:00:00Z"}


def test_date_falls_back_to_what_is_known(note: ScribeNote) -> None:
    def date(**times: Any) -> str:
        built = build_documents(
            replace(note, **{"updated_at": None, "created_at": None, "validated_at": None} | times), options()
        )
        assert built.composition["date"] == built.document_reference["date"]
        found: str = built.composition["date"]
        return found

    at = datetime(2025, 3, 5, tzinfo=UTC)
    assert date(created_at=at) == "2025-03-05T00:00:00Z"
    assert date(validated_at=at) == "2025-03-05T00:00:00Z"
    assert date() == "2025-03-04T09:20:00Z"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"state": NoteState.FAILED}, "not_buildable"),
        ({"sections": ()}, "empty_note"),
        ({"sections": (NoteSection("PLAN", "Plan", "\u00a0\x00", (NoteSection(None, None, "\n"),)),)}, "empty_note"),
        ({"created_at": None, "updated_at": None, "validated_at": None, "visit": Visit()}, "no_date"),
    ],
)
def test_what_cannot_be_built_says_why(note: ScribeNote, changes: dict[str, Any], code: str) -> None:
    with pytest.raises(MedscribeError) as caught:
        build_documents(replace(note, **changes), options())

    assert caught.value.code == code
    assert "Toux" not in str(caught.value)


def test_naive_time_is_a_bug_not_a_local_time(note: ScribeNote) -> None:
    naive = datetime(2025, 3, 4, 9, 30)  # noqa: DTZ001  the mistake under test
    with pytest.raises(ValueError, match="naive"):
        build_documents(replace(note, updated_at=naive), options())


def test_retraction_is_built_when_nothing_is_left_of_the_note(note: ScribeNote) -> None:
    documents = build_documents(replace(note, state=NoteState.RETRACTED, sections=()), options())

    check(documents.composition)
    check(documents.document_reference)
    assert "section" not in documents.composition
    assert documents.document_reference["status"] == "entered-in-error"


def test_identifiers_for_searching(note: ScribeNote) -> None:
    document = build_documents(note, options(base_uri=f"{BASE_URI}/")).document_reference

    assert document["identifier"] == [note_identifier(BASE_URI, note.provider, note.account, note.note_id)]
    assert document["masterIdentifier"]["system"] == VERSION_SYSTEM
    assert document["masterIdentifier"]["value"] == version_identifier(note.note_id, note.version)
    assert version_identifier(note.note_id, "other") != version_identifier(note.note_id, note.version)


def test_importing_the_room_does_not_import_the_models() -> None:
    script = "import sys, medscribe_pipeline.fhir; sys.exit('fhir' in sys.modules or 'fhir_core' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0
