"""What the FHIR endpoint insists on: the shape of JSON, R4's required elements, bindings and a few invariants.

Not a validator: it knows the elements of the document resources and the rules a scribe's documents can break
(cardinality, required bindings, dates, narrative, attachments, references). Element names, cardinalities and
invariants are those of FHIR R4 (4.0.1), the narrative allow-list that of servers which check narrative.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any
from xml.parsers import expat

from medscribe_pipeline.sandbox.fhir_errors import FhirError, Issue

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ID", "RESOURCE_TYPES", "check", "references"]

ID = re.compile(r"[A-Za-z0-9.-]{1,64}")

_DATE_TIME = re.compile(
    r"\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01])(T([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?(Z|[+-]\d\d:\d\d))?)?)?"
)
_INSTANT = re.compile(
    r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?(Z|[+-]\d\d:\d\d)"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_LITERAL = re.compile(r"([A-Z][A-Za-z]+)/[A-Za-z0-9.-]{1,64}(/_history/[A-Za-z0-9.-]{1,64})?")

_COMPOSITION_STATUS = {"preliminary", "final", "amended", "entered-in-error"}
_XHTML = "http://www.w3.org/1999/xhtml"
_NARRATIVE_ELEMENTS = frozenset({
    "a", "abbr", "acronym", "b", "big", "blockquote", "br", "caption", "cite", "code", "col", "colgroup", "dd", "dfn",
    "div", "dl", "dt", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "li", "ol", "p", "pre", "q", "samp",
    "small", "span", "strong", "sub", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "tt", "ul", "var",
})  # fmt: skip
_ANY = {
    "resourceType": "1", "id": "1", "meta": "1", "implicitRules": "1", "language": "1", "text": "1",
    "contained": "*", "extension": "*", "modifierExtension": "*",
}  # fmt: skip
# Element -> "1" single or "*" list, "!" required. Types not listed here are taken with any elements.
_ELEMENTS: dict[str, dict[str, str]] = {
    "Composition": {
        "identifier": "1", "status": "1!", "type": "1!", "category": "*", "subject": "1", "encounter": "1",
        "date": "1!", "author": "*!", "title": "1!", "confidentiality": "1", "attester": "*", "custodian": "1",
        "relatesTo": "*", "event": "*", "section": "*",
    },
    "DocumentReference": {
        "masterIdentifier": "1", "identifier": "*", "status": "1!", "docStatus": "1", "type": "1", "category": "*",
        "subject": "1", "date": "1", "author": "*", "authenticator": "1", "custodian": "1", "relatesTo": "*",
        "description": "1", "securityLabel": "*", "content": "*!", "context": "1",
    },
    "Provenance": {
        "target": "*!", "occurredPeriod": "1", "occurredDateTime": "1", "recorded": "1!", "policy": "*",
        "location": "1", "reason": "*", "activity": "1", "agent": "*!", "entity": "*", "signature": "*",
    },
    "Encounter": {"status": "1!", "class": "1!"},
    "Binary": {"contentType": "1!", "data": "1", "securityContext": "1"},
    "Bundle": {"identifier": "1", "type": "1!", "timestamp": "1", "entry": "*"},
}  # fmt: skip
_OPEN_TYPES = frozenset({"Encounter", "Bundle"})
_BINDINGS = {
    ("Composition", "status"): _COMPOSITION_STATUS,
    ("DocumentReference", "status"): {"current", "superseded", "entered-in-error"},
    ("DocumentReference", "docStatus"): _COMPOSITION_STATUS,
    ("Bundle", "type"): {"document", "collection"},
}
_TIMES = {
    ("Composition", "date"): _DATE_TIME,
    ("DocumentReference", "date"): _INSTANT,
    ("Provenance", "recorded"): _INSTANT,
    ("Provenance", "occurredDateTime"): _DATE_TIME,
    ("Bundle", "timestamp"): _INSTANT,
}

RESOURCE_TYPES = (
    "Binary", "Bundle", "Composition", "Device", "DocumentReference", "Encounter", "Organization", "Patient",
    "Practitioner", "PractitionerRole", "Provenance",
)  # fmt: skip
"""What the endpoint stores."""


def check(resource: Any, resource_type: str) -> None:
    """Accepts a resource, or refuses it.

    Args:
        resource: The parsed JSON; references between Bundle entries are already resolved.
        resource_type: What it has to be.

    Raises:
        FhirError: 400 when it is not well-formed FHIR JSON of that type, 422 when it breaks a rule.
    """
    if not isinstance(resource, dict) or resource.get("resourceType") != resource_type:
        raise FhirError(400, Issue("structure", f"The body is not a {resource_type} resource.", "resourceType"))
    malformed = [*_malformed(resource, resource_type), *_misplaced(resource, resource_type)]
    if malformed:
        raise FhirError(400, *malformed)
    broken = [*_broken_values(resource, resource_type), *_broken_references(resource, resource_type)]
    if resource_type == "Composition":
        for n, section in enumerate(resource.get("section", ())):
            broken.extend(_broken_section(section, f"Composition.section[{n}]"))
    if resource_type == "DocumentReference":
        for n, content in enumerate(resource["content"]):
            broken.extend(_broken_attachment(content, f"DocumentReference.content[{n}]"))
    if "text" in resource:
        broken.extend(_broken_narrative(resource["text"], f"{resource_type}.text"))
    if broken:
        raise FhirError(422, *broken)


def references(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in `value` that has a literal `reference`, in document order."""
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value
        for child in value.values():
            yield from references(child)
    elif isinstance(value, list):
        for child in value:
            yield from references(child)


def _malformed(value: Any, path: str) -> Iterator[Issue]:
    """FHIR JSON has no nulls, no empty values and no control characters."""
    if value is None or value in ("", [], {}):
        yield Issue("structure", "Null and empty values are not allowed.", path)
    elif isinstance(value, str) and _CONTROL.search(value):
        yield Issue("structure", "Control characters are not allowed.", path)
    elif isinstance(value, dict):
        for name, child in value.items():
            yield from _malformed(child, f"{path}.{name}")
    elif isinstance(value, list):
        for n, child in enumerate(value):
            yield from _malformed(child, f"{path}[{n}]")


def _misplaced(resource: dict[str, Any], resource_type: str) -> Iterator[Issue]:
    """Unknown elements, lists where one value belongs and the reverse, missing required elements."""
    elements = {**_ANY, **_ELEMENTS.get(resource_type, {})}
    is_open = resource_type in _OPEN_TYPES or resource_type not in _ELEMENTS
    for name, value in resource.items():
        rule = elements.get(name)
        if rule is None and not is_open and name.removeprefix("_") not in elements:
            yield Issue("structure", "Unknown element.", f"{resource_type}.{name}")
        elif rule is not None and isinstance(value, list) != rule.startswith("*"):
            yield Issue("structure", "A list and a single value are confused.", f"{resource_type}.{name}")
        elif name == "meta" and not isinstance(value, dict):
            yield Issue("structure", "Not an object.", f"{resource_type}.{name}")
    for name, rule in elements.items():
        if rule.endswith("!") and name not in resource:
            yield Issue("required", "A required element is missing.", f"{resource_type}.{name}")


def _broken_values(resource: dict[str, Any], resource_type: str) -> Iterator[Issue]:
    for (owner, name), codes in _BINDINGS.items():
        if owner == resource_type and name in resource and str(resource[name]) not in codes:
            # Quotes what was sent, as many servers do.
            yield Issue("code-invalid", f"Not in the required value set: {resource[name]}", f"{owner}.{name}")
    for (owner, name), pattern in _TIMES.items():
        if owner == resource_type and name in resource and not _matches(pattern, resource[name]):
            yield Issue("value", f"Not a valid time: {resource[name]}", f"{owner}.{name}")
    if resource_type == "Composition" and not isinstance(resource["title"], str):
        yield Issue("value", "Not a string.", "Composition.title")
    if resource_type == "Provenance":
        for n, agent in enumerate(resource["agent"]):
            if not isinstance(agent, dict) or "who" not in agent:
                yield Issue("required", "A required element is missing.", f"Provenance.agent[{n}].who")
    if resource_type == "Binary" and "data" in resource and _decoded(resource["data"]) is None:
        yield Issue("value", "Not base64.", "Binary.data")


def _broken_references(resource: dict[str, Any], resource_type: str) -> Iterator[Issue]:
    contained = {f"#{inner.get('id')}" for inner in resource.get("contained", ()) if isinstance(inner, dict)}
    # The entries of a stored document refer to each other by fullUrl: their business.
    for found in () if resource_type == "Bundle" else references(resource):
        target = found["reference"]
        if target.startswith("#"):
            is_good = target in contained
        else:
            is_good = target.startswith(("http://", "https://")) or _LITERAL.fullmatch(target) is not None
        if not is_good:
            yield Issue("not-found", f"A reference cannot be resolved: {target}", f"{resource_type}.reference")


def _broken_section(section: Any, path: str) -> Iterator[Issue]:
    if not isinstance(section, dict):
        yield Issue("structure", "A section is an object.", path)
        return
    if not {"text", "entry", "section"} & section.keys():
        yield Issue("invariant", "cmp-1: a section has text, entries or sections.", path)
    if {"emptyReason", "entry"} <= section.keys():
        yield Issue("invariant", "cmp-2: a section with entries has no emptyReason.", path)
    if "text" in section:
        yield from _broken_narrative(section["text"], f"{path}.text")
    for n, inner in enumerate(section.get("section", ())):
        yield from _broken_section(inner, f"{path}.section[{n}]")


def _broken_attachment(content: Any, path: str) -> Iterator[Issue]:
    attachment = content.get("attachment") if isinstance(content, dict) else None
    if not isinstance(attachment, dict):
        yield Issue("required", "A required element is missing.", f"{path}.attachment")
        return
    if "data" not in attachment:
        return
    if "contentType" not in attachment:
        yield Issue("invariant", "att-1: data needs a contentType.", f"{path}.attachment")
    data = _decoded(attachment["data"])
    if data is None:
        yield Issue("value", "Not base64.", f"{path}.attachment.data")
    elif attachment.get("size", len(data)) != len(data):
        yield Issue("value", "Not the size of the data.", f"{path}.attachment.size")


def _broken_narrative(text: Any, path: str) -> Iterator[Issue]:
    if not isinstance(text, dict) or text.get("status") not in {"generated", "extensions", "additional", "empty"}:
        yield Issue("code-invalid", "A narrative needs a status.", f"{path}.status")
        return
    problem = _narrative_problem(text.get("div"))
    if problem:
        yield Issue("structure", problem, f"{path}.div")


def _narrative_problem(div: Any) -> str | None:
    """Why `div` is no acceptable narrative; `None` when it is one."""
    if not isinstance(div, str):
        return "The div is missing."
    opened: list[str] = []
    words: list[str] = []
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = lambda name, _attributes: opened.append(name)
    parser.CharacterDataHandler = words.append
    # A document type is no element, so it can never be the right first one.
    parser.StartDoctypeDeclHandler = lambda *_: opened.append("")
    try:
        parser.Parse(div.encode(), True)
    except expat.ExpatError:
        return "The div is not well-formed XML."
    if opened[0] != f"{_XHTML} div":
        return "The outer element is not an XHTML div."
    if any(name.removeprefix(f"{_XHTML} ") not in _NARRATIVE_ELEMENTS for name in opened):
        return "The div holds an element that is not allowed."
    if not "".join(words).strip() and f"{_XHTML} img" not in opened:
        return "txt-2: the div has no content."
    return None


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _decoded(value: Any) -> bytes | None:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError):
        return None
