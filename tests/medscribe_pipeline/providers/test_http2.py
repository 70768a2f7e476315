"""HTTP/2 with a server that offers it over TLS; HTTP/1.1 with one that does not, or where a setting says so."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import h2.config
import h2.connection
import h2.events
import pytest
import trustme

from medscribe_pipeline.providers.http import HttpClient, Unsettled
from medscribe_pipeline.settings import EhrSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REQUESTS = 5


class _Server:
    """Answers every request with what it was sent, in the protocol that was agreed upon.

    Attributes:
        protocols: What was agreed, a connection each.
        resets: So many requests are taken and then broken off.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self.protocols: list[str | None] = []
        self.resets = 0
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with self._context.wrap_socket(plain, server_side=True) as connection:
            self.protocols.append(connection.selected_alpn_protocol())
            if self.protocols[-1] == "h2":
                self._speak_2(connection)
            else:
                self._speak_1(connection)

    def _speak_2(self, connection: ssl.SSLSocket) -> None:
        state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        state.initiate_connection()
        connection.sendall(state.data_to_send())
        bodies: dict[int, bytes] = {}
        while data := connection.recv(65_536):
            for event in state.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
                    state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded) and self.resets:
                    self.resets -= 1
                    state.reset_stream(event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    state.send_headers(event.stream_id, [(":status", "200"), ("content-type", "application/json")])
                    state.send_data(event.stream_id, _told(bodies.get(event.stream_id, b"")), end_stream=True)
            connection.sendall(state.data_to_send())

    def _speak_1(self, connection: ssl.SSLSocket) -> None:
        with connection.makefile("rb") as reader:
            while reader.readline():
                length = 0
                while (line := reader.readline().strip().lower()) != b"":
                    if line.startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                body = reader.read(length) or b"{}"
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def _told(body: bytes) -> bytes:
    """What came, or how much of it: a frame holds no more than 16 KiB."""
    return body if 0 < len(body) < 1_000 else json.dumps({"bytes": len(body)}).encode()


@contextmanager
def server(folder: Path, *protocols: str) -> Iterator[tuple[_Server, dict[str, Any]]]:
    ca = trustme.CA()
    ca_file = folder / "ca.pem"
    ca.cert_pem.write_to_path(ca_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(list(protocols))
    ca.issue_cert("127.0.0.1").configure_cert(context)
    running = _Server(context)
    try:
        yield running, {"base_url": running.url, "ca_file": ca_file, "connections": 1, "max_attempts": 1}
    finally:
        running.close()


@pytest.mark.parametrize(
    ("offered", "wanted", "spoken"),
    [
        (("h2", "http/1.1"), True, "h2"),
        (("http/1.1",), True, "http/1.1"),
        (("h2", "http/1.1"), False, "http/1.1"),
    ],
)
def test_what_both_sides_speak_is_spoken_over_one_connection(
    tmp_path: Path, clean_environment: Path, offered: tuple[str, ...], wanted: bool, spoken: str
) -> None:
    assert clean_environment
    with server(tmp_path, *offered) as (running, own):
        settings = EhrSettings(**own, http2=wanted)
        with HttpClient("ehr", running.url, settings, ca_file=settings.ca_file) as http:
            answers = [http.request("POST", "", json={"number": number}, repeat=False) for number in range(REQUESTS)]

    assert [answer.body for answer in answers] == [{"number": number} for number in range(REQUESTS)]
    assert running.protocols == [spoken]


def test_a_write_that_is_broken_off_may_have_been_carried_out(tmp_path: Path, clean_environment: Path) -> None:
    assert clean_environment
    with server(tmp_path, "h2") as (running, own):
        running.resets = 1
        settings = EhrSettings(**own, http2=True)
        with HttpClient("ehr", running.url, settings, ca_file=settings.ca_file) as http:
            with pytest.raises(Unsettled):
                http.request("POST", "", json={"large": "x" * 200_000}, repeat=False)
            again = http.request("POST", "", json={"large": "x" * 200_000}, repeat=False)

    assert again.body == {"bytes": len('{"large":""}') + 200_000}
