"""Fixtures of the job ledger: a provider on loopback, and a warehouse on SQLite or on both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.medscribe_pipeline.providers.jobs.job_shop import Shop, Vendor, open_warehouse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.medscribe_pipeline.providers.scripted_server import FakeClock, ScriptedServer


@pytest.fixture
def vendor(server: ScriptedServer) -> Vendor:
    vendor = Vendor()
    server.responder = vendor
    return vendor


@pytest.fixture
def shop(tmp_path: Path, server: ScriptedServer, vendor: Vendor, clock: FakeClock) -> Iterator[Shop]:
    with open_warehouse(f"sqlite:///{tmp_path / 'warehouse.sqlite'}", tmp_path) as warehouse:
        yield Shop(warehouse, server.url, vendor, clock)


@pytest.fixture
def shop_anywhere(
    database_url: str, tmp_path: Path, server: ScriptedServer, vendor: Vendor, clock: FakeClock
) -> Iterator[Shop]:
    """The same on either database."""
    with open_warehouse(database_url, tmp_path) as warehouse:
        yield Shop(warehouse, server.url, vendor, clock)
