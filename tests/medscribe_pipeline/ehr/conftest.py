from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.medscribe_pipeline.ehr.clinic import Clinic
from tests.medscribe_pipeline.ehr.fake_ehr import FakeEhr, ehr
from tests.medscribe_pipeline.ehr.odd_ehr import OddEhr
from tests.medscribe_pipeline.ehr.shipping import Dock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from medscribe_pipeline.settings import Settings

__all__ = ["ehr"]


@pytest.fixture
def odd() -> Iterator[OddEhr]:
    server = OddEhr()
    yield server
    server.close()


@pytest.fixture
def clinic(make_settings: Callable[..., Settings], ehr: FakeEhr) -> Iterator[Clinic]:
    """On SQLite."""
    clinic = Clinic(make_settings(), ehr.base_url)
    yield clinic
    clinic.close()


@pytest.fixture
def any_clinic(make_settings: Callable[..., Settings], database_url: str, ehr: FakeEhr) -> Iterator[Clinic]:
    """On SQLite and on PostgreSQL."""
    clinic = Clinic(make_settings(warehouse_url=database_url), ehr.base_url)
    yield clinic
    clinic.close()


@pytest.fixture
def dock(odd: OddEhr) -> Iterator[Dock]:
    """A server with habits, and a client of it."""
    dock = Dock(odd)
    yield dock
    dock.close()
