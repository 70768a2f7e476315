"""Group commit: few transactions, everybody answered, nobody suffers for another."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from medscribe_pipeline.errors import MedscribeError, WarehouseTrouble
from medscribe_pipeline.providers.inbox_store import Event, store_events
from medscribe_pipeline.receiver import writer
from medscribe_pipeline.receiver.writer import EventWriter, hurry
from medscribe_pipeline.warehouse.tables import inbox
from tests.databases import NOW, rows_of
from tests.medscribe_pipeline.receiver.letterbox import prepare, receiver_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse


@pytest.fixture
def warehouse(make_settings: Callable[..., Settings]) -> Iterator[Warehouse]:
    with prepare(receiver_settings(make_settings)) as opened:
        yield opened


@pytest.fixture
def writing(warehouse: Warehouse) -> Iterator[EventWriter]:
    events = EventWriter(warehouse, lambda: NOW)
    yield events
    events.close()


def event(number: int | str) -> Event:
    return Event("audioscribe", "session", str(number), {"id": number}, verified=False)


class Gate:
    """Holds the first transaction until it is opened, and counts all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, refuse: str | None = None) -> None:
        self.batches: list[int] = []
        self.reached = threading.Event()
        self.opened = threading.Event()

        def gated(warehouse: Warehouse, events: Sequence[Event], *, now: datetime) -> list[bool]:
            self.batches.append(len(events))
            self.reached.set()
            assert self.opened.wait(10)
            if refuse in {each.event_id for each in events}:
                raise MedscribeError("A statement failed", code="warehouse_statement")
            return store_events(warehouse, events, now=now)

        monkeypatch.setattr(writer, "store_events", gated)


def test_what_arrives_during_a_commit_shares_the_next(
    warehouse: Warehouse, writing: EventWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    futures = [writing.submit([event(0)])]
    assert gate.reached.wait(10)
    futures += [writing.submit([event(number), event(-number)]) for number in range(1, 100)]
    gate.opened.set()

    answers = [future.result(10) for future in futures]

    assert answers == [[True], *[[True, True]] * 99]
    assert gate.batches == [1, 198]
    rows = rows_of(warehouse, inbox)
    assert sorted(row["seq"] for row in rows) == list(range(1, 200))


def test_one_that_cannot_be_stored_is_told_alone(
    warehouse: Warehouse, writing: EventWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch, refuse="bad")
    futures = [writing.submit([event(each)]) for each in (0, 1, "bad", 2)]
    gate.opened.set()

    assert [isinstance(future.exception(10), MedscribeError) for future in futures] == [False, False, True, False]
    assert {row["event_id"] for row in rows_of(warehouse, inbox)} == {"0", "1", "2"}


def test_an_error_nobody_expected_answers_everybody(writing: EventWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    def trip(*_: Any, **__: Any) -> list[bool]:
        raise LookupError("qxcanary")

    monkeypatch.setattr(writer, "store_events", trip)
    futures = [writing.submit([event(number)]) for number in range(3)]

    for future in futures:
        error = future.exception(10)
        assert isinstance(error, MedscribeError)
        assert error.code == "event"
        assert "qxcanary" not in str(error)


def test_who_has_stopped_waiting_is_not_stored(
    warehouse: Warehouse, writing: EventWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    first = writing.submit([event(0)])
    assert gate.reached.wait(10)
    gone, kept = writing.submit([event(1)]), writing.submit([event(2)])
    assert gone.cancel()
    gate.opened.set()

    assert first.result(10) == kept.result(10) == [True]
    with pytest.raises(CancelledError):
        gone.result(10)
    assert {row["event_id"] for row in rows_of(warehouse, inbox)} == {"0", "2"}


def test_closing_writes_what_waits(warehouse: Warehouse) -> None:
    writing = EventWriter(warehouse, lambda: NOW)
    futures = [writing.submit([event(number)]) for number in range(50)]
    writing.close()

    assert all(future.done() for future in futures)
    assert len(rows_of(warehouse, inbox)) == 50


def test_a_lock_is_waited_for_only_so_long(warehouse: Warehouse, make_settings: Callable[..., Settings]) -> None:
    settings = receiver_settings(make_settings)
    with type(warehouse).open(settings, migrate=False) as other:
        hurry(other, 0.2)
        writing = EventWriter(other, lambda: NOW)
        with warehouse.begin():
            error = writing.submit([event(1)]).exception(10)
        after = writing.submit([event(1)]).result(10)
        writing.close()

    assert isinstance(error, WarehouseTrouble)
    assert error.code == "warehouse_locked"
    assert after == [True]


@pytest.mark.parametrize("seconds", [0.2, 3.0])
def test_the_wait_is_set_on_every_connection(
    database_url: str, make_settings: Callable[..., Settings], seconds: float
) -> None:
    with prepare(make_settings(warehouse_url=database_url)) as warehouse:
        hurry(warehouse, seconds)
        name = "PRAGMA busy_timeout" if warehouse.engine.dialect.name == "sqlite" else "SHOW lock_timeout"
        for _ in range(2):
            with warehouse.read() as connection:
                found = connection.scalar(sa.text(name))
            assert found in (int(seconds * 1000), f"{int(seconds * 1000)}ms", f"{int(seconds)}s")
            warehouse.engine.dispose()
