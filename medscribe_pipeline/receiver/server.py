"""Runs the receiver: one port, no access log, an orderly end."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

import orjson
import uvicorn

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.receiver.app import STORE_S, receiver_app
from medscribe_pipeline.receiver.writer import EventWriter, hurry
from medscribe_pipeline.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["Receiver", "serve"]

# After SIGTERM: what is being answered is answered, then connections are cut. Supervisors often kill after 10 s.
STOP_S = 8
# A share of the slack below STORE_S is the commit itself.
LOCK_S = STORE_S - 0.5
# Connections, not events: beyond it uvicorn itself answers 503. Each costs some 50 kB.
MAX_CONNECTIONS = 1000


class Receiver:
    """The receiver as a context manager: it listens inside the block, on a thread of its own.

    Args:
        settings: The settings; `MEDSCRIBE_RECEIVER_PORT` 0 takes a free port.
        warehouse: Where events go. Only for the receiver: its waits for locks become short (see `writer.hurry`).
        clock: Gives the current time.
        monotonic: Seconds of a clock that never goes back.

    Raises:
        ConfigError: No secret is set (`receiver_secret`), or the port cannot be used (`receiver_port`).
    """

    def __init__(
        self,
        settings: Settings,
        warehouse: Warehouse,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        hurry(warehouse, LOCK_S)
        self._writer = EventWriter(warehouse, clock)
        self._app = receiver_app(settings, self._writer, clock=clock, monotonic=monotonic)
        self._host = settings.receiver.host
        self._port = settings.receiver.port
        self._serving: Serving | None = None

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Root of the receiver, by the address it listens on."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def is_running(self) -> bool:
        """Whether it still listens."""
        return self._serving is not None and self._serving.is_running

    def stop(self) -> None:
        """Takes no more, answers what it has begun to receive, writes what waits. Safe to call twice."""
        if self._serving is not None:
            self._serving.stop()
            self._serving = None
        self._writer.close()

    def _start(self) -> None:
        listener = _listen(self._host, self._port)
        self._port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            loop="asyncio",
            # Bounds what heads may cost; httptools, which is quicker, does not.
            http="h11",
            # Paths hold secrets, and nothing is to be learned from who is in front: a proxy.
            access_log=False,
            log_config=None,
            log_level="warning",
            proxy_headers=False,
            server_header=False,
            lifespan="off",
            ws="none",
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=STOP_S,
        )
        self._serving = Serving(config, listener, "medscribe-receiver")
        if not self._serving.start():
            self.stop()
            raise _cannot_listen()


def serve(
    receiver: Receiver,
    *,
    ready_file: Path | None = None,
    on_ready: Callable[[Receiver], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> None:
    """Runs a receiver in the foreground until Ctrl-C, SIGTERM or `stop`; returns normally then.

    Args:
        receiver: Not started yet.
        ready_file: JSON with `pid` and `url`, written once it listens and removed at the end.
        on_ready: Called once it listens.
        stop: Set from elsewhere to end it. Needed when this is not the main thread, where signals do not arrive.

    Raises:
        ConfigError: As `Receiver`; or it ended of its own accord (`receiver_port`).
    """
    ended = stop or threading.Event()
    with _signals(ended), receiver:
        try:
            if ready_file is not None:
                _write_ready(receiver, ready_file)
            on_ready(receiver)
            while not ended.wait(1.0):
                if not receiver.is_running:
                    raise _cannot_listen()
        finally:
            if ready_file is not None:
                ready_file.unlink(missing_ok=True)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # The protocol is named because asyncio turns Nagle's algorithm off only where it reads TCP on the socket.
        listener = socket.socket(family, kind, protocol or socket.IPPROTO_TCP)
    except OSError:
        raise _cannot_listen() from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise _cannot_listen() from None
    return listener


def _cannot_listen() -> ConfigError:
    return ConfigError(
        "The receiver cannot listen; check MEDSCRIBE_RECEIVER_HOST, MEDSCRIBE_RECEIVER_PORT and what else uses them",
        code="receiver_port",
    )


def _write_ready(receiver: Receiver, path: Path) -> None:
    # Whoever waits for the file must never read half of it.
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        draft.write_bytes(orjson.dumps({"pid": os.getpid(), "url": receiver.url}))
        draft.replace(path)
    except OSError:
        raise ConfigError("The receiver cannot write its ready file.", code="receiver_ready_file") from None


@contextmanager
def _signals(ended: threading.Event) -> Iterator[None]:
    """Turns Ctrl-C and SIGTERM into an orderly end, where signals arrive at all (the main thread)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted = (signal.SIGINT, signal.SIGTERM)
    former = {number: signal.signal(number, lambda *_: ended.set()) for number in wanted}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
