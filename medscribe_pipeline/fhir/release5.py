"""Resources of R4, as this project builds them, in FHIR R5: so that one builder serves both releases.

Follows HL7's own maps between the releases. Nothing is invented: what only R5 knows is left out. What only R4 knows is
moved where R5 wants it, or dropped where R5 has no place for it; each such place says so. Elements this project never
builds are not translated, and the R5 check refuses a resource that has one: nothing gets lost unseen.

Facts: FHIR R5 (https://hl7.org/fhir/R5/), "R4 to R5 diff" of each resource, and the StructureMaps `*4to5` of
https://build.fhir.org/ig/HL7/fhir-cross-version/.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Node = dict[str, Any]

__all__ = ["to_r5"]

_RELATION_SYSTEM = "http://hl7.org/fhir/document-relationship-type"
_ATTESTATION_SYSTEM = "http://hl7.org/fhir/composition-attestation-mode"
_CONFIDENTIALITY_SYSTEM = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"

_ENCOUNTER_STATUS = {
    "arrived": "planned",
    "triaged": "in-progress",
    "onleave": "on-hold",
    "finished": "completed",
}
_DEVICE_NAME_TYPE = {
    "udi-label-name": "registered-name",
    "manufacturer-name": "registered-name",
    "model-name": "registered-name",
    "other": "registered-name",
}
# R5 no longer has the parent of all roles; of those left, `source` says least beyond it.
_ENTITY_ROLE = {"derivation": "source"}


def to_r5(resource: dict[str, Any]) -> dict[str, Any]:
    """The resource in R5, as a new dict; parts that are the same in both releases are shared with the old one.

    Profiles it claims are left out: those of this project are written for R4.

    >>> to_r5({"resourceType": "Device", "deviceName": [{"name": "Scribe", "type": "other"}]})
    {'resourceType': 'Device', 'name': [{'value': 'Scribe', 'type': 'registered-name'}]}
    """
    result = dict(resource)
    if "meta" in result:
        result["meta"] = {name: value for name, value in result["meta"].items() if name != "profile"}
        if not result["meta"]:
            del result["meta"]
    if "contained" in result:
        result["contained"] = [to_r5(each) for each in result["contained"]]
    convert = _CONVERSIONS.get(result["resourceType"])
    if convert:
        convert(result)
    return result


def _bundle(node: Node) -> None:
    if "entry" in node:
        node["entry"] = [
            {**entry, "resource": to_r5(entry["resource"])} if "resource" in entry else entry for entry in node["entry"]
        ]


def _composition(node: Node) -> None:
    for name in ("identifier", "subject"):
        if name in node:
            node[name] = [node[name]]
    if "attester" in node:
        node["attester"] = [{**each, "mode": _concept(_ATTESTATION_SYSTEM, each["mode"])} for each in node["attester"]]
    if "relatesTo" in node:
        node["relatesTo"] = [_artifact(each) for each in node["relatesTo"]]
    if "confidentiality" in node:
        label = {"system": _CONFIDENTIALITY_SYSTEM, "code": node.pop("confidentiality")}
        meta = node.get("meta", {})
        node["meta"] = {**meta, "security": [*meta.get("security", []), label]}
    if "section" in node:
        node["section"] = [_section(each) for each in node["section"]]


def _section(node: Node) -> Node:
    """Without `mode`, which R5 dropped: it only told working lists from snapshots, and a note is a snapshot."""
    result = {name: value for name, value in node.items() if name != "mode"}
    if "section" in result:
        result["section"] = [_section(each) for each in result["section"]]
    return result


def _artifact(node: Node) -> Node:
    """Another document, in the type R5 uses for artefacts of all kinds; its codes include those of R4."""
    target = node.get("targetReference") or {"identifier": node["targetIdentifier"]}
    return {"type": node["code"], "resourceReference": target}


def _device(node: Node) -> None:
    if "deviceName" in node:
        node["name"] = [
            {"value": each["name"], "type": _DEVICE_NAME_TYPE.get(each["type"], each["type"])}
            for each in node.pop("deviceName")
        ]
    if "type" in node:
        node["type"] = [node["type"]]
    if node.get("status") == "unknown":
        del node["status"]  # R5 leaves it out when it is


def _document_reference(node: Node) -> None:
    if "masterIdentifier" in node:
        node["identifier"] = [node.pop("masterIdentifier"), *node.get("identifier", [])]
    if "relatesTo" in node:
        node["relatesTo"] = [{**each, "code": _concept(_RELATION_SYSTEM, each["code"])} for each in node["relatesTo"]]
    if "content" in node:
        node["content"] = [_content(each) for each in node["content"]]
    context = node.pop("context", {})
    for name in ("period", "facilityType", "practiceSetting"):
        if name in context:
            node[name] = context[name]
    if "event" in context:
        node["event"] = [{"concept": each} for each in context["event"]]
    # `related` and `sourcePatientInfo` have no place in R5. What a transcript is related to, its note, stands in the
    # Provenance of the note too, as an entity.
    if "encounter" in context:
        node["context"] = context["encounter"]


def _content(node: Node) -> Node:
    attachment = dict(node["attachment"])
    if "size" in attachment:
        attachment["size"] = str(attachment["size"])  # integer64, which is text in JSON
    result: Node = {"attachment": attachment}
    if "format" in node:
        result["profile"] = [{"valueCoding": node["format"]}]
    return result


def _encounter(node: Node) -> None:
    node["status"] = _ENCOUNTER_STATUS.get(node["status"], node["status"])
    node["class"] = [{"coding": [node["class"]]}]
    if "period" in node:
        node["actualPeriod"] = node.pop("period")
    if "participant" in node:
        node["participant"] = [
            {"actor" if name == "individual" else name: value for name, value in each.items()}
            for each in node["participant"]
        ]


def _provenance(node: Node) -> None:
    if "reason" in node:
        node["authorization"] = [{"concept": each} for each in node.pop("reason")]
    if "entity" in node:
        node["entity"] = [{**each, "role": _ENTITY_ROLE.get(each["role"], each["role"])} for each in node["entity"]]


def _organization(node: Node) -> None:
    """Addresses and numbers are contacts in R5, of one address each."""
    contacts = [{"telecom": node.pop("telecom")}] if "telecom" in node else []
    contacts.extend({"address": each} for each in node.pop("address", []))
    if contacts:
        node["contact"] = contacts


def _concept(system: str, code: str) -> Node:
    return {"coding": [{"system": system, "code": code}]}


_CONVERSIONS: dict[str, Callable[[Node], None]] = {
    "Bundle": _bundle,
    "Composition": _composition,
    "Device": _device,
    "DocumentReference": _document_reference,
    "Encounter": _encounter,
    "Organization": _organization,
    "Provenance": _provenance,
}
