"""`medscribe cursors`: what it shows, what it moves, what it refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.providers.sync import stream_lock
from medscribe_pipeline.settings import Settings
from medscribe_pipeline.warehouse.arrivals import Cursor
from medscribe_pipeline.warehouse.cursors import mark_complete
from medscribe_pipeline.warehouse.store import Warehouse
from medscribe_pipeline.warehouse.tables import sync_cursor_history, sync_cursors
from tests.databases import NOW, dump, landing_for, record, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.medscribe_pipeline.cli.conftest import Ran


@pytest.fixture
def warehouse(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Warehouse]:
    assert home
    for name, value in {
        "ASKARA_TOKEN": "secret-token",
        "AUDIOSCRIBE_TOKEN": "secret-token",
        "TIMEZONE": "Europe/Paris",
        "LOCK_TIMEOUT_S": "0.1",
    }.items():
        monkeypatch.setenv(f"MEDSCRIBE_{name}", value)
    with Warehouse.open(Settings.load()) as opened:
        listed = [record("a", updated_at=NOW - timedelta(days=3)), record("b", updated_at=NOW)]
        landing_for(opened).land(listed, [], Cursor(NOW, "b"), now=NOW)
        mark_complete(opened, "askara", "audios", until=NOW, now=NOW, run_id="run-1")
        yield opened


def test_every_stream_is_shown_read_or_not(warehouse: Warehouse, medscribe: Callable[..., Ran]) -> None:
    assert warehouse
    shown = medscribe("cursors", "show", "--json").json["cursors"]

    assert [(row["provider"], row["stream"]) for row in shown] == [
        ("askara", "audios"),
        ("askara", "notes"),
        ("audioscribe", "sessions"),
    ]
    assert shown[0]["watermark"] == shown[0]["complete_until"] == NOW.isoformat()
    assert shown[1]["complete_until"] is None
    assert "2026-03-02 09:00:00Z" in medscribe("cursors", "show").words


def test_a_dry_run_says_what_it_would_mean_and_changes_nothing(
    warehouse: Warehouse, medscribe: Callable[..., Ran]
) -> None:
    before = dump(warehouse)

    ran = medscribe("cursors", "set", "askara", "audios", "2026-03-01", "--dry-run")

    assert ran.code == 0
    assert "stood at 2026-03-02 09:00:00Z and would stand at 2026-02-28 23:00:00Z" in ran.words
    assert "changed since 2026-02-28 22:50:00Z again: at least 1 of 2 records" in ran.words
    assert dump(warehouse) == before


def test_a_cursor_is_set_and_its_history_kept(warehouse: Warehouse, medscribe: Callable[..., Ran]) -> None:
    ran = medscribe("cursors", "set", "askara", "audios", "2026-02-27T08:00:00+00:00", "--json")

    assert (ran.json["known"], ran.json["of"], ran.json["skips"], ran.json["dry_run"]) == (2, 2, False, False)
    there = datetime(2026, 2, 27, 8, tzinfo=UTC)
    assert landing_for(warehouse).cursor() == Cursor(there, None)
    assert [row["watermark"] for row in rows_of(warehouse, sync_cursor_history)] == [there]


def test_a_cursor_is_reset_to_before_everything(warehouse: Warehouse, medscribe: Callable[..., Ran]) -> None:
    ran = medscribe("cursors", "reset", "askara", "audios")

    assert "stands before everything" in ran.words
    assert "reads everything again: at least 2 of 2 records" in ran.words
    assert [(row["stream"], row["watermark"]) for row in rows_of(warehouse, sync_cursors)] == [("audios", None)]


def test_moving_forwards_warns_of_what_is_skipped(warehouse: Warehouse, medscribe: Callable[..., Ran]) -> None:
    ran = medscribe("cursors", "set", "askara", "audios", (NOW + timedelta(hours=1)).isoformat())

    assert warehouse
    assert "never read stays unread" in ran.words


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("set", "askara", "audios", "3026-01-01"), "cursor_time"),
        (("set", "askara", "audios", "yesterday"), "cursor_time"),
        (("set", "askara", "notes_by_audio", "2026-01-01"), "cursor_time"),
        (("set", "audioscribe", "sessions", "2026-01-01"), "cursor_whole"),
        (("reset", "askara", "audio"), "code=cursor)"),
        (("reset", "nobody", "audios"), "code=cursor)"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    warehouse: Warehouse, medscribe: Callable[..., Ran], arguments: tuple[str, ...], code: str
) -> None:
    before = dump(warehouse)

    ran = medscribe("cursors", *arguments)

    assert ran.code == 2
    assert code in ran.err
    assert dump(warehouse) == before


def test_a_cursor_a_sync_is_moving_is_left_alone(warehouse: Warehouse, medscribe: Callable[..., Ran]) -> None:
    with warehouse.locks.hold(stream_lock("default", "askara", "audios"), 0):
        ran = medscribe("cursors", "reset", "askara", "audios_archived")

    assert ran.code == 1
    assert "code=busy" in ran.err
    assert rows_of(warehouse, sync_cursor_history) == []
