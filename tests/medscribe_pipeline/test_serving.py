"""The end of a server: nothing that was begun is lost, and nothing is left behind."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
import uvicorn

from medscribe_pipeline.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send

LARGE = b"x" * 8_000_000


async def answer(send: Send, body: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def served(app: ASGIApp) -> Iterator[tuple[Serving, str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app,
            loop="asyncio",
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=20,
        )
        serving = Serving(config, listener, "served")
        assert serving.start()
        host, port = listener.getsockname()
        try:
            yield serving, host, port
        finally:
            serving.stop()


def is_refused(host: str, port: int) -> bool:
    with socket.socket() as again:
        return again.connect_ex((host, port)) != 0


def test_an_idle_connection_is_closed_and_nothing_listens_any_longer() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, b"here")

    with served(app) as (serving, host, port), httpx.Client() as client:
        assert client.get(f"http://{host}:{port}").content == b"here"
        serving.stop()
        assert not serving.is_running
        assert is_refused(host, port)
        with pytest.raises(httpx.ConnectError):
            client.get(f"http://{host}:{port}")
        serving.stop()


def test_what_is_being_answered_is_answered() -> None:
    begun = threading.Event()
    go_on = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        loops.append(asyncio.get_running_loop())
        begun.set()
        await go_on.wait()
        await answer(send, b"late")

    with served(app) as (serving, host, port), httpx.Client() as client, ThreadPoolExecutor(2) as pool:
        answered = pool.submit(client.get, f"http://{host}:{port}")
        assert begun.wait(10)
        stopped = pool.submit(serving.stop)
        while not is_refused(host, port):
            assert not answered.done()
        loops[0].call_soon_threadsafe(go_on.set)
        assert answered.result(10).content == b"late"
        stopped.result(10)
        assert not serving.is_running


def test_the_rest_of_an_answer_reaches_a_slow_reader() -> None:
    """All of it is written, to the server's own buffers, when the stop comes."""
    written = threading.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, LARGE)
        written.set()

    with served(app) as (serving, host, port), ThreadPoolExecutor(1) as pool:
        with socket.create_connection((host, port)) as reader:
            reader.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            begin = reader.recv(1000)
            assert written.wait(10)
            stopped = pool.submit(serving.stop)
            while not is_refused(host, port):
                pass
            got = begin + b"".join(iter(lambda: reader.recv(1_000_000), b""))
        stopped.result(10)
        assert not serving.is_running
    assert got.partition(b"\r\n\r\n")[2] == LARGE
