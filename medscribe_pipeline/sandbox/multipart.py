"""Reads `multipart/form-data` (RFC 7578) as it arrives: fields are kept, files are counted and hashed and let go.

An upload may be a hundred megabytes; nothing of a file is held longer than the piece that arrived.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from email.message import Message
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["FilePart", "FormReader", "MultipartError", "boundary_of"]

_MAX_HEADERS = 8192
_MAX_FIELD = 65_536
_MAX_PARTS = 100
_BREAK = b"\r\n\r\n"


class MultipartError(Exception):
    """The body is no form, or larger than a form has reason to be. Fixed text."""


@dataclass(slots=True)
class FilePart:
    """A file that was uploaded: what is known of it without having it."""

    filename: str
    content_type: str
    size: int = 0
    digest: _Hash = field(default_factory=hashlib.sha256)


def boundary_of(content_type: str) -> bytes | None:
    """The boundary of a form; `None` when it is none.

    >>> boundary_of('multipart/form-data; boundary="x y"')
    b'x y'
    """
    message = Message()
    message["content-type"] = content_type
    boundary = message.get_boundary()
    return boundary.encode() if message.get_content_type() == "multipart/form-data" and boundary else None


class FormReader:
    """Takes a body in pieces of any size.

    Attributes:
        fields: Text parts by name; of several, the last.
        files: Parts with a file name, by the part's name.
    """

    def __init__(self, boundary: bytes) -> None:
        self.fields: dict[str, str] = {}
        self.files: dict[str, FilePart] = {}
        self._delimiter = b"\r\n--" + boundary
        # The first boundary has no line before it.
        self._buffer = b"\r\n"
        self._name: str | None = None
        self._part: FilePart | bytearray | None = None
        self._in_headers = False
        self._is_whole = False
        self._parts = 0

    def feed(self, piece: bytes) -> None:
        """Takes the next piece.

        Raises:
            MultipartError: Not a form, or too many parts, or a field or a part's headers too long.
        """
        self._buffer += piece
        while not self._is_whole and (self._read_headers() if self._in_headers else self._read_content()):
            pass
        if self._is_whole:
            self._buffer = b""

    def close(self) -> None:
        """Says that nothing more comes.

        Raises:
            MultipartError: The last boundary has not been seen.
        """
        if not self._is_whole:
            raise MultipartError("the form ends too early")

    def _read_content(self) -> bool:
        """Reads up to the next boundary; `False` when more has to arrive first."""
        at = self._buffer.find(self._delimiter)
        if at < 0:
            # The end of what is here may be the beginning of a boundary.
            keep = len(self._delimiter) - 1
            if len(self._buffer) > keep:
                self._take(self._buffer[:-keep])
                self._buffer = self._buffer[-keep:]
            return False
        after = self._buffer[at + len(self._delimiter) :]
        if len(after) < len(b"--"):
            return False
        self._take(self._buffer[:at])
        self._end_part()
        if after.startswith(b"--"):
            self._is_whole = True
        elif after.startswith(b"\r\n"):
            # The line break stays: without headers it is half of the empty line that ends them.
            self._in_headers, self._buffer = True, after
        else:
            raise MultipartError("a boundary is followed by something")
        return True

    def _read_headers(self) -> bool:
        head, found, rest = self._buffer.partition(_BREAK)
        if len(head) > _MAX_HEADERS:
            raise MultipartError("the headers of a part are too long")
        if not found:
            return False
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise MultipartError("too many parts")
        self._begin_part(head.decode("utf-8", "replace"))
        # The next boundary may follow at once, with the line break before it the one that ended the headers.
        self._in_headers, self._buffer = False, rest
        return True

    def _begin_part(self, head: str) -> None:
        message = Message()
        for line in head.strip().split("\r\n"):
            field_name, _, value = line.partition(":")
            message[field_name.strip() or "x-empty"] = value.strip()
        name = message.get_param("name", header="content-disposition")
        if not isinstance(name, str):
            raise MultipartError("a part has no name")
        filename = message.get_filename()
        self._name = name
        self._part = bytearray() if filename is None else FilePart(filename, message.get_content_type())

    def _take(self, content: bytes) -> None:
        if isinstance(self._part, FilePart):
            self._part.size += len(content)
            self._part.digest.update(content)
        elif self._part is not None:
            self._part += content
            if len(self._part) > _MAX_FIELD:
                raise MultipartError("a field is too long")

    def _end_part(self) -> None:
        if self._name is None:
            return
        if isinstance(self._part, FilePart):
            self.files[self._name] = self._part
        elif self._part is not None:
            self.fields[self._name] = bytes(self._part).decode("utf-8", "replace")
        self._name = self._part = None
