"""A database that fails in the middle of a load: one clear error, nothing half-written, and the next run completes."""

from __future__ import annotations

import logging
import signal
import threading
import time
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from medscribe_pipeline.errors import ConfigError, MedscribeError, WarehouseError, WarehouseTrouble, WarehouseUnusable
from medscribe_pipeline.warehouse.arrivals import Cursor
from medscribe_pipeline.warehouse.store import Warehouse
from medscribe_pipeline.warehouse.tables import notes, source_records, sync_cursors
from tests.databases import NOW, empty, landing_for, postgres_process, postgres_programs, record, rows_of
from tests.loading import BEFORE, CANARY, COMMIT, LOCK, PAGES, Death, at, is_whole, load, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from medscribe_pipeline.settings import Settings
    from tests.databases import PostgresServer

    MakeSettings = Callable[..., Settings]

SECTIONS = Death("INSERT INTO note_sections", 1, BEFORE)


@pytest.fixture
def expected(make_settings: MakeSettings) -> dict[str, list[dict[str, Any]]]:
    """What an undisturbed load leaves."""
    settings = make_settings()
    with Warehouse.open(settings) as warehouse:
        load(warehouse, settings)
        return state_of(warehouse)


@pytest.fixture
def on_postgres(make_settings: MakeSettings, _migrated_postgres: str) -> Iterator[tuple[Warehouse, Settings]]:
    settings = make_settings(warehouse_url=_migrated_postgres)
    with Warehouse.open(settings, migrate=False) as warehouse:
        empty(warehouse)
        yield warehouse, settings


@pytest.fixture
def on_sqlite(make_settings: MakeSettings, tmp_path: Any) -> Iterator[tuple[Warehouse, Settings]]:
    settings = make_settings(warehouse_url=f"sqlite:///{tmp_path / 'w.sqlite'}")
    with Warehouse.open(settings) as warehouse:
        yield warehouse, settings


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    programs = postgres_programs()
    assert programs is not None
    with postgres_process(programs) as server:
        yield server


def tells_nothing(error: MedscribeError) -> bool:
    """Whether neither the error, nor what hangs on it, nor its traceback holds a word of a patient or a statement."""
    assert (error.__cause__, error.__context__) == (None, None)
    told = f"{error!r} {error} {error.context} {''.join(traceback.format_exception(error))}"
    return not any(word in told for word in (CANARY, "INSERT INTO", "COPY ", "[parameters", "DETAIL"))


@contextmanager
def on_connect(warehouse: Warehouse, statement: str) -> Iterator[None]:
    """Every connection says this first, for as long as the block runs."""

    def prepare(connection: Any, _record: object) -> None:
        connection.execute(statement)
        if warehouse.engine.dialect.name == "postgresql":
            connection.commit()

    sa.event.listen(warehouse.engine, "connect", prepare)
    warehouse.engine.dispose()
    try:
        yield
    finally:
        sa.event.remove(warehouse.engine, "connect", prepare)
        warehouse.engine.dispose()


def test_a_full_disk(on_sqlite: tuple[Warehouse, Settings], expected: dict[str, Any]) -> None:
    warehouse, settings = on_sqlite
    with warehouse.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar() or 0

    errors = []
    for more in (0, 3, 8, 12):
        with on_connect(warehouse, f"PRAGMA max_page_count={pages + more}"), pytest.raises(WarehouseUnusable) as raised:
            load(warehouse, settings)
        errors.append(raised.value)
        assert is_whole(warehouse)
    load(warehouse, settings)

    assert {(error.code, error.exit_code, error.context["cause"]) for error in errors} == {
        ("warehouse_full", 2, "SQLITE_FULL")
    }
    assert all(map(tells_nothing, errors))
    assert state_of(warehouse) == expected


def test_a_file_that_became_read_only(on_sqlite: tuple[Warehouse, Settings], expected: dict[str, Any]) -> None:
    warehouse, settings = on_sqlite

    with on_connect(warehouse, "PRAGMA query_only=ON"), pytest.raises(WarehouseUnusable) as raised:
        load(warehouse, settings)
    load(warehouse, settings)

    assert (raised.value.code, raised.value.exit_code) == ("warehouse_readonly", 2)
    assert tells_nothing(raised.value)
    assert state_of(warehouse) == expected


def test_a_server_that_may_only_be_read(on_postgres: tuple[Warehouse, Settings], expected: dict[str, Any]) -> None:
    warehouse, settings = on_postgres

    with on_connect(warehouse, "SET default_transaction_read_only = on"), pytest.raises(WarehouseUnusable) as raised:
        load(warehouse, settings)
    load(warehouse, settings)

    assert (raised.value.code, raised.value.context["cause"]) == ("warehouse_readonly", "25006")
    assert state_of(warehouse) == expected


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["restart", "crash"])
@pytest.mark.parametrize(
    "moment", [Death("INSERT INTO source_records", 3, COMMIT), SECTIONS, None], ids=["commit", "statement", "between"]
)
def test_a_server_that_restarts_in_the_middle(
    make_settings: MakeSettings,
    own_server: PostgresServer,
    expected: dict[str, Any],
    how: signal.Signals,
    moment: Death | None,
) -> None:
    settings = make_settings(warehouse_url=own_server.url)

    def restart() -> None:
        own_server.stop(how)
        own_server.start()

    with Warehouse.open(settings) as warehouse:
        empty(warehouse)
        if moment is not None:
            at(warehouse.engine, moment, restart)
        with pytest.raises(WarehouseTrouble) as raised:
            load(warehouse, settings, lambda page: restart() if moment is None and page == 2 else None)
        assert is_whole(warehouse)
        landed = len(rows_of(warehouse, source_records))
        load(warehouse, settings)

        assert raised.value.exit_code == 3
        # Between two pages nothing is under way but the lock, and that is what was lost.
        assert raised.value.code == ("lock_lost" if moment is None else "warehouse_unreachable")
        assert tells_nothing(raised.value)
        assert 0 < landed <= PAGES * 2
        assert state_of(warehouse) == expected


def test_a_connection_ended_by_an_administrator(
    on_postgres: tuple[Warehouse, Settings], expected: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    warehouse, settings = on_postgres
    administrator = sa.create_engine(settings.database_url, isolation_level="AUTOCOMMIT")
    others = sa.text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction' "
        "AND datname = current_database()"
    )

    def end() -> None:
        with administrator.connect() as connection:
            assert connection.execute(others).all()

    at(warehouse.engine, SECTIONS, end)
    with caplog.at_level(logging.DEBUG), pytest.raises(WarehouseTrouble) as raised:
        load(warehouse, settings)
    administrator.dispose()
    half = rows_of(warehouse, notes)
    load(warehouse, settings)

    assert raised.value.code == "warehouse_unreachable"
    assert half == []
    assert tells_nothing(raised.value)
    assert CANARY not in caplog.text
    assert state_of(warehouse) == expected


def test_a_lock_somebody_keeps(on_postgres: tuple[Warehouse, Settings]) -> None:
    warehouse, settings = on_postgres

    with (
        Warehouse.open(settings, migrate=False) as patient,
        patient.begin() as holding,
        on_connect(warehouse, "SET lock_timeout = 100"),
    ):
        holding.execute(sa.text("SELECT value FROM change_counter FOR UPDATE"))
        with pytest.raises(WarehouseTrouble) as raised:
            landing_for(warehouse).land([record("a", CANARY)], [], Cursor(NOW), now=NOW)

    assert (raised.value.code, raised.value.exit_code) == ("warehouse_locked", 3)
    assert tells_nothing(raised.value)
    assert rows_of(warehouse, sync_cursors) == []
    landing_for(warehouse).land([record("a", CANARY)], [], Cursor(NOW), now=NOW)
    assert len(rows_of(warehouse, source_records)) == 1


def two_records(warehouse: Warehouse) -> None:
    landing_for(warehouse).land([record("a"), record("b")], [], None, now=NOW)


def touch(connection: sa.Connection, source_id: str) -> None:
    connection.execute(sa.update(source_records).where(source_records.c.source_id == source_id).values(run_id=CANARY))


def test_two_that_wait_for_each_other(on_postgres: tuple[Warehouse, Settings]) -> None:
    warehouse, _ = on_postgres
    two_records(warehouse)
    both = threading.Barrier(2)
    ended: list[MedscribeError | None] = []

    def work(first: str, second: str) -> None:
        try:
            with warehouse.begin() as connection:
                connection.execute(sa.text("SET LOCAL deadlock_timeout = '50ms'"))
                touch(connection, first)
                both.wait(10)
                touch(connection, second)
        except MedscribeError as error:
            ended.append(error)
        else:
            ended.append(None)

    threads = [threading.Thread(target=work, args=pair) for pair in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    (error,) = [each for each in ended if each is not None]
    assert isinstance(error, WarehouseTrouble)
    assert (error.code, error.context["cause"]) == ("warehouse_conflict", "40P01")
    assert tells_nothing(error)
    assert [row["run_id"] for row in rows_of(warehouse, source_records)] == [CANARY, CANARY]


def test_a_transaction_the_server_cannot_put_in_order(on_postgres: tuple[Warehouse, Settings]) -> None:
    warehouse, _ = on_postgres
    two_records(warehouse)

    def late() -> None:
        with warehouse.read() as connection:
            connection.execute(sa.select(source_records)).all()
            with warehouse.begin() as other:
                touch(other, "a")
            touch(connection, "a")

    with pytest.raises(WarehouseTrouble) as raised:
        late()

    assert (raised.value.code, raised.value.context["cause"]) == ("warehouse_conflict", "40001")


def test_rights_that_are_missing(on_postgres: tuple[Warehouse, Settings]) -> None:
    warehouse, _ = on_postgres
    with warehouse.begin() as connection:
        connection.exec_driver_sql("DROP ROLE IF EXISTS zz_reader")
        connection.exec_driver_sql("CREATE ROLE zz_reader")

    try:
        with on_connect(warehouse, "SET ROLE zz_reader"), pytest.raises(WarehouseUnusable) as raised:
            two_records(warehouse)
    finally:
        with warehouse.begin() as connection:
            connection.exec_driver_sql("DROP ROLE zz_reader")

    assert (raised.value.code, raised.value.exit_code) == ("warehouse_forbidden", 2)


def test_a_pool_that_is_used_up(on_sqlite: tuple[Warehouse, Settings]) -> None:
    warehouse, _ = on_sqlite
    narrow = Warehouse(
        sa.create_engine(warehouse.engine.url, pool_size=1, max_overflow=0, pool_timeout=0.05),
        account="default",
        locks=warehouse.locks,
    )

    with narrow.read(), pytest.raises(WarehouseTrouble) as raised, narrow.read():
        pass
    narrow.close()

    assert raised.value.code == "warehouse_overloaded"


@pytest.mark.parametrize(
    ("database", "user", "code", "kind"),
    [
        ("zz_none", "postgres", "warehouse_refused", WarehouseUnusable),
        ("postgres", "zz_nobody", "warehouse_refused", WarehouseUnusable),
    ],
)
def test_a_server_that_refuses(
    make_settings: MakeSettings, postgres_server_url: str, database: str, user: str, code: str, kind: type[Exception]
) -> None:
    url = sa.make_url(postgres_server_url).set(database=database, username=user)

    with pytest.raises(kind) as raised:
        Warehouse.open(make_settings(warehouse_url=url.render_as_string(hide_password=False)))

    assert isinstance(raised.value, WarehouseError)
    assert isinstance(raised.value, ConfigError)
    assert raised.value.code == code
    assert "zz_n" not in f"{raised.value!r} {''.join(traceback.format_exception(raised.value))}"


def test_refused_values_are_shown_nowhere(warehouse: Warehouse, caplog: pytest.LogCaptureFixture) -> None:
    """What a key that is there twice, a value too long and one of the wrong kind would print: PostgreSQL the row."""
    wrong: list[dict[str, Any]] = [
        {"signpost": CANARY, "moved_at": None},
        {"signpost": CANARY, "moved_at": NOW.replace(tzinfo=None)},
        {"signpost": CANARY, "moved_at": CANARY},
        {"signpost": CANARY, "moved_at": NOW, "stream": CANARY},
    ]
    row = {"account": "default", "provider": "askara", "stream": "audios", "watermark": None, "run_id": None}
    errors = []
    for each in wrong:
        with (
            caplog.at_level(logging.DEBUG),
            pytest.raises(MedscribeError) as raised,
            warehouse.begin() as connection,
        ):
            connection.execute(sa.insert(sync_cursors), [{**row, **each}, {**row, **each}])
        errors.append(raised.value)

    assert {error.code for error in errors} == {"warehouse_statement"}
    assert all(map(tells_nothing, errors))
    assert CANARY not in caplog.text


@pytest.mark.parametrize(
    "damage",
    ["ALTER TABLE sync_cursors RENAME COLUMN signpost TO sign", "ALTER TABLE sync_cursors RENAME TO cursors"],
    ids=["column", "table"],
)
@pytest.mark.parametrize(
    "statement",
    [sa.select(sync_cursors.c.signpost), sa.update(sync_cursors).values(signpost=None)],
    ids=["read", "write"],
)
def test_the_same_damage_has_the_same_code_everywhere(
    warehouse: Warehouse, damage: str, statement: sa.Select[Any] | sa.Update
) -> None:
    # All in one transaction, so that its end undoes the damage, too.
    def damaged(connection: sa.Connection) -> sa.Connection:
        connection.execute(sa.text(damage))
        return connection

    with pytest.raises(WarehouseUnusable) as raised, warehouse.begin() as connection:
        damaged(connection).execute(statement)

    assert (raised.value.code, raised.value.exit_code) == ("warehouse_schema", 2)
    assert tells_nothing(raised.value)
    assert "sign" not in repr(raised.value)


def test_a_statement_no_database_takes_is_a_mistake_of_ours_on_each(warehouse: Warehouse) -> None:
    with pytest.raises(MedscribeError) as raised, warehouse.begin() as connection:
        connection.execute(sa.text("SELECT 1 FROM WHERE"))

    assert (raised.value.code, raised.value.exit_code) == ("warehouse_statement", 1)


def test_a_run_that_lost_its_lock_moves_no_cursor(on_postgres: tuple[Warehouse, Settings]) -> None:
    warehouse, settings = on_postgres
    landing = landing_for(warehouse, "audioscribe", "sessions")
    ours = sa.text(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid() "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )

    with Warehouse.open(settings, migrate=False) as second, warehouse.locks.hold(LOCK, 0):
        landing.land([record("a")], [], Cursor(NOW, "a"), now=NOW)
        with second.begin() as connection:
            assert connection.execute(ours).all()
        with second.locks.hold(LOCK, 5):
            with pytest.raises(WarehouseTrouble) as raised:
                landing.land([record("b")], [], Cursor(NOW, "b"), now=NOW)
            with pytest.raises(WarehouseTrouble):
                landing.land([record("b")], [], Cursor(NOW, "b"), now=NOW)
            landing_for(second, "audioscribe", "sessions").land([record("c")], [], Cursor(NOW, "c"), now=NOW)

    assert (raised.value.code, raised.value.exit_code) == ("lock_lost", 3)
    assert tells_nothing(raised.value)
    assert [row["signpost"] for row in rows_of(warehouse, sync_cursors)] == ["c"]
    assert [row["source_id"] for row in rows_of(warehouse, source_records)] == ["a", "c"]


def test_what_failed_is_told_and_not_that_its_lock_went_with_it(
    make_settings: MakeSettings, own_server: PostgresServer
) -> None:
    with Warehouse.open(make_settings(warehouse_url=own_server.url)) as warehouse:

        def fail() -> None:
            with warehouse.locks.hold("job", 0):
                own_server.stop()
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        own_server.start()
        deadline = time.monotonic() + 10
        while not warehouse.locks.is_free("job"):
            assert time.monotonic() < deadline
        with warehouse.locks.hold("job", 0):
            assert not warehouse.locks.is_free("job")
