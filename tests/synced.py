"""A small clinic that has been synced once: its sandbox, its home with warehouse and Dagster instance.

Made once for a test process, by the code the command runs; each test gets copies, so that it may change anything.
"""

from __future__ import annotations

import atexit
import csv
import functools
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.cli import runner
from medscribe_pipeline.sandbox import MARKERS, CorpusOptions, Sandbox
from medscribe_pipeline.settings import Settings
from medscribe_pipeline.visits import COLUMNS, read_visits
from medscribe_pipeline.warehouse.days import DayRule
from medscribe_pipeline.warehouse.manifest import import_visits
from medscribe_pipeline.warehouse.store import Warehouse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "CLOSED_PORT",
    "CORPUS",
    "DAGSTER_ON_PYDANTIC",
    "DAYS",
    "Clinic",
    "clinic",
    "empty_clinic",
    "secrets_of",
    "tables_of",
    "write_manifest",
]

CORPUS = CorpusOptions(days=4, audios_per_day=5, sessions_per_day=2)
DAYS = [date(2026, 3, 28), date(2026, 3, 29), date(2026, 3, 30), date(2026, 3, 31)]
DAGSTER_ON_PYDANTIC = "ignore:The `__fields__` attribute is deprecated:DeprecationWarning:dagster_shared"
"""Dagster still asks pydantic by an old name."""

CLOSED_PORT = "http://127.0.0.1:9"  # discard: nothing listens there


@dataclass(frozen=True)
class Clinic:
    """A sandbox that listens, and a home; the environment points to both."""

    sandbox: Sandbox
    home: Path

    @property
    def database(self) -> Path:
        return self.home / "warehouse.sqlite"

    @property
    def settings(self) -> Settings:
        return Settings.load()

    def open(self) -> Warehouse:
        return Warehouse.open(self.settings)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What a query finds in the warehouse, read past all our code."""
        with closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(query, values).fetchall()

    def value(self, query: str, *values: object) -> Any:
        """The one value a query finds."""
        ((found,),) = self.rows(query, *values)
        return found

    def note_ids(self) -> list[str]:
        """The ids of all notes, sorted."""
        return [row[0] for row in self.rows("SELECT note_id FROM notes ORDER BY 1")]

    def change(self, statement: str, *values: object) -> None:
        """Changes the warehouse as somebody would with another program: past foreign keys and views, too."""
        with closing(sqlite3.connect(self.database)) as connection, connection:
            connection.execute("PRAGMA foreign_keys=OFF")
            connection.execute("PRAGMA legacy_alter_table=ON")
            connection.execute(statement, values)


@pytest.fixture
def clinic(clean_environment: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Clinic]:
    """A clinic after its first sync."""
    assert clean_environment
    shutil.copytree(_template(), tmp_path, dirs_exist_ok=True)
    with Sandbox(state=tmp_path / "sandbox.sqlite", corpus=CORPUS) as sandbox:
        _point_to(monkeypatch, sandbox, tmp_path / "home")
        yield Clinic(sandbox, tmp_path / "home")


@pytest.fixture
def empty_clinic(clean_environment: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Clinic]:
    """A clinic nobody has synced yet."""
    assert clean_environment
    with Sandbox(corpus=CORPUS) as sandbox:
        _point_to(monkeypatch, sandbox, tmp_path / "home")
        yield Clinic(sandbox, tmp_path / "home")


@functools.cache
def _template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="medscribe-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with pytest.MonkeyPatch.context() as patch, Sandbox(state=folder / "sandbox.sqlite", corpus=CORPUS) as sandbox:
        _point_to(patch, sandbox, folder / "home")
        settings = Settings.load()
        write_manifest(folder / "visits.csv", sandbox.world.visits())
        with Warehouse.open(settings) as warehouse:
            rows = read_visits(folder / "visits.csv", zone=settings.zone)
            import_visits(warehouse, rows, days=DayRule.of(settings), now=datetime.now(UTC))
            assert runner.sync(settings, warehouse).failures == []
    return folder


def _point_to(patch: pytest.MonkeyPatch, sandbox: Sandbox, home: Path) -> None:
    environment = sandbox.environment() | {
        "MEDSCRIBE_HOME": str(home),
        "MEDSCRIBE_TIMEZONE": "Europe/Paris",
        "MEDSCRIBE_FIRST_DAY": "2026-01-01",
        "MEDSCRIBE_LOCK_TIMEOUT_S": "0.2",
    }
    for name in [name for name in os.environ if name.startswith(("MEDSCRIBE_", "DAGSTER_"))]:
        patch.delenv(name)
    for name, value in environment.items():
        patch.setenv(name, value)


def write_manifest(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes a visits manifest."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def tables_of(database: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, for comparing before and after."""
    with closing(sqlite3.connect(database)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in names}  # noqa: S608 - our own tables


def secrets_of(clinic: Clinic) -> list[str]:
    """What must not be seen outside the warehouse: markers in names and texts, all identifiers, credentials."""
    world = clinic.sandbox.world
    keys = [key for name in ("patients", "users", "audios", "notes") for key in world.records(name)]
    encounters = [str(row["encounter_id"]) for row in world.visits() if row["encounter_id"]]
    tokens = [value for name, value in clinic.sandbox.environment().items() if name.endswith("_TOKEN")]
    return [*MARKERS, *keys, *encounters, *tokens, *clinic.note_ids()]
