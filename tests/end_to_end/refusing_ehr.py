"""An EHR that refuses everything and talks too much: each answer quotes all it was sent."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200, {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"})

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["content-length"])).decode()
        quoted = f"{sent} {self.headers}"
        issue = {
            "severity": "error",
            "code": "invalid",
            "diagnostics": quoted,
            "expression": [quoted],
            "details": {"text": quoted},
        }
        self._answer(422, {"resourceType": "OperationOutcome", "text": {"div": quoted}, "issue": [issue]})

    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/fhir+json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def refusing_ehr() -> Iterator[str]:
    """Its base URL, while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/fhir"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
