"""The shared budget: no minute, wherever it begins, holds more calls than allowed, whoever makes them."""

from __future__ import annotations

import threading
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from medscribe_pipeline.warehouse.budgets import QUIET, RateBudget
from medscribe_pipeline.warehouse.locks import FileLocks
from medscribe_pipeline.warehouse.store import Warehouse, _create_engine
from medscribe_pipeline.warehouse.tables import rate_budgets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
MINUTE = timedelta(seconds=60)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def open_at(url: str, folder: Path) -> Warehouse:
    engine = _create_engine(sa.make_url(url))
    with engine.begin() as connection:
        rate_budgets.create(connection, checkfirst=True)
    return Warehouse(engine, account="default", locks=FileLocks(folder))


@pytest.fixture
def shared(database_url: str, tmp_path: Path) -> Iterator[Warehouse]:
    """A warehouse on either database with the one table this is about."""
    with open_at(database_url, tmp_path) as warehouse:
        yield warehouse


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    folder = tmp_path_factory.mktemp("budgets")
    with open_at(f"sqlite:///{folder / 'warehouse.sqlite'}", folder) as warehouse:
        yield warehouse


@pytest.fixture
def clock() -> Clock:
    return Clock()


def budget(warehouse: Warehouse, limit: int, clock: Clock, kind: str = "poll") -> RateBudget:
    return RateBudget(warehouse, "intron", kind, limit, clock=clock)


def test_a_burst_may_use_it_up_and_then_waits(shared: Warehouse, clock: Clock) -> None:
    first = budget(shared, 5, clock).take(3)
    clock.pass_by(10)
    second = budget(shared, 5, clock).take(3)
    third = budget(shared, 5, clock).take(1)

    assert first == (3, None)
    assert second == (2, clock.now + QUIET)
    assert third == (0, clock.now + QUIET)


def test_at_the_time_it_names_there_are_calls_again(shared: Warehouse, clock: Clock) -> None:
    wait_until = budget(shared, 5, clock).take(6).wait_until
    assert wait_until is not None

    clock.now = wait_until - timedelta(seconds=1)
    before = budget(shared, 5, clock).take(1)
    clock.now = wait_until

    assert (before.granted, budget(shared, 5, clock).take(5)) == (0, (5, None))


def test_kinds_providers_and_accounts_do_not_share(shared: Warehouse, clock: Clock) -> None:
    budget(shared, 1, clock).take(1)
    other_account = Warehouse(shared.engine, account="other", locks=shared.locks)

    assert budget(shared, 1, clock).take(1).granted == 0
    assert budget(shared, 1, clock, "submit").take(1).granted == 1
    assert RateBudget(shared, "nabla", "poll", 1, clock=clock).take(1).granted == 1
    assert budget(other_account, 1, clock).take(1).granted == 1


def test_what_was_sent_without_asking_is_paid_for_later(shared: Warehouse, clock: Clock) -> None:
    budget(shared, 5, clock).charge(7)

    assert budget(shared, 5, clock).take(1).granted == 0


def test_it_is_part_of_the_transaction_it_is_taken_in(shared: Warehouse, clock: Clock) -> None:
    with shared.engine.connect() as connection:
        assert budget(shared, 5, clock).take(5, connection).granted == 5
        connection.rollback()

    assert budget(shared, 5, clock).take(5).granted == 5


def test_a_clock_set_back_costs_a_wait_and_never_the_difference(shared: Warehouse, clock: Clock) -> None:
    budget(shared, 5, clock).take(5)
    clock.pass_by(-30)
    a_little = budget(shared, 5, clock).take(1)
    clock.pass_by(-86_400 * 365)

    assert (a_little.granted, budget(shared, 5, clock).take(1).granted) == (0, 1)


def test_many_at_once_get_no_more_than_there_is(shared: Warehouse, clock: Clock) -> None:
    granted: list[int] = []
    together = threading.Barrier(6)

    def take_some() -> None:
        together.wait(10)
        granted.extend(budget(shared, 20, clock).take(1).granted for _ in range(10))

    threads = [threading.Thread(target=take_some) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert (len(granted), sum(granted)) == (60, 20)


@settings(max_examples=40, deadline=None)
@given(limit=st.integers(1, 5), steps=st.lists(st.tuples(st.floats(0, 90), st.integers(1, 4)), min_size=5, max_size=40))
def test_no_minute_holds_more_calls_than_allowed(
    embedded: Warehouse, limit: int, steps: list[tuple[float, int]]
) -> None:
    clock, kind = Clock(), uuid.uuid4().hex
    calls: list[datetime] = []
    for seconds, asked in steps:
        clock.pass_by(seconds)
        grant = budget(embedded, limit, clock, kind).take(asked)
        calls += [clock.now] * grant.granted

        assert 0 <= grant.granted <= min(asked, limit)
        assert (grant.wait_until is None) == (grant.granted == asked)
        assert grant.wait_until is None or clock.now < grant.wait_until <= clock.now + QUIET

    assert all(sum(first <= call < first + MINUTE for call in calls) <= limit for first in calls)
