from __future__ import annotations

import sqlite3
from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.errors import Busy, ConfigError
from medscribe_pipeline.sandbox import CorpusOptions, World, advance
from medscribe_pipeline.sandbox.state import State

if TYPE_CHECKING:
    from pathlib import Path


def _audio_in(world: World, step: str) -> str:
    return next(key for key, audio in world.items.audios.items() if audio["step"] == step and "_defect" not in audio)


def test_a_generation_brings_a_bit_of_everything() -> None:
    world = World()

    report = advance(world)

    assert report["generation"] == world.generation == 1
    assert all(count > 0 for count in report.values())
    assert len(world.items.audios) == 60 + report["new_audios"]


def test_generations_depend_on_seed_and_number_alone() -> None:
    one, two, other = World(), World(), World(CorpusOptions(seed=8))

    for world in (one, two, other):
        advance(world)
        advance(world)

    assert asdict(one.items) == asdict(two.items)
    assert asdict(one.items) != asdict(other.items)


def test_what_happens_later_is_stamped_later() -> None:
    world = World()
    latest = max(audio["updatedAt"] for audio in world.items.audios.values())

    advance(world)

    changed = [audio for audio in world.items.audios.values() if audio["updatedAt"] > latest]
    assert len(changed) >= 6 + 4
    assert all(audio["updatedAt"] <= world.now.isoformat() for audio in changed)


def test_many_changes_between_two_days_do_not_outrun_the_next_day() -> None:
    world = World()
    key = _audio_in(world, "validated")
    for _ in range(1000):
        world.touch(key)
    before = set(world.items.audios)
    touched_at = world.items.audios[key]["updatedAt"]

    advance(world)

    new = [audio for key, audio in world.items.audios.items() if key not in before]
    assert all(audio["createdAt"] > touched_at for audio in new)


def test_a_sign_off_leaves_the_notes_alone() -> None:
    world = World()
    key = next(
        note["audio"] for note in world.items.notes.values() if world.items.audios[note["audio"]]["step"] == "edition"
    )
    notes = {k: dict(note) for k, note in world.items.notes.items()}
    before = world.items.audios[key]["updatedAt"]

    world.set_step(key, "validated")

    assert world.items.audios[key]["step"] == "validated"
    assert world.items.audios[key]["updatedAt"] > before
    assert world.items.notes == notes


def test_an_edited_note_touches_its_audio_and_an_edited_session_nothing_else() -> None:
    world = World()
    note = next(iter(world.items.notes.values()))
    session = dict(world.items.sessions["4010"])

    world.edit_note(note["uuid"], "qxcanary new")
    world.edit_session("4010")

    edited = world.items.notes[note["uuid"]]
    assert edited["content"] == "qxcanary new"
    assert edited["updatedAt"] == world.items.audios[note["audio"]]["updatedAt"] > note["createdAt"]
    assert world.items.sessions["4010"].pop("note").startswith(session.pop("note"))
    assert world.items.sessions["4010"] == session


def test_archive_restore_transcribe_delete_and_add() -> None:
    world = World()
    key, waiting = _audio_in(world, "validated"), _audio_in(world, "transcription")

    world.archive(key)
    archived_at = world.items.audios[key]["archivedAt"]
    world.restore(key)
    note = world.transcribe(waiting)
    world.delete("audios", key)
    session = world.add_session(title="qxcanary added")

    assert archived_at is not None
    assert key not in world.items.audios
    assert world.items.audios[waiting]["step"] == "transcribed"
    assert world.items.notes[note]["audio"] == waiting
    assert world.items.sessions[session]["id"] == 4041
    with pytest.raises(KeyError):
        world.archive(key)


def test_a_world_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    state = State(path)
    world = World(state=state)
    advance(world)
    world.edit_session("4010", "qxcanary edited")
    world.delete("sessions", "4011")
    state.close()

    state = State(path)
    again = World(state=state)
    state.close()

    assert asdict(again.items) == asdict(world.items)
    assert (again.generation, again.now) == (world.generation, world.now)


def test_a_day_that_fails_halfway_is_not_remembered_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.sqlite"
    state = State(path)
    world = World(state=state)
    before = asdict(world.items)
    # What a kill in the middle of the day amounts to: the transaction at its end never happens.
    monkeypatch.setattr(state, "save", lambda _: state.close())
    advance(world)

    monkeypatch.undo()
    state = State(path)
    again = World(state=state)
    state.close()

    assert asdict(again.items) == before
    assert again.generation == 0


def test_a_state_of_other_options_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    state = State(path)
    World(CorpusOptions(seed=1), state)

    with pytest.raises(ConfigError) as refused:
        World(CorpusOptions(seed=2), state)

    state.close()
    assert refused.value.code == "sandbox_state"


def test_two_sandboxes_cannot_share_a_state(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    first = State(path)

    with pytest.raises(Busy):
        State(path)

    first.close()
    State(path).close()


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to look at" * 40, None])
def test_a_file_that_is_no_state_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "other.sqlite"
    if content is None:
        path = tmp_path / "no such folder" / "state.sqlite"
    else:
        path.write_bytes(content)

    with pytest.raises(ConfigError):
        State(path)


def test_somebody_elses_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.sqlite"
    with sqlite3.connect(path) as theirs:
        theirs.execute("CREATE TABLE notes (id TEXT)")
    theirs.close()

    with pytest.raises(ConfigError):
        State(path)

    theirs = sqlite3.connect(path)
    tables = theirs.execute("SELECT name FROM sqlite_master").fetchall()
    theirs.close()
    assert tables == [("notes",)]
