"""What the elements of the resources made of notes look like: which leaves are free, and what counts to the letter.

A `Look` is how to look at one element. It holds free leaves against the grammar of their type, and hands on what
stands for the rest: the names of its elements, the lengths of lists, and what counts to the letter as it stands. What
it hands on tells the rest completely: the names say how to read what follows. It raises where it cannot vouch.

A look may be stricter than FHIR, never laxer: what it lets through has to pass the rules and the models, whatever
else the resource holds in the places that are not handed on. `rules_primitives` has the grammars of this project; the
models add that a day is in the calendar.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.fhir.rules_elements import ELEMENT_RULES, narrative_rule
from medscribe_pipeline.fhir.rules_primitives import PRIMITIVES, text

if TYPE_CHECKING:
    from medscribe_pipeline.fhir.rules_types import Release

__all__ = ["RESOURCES", "SECTION", "Look", "Unsure"]

Add = Callable[[object], None]
Look = Callable[[Any, Add], None]

# The form in which times are written here; FHIR has more. The calendar is for `fromisoformat` to know.
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9])"
)
_CODING = frozenset({"system", "version", "code", "display", "userSelected"})


class Unsure(Exception):
    """Something a look cannot vouch for."""


def _element(elements: dict[str, Look | None], kind: str = "") -> Look:
    """How to look at an element, or at a list of them.

    Args:
        elements: The elements it may have; `None` for one that counts to the letter.
        kind: The type whose rules in `ELEMENT_RULES` hold free leaves against each other.
    """
    relations = ELEMENT_RULES[kind] if kind else ()

    def look(value: Any, add: Add) -> None:
        if type(value) is list:
            add(len(value))
            for item in value:
                look(item, add)
            return
        if type(value) is not dict:
            raise Unsure
        add(",".join(value))
        for name, below in value.items():
            known = elements[name]
            if known is None:
                add(below)
            else:
                known(below, add)
        for rule in relations:
            if rule(value):
                raise Unsure

    return look


def _text(value: Any, _add: Add) -> None:
    if type(value) is not str or text(value):
        raise Unsure


def _moment(value: Any, _add: Add) -> None:
    if type(value) is not str or not _MOMENT.fullmatch(value):
        raise Unsure
    datetime.fromisoformat(value)


def _id(value: Any, _add: Add) -> None:
    if type(value) is not str or PRIMITIVES["id"](value):
        raise Unsure


def _div(value: Any, _add: Add) -> None:
    if type(value) is not str or narrative_rule(value):
        raise Unsure


def _data(value: Any, _add: Add) -> None:
    # That it is base64 is seen by the rules of the attachment, which have to decode it anyway.
    if type(value) is not str or not value:
        raise Unsure


def _size(value: Any, add: Add) -> None:
    # That it is the right number the rules of the attachment say, if it is one: in JSON in R4, in text in R5.
    digits = str(value)
    if type(value) not in {int, str} or not digits.isascii() or not digits.isdecimal():
        raise Unsure
    add(type(value) is int)


def _hash(value: Any, _add: Add) -> None:
    if type(value) is not str:
        raise Unsure


def _codings(value: Any, add: Add) -> None:
    # To the letter, but nothing that others might refer to: no ids, no extensions.
    if type(value) is not list:
        raise Unsure
    for coding in value:
        if type(coding) is not dict or not coding.keys() <= _CODING:
            raise Unsure
    add(value)


def _sections(value: Any, _add: Add) -> None:
    # Each is looked at apart from the others.
    if type(value) is not list or not value:
        raise Unsure


_IDENTIFIER = _element({"use": None, "type": None, "system": None, "value": _text}, "Identifier")
_REFERENCE = _element({"type": None, "identifier": _IDENTIFIER, "display": _text, "extension": None})
_CONCEPT = _element({"coding": _codings, "text": _text})
_PERIOD = _element({"start": _moment, "end": _moment}, "Period")

_NARRATIVE = _element({"status": None, "div": _div})
_SECTION_ELEMENTS: dict[str, Look | None] = {"title": _text, "code": _CONCEPT, "text": _NARRATIVE}
SECTION = _SECTION_ELEMENTS["section"] = _element(_SECTION_ELEMENTS)

# One without data would have a URL, which is no element of ours: so its rules always have data to hold against.
_ATTACHMENT = _element(
    {
        "contentType": None,
        "language": None,
        "data": _data,
        "size": _size,
        "hash": _hash,
        "title": _text,
        "creation": _moment,
    },
    "Attachment",
)
_CONTENT = _element({"attachment": _ATTACHMENT, "format": None, "profile": None})

_ANY: dict[str, Look | None] = {"resourceType": None, "meta": None, "language": None}
_COMPOSITION = _element(
    {
        **_ANY,
        "identifier": _IDENTIFIER,
        "status": None,
        "type": _CONCEPT,
        "category": None,
        "subject": _REFERENCE,
        "encounter": _REFERENCE,
        "date": _moment,
        "author": _REFERENCE,
        "title": _text,
        "attester": _element({"mode": None, "time": _moment, "party": _REFERENCE}),
        "custodian": _REFERENCE,
        "section": _sections,
    }
)
_DOCUMENT_ELEMENTS: dict[str, Look | None] = {
    **_ANY,
    "masterIdentifier": _IDENTIFIER,
    "identifier": _IDENTIFIER,
    "status": None,
    "docStatus": None,
    "type": _CONCEPT,
    "category": None,
    "subject": _REFERENCE,
    "date": _moment,
    "author": _REFERENCE,
    "custodian": _REFERENCE,
    "relatesTo": _element({"code": None, "target": _REFERENCE}),
    "securityLabel": None,
    "content": _CONTENT,
}
_CONTEXT = {"period": _PERIOD, "practiceSetting": _CONCEPT}
_PROVENANCE = _element(
    {
        **_ANY,
        "id": _id,
        "target": _REFERENCE,
        "occurredDateTime": _moment,
        "recorded": _moment,
        "reason": None,
        "authorization": None,
        "activity": None,
        "agent": _element({"type": None, "role": None, "who": _REFERENCE, "onBehalfOf": _REFERENCE}, "ProvenanceAgent"),
        "entity": _element({"role": None, "what": _REFERENCE}),
    }
)
RESOURCES: dict[Release, dict[str, Look]] = {
    "R4": {
        "Composition": _COMPOSITION,
        "DocumentReference": _element(
            {
                **_DOCUMENT_ELEMENTS,
                "context": _element({**_CONTEXT, "encounter": _REFERENCE, "related": _REFERENCE}),
            }
        ),
        "Provenance": _PROVENANCE,
    },
    "R5": {
        "Composition": _COMPOSITION,
        "DocumentReference": _element({**_DOCUMENT_ELEMENTS, **_CONTEXT, "context": _REFERENCE}),
        "Provenance": _PROVENANCE,
    },
}
"""What is known of the resources this project makes of notes; everything else has to pass `rules.check` each time."""
