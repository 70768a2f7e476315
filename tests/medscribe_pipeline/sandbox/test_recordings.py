from __future__ import annotations

import io
import wave
from pathlib import Path

import pytest

from medscribe_pipeline.sandbox import CorpusOptions, Sandbox, World, advance
from medscribe_pipeline.sandbox.fates import Fate, fates_of
from medscribe_pipeline.sandbox.recordings import digest_of, sound


def _ordered(world: World, provider: str) -> list[dict[str, str]]:
    return [visit for visit in world.visits() if visit["provider"] == provider]


@pytest.mark.parametrize("provider", ["nabla", "intron"])
def test_each_provider_has_eight_with_mixed_fates(provider: str) -> None:
    world = World()

    visits = _ordered(world, provider)
    files = [recording["file"] for recording in world.items.recordings.values() if recording["provider"] == provider]

    assert len(visits) == len({visit["correlation_key"] for visit in visits}) == 8
    assert all(visit["audio_url"].startswith("https://audio.example.invalid/") for visit in visits)
    assert all(visit["patient_id"] in world.items.patients for visit in visits)
    assert {Fate.SLOW, Fate.FAILED} <= set().union(*(fates_of(file).hearing for file in files))
    assert sum(not fates_of(file) for file in files) >= 1


def test_all_that_is_in_the_script_of_a_demo_ends() -> None:
    files = [recording["file"] for recording in World().items.recordings.values()]

    fates = set().union(*(fates_of(file).hearing | fates_of(file).note for file in files))

    assert fates.isdisjoint({Fate.NEVER, Fate.UNRECOGNISED, Fate.GONE})


def test_a_day_brings_one_more_of_each() -> None:
    world = World()
    before = {visit["correlation_key"] for visit in world.visits()}

    report = advance(world)
    advance(world)

    new = [visit for visit in world.visits() if visit["correlation_key"] not in before]
    assert report["new_recordings"] == 2
    assert [visit["provider"] for visit in new if "audio_url" in visit] == ["nabla", "intron"] * 2
    assert world.visits() == _twice_advanced().visits()


def _twice_advanced() -> World:
    world = World()
    advance(world)
    advance(world)
    return world


def test_sound_files_are_valid_small_and_all_different(tmp_path: Path) -> None:
    folder = tmp_path / "audio"
    world = World(audio_folder=folder)

    paths = [Path(visit["audio_path"]) for visit in _ordered(world, "intron")]

    contents = {path.read_bytes() for path in paths}
    assert {path.parent for path in paths} == {folder}
    assert len(contents) == len(paths) == len(list(folder.iterdir())) == 8
    for content in contents:
        with wave.open(io.BytesIO(content)) as audio:
            assert (audio.getnframes(), audio.getframerate(), audio.getnchannels()) == (8000, 8000, 1)
    assert all("audio_url" in visit for visit in _ordered(world, "nabla")), "Nabla takes URLs only"


def test_a_sound_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    world = World(audio_folder=tmp_path)
    path = Path(_ordered(world, "intron")[0]["audio_path"])
    path.write_bytes(b"mine")

    world.visits()

    assert path.read_bytes() == b"mine"


def test_a_recording_is_known_by_its_content() -> None:
    world = World()
    recording = list(world.items.recordings.values())[5]

    assert world.recording_of(digest_of(recording)) == recording
    assert world.recording_of("0" * 64) is None
    assert sound(recording) == sound(recording)


def test_there_may_be_none() -> None:
    assert {visit["provider"] for visit in World(CorpusOptions(recordings=0)).visits()} == {"audioscribe"}


def test_the_environment_names_the_folder(tmp_path: Path) -> None:
    with Sandbox(audio_folder=tmp_path) as sandbox:
        assert sandbox.environment()["MEDSCRIBE_INTRON_AUDIO_FOLDER"] == str(tmp_path)
