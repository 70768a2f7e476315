"""`medscribe preview`: one note as a page for a browser, with its codes, its status and whether it goes out."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.cli.show import find_note
from medscribe_pipeline.ehr import ledger
from medscribe_pipeline.ehr.day_view import load_facts
from medscribe_pipeline.ehr.ledger import State
from medscribe_pipeline.ehr.plan import (
    DOCUMENTS_MISSING,
    HELD_BY_SWITCH,
    NOT_VALIDATED,
    PATIENT_UNKNOWN,
    RETRACTED_BEFORE_DELIVERY,
    SUPERSEDED,
    hold_reason,
)
from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.fhir import BuildOptions, InvalidResource, build_documents, check
from medscribe_pipeline.fhir.coverage import Treatment, codes_of, safe_key
from medscribe_pipeline.fhir.preview import preview_html
from medscribe_pipeline.operation.reasons import SAYS
from medscribe_pipeline.warehouse.notes import read_notes
from medscribe_pipeline.warehouse.tables import notes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from medscribe_pipeline.ehr.day_view import NoteFacts
    from medscribe_pipeline.ehr.ledger import Entry
    from medscribe_pipeline.notes import NoteSection, ScribeNote
    from medscribe_pipeline.settings import EhrSettings, Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["Preview", "draw", "write_private"]

_STANDS = {
    State.DELIVERED: "Delivered: this version is in the EHR.",
    State.REJECTED: "Rejected: the EHR refused this version.",
    State.CLAIMED: "Being sent at this moment.",
    State.SENT: "Being sent at this moment.",
    State.UNKNOWN: "Sent, and nobody knows yet whether it arrived.",
    State.DISCARDED: "Discarded: somebody decided that this version is not sent.",
}
_SETTLED_OTHERWISE = (State.REJECTED, State.DISCARDED)
# If the note does not say so any more, neither does the ledger after the next delivery. All else the target says.
_TOLD_BY_THE_NOTE = (NOT_VALIDATED, PATIENT_UNKNOWN, RETRACTED_BEFORE_DELIVERY, SUPERSEDED, DOCUMENTS_MISSING)


@dataclass(frozen=True, slots=True)
class Preview:
    """A drawn note: the page, and what may be told of it on a terminal."""

    page: str
    facts: dict[str, Any]


def draw(settings: Settings, warehouse: Warehouse, name: str, *, transcript: bool) -> Preview:
    """Draws a note from the warehouse, built with the settings as they are now.

    Args:
        settings: The settings.
        warehouse: The open warehouse.
        name: Note id, or `provider:source_id`.
        transcript: Whether to show what was said.

    Raises:
        ConfigError: There is no such note.
        MedscribeError: It has no documents: it failed at its provider, is empty, or has no date.
    """
    options = BuildOptions.of(settings.fhir)
    with warehouse.read() as connection:
        note_id: str = find_note(connection, warehouse.account, name).note_id
        (mapped,) = read_notes(connection, [note_id], with_transcripts=transcript or options.transcripts)
        facts = load_facts(connection, notes.c.note_id == note_id)[note_id]
        listed = {
            target.target: ledger.entries(connection, target.target, [note_id]).get(note_id, [])
            for target in _targets(settings)
        }
    note = mapped.note
    delivery = _quarantined(note, options) or _deliveries(settings, facts, listed)
    page = preview_html(note, options, delivery=delivery, transcript=transcript)
    keys = [section.key for section in _every(note.sections)]
    unknown = {safe_key(key) for key in keys if codes_of(options.mapping, key).treatment is Treatment.UNKNOWN}
    return Preview(
        page,
        {
            "note_id": note_id,
            "state": note.state.value,
            "sections": len(keys),
            "unknown_keys": sorted(unknown),
            "delivery": delivery,
        },
    )


def write_private(path: Path, text: str, *, replace: bool) -> None:
    """Writes a file its owner alone may read, whole or not at all.

    Raises:
        ConfigError: There is such a file already and it is not to be replaced, or the folder cannot be written.
    """
    draft = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        if path.is_dir():
            raise ConfigError("--out is a folder; name a file in it", code="file_unwritable")
        if not replace and os.path.lexists(path):
            raise ConfigError("There is a file at --out already; --force replaces it", code="file_exists")
        # With its permissions from the start: nobody else may open it while it is written.
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text.encode())
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink()
        raise ConfigError(
            "The file at --out cannot be written; choose another folder", code="file_unwritable"
        ) from None


def _quarantined(note: ScribeNote, options: BuildOptions) -> str | None:
    """What a check of the documents finds: such a note goes nowhere, whatever its state."""
    try:
        for resource in build_documents(note, options).resources().values():
            check(resource, options.release)
    except InvalidResource as error:
        return f"Quarantined: a document breaks a rule of FHIR ({error.context['rules']})."
    return None


def _targets(settings: Settings) -> list[EhrSettings]:
    """Those that are delivered to; while there is none, what the ledger says of the first is shown."""
    return list(settings.targets.values()) or [settings.ehr]


def _deliveries(settings: Settings, note: NoteFacts, listed: Mapping[str, Sequence[Entry]]) -> str:
    """Whether the newest version goes out; to which target, where there are several."""
    told = {target.target: _delivery(target, note, listed[target.target]) for target in _targets(settings)}
    return " ".join(f"{name}: {sentence}" if len(told) > 1 else sentence for name, sentence in told.items())


def _delivery(target: EhrSettings, note: NoteFacts, listed: Sequence[Entry]) -> str:
    """Whether the newest version goes out, by the rules of the delivery and by what its ledger says."""
    own = next((entry for entry in listed if entry.key.version == note.version), None)
    if own is not None and own.state in _STANDS:
        return _STANDS[own.state]
    others = [entry for entry in listed if entry.state in _STANDS and entry.state not in _SETTLED_OTHERWISE]
    reason = hold_reason(note, maybe_there=bool(others))
    if reason is None and own is not None and own.state is State.HELD and own.reason not in _TOLD_BY_THE_NOTE:
        reason = own.reason
    if reason in (None, HELD_BY_SWITCH):
        reason = HELD_BY_SWITCH if target.hold_all else None
    if reason is not None:
        return f"Held: {SAYS.get(reason, reason)} ({reason})."
    return "Goes out with the next delivery." if target.enabled else "Could go out; no EHR is configured."


def _every(sections: Sequence[NoteSection]) -> Iterator[NoteSection]:
    for section in sections:
        yield section
        yield from _every(section.sections)
