"""R4 in, R5 out: valid there, with nothing lost that R5 can say and nothing added that R4 did not."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.fhir import build_documents, check
from medscribe_pipeline.fhir.bundle import document_bundle
from medscribe_pipeline.fhir.release5 import to_r5
from medscribe_pipeline.notes import Identifier, NoteState, TranscriptTurn
from tests.fhir_options import options
from tests.fhir_samples import SAMPLES, Json, sample

if TYPE_CHECKING:
    from medscribe_pipeline.notes import ScribeNote


@pytest.mark.parametrize("name", SAMPLES)
def test_every_resource_is_valid_r5(name: str) -> None:
    resource = sample(name)

    check(to_r5(resource), "R5")

    assert resource == SAMPLES[name]


@pytest.mark.parametrize("name", ["Patient", "Practitioner", "PractitionerRole"])
def test_what_is_the_same_stays_the_same(name: str) -> None:
    assert to_r5(sample(name)) == SAMPLES[name]


def test_document_reference() -> None:
    old = sample("DocumentReference")

    new = to_r5(old)

    assert new["identifier"] == [old["masterIdentifier"], *old["identifier"]]
    assert new["relatesTo"][0]["code"]["coding"][0]["code"] == "replaces"
    assert new["relatesTo"][0]["target"] == old["relatesTo"][0]["target"]
    assert new["content"][0]["attachment"] == old["content"][0]["attachment"] | {"size": "41"}
    assert new["content"][0]["profile"] == [{"valueCoding": old["content"][0]["format"]}]
    assert new["context"] == old["context"]["encounter"]
    assert new["period"] == old["context"]["period"]
    assert new["practiceSetting"] == old["context"]["practiceSetting"]
    assert not new.keys() & {"masterIdentifier", "meta"}  # of meta it had a claim to an R4 profile, and nothing else


def test_composition() -> None:
    old = sample("Composition")

    new = to_r5(old)

    assert new["identifier"] == [old["identifier"]]
    assert new["subject"] == [old["subject"]]
    assert new["attester"][0]["mode"]["coding"][0]["code"] == "professional"
    assert new["attester"][0]["party"] == old["attester"][0]["party"]
    assert new["relatesTo"] == [
        {"type": "replaces", "resourceReference": {"identifier": old["relatesTo"][0]["targetIdentifier"]}}
    ]
    assert [each["code"] for each in new["meta"]["security"]] == ["AIAST", "N"]
    assert new["section"][0] == old["section"][0]
    assert new["section"][1] == {name: value for name, value in old["section"][1].items() if name != "mode"}


def test_a_reference_to_another_composition_stays_one() -> None:
    target = {"reference": "Composition/0"}
    old = sample("Composition") | {"relatesTo": [{"code": "appends", "targetReference": target}]}

    assert to_r5(old)["relatesTo"] == [{"type": "appends", "resourceReference": target}]


def test_provenance() -> None:
    old = sample("Provenance")
    derived = old | {"entity": [{"role": "derivation", "what": {"display": "x"}}, *old["entity"]]}

    new = to_r5(derived)

    assert new["authorization"] == [{"concept": old["reason"][0]}]
    assert [each["role"] for each in new["entity"]] == ["source", "source"]
    assert (new["agent"], new["recorded"]) == (old["agent"], old["recorded"])
    check(new, "R5")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("planned", "planned"),
        ("arrived", "planned"),
        ("triaged", "in-progress"),
        ("in-progress", "in-progress"),
        ("onleave", "on-hold"),
        ("finished", "completed"),
        ("cancelled", "cancelled"),
        ("entered-in-error", "entered-in-error"),
        ("unknown", "unknown"),
    ],
)
def test_encounter(old: str, new: str) -> None:
    encounter = to_r5(sample("Encounter") | {"status": old})

    assert encounter["status"] == new
    assert encounter["class"] == [{"coding": [SAMPLES["Encounter"]["class"]]}]
    assert encounter["actualPeriod"] == SAMPLES["Encounter"]["period"]
    assert encounter["participant"] == [{"actor": {"reference": "Practitioner/1"}}]
    check(encounter, "R5")


def test_device() -> None:
    device = to_r5(sample("Device") | {"status": "unknown"})

    assert device["name"] == [{"value": "Synthetic Scribe", "type": "user-friendly-name"}]
    assert device["type"] == [SAMPLES["Device"]["type"]]
    assert "status" not in device


def test_contained_resources_are_translated_too() -> None:
    author = sample("Device") | {"id": "scribe"}
    old = sample("Composition") | {"contained": [author], "author": [{"reference": "#scribe"}]}

    new = to_r5(old)

    assert new["contained"] == [to_r5(author)]
    check(new, "R5")


@pytest.fixture
def amended(note: ScribeNote) -> ScribeNote:
    """A note with everything the builders can say: a transcript, an earlier version, a custodian."""
    return replace(
        note,
        amends="b" * 64,
        transcript=(TranscriptTurn("Bonjour.", "doctor", 0, 1000),),
    )


OPTIONS = {
    "transcripts": True,
    "profile": "us",
    "custodian": Identifier("https://example.org/organisation", "synthetic-clinic"),
    "custodian_name": "Synthetic Clinic",
}


@pytest.mark.parametrize("state", [NoteState.DRAFT, NoteState.VALIDATED, NoteState.RETRACTED])
@pytest.mark.parametrize("release", ["R4", "R5"])
def test_what_is_built_passes_in_both_releases(amended: ScribeNote, state: NoteState, release: str) -> None:
    chosen = options(release=release, **OPTIONS)

    built = build_documents(replace(amended, state=state), chosen).resources()

    assert built.keys() == {"Composition", "DocumentReference", "Provenance", "Transcript"}
    for resource in built.values():
        check(resource, chosen.release)
    check(document_bundle(replace(amended, state=state), chosen), chosen.release)


def strings(node: object) -> list[str]:
    """Every value in a resource that is no code of its release."""
    if isinstance(node, dict):
        return [text for name, child in node.items() if name != "profile" for text in strings(child)]
    if isinstance(node, list):
        return [text for child in node for text in strings(child)]
    return [str(node)]


# Systems of what was a bare code in R4, and codes with another name.
RENAMED = re.compile(r"http://hl7.org/fhir/(document-relationship-type|composition-attestation-mode)|derivation|source")


def test_what_is_built_says_the_same_in_both_releases(amended: ScribeNote) -> None:
    old = build_documents(amended, options(**OPTIONS)).resources()
    new = build_documents(amended, options(release="R5", **OPTIONS)).resources()

    for kind in ("Composition", "DocumentReference", "Provenance"):
        before = sorted(text for text in strings(old[kind]) if not RENAMED.fullmatch(text))
        # The format of a form stands in `profile` in R5.
        after = [text for text in strings(new[kind]) if not RENAMED.fullmatch(text)]
        after += [text for each in new[kind].get("content", []) for text in strings(each.get("profile", []))]
        assert sorted(after) == before


def test_the_builders_know_nothing_of_r5(amended: ScribeNote) -> None:
    old = build_documents(amended, options(**OPTIONS)).resources()
    new = build_documents(amended, options(release="R5", **OPTIONS)).resources()

    expected: dict[str, Json] = {kind: to_r5(copy.deepcopy(resource)) for kind, resource in old.items()}
    assert new == expected
