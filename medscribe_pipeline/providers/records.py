"""What mapping reads and answers: a landed record with what hangs around it, and a note or the reason for none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.notes import Identifier, Practitioner, Visit

if TYPE_CHECKING:
    from datetime import datetime

    from medscribe_pipeline.settings import Settings

__all__ = ["Held", "LandedRecord", "ManifestVisit", "if_known", "merged_visit"]


@dataclass(frozen=True, slots=True)
class ManifestVisit:
    """A row of the `visits` table: what the hospital says about a recording."""

    patient_id: str | None = None
    patient_system: str | None = None
    practitioner_id: str | None = None
    practitioner_system: str | None = None
    encounter_id: str | None = None
    encounter_system: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    language: str | None = None
    template: str | None = None
    audio_url: str | None = None
    audio_path: str | None = None
    section_style: str | None = None
    split_by_problem: bool | None = None
    diarization: bool | None = None
    category: str | None = None
    specialty: str | None = None


_NOTHING_SAID = ManifestVisit()


@dataclass(frozen=True, slots=True)
class LandedRecord:
    """A row of `source_records`, with its parent's payload, how many records hang on it, and its manifest row.

    `gone` says that the provider does not hold it any more, or not the record it hangs on.
    """

    stream: str
    source_id: str
    payload: dict[str, Any]
    parent: dict[str, Any] | None = None
    children: int = 0
    visit: ManifestVisit | None = None
    fetched_at: datetime | None = None
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """A record that is fine but is no note: `code` says why. `part` marks one whose text is in another record."""

    code: str
    part: bool = False


def if_known(*facts: str | None) -> tuple[str, ...]:
    """The facts there are, to be spread into the content a version is the hash of.

    For facts that came later than the first notes: where one is not known nothing is added, so that notes without it
    keep the version they were delivered with.
    """
    return tuple(fact for fact in facts if fact)


def merged_visit(
    settings: Settings,
    provider: str,
    manifest: ManifestVisit | None,
    *,
    patient_id: str | None = None,
    practitioner: Practitioner | None = None,
    started_at: datetime | None = None,
) -> Visit:
    """What the provider says about the visit, and the manifest where the provider is silent.

    Times are the other way round: the hospital knows when the visit was, the provider only when it was recorded.
    """
    row = manifest or _NOTHING_SAID

    def identifier(kind: str, system: str | None, value: str | None) -> Identifier | None:
        return Identifier(system or settings.identifier_system(provider, kind), value) if value else None

    patient = identifier("patient", None, patient_id) or identifier("patient", row.patient_system, row.patient_id)
    if practitioner is None:
        known = identifier("practitioner", row.practitioner_system, row.practitioner_id)
        practitioner = Practitioner(identifiers=(known,)) if known else None
    return Visit(
        patient=patient,
        practitioner=practitioner,
        encounter=identifier("encounter", row.encounter_system, row.encounter_id),
        started_at=row.started_at or started_at,
        ended_at=row.ended_at,
    )
