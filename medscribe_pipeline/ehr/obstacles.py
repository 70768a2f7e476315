"""What keeps notes that might go out from going out: the target does not know whom or where, or takes no such document.

Everything is found out before a note is claimed, and found out again by each run: when the obstacle is gone, the note
leaves by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.ehr.documents import larger_than, load_documents
from medscribe_pipeline.ehr.fitting import Unfit, fit, most_that_fits, wanted_references
from medscribe_pipeline.ehr.references import ENCOUNTER, PATIENT, PRACTITIONER, ReferenceState, Wanted, resolve
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import notes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from medscribe_pipeline.ehr.client import FhirClient
    from medscribe_pipeline.ehr.references import ReferenceKind, Resolution
    from medscribe_pipeline.ehr.targets import Capabilities
    from medscribe_pipeline.settings import EhrSettings
    from medscribe_pipeline.warehouse.store import Warehouse

    Resource = dict[str, Any]

__all__ = ["Places", "find_obstacles", "fit_note"]

BATCH = 500

_KINDS: dict[str, ReferenceKind] = {PATIENT: PATIENT, PRACTITIONER: PRACTITIONER, ENCOUNTER: ENCOUNTER}


@dataclass(slots=True)
class Places:
    """Where who and what our notes speak of is on a target.

    Attributes:
        references: Literal reference by resource type, identifier system and value.
        encounters: Literal reference by note, for encounters found by patient and time.
    """

    references: dict[tuple[str, str, str], str] = field(default_factory=dict)
    encounters: dict[str, str] = field(default_factory=dict)


def fit_note(
    note_id: str,
    documents: Mapping[str, Resource],
    capabilities: Capabilities,
    places: Places,
    *,
    is_small: bool = False,
) -> dict[str, Resource] | Unfit:
    """The documents of a note as the target takes them, or why it does not. See `fit`."""
    return fit(documents, capabilities, places.references, places.encounters.get(note_id), is_small=is_small)


def find_obstacles(
    warehouse: Warehouse,
    client: FhirClient,
    settings: EhrSettings,
    capabilities: Capabilities,
    leaving: Mapping[str, tuple[str, ...]],
    *,
    clock: Callable[[], datetime],
) -> tuple[dict[str, str], Places]:
    """Looks at notes that would leave; of a target that minds nothing but their size, only at the large ones.

    Args:
        warehouse: Notes, documents and references.
        client: The target.
        settings: Its settings.
        capabilities: What it can do.
        leaving: The notes, and which kinds of document of each.
        clock: The current time, aware UTC.

    Returns:
        Why notes cannot go out, by note; and where what the others speak of is.

    Raises:
        ConfigError, Retriable, Deferred: The target cannot be asked; see `resolve`.
    """
    places = Places()
    obstacles: dict[str, str] = {}
    unseen = most_that_fits(capabilities)
    for note_ids in in_chunks(sorted(leaving), BATCH):
        with warehouse.read() as connection:
            chunk = larger_than(connection, note_ids, capabilities.kinds, unseen) if unseen else note_ids
            documents = {
                note_id: {kind: each for kind, each in built.documents.items() if kind in leaving[note_id]}
                for note_id, built in load_documents(connection, chunk, capabilities.kinds).items()
            }
            wanted = _wanted(connection, documents) if capabilities.references == "literal" else {}
        everything = {each for of_note in wanted.values() for each in of_note}
        found = resolve(
            warehouse, client, settings.target, settings, everything, clock=clock, capabilities=capabilities
        )
        for note_id, listed in wanted.items():
            reason = _place(note_id, listed, found, places, capabilities)
            if reason is not None:
                obstacles[note_id] = reason
        for note_id, of_note in documents.items():
            if note_id not in obstacles and isinstance(
                fitted := fit_note(note_id, of_note, capabilities, places), Unfit
            ):
                obstacles[note_id] = fitted.reason
    return obstacles, places


def _wanted(connection: sa.Connection, documents: Mapping[str, Mapping[str, Resource]]) -> dict[str, list[Wanted]]:
    """What each note refers to; an encounter it does not name is looked for by patient and time."""
    query = sa.select(notes.c.note_id, notes.c.started_at, notes.c.ended_at).where(notes.c.note_id.in_(list(documents)))
    times = {row.note_id: (row.started_at, row.ended_at) for row in connection.execute(query)}
    wanted: dict[str, list[Wanted]] = {}
    for note_id, of_note in documents.items():
        named = {each for each in wanted_references(of_note) if each[0] in _KINDS}
        patient = next(((system, value) for kind, system, value in named if kind == PATIENT), None)
        started_at, ended_at = times.get(note_id, (None, None))
        listed = [Wanted(_KINDS[kind], system, value) for kind, system, value in named if kind != ENCOUNTER]
        encounters = [each for each in named if each[0] == ENCOUNTER] or [(ENCOUNTER, "", "")]
        listed += [Wanted(ENCOUNTER, system, value, patient, started_at, ended_at) for _, system, value in encounters]
        wanted[note_id] = listed
    return wanted


def _place(
    note_id: str,
    wanted: Sequence[Wanted],
    found: Mapping[Wanted, Resolution],
    places: Places,
    capabilities: Capabilities,
) -> str | None:
    """Notes where everything is; returns why the note has to wait, if it has to."""
    reason = None
    for each in wanted:
        resolution = found[each]
        if resolution.reference is None:
            reason = reason or (resolution.reason if _is_needed(each, resolution, capabilities) else None)
        elif each.system:
            places.references[each.kind, each.system, each.value] = resolution.reference
        else:
            places.encounters[note_id] = resolution.reference
    return reason


def _is_needed(wanted: Wanted, resolution: Resolution, capabilities: Capabilities) -> bool:
    """Whether a note has to wait for it; else it goes out without."""
    if wanted.kind == PATIENT or resolution.state is ReferenceState.MISMATCH:
        # An encounter of another patient says that something is wrong with the note, not only with its place.
        return True
    if wanted.kind == PRACTITIONER:
        return capabilities.author == "required"
    return capabilities.encounter == "required"
