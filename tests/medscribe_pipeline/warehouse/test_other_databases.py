"""Databases that are neither SQLite nor PostgreSQL: the same rows by plain SQL, and a warning."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mssql, mysql, oracle

from medscribe_pipeline.errors import Busy
from medscribe_pipeline.fhir.faults import find_faults
from medscribe_pipeline.pipeline import finish_day, newest_change
from medscribe_pipeline.providers.build import build_notes
from medscribe_pipeline.receiver.writer import hurry
from medscribe_pipeline.warehouse.arrivals import Cursor, Problem
from medscribe_pipeline.warehouse.budgets import RateBudget
from medscribe_pipeline.warehouse.locks import FileLocks
from medscribe_pipeline.warehouse.store import SCHEMA_HEAD, Warehouse
from medscribe_pipeline.warehouse.tables import metadata, visit_days
from tests.databases import NOW, TODAY, dump, landing_for, record, rows_of
from tests.otherbase import under_another_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from medscribe_pipeline.settings import Settings


@pytest.fixture
def other(make_settings: Callable[..., Settings], postgres_url: str) -> Iterator[Warehouse]:
    with Warehouse.open(make_settings(warehouse_url=under_another_name(postgres_url))) as opened:
        yield opened


@pytest.fixture
def sqlite(make_settings: Callable[..., Settings]) -> Iterator[Warehouse]:
    with Warehouse.open(make_settings()) as opened:
        yield opened


def test_it_is_opened_with_a_warning_that_names_no_place(
    make_settings: Callable[..., Settings], postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = make_settings(warehouse_url=under_another_name(postgres_url))

    with caplog.at_level(logging.WARNING), Warehouse.open(settings) as warehouse:
        assert warehouse.schema_version() == SCHEMA_HEAD
        assert warehouse.migrate() is False

    assert [entry.levelname for entry in caplog.records] == ["WARNING"]
    assert "otherbase" in caplog.text
    assert str(sa.make_url(postgres_url).database) not in caplog.text


def test_it_has_all_tables_and_no_views(other: Warehouse) -> None:
    with other.read() as connection:
        found = sa.inspect(connection)

        assert set(found.get_table_names()) == {*metadata.tables, "alembic_version"}
        assert found.get_view_names() == []


def work_through(warehouse: Warehouse, settings: Settings) -> dict[str, Any]:
    """A little of everything; returns what is in the tables afterwards."""
    landing = landing_for(warehouse)
    cracked = Problem(source_id="c", code="wire_model", field_paths=("a.b",), payload={"ä": [1]}, payload_hash="1" * 64)
    landing.land([record("a"), record("b")], [cracked], Cursor(NOW, "b"), now=NOW)
    landing.land([record("a", "two"), record("c")], [], Cursor(NOW, "c"), now=NOW)
    RateBudget(warehouse, "askara", "poll", 5, clock=lambda: NOW).take(3)
    RateBudget(warehouse, "askara", "poll", 5, clock=lambda: NOW).charge(4)
    build_notes(warehouse, settings, TODAY, clock=lambda: NOW, run_id="run-1")
    finish_day(warehouse, settings, TODAY)
    assert newest_change(warehouse, TODAY) == 4
    assert find_faults(warehouse) == {}
    return dump(warehouse)


def test_the_same_is_written_as_on_sqlite(
    make_settings: Callable[..., Settings], other: Warehouse, sqlite: Warehouse
) -> None:
    settings = make_settings()

    found = work_through(other, settings)

    assert found == work_through(sqlite, settings)
    assert len(rows_of(other, visit_days)) == 1


def test_json_is_text_there(other: Warehouse) -> None:
    landing_for(other).land([record("a")], [], None, now=NOW)

    with other.read() as connection:
        stored = connection.scalar(sa.text("SELECT payload FROM source_records"))

    assert stored == '{"text":"one","uuid":"a"}'


def test_its_locks_are_files(other: Warehouse) -> None:
    assert isinstance(other.locks, FileLocks)
    with other.locks.hold("job", 0), pytest.raises(Busy), other.locks.hold("job", 0):
        pass


def test_a_read_sees_one_state_of_things(other: Warehouse) -> None:
    with other.read() as reading:
        before = reading.scalar(sa.select(sa.func.count()).select_from(visit_days))
        landing_for(other).land([record("a")], [], None, now=NOW)
        after = reading.scalar(sa.select(sa.func.count()).select_from(visit_days))

    assert (before, after) == (0, 0)


def test_nobody_tells_it_how_long_to_wait(other: Warehouse) -> None:
    hurry(other, 0.2)

    assert other.schema_version() == SCHEMA_HEAD


@pytest.mark.parametrize("dialect", [mysql, mssql, oracle], ids=lambda each: each.__name__)
def test_the_tables_can_be_said_in_the_sql_of_others(dialect: ModuleType) -> None:
    for table in metadata.sorted_tables:
        said = str(sa.schema.CreateTable(table).compile(dialect=dialect.dialect()))

        assert "GLOB" not in said
        assert "JSONB" not in said
