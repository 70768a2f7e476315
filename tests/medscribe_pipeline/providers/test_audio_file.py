from __future__ import annotations

import hashlib
import os
import traceback
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.providers.audio_file import AudioFileError, inspect_audio, open_audio
from tests.medscribe_pipeline.providers.intron_cases import CANARY, HEADS, WAV, write
from tests.medscribe_pipeline.providers.unopened import nothing_opens

if TYPE_CHECKING:
    from pathlib import Path

MAX = 100_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "audio"
    made.mkdir()
    return made


def refusal(folder: Path | None, path: str, max_bytes: int = MAX) -> AudioFileError:
    with pytest.raises(AudioFileError) as caught:
        inspect_audio(folder, path, max_bytes)
    assert caught.value.__context__ is None
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    return caught.value


@pytest.mark.parametrize("name", HEADS)
def test_every_documented_type_is_known_by_name_and_content(folder: Path, name: str) -> None:
    write(folder, name)

    audio = inspect_audio(folder, name, MAX)

    assert (audio.path, audio.size) == (name, len(HEADS[name]))
    assert audio.sha256 == hashlib.sha256(HEADS[name]).hexdigest()
    assert audio.media_type.startswith("audio/")


@pytest.mark.parametrize("content_of", HEADS)
@pytest.mark.parametrize("extension", [".wav", ".mp3", ".mp4", ".ogg", ".webm", ".flac", ".txt", ""])
def test_name_and_content_must_agree(folder: Path, content_of: str, extension: str) -> None:
    kind = content_of.partition(".")[2].replace("m4a", "mp4")
    if extension == f".{kind}":
        return
    write(folder, f"x{extension}", HEADS[content_of])

    assert refusal(folder, f"x{extension}").code == "audio_type"


@pytest.mark.parametrize(
    "content",
    [
        b"%PDF-1.7" + bytes(20),
        b"\xff\xf1\x50\x80" + bytes(20),  # AAC in ADTS
        b"\xff\xfb\xf0\x64" + bytes(20),  # no such bit rate
        b"\xff",
        b"RIFF\x00\x00\x00\x00AVI " + bytes(20),
        b"\x1a\x45\xdf\xa3\x42\x82\x88matroska",
    ],
)
@pytest.mark.parametrize("extension", [".wav", ".mp3", ".webm"])
def test_other_content_is_no_audio_whatever_it_is_called(folder: Path, content: bytes, extension: str) -> None:
    write(folder, f"x{extension}", content)

    assert refusal(folder, f"x{extension}").code == "audio_type"


def test_a_name_is_read_without_case_and_a_path_may_be_absolute(folder: Path) -> None:
    path = write(folder, "2026/03/X.WAV", WAV)

    assert inspect_audio(folder, str(path), MAX) == inspect_audio(folder, "2026/./03/X.WAV", MAX)
    assert inspect_audio(folder, str(path), MAX).path == "2026/03/X.WAV"


def test_what_leads_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    outside = write(tmp_path, f"{CANARY}.wav", WAV)
    (folder / "link.wav").symlink_to(outside)
    (folder / "dir").symlink_to(tmp_path)

    for path in (f"../{CANARY}.wav", str(outside), "link.wav", f"dir/{CANARY}.wav"):
        assert refusal(folder, path).code == "audio_outside"


def test_a_link_within_the_folder_is_the_file_it_leads_to(folder: Path) -> None:
    write(folder, "a.wav")
    (folder / "link.wav").symlink_to("a.wav")

    assert inspect_audio(folder, "link.wav", MAX).path == "a.wav"


def test_the_folder_itself_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    write(folder, "a.wav")
    (tmp_path / "linked").symlink_to(folder)

    assert inspect_audio(tmp_path / "linked", str(tmp_path / "linked/a.wav"), MAX).path == "a.wav"


def test_what_is_no_regular_file_is_refused_without_waiting_for_it(folder: Path) -> None:
    (folder / "d.wav").mkdir()
    os.mkfifo(folder / "pipe.wav")

    assert refusal(folder, "d.wav").code == "audio_not_a_file"
    assert refusal(folder, "pipe.wav").code == "audio_not_a_file"


@pytest.mark.parametrize("path", [f"{CANARY}.wav", "nul\0.wav", "x" * 5000, "circle.wav"])
def test_what_is_not_there_is_missing(folder: Path, path: str) -> None:
    (folder / "circle.wav").symlink_to("circle.wav")

    assert refusal(folder, path).code == "audio_missing"


def test_what_cannot_be_opened_is_unreadable(folder: Path) -> None:
    write(folder, f"{CANARY}.wav", WAV)

    with pytest.raises(AudioFileError) as caught, nothing_opens():
        inspect_audio(folder, f"{CANARY}.wav", MAX)

    assert caught.value.code == "audio_unreadable"
    assert caught.value.__context__ is None
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_a_folder_must_be_set_and_be_there(folder: Path) -> None:
    assert refusal(None, "a.wav").code == "audio_folder"
    assert refusal(folder / CANARY, "a.wav").code == "audio_folder"


def test_size_is_bounded_on_both_sides(folder: Path) -> None:
    write(folder, "a.wav")
    write(folder, "empty.wav", b"")

    assert inspect_audio(folder, "a.wav", len(WAV)).size == len(WAV)
    assert refusal(folder, "a.wav", len(WAV) - 1).code == "audio_too_large"
    assert refusal(folder, "empty.wav").code == "audio_empty"


@pytest.mark.parametrize("now", [WAV + b"x", WAV[:-1], WAV[:-1] + b"x"])
def test_a_file_that_changed_since_is_not_opened(folder: Path, now: bytes) -> None:
    write(folder, "a.wav")
    audio = inspect_audio(folder, "a.wav", MAX)
    write(folder, "a.wav", now)

    with pytest.raises(AudioFileError) as caught, open_audio(folder, audio):
        pass

    assert caught.value.code == "audio_changed"


@pytest.mark.parametrize("now", [WAV + b"x", WAV[:-1], WAV[:-1] + b"x"])
def test_a_change_while_it_is_read_shows_at_the_end_and_never_gives_more_bytes(folder: Path, now: bytes) -> None:
    path = write(folder, "a.wav")
    audio = inspect_audio(folder, "a.wav", MAX)
    given: list[bytes] = []

    with open_audio(folder, audio) as opened:
        path.write_bytes(now)
        with pytest.raises(AudioFileError) as caught:
            given.extend(opened.chunks())

    assert caught.value.code == "audio_changed"
    assert sum(map(len, given)) <= audio.size


def test_an_open_file_gives_its_bytes_as_often_as_asked(folder: Path) -> None:
    write(folder, "a.wav")
    audio = inspect_audio(folder, "a.wav", MAX)

    with open_audio(folder, audio) as opened:
        assert b"".join(opened.chunks()) == WAV
        assert b"".join(opened.chunks()) == WAV
