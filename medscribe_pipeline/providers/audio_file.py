"""Which local files of the visits manifest may be sent to a provider, and how one is read so that it is still the same.

A manifest is data from outside: a path in it must not lead out of the folder that was set aside for recordings, nor
to anything that is no recording. A file is known by its size and SHA-256 from the moment it is wanted; if another one
lies there when it is sent, nothing, or no complete request, leaves.

File names may name a patient: no error holds one, and the provider is told another.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from medscribe_pipeline.errors import MedscribeError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["AudioFile", "AudioFileError", "OpenAudio", "inspect_audio", "open_audio"]

CHUNK = 1 << 16
"""Bytes read at once."""

_HEAD = 4096
"""Bytes looked at to tell the type: an EBML header may have padding before the document type."""


@dataclass(frozen=True, slots=True)
class _Type:
    media_type: str
    container: str


# The vendor's list: wav, mp3, mp4, m4a, ogg, webm, flac.
_TYPES = {
    ".wav": _Type("audio/wav", "wav"),
    ".mp3": _Type("audio/mpeg", "mp3"),
    ".mp4": _Type("audio/mp4", "mp4"),
    ".m4a": _Type("audio/mp4", "mp4"),
    ".ogg": _Type("audio/ogg", "ogg"),
    ".webm": _Type("audio/webm", "webm"),
    ".flac": _Type("audio/flac", "flac"),
}


class AudioFileError(MedscribeError):
    """A local file that cannot be sent; the code says why.

    `audio_folder` (none set, or not there), `audio_outside` (not in it), `audio_missing`, `audio_unreadable`,
    `audio_not_a_file`, `audio_empty`, `audio_too_large`, `audio_type` (name or content is not of a documented type,
    or the two disagree), `audio_changed` (not the file it was).
    """

    default_code = "audio_unreadable"


@dataclass(frozen=True, slots=True)
class AudioFile:
    """A file that may be sent, as it was when looked at.

    Attributes:
        path: Relative to the audio folder, with `/`, so that the folder may move.
        size: In bytes.
        sha256: Hex.
    """

    path: str
    size: int
    sha256: str

    @property
    def extension(self) -> str:
        """With its dot, lower case."""
        return Path(self.path).suffix.lower()

    @property
    def media_type(self) -> str:
        """Of the extension."""
        return _TYPES[self.extension].media_type


def _problem(code: str, message: str) -> AudioFileError:
    return AudioFileError(message, code=code, field_paths=("audio_path",))


def inspect_audio(folder: Path | None, path: str, max_bytes: int) -> AudioFile:
    """Checks a file and takes its measure; reads it once from end to end.

    Args:
        folder: The audio folder; `None` when none is set.
        path: From the manifest; relative to the folder, or absolute and in it.
        max_bytes: Largest size allowed.

    Raises:
        AudioFileError: It cannot be sent.
    """
    relative, file = _open(folder, path)
    with file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise _problem("audio_empty", "The audio file is empty.")
        if size > max_bytes:
            raise _problem("audio_too_large", "The audio file is larger than MAX_FILE_BYTES allows.")
        kind = _TYPES.get(Path(relative).suffix.lower())
        if kind is None or _container(_read(file, _HEAD)) != kind.container:
            raise _problem(
                "audio_type", "The audio file is not of a type the provider takes, or not what its name says."
            )
        return AudioFile(relative, size, _digest(file, size))


@contextmanager
def open_audio(folder: Path | None, wanted: AudioFile) -> Iterator[OpenAudio]:
    """Opens a file for sending, if it is still the one that was looked at.

    Raises:
        AudioFileError: It is not, or cannot be read.
    """
    _, file = _open(folder, wanted.path)
    with file:
        if os.fstat(file.fileno()).st_size != wanted.size or _digest(file, wanted.size) != wanted.sha256:
            raise _changed()
        yield OpenAudio(file, wanted)


class OpenAudio:
    """An open file that gives its bytes as often as asked, and notices when they change between looking and sending.

    Args:
        file: Open for reading bytes.
        wanted: What it must be.
    """

    def __init__(self, file: BinaryIO, wanted: AudioFile) -> None:
        self._file = file
        self._wanted = wanted

    def chunks(self) -> Iterator[bytes]:
        """The bytes from the beginning.

        Raises:
            AudioFileError: After the last byte, and so before a request is complete: they were not the ones wanted.
        """
        digest = hashlib.sha256()
        for chunk in _chunks(self._file, self._wanted.size):
            digest.update(chunk)
            yield chunk
        if digest.hexdigest() != self._wanted.sha256:
            raise _changed()


def _changed() -> AudioFileError:
    return _problem("audio_changed", "The audio file is not the one it was when the job was wanted.")


def _open(folder: Path | None, path: str) -> tuple[str, BinaryIO]:
    """Opens a regular file in the folder; also says what it is called there."""
    root = _resolved(folder) if folder is not None else None
    if root is None:
        raise _problem("audio_folder", "No audio folder is set, or it is not there.")
    target = _resolved(root / path)
    if target is None:
        raise _problem("audio_missing", "The audio file is not there.")
    if not target.is_relative_to(root):
        raise _problem("audio_outside", "The audio file does not lie in the audio folder.")
    # Asked before it is opened: opening a pipe would wait for somebody to write to it.
    if not target.is_file():
        raise _problem("audio_not_a_file", "The audio path does not lead to a regular file.")
    file: BinaryIO | None = None
    # The error would quote the path, so nothing is raised while it is being handled. Unbuffered: pieces are large.
    with contextlib.suppress(OSError):
        file = target.open("rb", buffering=0)
    if file is None:
        raise _problem("audio_unreadable", "The audio file cannot be read.")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise _problem("audio_not_a_file", "The audio path does not lead to a regular file.")
    return target.relative_to(root).as_posix(), file


def _resolved(path: Path) -> Path | None:
    """Without links and dots; `None` where nothing is (or a circle of links, or a name no file can have)."""
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        return path.resolve(strict=True)
    return None


def _read(file: BinaryIO, size: int) -> bytes:
    data: bytes | None = None
    with contextlib.suppress(OSError):
        data = file.read(size)
    if data is None:
        raise _problem("audio_unreadable", "The audio file cannot be read.")
    return data


def _chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """All of a file, if it is of that size."""
    file.seek(0)
    left = size
    # One byte more than expected is asked for at the end, so that growth shows.
    while chunk := _read(file, min(CHUNK, left + 1)):
        left -= len(chunk)
        if left < 0:
            break
        yield chunk
    if left != 0:
        raise _changed()


def _digest(file: BinaryIO, size: int) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(file, size):
        digest.update(chunk)
    return digest.hexdigest()


def _container(head: bytes) -> str | None:
    """What a file is by its first bytes."""
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"fLaC":
        return "flac"
    if head[:4] == b"OggS":
        return "ogg"
    if head[4:8] == b"ftyp":
        return "mp4"
    if head[:4] == b"\x1a\x45\xdf\xa3":  # EBML, which Matroska uses too
        return "webm" if b"webm" in head else None
    return "mp3" if head[:3] == b"ID3" or _is_mpeg_frame(head) else None


def _is_mpeg_frame(head: bytes) -> bool:
    """Whether it begins with the header of an MPEG layer III frame (ISO 11172-3, 2.4.1.3)."""
    if len(head) < 3 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:  # noqa: PLR2004  # the sync word
        return False
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bitrate, sampling = head[2] >> 4, head[2] >> 2 & 3
    # Layer III is written 1; 0 is reserved, and what ADTS (AAC) has there.
    return version != 1 and layer == 1 and bitrate != 15 and sampling != 3  # noqa: PLR2004  # reserved values
