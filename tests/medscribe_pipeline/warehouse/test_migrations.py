"""Every schema there ever was moves on to the newest, with its rows; and what the database itself refuses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.settings import Settings
from medscribe_pipeline.warehouse.store import SCHEMA_HEAD, Warehouse
from medscribe_pipeline.warehouse.tables import visits
from tests.old_warehouses import migrated_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    MakeSettings = Callable[..., Settings]

FIRST = "0001"


def insert_visit(warehouse: Warehouse, started_at: str | None) -> None:
    """As somebody's own SQL would write it."""
    row = {"started_at": started_at, "imported_at": "2026-03-02T10:00:00+00:00"}
    with warehouse.engine.connect().execution_options(medscribe_write=True) as connection, connection.begin():
        connection.execute(
            sa.text(
                "INSERT INTO visits (account, provider, correlation_key, started_at, imported_at) "
                "VALUES ('default', 'nabla', 'v-1', :started_at, :imported_at)"
            ),
            row,
        )


def test_a_warehouse_of_the_first_schema_keeps_its_rows(make_settings: MakeSettings, database_url: str) -> None:
    with Warehouse.open(make_settings(warehouse_url=database_url), migrate=False) as warehouse:
        migrated_to(warehouse, FIRST)
        insert_visit(warehouse, "2026-03-02T09:30:00+00:00")

        assert warehouse.migrate() is True

        assert warehouse.schema_version() == SCHEMA_HEAD
        with warehouse.read() as connection:
            (row,) = connection.execute(sa.select(visits)).all()
        assert (row.correlation_key, row.started_at) == ("v-1", datetime(2026, 3, 2, 9, 30, tzinfo=UTC))
        assert (row.audio_url, row.diarization) == (None, None)


def test_unreadable_times_of_an_older_warehouse_are_named_before_anything_moves(make_settings: MakeSettings) -> None:
    with Warehouse.open(make_settings(), migrate=False) as warehouse:
        migrated_to(warehouse, FIRST)
        insert_visit(warehouse, "tomorrow")

        with pytest.raises(ConfigError, match="1 rows of the table visits have a started_at") as caught:
            warehouse.migrate()

        assert "tomorrow" not in str(caught.value)
        assert warehouse.schema_version() == FIRST


@pytest.fixture(scope="module")
def warehouse_for_all_examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    path = tmp_path_factory.mktemp("times") / "warehouse.sqlite"
    with Warehouse.open(Settings(warehouse_url=SecretStr(f"sqlite:///{path}"), home=path.parent)) as warehouse:
        yield warehouse


NEAR_TIMES = st.from_regex(
    r"[0-9]{1,5}-[0-9]{2}-[0-9]{2}"
    r"([Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?([Zz]|[+-][0-9]{2}(:[0-9]{2})?)?)?",
    fullmatch=True,
)


@settings(max_examples=200, deadline=None)
@given(started_at=NEAR_TIMES | st.datetimes().map(str) | st.sampled_from(["tomorrow", "now", "2026", "2026-02-31", ""]))
def test_sqlite_takes_no_time_it_could_not_give_back(warehouse_for_all_examples: Warehouse, started_at: str) -> None:
    warehouse = warehouse_for_all_examples
    with warehouse.begin() as connection:
        connection.execute(sa.delete(visits))
    try:
        insert_visit(warehouse, started_at)
    except sa.exc.IntegrityError as refused:
        assert "started_at_is_a_time" in str(refused.orig)  # noqa: PT017 - both outcomes are fine, for any input
        return

    with warehouse.read() as connection:
        read = connection.scalar(sa.select(visits.c.started_at))
    assert read is not None
    assert read.tzinfo is not None


@pytest.mark.parametrize(
    "started_at", ["2026-03-02", "2026-03-02 09:30", "2026-03-02T09:30:00Z", "2026-03-02T09:30:00.5+01:00", None]
)
def test_usual_spellings_pass(make_settings: MakeSettings, started_at: str | None) -> None:
    with Warehouse.open(make_settings()) as warehouse:
        insert_visit(warehouse, started_at)

        with warehouse.read() as connection:
            assert connection.scalar(sa.select(visits.c.imported_at)) == datetime(2026, 3, 2, 10, tzinfo=UTC)
