"""A FHIR server that does nothing but answer: `python -m bench.answering DELAY_S` prints its port and serves.

Every write is a success, and is told so after the delay; nothing is kept. It is a process of its own and spends as
little as it can, so that what is measured is the one who asks.
"""

from __future__ import annotations

import asyncio
import re
import sys
from itertools import count

__all__ = ["serve"]

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_ENTRY = re.compile(rb'"request":\{"method":"(?:POST|PUT)","url":"([A-Za-z]+)')
_HEAD = b"HTTP/1.1 %s\r\nContent-Type: application/fhir+json\r\n%sContent-Length: %d\r\n\r\n%s"
_STATEMENT = b'{"resourceType":"CapabilityStatement","fhirVersion":"4.0.1","rest":[{"mode":"server"}]}'

_ids = count(1)


class _Connection(asyncio.Protocol):
    """One connection: one request after the other."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps what answers are written to."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answers a request when the whole of it is there."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self._buffer, 0, end + 2)
        size = end + 4 + (int(length[1]) if length else 0)
        if len(self._buffer) < size:
            return
        request = bytes(self._buffer[:size])
        del self._buffer[:size]
        if request.startswith(b"GET"):
            self._write(_HEAD % (b"200 OK", b"", len(_STATEMENT), _STATEMENT))
        else:
            asyncio.get_running_loop().call_later(self._delay_s, self._write, _answer(request, end + 4))

    def _write(self, answer: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)


def _answer(request: bytes, body_at: int) -> bytes:
    path = request.split(b" ", 2)[1].rstrip(b"/")
    kind = path.rpartition(b"/")[2]
    if kind[:1].isupper():
        place = b'Location: %s/b%d/_history/1\r\nETag: W/"1"\r\n' % (kind, next(_ids))
        return _HEAD % (b"201 Created", place, 0, b"")
    entries = b",".join(
        b'{"response":{"status":"201 Created","location":"%s/b%d/_history/1","etag":"W/\\"1\\""}}' % (each, next(_ids))
        for each in _ENTRY.findall(request, body_at)
    )
    body = b'{"resourceType":"Bundle","type":"transaction-response","entry":[%s]}' % entries
    return _HEAD % (b"200 OK", b"", len(body), body)


async def serve(delay_s: float) -> None:
    """Serves on loopback until the process is ended; prints the port."""
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(delay_s), "127.0.0.1", 0, backlog=256)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
