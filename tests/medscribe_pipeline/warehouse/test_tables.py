"""Times and JSON survive both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from medscribe_pipeline.settings import Settings
from medscribe_pipeline.warehouse.store import Warehouse
from medscribe_pipeline.warehouse.tables import Json, UtcDateTime, metadata, note_sections, source_records, visits
from tests.databases import NOW, landing_for, record

if TYPE_CHECKING:
    from collections.abc import Callable

SAME_WAREHOUSE = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=ZONES)  # noqa: DTZ001  # bounds are naive by API
# What JSON can hold and PostgreSQL can store. Landing puts U+FFFD for U+0000 (see test_land_items); JSONB writes large
# floats as whole numbers.
CHARACTERS = st.characters(codec="utf-8", exclude_characters="\x00")
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(-1e15, 1e15, allow_nan=False)
    | st.text(CHARACTERS, max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(CHARACTERS, max_size=5), inner, max_size=3),
    max_leaves=8,
)

scratch = sa.MetaData()
moments = sa.Table(
    "scratch_moments", scratch, sa.Column("id", sa.Integer, primary_key=True), sa.Column("at", UtcDateTime)
)
documents = sa.Table(
    "scratch_documents", scratch, sa.Column("id", sa.Integer, primary_key=True), sa.Column("value", Json)
)


@pytest.fixture
def scratched(warehouse: Warehouse) -> Warehouse:
    with warehouse.begin() as connection:
        scratch.drop_all(connection)
        scratch.create_all(connection)
    return warehouse


def _round_trip(warehouse: Warehouse, table: sa.Table, column: str, values: list[Any]) -> list[Any]:
    with warehouse.begin() as connection:
        connection.execute(sa.delete(table))
        connection.execute(sa.insert(table), [{"id": n, column: value} for n, value in enumerate(values)])
    with warehouse.read() as connection:
        return list(connection.scalars(sa.select(table.c[column]).order_by(table.c.id)))


@SAME_WAREHOUSE
@given(times=st.lists(TIMES, min_size=1, max_size=4))
def test_times_come_back_as_the_same_instants_in_utc(scratched: Warehouse, times: list[datetime]) -> None:
    found = _round_trip(scratched, moments, "at", list(times))

    assert found == times
    assert all(time.utcoffset() == timedelta(0) for time in found)


@SAME_WAREHOUSE
@given(times=st.lists(TIMES, min_size=2, max_size=6))
def test_the_database_sorts_times_as_time_does(scratched: Warehouse, times: list[datetime]) -> None:
    _round_trip(scratched, moments, "at", list(times))

    with scratched.read() as connection:
        found = list(connection.scalars(sa.select(moments.c.at).order_by(moments.c.at)))
        later = list(connection.scalars(sa.select(moments.c.at).where(moments.c.at >= times[0])))

    assert found == sorted(times)
    assert sorted(later) == sorted(time for time in times if time >= times[0])


def test_an_unknown_time_stays_unknown(scratched: Warehouse) -> None:
    assert _round_trip(scratched, moments, "at", [None, datetime(2026, 3, 2, tzinfo=UTC)])[0] is None


def test_a_naive_time_is_refused(scratched: Warehouse) -> None:
    naive = datetime(2026, 3, 2)  # noqa: DTZ001  # what is refused

    with pytest.raises(Exception, match="warehouse statement failed"):
        _round_trip(scratched, moments, "at", [naive])


def test_a_visit_inserted_by_plain_sql_is_stamped_with_the_time_of_the_database(warehouse: Warehouse) -> None:
    insert = "INSERT INTO visits (account, provider, correlation_key) VALUES ('default', 'nabla', 'visit-1')"
    with warehouse.begin() as connection:
        connection.exec_driver_sql(insert)

    with warehouse.read() as connection:
        stamped = connection.scalar(sa.select(visits.c.imported_at))

    assert stamped is not None
    assert stamped.utcoffset() == timedelta(0)
    # The database's clock is this machine's; SQLite's stamp has whole seconds.
    assert abs(datetime.now(UTC) - stamped) < timedelta(minutes=1)


@SAME_WAREHOUSE
@given(values=st.lists(VALUES, min_size=1, max_size=3))
def test_json_comes_back_as_it_went_in(scratched: Warehouse, values: list[Any]) -> None:
    assert _round_trip(scratched, documents, "value", values) == values


def test_json_with_huge_numbers_and_deep_nesting_is_stored(scratched: Warehouse) -> None:
    deep: Any = "bottom"
    for _ in range(300):
        deep = [deep]

    huge, nested = _round_trip(scratched, documents, "value", [{"n": 10**30}, deep])

    assert huge["n"] == pytest.approx(10**30)
    assert nested == deep


def test_postgresql_keeps_each_kind_as_its_own(make_settings: Callable[..., Settings], postgres_url: str) -> None:
    query = sa.text(
        "SELECT table_name, column_name, data_type, is_identity FROM information_schema.columns "
        "WHERE table_schema = 'public' AND table_name = ANY(:tables)"
    )
    with Warehouse.open(make_settings(warehouse_url=postgres_url)) as warehouse, warehouse.read() as connection:
        found = {(row[0], row[1]): row[2:] for row in connection.execute(query, {"tables": list(metadata.tables)})}
        sequences = connection.scalar(sa.text("SELECT count(*) FROM pg_class WHERE relkind = 'S'"))

    columns = {(table.name, column.name): column for table in metadata.sorted_tables for column in table.columns}
    counted = [key for key, column in columns.items() if column.identity is not None]
    assert {key for key, (kind, _) in found.items() if kind == "timestamp with time zone"} == {
        key for key, column in columns.items() if isinstance(column.type, UtcDateTime)
    }
    assert {key for key, (kind, _) in found.items() if kind == "jsonb"} == {
        key for key, column in columns.items() if isinstance(column.type, Json)
    }
    assert sorted(key for key, (_, identity) in found.items() if identity == "YES") == sorted(counted)
    assert sequences == len(counted)


@pytest.mark.parametrize("value", [None, {"a": None}])
def test_nothing_is_null_to_a_query_on_both(scratched: Warehouse, value: Any) -> None:
    _round_trip(scratched, documents, "value", [value])

    with scratched.read() as connection:
        nothing = connection.scalar(sa.select(documents.c.value.is_(None)))

    assert nothing is (value is None)


def test_every_table_has_a_comment_and_a_key() -> None:
    for table in metadata.sorted_tables:
        assert table.comment, table.name
        assert list(table.primary_key.columns), table.name


def test_sections_with_an_unknown_heading_are_found_without_the_others(warehouse: Warehouse) -> None:
    unknown = sa.and_(note_sections.c.key.is_(None), note_sections.c.title.is_not(None))
    query = sa.select(sa.func.count()).where(note_sections.c.note_id == "n-1", unknown)
    with warehouse.engine.connect() as connection:
        written = query.compile(connection, compile_kwargs={"literal_binds": True})
        how = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
        if connection.dialect.name == "postgresql":
            # An empty table would be read as a whole.
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        plan = str(connection.exec_driver_sql(f"{how} {written}").all())

    assert "ix_note_sections_unknown" in plan


def test_tables_are_stored_as_they_say(postgres_url: str) -> None:
    wanted = {
        table.name: {f"{name}={value}" for name, value in table.dialect_options["postgresql"]["with"].items()}
        for table in metadata.tables.values()
        if table.dialect_options["postgresql"]["with"]
    }
    with Warehouse.open(Settings(warehouse_url=SecretStr(postgres_url))) as warehouse, warehouse.read() as connection:
        stored = sa.text("SELECT relname, reloptions FROM pg_class WHERE relkind = 'r' AND reloptions IS NOT NULL")
        found = {name: set(options) for name, options in connection.execute(stored)}

    assert wanted.keys() == {"source_records"}
    assert found.items() >= wanted.items()


def test_what_became_of_records_is_written_beside_them(postgres_url: str) -> None:
    page = sa.text("SELECT source_id, (ctid::text::point)[0] FROM source_records")
    with Warehouse.open(Settings(warehouse_url=SecretStr(postgres_url))) as warehouse:
        records = [record(f"r-{number:03}", text="word " * 500, list_hash="") for number in range(100)]
        landing_for(warehouse).land(records, [], None, now=NOW)
        with warehouse.begin() as connection:
            landed: dict[str, float] = dict(connection.execute(page).all())
            connection.execute(sa.update(source_records).values(outcome="held", mapped_seq=1))
            moved = [key for key, number in connection.execute(page) if number != landed[key]]

    # In the same page, an index has nothing to be told. The payloads are elsewhere, so many rows share one.
    assert moved == []
    assert len(set(landed.values())) < len(records) / 5
