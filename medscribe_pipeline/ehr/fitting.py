"""Making documents fit a target: what it refuses is left out, what it insists on is there, or it is not sent.

Pure and deterministic. The documents of the warehouse are never changed: what differs is copied, the rest is shared.

What a reader would miss is never left out in silence: a form of the note may be, because all forms say the same; an
author, an attester or an encounter the target does not know may be, unless it insists on one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from medscribe_pipeline.ehr.comparing import identifiers
from medscribe_pipeline.ehr.literal import located, name_of, unchanged, wanted_references
from medscribe_pipeline.ehr.targets import Capabilities
from medscribe_pipeline.fhir.rules_elements import reference_kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Resource = dict[str, Any]
    Name = tuple[str, str, str]

__all__ = ["Unfit", "fit", "most_that_fits", "wanted_references"]

ATTACHMENT_TYPE = "attachment_type"
AUTHOR_REQUIRED = "author_required"
DOC_STATUS = "doc_status_not_accepted"
ENCOUNTER_REQUIRED = "encounter_required"
PATIENT_MISSING = "patient_missing"
PERIOD_END_REQUIRED = "period_end_required"
TOO_LARGE = "too_large"
TRANSCRIPT = "transcript_not_accepted"

PROVENANCE = "Provenance"

# Around the entries of a Bundle, and around each: full URL, request, condition, and the id that an update carries.
_BUNDLE_BYTES, _ENTRY_BYTES = 100, 1_000


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why a target would not take the documents: the reason the note is held for."""

    reason: str


class _UnfitError(Exception):
    """Internal: carries the reason out."""


def fit(
    resources: Mapping[str, Resource],
    capabilities: Capabilities,
    references: Mapping[tuple[str, str, str], str],
    encounter: str | None = None,
    *,
    is_small: bool = False,
) -> dict[str, Resource] | Unfit:
    """The documents of a note version as a target takes them.

    A Provenance is about nothing but what is sent with it; where that is nothing, it is left out.

    Args:
        resources: FHIR JSON by kind, as stored; never changed. Kinds the target does not take are left out.
        capabilities: What the target takes.
        references: Where patients, clinicians and encounters are on the target, for those that go by ids: literal
            references such as `Patient/123`, by resource type, identifier system and value.
        encounter: The literal reference of the encounter, for documents that name none.
        is_small: They are known to have no more bytes than `most_that_fits`.

    Returns:
        The documents, in the order the target is sent them; or why they do not fit: `doc_status_not_accepted`,
        `transcript_not_accepted` (no setting of the note will change that: the target's `kinds` should not name it),
        `attachment_type`, `too_large`, `patient_missing`, `author_required`, `encounter_required`,
        `period_end_required`.
    """
    taken = {kind: resources[kind] for kind in capabilities.kinds if kind in resources}
    # By which documents of the note can be named is asked for by what names them, and where only ids are taken.
    named = capabilities.references == "literal" or PROVENANCE in taken
    names = _names(taken.values(), capabilities) if named else {}
    fitted: dict[str, Resource] = {}
    try:
        for kind, resource in taken.items():
            if kind == PROVENANCE:
                about = _fit_provenance(resource, capabilities, references, names)
                fitted |= {kind: about} if about is not None else {}
            else:
                fitted[kind] = _fit_document(kind, resource, capabilities, references, names, encounter)
        if not is_small:
            _check_size(fitted, capabilities)
    except _UnfitError as reason:
        return Unfit(str(reason))
    return fitted


def most_that_fits(capabilities: Capabilities) -> int:
    """So many bytes of documents of one note, as they are stored, a target takes unseen: whatever they say.

    Returns:
        0 for a target that minds more than their size, or not enough is known of it to tell. Documents that are larger
        may fit all the same.
    """
    everything = Capabilities()
    unconcerned = (
        capabilities.references == "logical"
        and capabilities.author != "required"
        and capabilities.encounter == "optional"
        and not capabilities.period_end_required
        and not capabilities.content_types
        and set(capabilities.doc_status) >= set(everything.doc_status)
    )
    around = _BUNDLE_BYTES + _ENTRY_BYTES * len(capabilities.kinds)
    # An attachment is smaller than the document it is in.
    return max(0, min(capabilities.max_bundle_bytes - around, capabilities.max_attachment_bytes)) if unconcerned else 0


def _fit_document(
    kind: str,
    resource: Resource,
    capabilities: Capabilities,
    references: Mapping[Name, str],
    names: Mapping[Name, Name],
    encounter: str | None,
) -> Resource:
    _check_status(kind, resource, capabilities)
    if "content" in resource:
        resource = _with_attachments(resource, capabilities)
    if encounter is not None and not _encounters(resource, capabilities):
        resource = _at_encounter(resource, encounter, capabilities)
    if capabilities.references == "literal":
        resource = located(resource, references, names)
        # A subject that is said to be unknown is none either.
        if not any("reference" in each for each in _listed(resource.get("subject"))):
            raise _UnfitError(PATIENT_MISSING)
    resource = _with_author(kind, resource, capabilities)
    _check_visit(resource, capabilities)
    return _dropped(resource, capabilities.drop)


def _fit_provenance(
    resource: Resource, capabilities: Capabilities, references: Mapping[Name, str], names: Mapping[Name, Name]
) -> Resource | None:
    """The Provenance of what is sent with it; `None` where nothing is, or nobody is left who did anything."""
    targets = [named for each in resource["target"] if (named := _named(each, names)) is not None]
    if not targets:
        return None
    if (listed := unchanged(resource["target"], targets)) is not resource["target"]:
        resource = {**resource, "target": listed}
    if capabilities.references == "literal":
        resource = located(resource, references, names)
    return _dropped(resource, capabilities.drop) if "agent" in resource else None


# Identifiers


def _names(documents: Iterable[Resource], capabilities: Capabilities) -> dict[Name, Name]:
    """By what the documents can be named once they have been fitted: each of their identifiers, and one they keep."""
    names: dict[Name, Name] = {}
    for resource in documents:
        kept = identifiers(_dropped(resource, capabilities.drop))
        for each in identifiers(resource) if kept else ():
            names[resource["resourceType"], *each] = (resource["resourceType"], *(each if each in kept else kept[0]))
    return names


def _named(reference: Resource, names: Mapping[Name, Name]) -> Resource | None:
    """A reference to a document by an identifier it keeps; `None` for one that is not sent, or keeps none."""
    name = name_of(reference)
    if "reference" in reference or name is None:
        return reference
    kept = names.get(name)
    if kept is None or kept == name:
        return reference if kept else None
    return {**reference, "identifier": {"system": kept[1], "value": kept[2]}}


# Status and size


def _check_status(kind: str, resource: Resource, capabilities: Capabilities) -> None:
    status = resource["status"] if resource["resourceType"] == "Composition" else resource.get("docStatus")
    if status is not None and status not in capabilities.doc_status:
        # A transcript stays preliminary for ever.
        raise _UnfitError(TRANSCRIPT if kind == "Transcript" and status == "preliminary" else DOC_STATUS)


def _check_size(fitted: Mapping[str, Resource], capabilities: Capabilities) -> None:
    """Whether what has to go in one request is small enough for one."""
    sizes = [len(orjson.dumps(resource)) + _ENTRY_BYTES for resource in fitted.values()]
    together = sum(sizes) if capabilities.strategy == "transaction" else max(sizes, default=0)
    if together + _BUNDLE_BYTES > capabilities.max_bundle_bytes:
        raise _UnfitError(TOO_LARGE)


# Attachments


def _with_attachments(resource: Resource, capabilities: Capabilities) -> Resource:
    """The forms of the document that the target takes, the preferred one first; all forms hold the same words."""
    content: list[Resource] = resource["content"]
    ranked = _ranked(content, capabilities.content_types)
    if not ranked:
        raise _UnfitError(ATTACHMENT_TYPE)
    small = [item for item in ranked if _byte_count(item["attachment"]) <= capabilities.max_attachment_bytes]
    if not small:
        raise _UnfitError(TOO_LARGE)
    chosen = small[:1] if capabilities.attachments == "first" else small
    if capabilities.plain_content_type:
        chosen = [_plainly_typed(item) for item in chosen]
    same = unchanged(content, chosen) is content
    return resource if same else {**resource, "content": chosen}


def _ranked(content: Sequence[Resource], content_types: Sequence[str]) -> list[Resource]:
    if not content_types:
        return list(content)
    taken = [item for item in content if _media_type(item) in content_types]
    return sorted(taken, key=lambda item: content_types.index(_media_type(item)))


def _media_type(item: Resource) -> str:
    """Without parameters, in lower case."""
    return str(item["attachment"].get("contentType", "")).partition(";")[0].strip().lower()


def _plainly_typed(item: Resource) -> Resource:
    plain = _media_type(item)
    if item["attachment"].get("contentType", plain) == plain:
        return item
    return {**item, "attachment": {**item["attachment"], "contentType": plain}}


def _byte_count(attachment: Resource) -> int:
    """Size before base64: a number in R4, text in R5; counted where nobody says."""
    said = attachment.get("size")
    return int(said) if said is not None else len(attachment.get("data", "")) * 3 // 4


# Author and visit


def _with_author(kind: str, resource: Resource, capabilities: Capabilities) -> Resource:
    """As the target wants it; a Composition without author would be none, whatever the target wants."""
    is_composition = resource["resourceType"] == "Composition"
    if capabilities.author == "omit" and not is_composition:
        return {name: part for name, part in resource.items() if name != "author"} if "author" in resource else resource
    authors = resource.get("author", [])
    if capabilities.author == "required" and not any(map(_is_practitioner, authors)):
        # Of a transcript the machine alone is the author.
        raise _UnfitError(TRANSCRIPT if kind == "Transcript" else AUTHOR_REQUIRED)
    if is_composition and not authors:
        raise _UnfitError(AUTHOR_REQUIRED)
    return resource


def _is_practitioner(reference: Resource) -> bool:
    """Whether it leads to a clinician: a name alone leads to nobody."""
    literal = reference.get("reference")
    kind = reference_kind(literal) if literal else reference.get("type")
    return kind == "Practitioner" and bool(reference.keys() & {"reference", "identifier"})


def _check_visit(resource: Resource, capabilities: Capabilities) -> None:
    if capabilities.encounter == "required" and not _encounters(resource, capabilities):
        raise _UnfitError(ENCOUNTER_REQUIRED)
    if capabilities.period_end_required and resource["resourceType"] == "DocumentReference":
        owner = resource if capabilities.release == "R5" else resource.get("context", {})
        if "end" not in owner.get("period", {}):
            raise _UnfitError(PERIOD_END_REQUIRED)


def _encounters(resource: Resource, capabilities: Capabilities) -> list[Resource]:
    """The encounters a document names: of R4 a member of `context`, of R5 `context` itself."""
    if resource["resourceType"] == "Composition":
        return _listed(resource.get("encounter"))
    context = resource.get("context", {})
    return _listed(context if capabilities.release == "R5" else context.get("encounter"))


def _at_encounter(resource: Resource, encounter: str, capabilities: Capabilities) -> Resource:
    reference = {"reference": encounter}
    if resource["resourceType"] == "Composition":
        return {**resource, "encounter": reference}
    if capabilities.release == "R5":
        return {**resource, "context": [reference]}
    return {**resource, "context": {**resource.get("context", {}), "encounter": [reference]}}


def _listed(value: Any) -> list[Resource]:
    """One element in one release is a list of them in the other."""
    return value if isinstance(value, list) else [value] if value else []


# What the target refuses


def _dropped(resource: Resource, paths: Iterable[str]) -> Resource:
    for path in paths:
        resource = _without(resource, path.split("."))
    return resource


def _without(node: Any, names: Sequence[str]) -> Any:
    """A node without what is at a path, in every item of a list; `None` when nothing is left: FHIR has no empty one."""
    if isinstance(node, list):
        return unchanged(node, [left for item in node if (left := _without(item, names)) is not None])
    first, *further = names
    if not isinstance(node, dict) or first not in node:
        return node
    part = _without(node[first], further) if further else None
    if part is node[first]:
        return node
    changed = {**node, first: part}
    return {name: each for name, each in changed.items() if each is not None} or None
