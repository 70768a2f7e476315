"""What a delivery would do: the notes that would leave, and how they differ from what is on the target. Writes nothing.

The target is only asked: for what it is, for what an earlier version has left there, and for what is there although
this warehouse has forgotten it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from medscribe_pipeline.ehr.comparing import differences, same_version
from medscribe_pipeline.ehr.day_view import load_day
from medscribe_pipeline.ehr.delivery import known_obstacles, leaving, open_server
from medscribe_pipeline.ehr.documents import NOTHING, load_documents
from medscribe_pipeline.ehr.fitting import Unfit
from medscribe_pipeline.ehr.ledger import Key, State
from medscribe_pipeline.ehr.obstacles import Places, find_obstacles, fit_note
from medscribe_pipeline.ehr.plan import decide, standing_copies
from medscribe_pipeline.ehr.sending import Shipment
from medscribe_pipeline.ehr.strategies.looking import seek
from medscribe_pipeline.ehr.strategies.steps import PROVENANCE, is_replacement, replaces_in_place
from medscribe_pipeline.warehouse.store import in_chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import date, datetime

    from medscribe_pipeline.ehr.client import FhirClient, Found
    from medscribe_pipeline.ehr.day_view import DayView
    from medscribe_pipeline.ehr.dispatch import Server
    from medscribe_pipeline.settings import EhrSettings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["Change", "Planned", "preview_day"]

BATCH = 100

Change = Literal["create", "update", "new_document", "retract"]


@dataclass(frozen=True, slots=True)
class Planned:
    """One note version that a delivery would look at.

    Attributes:
        note_id: The note.
        change: What sending it would do; `None` where it would not be sent.
        kinds: The documents that would be sent.
        reason: Why it would be held, if so.
        in_doubt: An earlier request may have arrived: the target would be asked before anything is sent.
        already_there: The target holds this very version.
        differences: Element paths, by what is sent, that the target lacks or holds otherwise.
        before: What the target holds, by kind. Patient data.
        after: What would be sent, by kind. Patient data.
    """

    note_id: str
    change: Change | None
    kinds: tuple[str, ...] = ()
    reason: str | None = None
    in_doubt: bool = False
    already_there: bool = False
    differences: tuple[str, ...] = ()
    before: Mapping[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    after: Mapping[str, dict[str, Any]] = field(default_factory=dict, repr=False)


def preview_day(
    warehouse: Warehouse,
    client: FhirClient,
    settings: EhrSettings,
    day: date,
    *,
    clock: Callable[[], datetime],
) -> Iterator[Planned]:
    """What delivering a visit day would do now: the notes that would leave, would be held anew, or are in doubt.

    Notes that stand where they should are not among them. What is looked up of people and places is remembered, as a
    delivery remembers it; nothing else is written anywhere.

    Args:
        warehouse: Notes, documents and ledger.
        client: The target.
        settings: Its settings.
        day: The visit day.
        clock: The current time, aware UTC.

    Raises:
        ConfigError, Retriable, Deferred: The target cannot be asked.
    """
    view = load_day(warehouse, settings.target, day)
    server = open_server(client, settings, lambda _name: None)
    going = leaving(view, server.rules)
    obstacles, places = find_obstacles(warehouse, client, settings, server.capabilities, going, clock=clock)
    waiting = {entry.key.note_id for entry in view.current() if entry.state is State.UNKNOWN}
    yield from (Planned(note_id, None, in_doubt=True) for note_id in sorted(waiting))
    yield from _held(view, server, obstacles, set(going) | waiting)
    sent = sorted(set(going) - obstacles.keys() - waiting)
    for chunk in in_chunks(sent, BATCH):
        with warehouse.read() as connection:
            documents = load_documents(connection, chunk, server.capabilities.kinds)
        for note_id in chunk:
            version, built, _ = documents.get(note_id, NOTHING)
            if version == view.facts[note_id].version:
                yield _planned(view, server, places, note_id, built)


def _held(view: DayView, server: Server, obstacles: Mapping[str, str], seen: set[str]) -> Iterator[Planned]:
    """Notes that would be held, and were not for this reason before."""
    before = known_obstacles(view)
    for note_id in sorted(obstacles):
        yield Planned(note_id, None, reason=obstacles[note_id])
    for note in view.facts.values():
        if note.note_id in seen:
            continue
        entries = view.entries.get(note.note_id, ())
        decisions = decide(view.target, note, entries, server.rules, before.get(note.note_id))
        reason = next((each.reason for each in decisions if each.key.version == note.version and each.reason), None)
        if reason is not None:
            yield Planned(note.note_id, None, reason=reason)


def _planned(
    view: DayView, server: Server, places: Places, note_id: str, built: Mapping[str, dict[str, Any]]
) -> Planned:
    note = view.facts[note_id]
    entries = view.entries.get(note_id, [])
    own = next((entry for entry in entries if entry.key.version == note.version), None)
    key = Key(view.target, note_id, note.version)
    standing, of_version = standing_copies(entries, key)
    documents = {kind: each for kind, each in built.items() if own is None or kind in own.copies}
    fitted = fit_note(note_id, documents, server.capabilities, places)
    if isinstance(fitted, Unfit):
        return Planned(note_id, None, reason=fitted.reason)
    done = own.done if own is not None and own.state is not State.DELIVERED else {}
    shipment = Shipment(key, fitted, standing or None, of_version, done)
    there = {kind: found for kind in fitted if (found := _held_by(server, shipment, kind)) is not None}
    paths = [
        path
        for kind, resource in fitted.items()
        if kind not in done
        for path in ([kind] if kind not in there else differences(kind, resource, there[kind].resource))
    ]
    same = bool(fitted) and all(kind in there and _is_same(kind, fitted[kind], there[kind]) for kind in fitted)
    return Planned(
        note_id,
        _change(server, fitted, there),
        tuple(kind for kind in fitted if kind not in done),
        already_there=same,
        differences=tuple(paths),
        before={kind: found.resource for kind, found in there.items()},
        after=fitted,
    )


def _held_by(server: Server, shipment: Shipment, kind: str) -> Found | None:
    """What the target holds of a document: by the id the ledger knows, or by the identifier of the note."""
    resource = shipment.resources[kind]
    copy = shipment.done.get(kind) or (shipment.standing or {}).get(kind)
    if copy is not None and copy.server_id and server.capabilities.read:
        return server.client.read(resource["resourceType"], copy.server_id)
    sought = seek(server.client, server.capabilities, kind, resource)
    return sought.there or sought.other


def _is_same(kind: str, sent: dict[str, Any], found: Found) -> bool:
    return kind == PROVENANCE or bool(same_version(sent, found.resource))


def _change(server: Server, fitted: Mapping[str, dict[str, Any]], there: Mapping[str, Found]) -> Change:
    documents = [kind for kind in fitted if kind != PROVENANCE]
    if any(fitted[kind].get("status") == "entered-in-error" for kind in documents):
        return "retract"
    if not any(kind in there for kind in documents):
        return "create"
    beside = any(
        kind in there
        and is_replacement(kind, server.capabilities)
        and not replaces_in_place(fitted[kind], kind, server.capabilities)
        for kind in documents
    )
    return "new_document" if beside else "update"
