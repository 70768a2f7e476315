"""Dagster's own SQLite storage, with its files held open.

Dagster opens a database anew for each statement, and asks each time which tables and columns there are. Closing the
last connection to a file moves its log into it and deletes the log. Together that is most of what an event costs, and
a run over a hundred days stores nearly a thousand. Here a connection stays open until the instance is disposed of, what
was there once is not looked for again, and nothing waits for the disk: after a power cut the newest events may be
missing, and nothing but the web UI reads them.

The files, their tables and what is written are Dagster's. So its own classes, which the web UI and the daemon use, read
and write the same files at the same time, and either takes over from the other.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from dagster import EventLogEntry
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.schedules import SqliteScheduleStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS, create_db_conn_string
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData

__all__ = ["LocalEvents", "LocalRuns", "LocalStorage", "LocalTicks", "held_open"]

INDEX = "index"
"""The database of events that are looked for across runs; every run has one of its own besides."""


def held_open(ref: InstanceRef) -> InstanceRef:
    """The same instance with its files held open; one that stores anywhere else as it is."""
    plain = ref.storage_data
    if plain is None or plain.class_name != DagsterSqliteStorage.__name__:
        return ref
    return ref._replace(storage_data=ConfigurableClassData(__name__, LocalStorage.__name__, plain.config_yaml))


class LocalEvents(SqliteEventLogStorage):
    """Events, in one database for each run and an index of all."""

    def __init__(self, base_dir: str) -> None:
        self._engines: dict[str, sa.Engine] = {}
        self._present: set[str] = set()
        super().__init__(base_dir)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[sa.Connection]:
        with self._db_lock, self._opened(shard).begin() as connection:
            yield connection

    def _opened(self, shard: str) -> sa.Engine:
        engine = self._engines.get(shard)
        if engine is None:
            # One connection, used by one thread after the other: the lock sees to that.
            engine = _engine(self.conn_string_for_shard(shard), poolclass=sa.StaticPool)
            if not _is_made(engine):
                self._make(engine, shard)
            self._close_runs()
            self._engines[shard] = engine
        return engine

    def _make(self, engine: sa.Engine, shard: str) -> None:
        """Makes a database; that of a run like the index, which is sooner done than to ask how it came to be so."""
        if shard != INDEX:
            try:
                _copy_structure(self._opened(INDEX), engine)
            except sa.exc.OperationalError:
                pass  # Somebody looks at the run already, and makes it too.
            else:
                return
        self._initdb(engine, for_index_shard=shard == INDEX)

    def _close_runs(self) -> None:
        """A process that looks at many runs holds only the last one open."""
        for shard in [each for each in self._engines if each != INDEX]:
            self._engines.pop(shard).dispose()

    def store_event(self, event: EventLogEntry) -> None:
        """Stores an event."""
        super().store_event(event)
        # Who follows a run in the web UI waits for its file to change; what is written goes to the log beside it first.
        os.utime(self.path_for_shard(event.run_id))

    def has_table(self, table_name: str) -> bool:
        """Whether the index has a table; none ever goes away."""
        if table_name not in self._present and super().has_table(table_name):
            self._present.add(table_name)
        return table_name in self._present

    def _has_asset_key_col_on_connection(self, conn: sa.Connection, column_name: str) -> bool:
        name = f"asset_keys.{column_name}"
        if name not in self._present and super()._has_asset_key_col_on_connection(conn, column_name):
            self._present.add(name)
        return name in self._present

    def wipe(self) -> None:
        """Forgets all events, and deletes the files of the runs."""
        with self._db_lock:
            self._close_runs()
        super().wipe()

    def dispose(self) -> None:
        """Closes the files."""
        super().dispose()
        with self._db_lock:
            for engine in self._engines.values():
                engine.dispose()
            self._engines.clear()


class LocalRuns(SqliteRunStorage):
    """Runs."""

    _engine: sa.Engine | None = None

    @classmethod
    def from_local(cls, base_dir: str, inst_data: ConfigurableClassData | None = None) -> Self:
        """Opens the database in a folder, made if it is not there."""
        url = create_db_conn_string(base_dir, "runs")
        return cls(url, inst_data) if _is_made_at(url) else super().from_local(base_dir, inst_data)

    @contextmanager
    def connect(self) -> Iterator[sa.Connection]:
        """A connection in a transaction."""
        if self._engine is None:
            self._engine = _engine(self._conn_string)
        with self._engine.begin() as connection:
            yield connection

    def dispose(self) -> None:
        """Closes the file."""
        super().dispose()
        if self._engine is not None:
            self._engine.dispose()


class LocalTicks(SqliteScheduleStorage):
    """Ticks of schedules and sensors. A run stores none, so this only opens sooner."""

    @classmethod
    def from_local(cls, base_dir: str, inst_data: ConfigurableClassData | None = None) -> SqliteScheduleStorage:
        """Opens the database in a folder, made if it is not there."""
        url = create_db_conn_string(base_dir, "schedules")
        return cls(url, inst_data) if _is_made_at(url) else super().from_local(base_dir, inst_data)


class LocalStorage(DagsterSqliteStorage):
    """Runs, events and ticks of an instance, in the files where Dagster keeps them."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        # Past Dagster's class, which would open the same files in its own way first.
        super(DagsterSqliteStorage, self).__init__()  # type: ignore[no-untyped-call]  # Dagster has no types there
        self.base_dir = base_dir
        self._inst_data = inst_data
        history = Path(base_dir) / "history"
        self._run_storage = LocalRuns.from_local(str(history))
        self._event_log_storage = LocalEvents(str(history / "runs"))
        self._schedule_storage = LocalTicks.from_local(str(Path(base_dir) / "schedules"))

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Called by Dagster with what `config_type` lets through."""
        return cls.from_local(inst_data=inst_data, **config_value)


def _engine(url: str, **options: Any) -> sa.Engine:
    arguments = {"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False}
    engine = sa.create_engine(url, connect_args=arguments, **options)
    sa.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=NORMAL"))
    return engine


def _copy_structure(source: sa.Engine, target: sa.Engine) -> None:
    """Gives an empty database the tables, indexes and version of another, all or nothing."""
    with source.connect() as connection:
        version = connection.exec_driver_sql("select version_num from alembic_version").scalar_one()
        found = connection.exec_driver_sql("select sql from sqlite_master where sql is not null order by rowid")
        statements = [sql for sql in found.scalars() if "sqlite_sequence" not in sql]
    with target.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        for statement in statements:
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql("insert into alembic_version values (?)", (version,))
        connection.commit()


def _is_made_at(url: str) -> bool:
    if not Path(sa.make_url(url).database or "").exists():
        return False
    engine = _engine(url, poolclass=sa.NullPool)
    return _is_made(engine)


def _is_made(engine: sa.Engine) -> bool:
    """Whether Dagster has made its tables and marked their version: it then changes nothing when it opens a database.

    To find that out by its own way means to load every migration it ever had.
    """
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return False
        return connection.exec_driver_sql("select 1 from alembic_version").first() is not None
