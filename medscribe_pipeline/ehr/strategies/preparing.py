"""Before anything is sent: a look at what is to be replaced, where we cannot be sure without.

Nothing is overwritten that is not what we left. Where the server ties an update to a version we know (`If-Match`), it
sees to that; elsewhere the document is read first, and has to say so itself. It is always read where several notes
share a request: had their answers changed places, we would know the document of one note for that of another, and
nobody's note may ever take the place of somebody else's.
"""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.ehr.client import carries
from medscribe_pipeline.ehr.comparing import identifiers, is_newer, note_identifier_of, same_version, version_of
from medscribe_pipeline.ehr.ledger import DOCUMENT_REFERENCE, Copy, State
from medscribe_pipeline.ehr.outcomes import same_etag
from medscribe_pipeline.ehr.sending import CHANGED_IN_EHR, Verdict
from medscribe_pipeline.ehr.strategies.parcel import (
    NEWER_IN_EHR,
    REPLACED_WAS_CHANGED,
    SUPERSEDING_REFUSED,
    VERSION_UNKNOWN,
    fate_of_error,
)
from medscribe_pipeline.ehr.strategies.steps import PROVENANCE, replaces_in_place, superseding
from medscribe_pipeline.errors import ConfigError, MedscribeError, ProviderContractError
from medscribe_pipeline.fhir import VERSION_SYSTEM, version_identifier
from medscribe_pipeline.providers.http import Refused

if TYPE_CHECKING:
    from medscribe_pipeline.ehr.client import FhirClient, Found
    from medscribe_pipeline.ehr.strategies.parcel import Parcel
    from medscribe_pipeline.ehr.targets import Capabilities

__all__ = ["prepare"]


def prepare(client: FhirClient, capabilities: Capabilities, parcel: Parcel) -> None:
    """Reads what has to be read; what must not be replaced is settled, and then nothing of the note is sent."""
    try:
        for kind in parcel.open:
            copy = parcel.standing.get(kind)
            if kind != PROVENANCE and copy is not None and copy.server_id:
                _prepare_replacing(client, capabilities, parcel, kind, copy)
    except MedscribeError as error:
        # Only questions were asked: nothing of this version has happened.
        fate = fate_of_error(error)
        if fate.state is not State.REJECTED:
            fate = Verdict(State.PLANNED, codes=fate.codes, error=error)
        for kind in parcel.open:
            parcel.fail(kind, fate)
    if parcel.fates:
        parcel.stopped = True
    else:
        _prepare_superseding(client, capabilities, parcel)


def _prepare_replacing(client: FhirClient, capabilities: Capabilities, parcel: Parcel, kind: str, copy: Copy) -> None:
    resource = parcel.shipment.resources[kind]
    if not replaces_in_place(resource, kind, capabilities):
        return
    if capabilities.if_match and copy.etag:
        if capabilities.strategy == "batch" and capabilities.read:
            _prepare_shared(client, parcel, kind, copy)
        return
    if not capabilities.read:
        parcel.fail(kind, Verdict(State.REJECTED, VERSION_UNKNOWN))
        return
    held = client.read(resource["resourceType"], copy.server_id or "")
    if held is None:
        parcel.fail(kind, Verdict(State.REJECTED, CHANGED_IN_EHR))
    elif same_version(resource, held.resource):
        parcel.finish(kind, Copy(held.id, held.etag, ("looked_up",)))
    elif (reason := _why_not_replace(parcel, kind, copy, held)) is not None:
        parcel.fail(kind, Verdict(State.REJECTED, reason))
    else:
        parcel.standing[kind] = Copy(held.id, held.etag)


def _prepare_shared(client: FhirClient, parcel: Parcel, kind: str, copy: Copy) -> None:
    """Asks whose document it is; the server sees to its version."""
    resource = parcel.shipment.resources[kind]
    held = client.read(resource["resourceType"], copy.server_id or "")
    if held is not None and _is_of_another_note(resource, held):
        parcel.fail(kind, Verdict(State.REJECTED, CHANGED_IN_EHR))


def _why_not_replace(parcel: Parcel, kind: str, copy: Copy, held: Found) -> str | None:
    """Why what stands is not ours to replace, as far as its version or the document itself tells."""
    resource = parcel.shipment.resources[kind]
    if _is_of_another_note(resource, held):
        return CHANGED_IN_EHR
    if is_newer(held.resource, resource):
        return NEWER_IN_EHR
    if copy.etag and held.etag:
        return None if same_etag(copy.etag, held.etag) else CHANGED_IN_EHR
    if kind != DOCUMENT_REFERENCE:
        return None
    if version_of(resource) is None:
        return VERSION_UNKNOWN
    return None if _is_what_we_left(parcel, held) else CHANGED_IN_EHR


def _is_of_another_note(resource: dict[str, Any], held: Found) -> bool:
    """Whether it has an identifier as our notes have one, and not that of this note."""
    note = note_identifier_of(resource)
    theirs = {value for system, value in identifiers(held.resource) if note is not None and system == note[0]}
    return note is not None and bool(theirs) and note[1] not in theirs


def _is_what_we_left(parcel: Parcel, held: Found) -> bool:
    left = version_identifier(uuid.UUID(parcel.shipment.key.note_id), parcel.shipment.standing_version or "")
    return carries(held.resource, VERSION_SYSTEM, left)


def _prepare_superseding(client: FhirClient, capabilities: Capabilities, parcel: Parcel) -> None:
    """A document that is replaced by another is marked, if the server lets us and nobody has touched it.

    The note does not depend on it: it has `relatesTo` to say what it replaces.
    """
    resource = parcel.shipment.resources.get(DOCUMENT_REFERENCE)
    copy = parcel.standing.get(DOCUMENT_REFERENCE)
    able = capabilities.if_match and capabilities.read
    if resource is None or copy is None or not copy.server_id or not able:
        return
    if replaces_in_place(resource, DOCUMENT_REFERENCE, capabilities):
        return
    try:
        held = client.read(DOCUMENT_REFERENCE, copy.server_id)
    except MedscribeError as error:
        _settle_unread(parcel, error)
        return
    if held is None:
        parcel.notes.append(REPLACED_WAS_CHANGED)
        return
    if DOCUMENT_REFERENCE in parcel.open and _is_of_another_note(resource, held):
        # The new document would say that it replaces somebody else's.
        parcel.fail(DOCUMENT_REFERENCE, Verdict(State.REJECTED, CHANGED_IN_EHR))
        parcel.stopped = True
        return
    step = superseding(held)
    ours = same_etag(held.etag or "", copy.etag) if copy.etag else _is_what_we_left(parcel, held)
    if step is None or ours:
        parcel.superseding = step
    else:
        parcel.notes.append(REPLACED_WAS_CHANGED)


def _settle_unread(parcel: Parcel, error: MedscribeError) -> None:
    """The document to be marked cannot be read: not at all, or not now."""
    forbidden = isinstance(error, ConfigError) and error.status == HTTPStatus.FORBIDDEN
    if forbidden or isinstance(error, (Refused, ProviderContractError)):
        parcel.notes.append(SUPERSEDING_REFUSED)
        return
    parcel.stopped = True
    fate = Verdict(State.PLANNED, codes=fate_of_error(error).codes, error=error)
    for kind in parcel.open:
        parcel.fail(kind, fate)
    parcel.error = error
