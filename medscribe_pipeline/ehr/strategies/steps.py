"""What is asked of the server for one document of one note version: a create or an update, as plain values.

Pure and deterministic: the same shipment gives the same bytes.

First delivery creates under a condition: the identifier the note has through all its versions, so that whatever this
warehouse has forgotten, the server holds one document of a note. Later versions replace what stands, by its id, and
only if it is still what we left; or, where the target wants that, a new document says which one it replaces, and is
created under the identifier of its version. A Composition, a transcript and a withdrawal always replace what stands.

A Provenance has no identifier, so its id is made of the version: `PUT Provenance/<id>` writes it once, however often.

Facts: FHIR R4 http (conditional create, update, transaction) and DocumentReference.relatesTo.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from medscribe_pipeline.ehr.comparing import identifiers, note_identifier_of, version_of
from medscribe_pipeline.ehr.ledger import DOCUMENT_REFERENCE
from medscribe_pipeline.fhir import version_identifier
from medscribe_pipeline.notes import uuid5_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medscribe_pipeline.ehr.client import Found
    from medscribe_pipeline.ehr.ledger import Copy, Key
    from medscribe_pipeline.ehr.sending import Shipment
    from medscribe_pipeline.ehr.targets import Capabilities

    Resource = dict[str, Any]
    Addresses = Mapping[tuple[str, str, str], str]
    """Where documents are, by resource type and identifier: a note and its documents share one."""

__all__ = [
    "LINKED",
    "PROVENANCE",
    "TRANSCRIPT",
    "Step",
    "addresses_of",
    "condition_of",
    "entry",
    "full_url",
    "is_replacement",
    "replaces_in_place",
    "step_for",
    "superseding",
]

PROVENANCE = "Provenance"
TRANSCRIPT = "Transcript"
LINKED = frozenset({PROVENANCE, TRANSCRIPT})
"""The documents that refer to others of the same version."""
_RELATION_SYSTEM = "http://hl7.org/fhir/document-relationship-type"  # of R5; in R4 the code stands alone


@dataclass(frozen=True, slots=True)
class Step:
    """One write.

    Attributes:
        kind: The kind of document of the unit it is for.
        method: `POST` creates, `PUT` replaces.
        type: Resource type.
        resource: What is sent.
        server_id: What is replaced.
        condition: Search by identifier that must find nothing, percent-encoded.
        if_match: ETag of the version that may be replaced.
        full_url: Where other entries of the same transaction can refer to it.
        idempotency_key: The same for the same document of the same version; empty where the target has no use for it.
        supersedes: It marks an older document as superseded, and is not part of the delivery itself.
    """

    kind: str
    method: Literal["POST", "PUT"]
    type: str
    resource: Resource = field(repr=False)
    server_id: str | None = None
    condition: str | None = None
    if_match: str | None = None
    full_url: str = ""
    idempotency_key: str = ""
    supersedes: bool = False


def step_for(
    shipment: Shipment,
    kind: str,
    capabilities: Capabilities,
    standing: Mapping[str, Copy],
    addresses: Addresses,
    *,
    in_place: bool = False,
) -> Step:
    """The write of one document.

    Args:
        shipment: The note version.
        kind: Which of its documents.
        capabilities: What the target can do.
        standing: What is there to be replaced, by kind, with the ETags that are known.
        addresses: Where the other documents of the version are, by identifier; see `addresses_of`. Looked at for
            `LINKED` documents only.
        in_place: Replace what stands, whatever is usual on this target.
    """
    resource = shipment.resources[kind]
    type_ = resource["resourceType"]
    if kind == PROVENANCE:
        return Step(kind, "PUT", type_, _linked(resource, addresses), resource["id"], full_url=full_url(shipment, kind))
    if kind == TRANSCRIPT:
        resource = _linked(resource, addresses)
    copy = standing.get(kind)
    if copy is not None and copy.server_id and (in_place or replaces_in_place(resource, kind, capabilities)):
        # The two are one resource, and the update itself replaces it: a document that says it replaces itself, by an
        # identifier no resource has any more, would be a riddle to every reader.
        kept = {name: part for name, part in resource.items() if name != "relatesTo"}
        return Step(
            kind,
            "PUT",
            type_,
            {**kept, "id": copy.server_id},
            copy.server_id,
            if_match=copy.etag if capabilities.if_match else None,
            full_url=full_url(shipment, kind),
        )
    if kind == DOCUMENT_REFERENCE:
        resource = _replacing(resource, copy, capabilities)
    return Step(
        kind,
        "POST",
        type_,
        # A server may take an id on POST for its own, or refuse it.
        {name: part for name, part in resource.items() if name != "id"} if "id" in resource else resource,
        condition=condition_of(resource, kind, capabilities),
        full_url=full_url(shipment, kind),
        idempotency_key=_idempotency_key(shipment.key, kind) if capabilities.idempotency_header else "",
    )


def replaces_in_place(resource: Resource, kind: str, capabilities: Capabilities) -> bool:
    """Whether a later version of this document replaces the one that stands, rather than standing beside it."""
    return not is_replacement(kind, capabilities) or resource.get("status") == "entered-in-error"


def is_replacement(kind: str, capabilities: Capabilities) -> bool:
    """Whether each version of it is a document of its own on this target."""
    return kind == DOCUMENT_REFERENCE and capabilities.amendment == "new_document"


def condition_of(resource: Resource, kind: str, capabilities: Capabilities) -> str | None:
    """The search that must find nothing: one identifier and nothing else, which every server with conditions knows.

    `None` where the target has no conditions, or takes no identifier to go by.
    """
    if not capabilities.conditional_create or capabilities.strategy == "unconditional":
        return None
    if is_replacement(kind, capabilities):
        known = version_of(resource)
    else:
        known = note_identifier_of(resource) or version_of(resource)
    if known is None:
        return None
    system, value = known
    return f"identifier={_quoted_system(system)}%7C{quote(value, safe=':/')}"


@lru_cache(maxsize=64)  # There are as many as accounts, and every document has one.
def _quoted_system(system: str) -> str:
    return quote(system, safe=":/")


def superseding(found: Found) -> Step | None:
    """The write that marks an older document as superseded; `None` where it is not current any more."""
    if found.resource.get("status") != "current" or found.etag is None:
        return None
    meta = {k: v for k, v in (found.resource.get("meta") or {}).items() if k not in ("versionId", "lastUpdated")}
    kept = {name: part for name, part in found.resource.items() if name != "meta"}
    resource = {**kept, **({"meta": meta} if meta else {}), "id": found.id, "status": "superseded"}
    return Step(
        DOCUMENT_REFERENCE,
        "PUT",
        DOCUMENT_REFERENCE,
        resource,
        found.id,
        if_match=found.etag,
        full_url=uuid.uuid5(uuid.NAMESPACE_URL, f"superseded/{found.id}").urn,
        supersedes=True,
    )


def addresses_of(resource: Resource, address: str) -> dict[tuple[str, str, str], str]:
    """Where a document can be found, by its type and each of its identifiers."""
    return {(resource["resourceType"], system, value): address for system, value in identifiers(resource)}


def full_url(shipment: Shipment, kind: str) -> str:
    """Where the entry can be referred to inside a transaction. Derived, so that the bytes are the same each time."""
    if kind == PROVENANCE:
        return uuid.UUID(shipment.resources[kind]["id"]).urn
    return f"urn:uuid:{uuid5_text(bytes.fromhex(shipment.key.note_id.replace('-', '')), kind)}"


def entry(step: Step) -> Resource:
    """The write as an entry of a transaction or a batch."""
    request: Resource = {"method": step.method, "url": step.type}
    if step.method == "PUT":
        request["url"] = f"{step.type}/{step.server_id}"
    if step.condition:
        request["ifNoneExist"] = step.condition
    if step.if_match:
        request["ifMatch"] = step.if_match
    return {"fullUrl": step.full_url, "resource": step.resource, "request": request}


def _replacing(resource: Resource, copy: Copy | None, capabilities: Capabilities) -> Resource:
    """A new document that says which one it replaces: by its id where we know it, else as it was built."""
    known = copy is not None and copy.server_id is not None
    unwelcome = "relatesTo" in capabilities.drop or (capabilities.references == "literal" and not known)
    if not known or unwelcome:
        dropped = "relatesTo" in resource and unwelcome
        return {name: part for name, part in resource.items() if name != "relatesTo"} if dropped else resource
    r5 = {"coding": [{"system": _RELATION_SYSTEM, "code": "replaces"}]}
    target = {"reference": f"{DOCUMENT_REFERENCE}/{copy.server_id if copy else ''}"}
    return {
        **resource,
        "relatesTo": [{"code": "replaces" if capabilities.release == "R4" else r5, "target": target}],
    }


def _idempotency_key(key: Key, kind: str) -> str:
    version = uuid.UUID(version_identifier(uuid.UUID(key.note_id), key.version))
    return str(uuid.uuid5(version, kind))


def _linked(node: Any, addresses: Addresses) -> Any:
    """The same with references to documents of the same version as literal ones; shares what it does not change."""
    if not addresses:
        return node
    if isinstance(node, list):
        items = [_linked(item, addresses) for item in node]
        return items if any(new is not old for new, old in zip(items, node, strict=True)) else node
    if not isinstance(node, dict):
        return node
    identifier = node.get("identifier")
    if "reference" not in node and isinstance(identifier, dict):
        known = (str(node.get("type")), str(identifier.get("system")), str(identifier.get("value")))
        address = addresses.get(known)
        if address is not None:
            return {"reference": address, **node}
    members = {name: _linked(part, addresses) for name, part in node.items()}
    return members if any(members[name] is not part for name, part in node.items()) else node
