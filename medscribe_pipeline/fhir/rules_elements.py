"""R4 rules of elements and data types that `fhir.resources` does not check.

Works on plain JSON values and knows a place in a resource by its path without indices
(`DocumentReference.content.attachment`). Covers what this project builds and delivers: Composition,
DocumentReference, and what they are wrapped in. Rule keys are those of the R4 definitions where R4 has one.

Narratives are held to less than R4 allows: the elements every known server takes, and no attributes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any, NamedTuple

from medscribe_pipeline.fhir.narrative import XHTML

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Finding", "safe_name", "walk"]


class Finding(NamedTuple):
    """A broken rule and where: never the value that broke it."""

    rule: str
    path: str


_RELATION = frozenset({"replaces", "transforms", "signs", "appends"})
_DOCUMENT_STATUS = frozenset({"preliminary", "final", "amended", "entered-in-error"})

# Elements with a required binding. By place, and by name where every element of that name has it.
_CODES = {
    "Bundle.type": frozenset(
        {"document", "message", "transaction", "transaction-response", "batch", "batch-response"}
        | {"history", "searchset", "collection"}
    ),
    "Bundle.entry.request.method": frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"}),
    "Composition.attester.mode": frozenset({"personal", "professional", "legal", "official"}),
    "Composition.confidentiality": frozenset("ULMNRV"),
    "Composition.relatesTo.code": _RELATION,
    "Composition.section.mode": frozenset({"working", "snapshot", "changes"}),
    "Composition.section.text.status": frozenset({"generated", "extensions", "additional", "empty"}),
    "Composition.status": _DOCUMENT_STATUS,
    "Composition.text.status": frozenset({"generated", "extensions", "additional", "empty"}),
    "DocumentReference.docStatus": _DOCUMENT_STATUS,
    "DocumentReference.relatesTo.code": _RELATION,
    "DocumentReference.status": frozenset({"current", "superseded", "entered-in-error"}),
    "DocumentReference.text.status": frozenset({"generated", "extensions", "additional", "empty"}),
}
_IDENTIFIER_USE = frozenset({"usual", "official", "temp", "secondary", "old"})

_PEOPLE = frozenset({"Patient", "RelatedPerson", "Practitioner", "PractitionerRole", "Organization"})
_TARGETS = {
    "Composition.attester.party": _PEOPLE,
    "Composition.author": _PEOPLE | {"Device"},
    "Composition.custodian": frozenset({"Organization"}),
    "Composition.encounter": frozenset({"Encounter"}),
    "Composition.section.author": _PEOPLE | {"Device"},
    "Composition.subject": frozenset(),  # empty: any
    "DocumentReference.authenticator": frozenset({"Practitioner", "PractitionerRole", "Organization"}),
    "DocumentReference.author": _PEOPLE | {"Device"},
    "DocumentReference.context.encounter": frozenset({"Encounter", "EpisodeOfCare"}),
    "DocumentReference.context.related": frozenset(),
    "DocumentReference.context.sourcePatientInfo": frozenset({"Patient"}),
    "DocumentReference.custodian": frozenset({"Organization"}),
    "DocumentReference.relatesTo.target": frozenset({"DocumentReference"}),
    "DocumentReference.subject": frozenset({"Patient", "Practitioner", "Group", "Device"}),
}

# Elements R4 requires; the models let some of them go missing.
_REQUIRED = {
    "Bundle": ("type",),
    "Bundle.entry.request": ("method", "url"),
    "Composition": ("status", "type", "date", "author", "title"),
    "Composition.attester": ("mode",),
    "Composition.section.text": ("status", "div"),
    "DocumentReference": ("status", "content"),
    "DocumentReference.content": ("attachment",),
}

_NARRATIVE_ELEMENT = re.compile(
    rf"\{{{re.escape(XHTML)}\}}"
    "(b|blockquote|br|caption|code|dd|div|dl|dt|em|h[1-6]|hr|i|li|ol|p|pre|small|span|strong|sub|sup"
    "|table|tbody|td|tfoot|th|thead|tr|ul)"
)

_NAME = re.compile(r"_?[A-Za-z][A-Za-z0-9]{0,63}")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")
_MIME = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+( *; *[A-Za-z0-9_-]+=(\"[^\"]*\"|[^\s;\"]+))*")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_DATE_TIME = re.compile(rf"\d{{4}}(-\d\d(-\d\d)?)?|{_INSTANT.pattern}")
_LITERAL = re.compile(
    r"(?:https?://\S+/)?(?P<type>[A-Z][A-Za-z]+)(?:/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?|\?\S+)"
)
_LOCAL = re.compile(r"#[A-Za-z0-9\-.]{1,64}|urn:uuid:[0-9a-f-]{36}|urn:oid:[0-9.]+")

_MAX_STRING = 1_048_576  # characters, FHIR R4 datatypes: string


def safe_name(part: object) -> str:
    """A path part for people to read: element names and indices. Anything else might be data and becomes `?`."""
    text = str(part)
    return text if isinstance(part, int) or _NAME.fullmatch(text) else "?"


def walk(node: Any, path: str, place: str) -> Iterator[Finding]:
    """Every finding in a JSON value and below it.

    Args:
        node: A JSON value.
        path: Its path with indices, for the findings.
        place: Its path without indices, starting at the nearest resource; nested sections count as one.
    """
    if isinstance(node, dict):
        if "resourceType" in node:
            place = safe_name(node["resourceType"])
        if not node:
            yield Finding("ele-1", path)
        yield from _element(node, path, place)
        for name, value in node.items():
            child = f"{path}.{safe_name(name)}" if path else safe_name(name)
            yield from walk(value, child, place if place.endswith(f".{name}") else f"{place}.{name}")
    elif isinstance(node, list):
        if not node:
            yield Finding("ele-1", path)
        for index, item in enumerate(node):
            yield from walk(item, f"{path}.{index}", place)
    elif isinstance(node, str):
        yield from _text(node, path, place)
    elif not isinstance(node, bool | int | float):
        yield Finding("ele-1" if node is None else "json", path)


def _text(text: str, path: str, place: str) -> Iterator[Finding]:
    name = place.rpartition(".")[2]
    if not text.strip():
        yield Finding("ele-1", path)
    if _CONTROL.search(text) or (len(text) > _MAX_STRING and name != "data"):
        yield Finding("string", path)
    codes = _CODES.get(place) or (_IDENTIFIER_USE if place.lower().endswith("identifier.use") else None)
    if codes is not None and text not in codes:
        yield Finding("code", path)
    if name in {"lastUpdated", "timestamp"} or place == "DocumentReference.date":
        if not _INSTANT.fullmatch(text):
            yield Finding("instant", path)
    elif name in {"date", "time", "start", "end", "creation"} and not _DATE_TIME.fullmatch(text):
        yield Finding("dateTime", path)
    for pattern, names in ((_ID, {"id"}), (_LANGUAGE, {"language"}), (_MIME, {"contentType"})):
        if name in names and not pattern.fullmatch(text):
            yield Finding("code" if name != "id" else "id", path)


def _element(node: dict[str, Any], path: str, place: str) -> Iterator[Finding]:
    name = place.rpartition(".")[2]
    for missing in (required for required in _REQUIRED.get(place, ()) if required not in node):
        yield Finding("required", f"{path}.{missing}" if path else missing)
    if place == "Composition.section":
        yield from _section(node, path)
    if name == "text" and "div" in node:
        yield from _narrative(node["div"], f"{path}.div")
    if name == "attachment":
        yield from _attachment(node, path)
    if name == "period":
        start, end = str(node.get("start", "")), str(node.get("end", ""))
        # Text order is time order only between times of one form: ours, which end in Z.
        if start.endswith("Z") and end.endswith("Z") and start > end:
            yield Finding("per-1", path)
    if "security" in node and name == "meta" and ".contained." in f".{path}":
        yield Finding("dom-5", f"{path}.security")
    if place in _TARGETS:
        yield from _reference(node, path, _TARGETS[place])


def _section(node: dict[str, Any], path: str) -> Iterator[Finding]:
    if not node.keys() & {"text", "entry", "section"}:
        yield Finding("cmp-1", path)
    if "emptyReason" in node and "entry" in node:
        yield Finding("cmp-2", path)


def _narrative(div: Any, path: str) -> Iterator[Finding]:
    # Comments, processing instructions, CDATA and document types have no place in a note; without the last
    # there are no entities to expand either, so the parser below is safe on any input.
    if not isinstance(div, str) or "<!" in div or "<?" in div:
        yield Finding("txt-1", path)
        return
    try:
        root = ET.fromstring(div)  # noqa: S314  no document type gets this far, see above
    except (ET.ParseError, ValueError):  # ValueError: lone surrogates
        yield Finding("txt-1", path)
        return
    allowed = all(_NARRATIVE_ELEMENT.fullmatch(each.tag) and not each.attrib for each in root.iter())
    if root.tag != f"{{{XHTML}}}div" or not allowed:
        yield Finding("txt-1", path)
    if not "".join(root.itertext()).strip():
        yield Finding("txt-2", path)


def _attachment(node: dict[str, Any], path: str) -> Iterator[Finding]:
    data = node.get("data")
    if data is None:
        if "url" not in node:
            yield Finding("us-core-6", path)
        return
    if "contentType" not in node:
        yield Finding("att-1", path)
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError, TypeError):
        yield Finding("base64", f"{path}.data")
        return
    if node.get("size", len(content)) != len(content):
        yield Finding("attachment-size", f"{path}.size")
    digest = base64.b64encode(hashlib.sha1(content, usedforsecurity=False).digest()).decode()
    if node.get("hash", digest) != digest:
        yield Finding("attachment-hash", f"{path}.hash")


def _reference(node: dict[str, Any], path: str, targets: frozenset[str]) -> Iterator[Finding]:
    # R4 says it in words; key and exception are those R5 wrote down: an extension may say why there is no value.
    if not node.keys() & {"reference", "identifier", "display", "extension"}:
        yield Finding("ref-2", path)
    literal, kind = node.get("reference"), node.get("type")
    kinds = {kind} if isinstance(kind, str) else set()
    if isinstance(literal, str):
        match = _LITERAL.fullmatch(literal)
        if match:
            kinds.add(match["type"])
        elif not _LOCAL.fullmatch(literal):
            yield Finding("reference-format", f"{path}.reference")
    if len(kinds) > 1 or (targets and not kinds <= targets):
        yield Finding("reference-target", path)
