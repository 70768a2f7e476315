"""R4 and R5 rules of data types and backbone elements that `fhir.resources` does not check.

Each rule looks at one element, of the type it is listed for in `ELEMENT_RULES`, and yields what is broken: the rule
key and the path below the element. Keys are those of the definitions where these have one.

Narratives are held to less than FHIR allows: the elements every known server takes, and no attributes.
"""

from __future__ import annotations

import base64
import hashlib
import re
import xml.etree.ElementTree as ET
from datetime import datetime
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.fhir.narrative import XHTML
from medscribe_pipeline.fhir.rules_primitives import absolute, decoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Node = dict[str, Any]
    Broken = Iterator[tuple[str, str]]
    ElementRule = Callable[[Node], Broken]

__all__ = ["ELEMENT_RULES", "narrative_rule", "reference_kind"]

_NARRATIVE_ELEMENTS = frozenset(
    f"{{{XHTML}}}{name}"
    for name in (
        *("b", "blockquote", "br", "caption", "code", "dd", "div", "dl", "dt", "em", "h1", "h2", "h3", "h4", "h5"),
        *("h6", "hr", "i", "li", "ol", "p", "pre", "small", "span", "strong", "sub", "sup", "table", "tbody", "td"),
        *("tfoot", "th", "thead", "tr", "ul"),
    )
)
_DIV = f"{{{XHTML}}}div"

_URI_SYSTEM = "urn:ietf:rfc:3986"
_LITERAL = re.compile(
    r"(?:https?://\S+/)?(?P<type>[A-Z][A-Za-z]+)(?:/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?|\?\S+)"
)
_ELSEWHERE = re.compile(r"#|#[A-Za-z0-9\-.]{1,64}|urn:(uuid|oid):\S+")


def narrative_rule(div: object) -> str | None:
    """The rule a narrative `div` breaks: `txt-1` for its form, `txt-2` when there is nothing to read.

    >>> narrative_rule('<div xmlns="http://www.w3.org/1999/xhtml"><p>T 38</p></div>')
    >>> narrative_rule("<div>no namespace</div>")
    'txt-1'
    """
    # Comments, processing instructions, CDATA and document types have no place in a note; without the last
    # there are no entities to expand either, so the parser below is safe on any input.
    if not isinstance(div, str) or "<!" in div or "<?" in div:
        return "txt-1"
    try:
        root = ET.fromstring(div)  # noqa: S314  no document type gets this far, see above
    except (ET.ParseError, ValueError):  # ValueError: lone surrogates
        return "txt-1"
    elements = list(root.iter())
    allowed = {each.tag for each in elements} <= _NARRATIVE_ELEMENTS and not any(map(ET.Element.keys, elements))
    if root.tag != _DIV or not allowed:
        return "txt-1"
    return None if any(part.strip() for part in root.itertext()) else "txt-2"


def reference_kind(literal: object) -> str | None:
    """The resource type a literal reference names, `None` where it names none.

    >>> reference_kind("https://example.org/fhir/Patient/1")
    'Patient'
    """
    match = _LITERAL.fullmatch(literal) if isinstance(literal, str) else None
    return match["type"] if match else None


def _narrative(node: Node) -> Broken:
    rule = narrative_rule(node["div"]) if "div" in node else None
    if rule:
        yield rule, "div"


def _attachment(node: Node) -> Broken:
    data = node.get("data")
    if not isinstance(data, str):
        return
    if "contentType" not in node:
        yield "att-1", ""
    content = decoded(data)
    if content is None:
        yield "base64", "data"
        return
    size = str(node.get("size", len(content)))  # R5 writes it as text
    if size.isdecimal() and size != str(len(content)):
        yield "attachment-size", "size"
    digest = base64.b64encode(hashlib.sha1(content, usedforsecurity=False).digest()).decode()
    if node.get("hash", digest) != digest:
        yield "attachment-hash", "hash"


def _document_content(node: Node) -> Broken:
    attachment = node.get("attachment")
    # US Core asks for it, and a document without content is never meant by anybody else either.
    if isinstance(attachment, dict) and attachment and not attachment.keys() & {"data", "url"}:
        yield "us-core-6", "attachment"


def _period(node: Node) -> Broken:
    start, end = node.get("start"), node.get("end")
    if isinstance(start, str) and isinstance(end, str) and _after(start, end):
        yield "per-1", ""


def _after(start: str, end: str) -> bool:
    if "T" in start and "T" in end:
        try:
            return datetime.fromisoformat(start) > datetime.fromisoformat(end)
        except (ValueError, TypeError):  # of a wrong form, which is another rule's matter
            return False
    # Of two precisions the coarser one decides: FHIR does not call 2025-03-04T09:00Z after 2025-03-04.
    length = min(len(start.partition("T")[0]), len(end.partition("T")[0]))
    return start[:length] > end[:length]


def _reference(node: Node) -> Broken:
    if not node.keys() & {"reference", "identifier", "display", "extension", "_reference", "_display"}:
        yield "ref-2", ""  # R4 says it in words; the key is the one R5 gave it
    literal = node.get("reference")
    if isinstance(literal, str) and not _LITERAL.fullmatch(literal) and not _ELSEWHERE.fullmatch(literal):
        yield "reference-format", "reference"


def _identifier(node: Node) -> Broken:
    if node.get("system") == _URI_SYSTEM and "value" in node and absolute(node["value"]):
        yield "identifier-uri", "value"


def _extension(node: Node) -> Broken:
    values = [name for name in node if name.lstrip("_").startswith("value")]
    if bool(values) == ("extension" in node):
        yield "ext-1", ""


def _contact_point(node: Node) -> Broken:
    if "value" in node and "system" not in node:
        yield "cpt-2", ""


def _quantity(node: Node) -> Broken:
    if "code" in node and "system" not in node:
        yield "qty-3", ""


def _section(node: Node) -> Broken:
    if not node.keys() & {"text", "entry", "section"}:
        yield "cmp-1", ""
    if "emptyReason" in node and "entry" in node:
        yield "cmp-2", ""


def _agent(node: Node) -> Broken:
    who, other = node.get("who"), node.get("onBehalfOf")
    if not isinstance(who, dict) or not isinstance(other, dict):
        return
    if any(name in who and who[name] == other.get(name) for name in ("reference", "identifier")):
        yield "prov-1", ""


def _patient_contact(node: Node) -> Broken:
    if not node.keys() & {"name", "telecom", "address", "organization"}:
        yield "pat-1", ""


ELEMENT_RULES: dict[str, tuple[ElementRule, ...]] = {
    "Age": (_quantity,),
    "Attachment": (_attachment,),
    "CompositionSection": (_section,),
    "ContactPoint": (_contact_point,),
    "Count": (_quantity,),
    "Distance": (_quantity,),
    "DocumentReferenceContent": (_document_content,),
    "Duration": (_quantity,),
    "Extension": (_extension,),
    "Identifier": (_identifier,),
    "Narrative": (_narrative,),
    "PatientContact": (_patient_contact,),
    "Period": (_period,),
    "ProvenanceAgent": (_agent,),
    "Quantity": (_quantity,),
    "Reference": (_reference,),
}
"""The rules of each type that has some, by the name its model has in `fhir.resources`."""
