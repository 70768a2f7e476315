from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from fhir.resources.R4B.provenance import Provenance

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.fhir import build_documents, check, version_identifier
from medscribe_pipeline.fhir.provenance import provenance, recorded_at
from medscribe_pipeline.fhir.transcript import transcript
from medscribe_pipeline.notes import Identifier, NoteState, Practitioner, TranscriptTurn, Visit
from tests.fhir_options import options

if TYPE_CHECKING:
    from medscribe_pipeline.notes import ScribeNote

PARTICIPANT = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
AI = {
    "system": "http://hl7.org/fhir/uv/aitransparency/CodeSystem/AIdeviceTypeCS",
    "code": "Artificial-Intelligence",
}


def kinds(resource: dict[str, Any]) -> list[str]:
    return [agent["type"]["coding"][0]["code"] for agent in resource["agent"]]


def entities(resource: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entity["role"]: entity["what"] for entity in resource.get("entity", [])}


def test_provenance_of_a_validated_note(note: ScribeNote, base_uri: str) -> None:
    built = options(assembler_version="9.9.9")

    resource = provenance(note, built)

    version = version_identifier(note.note_id, note.version)
    documents = build_documents(note, built)
    assert resource == {
        "resourceType": "Provenance",
        "id": str(uuid.uuid5(uuid.UUID(version), "Provenance")),
        "target": [
            {"type": "DocumentReference", "identifier": documents.document_reference["masterIdentifier"]},
            {"type": "Composition", "identifier": documents.composition["identifier"]},
        ],
        "occurredDateTime": "2025-03-04T09:30:00Z",
        "recorded": "2025-03-04T09:31:00Z",
        "reason": [{"coding": documents.composition["meta"]["security"]}],
        "activity": {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-DataOperation", "code": "CREATE"}]
        },
        "agent": [
            {
                "type": {"coding": [{"system": PARTICIPANT, "code": "author"}]},
                "who": {
                    "type": "Device",
                    "identifier": {"system": f"{base_uri}/sid/device", "value": "askara"},
                    "display": "Askara",
                },
                "role": [{"coding": [AI]}],
            },
            {
                "type": {"coding": [{"system": PARTICIPANT, "code": "verifier"}]},
                "who": documents.composition["attester"][0]["party"],
            },
            {
                "type": {"coding": [{"system": PARTICIPANT, "code": "assembler"}]},
                "who": {
                    "type": "Device",
                    "identifier": {"system": f"{base_uri}/sid/device", "value": "medscribe-pipeline"},
                    "display": "medscribe-pipeline 9.9.9",
                },
            },
        ],
        "entity": [
            {
                "role": "derivation",
                "what": {
                    "identifier": {"system": f"{base_uri}/sid/askara/clinic-a/record/notes", "value": "n-1"},
                    "display": "Askara: record",
                },
            }
        ],
    }
    Provenance.model_validate(resource)


@pytest.mark.parametrize(
    ("changes", "activity", "expected"),
    [
        ({"state": NoteState.DRAFT}, "CREATE", ["author", "assembler"]),
        ({"state": NoteState.DRAFT, "amends": "b" * 64}, "UPDATE", ["author", "assembler"]),
        ({"amends": "b" * 64}, "UPDATE", ["author", "verifier", "assembler"]),
        ({"visit": Visit()}, "CREATE", ["author", "assembler"]),
        ({"state": NoteState.RETRACTED}, "NULLIFY", ["author", "assembler"]),
        ({"state": NoteState.RETRACTED, "sections": (), "amends": "b" * 64}, "NULLIFY", ["author", "assembler"]),
    ],
)
def test_who_did_what_follows_the_state(
    note: ScribeNote, changes: dict[str, Any], activity: str, expected: list[str]
) -> None:
    resource = provenance(replace(note, **changes), options())

    assert resource["activity"]["coding"][0]["code"] == activity
    assert kinds(resource) == expected
    Provenance.model_validate(resource)


def test_a_verifier_is_named_only_where_somebody_is_known_to_have_signed(note: ScribeNote) -> None:
    counted_as_reviewed = replace(note, validated_at=None, attested=False)

    assert kinds(provenance(counted_as_reviewed, options())) == ["author", "assembler"]


def test_everybody_acts_for_the_custodian(note: ScribeNote) -> None:
    keeper = Identifier("https://example.org/org", "o-1")

    resource = provenance(note, options(custodian=keeper, custodian_name="Clinique Exemple"))

    expected = {
        "type": "Organization",
        "identifier": {"system": "https://example.org/org", "value": "o-1"},
        "display": "Clinique Exemple",
    }
    assert [agent["onBehalfOf"] for agent in resource["agent"]] == [expected] * 3
    Provenance.model_validate(resource)


def test_nobody_acts_for_themselves(note: ScribeNote) -> None:
    doctor = Identifier("urn:oid:1.2.3", "1")
    signed = replace(note, visit=replace(note.visit, practitioner=Practitioner((doctor,))), attested=True)

    resource = provenance(signed, options(custodian=doctor))

    check(resource)
    assert ["onBehalfOf" in agent for agent in resource["agent"]] == [True, False, True]


def test_an_amended_note_revises_the_version_before(note: ScribeNote) -> None:
    before = provenance(replace(note, version="b" * 64), options())

    after = provenance(replace(note, amends="b" * 64), options())

    assert entities(after)["revision"] == before["target"][0]
    assert after["id"] != before["id"]
    assert after["target"][1] == before["target"][1]


def test_a_transcript_that_is_built_is_named_as_the_source(note: ScribeNote) -> None:
    spoken = replace(note, transcript=(TranscriptTurn("paroles de synthèse", "doctor", 0, 900),))
    asked = options(transcripts=True)
    document = transcript(spoken, asked)
    assert document is not None

    source = entities(provenance(spoken, asked))["source"]

    assert source["identifier"] in document["identifier"]
    assert b"paroles" not in orjson.dumps(provenance(spoken, asked))
    assert "source" not in entities(provenance(spoken, options(transcripts=False)))
    assert "source" not in entities(provenance(replace(spoken, transcript=(TranscriptTurn(" "),)), asked))


def test_records_of_different_streams_and_accounts_stay_apart(note: ScribeNote) -> None:
    others: list[dict[str, Any]] = [
        {},
        {"stream": "audios"},
        {"account": "clinic b/é"},
        {"provider": "nabla"},
        {"source_id": "n-2"},
    ]

    named = {
        tuple(entities(provenance(replace(note, **changes), options()))["derivation"]["identifier"].values())
        for changes in others
    }

    assert len(named) == len(others)
    assert all(" " not in system and "é" not in system for system, _ in named)


def test_a_blank_source_id_is_no_identifier(note: ScribeNote) -> None:
    resource = provenance(replace(note, source_id=" "), options())

    assert "entity" not in resource
    Provenance.model_validate(resource)


def test_recorded_is_the_latest_time_told(note: ScribeNote) -> None:
    late = datetime(2025, 6, 1, tzinfo=UTC)

    assert recorded_at(replace(note, created_at=late)) == late
    assert recorded_at(replace(note, updated_at=late)) == late
    assert recorded_at(replace(note, validated_at=late)) == late
    untimed = replace(note, created_at=None, updated_at=None, validated_at=None)
    assert recorded_at(untimed) == note.visit.ended_at
    assert recorded_at(note) - timedelta(minutes=1) == note.updated_at
    with pytest.raises(MedscribeError) as caught:
        recorded_at(replace(untimed, visit=Visit()))
    assert caught.value.code == "no_date"
