"""Notes of all kinds, targets of all kinds, and what of the ones fits the others."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import orjson

from medscribe_pipeline.ehr.fitting import Unfit, fit
from medscribe_pipeline.ehr.targets import Capabilities
from medscribe_pipeline.fhir import build_documents, check
from tests.fhir_corpus import BUILDS, PEOPLE, VISITS, a_note
from tests.fhir_options import options

if TYPE_CHECKING:
    from collections.abc import Mapping

    Resource = dict[str, Any]
    Resources = dict[str, Resource]

__all__ = [
    "ALL_KINDS",
    "CLINICIAN",
    "ENCOUNTER",
    "KNOWN",
    "PATIENT",
    "TEXT",
    "XHTML",
    "documents",
    "fitted",
    "literal",
    "release_of",
    "target",
    "types",
    "without",
]

ALL_KINDS = ("Composition", "DocumentReference", "Provenance", "Transcript")
TEXT, XHTML = "text/plain", "application/xhtml+xml"
PATIENT = ("Patient", "https://example.org/sid/patient", "synthetic-patient-1")
ENCOUNTER = ("Encounter", "https://example.org/sid/encounter", "synthetic-encounter-1")
CLINICIAN = ("Practitioner", "https://example.org/sid/user", "synthetic-user-1")
KNOWN = {PATIENT: "Patient/p1", ENCOUNTER: "Encounter/e1", CLINICIAN: "Practitioner/c1"}


@cache
def _built(state: str, where: str, who: str, build: str) -> bytes:
    note = a_note("fitted", state, visit=replace(VISITS[where], practitioner=PEOPLE[who]))
    return orjson.dumps(build_documents(note, options(**BUILDS[build])).resources())


def documents(
    state: str = "validated", *, where: str = "full", who: str = "clinician", build: str = "forms"
) -> Resources:
    """A note's documents; by default in two forms, XHTML first, with a custodian and a transcript."""
    resources: Resources = json.loads(_built(state, where, who, build))
    return resources


def release_of(build: str) -> str:
    """The FHIR release of what is built so."""
    return str(BUILDS[build].get("release", "R4"))


def target(**changes: Any) -> Capabilities:
    """A target that takes everything as it is, but for `changes`."""
    return Capabilities.model_validate({"kinds": ALL_KINDS, **changes})


def literal(**changes: Any) -> Capabilities:
    """A target that goes by its own ids."""
    return target(references="literal", **changes)


def fitted(
    resources: Mapping[str, Resource],
    capabilities: Capabilities,
    references: Mapping[tuple[str, str, str], str] | None = None,
    encounter: str | None = None,
) -> Resources:
    """What fits, and keeps to the rules of FHIR."""
    result = fit(resources, capabilities, KNOWN if references is None else references, encounter)
    assert not isinstance(result, Unfit), result
    for resource in result.values():
        check(resource, capabilities.release)
    return result


def without(name: tuple[str, str, str]) -> dict[tuple[str, str, str], str]:
    """What the target knows, but for one."""
    return {known: reference for known, reference in KNOWN.items() if known != name}


def types(resource: Resource) -> list[str]:
    return [item["attachment"]["contentType"] for item in resource["content"]]
