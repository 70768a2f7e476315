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
    from collections.abc import Sequence

    from medscribe_pipeline.fhir.rules_types import Release

__all__ = ["RESOURCES", "SECTION", "Look", "Unsure", "stand_apart"]

Add = Callable[[object], None]
Look = Callable[[Any, Add], None]

# The form in which times are written here; FHIR has more. The calendar is for `fromisoformat` to know.
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9])"
)
_CODING = frozenset({"system", "version", "code", "display", "userSelected"})
_SECTION_NAMES, _SECTION_LEAVES = ("title", "code", "text"), ("coding", "text", "status", "div")
_FEW = frozenset({"Device", "Organization"})


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
        if type(value) is not dict:
            _each(look, value, add)
            return
        add(",".join(value))
        for name, below in value.items():
            known = elements[name]
            if known is None:
                add(below)
            elif known is _text:  # without a call, because every other leaf is a text
                if type(below) is not str or text(below):
                    raise Unsure
            else:
                known(below, add)
        for rule in relations:
            if rule(value):
                raise Unsure

    return look


def _each(look: Look, value: Any, add: Add) -> None:
    if type(value) is not list:
        raise Unsure
    add(len(value))
    for item in value:
        look(item, add)


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


def _section(value: Any, add: Add) -> None:
    # As `_ANY_SECTION` would, in the form that nearly all have; what it hands on begins with a list, not with names.
    if type(value) is dict and tuple(value) == _SECTION_NAMES:
        title, concept, narrative = value.values()
        if type(concept) is type(narrative) is dict and (*concept, *narrative) == _SECTION_LEAVES:
            coding, heading = concept.values()
            status, div = narrative.values()
            if type(title) is type(heading) is type(div) is str and not (
                text(title) or text(heading) or narrative_rule(div)
            ):
                add([coding, status])
                return
    _ANY_SECTION(value, add)


def stand_apart(sections: Sequence[dict[str, Any]]) -> bool:
    """Whether sections the rules have passed may be known apart from what they stand in.

    What has an id may not: ids differ throughout a resource. Their looks pass no id but those of codings, which count
    to the letter.
    """
    return all(
        all(coding.keys() <= _CODING for coding in section.get("code", {}).get("coding", ()))
        and stand_apart(section.get("section", ()))
        for section in sections
    )


def _few(value: Any, add: Add) -> None:
    # Devices and organizations are few, unlike people and visits: they count to the letter as a whole.
    if type(value) is dict and value.get("type") in _FEW:
        add(value)
    else:
        _ANYBODY(value, add)


def _sections(value: Any, _add: Add) -> None:
    # Each is looked at apart from the others.
    if type(value) is not list or not value:
        raise Unsure


_IDENTIFIER = _element({"use": None, "type": None, "system": None, "value": _text}, "Identifier")
_ANYBODY = _element({"type": None, "identifier": _IDENTIFIER, "display": _text, "extension": None})
_CONCEPT = _element({"coding": None, "text": _text})
_PERIOD = _element({"start": _moment, "end": _moment}, "Period")

_NARRATIVE = _element({"status": None, "div": _div})
_SECTION_ELEMENTS: dict[str, Look | None] = {"title": _text, "code": _CONCEPT, "text": _NARRATIVE}
_ANY_SECTION = _SECTION_ELEMENTS["section"] = _element(_SECTION_ELEMENTS)
SECTION: Look = _section
"""How to look at a section of a Composition."""

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
        "subject": _few,
        "encounter": _few,
        "date": _moment,
        "author": _few,
        "title": _text,
        "attester": _element({"mode": None, "time": _moment, "party": _few}),
        "custodian": _few,
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
    "subject": _few,
    "date": _moment,
    "author": _few,
    "custodian": _few,
    "relatesTo": _element({"code": None, "target": _few}),
    "securityLabel": None,
    "content": _CONTENT,
}
_CONTEXT = {"period": _PERIOD, "practiceSetting": _CONCEPT}
_PROVENANCE = _element(
    {
        **_ANY,
        "id": _id,
        "target": _few,
        "occurredDateTime": _moment,
        "recorded": _moment,
        "reason": None,
        "authorization": None,
        "activity": None,
        "agent": _element({"type": None, "role": None, "who": _few, "onBehalfOf": _few}, "ProvenanceAgent"),
        "entity": _element({"role": None, "what": _few}),
    }
)
RESOURCES: dict[Release, dict[str, Look]] = {
    "R4": {
        "Composition": _COMPOSITION,
        "DocumentReference": _element(
            {
                **_DOCUMENT_ELEMENTS,
                "context": _element({**_CONTEXT, "encounter": _few, "related": _few}),
            }
        ),
        "Provenance": _PROVENANCE,
    },
    "R5": {
        "Composition": _COMPOSITION,
        "DocumentReference": _element({**_DOCUMENT_ELEMENTS, **_CONTEXT, "context": _few}),
        "Provenance": _PROVENANCE,
    },
}
"""What is known of the resources this project makes of notes; everything else has to pass `rules.check` each time."""
