"""Rules of whole resources: Bundles, profiles, and invariants that look at more than one element.

`RESOURCE_RULES` lists the resource types this project knows the rules of; others are refused. What is true of the
elements of a type, `fhir.resources` knows (`rules_types`); a new type is one line here, and its own rules.

Facts: invariants of the FHIR R4 definitions (https://hl7.org/fhir/R4/), under their R4 keys in R5 too; US Core
DocumentReference (http://hl7.org/fhir/us/core).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medscribe_pipeline.fhir.rules_bundle import bundle

if TYPE_CHECKING:
    from medscribe_pipeline.fhir.rules_walk import Node, Path, ResourceRule, Walk

__all__ = ["RESOURCE_RULES"]

_US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-documentreference"
_US_CORE_CATEGORY = "http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category"
_TYPE_SYSTEMS = ("http://loinc.org", "http://terminology.hl7.org/CodeSystem/v3-NullFlavor")
_ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"


def _dicts(value: Any) -> list[Node]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _us_core(walk: Walk, node: Node, path: Path) -> None:
    """What the US Core profile adds to DocumentReference, where `meta.profile` claims it.

    `us-core-6`, content with data or url, is held everywhere, see `rules_elements`.
    """
    meta = node.get("meta")
    profiles = meta.get("profile") if isinstance(meta, dict) else None
    claims = profiles if isinstance(profiles, list) else []
    if not any(isinstance(each, str) and each.partition("|")[0] == _US_CORE for each in claims):
        return
    if not any(coding.get("system") in _TYPE_SYSTEMS for coding in _codings(node.get("type"))):
        walk.found("us-core-type", path, "type")
    categories = [coding for category in _dicts(node.get("category")) for coding in _codings(category)]
    if not any((each.get("system"), each.get("code")) == (_US_CORE_CATEGORY, "clinical-note") for each in categories):
        walk.found("us-core-category", path, "category")
    if not _is_patient(node.get("subject")):
        walk.found("us-core-subject", path, "subject")
    context = node.get("context")
    encounters = context.get("encounter") if isinstance(context, dict) else None
    if isinstance(encounters, list) and len(encounters) > 1:
        walk.found("us-core-encounter", path, "context", "encounter")
    for index, content in enumerate(_dicts(node.get("content"))):
        attachment = content.get("attachment")
        if isinstance(attachment, dict) and "contentType" not in attachment:
            walk.found("us-core-content-type", path, "content", index, "attachment")


def _codings(concept: Any) -> list[Node]:
    return _dicts(concept.get("coding")) if isinstance(concept, dict) else []


def _is_patient(subject: Any) -> bool:
    """Whether it leads to a patient, or says why nobody knows which one."""
    if not isinstance(subject, dict) or subject.get("type", "Patient") != "Patient":
        return False
    absent = any(each.get("url") == _ABSENT for each in _dicts(subject.get("extension")))
    return absent or bool(subject.keys() & {"reference", "identifier"})


def _organization(walk: Walk, node: Node, path: Path) -> None:
    if not node.keys() & {"name", "identifier"}:
        walk.found("org-1", path)
    for rule, name in (("org-2", "address"), ("org-3", "telecom")):
        for index, each in enumerate(_dicts(node.get(name))):
            if each.get("use") == "home":
                walk.found(rule, path, name, index)


def _code_system(walk: Walk, node: Node, path: Path) -> None:
    codes = [code for concept in _concepts(node.get("concept")) if isinstance(code := concept.get("code"), str)]
    if len(set(codes)) < len(codes):
        walk.found("csd-1", path, "concept")


def _concepts(value: Any) -> list[Node]:
    listed = _dicts(value)
    return [*listed, *(below for each in listed for below in _concepts(each.get("concept")))]


RESOURCE_RULES: dict[str, tuple[ResourceRule, ...]] = {
    "Bundle": (bundle,),
    "CodeSystem": (_code_system,),
    "Composition": (),
    "ConceptMap": (),
    "Device": (),
    "DocumentReference": (_us_core,),
    "Encounter": (),
    "Organization": (_organization,),
    "Patient": (),
    "Practitioner": (),
    "PractitionerRole": (),
    "Provenance": (),
    "ValueSet": (),
}
"""The rules of each resource type that may be checked, beside those of its elements."""
