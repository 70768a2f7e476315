"""CodeSystem, ValueSet and ConceptMap: valid R4, complete, and in step with what documents are sent with."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
from fhir.resources.R4B.codesystem import CodeSystem
from fhir.resources.R4B.conceptmap import ConceptMap
from fhir.resources.R4B.valueset import ValueSet

from medscribe_pipeline.fhir import build_documents, default_mapping, load_mapping
from medscribe_pipeline.fhir.terminology import terminology
from medscribe_pipeline.notes import TranscriptTurn
from tests.fhir_options import options

if TYPE_CHECKING:
    from pathlib import Path

    from medscribe_pipeline.notes import ScribeNote

BASE_URI = "https://example.org/fhir"
MAPPING = default_mapping()
CODES, VALUES, MAP, DOCUMENTS = terminology(MAPPING, f"{BASE_URI}/")

# Required binding of ConceptMap.group.element.target.equivalence in R4.
EQUIVALENCES = {
    *("relatedto", "equivalent", "equal", "wider", "subsumes", "narrower", "specializes", "inexact", "unmatched"),
    "disjoint",
}


def targets() -> dict[str, dict[str, Any]]:
    (group,) = MAP["group"]
    return {element["code"]: element["target"][0] for element in group["element"]}


def test_models_accept_them() -> None:
    for model, resource in ((CodeSystem, CODES), (ValueSet, VALUES), (ConceptMap, MAP), (CodeSystem, DOCUMENTS)):
        model.model_validate(resource)


def test_each_names_itself_and_the_mapping_it_is_of() -> None:
    for resource in (CODES, VALUES, MAP, DOCUMENTS):
        assert resource["url"] == f"{BASE_URI}/{resource['resourceType']}/{resource['id']}"
        assert resource["version"] == MAPPING.version
        assert (resource["status"], resource["experimental"]) == ("active", False)
        assert re.fullmatch(r"[A-Z][A-Za-z0-9_]{0,254}", resource["name"])  # cmd-0, csd-0, vsd-0
        assert "date" not in resource


def test_they_refer_to_each_other() -> None:
    assert CODES["valueSet"] == VALUES["url"] == MAP["sourceUri"]
    assert VALUES["compose"]["include"] == [{"system": CODES["url"], "version": MAPPING.version}]
    assert (MAP["group"][0]["source"], MAP["group"][0]["target"]) == (CODES["url"], "http://loinc.org")


def test_every_key_has_a_concept_with_its_titles() -> None:
    concepts = {concept["code"]: concept for concept in CODES["concept"]}

    assert list(concepts) == sorted(MAPPING.known_keys())
    plan = concepts["PLAN"]
    assert plan["display"] == "Plan"
    assert {each["language"]: each["value"] for each in plan["designation"]} == {
        language: MAPPING.default_title("PLAN", language) for language in ("de", "es", "fr", "it", "pt")
    }
    assert concepts["SOAP_PLAN"]["property"] == [{"code": "renamed", "valueCode": "PLAN"}]
    assert [each["code"] for each in CODES["property"]] == ["renamed"]


def test_keys_nobody_has_seen_yet_are_no_errors() -> None:
    assert CODES["content"] == "fragment"


def test_the_map_says_what_documents_are_sent_with() -> None:
    for key, target in targets().items():
        (loinc, own) = MAPPING.section_coding(key, None, "en", BASE_URI)["coding"]
        assert target["code"] == loinc["code"]
        assert own == {"system": CODES["url"], "code": key}
    assert set(targets()) == MAPPING.known_keys()


def test_the_code_of_a_transcript_is_known(note: ScribeNote) -> None:
    spoken = replace(note, transcript=(TranscriptTurn("Bonjour."),))
    found = build_documents(spoken, options(base_uri=BASE_URI, transcripts=True)).transcript
    assert found is not None

    own = [coding for coding in found["type"]["coding"] if coding["system"].startswith(BASE_URI)]
    assert own == [{"system": DOCUMENTS["url"], "code": DOCUMENTS["concept"][0]["code"]}]
    assert (DOCUMENTS["content"], DOCUMENTS["count"]) == ("complete", len(DOCUMENTS["concept"]))


def test_equivalence_follows_the_fit() -> None:
    found = targets()

    assert {target["equivalence"] for target in found.values()} <= EQUIVALENCES
    assert found["PLAN"]["equivalence"] == "equivalent"
    assert found["APPOINTMENTS"]["equivalence"] == "inexact"
    assert found["CARDIOVASCULAR_RISKS"]["equivalence"] == "wider"
    # cmd-1 of R4: what is narrower or inexact has a comment.
    assert all(target["comment"] for target in found.values())


def test_a_key_without_loinc_is_unmatched_and_has_no_target_code(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('[sections.HOUSE_RULES]\ntitle.en = "House rules"\n')
    own = load_mapping(tmp_path / "own.toml")

    codes, _, concept_map, _ = terminology(own, BASE_URI)

    (target,) = [
        element["target"][0] for element in concept_map["group"][0]["element"] if element["code"] == "HOUSE_RULES"
    ]
    assert (target["equivalence"], "code" in target) == ("unmatched", False)
    assert codes["version"] == own.version != MAPPING.version
    (concept,) = [each for each in codes["concept"] if each["code"] == "HOUSE_RULES"]
    assert concept == {"code": "HOUSE_RULES", "display": "House rules"}
    ConceptMap.model_validate(concept_map)
    CodeSystem.model_validate(codes)


def test_the_same_mapping_gives_the_same_bytes() -> None:
    again = terminology(MAPPING, BASE_URI)

    assert orjson.dumps(again) == orjson.dumps([CODES, VALUES, MAP, DOCUMENTS])
