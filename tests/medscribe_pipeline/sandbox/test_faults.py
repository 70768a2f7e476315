from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscribe_pipeline.sandbox import Fault, Faults
from medscribe_pipeline.sandbox.faults import FaultPlan


def _decide(
    plan: FaultPlan,
    request: str = "GET /askara/audios?",
    app: str = "askara",
    *,
    later: bool = True,
    exchange: bool = False,
    oauth: bool = True,
) -> Fault | None:
    return plan.decide(app, request, is_later_page=later, is_token_exchange=exchange, has_oauth_token=oauth)


@given(seed=st.integers(0, 10_000), in_a_row=st.integers(0, 4), probability=st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_nobody_meets_more_faults_in_a_row_than_agreed(seed: int, in_a_row: int, probability: float) -> None:
    plan = FaultPlan(Faults(seed=seed, probability=probability, in_a_row=in_a_row))

    row = 0
    for _ in range(60):
        row = row + 1 if _decide(plan) is not None else 0
        assert row <= in_a_row


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_the_order_of_different_requests_does_not_matter(seed: int) -> None:
    requests = [f"GET /askara/audios?page={n}" for n in range(8)]
    one, two = FaultPlan(Faults.all_on(seed)), FaultPlan(Faults.all_on(seed))

    first = {request: [_decide(one, request) for _ in range(3)] for request in requests}
    second: dict[str, list[Fault | None]] = {request: [] for request in requests}
    for _ in range(3):
        for request in reversed(requests):
            second[request].append(_decide(two, request))

    assert first == second


def test_all_on_means_every_kind() -> None:
    plan = FaultPlan(Faults.all_on(1))

    met = Counter(_decide(plan, str(n)) for n in range(2000))

    assert set(met) == {*Fault, None}
    assert 0.2 < 1 - met[None] / 2000 < 0.4


def test_another_seed_is_another_plan() -> None:
    one, two = ([_decide(FaultPlan(Faults(seed=seed)), str(n)) for n in range(50)] for seed in (1, 2))

    assert one != two


def test_a_token_exchange_never_loses_its_answer() -> None:
    plan = FaultPlan(Faults(probability=1, in_a_row=1000))

    met = {_decide(plan, str(n), exchange=True, later=False, oauth=False) for n in range(500)}

    assert met == {
        Fault.THROTTLED, Fault.THROTTLED_UNTIL, Fault.ERROR_500, Fault.UNAVAILABLE_503, Fault.CUT_BEFORE, Fault.SLOW,
    }  # fmt: skip


def test_a_fixed_token_is_never_refused_and_a_renewable_one_once_a_request() -> None:
    plan = FaultPlan(Faults.only(Fault.UNAUTHORIZED, in_a_row=9))

    assert [_decide(plan, oauth=False) for _ in range(3)] == [None] * 3
    assert [_decide(plan) for _ in range(3)] == [Fault.UNAUTHORIZED, None, None]


def test_page_faults_spare_the_first_page() -> None:
    for kind in (Fault.DUPLICATE_PAGE, Fault.SHIFTED_PAGES):
        plan = FaultPlan(Faults.only(kind))

        assert _decide(plan, "1", later=False) is None
        assert _decide(plan, "2", later=True) is kind


def test_only_the_named_apps_misbehave() -> None:
    plan = FaultPlan(Faults.only("error_500", apps=frozenset({"fhir"})))

    assert _decide(plan, app="askara") is None
    assert _decide(plan, app="fhir") is Fault.ERROR_500


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="no-such"):
        Faults.only("no-such")
