"""Fixtures of this room: a clinic, and what pytest must not mind about Dagster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.synced import DAGSTER_ON_PYDANTIC, empty_clinic

if TYPE_CHECKING:
    import pytest

__all__ = ["empty_clinic"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", DAGSTER_ON_PYDANTIC)
