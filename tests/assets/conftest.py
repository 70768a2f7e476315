"""Fixtures of this room: a clinic, an instance in memory, and what pytest must not mind about Dagster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from tests.synced import DAGSTER_ON_PYDANTIC, clinic, empty_clinic

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["clinic", "empty_clinic"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", DAGSTER_ON_PYDANTIC)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance in memory."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made
