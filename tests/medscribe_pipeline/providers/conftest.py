"""Fixtures of this room: a scripted server on loopback, a clock that moves only when told to, clients for both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.medscribe_pipeline.providers.scripted_oauth import AuthMaker, FileStore
from tests.medscribe_pipeline.providers.scripted_server import ClientMaker, FakeClock, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    yield scripted
    scripted.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def make_client(server: ScriptedServer, clock: FakeClock) -> Iterator[ClientMaker]:
    maker = ClientMaker(server, clock)
    yield maker
    maker.close()


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path)


@pytest.fixture
def make_auth(server: ScriptedServer, store: FileStore, clock: FakeClock) -> Iterator[AuthMaker]:
    maker = AuthMaker(server, store, clock)
    yield maker
    maker.close()
