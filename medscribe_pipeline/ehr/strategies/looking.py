"""Finding out whether a document of a version is on the server: by its identifier, or by its id where that is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.ehr.comparing import is_told_apart, note_identifier_of, same_version, version_of
from medscribe_pipeline.ehr.ledger import COMPOSITION, DOCUMENT_REFERENCE, Copy, State
from medscribe_pipeline.ehr.sending import CANNOT_BE_ASKED, LOOKUP_FAILED, SEVERAL_MATCHES, Verdict
from medscribe_pipeline.ehr.strategies.steps import PROVENANCE, is_replacement, replaces_in_place
from medscribe_pipeline.errors import MedscribeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medscribe_pipeline.ehr.client import FhirClient, Found
    from medscribe_pipeline.ehr.targets import Capabilities

    Resource = dict[str, Any]

__all__ = ["Sought", "is_left_behind", "look_up", "seek"]

_SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class Sought:
    """What a look for one document of a version found.

    Attributes:
        there: This very version; `None` when it is not there.
        other: The document of the note, in another version or in one nobody can tell.
        several: More than one, where there must be one.
        sure: Whether nothing found means that it is not there.
    """

    there: Found | None = None
    other: Found | None = None
    several: bool = False
    sure: bool = True


def seek(
    client: FhirClient, capabilities: Capabilities, kind: str, resource: Resource, standing: Copy | None = None
) -> Sought:
    """Looks for one document.

    Args:
        client: The server.
        capabilities: What it can be asked.
        kind: The kind of document.
        resource: As it was, or would be, sent.
        standing: What an earlier version has left there; where this one replaces it, it can be nowhere else.

    Raises:
        MedscribeError: The server would not tell.
    """
    type_ = resource["resourceType"]
    if kind == PROVENANCE:
        # Its id is its version. Where it cannot be read it is written again, and is the same as before.
        found = client.read(type_, resource["id"]) if capabilities.read else None
        return Sought(there=found)
    version, note = version_of(resource), note_identifier_of(resource)
    if capabilities.search and version is not None:
        matches = client.search(type_, *version)
        return Sought(there=matches[0] if len(matches) == 1 else None, several=len(matches) > 1)
    if capabilities.search and note is not None:
        return _among(client.search(type_, *note), resource, many=is_replacement(kind, capabilities))
    known_id = standing.server_id if standing is not None else None
    if capabilities.read and known_id is not None and replaces_in_place(resource, kind, capabilities):
        held = client.read(type_, known_id)
        return _among([held] if held else [], resource, many=False)
    return Sought(sure=False)


def is_left_behind(resource: Resource, held: Found, standing: Copy | None) -> bool:
    """Whether a document of this very version is from a time before another took its place: the note was edited back.

    It has to become current again. Without anything known to stand in its place, it is the EHR that has moved on.
    """
    other = standing is not None and standing.server_id not in (None, held.id)
    return other and held.resource.get("status") == _SUPERSEDED and resource.get("status") != _SUPERSEDED


def _among(matches: list[Found], resource: Resource, *, many: bool) -> Sought:
    """The version among the documents of a note; `many` where each version is a document of its own."""
    judged = [(same_version(resource, each.resource), each) for each in matches]
    same = [each for verdict, each in judged if verdict]
    if len(same) > 1 or (len(matches) > 1 and not many):
        return Sought(several=True)
    if same:
        return Sought(there=same[0])
    return Sought(other=matches[0] if matches else None, sure=all(verdict is False for verdict, _ in judged))


def look_up(
    client: FhirClient,
    capabilities: Capabilities,
    resources: Mapping[str, Resource],
    standing: Mapping[str, Copy],
) -> Verdict:
    """Asks the server whether it holds this very version of a note; never raises one of our errors.

    Args:
        client: The server.
        capabilities: What it can be asked.
        resources: The documents, fitted to the target.
        standing: What an earlier version has left there: what was to be replaced can be looked at by its id.

    Returns:
        `DELIVERED` with the server's copies; `PLANNED` when the documents not in `copies` surely are not there;
        `REJECTED` when there are several; `UNKNOWN` when the server would not tell (`lookup_failed`) or cannot be asked
        (`cannot_be_asked`).
    """
    sought: dict[str, Sought] = {}
    for kind, resource in resources.items():
        copy = standing.get(kind)
        try:
            found = seek(client, capabilities, kind, resource, copy)
        except MedscribeError as error:
            return Verdict(State.UNKNOWN, LOOKUP_FAILED, copies=_copies(sought), error=error)
        if found.there is not None and is_left_behind(resource, found.there, copy):
            found = Sought(other=found.there)
        sought[kind] = found
    if any(each.several for each in sought.values()):
        return Verdict(State.REJECTED, SEVERAL_MATCHES, copies=_copies(sought), codes=("looked_up",))
    copies = _copies(_implied(sought, resources, capabilities))
    if copies.keys() == resources.keys():
        return Verdict(State.DELIVERED, copies=copies)
    if all(each.sure for kind, each in sought.items() if kind not in copies):
        return Verdict(State.PLANNED, copies=copies)
    return Verdict(State.UNKNOWN, CANNOT_BE_ASKED, copies=copies)


def _implied(
    sought: Mapping[str, Sought], resources: Mapping[str, Resource], capabilities: Capabilities
) -> Mapping[str, Sought]:
    """With what a transaction implies: where its DocumentReference is, its Composition is of the same version.

    A Composition names no version, and a server may have rewritten its words. Where more than its words is of another
    version, the server has done half of the transaction.
    """
    document, composition = sought.get(DOCUMENT_REFERENCE), sought.get(COMPOSITION)
    if capabilities.strategy != "transaction" or document is None or document.there is None or composition is None:
        return sought
    if composition.other is None or version_of(resources[DOCUMENT_REFERENCE]) is None:
        return sought
    if is_told_apart(resources[COMPOSITION], composition.other.resource):
        return sought
    return {**sought, COMPOSITION: Sought(there=composition.other)}


def _copies(sought: Mapping[str, Sought]) -> dict[str, Copy]:
    return {
        kind: Copy(each.there.id, each.there.etag, ("looked_up",))
        for kind, each in sought.items()
        if each.there is not None
    }
