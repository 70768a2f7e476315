"""Against other servers of the same APIs, by settings alone, the pipeline reaches the same notes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.sandbox import World
from tests.end_to_end.command import Medscribe, is_quiet
from tests.end_to_end.other_servers import other_servers
from tests.end_to_end.states import KINDS, tables_of, value_of, warehouse_state
from tests.end_to_end.trap import CORPUS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.end_to_end.conftest import Undisturbed
    from tests.end_to_end.other_servers import OtherServers
    from tests.end_to_end.states import Row

pytestmark = pytest.mark.timeout(300)


def test_other_servers_yield_the_same_notes(tmp_path: Path, undisturbed: Undisturbed) -> None:
    world = World(CORPUS)
    with other_servers(world) as (servers, settings):
        medscribe = Medscribe(tmp_path, settings)
        medscribe.import_visits(world)

        first = medscribe.sync()
        state = warehouse_state(medscribe.database)
        filed = contents(servers.filed.values())
        writes = servers.writes
        second = medscribe.sync()

    assert (first.code, second.code) == (0, 0)
    for table in ("notes", "note_sections", "transcripts", "fhir_documents", "visit_days"):
        assert state[table] == undisturbed.first[table], table
    assert states_of(state["deliveries"]) == states_of(undisturbed.first["deliveries"])
    assert filed == contents(undisturbed.first["EHR"])
    assert is_quiet(second)
    assert servers.writes == writes


def test_changes_reach_an_ehr_that_tells_no_versions(tmp_path: Path) -> None:
    world = World(CORPUS)
    with other_servers(world) as (servers, settings):
        medscribe = Medscribe(tmp_path, settings)
        medscribe.import_visits(world)
        medscribe.sync()
        before = dict(servers.filed)
        note, archived = askara_notes_in(servers, medscribe)[:2]
        world.edit_note(note["source_id"], "Plan:\nA second look, qxcanary.")
        world.archive(world.records("notes")[archived["source_id"]]["audio"])

        ended = medscribe.sync()

    changed = {key: each for key, each in servers.filed.items() if each != before.get(key)}
    retracted = [each for each in changed.values() if value_of(each) == archived["note_id"]]
    assert ended.code == 0
    assert servers.filed.keys() == before.keys()
    assert {value_of(each) for each in changed.values()} == {note["note_id"], archived["note_id"]}
    assert any("A second look" in str(each) for each in changed.values())
    assert [each["status"] for each in retracted] == ["entered-in-error"] * 2


def contents(resources: Iterable[Row]) -> list[Row]:
    """Resources without what only their server knows."""
    bare = [
        {**each, "id": None, "meta": {**each["meta"], "versionId": None, "lastUpdated": None}} for each in resources
    ]
    return sorted(bare, key=repr_of)


def repr_of(resource: Row) -> str:
    """The same text for the same content, whatever the order of its parts."""
    return repr(sorted(resource.items(), key=lambda part: part[0]))


def states_of(rows: Iterable[Row]) -> list[tuple[Any, ...]]:
    """What the ledger says, without what an EHR with versions has told it."""
    return sorted((row["note_id"], row["kind"], row["state"], row["reason"] or "") for row in rows)


def askara_notes_in(servers: OtherServers, medscribe: Medscribe) -> list[Row]:
    """Rows of the notes that are filed, each with both of its resources, one an audio."""
    filed = {value_of(each) for each in servers.filed.values()}
    rows = [row for row in tables_of(medscribe.database)["notes"] if row["provider"] == "askara"]
    assert len(servers.filed) == len(KINDS) * len(filed)
    parents = {row["source_id"]: row["parent_id"] for row in tables_of(medscribe.database)["source_records"]}
    only = [parent for parent in parents.values() if list(parents.values()).count(parent) == 1]
    return [row for row in rows if row["note_id"] in filed and parents[row["source_id"]] in only]
