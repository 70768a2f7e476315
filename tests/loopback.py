"""An HTTP server of the standard library on loopback, in a thread of this process: what fake servers stand on."""

from __future__ import annotations

import threading
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler

__all__ = ["Loopback"]


class Loopback:
    """Serves from the start until `close`. `url` is where, without a path."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends it; requests under way are not waited for."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
