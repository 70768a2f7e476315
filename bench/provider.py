"""A server of AudioScribe sessions: `python -m bench.provider NOTES [small|full]` prints its port and serves.

Pages of 100 at `/api/v1/audioscribe/sessions/?page=0`; with `sections=list`, each session has its text as a list of
sections instead of as one text. `/requests` says how many pages were asked for since it was asked last. It is a process
of its own and spends as little as it can, so that what is measured is the one who asks.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

from bench.sessions import Pages, Size

__all__ = ["serve"]

_PAGE = re.compile(rb"[?&]page=(\d+)")
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"


class _Sessions:
    """What there is to ask for."""

    def __init__(self, notes: int, size: Size) -> None:
        self._as_text = Pages(notes, size)
        self._as_list = Pages(notes, size, sections=True)
        self._requests = 0

    def answer(self, path: bytes) -> bytes:
        if path.startswith(b"/requests"):
            asked, self._requests = self._requests, 0
            return b"%d" % asked
        self._requests += 1
        page = _PAGE.search(path)
        pages = self._as_list if b"sections=list" in path else self._as_text
        return pages[int(page[1]) if page else 0]


class _Connection(asyncio.Protocol):
    """One connection: one request after the other, none of which has a body."""

    def __init__(self, sessions: _Sessions) -> None:
        self._sessions = sessions
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps what answers are written to."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answers all requests that are there."""
        *requests, self._buffer = (self._buffer + data).split(b"\r\n\r\n")
        for request in requests:
            body = self._sessions.answer(request.split(b" ", 2)[1])
            if self._transport is not None and not self._transport.is_closing():
                self._transport.write(_ANSWER % (len(body), body))


async def serve(notes: int, size: Size) -> None:
    """Serves on loopback until the process is ended; prints the port."""
    sessions = _Sessions(notes, size)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(sessions), "127.0.0.1", 0, backlog=256)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), cast("Size", sys.argv[2] if len(sys.argv) > 2 else "small")))  # noqa: PLR2004 - the second argument
