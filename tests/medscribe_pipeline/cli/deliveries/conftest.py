from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.ehr.ledger import State
from medscribe_pipeline.settings import Settings
from tests.medscribe_pipeline.ehr.clinic import Clinic, note
from tests.medscribe_pipeline.ehr.fake_ehr import FakeEhr, ehr
from tests.medscribe_pipeline.ehr.standings import place

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from medscribe_pipeline.ehr import ledger

__all__ = ["ehr"]


@pytest.fixture
def clinic(home: Path, ehr: FakeEhr, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clinic]:
    """A warehouse the command finds, and an EHR."""
    assert home
    for name, value in {
        "BASE_URL": ehr.base_url,
        "RECONCILE_AFTER_S": "0",
        "MAX_ATTEMPTS": "1",
        "BACKOFF_S": "0",
        "TIMEOUT_S": "5",
    }.items():
        monkeypatch.setenv(f"MEDSCRIBE_EHR_{name}", value)
    monkeypatch.setattr("medscribe_pipeline.warehouse.audit.current_user", lambda: "alice")
    clinic = Clinic(Settings.load(), ehr.base_url)
    yield clinic
    clinic.close()


@pytest.fixture
def mixed(clinic: Clinic) -> dict[str, ledger.Key]:
    """One version in each state a person meets."""
    clinic.write(*(note(number) for number in range(1, 6)))
    return {
        "rejected": place(clinic, note(1), State.REJECTED, codes=("422", "value", "Composition.date")),
        "unknown": place(clinic, note(2), State.UNKNOWN),
        "delivered": place(clinic, note(3), State.DELIVERED),
        "held": place(clinic, note(4), State.HELD),
        "planned": place(clinic, note(5), State.PLANNED, target="store"),
    }
