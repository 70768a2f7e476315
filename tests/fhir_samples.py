"""One valid resource of each checked type, written by hand, and the means to break it in one place.

They are as rich as the builders' output and independent of it: a rule is not proved by what it was written for.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from typing import Any

import pytest

from medscribe_pipeline.fhir import InvalidResource, check

__all__ = ["CANARY", "REMOVE", "SAMPLES", "Json", "broken", "div", "mutated", "refusal", "sample"]

Json = dict[str, Any]

CANARY = "Canary-Synthetic-0042"
"""A value no message may ever hold."""

REMOVE = object()

TEXT = b"Synthetic note: cough for 3 days, T <38.\n"
BASE = "https://example.org/fhir"
SYSTEM = "https://example.org/fhir/sid"


def div(inner: str) -> str:
    """A narrative."""
    return f'<div xmlns="http://www.w3.org/1999/xhtml">{inner}</div>'


def _identified(kind: str, value: str) -> Json:
    return {"type": kind, "identifier": {"system": f"{SYSTEM}/{kind.lower()}", "value": value}}


_CONCEPT = {"coding": [{"system": "http://loinc.org", "code": "11506-3"}], "text": "Progress note"}
_ATTACHMENT = {
    "contentType": "text/plain; charset=utf-8",
    "language": "en",
    "data": base64.b64encode(TEXT).decode(),
    "size": len(TEXT),
    "hash": base64.b64encode(hashlib.sha1(TEXT, usedforsecurity=False).digest()).decode(),
    "title": "Synthetic note",
    "creation": "2025-03-04T09:31:00Z",
}

_COMPOSITION: Json = {
    "resourceType": "Composition",
    "meta": {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "AIAST"}]},
    "language": "en",
    "identifier": {"use": "usual", "system": f"{SYSTEM}/note", "value": "1"},
    "status": "final",
    "type": _CONCEPT,
    "category": [{"coding": [{"system": f"{BASE}/CodeSystem/category", "code": "clinical-note"}]}],
    "subject": _identified("Patient", "synthetic-1"),
    "encounter": _identified("Encounter", "synthetic-1"),
    "date": "2025-03-04T09:31:00+01:00",
    "author": [_identified("Practitioner", "synthetic-1") | {"display": "Dr Synthetic Example"}],
    "title": "Synthetic note",
    "confidentiality": "N",
    "attester": [{"mode": "professional", "time": "2025-03-04", "party": {"display": "Dr Synthetic Example"}}],
    "custodian": _identified("Organization", "synthetic-1"),
    "relatesTo": [{"code": "replaces", "targetIdentifier": {"system": f"{SYSTEM}/note", "value": "0"}}],
    "section": [
        {"title": "Complaint", "code": _CONCEPT, "text": {"status": "additional", "div": div("<p>Cough</p>")}},
        {
            "id": "plan",
            "title": "Plan",
            "mode": "snapshot",
            "section": [{"title": "Cough", "text": {"status": "additional", "div": div("<ul><li>rest</li></ul>")}}],
        },
    ],
}
_DOCUMENT_REFERENCE: Json = {
    "resourceType": "DocumentReference",
    "meta": {"profile": ["http://hl7.org/fhir/us/core/StructureDefinition/us-core-documentreference"]},
    "masterIdentifier": {
        "system": "urn:ietf:rfc:3986",
        "value": "urn:uuid:b9d1b2f8-7303-5b80-a887-65bb27f36b59",
    },
    "identifier": [{"system": f"{SYSTEM}/note", "value": "1"}],
    "status": "current",
    "docStatus": "final",
    "type": _CONCEPT,
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
    "subject": _identified("Patient", "synthetic-1"),
    "date": "2025-03-04T09:31:00Z",
    "author": [_identified("Practitioner", "synthetic-1")],
    "custodian": {"reference": "Organization/1"},
    "relatesTo": [{"code": "replaces", "target": {"reference": f"{BASE}/DocumentReference/0/_history/1"}}],
    "content": [{"attachment": _ATTACHMENT, "format": {"system": f"{BASE}/CodeSystem/format", "code": "text"}}],
    "context": {
        "encounter": [{"reference": "Encounter/1", "type": "Encounter"}],
        "period": {"start": "2025-03-04T09:00:00Z", "end": "2025-03-04T10:20:00+01:00"},
        "practiceSetting": _CONCEPT,
    },
}
_PROVENANCE: Json = {
    "resourceType": "Provenance",
    "id": "b9d1b2f8-7303-5b80-a887-65bb27f36b59",
    "target": [_identified("DocumentReference", "1")],
    "occurredPeriod": {"start": "2025-03-04", "end": "2025-03-04T09:20:00Z"},
    "recorded": "2025-03-04T09:31:00.125Z",
    "policy": ["https://example.org/policy"],
    "reason": [_CONCEPT],
    "activity": _CONCEPT,
    "agent": [
        {
            "type": _CONCEPT,
            "who": {"reference": "Device/scribe"},
            "onBehalfOf": _identified("Practitioner", "synthetic-1"),
        }
    ],
    "entity": [{"role": "source", "what": {"identifier": {"system": f"{SYSTEM}/session", "value": "1"}}}],
}
_DEVICE: Json = {
    "resourceType": "Device",
    "id": "scribe",
    "identifier": [{"system": f"{SYSTEM}/device", "value": "scribe"}],
    "status": "active",
    "manufacturer": "Synthetic Scribes",
    "deviceName": [{"name": "Synthetic Scribe", "type": "user-friendly-name"}],
    "type": _CONCEPT,
    "version": [{"value": "1.0"}],
}
_PATIENT: Json = {
    "resourceType": "Patient",
    "id": "1",
    "identifier": [{"system": f"{SYSTEM}/patient", "value": "synthetic-1"}],
    "name": [{"use": "usual", "family": "Synthetic", "given": ["Example"]}],
    "gender": "unknown",
    "birthDate": "1970-01",
    "contact": [{"telecom": [{"system": "phone", "value": "000", "use": "home"}]}],
    "multipleBirthInteger": 2,
}
_PRACTITIONER: Json = {
    "resourceType": "Practitioner",
    "id": "1",
    "active": True,
    "identifier": [{"use": "official", "system": f"{SYSTEM}/practitioner", "value": "synthetic-1"}],
    "name": [{"text": "Dr Synthetic Example"}],
    "telecom": [{"system": "email", "value": "synthetic@example.org", "use": "work", "rank": 1}],
}
_ROLE: Json = {
    "resourceType": "PractitionerRole",
    "id": "1",
    "practitioner": {"reference": "Practitioner/1"},
    "organization": {"reference": "Organization/1"},
    "specialty": [_CONCEPT],
}
_ENCOUNTER: Json = {
    "resourceType": "Encounter",
    "id": "1",
    "status": "finished",
    "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
    "subject": {"reference": "Patient/1"},
    "period": {"start": "2025-03-04T09:00:00Z"},
    "participant": [{"individual": {"reference": "Practitioner/1"}}],
    "serviceProvider": {"reference": "Organization/1"},
}
_ORGANIZATION: Json = {
    "resourceType": "Organization",
    "id": "1",
    "name": "Synthetic Clinic",
    "telecom": [{"system": "phone", "value": "000", "use": "work"}],
    "address": [{"use": "work", "type": "both", "city": "Exampleville"}],
}


def _bundled(**changes: Any) -> Json:
    """The Composition as it stands in a document: it leads to the other entries."""
    return _COMPOSITION | {
        "subject": {"reference": "Patient/1"},
        "encounter": {"reference": f"{BASE}/Encounter/1"},
        "author": [{"reference": "urn:uuid:00000000-0000-4000-8000-000000000001"}],
        "custodian": {"reference": "Organization/1"},
        "id": "1",
    } | changes  # fmt: skip


_DOCUMENT: Json = {
    "resourceType": "Bundle",
    "identifier": {"system": "urn:ietf:rfc:3986", "value": "urn:uuid:b9d1b2f8-7303-5b80-a887-65bb27f36b59"},
    "type": "document",
    "timestamp": "2025-03-04T09:31:00Z",
    "entry": [
        {"fullUrl": f"{BASE}/Composition/1", "resource": _bundled()},
        {"fullUrl": f"{BASE}/Patient/1", "resource": _PATIENT},
        {"fullUrl": f"{BASE}/Encounter/1", "resource": _ENCOUNTER},
        {"fullUrl": f"{BASE}/Organization/1", "resource": _ORGANIZATION},
        {"fullUrl": "urn:uuid:00000000-0000-4000-8000-000000000001", "resource": _PRACTITIONER},
    ],
}
_TRANSACTION: Json = {
    "resourceType": "Bundle",
    "type": "transaction",
    "entry": [
        {
            "fullUrl": "urn:uuid:00000000-0000-4000-8000-000000000001",
            "resource": _COMPOSITION,
            "request": {"method": "PUT", "url": "Composition?identifier=urn:x%7C1"},
        },
        {
            "fullUrl": "urn:uuid:00000000-0000-4000-8000-000000000002",
            "resource": _DOCUMENT_REFERENCE,
            "request": {"method": "POST", "url": "DocumentReference", "ifNoneExist": "identifier=urn:x%7C2"},
        },
        {
            "fullUrl": "urn:uuid:00000000-0000-4000-8000-000000000003",
            "resource": _PROVENANCE | {"target": [{"reference": "urn:uuid:00000000-0000-4000-8000-000000000002"}]},
            "request": {"method": "PUT", "url": "Provenance/b9d1b2f8-7303-5b80-a887-65bb27f36b59"},
        },
    ],
}

SAMPLES: dict[str, Json] = {
    "Composition": _COMPOSITION,
    "Device": _DEVICE,
    "DocumentReference": _DOCUMENT_REFERENCE,
    "Encounter": _ENCOUNTER,
    "Organization": _ORGANIZATION,
    "Patient": _PATIENT,
    "Practitioner": _PRACTITIONER,
    "PractitionerRole": _ROLE,
    "Provenance": _PROVENANCE,
    "document": _DOCUMENT,
    "transaction": _TRANSACTION,
}
"""Valid R4, by resource type; the two kinds of Bundle by their own."""


def sample(name: str) -> Json:
    """A copy to change, in which no two elements are one object."""
    result: Json = json.loads(json.dumps(SAMPLES[name]))
    return result


def mutated(resource: Json, path: str, value: object) -> Json:
    """A copy of `resource` with the element at `path` set to `value`, or removed."""
    result = copy.deepcopy(resource)
    *parents, last = path.split(".")
    node: Any = result
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node[part]
    if value is REMOVE:
        del node[last]
    elif isinstance(node, list):
        node[int(last)] = value
    else:
        node[last] = value
    return result


def refusal(resource: Json, release: Any = "R4") -> InvalidResource:
    """What `check` says against a resource; no word of it is a value."""
    with pytest.raises(InvalidResource) as caught:
        check(resource, release)
    error = caught.value
    assert error.__cause__ is None
    assert CANARY not in f"{error!s}{error!r}{vars(error)}"
    return error


def broken(resource: Json, release: Any = "R4") -> set[tuple[str, str]]:
    """Every rule a resource breaks, and where."""
    return set(refusal(resource, release).findings)
