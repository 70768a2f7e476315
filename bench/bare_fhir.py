"""Documents of the bare script: the same three resources as ours in size and shape, built as plain dictionaries.

`strict` has each validated by its model of fhir.resources. `shape` has the models look at one resource of each shape
only, where a shape is which fields are there and of which type, and looks at the text of no field but that it is there:
less than the pipeline's own check, and the least anybody could call one.
"""

from __future__ import annotations

import base64
import html
import uuid
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Check", "Checker", "Document", "documents"]

Check = Literal["shape", "strict"]

BASE = "https://example.org/fhir"
LOINC = "http://loinc.org"
XHTML = '<div xmlns="http://www.w3.org/1999/xhtml"><p>%s</p></div>'
AI = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "AIAST",
    "display": "Artificial Intelligence asserted",
}
META = {"security": [AI]}
TYPE = {"coding": [{"system": LOINC, "code": "34109-9"}], "text": "Clinical note"}
CATEGORY = [{"coding": [{"system": f"{BASE}/CodeSystem/category", "code": "clinical-note"}]}]
AUTHOR = {
    "type": "Device",
    "identifier": {"system": f"{BASE}/sid/device", "value": "audioscribe"},
    "display": "Dictanote AudioScribe",
}
CODES = {
    "CHIEF COMPLAINT": "10154-3",
    "HISTORY OF PRESENT ILLNESS": "10164-2",
    "PAST MEDICAL HISTORY": "11348-0",
    "ALLERGIES": "48765-2",
    "CURRENT MEDICATIONS": "10160-0",
    "PHYSICAL EXAM": "29545-1",
    "ASSESSMENT": "51848-0",
    "PLAN": "18776-5",
}
MODELS = {"Composition": "composition", "DocumentReference": "documentreference", "Provenance": "provenance"}


class Document(NamedTuple):
    """A resource, and its bytes as they are stored and sent."""

    kind: str
    body: bytes


class Checker:
    """Looks at resources before they are stored."""

    def __init__(self, check: Check) -> None:
        self._strict = check == "strict"
        self._known: set[object] = set()
        self._models = {
            kind: getattr(import_module(f"fhir.resources.R4B.{module}"), kind) for kind, module in MODELS.items()
        }

    def look_at(self, resource: dict[str, Any]) -> None:
        """Raises an error if the resource is wrong."""
        if not self._strict:
            shape = _shape(resource)
            if shape in self._known:
                return
            self._known.add(shape)
        self._models[resource["resourceType"]].model_validate(resource)


def _shape(value: object) -> object:
    if isinstance(value, dict):
        return tuple([(name, _shape(each)) for name, each in value.items()])
    if isinstance(value, list):
        return tuple([_shape(each) for each in value])
    if isinstance(value, str) and not value:
        raise ValueError("an empty text is not FHIR")
    return value.__class__


def documents(
    note_id: uuid.UUID, session: dict[str, Any], sections: Sequence[tuple[str, str]], checker: Checker
) -> list[Document]:
    """The documents of a session, checked."""
    own = {"system": f"{BASE}/sid/note", "value": str(note_id)}
    unique = {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{uuid.uuid5(note_id, 'document')}"}
    made = (
        _composition(own, session, sections),
        _document_reference(own, unique, session, sections),
        _provenance(own, unique, session),
    )
    for resource in made:
        checker.look_at(resource)
    return [Document(resource["resourceType"], orjson.dumps(resource)) for resource in made]


def _composition(own: dict[str, str], session: dict[str, Any], sections: Sequence[tuple[str, str]]) -> dict[str, Any]:
    return {
        "resourceType": "Composition",
        "meta": META,
        "identifier": own,
        "status": "final",
        "type": TYPE,
        "category": CATEGORY,
        "date": session["createdAt"],
        "author": [AUTHOR],
        "title": session["title"],
        "section": [
            {
                "title": title,
                "code": {
                    "coding": [
                        {"system": LOINC, "code": CODES[title]},
                        {"system": f"{BASE}/CodeSystem/section", "code": title.replace(" ", "_")},
                    ],
                    "text": title,
                },
                "text": {"status": "additional", "div": XHTML % html.escape(text, quote=False).replace("\n", "<br/>")},
            }
            for title, text in sections
        ],
    }


def _document_reference(
    own: dict[str, str], unique: dict[str, str], session: dict[str, Any], sections: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    text = "\n\n".join([session["title"], *(f"{title}\n{words}" for title, words in sections)]).encode()
    return {
        "resourceType": "DocumentReference",
        "meta": META,
        "masterIdentifier": unique,
        "identifier": [own],
        "status": "current",
        "docStatus": "final",
        "type": TYPE,
        "category": CATEGORY,
        "date": session["createdAt"],
        "author": [AUTHOR],
        "content": [
            {
                "attachment": {
                    "contentType": "text/plain; charset=utf-8",
                    "data": base64.b64encode(text).decode(),
                    "size": len(text),
                    "title": session["title"],
                    "creation": session["createdAt"],
                },
            }
        ],
    }


def _provenance(own: dict[str, str], unique: dict[str, str], session: dict[str, Any]) -> dict[str, Any]:
    return {
        "resourceType": "Provenance",
        "target": [
            {"type": "DocumentReference", "identifier": unique},
            {"type": "Composition", "identifier": own},
        ],
        "occurredDateTime": session["createdAt"],
        "recorded": session["createdAt"],
        "reason": [{"coding": [AI]}],
        "agent": [{"who": AUTHOR}],
        "entity": [{"role": "derivation", "what": {"identifier": {"system": f"{BASE}/sid", "value": session["id"]}}}],
    }
