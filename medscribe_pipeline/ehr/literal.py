"""Whom and what documents refer to, and the same in a target's own ids.

Stored documents refer by identifier. A target that goes by literal references gets none of these: what it knows is
named by its id there, what is sent along in the same delivery is linked when it is sent, and the rest is left out.
Only where FHIR demands a reference is it kept by name alone, which says who without saying where.

Facts: cardinalities of FHIR R4 and R5 Composition, DocumentReference and Provenance; Reference (display alone is one).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.fhir.elements import present

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

    Resource = dict[str, Any]
    Name = tuple[str, str, str]
    """Resource type, identifier system, identifier value."""

__all__ = ["located", "name_of", "unchanged", "wanted_references"]

_RESOLVED = frozenset({"Patient", "Practitioner", "Encounter"})

# Demanded by FHIR: the element's name, by the type of the resource it is somewhere in.
_BY_NAME_AT_LEAST = {"Composition": frozenset({"author"}), "Provenance": frozenset({"who", "what"})}
# What these stand in means nothing without them: a signature of nobody, a relation to nothing.
_ESSENTIAL = frozenset({"party", "resourceReference", "target", "what", "who"})
# Most of a document, and no references: concepts, identifiers, attachments, narratives. Not looked into.
_OPAQUE = frozenset(
    {"activity", "category", "code", "content", "identifier", "masterIdentifier", "meta", "reason", "text", "type"}
)
_NAME_ONLY = frozenset({"display", "extension", "id", "type"})


def wanted_references(resources: Mapping[str, Resource]) -> set[tuple[str, str, str]]:
    """The patients, clinicians and encounters that documents refer to by identifier.

    Returns:
        Resource type (`Patient`, `Practitioner`, `Encounter`), identifier system and value of each.
    """
    names = (name_of(node) for resource in resources.values() for node in _logical(resource))
    return {name for name in names if name is not None and name[0] in _RESOLVED}


def name_of(reference: Resource) -> tuple[str, str, str] | None:
    """What a reference by identifier leads to; `None` for one without, or that does not say of which type it is."""
    identifier = reference.get("identifier")
    if not isinstance(identifier, dict):
        return None
    kind, system, value = reference.get("type"), identifier.get("system"), identifier.get("value")
    if not isinstance(kind, str) or not isinstance(system, str) or not isinstance(value, str):
        return None
    return kind, system, value


def located(resource: Resource, references: Mapping[Name, str], sent_along: Container[Name]) -> Resource:
    """The resource with literal references instead of those by identifier or by name.

    What cannot be named so is left out, with the element it stands in where that means nothing without it. So the
    result may lack what FHIR demands: the author of a Composition nobody has a name of, the agents of a Provenance.

    Args:
        resource: A document or its Provenance; never changed, and returned itself where nothing is different.
        references: The target's ids.
        sent_along: What is named by identifier all the same, because whoever sends it puts its address there.
    """
    atlas = _Atlas(references, sent_along, _BY_NAME_AT_LEAST.get(resource["resourceType"], frozenset()))
    return atlas.members(resource) or {}


@dataclass(frozen=True, slots=True)
class _Atlas:
    """How the references of one resource are rewritten."""

    references: Mapping[Name, str]
    sent_along: Container[Name]
    by_name_at_least: frozenset[str]

    def part(self, part: Any, element: str) -> Any:
        """A part of the resource, in the element of that name; `None` when nothing is left of it."""
        if element in _OPAQUE:
            return part
        if isinstance(part, list):
            return unchanged(part, [each for item in part if (each := self.part(item, element)) is not None])
        if not isinstance(part, dict):
            return part
        if _is_logical(part):
            return self._reference(part, element)
        left = self.members(part)
        return None if left is None or (part.keys() - left.keys()) & _ESSENTIAL else left

    def members(self, node: Resource) -> Resource | None:
        """An element or the resource itself; `None` when nothing is left of it."""
        members = {name: each for name, part in node.items() if (each := self.part(part, name)) is not None}
        same = len(members) == len(node) and all(members[name] is part for name, part in node.items())
        return node if same else members or None

    def _reference(self, node: Resource, element: str) -> Resource | None:
        name = name_of(node)
        if name is not None and name in self.sent_along:
            return node
        display = node.get("display")
        if name is not None and name in self.references:
            return present({"reference": self.references[name], "display": display})
        if element in self.by_name_at_least and display:
            return present({"type": node.get("type"), "display": display})
        return None


def unchanged(old: list[Any], new: list[Any]) -> list[Any] | None:
    """The old list itself, where the new one has the same items; `None` for an empty one, which FHIR has not."""
    if len(old) == len(new) and all(ours is theirs for ours, theirs in zip(old, new, strict=True)):
        return old
    return new or None


def _is_logical(node: Resource) -> bool:
    """Whether it is a reference, and not a literal one: by identifier, or by name alone."""
    if "reference" in node or "resourceType" in node:
        return False
    return isinstance(node.get("identifier"), dict) or ("display" in node and node.keys() <= _NAME_ONLY)


def _logical(part: Any) -> Iterator[Resource]:
    """Every reference that is not literal, wherever it is."""
    if isinstance(part, list):
        for item in part:
            yield from _logical(item)
    elif isinstance(part, dict):
        if _is_logical(part):
            yield part
        else:
            for name, each in part.items():
                if name not in _OPAQUE:
                    yield from _logical(each)
