"""The document Bundle of a note: the Composition and everything it refers to, in one immutable file.

A stored Composition refers to people and places by identifier, because only the server that takes it knows its own
ids. A document cannot lean on any server: whoever is referred to stands in the Bundle as a resource of its own, and
every reference leads to the `fullUrl` of one. These resources say what the note's source says and nothing more; none
of them is meant to be created anywhere, so no entry has a `request`.

Facts: FHIR R4 Documents (https://hl7.org/fhir/R4/documents.html), invariants bdl-3, bdl-7 and bdl-9 to bdl-11. Every
entry is reached from the Composition going forward; only a Provenance may point at it instead (R4 3.3.1).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from medscribe_pipeline.fhir.devices import assembler, assembler_device, scribe
from medscribe_pipeline.fhir.documents import build_documents
from medscribe_pipeline.fhir.elements import VERSION_SYSTEM, ai_label, instant, present, version_identifier
from medscribe_pipeline.fhir.people import (
    custodian,
    practitioner,
    practitioner_identifiers,
    role_identifiers,
    scribe_device,
)
from medscribe_pipeline.fhir.provenance import recorded_at
from medscribe_pipeline.fhir.release5 import to_r5

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medscribe_pipeline.fhir.documents import FhirDocuments
    from medscribe_pipeline.fhir.options import BuildOptions
    from medscribe_pipeline.notes import ScribeNote

__all__ = ["document_bundle"]

_NULL_FLAVOR = "http://terminology.hl7.org/CodeSystem/v3-NullFlavor"


@dataclass(frozen=True, slots=True)
class _Member:
    """One entry to be.

    Attributes:
        name: What it is in the document; its `fullUrl` is derived from it.
        resource: The resource, with references as they are stored.
        stands_for: The stored reference that leads here; `None` where there is none.
    """

    name: str
    resource: dict[str, Any]
    stands_for: dict[str, Any] | None = None


class _Key(NamedTuple):
    """What two references to the same thing have in common: its type, and its identifier or else its name."""

    kind: str
    system: str | None
    value: str


def document_bundle(note: ScribeNote, options: BuildOptions) -> dict[str, Any]:
    """Builds the document Bundle of one version of a note.

    Pure and deterministic, like `build_documents`. The Bundle's identifier is that of the version: another version is
    another document, while the Composition in it keeps the identifier of the note.

    Args:
        note: The note, in any state but failed. A retracted one may have lost its text.
        options: How, see `BuildOptions`.

    Raises:
        MedscribeError: As `build_documents` raises.
        ConfigError: There is no such profile.
    """
    documents = build_documents(note, replace(options, release="R4"))
    version = version_identifier(note.note_id, note.version)
    members = [
        _Member("Composition", documents.composition),
        *_visit(documents),
        *_clinician(note, version),
        *_organization(options),
        _Member("Device/scribe", scribe(note, options.base_uri), scribe_device(note.provider, options.base_uri)),
        _Member("Device/assembler", assembler(options), assembler_device(options)),
    ]
    links = {_key(each.stands_for): _link(each, version) for each in members if each.stands_for}
    origin = documents.provenance
    # Of its two targets the Composition is in here; the DocumentReference is another form of the note, and outside.
    targets = {_key(each): _link(members[0], version) for each in origin["target"] if each["type"] == "Composition"}
    document = {
        "resourceType": "Bundle",
        "meta": {"security": [ai_label()]},
        "identifier": {"system": VERSION_SYSTEM, "value": version},
        "type": "document",
        "timestamp": instant(recorded_at(note)),
        "entry": [
            *(_entry(each, version, links) for each in members),
            _entry(_Member("Provenance", origin), version, links | targets),
        ],
    }
    return document if options.release == "R4" else to_r5(document)


def _visit(documents: FhirDocuments) -> Iterator[_Member]:
    """Patient and encounter, as far as they are known."""
    subject, encounter = documents.composition.get("subject"), documents.composition.get("encounter")
    if subject:
        # The identifier and nothing else: the document is about this patient, it is no record of this patient.
        yield _Member("Patient", {"resourceType": "Patient", "identifier": [subject["identifier"]]}, subject)
    if encounter:
        period = documents.document_reference.get("context", {}).get("period", {})
        resource = {
            "resourceType": "Encounter",
            "identifier": [encounter["identifier"]],
            "status": "finished" if "end" in period else "unknown",
            # R4 wants a class. No source says whether it was at home, on a ward or by video, so nobody guesses.
            "class": {"system": _NULL_FLAVOR, "code": "UNK"},
            "subject": subject,
            "period": period,
        }
        yield _Member("Encounter", present(resource), encounter)


def _clinician(note: ScribeNote, version: str) -> Iterator[_Member]:
    """The clinician; and where a place of practice is known, the role, which then is what wrote and signed."""
    known, reference = note.visit.practitioner, practitioner(note.visit.practitioner)
    if known is None or reference is None:
        return
    display = reference.get("display")
    person = present(
        {
            "resourceType": "Practitioner",
            "identifier": practitioner_identifiers(known),
            # One text, as the source gives it: what in it is the family name, nobody knows for sure.
            "name": [{"text": display}] if display else None,
        }
    )
    places = role_identifiers(known)
    yield _Member("Practitioner", person, None if places else reference)
    if places:
        here = {"reference": _full_url("Practitioner", version), "type": "Practitioner", "display": display}
        role = {"resourceType": "PractitionerRole", "identifier": places, "practitioner": present(here)}
        yield _Member("PractitionerRole", role, reference)


def _organization(options: BuildOptions) -> Iterator[_Member]:
    if reference := custodian(options):
        resource = {
            "resourceType": "Organization",
            "identifier": [reference["identifier"]] if "identifier" in reference else None,
            "name": reference.get("display"),
        }
        yield _Member("Organization", present(resource), reference)


def _entry(member: _Member, version: str, links: dict[_Key, dict[str, str]]) -> dict[str, Any]:
    full_url = _full_url(member.name, version)
    resource = _linked(member.resource, links)
    # The id repeats the fullUrl, for readers that look for resources by id.
    return {
        "fullUrl": full_url,
        "resource": {"resourceType": resource["resourceType"], "id": full_url.removeprefix("urn:uuid:"), **resource},
    }


def _link(member: _Member, version: str) -> dict[str, str]:
    return {"reference": _full_url(member.name, version), "type": member.resource["resourceType"]}


def _full_url(name: str, version: str) -> str:
    return uuid.uuid5(uuid.UUID(version), name).urn


def _linked(node: Any, links: dict[_Key, dict[str, str]]) -> Any:
    """A copy of a JSON value in which every reference to a member leads to its entry; others stay as they are."""
    if isinstance(node, list):
        return [_linked(item, links) for item in node]
    if not isinstance(node, dict):
        return node
    stored = "reference" not in node and isinstance(node.get("type"), str)
    if stored and (link := links.get(_key(node))):
        return present({**link, "display": node.get("display")})
    return {name: _linked(value, links) for name, value in node.items()}


def _key(reference: dict[str, Any]) -> _Key:
    known = reference.get("identifier", {})
    return _Key(reference["type"], known.get("system"), known.get("value") or reference.get("display", ""))
