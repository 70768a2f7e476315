"""Making documents fit a target: what it refuses is left out, what it insists on is there, or it is not sent.

Pure and deterministic. The documents of the warehouse are never changed: what differs is copied, the rest is shared.

What a reader would miss is never left out in silence: a form of the note may be, because all forms say the same; an
author, an attester or an encounter the target does not know may be, unless it insists on one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from medscribe_pipeline.fhir.elements import present

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from medscribe_pipeline.ehr.targets import Capabilities

    Resource = dict[str, Any]
    References = Mapping[tuple[str, str, str], str]
    """Where people and encounters are on the target: (type, system, value) of an identifier to `Patient/123`."""

__all__ = ["Unfit", "fit"]

ATTACHMENT_TYPE = "attachment_type"
AUTHOR_REQUIRED = "author_required"
DOC_STATUS = "doc_status_not_accepted"
ENCOUNTER_REQUIRED = "encounter_required"
PATIENT_MISSING = "patient_missing"
PERIOD_END_REQUIRED = "period_end_required"
TOO_LARGE = "too_large"

_RESOLVED = ("Patient", "Practitioner", "Encounter")
# Around the entries of a Bundle, and around each: full URL, request, condition.
_BUNDLE_BYTES, _ENTRY_BYTES = 100, 1_000


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why a target would not take the documents: the reason the note is held for."""

    reason: str


class _UnfitError(Exception):
    """Internal: carries the reason out."""


def fit(resources: Mapping[str, Resource], capabilities: Capabilities, references: References) -> dict[str, Resource] | Unfit:
    """The documents of a note version as a target takes them.

    Args:
        resources: FHIR JSON by kind, as stored; never changed. Kinds the target does not take are left out.
        capabilities: What the target takes.
        references: Where patients, clinicians and encounters are on the target, for those that go by ids.

    Returns:
        The documents, in the order the target is sent them; or why they do not fit: `doc_status_not_accepted`,
        `attachment_type`, `too_large`, `patient_missing`, `author_required`, `encounter_required`,
        `period_end_required`.
    """
    taken = {kind: resources[kind] for kind in capabilities.kinds if kind in resources}
    try:
        fitted = {kind: _fit(resource, taken, capabilities, references) for kind, resource in taken.items()}
        _check_size(fitted, capabilities)
    except _UnfitError as reason:
        return Unfit(str(reason))
    return fitted


def _fit(
    resource: Resource, taken: Mapping[str, Resource], capabilities: Capabilities, references: References
) -> Resource:
    type_ = resource["resourceType"]
    if type_ == "Provenance":
        return _dropped(_located(_about(resource, taken), capabilities, references), capabilities)
    status = resource.get("docStatus", resource["status"] if type_ == "Composition" else None)
    if status is not None and status not in capabilities.doc_status:
        raise _UnfitError(DOC_STATUS)
    is_document = type_ == "DocumentReference"
    if is_document:
        resource = _with_attachments(resource, capabilities)
    resource = _located(resource, capabilities, references)
    if is_document:
        resource = _with_author(resource, capabilities)
        _check_visit(resource, capabilities)
    return _dropped(resource, capabilities)


# Attachments


def _with_attachments(resource: Resource, capabilities: Capabilities) -> Resource:
    """The forms of the document that the target takes, the preferred one first; all forms hold the same words."""
    content = resource["content"]
    ranked = _ranked(content, capabilities.content_types)
    if not ranked:
        raise _UnfitError(ATTACHMENT_TYPE)
    fitting = [item for item in ranked if item["attachment"].get("size", 0) <= capabilities.max_attachment_bytes]
    if not fitting:
        raise _UnfitError(TOO_LARGE)
    chosen = fitting[:1] if capabilities.attachments == "first" else fitting
    if capabilities.plain_content_type:
        chosen = [_plainly_typed(item) for item in chosen]
    return resource if chosen == content else {**resource, "content": chosen}


def _ranked(content: Sequence[Resource], content_types: Sequence[str]) -> list[Resource]:
    if not content_types:
        return list(content)
    return [item for wanted in content_types for item in content if _media_type(item) == wanted.lower()]


def _media_type(item: Resource) -> str:
    """Without parameters, in lower case."""
    return str(item["attachment"].get("contentType", "")).partition(";")[0].strip().lower()


def _plainly_typed(item: Resource) -> Resource:
    return {**item, "attachment": {**item["attachment"], "contentType": _media_type(item)}}


# References


def _located(resource: Resource, capabilities: Capabilities, references: References) -> Resource:
    """With the target's own ids for patient, clinicians and encounter, where it goes by ids.

    What it does not know is left out where FHIR lets us, and kept by name only where it does not.
    """
    if capabilities.references == "logical":
        return resource
    if resource.get("subject") is not None:
        resource = {**resource, "subject": _each(resource["subject"], lambda node: _patient(node, references))}
    elif resource["resourceType"] != "Provenance":
        raise _UnfitError(PATIENT_MISSING)
    changed = {name: part for name, part in resource.items() if name != "subject"}
    located = {name: _locate(part, references) for name, part in changed.items()}
    if resource["resourceType"] == "Composition" and not located.get("author"):
        # R4 demands an author; a name says who without saying where.
        located["author"] = [_by_name(each) for each in resource["author"]]
    subject = {"subject": resource["subject"]} if "subject" in resource else {}
    return _in_order(resource, {**located, **subject})


def _each(value: Any, change: Callable[[Resource], Resource]) -> Any:
    """One reference in R4, a list of them in R5."""
    return [change(each) for each in value] if isinstance(value, list) else change(value)


def _patient(node: Resource, references: References) -> Resource:
    literal = _literal(node, references)
    if literal is None:
        raise _UnfitError(PATIENT_MISSING)
    return literal


def _literal(node: Resource, references: References) -> Resource | None:
    """The reference by the target's id; as it is if it has one; `None` if the target's id is not known."""
    if "reference" in node:
        return node
    identifier = node.get("identifier")
    if not isinstance(identifier, dict):
        return None
    known = references.get((str(node.get("type")), str(identifier.get("system")), str(identifier.get("value"))))
    return None if known is None else present({"reference": known, "display": node.get("display")})
