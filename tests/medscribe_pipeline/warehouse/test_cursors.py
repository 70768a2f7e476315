"""Cursors as people see and move them, on both databases."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from medscribe_pipeline.warehouse.arrivals import Cursor
from medscribe_pipeline.warehouse.cursors import (
    BY_HAND,
    CursorRow,
    known_since,
    mark_complete,
    marked_enough,
    move_cursor,
    read_cursors,
)
from medscribe_pipeline.warehouse.tables import access_log, sync_cursor_history, sync_cursors
from tests.databases import NOW, landing_for, record, rows_of

if TYPE_CHECKING:
    from medscribe_pipeline.warehouse.store import Warehouse

EARLIER = NOW - timedelta(days=2)


def cursors(warehouse: Warehouse) -> dict[tuple[str, str], CursorRow]:
    with warehouse.read() as connection:
        return read_cursors(connection, warehouse.account)


def test_a_stream_read_to_its_end_is_remembered_beside_its_cursor(warehouse: Warehouse) -> None:
    landing_for(warehouse).land([], [], Cursor(EARLIER, "a9"), now=NOW)

    mark_complete(warehouse, "askara", "audios", until=NOW, now=NOW, run_id="run-1")
    mark_complete(warehouse, "audioscribe", "sessions", until=NOW, now=NOW, run_id="run-1")

    assert cursors(warehouse) == {
        ("askara", "audios"): CursorRow("askara", "audios", EARLIER, True, NOW, NOW),
        ("audioscribe", "sessions"): CursorRow("audioscribe", "sessions", complete_until=NOW),
    }
    # Landing goes on from its own cursor: the mark is none.
    assert landing_for(warehouse).cursor() == Cursor(EARLIER, "a9")


def test_an_older_reading_that_ends_later_takes_nothing_back(warehouse: Warehouse) -> None:
    mark_complete(warehouse, "askara", "audios", until=NOW, now=NOW, run_id=None)
    mark_complete(warehouse, "askara", "audios", until=EARLIER, now=NOW, run_id=None)

    assert cursors(warehouse)["askara", "audios"].complete_until == NOW


PARIS = ZoneInfo("Europe/Paris")


@pytest.mark.parametrize(
    ("marked", "until", "enough"),
    [
        (None, "2026-03-02T09:00", False),
        ("2026-03-02T09:00", "2026-03-02T09:00", True),
        ("2026-03-02T09:00", "2026-03-02T09:59", True),
        ("2026-03-02T09:00", "2026-03-02T10:00", False),
        ("2026-03-02T23:45", "2026-03-03T00:00", False),  # the day before has ended: now it is known to be whole
        ("2026-03-03T00:00", "2026-03-03T00:15", True),
        ("2026-03-03T00:00", "2026-03-02T23:45", True),
    ],
)
def test_a_mark_is_renewed_each_hour_and_when_a_day_has_ended(
    warehouse: Warehouse, marked: str | None, until: str, enough: bool
) -> None:
    def there(text: str) -> datetime:
        return datetime.fromisoformat(text).replace(tzinfo=PARIS)

    if marked:
        mark_complete(warehouse, "askara", "audios", until=there(marked), now=NOW, run_id=None)
    mark_complete(warehouse, "askara", "notes", until=there(until), now=NOW, run_id=None)

    assert marked_enough(warehouse, "askara", "audios", until=there(until), zone=PARIS) is enough


@pytest.mark.parametrize(
    ("to", "complete"),
    [(EARLIER, EARLIER), (NOW + timedelta(hours=1), NOW), (None, None)],
    ids=["back", "forwards", "reset"],
)
def test_a_cursor_is_moved_with_its_history_and_what_it_says_is_complete(
    warehouse: Warehouse, to: datetime | None, complete: datetime | None
) -> None:
    landing_for(warehouse).land([], [], Cursor(NOW - timedelta(hours=1), "a9"), now=NOW)
    mark_complete(warehouse, "askara", "audios", until=NOW, now=NOW, run_id="run-1")

    move_cursor(warehouse, "askara", "audios", to, stream="audios", who="alice", now=NOW)

    assert landing_for(warehouse).cursor() == Cursor(to, None)
    assert cursors(warehouse)["askara", "audios"].complete_until == complete
    (history,) = rows_of(warehouse, sync_cursor_history)
    assert (history["stream"], history["watermark"], history["run_id"]) == ("audios", to, BY_HAND)
    (access,) = rows_of(warehouse, access_log)
    assert (access["who"], access["what"], access["subject"]) == ("alice", "cursor_moved", "askara audios")


def test_a_sync_moves_on_from_where_a_person_put_the_cursor(warehouse: Warehouse) -> None:
    landing_for(warehouse).land([], [], Cursor(NOW, "a9"), now=NOW)
    move_cursor(warehouse, "askara", "audios", None, stream="audios", who="alice", now=NOW)

    landing_for(warehouse).land([], [], Cursor(EARLIER, "a1"), now=NOW)

    assert landing_for(warehouse).cursor() == Cursor(EARLIER, "a1")


def test_only_the_cursor_and_the_account_that_are_meant_are_moved(warehouse: Warehouse) -> None:
    for stream in ("audios", "notes"):
        landing_for(warehouse, stream=stream).land([], [], Cursor(NOW, "x"), now=NOW)
        mark_complete(warehouse, "askara", stream, until=NOW, now=NOW, run_id=None)
    warehouse.account = "north"
    mark_complete(warehouse, "askara", "audios", until=NOW, now=NOW, run_id=None)
    warehouse.account = "default"

    move_cursor(warehouse, "askara", "audios", None, stream="audios", who="alice", now=NOW)

    assert cursors(warehouse)["askara", "notes"].complete_until == NOW
    assert {(row["account"], row["stream"]) for row in rows_of(warehouse, sync_cursors)} == {
        ("default", "audios"),
        ("default", "notes"),
        ("default", "notes.complete"),
        ("north", "audios.complete"),
    }


def test_what_a_sync_sees_again_is_counted_and_what_has_no_time_always_is(warehouse: Warehouse) -> None:
    records = [record("a", updated_at=EARLIER), record("b", updated_at=NOW), record("c")]
    landing_for(warehouse).land(records, [], None, now=NOW)

    with warehouse.read() as connection:
        assert known_since(connection, warehouse.account, "askara", "audios", NOW) == (2, 3)
        assert known_since(connection, warehouse.account, "askara", "audios", None) == (3, 3)
        assert known_since(connection, warehouse.account, "askara", "notes", None) == (0, 0)
