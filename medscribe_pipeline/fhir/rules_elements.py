"""R4 and R5 rules of data types and backbone elements that `fhir.resources` does not check.

Each rule looks at one element, of the type it is listed for in `ELEMENT_RULES`, and returns what is broken: rule keys
and the paths below the element. Keys are those of the definitions where these have one.

Narratives are held to less than FHIR allows: the elements every known server takes, and no attributes.
"""

from __future__ import annotations

import binascii
import hashlib
import re
import xml.etree.ElementTree as ET
from datetime import datetime
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.fhir.narrative import XHTML
from medscribe_pipeline.fhir.rules_primitives import absolute, decoded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Node = dict[str, Any]
    Broken = Sequence[tuple[str, str]]
    ElementRule = Callable[[Node], Broken]

__all__ = ["ELEMENT_RULES", "narrative_rule", "parsed_narrative_rule", "reference_kind"]

_NARRATIVE_ELEMENTS = frozenset(
    f"{{{XHTML}}}{name}"
    for name in (
        *("b", "blockquote", "br", "caption", "code", "dd", "div", "dl", "dt", "em", "h1", "h2", "h3", "h4", "h5"),
        *("h6", "hr", "i", "li", "ol", "p", "pre", "small", "span", "strong", "sub", "sup", "table", "tbody", "td"),
        *("tfoot", "th", "thead", "tr", "ul"),
    )
)
_DIV = f"{{{XHTML}}}div"

# Nearly all narratives are paragraphs and flat lists of text, beginning with something visible. To see that takes no
# parser: text is what is legal in XML and no markup, line breaks among it. All others are parsed.
_WORDS = r"(?:[^<>&\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]++|<br/>|&(?:amp|lt|gt);)++"
_BLOCK = rf"(?:<p>{_WORDS}</p>|<ul>\n?(?:<li>{_WORDS}</li>\n?)++</ul>)\n?"
_PLAIN = re.compile(rf'<div xmlns="{re.escape(XHTML)}">(?=<p>[^<\s]|<ul>\n?<li>[^<\s])(?:{_BLOCK})++</div>')

_URI_SYSTEM = "urn:ietf:rfc:3986"
_LITERAL = re.compile(
    r"(?:https?://\S+/)?(?P<type>[A-Z][A-Za-z]+)(?:/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?|\?\S+)"
)
_REFERENCE_NAMES = frozenset({"reference", "identifier", "display", "extension", "_reference", "_display"})
_ELSEWHERE = re.compile(r"#|#[A-Za-z0-9\-.]{1,64}|urn:(uuid|oid):\S+")


def narrative_rule(div: object) -> str | None:
    """The rule a narrative `div` breaks: `txt-1` for its form, `txt-2` when there is nothing to read.

    >>> narrative_rule('<div xmlns="http://www.w3.org/1999/xhtml"><p>T 38</p></div>')
    >>> narrative_rule("<div>no namespace</div>")
    'txt-1'
    """
    if not isinstance(div, str):
        return "txt-1"
    return None if _PLAIN.fullmatch(div) else parsed_narrative_rule(div)


def parsed_narrative_rule(div: str) -> str | None:
    """The same as `narrative_rule` says, of any text and always by an XML parser."""
    # Comments, processing instructions, CDATA and document types have no place in a note; without the last
    # there are no entities to expand either, so the parser below is safe on any input.
    if "<!" in div or "<?" in div:
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
    return ((rule, "div"),) if rule else ()


def _attachment(node: Node) -> Broken:
    data = node.get("data")
    if not isinstance(data, str):
        return ()
    broken = [] if "contentType" in node else [("att-1", "")]
    content = decoded(data)
    if content is None:
        return (*broken, ("base64", "data"))
    size = str(node.get("size", len(content)))  # R5 writes it as text
    if size.isdecimal() and size != str(len(content)):
        broken.append(("attachment-size", "size"))
    digest = binascii.b2a_base64(hashlib.sha1(content, usedforsecurity=False).digest(), newline=False).decode()
    if node.get("hash", digest) != digest:
        broken.append(("attachment-hash", "hash"))
    return broken


def _document_content(node: Node) -> Broken:
    attachment = node.get("attachment")
    # US Core asks for it, and a document without content is never meant by anybody else either.
    if isinstance(attachment, dict) and attachment and not attachment.keys() & {"data", "url"}:
        return (("us-core-6", "attachment"),)
    return ()


def _period(node: Node) -> Broken:
    start, end = node.get("start"), node.get("end")
    if isinstance(start, str) and isinstance(end, str) and _after(start, end):
        return (("per-1", ""),)
    return ()


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
    # R4 says the first in words; the key is the one R5 gave it.
    empty = () if node.keys() & _REFERENCE_NAMES else (("ref-2", ""),)
    literal = node.get("reference")
    if isinstance(literal, str) and not _LITERAL.fullmatch(literal) and not _ELSEWHERE.fullmatch(literal):
        return (*empty, ("reference-format", "reference"))
    return empty


def _identifier(node: Node) -> Broken:
    if node.get("system") == _URI_SYSTEM and "value" in node and absolute(node["value"]):
        return (("identifier-uri", "value"),)
    return ()


def _extension(node: Node) -> Broken:
    values = [name for name in node if name.lstrip("_").startswith("value")]
    return (("ext-1", ""),) if bool(values) == ("extension" in node) else ()


def _contact_point(node: Node) -> Broken:
    return (("cpt-2", ""),) if "value" in node and "system" not in node else ()


def _quantity(node: Node) -> Broken:
    return (("qty-3", ""),) if "code" in node and "system" not in node else ()


def _section(node: Node) -> Broken:
    broken = () if "text" in node or "entry" in node or "section" in node else (("cmp-1", ""),)
    return (*broken, ("cmp-2", "")) if "emptyReason" in node and "entry" in node else broken


def _agent(node: Node) -> Broken:
    who, other = node.get("who"), node.get("onBehalfOf")
    if not isinstance(who, dict) or not isinstance(other, dict):
        return ()
    same = any(name in who and who[name] == other.get(name) for name in ("reference", "identifier"))
    return (("prov-1", ""),) if same else ()


def _patient_contact(node: Node) -> Broken:
    return () if node.keys() & {"name", "telecom", "address", "organization"} else (("pat-1", ""),)


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
