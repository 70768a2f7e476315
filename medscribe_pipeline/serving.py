"""Runs an ASGI app by uvicorn on a thread of its own, on a socket that listens already."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    import socket

    from uvicorn.server import ServerState

__all__ = ["Serving"]

_START_S = 10.0
_POLL_S = 0.005
# uvicorn cuts off what is left after its own time for that; the thread then needs a moment to end.
_SLACK_S = 2


class Serving:
    """A server that can be started once, and stopped.

    Args:
        config: What to serve and how; `timeout_graceful_shutdown` is how many seconds a stop waits for what is being
            answered.
        listener: Listens already; closed at the end.
        name: Name of the thread.
    """

    def __init__(self, config: uvicorn.Config, listener: socket.socket, name: str) -> None:
        self._server = uvicorn.Server(config)
        self._patience = config.timeout_graceful_shutdown or 0
        self._listener = listener
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def state(self) -> ServerState:
        """Its connections."""
        return self._server.server_state

    @property
    def is_running(self) -> bool:
        """Whether it still listens."""
        return self._thread.is_alive()

    def start(self) -> bool:
        """Returns when requests are taken; `False` if that never came to be."""
        self._thread.start()
        give_up_at = time.monotonic() + _START_S
        while not self._server.started:
            if time.monotonic() > give_up_at or not self._thread.is_alive():
                self.stop()
                return False
            time.sleep(_POLL_S)
        return True

    def stop(self) -> None:
        """Takes no more, and waits for what is being answered. Safe to call twice."""
        if self._loop is None:
            self._server.should_exit = True
        else:
            with suppress(RuntimeError):  # The loop is closed: it has ended already.
                self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(self._patience + _SLACK_S)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self._server.config.get_loop_factory()) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        ending = asyncio.create_task(self._ending.wait())
        await asyncio.wait((serving, ending), return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        self._server.should_exit = True
        if self._server.started and not self.state.tasks:
            await self._end_idle()
            serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving

    async def _end_idle(self) -> None:
        """Ends a server that answers nothing, at once.

        uvicorn itself looks ten times a second whether it is to end, and then takes a tenth of a second at least.
        """
        for each in self._server.servers:
            each.close()
        for connection in list(self.state.connections):
            connection.shutdown()
        give_up_at = time.monotonic() + self._patience
        # The last bytes of an answer may be on their way still. uvicorn tells nobody when a connection is gone.
        while self.state.connections and time.monotonic() < give_up_at:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)
