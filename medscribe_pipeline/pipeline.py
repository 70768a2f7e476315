"""The stages of a visit day taken together: which days are out of date, and when is one done."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.ehr.ledger import State
from medscribe_pipeline.ehr.sending import CANNOT_BE_ASKED
from medscribe_pipeline.ehr.targets import Capabilities, profiles
from medscribe_pipeline.ehr.waiting import wake
from medscribe_pipeline.fhir.build import count_due as documents_due
from medscribe_pipeline.fhir.build import mapping_version
from medscribe_pipeline.notes import content_hash
from medscribe_pipeline.providers.build import count_due as notes_due
from medscribe_pipeline.providers.build import mapping_fingerprint
from medscribe_pipeline.warehouse.days import changed_seq, days_to_build, mark_built
from medscribe_pipeline.warehouse.tables import delivered_days, deliveries

if TYPE_CHECKING:
    from datetime import date, datetime

    from medscribe_pipeline.settings import EhrSettings, Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["due_days", "fingerprint", "finish_day", "newest_change", "wake_held_notes"]

_UNDER_WAY = (State.PLANNED, State.CLAIMED, State.SENT, State.UNKNOWN)


def fingerprint(settings: Settings) -> str:
    """Short hash of everything a built day depends on beside its data: mapping, code tables, targets.

    A target counts by its name and by what its settings decide about notes: not by its URL or its credentials, and not
    by how much is sent at a time.
    """
    targets = sorted((name, _decisive(target)) for name, target in settings.targets.items())
    plain = len(targets) <= 1 and not any(facts for _, facts in targets)
    told: Any = next((name for name, _ in targets), None) if plain else targets
    return content_hash([mapping_fingerprint(settings), mapping_version(settings), told])[:16]


def _decisive(target: EhrSettings) -> dict[str, Any]:
    """What the settings of a target decide about notes; empty where they leave everything as it is."""
    profile = {name: each.value for name, each in profiles()[target.kind].values.items()}
    facts = {
        "kind": target.kind if target.kind != "generic" else None,
        "profile": Capabilities.model_validate(profile).model_dump(mode="json", exclude_defaults=True),
        "capabilities": _content_of(target),
        "hold_all": target.hold_all,
        "encounter_by_time": target.encounter_by_time,
    }
    return {name: value for name, value in facts.items() if value}


def _content_of(target: EhrSettings) -> str | None:
    """Hash of the file of capabilities. What is wrong with one is told when something is delivered."""
    if target.capabilities is None:
        return None
    try:
        return hashlib.sha256(target.capabilities.expanduser().read_bytes()).hexdigest()
    except OSError:
        return "unreadable"


def due_days(warehouse: Warehouse, settings: Settings, *, limit: int | None = None) -> list[tuple[date, int]]:
    """Days that are not built, or not delivered to the end, or built by another mapping; with their newest change."""
    return days_to_build(warehouse, fingerprint(settings), limit=limit)


def wake_held_notes(warehouse: Warehouse, settings: Settings, *, now: datetime) -> None:
    """Makes days due whose notes wait for a patient, clinician or encounter that it is time to ask for again.

    Costs two small queries a target, and writes nothing while there is nobody to wake.
    """
    for name, target in settings.targets.items():
        wake(warehouse, name, target, now=now)


def newest_change(warehouse: Warehouse, day: date) -> int:
    """The newest change that touched a day; see `finish_day`."""
    with warehouse.read() as connection:
        return changed_seq(connection, warehouse.account, day)


def finish_day(
    warehouse: Warehouse, settings: Settings, day: date, *, target: str | None = None, seen: int | None = None
) -> bool:
    """Marks a day as done if it is: everything mapped, built, and settled with every target. Returns whether it is.

    All is read in the transaction that marks it, so a change that lands meanwhile leaves the day due. With several
    targets a day is done when each of them has gone through it since its newest change, in whatever order and run.

    Args:
        warehouse: The warehouse.
        settings: The settings.
        day: The visit day.
        target: The target that has just gone through the day, if one has.
        seen: `newest_change` from before it did: a change that came since may be news for it.
    """
    with warehouse.begin() as connection:
        seq = changed_seq(connection, warehouse.account, day)
        if seq == 0:
            return True
        stand = (seq, fingerprint(settings))
        if seen not in (None, seq) or not _is_built(warehouse, connection, settings, day):
            return False
        if not _is_delivered(warehouse, connection, settings, day, stand, target):
            return False
        mark_built(warehouse, connection, day, *stand)
    return True


def _is_built(warehouse: Warehouse, connection: sa.Connection, settings: Settings, day: date) -> bool:
    """Whether there are notes and documents of everything that landed."""
    return not (
        notes_due(connection, warehouse.account, day, mapping_fingerprint(settings))
        or documents_due(connection, warehouse.account, day, mapping_version(settings))
    )


def _is_delivered(
    warehouse: Warehouse,
    connection: sa.Connection,
    settings: Settings,
    day: date,
    stand: tuple[int, str],
    target: str | None,
) -> bool:
    """Whether every target is done with a day as it stands; notes that `target` has gone through it."""
    still_open = {name for name in settings.targets if _is_open(warehouse, connection, name, day)}
    if len(settings.targets) <= 1:
        return not still_open
    gone_through = _delivered(warehouse, connection, day)
    if target is not None and target not in still_open and gone_through.get(target) != stand:
        row = {"account": warehouse.account, "target": target, "visit_day": day}
        row |= {"delivered_seq": stand[0], "delivered_with": stand[1]}
        warehouse.upsert(connection, delivered_days, [row])
        gone_through[target] = stand
    return not still_open and all(gone_through.get(name) == stand for name in settings.targets)


def _is_open(warehouse: Warehouse, connection: sa.Connection, target: str, day: date) -> bool:
    """Whether another run has something to do for a day on a target.

    What was sent to a target that cannot be asked waits for a person, and so do later versions of that note: no run
    can help, so the day counts as done. Whoever settles it makes the day due again.
    """
    other = deliveries.alias()
    waits_for_a_person = sa.exists().where(
        other.c.target == deliveries.c.target,
        other.c.note_id == deliveries.c.note_id,
        other.c.state == State.UNKNOWN,
        other.c.reason == CANNOT_BE_ASKED,
    )
    resting = sa.and_(deliveries.c.state.in_((State.PLANNED, State.UNKNOWN)), waits_for_a_person)
    query = sa.select(deliveries.c.note_id).where(
        deliveries.c.account == warehouse.account,
        deliveries.c.target == target,
        deliveries.c.visit_day == day,
        deliveries.c.state.in_(_UNDER_WAY),
        ~resting,
    )
    return connection.execute(query.limit(1)).first() is not None


def _delivered(warehouse: Warehouse, connection: sa.Connection, day: date) -> dict[str, tuple[int, str]]:
    table = delivered_days.c
    query = sa.select(table.target, table.delivered_seq, table.delivered_with).where(
        table.account == warehouse.account, table.visit_day == day
    )
    return {row.target: (row.delivered_seq, row.delivered_with) for row in connection.execute(query)}
