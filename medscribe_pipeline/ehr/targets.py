"""What one FHIR server can do: the profile of its kind, what it says of itself, and what its operator knows better.

How notes are delivered is decided by these values and nowhere else.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Capabilities", "DocumentKind"]

DocumentKind = Literal["Composition", "DocumentReference", "Provenance", "Transcript"]


class Capabilities(BaseModel):
    """What a target takes, and how.

    Attributes:
        strategy: How notes are sent: `transaction` (one a note), `batch` (several notes a request, each entry on its
            own), `single` (one conditional POST a resource), `unconditional` (one POST a resource to a server that
            cannot tell whether it has it: never sent twice).
        kinds: What it takes of a note, in the order it is sent.
        conditional_create: Whether `If-None-Exist` (or `ifNoneExist`) by identifier works.
        search: Whether a resource can be searched by its identifier.
        read: Whether what was written can be read by its id.
        if_match: Whether an update may be tied to the version we know.
        idempotency_header: Header that makes a repeated POST harmless, where there is one.
        entries_per_bundle: Most entries of a bundle.
        max_bundle_bytes: Largest bundle.
        max_attachment_bytes: Largest attachment, before base64.
        content_types: Attachment types it takes, the preferred one first; empty for any.
        attachments: Whether it keeps all attachments of a DocumentReference or the first.
        plain_content_type: Whether content types are written without their charset.
        doc_status: Values of `docStatus` it takes.
        amendment: What happens with a later version: `update` in place, `new_document` that replaces the old one, or
            `hold` for a person.
        retraction: What happens with a note withdrawn at its source: `update` to entered-in-error, or `hold`.
        references: Whether patients, clinicians and encounters are named by identifier or by their id on the server.
        author: Whether a Practitioner as author may be there, must be, or must not.
        encounter: Whether an encounter must be named.
        period_end_required: Whether the visit must have an end.
        drop: Elements left out, as dotted paths below the resource.
        release: FHIR release.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    strategy: Literal["transaction", "batch", "single", "unconditional"] = "transaction"
    kinds: tuple[DocumentKind, ...] = Field(("Composition", "DocumentReference"), min_length=1)
    conditional_create: bool = True
    search: bool = True
    read: bool = True
    if_match: bool = True
    idempotency_header: str | None = None
    entries_per_bundle: int = Field(100, ge=2)
    max_bundle_bytes: int = Field(50_000_000, ge=1_000)
    max_attachment_bytes: int = Field(5_000_000, ge=1_000)
    content_types: tuple[str, ...] = ()
    attachments: Literal["all", "first"] = "all"
    plain_content_type: bool = False
    doc_status: tuple[Literal["preliminary", "final", "amended", "entered-in-error"], ...] = (
        "preliminary",
        "final",
        "amended",
        "entered-in-error",
    )
    amendment: Literal["update", "new_document", "hold"] = "update"
    retraction: Literal["update", "hold"] = "update"
    references: Literal["logical", "literal"] = "logical"
    author: Literal["optional", "required", "omit"] = "optional"
    encounter: Literal["optional", "required"] = "optional"
    period_end_required: bool = False
    drop: tuple[str, ...] = ()
    release: Literal["R4", "R5"] = "R4"
