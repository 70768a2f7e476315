"""A second sync moves what changed since the first, and nothing else."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.sandbox import advance
from tests.end_to_end.command import is_quiet
from tests.end_to_end.states import KINDS, tables_of, value_of, whole_state

if TYPE_CHECKING:
    from medscribe_pipeline.sandbox import Sandbox, World
    from tests.end_to_end.command import Medscribe
    from tests.end_to_end.conftest import Undisturbed
    from tests.end_to_end.trap import Trap

pytestmark = pytest.mark.timeout(300)

AUDIOS, NOTES = "GET /askara/audios", "GET /askara/notes"
SESSIONS = "GET /audioscribe/api/v1/audioscribe/sessions/"
STREAMS = ("audios", "notes", "sessions")


def test_nothing_changed_so_nothing_is_written_or_sent(medscribe: Medscribe, trap: Trap) -> None:
    medscribe.sync()
    before = tables_of(medscribe.database)
    trap.reset()

    ended = medscribe.sync()

    after = tables_of(medscribe.database)
    assert is_quiet(ended)
    assert after == before
    # A look at each list, where nothing tells what changed at the whole of it, and no record by itself; no EHR.
    assert set(trap.requests) == {AUDIOS, NOTES, SESSIONS}
    # Three pages, and the empty one after them.
    assert trap.requests[SESSIONS] == 4
    assert trap.requests.total() <= 10


def test_a_day_passes_and_only_what_changed_moves(
    medscribe: Medscribe, sandbox: Sandbox, undisturbed: Undisturbed
) -> None:
    medscribe.sync()
    before, filed_before, world_before = tables_of(medscribe.database), filed(sandbox), records(sandbox.world)
    advance(sandbox.world)
    medscribe.import_visits(sandbox.world)

    medscribe.sync()

    after = tables_of(medscribe.database)
    changed = changed_keys(world_before, records(sandbox.world))
    landed = changed_keys(by_stream(before), by_stream(after))
    assert landed == changed
    # Of the notes that were there, only those that changed, or whose audio did, were touched at all.
    due = changed["notes"] | changed["sessions"]
    due |= {key for key, note in sandbox.world.records("notes").items() if note["audio"] in changed["audios"]}
    assert {key for key, row in notes(after).items() if row != notes(before).get(key)} <= due
    # What was filed and is not due is in the EHR as it was, down to the time it was stored at.
    due_ids = {notes(after)[key]["note_id"] for key in due if key in notes(after)}
    untouched = {key: each for key, each in filed_before.items() if key[1] not in due_ids}
    assert untouched
    assert untouched.items() <= filed(sandbox).items()
    assert whole_state(medscribe.database, sandbox) == undisturbed.second


def test_changes_of_what_was_filed_are_new_versions_of_the_same_resources(
    medscribe: Medscribe, sandbox: Sandbox, trap: Trap
) -> None:
    medscribe.sync()
    first = filed(sandbox)
    edited, archived, *_ = delivered_askara_notes(medscribe, sandbox)
    session = delivered_session(medscribe)
    sandbox.world.edit_note(edited["source_id"], "Plan:\nRest, qxcanary, and a second look.")
    sandbox.world.edit_session(session["source_id"], "Plan:\nNothing new, qxcanary.")
    sandbox.world.archive(sandbox.world.records("notes")[archived["source_id"]]["audio"])
    sandbox.world.touch(next(iter(sandbox.world.records("audios"))))
    trap.reset()

    medscribe.sync()

    second = filed(sandbox)
    assert second.keys() == first.keys()
    moved = {key for key in second if second[key] != first[key]}
    assert moved == {(kind, row["note_id"]) for kind in KINDS for row in (edited, session, archived)}
    assert {(second[key]["id"] == first[key]["id"], second[key]["meta"]["versionId"]) for key in moved} == {(True, "2")}
    assert "second look" in str(second["Composition", edited["note_id"]])
    assert (statuses(first, edited), statuses(second, edited)) == ({"current", "final"}, {"current", "amended"})
    assert statuses(second, archived) == {"entered-in-error"}
    assert trap.requests["POST /fhir"] == 3


def records(world: World) -> dict[str, dict[str, Any]]:
    """A copy of all the providers hold, without what is so damaged that it never lands."""
    items = asdict(copy.deepcopy(world.items))
    return {name: {key: row for key, row in items[name].items() if "_defect" not in row} for name in STREAMS}


def changed_keys(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> dict[str, set[str]]:
    """By stream, the keys of what is new or different."""
    return {name: {key for key, row in after[name].items() if row != before[name].get(key)} for name in STREAMS}


def by_stream(tables: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """What has landed, by stream and key."""
    found: dict[str, dict[str, Any]] = {name: {} for name in STREAMS}
    for row in tables["source_records"]:
        found[row["stream"]][row["source_id"]] = (row["payload"], row["run_id"], row["fetched_at"])
    return found


def notes(tables: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """The table of notes, by the provider's key."""
    return {row["source_id"]: row for row in tables["notes"]}


def filed(sandbox: Sandbox) -> dict[tuple[str, str], dict[str, Any]]:
    """What the EHR holds, by resource type and note; it never holds two of one kind for a note."""
    resources = [(kind, each) for kind in KINDS for each in sandbox.fhir.resources(kind)]
    found = {(kind, value_of(each)): each for kind, each in resources}
    assert len(found) == len(resources)
    return found


def delivered_askara_notes(medscribe: Medscribe, sandbox: Sandbox) -> list[dict[str, Any]]:
    """Rows of notes in the EHR, each the only one of its audio."""
    audios = [note["audio"] for note in sandbox.world.records("notes").values()]
    return [
        row
        for row in delivered(medscribe, "askara")
        if audios.count(sandbox.world.records("notes")[row["source_id"]]["audio"]) == 1
    ]


def delivered_session(medscribe: Medscribe) -> dict[str, Any]:
    """The row of a session's note in the EHR."""
    return delivered(medscribe, "audioscribe")[0]


def delivered(medscribe: Medscribe, provider: str) -> list[dict[str, Any]]:
    """The rows of a provider's notes that are in the EHR."""
    tables = tables_of(medscribe.database)
    there = {row["note_id"] for row in tables["deliveries"] if row["state"] == "delivered"}
    return [row for row in tables["notes"] if row["note_id"] in there and row["provider"] == provider]


def statuses(resources: dict[tuple[str, str], dict[str, Any]], note: dict[str, Any]) -> set[str]:
    """The status of both resources of a note."""
    return {resources[kind, note["note_id"]]["status"] for kind in KINDS}
