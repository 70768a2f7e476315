"""`Warehouse`: opening, migrating, transactions and the bulk upsert everything is written with."""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import orjson
import sqlalchemy as sa

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.notes import canonical_json
from medscribe_pipeline.warehouse.copying import make_copying
from medscribe_pipeline.warehouse.failures import translated
from medscribe_pipeline.warehouse.locks import WORKER, FileLocks, Locks, PostgresLocks, new_worker_name
from medscribe_pipeline.warehouse.sealing import Sealing
from medscribe_pipeline.warehouse.statistics import Statistics, rows_added
from medscribe_pipeline.warehouse.writing import upsert

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medscribe_pipeline.settings import Settings

__all__ = ["SCHEMA_HEAD", "Warehouse", "in_chunks"]

SCHEMA_HEAD = "0010"
"""Newest migration. A test holds it against the migrations folder; knowing it spares every start Alembic's import."""

MIGRATION_TIMEOUT_S = 120.0
BUSY_TIMEOUT_S = 60.0
POLL_S = 0.01
CACHE_KIB = 16 * 1024
CHECKPOINT_PAGES = 4000
"""16 MiB of log; SQLite's own default is 4."""

# SQLite's own ceiling on bound parameters is 32766 since 3.32; executemany binds one row at a time, `IN` lists do not.
IN_CHUNK = 1000

log = logging.getLogger(__name__)

T = TypeVar("T")


class Warehouse:
    """An open warehouse, for one account.

    Use `Warehouse.open`. Safe to share between threads; each `begin`/`read` takes its own connection.

    Attributes:
        engine: The SQLAlchemy engine. Parameters are hidden from its errors and its log.
        account: `MEDSCRIBE_ACCOUNT`; every query of ours filters by it.
        locks: Locks shared with all other processes on this warehouse.
        sealing: What payloads in quarantine are sealed with.
    """

    def __init__(self, engine: sa.Engine, *, account: str, locks: Locks, sealing: Sealing | None = None) -> None:
        self.engine = engine
        self.account = account
        self.locks = locks
        self.sealing = sealing or Sealing()
        self._statistics = Statistics()

    @classmethod
    def open(cls, settings: Settings, *, migrate: bool = True) -> Warehouse:
        """Opens the warehouse of `settings`, creating or migrating it first.

        Raises:
            ConfigError: The URL is wrong, the database cannot be reached or written, or it was written by a
                newer version of this project.
        """
        url = _parse_url(settings.database_url)
        engine = _create_engine(url)
        locks: Locks = (
            PostgresLocks(engine) if engine.dialect.name == "postgresql" else FileLocks(_lock_folder(url, settings))
        )
        if engine.dialect.name not in ("sqlite", "postgresql"):
            log.warning(
                "The warehouse is neither SQLite nor PostgreSQL: nobody has tested this one. Run medscribe on one "
                "machine only, because locks are files under MEDSCRIBE_HOME: database=%s",
                engine.dialect.name,
            )
        warehouse = cls(engine, account=settings.account, locks=locks, sealing=Sealing.of(settings))
        if migrate:
            try:
                warehouse.migrate()
            except BaseException:
                warehouse.close()
                raise
        return warehouse

    def close(self) -> None:
        """Gives the connections back; the warehouse cannot be used afterwards."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """One write transaction: commits at the end of the block, rolls back on any exception.

        Raises:
            WarehouseError: The database cannot be used, or a lock this process holds was lost.
        """
        self.locks.assure()
        with (
            translated(),
            self.engine.connect().execution_options(medscribe_write=True) as connection,
            connection.begin(),
        ):
            yield connection
            rows = rows_added(connection)
        if rows:
            self._statistics.renew(self.engine, rows)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One read transaction: a consistent view, nothing is written."""
        with translated(), self.engine.connect() as connection, _with_one_view(connection).begin():
            yield connection

    @contextmanager
    def worker(self) -> Iterator[str]:
        """A name under which rows may be claimed, alive (see `is_alive`) for as long as the block runs."""
        name = new_worker_name()
        with self.locks.hold(f"{WORKER}{name}", 0):
            yield name

    def is_alive(self, worker: str) -> bool:
        """Whether the worker of that name still runs, on this machine or (PostgreSQL) on another."""
        return not self.locks.is_free(f"{WORKER}{worker}")

    def schema_version(self) -> str | None:
        """The migration the database stands at; `None` for an empty database."""
        with self.read() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            version: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
            return version

    def migrate(self) -> bool:
        """Brings the schema to `SCHEMA_HEAD`; returns whether anything had to be done.

        Safe when several processes start at once: one migrates, the others wait for it.
        """
        if self.schema_version() == SCHEMA_HEAD:
            return False
        from medscribe_pipeline.warehouse import migrate as migration  # noqa: PLC0415  # Alembic costs 0.2 s; rarely needed

        with self.locks.hold("migrate", MIGRATION_TIMEOUT_S):
            if self.schema_version() == SCHEMA_HEAD:
                return False
            with translated():
                migration.upgrade(self.engine)
        return True

    def upsert(
        self,
        connection: sa.Connection,
        table: sa.Table,
        rows: Sequence[dict[str, Any]],
        *,
        not_older_by: str | None = None,
    ) -> int:
        """Inserts rows, replacing those with the same primary key: see `writing.upsert`."""
        return upsert(connection, table, rows, not_older_by=not_older_by)


def in_chunks(values: Sequence[T], size: int = IN_CHUNK) -> Iterator[Sequence[T]]:
    """Slices of at most `size` values, for `IN` lists.

    >>> [list(chunk) for chunk in in_chunks([1, 2, 3], 2)]
    [[1, 2], [3]]
    """
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _parse_url(text: str) -> sa.URL:
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        url = None
    if url is None:
        raise ConfigError(
            "MEDSCRIBE_WAREHOUSE_URL is not a URL such as postgresql+psycopg://user@host/database or sqlite:///file",
            code="warehouse_url",
        )
    if url.get_backend_name() == "sqlite" and url.database:
        url = url.set(database=str(Path(url.database).expanduser()))
    return url


def _create_engine(url: sa.URL) -> sa.Engine:
    """The engine; nothing is connected yet."""
    # At DEBUG it prints the rows that queries return; `hide_parameters` hides only what goes in.
    logging.getLogger("sqlalchemy.engine.Engine").setLevel(logging.WARNING)
    try:
        if url.get_backend_name() == "postgresql":
            engine = sa.create_engine(
                url,
                hide_parameters=True,
                pool_pre_ping=True,
                json_serializer=lambda value: (value if isinstance(value, bytes) else canonical_json(value)).decode(),
                json_deserializer=orjson.loads,
            )
            make_copying(engine)
            sa.event.listen(engine, "connect", _prepare_postgres)
            return engine
        if url.get_backend_name() != "sqlite":
            return sa.create_engine(url, hide_parameters=True, pool_pre_ping=True)
        if url.database and url.database != ":memory:":
            _make_file(Path(url.database))
        engine = sa.create_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_TIMEOUT_S})
    except OSError:
        raise ConfigError(
            "Cannot create the warehouse or its folder; make that place writable, or set MEDSCRIBE_HOME or "
            "MEDSCRIBE_WAREHOUSE_URL",
            code="warehouse_unwritable",
        ) from None
    except (ModuleNotFoundError, sa.exc.NoSuchModuleError) as error:
        raise ConfigError(
            "The database driver named in MEDSCRIBE_WAREHOUSE_URL is not installed; for PostgreSQL: "
            "pip install medscribe-pipeline[postgres], and a URL that begins with postgresql+psycopg://",
            code="warehouse_driver",
            context={"module": getattr(error, "name", None) or "?"},
        ) from None
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    sa.event.listen(engine, "invalidate", _let_go_of_sqlite)
    return engine


def _make_file(path: Path) -> None:
    """Makes an empty file, and its folder, for the owner alone: SQLite would let whoever is on the machine read it.

    What is there already stays as it is. The files SQLite puts beside it get the permissions of this one.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        path.touch(mode=0o600)


def _with_one_view(connection: sa.Connection) -> sa.Connection:
    """The connection, its next transaction seeing the database as it is at one moment."""
    match connection.dialect.name:
        case "sqlite":
            # Does so of its own accord.
            return connection
        case "postgresql":
            return connection.execution_options(isolation_level="REPEATABLE READ")
    try:
        known = connection.dialect.get_isolation_level_values(connection.connection.dbapi_connection)  # type: ignore[arg-type]  # there is one
    except NotImplementedError:
        return connection
    level = next((each for each in ("REPEATABLE READ", "SERIALIZABLE") if each in known), None)
    return connection.execution_options(isolation_level=level) if level else connection


def _prepare_postgres(connection: Any, _record: Any) -> None:
    # Compressing texts and documents costs the server more than all else it does with them: with LZ4, where it was
    # built with it, less than half. What is there already stays readable.
    cursor = connection.cursor()
    cursor.execute(
        "SELECT set_config(name, 'lz4', false) FROM pg_settings "
        "WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)"
    )
    cursor.close()
    connection.commit()


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # We say BEGIN ourselves (below): the driver's own transactions start too late for a consistent read.
    connection.isolation_level = None
    cursor = connection.cursor()
    _use_wal(cursor)
    # FULL, because a delivery claim must survive a power cut before the request it covers goes out.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    # Ids are random, so every batch touches pages all over an index: keep more of them at hand, and copy them from the
    # write-ahead log into the file less often.
    cursor.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
    cursor.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
    cursor.close()


def _use_wal(cursor: Any) -> None:
    """Switches a new file to WAL, once. SQLite does not wait here for another process that does the same: we do."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() >= deadline:
                raise
            time.sleep(POLL_S)
        else:
            return


def _begin_sqlite(connection: sa.Connection) -> None:
    # IMMEDIATE takes the write lock at once: a transaction that reads, then writes, can then never fail half-way
    # because another one wrote in between.
    write = connection.get_execution_options().get("medscribe_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _let_go_of_sqlite(connection: Any, _record: Any, _exception: BaseException | None) -> None:
    # SQLAlchemy closes a connection on which Ctrl-C was pressed without a rollback, and SQLite does not let go of its
    # lock before the last cursor is gone: the traceback has one, as long as somebody tidies up.
    with suppress(sqlite3.Error):
        connection.rollback()


def _lock_folder(url: sa.URL, settings: Settings) -> Path:
    if url.database and url.database != ":memory:":
        database = Path(url.database)
        return database.with_name(f"{database.name}.locks")
    return settings.home / "locks"
