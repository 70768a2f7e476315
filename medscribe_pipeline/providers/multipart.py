"""A `multipart/form-data` body (RFC 7578) that is never in memory as a whole."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["FilePart", "Multipart", "multipart"]


@dataclass(frozen=True, slots=True)
class FilePart:
    """The part that is a file.

    Attributes:
        name: Name of the form field.
        filename: What the server is told the file is called; ours, never the name it has on disk.
        media_type: Its `Content-Type`.
        size: Its length in bytes.
        chunks: Gives its bytes from the beginning, at every call.
    """

    name: str
    filename: str
    media_type: str
    size: int
    chunks: Callable[[], Iterator[bytes]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Multipart:
    """What `HttpClient.request` wants to know: headers with type and length, and the body in pieces."""

    headers: dict[str, str]
    content: Callable[[], Iterator[bytes]]


def multipart(fields: Mapping[str, str], file: FilePart | None = None) -> Multipart:
    """Encodes text fields and at most one file, which comes last.

    Names of fields and file are constants of our own code, so there is nothing to quote in them.
    """
    # 128 random bits do not occur in the data by chance, and nobody who writes the data can know them.
    boundary = f"medscribe-{secrets.token_hex(16)}"
    head = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    if file is not None:
        head += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{file.name}"; filename="{file.filename}"\r\n'
            f"Content-Type: {file.media_type}\r\n\r\n"
        )
    opening = head.encode()
    closing = f"--{boundary}--\r\n".encode() if file is None else f"\r\n--{boundary}--\r\n".encode()

    def content() -> Iterator[bytes]:
        yield opening
        if file is not None:
            yield from file.chunks()
        yield closing

    length = len(opening) + (file.size if file else 0) + len(closing)
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Content-Length": str(length)}
    return Multipart(headers, content)
