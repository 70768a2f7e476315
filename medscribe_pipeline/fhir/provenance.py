"""Where a version of a note comes from: which AI wrote it, who answered for it, what assembled it, from what.

Facts: FHIR R4 Provenance (https://hl7.org/fhir/R4/provenance.html), the AIProvenance profile of the HL7 AI
Transparency guide (reason AIAST, an agent in the role Artificial-Intelligence, a human agent `verifier`), and US Core
Provenance, which wants to know for whom devices and clinicians acted (`provenance-1`).

A Provenance has no identifier in R4, so a conditional create cannot find it again. Its logical id is derived from the
version instead: `PUT Provenance/<id>` writes it once, however often it is sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medscribe_pipeline.fhir.devices import artificial_intelligence, assembler_device
from medscribe_pipeline.fhir.elements import (
    PRODUCTS,
    VERSION_SYSTEM,
    ai_label,
    identifier,
    instant,
    note_date,
    own_system,
    present,
    version_id,
)
from medscribe_pipeline.fhir.facts import facts_of
from medscribe_pipeline.fhir.narrative import is_blank
from medscribe_pipeline.fhir.people import custodian, scribe_device
from medscribe_pipeline.fhir.transcript import transcript_identifier
from medscribe_pipeline.notes import Identifier, NoteState, uuid5_text

if TYPE_CHECKING:
    from datetime import datetime

    from medscribe_pipeline.fhir.facts import Facts
    from medscribe_pipeline.fhir.options import BuildOptions
    from medscribe_pipeline.notes import ScribeNote

__all__ = ["provenance", "recorded_at"]


def provenance(note: ScribeNote, options: BuildOptions, facts: Facts | None = None) -> dict[str, Any]:
    """The Provenance of this version of a note.

    Its targets are the DocumentReference of this very version and the Composition, which has one identifier through
    all versions. Its entities are named by opaque ids only: no text, no audio, no address of either.

    Args:
        note: The note.
        options: How it is built.
        facts: Its facts, where they are known already.

    Raises:
        MedscribeError: Code `no_date`: neither the note nor its visit has a time.
    """
    if facts is None:
        facts = facts_of(note, options)
    return present(
        {
            "resourceType": "Provenance",
            "id": uuid5_text(bytes.fromhex(facts.version.replace("-", "")), "Provenance"),
            "target": [_document(facts.version), {"type": "Composition", "identifier": dict(facts.identifier)}],
            "occurredDateTime": facts.date,
            "recorded": instant(recorded_at(note)),
            "reason": [{"coding": [ai_label()]}],
            "activity": _concept("http://terminology.hl7.org/CodeSystem/v3-DataOperation", _activity(note)),
            "agent": _agents(note, options, facts),
            "entity": _entities(note, options),
        }
    )


def recorded_at(note: ScribeNote) -> datetime:
    """The latest time a note tells: nothing that is said of this version happened after it.

    Raises:
        MedscribeError: Code `no_date`: neither the note nor its visit has a time.
    """
    known = (note.created_at, note.updated_at, note.validated_at)
    return max((at for at in known if at is not None), default=note_date(note))


def _activity(note: ScribeNote) -> str:
    if note.state is NoteState.RETRACTED:
        return "NULLIFY"  # withdrawn at the source: to be treated as though it had never been
    return "CREATE" if note.amends is None else "UPDATE"


def _agents(note: ScribeNote, options: BuildOptions, facts: Facts) -> list[dict[str, Any]]:
    listed = [
        {**_agent("author", scribe_device(note.provider, options.base_uri)), "role": [artificial_intelligence()]},
        *(_agent("verifier", dict(signature["party"])) for signature in facts.attester),
        _agent("assembler", assembler_device(options)),
    ]
    if keeper := custodian(options):
        for agent in listed:
            # Nobody acts on behalf of themselves (prov-1), whatever identifiers a clinician and the custodian have.
            if not _is_same(agent["who"], keeper):
                agent["onBehalfOf"] = dict(keeper)
    return listed


def _is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return any(name in one and one[name] == other.get(name) for name in ("reference", "identifier"))


def _agent(kind: str, who: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": _concept("http://terminology.hl7.org/CodeSystem/provenance-participant-type", kind),
        "who": who,
    }


def _entities(note: ScribeNote, options: BuildOptions) -> list[dict[str, Any]]:
    """What this version was made from: the provider's record, what was said, the version it changes."""
    product = PRODUCTS.get(note.provider, note.provider)
    system = own_system(options.base_uri, note.provider, note.account, "record", note.stream)
    record = identifier(Identifier(system, note.source_id))
    listed = [("derivation", {"identifier": record, "display": f"{product}: record"})] if record else []
    if options.transcripts and any(not is_blank(turn.text) for turn in note.transcript):
        spoken = transcript_identifier(options.base_uri, note.provider, note.account, note.note_id)
        listed.append(("source", {"type": "DocumentReference", "identifier": spoken, "display": "Transcript"}))
    if note.amends is not None:
        listed.append(("revision", _document(version_id(note.note_id, note.amends))))
    return [{"role": role, "what": what} for role, what in listed]


def _document(version: str) -> dict[str, Any]:
    """The DocumentReference of one version of the note, as a reference."""
    return {"type": "DocumentReference", "identifier": {"system": VERSION_SYSTEM, "value": f"urn:uuid:{version}"}}


def _concept(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}
