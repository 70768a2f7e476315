"""Storing events: each once, all of a body or none, in the order of commits, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from medscribe_pipeline.notes import canonical_json
from medscribe_pipeline.providers.inbox_store import (
    Event,
    conclude,
    oldest_open,
    open_events,
    postpone,
    read_event,
    store_event,
    store_events,
    waiting_since,
)
from medscribe_pipeline.warehouse.tables import change_counter, inbox
from tests.databases import NOW, landing_for, record, rows_of
from tests.medscribe_pipeline.receiver.letterbox import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse


@pytest.fixture
def warehouse(make_settings: Callable[..., Settings], database_url: str) -> Iterator[Warehouse]:
    with prepare(make_settings(warehouse_url=database_url)) as opened:
        yield opened


def stored(warehouse: Warehouse) -> list[dict[str, Any]]:
    return sorted(rows_of(warehouse, inbox), key=lambda row: row["seq"])


def event(event_id: str | None, payload: Any = None) -> Event:
    return Event("askara", "new_note", event_id, {"id": event_id} if payload is None else payload, verified=False)


def test_an_event_is_new_once(warehouse: Warehouse) -> None:
    facts = ("nabla", "callback", "e-1", {"id": "j-1"}, True)

    assert [store_event(warehouse, *facts, NOW + timedelta(minutes=each)) for each in range(3)] == [True, False, False]
    (row,) = stored(warehouse)
    assert (row["deliveries"], row["received_at"], row["verified"], row["account"]) == (3, NOW, True, "default")


def test_an_event_without_an_id_is_named_by_its_content(warehouse: Warehouse) -> None:
    fresh = store_events(
        warehouse, [event(None, {"a": 1, "b": 2}), event(None, {"b": 2, "a": 1}), event(None, {})], now=NOW
    )

    assert fresh == [True, False, True]
    assert [row["deliveries"] for row in stored(warehouse)] == [2, 1]


@pytest.mark.parametrize("odd", ["", "a\x00b", "line\nbreak", "x" * 256])
def test_an_id_that_cannot_be_a_key_is_none(warehouse: Warehouse, odd: str) -> None:
    store_events(warehouse, [event(odd, {"n": 1}), event(odd, {"n": 2})], now=NOW)

    assert [len(row["event_id"]) for row in stored(warehouse)] == [64, 64]


@pytest.mark.parametrize("event_id", ["n-1", "x" * 255])
def test_the_same_id_with_another_content_gets_a_row_of_its_own(warehouse: Warehouse, event_id: str) -> None:
    for _ in range(2):
        store_events(warehouse, [event(event_id, {"text": text}) for text in ("one", "two", "three")], now=NOW)

    rows = stored(warehouse)
    assert [row["payload"]["text"] for row in rows] == ["one", "two", "three"]
    assert [row["deliveries"] for row in rows] == [2, 2, 2]


def test_events_of_two_providers_may_have_one_id(warehouse: Warehouse) -> None:
    for provider in ("askara", "nabla"):
        assert store_event(warehouse, provider, "callback", "1", {}, False, NOW)


def test_all_of_a_body_or_none(warehouse: Warehouse) -> None:
    def refuse(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("INSERT INTO inbox") and "bad" in repr(parameters):
            raise ZeroDivisionError

    sa.event.listen(warehouse.engine, "before_cursor_execute", refuse)
    with pytest.raises(ZeroDivisionError):
        store_events(warehouse, [event("good"), event("bad")], now=NOW)

    assert stored(warehouse) == []
    assert [row["value"] for row in rows_of(warehouse, change_counter)] == [0]


def test_numbers_rise_in_one_line_with_landing(warehouse: Warehouse) -> None:
    store_events(warehouse, [event("1"), event("2")], now=NOW)
    landing_for(warehouse).land([record("a")], [], None, now=NOW)
    store_events(warehouse, [event("1"), event("3")], now=NOW)

    assert [(row["event_id"], row["seq"]) for row in stored(warehouse)] == [("1", 1), ("2", 2), ("3", 4)]


def test_many_writers_at_once(warehouse: Warehouse) -> None:
    batches = [[event(str(number)), event(str(number + 1))] for number in range(40)]
    with ThreadPoolExecutor(6) as pool:
        fresh = list(pool.map(lambda batch: store_events(warehouse, batch, now=NOW), batches))

    rows = stored(warehouse)
    assert sum(map(sum, fresh)) == len(rows) == 41
    assert sum(row["deliveries"] for row in rows) == 80
    assert [row["seq"] for row in rows] == list(range(1, 42))


names = st.one_of(st.none(), st.sampled_from(["a", "b", "a/b"]), st.text(max_size=8))
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-9, 9), st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
)
payloads = st.one_of(st.dictionaries(st.text("ab\x00", max_size=2), leaves, max_size=2), st.lists(leaves, max_size=2))


@given(st.lists(st.lists(st.tuples(names, payloads), max_size=4), max_size=4))
@example([[("a", [True, False]), ("a", [1, 0])]])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_comes_is_there_once_and_counted(
    warehouse: Warehouse, bodies: list[list[tuple[str | None, Any]]]
) -> None:
    with warehouse.begin() as connection:
        connection.execute(sa.delete(inbox))
    for body in bodies:
        store_events(warehouse, [event(*each) for each in body], now=NOW)

    def kept(payload: Any) -> bytes:
        return canonical_json(orjson.loads(canonical_json(payload).replace(b"\\u0000", "\ufffd".encode())))

    rows = stored(warehouse)
    assert sum(row["deliveries"] for row in rows) == sum(map(len, bodies))
    assert {canonical_json(row["payload"]) for row in rows} == {kept(payload) for body in bodies for _, payload in body}


def test_what_waits(warehouse: Warehouse) -> None:
    assert open_events(warehouse) == (0, 0)
    assert waiting_since(warehouse) is None
    for minute, name in enumerate(("a", "b", "c", "d")):
        store_events(warehouse, [event(name)], now=NOW + timedelta(minutes=minute))
    first, second, third, _ = [row.key for row in oldest_open(warehouse, 10)]

    postpone(warehouse, second, "unreachable")
    with warehouse.begin() as connection:
        conclude(connection, warehouse, first, code=None, now=NOW)
        conclude(connection, warehouse, third, code="not_a_note", now=NOW)

    assert open_events(warehouse) == (2, 4)
    assert waiting_since(warehouse) == NOW + timedelta(minutes=1)
    assert [(row.key.event_id, row.attempts) for row in oldest_open(warehouse, 10)] == [("d", 0), ("b", 1)]
    assert [row.key.event_id for row in oldest_open(warehouse, 1)] == ["d"]
    assert read_event(warehouse, second) == {"id": "b"}


def test_what_is_done_is_done(warehouse: Warehouse) -> None:
    store_events(warehouse, [event("a")], now=NOW)
    (row,) = oldest_open(warehouse, 1)
    with warehouse.begin() as connection:
        conclude(connection, warehouse, row.key, code=None, now=NOW)
    before = stored(warehouse)
    postpone(warehouse, row.key, "late")
    with warehouse.begin() as connection:
        conclude(connection, warehouse, row.key, code="late", now=NOW + timedelta(minutes=1))

    assert stored(warehouse) == before


def test_other_accounts_are_not_seen(warehouse: Warehouse, make_settings: Callable[..., Settings]) -> None:
    store_events(warehouse, [event("a")], now=NOW)
    url = warehouse.engine.url.render_as_string(hide_password=False)
    with type(warehouse).open(make_settings(warehouse_url=url, account="elsewhere"), migrate=False) as other:
        assert open_events(other) == (0, 0)
        assert store_events(other, [event("a")], now=NOW) == [True]
        assert open_events(other)[0] == 1
    assert open_events(warehouse)[0] == 1


def test_the_sensor_asks_one_question_an_index_answers(warehouse: Warehouse) -> None:
    asked: list[str] = []
    sa.event.listen(warehouse.engine, "before_cursor_execute", lambda *args: asked.append(args[2]))
    open_events(warehouse)

    asked = [statement for statement in asked if statement != "BEGIN"]
    assert len(asked) == 1
    if warehouse.engine.dialect.name == "sqlite":
        with warehouse.read() as connection:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {asked[0]}", (0, "default")).all()
        assert "ix_inbox_open" in str(plan)
