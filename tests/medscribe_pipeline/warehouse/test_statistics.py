"""A table that grows fast is analysed, and others are left to the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from medscribe_pipeline.warehouse.statistics import LOOKED_AT_FROM
from medscribe_pipeline.warehouse.store import Warehouse
from medscribe_pipeline.warehouse.tables import notes_history, source_records
from tests.databases import NOW, landing_for, new_database, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from medscribe_pipeline.settings import Settings

UNKNOWN = -1


@pytest.fixture
def settings(make_settings: Callable[..., Settings], postgres_server_url: str) -> Iterator[Settings]:
    """A database nobody has written to: statistics outlive the rows they are about."""
    with new_database(postgres_server_url) as url:
        yield make_settings(warehouse_url=url)


def known_rows(warehouse: Warehouse, table: sa.Table) -> float:
    """Rows the server believes a table to have."""
    with warehouse.read() as connection:
        query = sa.text("SELECT reltuples FROM pg_class WHERE relname = :name")
        return float(connection.execute(query, {"name": table.name}).scalar_one())


def land(warehouse: Warehouse, first: int, count: int) -> None:
    landing = landing_for(warehouse)
    landing.land([record(f"r-{number}") for number in range(first, first + count)], [], None, now=NOW)


def test_a_table_is_analysed_each_time_it_has_doubled(settings: Settings) -> None:
    with Warehouse.open(settings) as warehouse:
        land(warehouse, 0, LOOKED_AT_FROM - 1)
        before = known_rows(warehouse, source_records)
        land(warehouse, 1000, 100)
        first = known_rows(warehouse, source_records)
        land(warehouse, 2000, LOOKED_AT_FROM)
        meanwhile = known_rows(warehouse, source_records)
        land(warehouse, 3000, 2 * LOOKED_AT_FROM)

        assert (before, first, meanwhile) == (UNKNOWN, LOOKED_AT_FROM + 99, LOOKED_AT_FROM + 99)
        assert known_rows(warehouse, source_records) == 4 * LOOKED_AT_FROM + 99
        assert known_rows(warehouse, notes_history) == UNKNOWN


def test_a_large_table_is_left_to_the_server(settings: Settings) -> None:
    with Warehouse.open(settings) as warehouse:
        land(warehouse, 0, 4 * LOOKED_AT_FROM)
    with Warehouse.open(settings) as another:
        land(another, 5000, LOOKED_AT_FROM)

        assert known_rows(another, source_records) == 4 * LOOKED_AT_FROM


def test_what_was_undone_was_not_added(settings: Settings) -> None:
    def undone(warehouse: Warehouse) -> None:
        with warehouse.begin() as connection:
            warehouse.upsert(connection, source_records, _rows(warehouse))
            raise ZeroDivisionError

    with Warehouse.open(settings) as warehouse:
        with pytest.raises(ZeroDivisionError):
            undone(warehouse)

        assert known_rows(warehouse, source_records) == UNKNOWN


def test_statistics_that_cannot_be_renewed_cost_nothing_that_was_written(settings: Settings) -> None:
    with Warehouse.open(settings) as warehouse:

        @sa.event.listens_for(warehouse.engine, "before_cursor_execute", retval=True)
        def broken(_c: object, _d: object, statement: str, given: object, _e: object, _m: object) -> tuple[str, object]:
            return ("ANALYZE nowhere" if statement.startswith("ANALYZE") else statement), given

        land(warehouse, 0, 2 * LOOKED_AT_FROM)

        with warehouse.read() as connection:
            assert connection.scalar(sa.select(sa.func.count()).select_from(source_records)) == 2 * LOOKED_AT_FROM
        assert known_rows(warehouse, source_records) == UNKNOWN


def _rows(warehouse: Warehouse) -> list[dict[str, object]]:
    names = {"account": warehouse.account, "provider": "askara", "stream": "audios"}
    return [
        {
            **names,
            "source_id": f"r-{number}",
            "payload": {},
            "content_hash": "0" * 64,
            "list_hash": "0" * 64,
            "fetched_at": NOW,
            "visit_day": NOW.date(),
            "change_seq": number,
        }
        for number in range(2 * LOOKED_AT_FROM)
    ]
