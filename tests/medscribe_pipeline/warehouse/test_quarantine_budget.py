"""How much of a run may go to quarantine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.warehouse.quarantine_budget import QUARANTINE_BUDGET, QuarantineBudget

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.settings import Settings


@pytest.mark.parametrize(
    ("records", "quarantined", "fails"),
    [
        (3, 1, False),
        (0, 0, False),
        (10, 10, False),
        (11, 11, True),
        (200, 20, False),
        (200, 21, True),
        (5000, 499, False),
    ],
)
def test_a_share_and_a_floor(
    make_settings: Callable[..., Settings], records: int, quarantined: int, fails: bool
) -> None:
    budget = QuarantineBudget.of(make_settings())
    # A run is counted in parts: days, say.
    budget.spend(records=records - records // 2, quarantined=quarantined)
    budget.spend(records=records // 2, quarantined=0)

    assert budget.is_exceeded == fails


def test_a_run_over_budget_fails_with_its_counts(make_settings: Callable[..., Settings]) -> None:
    budget = QuarantineBudget.of(make_settings(quarantine_budget=0.5, quarantine_floor=0))
    budget.spend(records=4, quarantined=2)
    budget.check()
    budget.spend(records=0, quarantined=1)

    with pytest.raises(MedscribeError) as caught:
        budget.check()

    assert caught.value.code == QUARANTINE_BUDGET
    assert caught.value.context == {"records": 4, "quarantined": 3, "budget": 0.5}


def test_a_budget_of_one_never_fails(make_settings: Callable[..., Settings]) -> None:
    budget = QuarantineBudget.of(make_settings(quarantine_budget=1, quarantine_floor=0))
    budget.spend(records=50, quarantined=50)

    assert not budget.is_exceeded
