"""What documents say of the state of a note: amended, attested, kept by somebody; and what US Core demands of them."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

from medscribe_pipeline.fhir import VERSION_SYSTEM, build_documents, check, default_mapping, version_identifier
from medscribe_pipeline.fhir.document_reference import US_CORE
from medscribe_pipeline.fhir.text import origin_line
from medscribe_pipeline.fhir.transcript import transcript_text
from medscribe_pipeline.notes import Identifier, NoteState, ScribeNote, TranscriptTurn, Visit
from tests.fhir_options import options

EARLIER = "b" * 64


def text_of(document: dict[str, Any]) -> str:
    return base64.b64decode(document["content"][0]["attachment"]["data"]).decode()


def test_an_amended_note_says_what_it_replaces(note: ScribeNote) -> None:
    documents = build_documents(replace(note, amends=EARLIER), options())

    document = documents.document_reference
    check(document)
    check(documents.composition)
    assert (documents.composition["status"], document["docStatus"], document["status"]) == (
        "amended",
        "amended",
        "current",
    )
    assert document["relatesTo"] == [
        {
            "code": "replaces",
            "target": {
                "type": "DocumentReference",
                "identifier": {"system": VERSION_SYSTEM, "value": version_identifier(note.note_id, EARLIER)},
            },
        }
    ]
    assert document["relatesTo"][0]["target"]["identifier"] != document["masterIdentifier"]


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("fr", "Modifié après sa validation, puis validé à nouveau par un professionnel de santé.\n"),
        ("en", "Amended after its validation and validated again by a clinician.\n"),
        ("de-AT", "Nach der Freigabe geändert und von einer medizinischen Fachperson erneut freigegeben.\n"),
        ("ja", "Amended after its validation and validated again by a clinician.\n"),
    ],
)
def test_the_text_of_an_amended_note_says_so(note: ScribeNote, language: str, words: str) -> None:
    document = build_documents(replace(note, amends=EARLIER, language=language), options()).document_reference

    assert text_of(document).endswith(words)


@pytest.mark.parametrize(
    "changes",
    [
        {"state": NoteState.DRAFT},
        {"state": NoteState.VALIDATED},
        {"state": NoteState.VALIDATED, "amends": EARLIER},
        {"state": NoteState.RETRACTED},
    ],
)
def test_the_origin_is_told_in_every_language_that_has_headings(note: ScribeNote, changes: dict[str, Any]) -> None:
    spoken = replace(note, transcript=(TranscriptTurn("D'accord."),), **changes)
    languages = default_mapping().rows.sections["PLAN"].title

    notes = {language: origin_line(replace(spoken, language=language)) for language in languages}
    transcripts = {language: transcript_text(replace(spoken, language=language)) for language in languages}

    assert len(set(notes.values())) == len(languages) == 6
    for texts in (notes, transcripts):
        # The product, and a sentence each on who wrote it and who looked at it; none is left in another language.
        assert all("Askara" in text and text.rstrip().endswith(".") for text in texts.values())
        assert len({text.rstrip().rpartition(").")[2] for text in texts.values()}) == len(languages)
        assert len({text.rstrip().rpartition(").")[0] for text in texts.values()}) == len(languages)


@pytest.mark.parametrize("state", [NoteState.DRAFT, NoteState.RETRACTED])
def test_only_a_validated_note_replaces_anything(note: ScribeNote, state: NoteState) -> None:
    documents = build_documents(replace(note, state=state, amends=EARLIER), options())

    assert documents.composition["status"] != "amended"
    assert "relatesTo" not in documents.document_reference


@pytest.mark.parametrize(
    ("changes", "attested"),
    [
        ({"attested": True, "validated_at": None}, True),
        ({"attested": False}, True),
        ({"attested": False, "validated_at": None}, False),
        ({"attested": True, "state": NoteState.DRAFT}, False),
        ({"attested": True, "state": NoteState.RETRACTED}, False),
        ({"attested": True, "visit": Visit()}, False),
    ],
    ids=["said", "said when", "only counted", "draft", "retracted", "nobody known"],
)
def test_an_attester_is_named_only_where_the_provider_says_so(
    note: ScribeNote, changes: dict[str, Any], *, attested: bool
) -> None:
    composition = build_documents(replace(note, **changes), options()).composition

    check(composition)
    assert ("attester" in composition) is attested


def test_a_note_a_setting_counts_as_reviewed_is_final_and_names_nobody(note: ScribeNote) -> None:
    documents = build_documents(replace(note, attested=False, validated_at=None), options())

    assert documents.composition["status"] == documents.document_reference["docStatus"] == "final"
    assert "attester" not in documents.composition


@pytest.mark.parametrize(
    ("custodian", "name", "expected"),
    [
        (None, None, None),
        (None, "Example Clinic", {"type": "Organization", "display": "Example Clinic"}),
        (
            Identifier("urn:oid:1.2.3", "clinic-1"),
            "Example Clinic",
            {
                "type": "Organization",
                "identifier": {"system": "urn:oid:1.2.3", "value": "clinic-1"},
                "display": "Example Clinic",
            },
        ),
    ],
)
def test_every_document_names_who_keeps_it(
    note: ScribeNote, custodian: Identifier | None, name: str | None, expected: dict[str, Any] | None
) -> None:
    documents = build_documents(note, options(custodian=custodian, custodian_name=name))

    for resource in (documents.composition, documents.document_reference):
        check(resource)
        assert resource.get("custodian") == expected


@pytest.mark.parametrize("profile", ["us", "fr", "international"])
def test_only_the_us_profile_is_claimed(note: ScribeNote, profile: Any) -> None:
    documents = build_documents(note, options(profile=profile))

    assert documents.document_reference["meta"].get("profile") == ([US_CORE] if profile == "us" else None)
    assert "profile" not in documents.composition["meta"]


def test_us_core_gets_every_element_it_demands(note: ScribeNote) -> None:
    nobody = replace(note, visit=Visit())

    document = build_documents(nobody, options(profile="us")).document_reference

    check(document)
    assert document["subject"] == {
        "extension": [
            {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"},
        ]
    }
    assert document["status"] == "current"
    assert document["type"]["coding"][0]["system"] == "http://loinc.org"
    assert [coding["code"] for each in document["category"] for coding in each["coding"]] == ["clinical-note"]
    assert document["author"]
    assert document["date"]
    for content in document["content"]:
        assert content["attachment"]["contentType"]
        assert content["attachment"]["data"]


def test_an_unknown_patient_is_left_out_where_no_profile_demands_one(note: ScribeNote) -> None:
    documents = build_documents(replace(note, visit=Visit()), options())

    assert "subject" not in documents.document_reference
    assert "subject" not in documents.composition


def test_a_known_patient_has_no_reason_to_be_absent(note: ScribeNote) -> None:
    document = build_documents(note, options(profile="us")).document_reference

    assert document["subject"].keys() == {"type", "identifier"}


@pytest.mark.parametrize("renderings", [("text",), ("xhtml", "text")])
def test_every_form_is_told_by_its_media_type(note: ScribeNote, renderings: Any) -> None:
    document = build_documents(note, options(renderings=renderings)).document_reference

    assert len(document["content"]) == len(renderings)
    assert [content["format"] for content in document["content"]] == [
        {
            "system": "http://ihe.net/fhir/ihe.formatcode.fhir/CodeSystem/formatcode",
            "code": "urn:ihe:iti:xds:2017:mimeTypeSufficient",
        }
    ] * len(renderings)
