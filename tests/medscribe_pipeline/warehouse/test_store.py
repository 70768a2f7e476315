"""Opening, migrating, transactions: what works, and one clear message for each thing that does not."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from medscribe_pipeline.errors import ConfigError, MedscribeError, WarehouseTrouble
from medscribe_pipeline.warehouse import migrate, store
from medscribe_pipeline.warehouse.store import SCHEMA_HEAD, Warehouse, in_chunks
from medscribe_pipeline.warehouse.tables import change_counter, sync_cursors
from tests.databases import NOW, UNPRIVILEGED, dump, rows_of, schema_differences

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from medscribe_pipeline.settings import Settings

    MakeSettings = Callable[..., Settings]


def _cursor(stream: str = "audios", **changes: Any) -> dict[str, Any]:
    row = {"account": "default", "provider": "askara", "stream": stream, "watermark": NOW, "signpost": None}
    return {**row, "moved_at": NOW, "run_id": None, **changes}


def test_the_known_head_is_the_newest_migration() -> None:
    assert migrate.head() == SCHEMA_HEAD


def test_a_fresh_database_gets_the_schema_of_the_tables(make_settings: MakeSettings, database_url: str) -> None:
    with Warehouse.open(make_settings(warehouse_url=database_url)) as warehouse:
        differences = schema_differences(warehouse)
        version = warehouse.schema_version()

    assert differences == []
    assert version == SCHEMA_HEAD


def test_opening_again_changes_nothing(make_settings: MakeSettings, database_url: str) -> None:
    settings = make_settings(warehouse_url=database_url)
    with Warehouse.open(settings, migrate=False) as empty:
        assert empty.schema_version() is None
    with Warehouse.open(settings) as first, first.begin() as connection:
        first.upsert(connection, sync_cursors, [_cursor()])

    with Warehouse.open(settings) as second:
        assert second.migrate() is False
        assert len(rows_of(second, sync_cursors)) == 1
        assert [row["value"] for row in rows_of(second, change_counter)] == [0]


def test_many_that_open_at_once_migrate_once(make_settings: MakeSettings, database_url: str) -> None:
    settings = make_settings(warehouse_url=database_url)
    together = threading.Barrier(4)

    def open_one(_: int) -> tuple[bool, str | None]:
        with Warehouse.open(settings, migrate=False) as warehouse:
            together.wait(10)
            return warehouse.migrate(), warehouse.schema_version()

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(open_one, range(4)))

    assert sorted(done for done, _ in results) == [False, False, False, True]
    assert {version for _, version in results} == {SCHEMA_HEAD}


def test_a_newer_schema_is_left_alone(make_settings: MakeSettings, database_url: str) -> None:
    settings = make_settings(warehouse_url=database_url)
    with Warehouse.open(settings) as warehouse, warehouse.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(ConfigError) as raised:
        Warehouse.open(settings)

    assert raised.value.code == "warehouse_newer"
    with Warehouse.open(settings, migrate=False) as warehouse:
        assert warehouse.schema_version() == "9999"


def test_a_failed_migration_leaves_nothing_behind(make_settings: MakeSettings, database_url: str) -> None:
    settings = make_settings(warehouse_url=database_url)
    with Warehouse.open(settings, migrate=False) as warehouse, warehouse.begin() as connection:
        # In the way of the schema: the migration fails after it has made the tables before it.
        connection.execute(sa.text("CREATE TABLE visits (x INTEGER)"))

    with pytest.raises(MedscribeError) as raised:
        Warehouse.open(settings)

    assert raised.value.__cause__ is None
    with Warehouse.open(settings, migrate=False) as warehouse, warehouse.read() as connection:
        assert sa.inspect(connection).get_table_names() == ["visits"]


def test_the_default_is_a_file_under_home(make_settings: MakeSettings, tmp_path: Path) -> None:
    with Warehouse.open(make_settings(home=tmp_path / "deep" / "home")):
        assert (tmp_path / "deep" / "home" / "warehouse.sqlite").is_file()


def test_a_new_file_is_for_its_owner_alone_and_one_that_is_there_stays_as_it_is(make_settings: MakeSettings) -> None:
    settings = make_settings()
    with Warehouse.open(settings) as warehouse, warehouse.begin():
        files = [path for path in settings.home.iterdir() if path.is_file()]
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in files}
    assert {"warehouse.sqlite", "warehouse.sqlite-wal"} <= modes.keys()
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(settings.home.stat().st_mode) == 0o700

    (settings.home / "warehouse.sqlite").chmod(0o640)
    Warehouse.open(settings).close()

    assert stat.S_IMODE((settings.home / "warehouse.sqlite").stat().st_mode) == 0o640


def test_a_path_may_begin_with_a_tilde(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    with Warehouse.open(make_settings(warehouse_url="sqlite:///~/mine/w.sqlite")):
        assert (tmp_path / "mine" / "w.sqlite").is_file()


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("nonsense", "warehouse_url"),
        ("postgresql+psycopg://host:port/db", "warehouse_url"),
        ("unheard_of://host/db", "warehouse_driver"),
        ("mysql+pymysql://host/db", "warehouse_driver"),
        ("postgresql+nodriver://host/db", "warehouse_driver"),
        ("postgresql+pg8000://host/db", "warehouse_driver"),
    ],
)
def test_a_url_that_cannot_be_right_is_a_setting_to_change(make_settings: MakeSettings, url: str, code: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Warehouse.open(make_settings(warehouse_url=url))

    assert raised.value.code == code
    assert "MEDSCRIBE_WAREHOUSE_URL" in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("place", ["127.0.0.1:9/db", "/db?host=/nowhere"])
def test_nobody_who_answers_may_be_back_later(make_settings: MakeSettings, place: str) -> None:
    with pytest.raises(WarehouseTrouble) as raised:
        Warehouse.open(make_settings(warehouse_url=f"postgresql+psycopg://someone:canary-secret@{place}"))

    assert (raised.value.code, raised.value.exit_code) == ("warehouse_unreachable", 3)
    assert "MEDSCRIBE_WAREHOUSE_URL" in str(raised.value)
    assert "canary" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_file_that_is_no_database_is_left_alone(make_settings: MakeSettings, tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear colleague, " * 100)

    with pytest.raises(ConfigError) as raised:
        Warehouse.open(make_settings(warehouse_url=f"sqlite:///{path}"))

    assert "not a SQLite database" in raised.value.message
    assert path.read_text() == "Dear colleague, " * 100


def test_a_folder_in_the_place_of_the_file_is_said_so(make_settings: MakeSettings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Cannot open the warehouse file"):
        Warehouse.open(make_settings(warehouse_url=f"sqlite:///{tmp_path}"))


def test_a_file_in_the_place_of_the_folder_is_said_so(make_settings: MakeSettings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError) as raised:
        Warehouse.open(make_settings(warehouse_url=f"sqlite:///{tmp_path / 'file' / 'w.sqlite'}"))

    assert raised.value.code == "warehouse_unwritable"


@contextmanager
def _as_nobody() -> Iterator[Path]:
    """A folder, and for the time of the block a user who is not root: root may write everywhere."""
    folder = Path(tempfile.mkdtemp(prefix="medscribe-"))
    folder.chmod(0o755)
    before = os.geteuid()
    if before == 0:
        os.chown(folder, UNPRIVILEGED, UNPRIVILEGED)
        os.seteuid(UNPRIVILEGED)
    try:
        yield folder
    finally:
        os.seteuid(before)
        folder.chmod(stat.S_IRWXU)
        shutil.rmtree(folder)


def test_an_unwritable_folder_is_said_so(make_settings: MakeSettings) -> None:
    with _as_nobody() as folder:
        folder.chmod(0o555)

        with pytest.raises(ConfigError) as new_folder:
            Warehouse.open(make_settings(home=folder / "home"))
        with pytest.raises(ConfigError) as new_file:
            Warehouse.open(make_settings(warehouse_url=f"sqlite:///{folder / 'w.sqlite'}"))

    assert new_folder.value.code == "warehouse_unwritable"
    assert new_file.value.code == "warehouse_unwritable"


def test_a_read_only_file_is_said_so(make_settings: MakeSettings) -> None:
    with _as_nobody() as folder:
        settings = make_settings(warehouse_url=f"sqlite:///{folder / 'w.sqlite'}")
        Warehouse.open(settings).close()
        (folder / "w.sqlite").chmod(0o444)

        with (
            pytest.raises(ConfigError, match="read-only"),
            Warehouse.open(settings) as warehouse,
            warehouse.begin() as connection,
        ):
            warehouse.upsert(connection, sync_cursors, [_cursor()])


def test_a_damaged_file_is_said_so(make_settings: MakeSettings, tmp_path: Path) -> None:
    path = tmp_path / "w.sqlite"
    settings = make_settings(warehouse_url=f"sqlite:///{path}")
    Warehouse.open(settings).close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 40_000)

    with pytest.raises(ConfigError) as raised, Warehouse.open(settings) as warehouse:
        dump(warehouse)

    assert raised.value.code == "warehouse_damaged"


def test_an_exception_undoes_the_transaction(warehouse: Warehouse) -> None:
    def fail() -> None:
        with warehouse.begin() as connection:
            warehouse.upsert(connection, sync_cursors, [_cursor()])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert rows_of(warehouse, sync_cursors) == []


def test_errors_of_the_caller_pass_unchanged(warehouse: Warehouse) -> None:
    for error in (FileNotFoundError("x"), ModuleNotFoundError("x"), ConfigError("x", code="mine")):
        with pytest.raises(type(error)) as raised, warehouse.begin():
            raise error
        assert raised.value is error


def test_a_refused_statement_shows_neither_statement_nor_values(warehouse: Warehouse) -> None:
    with pytest.raises(MedscribeError) as raised, warehouse.begin() as connection:
        warehouse.upsert(connection, sync_cursors, [_cursor(signpost="canary-patient", moved_at=None)])

    assert raised.value.code == "warehouse_statement"
    assert raised.value.__cause__ is None
    assert "canary" not in str(raised.value)
    assert "sync_cursors" not in str(raised.value)


def test_a_read_sees_one_state_of_things(warehouse: Warehouse) -> None:
    query = sa.select(sa.func.count()).select_from(sync_cursors)

    with warehouse.read() as reading:
        before = reading.scalar(query)
        with warehouse.begin() as writing:
            warehouse.upsert(writing, sync_cursors, [_cursor()])
        after = reading.scalar(query)

    assert (before, after) == (0, 0)
    assert len(rows_of(warehouse, sync_cursors)) == 1


def test_writers_wait_for_each_other(warehouse: Warehouse) -> None:
    """Read, then write, from many threads: no update is lost and none fails because another one was quicker."""

    def raise_counter(_: int) -> None:
        with warehouse.begin() as connection:
            value = connection.scalar(sa.select(change_counter.c.value).with_for_update())
            connection.execute(sa.update(change_counter).values(value=(value or 0) + 1))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(raise_counter, range(24)))

    assert [row["value"] for row in rows_of(warehouse, change_counter)] == [24]


def test_ctrl_c_within_a_statement_lets_go_of_the_database(
    make_settings: MakeSettings, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "BUSY_TIMEOUT_S", 0.5)

    with Warehouse.open(make_settings(warehouse_url=database_url)) as warehouse:
        execute = warehouse.engine.dialect.do_execute

        def interrupted(*args: Any, **kwargs: Any) -> None:
            execute(*args, **kwargs)
            if args[1].startswith("SELECT"):
                raise KeyboardInterrupt

        monkeypatch.setattr(warehouse.engine.dialect, "do_execute", interrupted)
        try:
            with warehouse.begin() as connection:
                connection.execute(sa.insert(sync_cursors), [_cursor("a"), _cursor("b")])
                connection.execute(sa.select(sync_cursors))
        except KeyboardInterrupt:
            # Who tidies up now is still handling it: nothing of it is gone yet.
            monkeypatch.undo()
            with warehouse.begin() as connection:
                left = connection.scalar(sa.select(sa.func.count()).select_from(sync_cursors))

        assert left == 0


def test_upsert_replaces_by_key(warehouse: Warehouse) -> None:
    with warehouse.begin() as connection:
        warehouse.upsert(connection, sync_cursors, [_cursor("a", signpost="1"), _cursor("b", signpost="2")])
        sent = warehouse.upsert(connection, sync_cursors, [_cursor("b", signpost="3"), _cursor("c", signpost="4")])
        nothing = warehouse.upsert(connection, sync_cursors, [])

    assert (sent, nothing) == (2, 0)
    found = {row["stream"]: row["signpost"] for row in rows_of(warehouse, sync_cursors)}
    assert found == {"a": "1", "b": "3", "c": "4"}


def test_upsert_keeps_what_is_newer(warehouse: Warehouse) -> None:
    def write(watermark: Any, signpost: str) -> str | None:
        row = _cursor(watermark=watermark, signpost=signpost)
        with warehouse.begin() as connection:
            warehouse.upsert(connection, sync_cursors, [row], not_older_by="watermark")
        found: str | None = rows_of(warehouse, sync_cursors)[0]["signpost"]
        return found

    assert write(None, "unknown") == "unknown"
    assert write(NOW, "first") == "first"
    assert write(NOW - timedelta(microseconds=1), "older") == "first"
    assert write(NOW, "as old") == "as old"
    assert write(NOW + timedelta(microseconds=1), "newer") == "newer"


def test_sqlite_keeps_what_is_committed_through_a_power_cut(make_settings: MakeSettings, tmp_path: Path) -> None:
    """The durability settings themselves: a test cannot pull the plug."""
    with (
        Warehouse.open(make_settings(warehouse_url=f"sqlite:///{tmp_path / 'w.sqlite'}")) as warehouse,
        warehouse.read() as connection,
    ):
        found = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]

    assert found == ["wal", 2, 1]


def test_another_program_that_holds_the_file_is_named_as_such(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medscribe_pipeline.warehouse.store.BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "w.sqlite"
    settings = make_settings(warehouse_url=f"sqlite:///{path}")
    Warehouse.open(settings).close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    try:
        with (
            pytest.raises(WarehouseTrouble, match="locked by another program"),
            Warehouse.open(settings) as warehouse,
            warehouse.begin(),
        ):
            pass
    finally:
        other.close()


def test_a_new_file_that_another_process_writes_at_this_moment_is_waited_for(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    path = tmp_path / "w.sqlite"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE somebody_elses (x)")
    other.execute("BEGIN IMMEDIATE")
    other.execute("INSERT INTO somebody_elses VALUES (1)")
    later = threading.Timer(0.2, other.close)
    later.start()

    try:
        with Warehouse.open(make_settings(warehouse_url=f"sqlite:///{path}")) as warehouse:
            assert warehouse.schema_version() == SCHEMA_HEAD
    finally:
        later.join(10)


@pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
def test_postgresql_compresses_the_cheapest_way_it_was_built_with(warehouse: Warehouse) -> None:
    ways = sa.text("SELECT setting, enumvals FROM pg_settings WHERE name = 'default_toast_compression'")

    with warehouse.begin() as connection:
        setting, known = connection.execute(ways).one()
        connection.rollback()

    assert setting == ("lz4" if "lz4" in known else "pglz")


def test_chunks_are_whole_and_in_order() -> None:
    assert [list(chunk) for chunk in in_chunks(range(2500))] == [
        list(range(1000)),
        list(range(1000, 2000)),
        list(range(2000, 2500)),
    ]
    assert list(in_chunks([])) == []
