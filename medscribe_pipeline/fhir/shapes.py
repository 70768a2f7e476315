"""The check of every resource again, with what depends on its shape alone looked at once for each shape.

What `rules.check` says of a resource of ours depends on two things: its shape, which is its elements, codes, systems,
statuses and the length of its lists; and the free text, times, identifiers and data that stand in it. A pipeline meets
few shapes and many texts. So `check_shape` walks a resource once, and

- holds each free leaf against its own grammar, every time, and against the other leaves it has to agree with: the end
  of a period with its start, the size and hash of an attachment with its data, an agent with whom it acts for;
- writes down everything else to the letter. If `rules.check` has passed exactly that before, it would pass it now.

Whatever is not seen to be right here is for `rules.check` to decide: a shape met for the first time, an element the
tables below do not name, a leaf in a form that is rare, a leaf that is wrong. So what passes here passes there, and
what is refused is refused there, with its findings.

Sections of a Composition are remembered one by one: which of them a note has is up to its author, so that whole
Compositions would hardly repeat. Nothing in a section as the tables know it depends on anything around it.
"""

from __future__ import annotations

import marshal
import re
from collections.abc import Callable
from datetime import datetime
from hashlib import blake2b
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from medscribe_pipeline.fhir import rules
from medscribe_pipeline.fhir.rules_elements import ELEMENT_RULES, narrative_rule
from medscribe_pipeline.fhir.rules_primitives import PRIMITIVES, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from medscribe_pipeline.fhir.rules_types import Release

__all__ = ["Shapes", "check", "check_shape"]

MOST_SHAPES = 4096
"""Shapes remembered of a release, of 16 bytes each. A pipeline with its templates and languages meets hundreds."""

Add = Callable[[object], None]
Look = Callable[[Any, Add], None]

# The form in which times are written here; FHIR has more. The calendar is for `fromisoformat` to know.
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9])"
)
_CODING = frozenset({"system", "version", "code", "display", "userSelected"})
_SHORT = 1000


class _Unsure(Exception):
    """Something this walk cannot vouch for."""


class Shapes:
    """What `rules.check` has passed, of one release; safe to share between threads.

    Args:
        most: How many shapes are kept. The oldest goes for the newest.
    """

    def __init__(self, most: int = MOST_SHAPES) -> None:
        self._most = most
        self._seen: dict[bytes, None] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._seen)

    def hold(self, keys: Iterable[bytes]) -> bool:
        """Whether each of these has been passed."""
        return all(key in self._seen for key in keys)

    def remember(self, keys: Iterable[bytes]) -> None:
        """Keeps what has been passed just now."""
        with self._lock:
            for key in keys:
                self._seen[key] = None
            while len(self._seen) > self._most:
                del self._seen[next(iter(self._seen))]


def check(resource: dict[str, Any], release: Release, how: Literal["shape", "strict"]) -> None:
    """Checks one resource in the way the setting says: as `check_shape` does, or as `rules.check` does."""
    if how == "shape":
        check_shape(resource, release)
    else:
        rules.check(resource, release)


def check_shape(resource: dict[str, Any], release: Release = "R4", shapes: Mapping[str, Shapes] | None = None) -> None:
    """Checks one resource as `rules.check` does, at a tenth of its cost where its shape has been checked before.

    Args:
        resource: FHIR JSON as plain values. It is looked at, not changed.
        release: The release it is written in.
        shapes: What is known already, by release; that of this process unless told.

    Raises:
        InvalidResource: What `rules.check` found.
    """
    known = (_SHAPES if shapes is None else shapes)[release]
    try:
        keys = _keys(resource, release)
    except (_Unsure, LookupError, TypeError, ValueError, RecursionError):
        # An element that is not in the tables, an element name that is no text, a value that is not JSON, ...
        rules.check(resource, release)
        return
    if not known.hold(keys):
        rules.check(resource, release)
        known.remember(keys)


def _keys(resource: dict[str, Any], release: Release) -> list[bytes]:
    """What the verdict on a resource depends on, once its free leaves are right: of itself and of each section."""
    kind = resource["resourceType"]
    keys = [_key(resource, _RESOURCES[release][kind])]
    if kind == "Composition" and "section" in resource:
        keys.extend([_key(section, _SECTION) for section in resource["section"]])
    return keys


def _key(node: Any, look: Look) -> bytes:
    parts: list[object] = []
    look(node, parts.append)
    # Version 2 of this format writes equal values equally, others differently, and nothing but plain values. What is
    # left out tells nobody which elements a value belongs to, but the names before it do, so no two shapes are alike.
    return blake2b(marshal.dumps(parts, 2), digest_size=16).digest()


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
            raise _Unsure
        add(",".join(value))
        for name, below in value.items():
            known = elements[name]
            if known is None:
                add(below)
            else:
                known(below, add)
        for rule in relations:
            if rule(value):
                raise _Unsure

    return look


def _text(value: Any, _add: Add) -> None:
    if type(value) is not str:
        raise _Unsure
    # What can be printed is legal, and something of it is seen if it does not begin with a space.
    if len(value) < _SHORT and value.isprintable() and value[:1] > " ":
        return
    if text(value):
        raise _Unsure


def _moment(value: Any, _add: Add) -> None:
    if type(value) is not str or not _MOMENT.fullmatch(value):
        raise _Unsure
    datetime.fromisoformat(value)


def _id(value: Any, _add: Add) -> None:
    if type(value) is not str or PRIMITIVES["id"](value):
        raise _Unsure


def _div(value: Any, _add: Add) -> None:
    if type(value) is not str or narrative_rule(value):
        raise _Unsure


def _data(value: Any, _add: Add) -> None:
    # That it is base64 is seen by the rules of the attachment, which have to decode it anyway.
    if type(value) is not str or not value:
        raise _Unsure


def _size(value: Any, add: Add) -> None:
    # Whether it is right the rules of the attachment say, if it is a number: in JSON in R4, in text in R5.
    if type(value) is not int and (type(value) is not str or not value.isascii() or not value.isdecimal()):
        raise _Unsure
    add(type(value) is int)


def _hash(value: Any, _add: Add) -> None:
    if type(value) is not str:
        raise _Unsure


def _codings(value: Any, add: Add) -> None:
    # To the letter, but nothing that others might refer to: no ids, no extensions.
    if type(value) is not list:
        raise _Unsure
    for coding in value:
        if type(coding) is not dict or not coding.keys() <= _CODING:
            raise _Unsure
    add(value)


def _sections(value: Any, _add: Add) -> None:
    # Each is looked at apart from the others.
    if type(value) is not list or not value:
        raise _Unsure


_IDENTIFIER = _element({"use": None, "type": None, "system": None, "value": _text}, "Identifier")
_REFERENCE = _element({"type": None, "identifier": _IDENTIFIER, "display": _text, "extension": None})
_CONCEPT = _element({"coding": _codings, "text": _text})
_PERIOD = _element({"start": _moment, "end": _moment}, "Period")

_NARRATIVE = _element({"status": None, "div": _div})
_SECTION_ELEMENTS: dict[str, Look | None] = {"title": _text, "code": _CONCEPT, "text": _NARRATIVE}
_SECTION = _SECTION_ELEMENTS["section"] = _element(_SECTION_ELEMENTS)

_ATTACHMENT_ELEMENTS: dict[str, Look | None] = {
    "contentType": None,
    "language": None,
    "data": _data,
    "size": _size,
    "hash": _hash,
    "title": _text,
    "creation": _moment,
}


def _attachment(value: Any, add: Add) -> None:
    if "data" not in value:
        raise _Unsure  # without it nothing would be held against size and hash
    _WITH_DATA(value, add)


_WITH_DATA = _element(_ATTACHMENT_ELEMENTS, "Attachment")
_CONTENT = _element({"attachment": _attachment, "format": None, "profile": None})

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
_RESOURCES: dict[Release, dict[str, Look]] = {
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

_SHAPES: dict[str, Shapes] = {"R4": Shapes(), "R5": Shapes()}
