from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from fhir.resources.R4B import get_fhir_model_class
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medscribe_pipeline.ehr.ledger import Copy, Key
from medscribe_pipeline.ehr.sending import Shipment
from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.fhir import VERSION_SYSTEM, build_documents, check, version_identifier
from medscribe_pipeline.fhir.bundle import document_bundle
from medscribe_pipeline.fhir.provenance import provenance
from medscribe_pipeline.notes import (
    Identifier,
    NoteSection,
    NoteState,
    Practitioner,
    ScribeNote,
    TranscriptTurn,
    Visit,
    stable_id,
)
from tests.fhir_options import options
from tests.medscribe_pipeline.ehr.transactions import transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

RPPS = Identifier("https://rpps.esante.gouv.fr", "10101748050")
AM = Identifier("https://example.org/fhir/sid/fr-numero-am", "999000001")
KEEPER = Identifier("https://example.org/org", "o-1")

ODD = st.sampled_from(
    ["<", "&", "]]>", "\x00", "\r\n", "\u2028", "\ud800", "😀", "\u202e", "urn:uuid:", "#", "- ", "| a | b |"]
)
TEXTS = st.lists(st.text(alphabet=st.characters(exclude_categories=()), max_size=8) | ODD, max_size=6).map("".join)
IDENTIFIERS = st.builds(
    Identifier,
    system=st.sampled_from(["https://example.org/id", "urn:oid:1.2.3", " "]),
    value=st.text(alphabet="ab-1/| é<&😀", max_size=8),
)
PRACTITIONERS = st.builds(
    Practitioner,
    identifiers=st.lists(IDENTIFIERS | st.just(RPPS), max_size=3).map(tuple),
    role_identifiers=st.lists(IDENTIFIERS | st.just(AM), max_size=2).map(tuple),
    display=st.none() | TEXTS,
)
TIMES = st.none() | st.datetimes(
    min_value=datetime(1900, 1, 1),  # noqa: DTZ001  hypothesis wants naive bounds and adds the zone itself
    max_value=datetime(2200, 1, 1),  # noqa: DTZ001  as above
    timezones=st.just(UTC),
)
CHANGES = st.fixed_dictionaries(
    {
        "custodian": st.none() | IDENTIFIERS,
        "custodian_name": st.none() | TEXTS,
        "profile": st.sampled_from(["international", "us", "fr"]),
        "transcripts": st.booleans(),
    }
)


@st.composite
def notes(draw: st.DrawFn) -> ScribeNote:
    """A note in any state that has documents, about anybody or nobody."""
    state = draw(st.sampled_from([NoteState.DRAFT, NoteState.VALIDATED, NoteState.RETRACTED]))
    words = (NoteSection(draw(st.none() | TEXTS), draw(st.none() | TEXTS), draw(TEXTS)),)
    left = state is NoteState.RETRACTED and draw(st.booleans())
    return ScribeNote(
        note_id=stable_id("nabla", "a", draw(st.sampled_from(["1", "2"])), "note"),
        provider=draw(st.sampled_from(["askara", "audioscribe", "nabla", "intron", "next"])),
        account=draw(st.sampled_from(["default", "clinic b/é"])),
        stream="notes",
        source_id=draw(st.sampled_from(["n-1", "key/note", "é 1", " "])),
        state=state,
        version=draw(st.sampled_from(["a" * 64, "b" * 64])),
        title=draw(st.none() | TEXTS),
        language=draw(st.none() | st.sampled_from(["fr", "en-US", "en_US"])),
        sections=() if left else (*words, NoteSection("PLAN", None, "certain words")),
        transcript=draw(st.lists(st.builds(TranscriptTurn, text=TEXTS), max_size=2).map(tuple)),
        visit=Visit(
            draw(st.none() | IDENTIFIERS),
            draw(st.none() | PRACTITIONERS),
            draw(st.none() | IDENTIFIERS),
            draw(TIMES),
            draw(TIMES),
        ),
        created_at=draw(TIMES),
        updated_at=draw(TIMES.filter(bool)),
        validated_at=draw(TIMES),
        attested=draw(st.booleans()),
        amends=draw(st.none() | st.just("c" * 64)),
    )


def references(node: Any) -> Iterator[dict[str, Any]]:
    """Every literal reference in a JSON value."""
    if isinstance(node, list):
        for item in node:
            yield from references(item)
    elif isinstance(node, dict):
        if isinstance(node.get("reference"), str):
            yield node
        for value in node.values():
            yield from references(value)


def resources(bundle: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The resources of a bundle by `fullUrl`."""
    return {entry["fullUrl"]: entry["resource"] for entry in bundle["entry"]}


def only(bundle: dict[str, Any], kind: str) -> dict[str, Any]:
    (found,) = (each for each in resources(bundle).values() if each["resourceType"] == kind)
    return found


def kinds(bundle: dict[str, Any]) -> list[str]:
    return [each["resourceType"] for each in resources(bundle).values()]


def reached(known: dict[str, dict[str, Any]], start: str) -> set[str]:
    """Every `fullUrl` that following references forward from `start` leads to."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        url = waiting.pop()
        if url not in seen:
            seen.add(url)
            waiting.extend(each["reference"] for each in references(known[url]))
    return seen


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(notes(), CHANGES)
def test_any_note_makes_a_valid_document(note: ScribeNote, changes: dict[str, Any]) -> None:
    built = options(**changes)
    bundle = document_bundle(note, built)

    check(bundle)
    known = resources(bundle)
    assert len(known) == len(bundle["entry"])
    assert not any(entry.keys() & {"request", "response", "search"} for entry in bundle["entry"])
    for url, resource in known.items():
        get_fhir_model_class(resource["resourceType"]).model_validate(resource)
        assert url == f"urn:uuid:{uuid.UUID(resource['id'])}"
        for reference in references(resource):
            assert known[reference["reference"]]["resourceType"] == reference["type"]
    first, *_, last = known
    assert known[first]["resourceType"] == "Composition"
    assert known[last]["resourceType"] == "Provenance"
    # Only a Provenance, with what it refers to, may be in a document that does not refer to it.
    assert reached(known, first) | reached(known, last) == set(known)
    outside = set(known) - reached(known, first)
    assert {known[url]["resourceType"] for url in outside} <= {"Provenance", "Device", "Organization"}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(notes(), CHANGES)
def test_same_note_same_document_and_nothing_stored_changes(note: ScribeNote, changes: dict[str, Any]) -> None:
    built = options(**changes)
    before = orjson.dumps(build_documents(note, built).resources())

    first, second = document_bundle(note, built), document_bundle(note, built)

    assert orjson.dumps(first) == orjson.dumps(second)
    assert orjson.dumps(build_documents(note, built).resources()) == before


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(notes(), CHANGES)
def test_a_provenance_of_any_note_is_valid_by_itself(note: ScribeNote, changes: dict[str, Any]) -> None:
    built = options(**changes)
    resource = provenance(note, built)

    check(resource)
    assert not list(references(resource))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(notes(), CHANGES)
def test_the_same_document_in_the_next_release(note: ScribeNote, changes: dict[str, Any]) -> None:
    bundle = document_bundle(note, options(**changes, release="R5"))

    check(bundle, "R5")
    before = document_bundle(note, options(**changes))
    assert kinds(bundle) == kinds(before)
    assert list(resources(bundle)) == list(resources(before))


def test_document_of_a_note_with_everything_known(note: ScribeNote) -> None:
    clinician = Practitioner((Identifier("https://example.org/user", "synthetic-user-1"), RPPS), (AM,), "Dr Exemple")
    whole = replace(note, visit=replace(note.visit, practitioner=clinician))

    bundle = document_bundle(whole, options(custodian=KEEPER, custodian_name="Clinique Exemple"))

    check(bundle)
    version = version_identifier(note.note_id, note.version)
    assert {name: value for name, value in bundle.items() if name not in ("entry", "meta")} == {
        "resourceType": "Bundle",
        "identifier": {"system": VERSION_SYSTEM, "value": version},
        "type": "document",
        "timestamp": "2025-03-04T09:31:00Z",
    }
    assert bundle["meta"]["security"][0]["code"] == "AIAST"
    assert kinds(bundle) == [
        "Composition",
        "Patient",
        "Encounter",
        "Practitioner",
        "PractitionerRole",
        "Organization",
        "Device",
        "Device",
        "Provenance",
    ]
    url = {each["resourceType"]: full_url for full_url, each in resources(bundle).items()}
    patient = only(bundle, "Patient")
    assert patient == {
        "resourceType": "Patient",
        "id": url["Patient"].removeprefix("urn:uuid:"),
        "identifier": [{"system": "https://example.org/patient", "value": "synthetic-patient-1"}],
    }
    encounter = only(bundle, "Encounter")
    assert (encounter["status"], encounter["class"]["code"]) == ("finished", "UNK")
    assert encounter["subject"]["reference"] == url["Patient"]
    assert encounter["period"] == {"start": "2025-03-04T09:00:00Z", "end": "2025-03-04T09:20:00Z"}
    person, role = only(bundle, "Practitioner"), only(bundle, "PractitionerRole")
    assert [each["value"] for each in person["identifier"]] == ["10101748050", "synthetic-user-1"]
    assert person["name"] == [{"text": "Dr Exemple"}]
    assert [(each["type"]["text"], each["value"]) for each in role["identifier"]] == [("Numéro AM", "999000001")]
    assert role["practitioner"]["reference"] == url["Practitioner"]
    assert only(bundle, "Organization")["name"] == "Clinique Exemple"
    composition = only(bundle, "Composition")
    assert composition["author"] == [
        {"reference": url["PractitionerRole"], "type": "PractitionerRole", "display": "Dr Exemple"}
    ]
    assert composition["attester"][0]["party"]["reference"] == url["PractitionerRole"]
    assert composition["custodian"]["reference"] == url["Organization"]
    origin = only(bundle, "Provenance")
    assert origin["target"][0]["identifier"]["value"] == version
    assert origin["target"][1]["reference"] == url["Composition"]
    # The national identifier that may neither be built nor read is nowhere.
    assert b"1.2.250.1.71.4.2.1" not in orjson.dumps(bundle)


def test_without_a_place_of_practice_the_clinician_is_the_author(note: ScribeNote) -> None:
    named = replace(note, visit=replace(note.visit, practitioner=Practitioner(display="Dr Exemple")))

    bundle = document_bundle(named, options())

    check(bundle)
    author = only(bundle, "Composition")["author"][0]
    assert author["type"] == "Practitioner"
    person = resources(bundle)[author["reference"]]
    assert {name: value for name, value in person.items() if name != "id"} == {
        "resourceType": "Practitioner",
        "name": [{"text": "Dr Exemple"}],
    }
    assert "PractitionerRole" not in kinds(bundle)


def test_a_role_leads_to_a_person_known_by_name_only(note: ScribeNote) -> None:
    named = Practitioner(role_identifiers=(AM,), display="Dr Exemple")

    bundle = document_bundle(replace(note, visit=replace(note.visit, practitioner=named)), options())

    check(bundle)
    person = resources(bundle)[only(bundle, "PractitionerRole")["practitioner"]["reference"]]
    assert person["resourceType"] == "Practitioner"
    assert only(bundle, "Composition")["author"][0]["type"] == "PractitionerRole"


def test_document_of_a_note_about_nobody_known(note: ScribeNote) -> None:
    bundle = document_bundle(replace(note, visit=Visit()), options())

    check(bundle)
    assert kinds(bundle) == ["Composition", "Device", "Device", "Provenance"]
    author = only(bundle, "Composition")["author"][0]
    assert resources(bundle)[author["reference"]]["identifier"][0]["value"] == "askara"


def test_an_encounter_without_an_end_is_not_said_to_be_finished(note: ScribeNote) -> None:
    encounter = only(document_bundle(replace(note, visit=replace(note.visit, ended_at=None)), options()), "Encounter")

    assert encounter["status"] == "unknown"
    assert encounter["period"] == {"start": "2025-03-04T09:00:00Z"}


def test_document_of_a_retracted_note_that_lost_its_text(note: ScribeNote) -> None:
    bundle = document_bundle(replace(note, state=NoteState.RETRACTED, sections=()), options())

    check(bundle)
    composition = only(bundle, "Composition")
    assert composition["status"] == "entered-in-error"
    assert not composition.keys() & {"section", "attester"}
    assert only(bundle, "Provenance")["activity"]["coding"][0]["code"] == "NULLIFY"


def test_another_version_is_another_document_of_the_same_composition(note: ScribeNote) -> None:
    first = document_bundle(note, options())

    second = document_bundle(replace(note, version="b" * 64, amends=note.version), options())

    assert first["identifier"] != second["identifier"]
    assert not resources(first).keys() & resources(second).keys()
    assert only(first, "Composition")["identifier"] == only(second, "Composition")["identifier"]


def test_a_failed_note_has_no_document(note: ScribeNote) -> None:
    with pytest.raises(MedscribeError) as caught:
        document_bundle(replace(note, state=NoteState.FAILED), options())

    assert caught.value.code == "not_buildable"


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(notes(), CHANGES)
def test_transactions_of_the_same_note_keep_the_rules_of_bundles_too(note: ScribeNote, changes: dict[str, Any]) -> None:
    built = options(**changes)
    documents = build_documents(note, built).resources()
    sent = {kind: documents[kind] for kind in ("Composition", "DocumentReference")}
    shipment = Shipment(Key("ehr", str(note.note_id), note.version), sent)
    standing = {"Composition": Copy("c-1", 'W/"1"'), "DocumentReference": Copy("d-1", None)}

    for bundle in (transaction(shipment), transaction(shipment, standing)):
        check(bundle)
        assert all("request" in entry for entry in bundle["entry"])
        assert not resources(bundle).keys() & resources(document_bundle(note, built)).keys()
