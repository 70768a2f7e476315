"""The codes this project owns as FHIR terminology: CodeSystems, ValueSet and ConceptMap, for terminology servers.

A validator that knows the CodeSystems can check the project's own codings, and one that knows the ConceptMap can
translate those of sections. The same mapping gives the same resources; they bear its version instead of a date.

Facts: FHIR R4 CodeSystem, ValueSet and ConceptMap (https://hl7.org/fhir/R4/terminology-module.html).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medscribe_pipeline.fhir.elements import present
from medscribe_pipeline.fhir.sections import LOINC, section_system
from medscribe_pipeline.fhir.transcript import DOCUMENT_SYSTEM

if TYPE_CHECKING:
    from medscribe_pipeline.fhir.mapping_rows import Section
    from medscribe_pipeline.fhir.sections import Mapping

__all__ = ["terminology"]

SECTIONS = "scribe-section"
TO_LOINC = "scribe-section-to-loinc"

LOINC_VALUES = "http://loinc.org/vs"
"""Value set of all LOINC codes."""

COPYRIGHT = (
    "This material contains content from LOINC (http://loinc.org). LOINC is copyright Regenstrief Institute, Inc. and "
    "the Logical Observation Identifiers Names and Codes (LOINC) Committee and is available at no cost under the "
    "license at http://loinc.org/license."
)

_EQUIVALENCE = {"exact": "equivalent", "good": "inexact", "broad": "wider"}
"""Fit to equivalence. The R4 words are seen from the target: `wider` is a LOINC code that means more than the key."""

_BOUNDARIES = {
    "inexact": "The same thing in another setting or under another name; the limits may differ.",
    "wider": "LOINC is wider; the section key carries the meaning.",
}


def terminology(mapping: Mapping, base_uri: str) -> list[dict[str, Any]]:
    """The codes of a mapping as R4 resources.

    These are the CodeSystem, the ValueSet and the ConceptMap to LOINC of section keys, and the CodeSystem of the
    documents no LOINC code is made for.

    Args:
        mapping: The mapping, with rows of the user's own or without.
        base_uri: Base of the systems this project owns; canonical URLs begin with it.
    """
    base = base_uri.rstrip("/")
    rows = sorted(mapping.rows.sections.items())
    return [
        _code_system(rows, base, mapping.version),
        _value_set(base, mapping.version),
        _concept_map(rows, base, mapping.version),
        _documents(base, mapping.version),
    ]


def _head(kind: str, identity: str, base: str, version: str, name: str, title: str, description: str) -> dict[str, Any]:
    return {
        "resourceType": kind,
        "id": identity,
        "url": f"{base}/{kind}/{identity}",
        "version": version,
        "name": name,
        "title": title,
        "status": "active",
        "experimental": False,
        "publisher": "medscribe-pipeline",
        "description": description,
    }


def _code_system(rows: list[tuple[str, Section]], base: str, version: str) -> dict[str, Any]:
    return {
        **_head(
            "CodeSystem",
            SECTIONS,
            base,
            version,
            "ScribeSection",
            "Sections of AI scribe notes",
            "Keys of the sections of clinical notes drafted by AI scribes, as their providers name them. A fragment: "
            "a key a provider has come up with since is sent as it is.",
        ),
        "caseSensitive": True,
        "valueSet": f"{base}/ValueSet/{SECTIONS}",
        # Unknown keys are sent as codes of this system, too: to call it complete would make each of them an error.
        "content": "fragment",
        "property": [
            {
                "code": "renamed",
                "description": "The key its provider uses instead since 2024.",
                "type": "code",
            }
        ],
        "concept": [
            present(
                {
                    "code": key,
                    "display": row.title["en"],
                    "designation": [
                        {"language": language, "value": title}
                        for language, title in sorted(row.title.items())
                        if language != "en"
                    ],
                    "property": [{"code": "renamed", "valueCode": row.renamed}] if row.renamed else None,
                }
            )
            for key, row in rows
        ],
    }


def _documents(base: str, version: str) -> dict[str, Any]:
    return {
        **_head(
            "CodeSystem",
            DOCUMENT_SYSTEM.removeprefix("CodeSystem/"),
            base,
            version,
            "ScribeDocument",
            "Documents beside the notes of AI scribes",
            "What comes with a clinical note and is none, as type and category of a DocumentReference.",
        ),
        "caseSensitive": True,
        "content": "complete",
        "count": 1,
        "concept": [{"code": "transcript", "display": "Transcript of a visit"}],
    }


def _value_set(base: str, version: str) -> dict[str, Any]:
    return {
        **_head(
            "ValueSet",
            SECTIONS,
            base,
            version,
            "ScribeSectionValues",
            "Sections of AI scribe notes",
            "Every section key of the code system of the same name.",
        ),
        "compose": {"include": [{"system": section_system(base), "version": version}]},
    }


def _concept_map(rows: list[tuple[str, Section]], base: str, version: str) -> dict[str, Any]:
    return {
        **_head(
            "ConceptMap",
            TO_LOINC,
            base,
            version,
            "ScribeSectionToLoinc",
            "Sections of AI scribe notes to LOINC",
            "The LOINC code each section key is sent with, and how well it says what the key says.",
        ),
        "copyright": COPYRIGHT,
        "sourceUri": f"{base}/ValueSet/{SECTIONS}",
        "targetUri": LOINC_VALUES,
        "group": [
            {
                "source": section_system(base),
                "sourceVersion": version,
                "target": LOINC,
                "element": [{"code": key, "display": row.title["en"], "target": [_target(row)]} for key, row in rows],
            }
        ],
    }


def _target(row: Section) -> dict[str, Any]:
    """The LOINC code of a key, or that there is none. What is not the same needs a comment (cmd-1)."""
    if row.loinc is None:
        return {"equivalence": "unmatched", "comment": f"Source: {row.source}."}
    equivalence = _EQUIVALENCE[row.fit]
    boundaries = _BOUNDARIES.get(equivalence)
    return present(
        {
            "code": row.loinc,
            "display": row.display,
            "equivalence": equivalence,
            "comment": " ".join(filter(None, (boundaries, f"Source: {row.source}."))),
        }
    )
