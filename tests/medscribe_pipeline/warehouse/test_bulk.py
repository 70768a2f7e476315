"""Many rows at once: what is stored is the same to the byte as by one statement for each, and errors say as little."""

from __future__ import annotations

import traceback
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.notes import canonical_json
from medscribe_pipeline.warehouse import writing
from medscribe_pipeline.warehouse.store import Warehouse
from medscribe_pipeline.warehouse.tables import Json, UtcDateTime, note_sections, sync_cursors
from medscribe_pipeline.warehouse.writing import GENERIC, insert, upsert
from tests.databases import NOW, empty, rows_of
from tests.medscribe_pipeline.warehouse.test_tables import CHARACTERS, TIMES, VALUES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from medscribe_pipeline.settings import Settings

    Write = Callable[[sa.Connection, sa.Table, Sequence[dict[str, Any]]], object]

SAME_WAREHOUSE = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
CANARY = "qxcanary"
MANY = 2 * writing.STAGED_FROM

every_type = sa.Table(
    "scratch_types",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", sa.String(64)),
    sa.Column("text", sa.Text),
    sa.Column("small", sa.Integer),
    sa.Column("large", sa.BigInteger),
    sa.Column("flag", sa.Boolean),
    sa.Column("day", sa.Date),
    sa.Column("at", UtcDateTime),
    sa.Column("value", Json),
    sa.Column("left_alone", sa.Integer, server_default="7"),
)
ROW = st.fixed_dictionaries(
    {
        "value": st.none() | VALUES,
        "at": st.none() | TIMES,
        "day": st.none() | st.dates(date(2, 1, 1)),
        "flag": st.none() | st.booleans(),
        "large": st.none() | st.integers(-(2**63), 2**63 - 1),
        "small": st.none() | st.integers(-(2**31), 2**31 - 1),
        "text": st.none() | st.text(CHARACTERS, max_size=60),
        "name": st.none() | st.text(CHARACTERS, max_size=64),
    }
)
ROWS = st.lists(ROW, min_size=2, max_size=4).map(lambda rows: [{"id": n, **row} for n, row in enumerate(rows)])


@pytest.fixture
def in_bulk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows are many."""
    monkeypatch.setattr(writing, "COPIED_FROM", 2)
    monkeypatch.setattr(writing, "STAGED_FROM", 2)


@pytest.fixture
def scratched(warehouse: Warehouse) -> Iterator[Warehouse]:
    with warehouse.begin() as connection:
        every_type.drop(connection, checkfirst=True)
        every_type.create(connection)
    yield warehouse
    with warehouse.begin() as connection:
        every_type.drop(connection)


@pytest.fixture
def on_postgres(make_settings: Callable[..., Settings], _migrated_postgres: str) -> Iterator[Warehouse]:
    with Warehouse.open(make_settings(warehouse_url=_migrated_postgres), migrate=False) as warehouse:
        empty(warehouse)
        yield warehouse


def one_by_one(connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    connection.execute(sa.insert(table), list(rows))


def upsert_over_others(connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    connection.execute(sa.insert(table), [{"id": row["id"], "name": "earlier"} for row in rows])
    upsert(connection, table, rows)


def stored(warehouse: Warehouse, write: Write, rows: Sequence[dict[str, Any]]) -> list[Any]:
    """What the database itself says it holds after rows were written: types and texts of its own."""
    sqlite = warehouse.engine.dialect.name == "sqlite"
    with warehouse.begin() as connection:
        connection.execute(sa.delete(every_type))
        write(connection, every_type, rows)
        said = sa.func.quote if sqlite else lambda column: sa.cast(column, sa.Text)
        plain = [said(sa.literal_column(each.name, sa.Text)) for each in every_type.columns]
        return list(connection.execute(sa.select(*plain).select_from(every_type).order_by(every_type.c.id)))


@pytest.mark.usefixtures("in_bulk")
@SAME_WAREHOUSE
@given(rows=ROWS)
def test_all_ways_store_the_same(scratched: Warehouse, rows: list[dict[str, Any]]) -> None:
    expected = stored(scratched, one_by_one, rows)
    written = [{**row, "value": None if row["value"] is None else canonical_json(row["value"])} for row in rows]

    assert stored(scratched, insert, rows) == expected
    assert stored(scratched, upsert, rows) == expected
    assert stored(scratched, upsert_over_others, rows) == expected
    assert stored(scratched, insert, written) == expected


def test_json_null_is_no_value_and_null_inside_json_is_one(scratched: Warehouse) -> None:
    rows = [{"id": n, "value": value} for n, value in enumerate([None, [None], {"a": None}] * MANY)]
    with scratched.begin() as connection:
        insert(connection, every_type, rows)
        without = connection.scalar(sa.text("SELECT count(*) FROM scratch_types WHERE value IS NULL"))

    assert without == MANY
    assert [row["value"] for row in rows_of(scratched, every_type)[:3]] == [None, [None], {"a": None}]


def cursors(count: int = MANY, **changes: Any) -> list[dict[str, Any]]:
    row = {"account": "default", "provider": "askara", "watermark": None, "signpost": None, "moved_at": NOW}
    return [{**row, "stream": f"s{number:04}", "run_id": None, **changes} for number in range(count)]


@pytest.mark.parametrize("bulk", [False, True])
@pytest.mark.parametrize("unless", [None, sync_cursors.c.run_id == "kept"], ids=["always", "unless"])
def test_conditions_hold_for_many_rows_as_for_few(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, bulk: bool, unless: sa.ColumnElement[bool] | None
) -> None:
    monkeypatch.setattr(writing, "STAGED_FROM", 2 if bulk else 10**6)
    rows = cursors(6, watermark=NOW, run_id="plain")
    rows[0]["run_id"], rows[1]["watermark"] = "kept", NOW.replace(year=2030)
    with warehouse.begin() as connection:
        upsert(connection, sync_cursors, rows)
        upsert(
            connection, sync_cursors, cursors(8, watermark=NOW, signpost="new"), not_older_by="watermark", unless=unless
        )

    left = [row["signpost"] for row in rows_of(warehouse, sync_cursors)]
    assert left == ["new" if unless is None else None, None, *["new"] * 6]


def test_what_is_staged_twice_in_one_transaction_is_kept_apart(warehouse: Warehouse) -> None:
    with warehouse.begin() as connection:
        upsert(connection, sync_cursors, cursors(MANY))
        connection.execute(sa.delete(sync_cursors))
        upsert(connection, sync_cursors, cursors(MANY - 1, signpost="second"))

    assert [row["signpost"] for row in rows_of(warehouse, sync_cursors)] == ["second"] * (MANY - 1)


def test_many_rows_after_a_transaction_that_failed(warehouse: Warehouse) -> None:
    def fail() -> None:
        with warehouse.begin() as connection:
            upsert(connection, sync_cursors, cursors())
            raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            fail()
        assert rows_of(warehouse, sync_cursors) == []
    with warehouse.begin() as connection:
        upsert(connection, sync_cursors, cursors())

    assert len(rows_of(warehouse, sync_cursors)) == MANY


def test_rows_are_copied_and_staged_where_the_database_is_postgresql(warehouse: Warehouse) -> None:
    said: list[str] = []
    sa.event.listen(warehouse.engine, "before_cursor_execute", lambda *given: said.append(given[2].split(" ", 1)[0]))
    with warehouse.begin() as connection:
        insert(connection, sync_cursors, cursors())
        connection.execution_options(**{GENERIC: True})
        connection.execute(sa.delete(sync_cursors))
        insert(connection, sync_cursors, cursors())

    on_postgres = warehouse.engine.dialect.name == "postgresql"
    assert [word for word in said if word in ("COPY", "INSERT")] == ["COPY" if on_postgres else "INSERT", "INSERT"]


def refused(warehouse: Warehouse, how: Write, rows: list[dict[str, Any]]) -> MedscribeError:
    """The error of a write, after a look at what it tells."""

    def write() -> None:
        with warehouse.begin() as connection:
            how(connection, sync_cursors, rows)

    with pytest.raises(MedscribeError) as raised:
        write()
    error = raised.value
    told = f"{error!r} {error} {error.context} {''.join(traceback.format_exception(error))}"
    assert (error.__cause__, error.__context__) == (None, None)
    assert not any(word in told for word in (CANARY, "COPY ", "INSERT INTO", "DETAIL", "CONTEXT"))
    assert rows_of(warehouse, sync_cursors) == []
    return error


@pytest.mark.parametrize("how", [insert, upsert])
@pytest.mark.parametrize("change", [{"moved_at": None}, {"watermark": NOW.replace(tzinfo=None)}], ids=["none", "naive"])
@pytest.mark.parametrize("count", [1, MANY])
def test_errors_hold_no_value_and_no_statement(
    warehouse: Warehouse, how: Write, change: dict[str, Any], count: int
) -> None:
    rows = cursors(count, run_id=CANARY)
    rows[-1] |= change

    assert refused(warehouse, how, rows).code == "warehouse_statement"


@pytest.mark.parametrize("how", [insert, upsert])
@pytest.mark.parametrize("text", [CANARY * 100, f"{CANARY}\x00"], ids=["too long", "nul"])
@pytest.mark.parametrize("count", [1, MANY])
def test_errors_of_postgresql_hold_no_value_and_no_statement(
    on_postgres: Warehouse, how: Write, text: str, count: int
) -> None:
    rows = cursors(count, run_id=CANARY)
    rows[-1] |= {"signpost": text}

    assert refused(on_postgres, how, rows).code == "warehouse_statement"


@pytest.mark.parametrize("how", [insert, upsert])
def test_a_connection_that_is_lost_before_a_copy(on_postgres: Warehouse, how: Write) -> None:
    def end(connection: sa.Connection, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("COPY"):
            backend = connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
            with on_postgres.engine.connect() as other:
                other.exec_driver_sql(f"SELECT pg_terminate_backend({backend}, 5000)")

    sa.event.listen(on_postgres.engine, "before_cursor_execute", end)
    try:
        error = refused(on_postgres, how, cursors(run_id=CANARY))
    finally:
        sa.event.remove(on_postgres.engine, "before_cursor_execute", end)
    with on_postgres.begin() as connection:
        how(connection, sync_cursors, cursors())

    assert error.code == "warehouse_unreachable"
    assert len(rows_of(on_postgres, sync_cursors)) == MANY


@pytest.mark.parametrize("count", [1, MANY])
def test_a_row_that_refers_to_nothing_is_refused(warehouse: Warehouse, count: int) -> None:
    rows = [
        {"note_id": "x", "ordinal": n, "parent_ordinal": None, "key": None, "title": None, "text": CANARY}
        for n in range(count)
    ]

    def write() -> None:
        with warehouse.begin() as connection:
            insert(connection, note_sections, rows)

    with pytest.raises(MedscribeError) as raised:
        write()

    assert raised.value.code == "warehouse_statement"
    assert CANARY not in "".join(traceback.format_exception(raised.value))


def test_half_a_character_is_refused_by_all_ways_alike(warehouse: Warehouse) -> None:
    for how in (one_by_one, insert, upsert):
        with pytest.raises(UnicodeEncodeError), warehouse.begin() as connection:
            how(connection, sync_cursors, cursors(signpost="\ud800"))

    assert rows_of(warehouse, sync_cursors) == []


def test_a_user_who_may_not_make_temporary_tables_writes_as_many_rows(
    make_settings: Callable[..., Settings], on_postgres: Warehouse
) -> None:
    url = on_postgres.engine.url
    owner = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with owner.connect() as connection:
        connection.exec_driver_sql("DROP ROLE IF EXISTS narrow")
        connection.exec_driver_sql("CREATE ROLE narrow LOGIN")
        connection.exec_driver_sql(f"REVOKE TEMPORARY ON DATABASE {url.database} FROM PUBLIC")
        connection.exec_driver_sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO narrow")
    narrow = url.set(username="narrow").render_as_string(hide_password=False)
    try:
        with Warehouse.open(make_settings(warehouse_url=narrow), migrate=False) as warehouse:
            with warehouse.begin() as connection:
                upsert(connection, sync_cursors, cursors())
                upsert(connection, sync_cursors, cursors(signpost="second"))
            left = [row["signpost"] for row in rows_of(warehouse, sync_cursors)]
    finally:
        with owner.connect() as connection:
            connection.exec_driver_sql("DROP OWNED BY narrow")
            connection.exec_driver_sql("DROP ROLE narrow")
            connection.exec_driver_sql(f"GRANT TEMPORARY ON DATABASE {url.database} TO PUBLIC")
        owner.dispose()

    assert left == ["second"] * MANY
