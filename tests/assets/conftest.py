"""Fixtures of this room: a clinic, and Dagster jobs run in process on an instance of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from tests.synced import clinic, empty_clinic

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["clinic", "empty_clinic"]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance in memory."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made
