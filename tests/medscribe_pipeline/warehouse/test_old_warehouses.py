"""Warehouses as earlier versions left them: brought to today with every row, by however many at once, never back."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from alembic import command

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.warehouse import migrate
from medscribe_pipeline.warehouse.arrivals import Cursor
from medscribe_pipeline.warehouse.notes import read_notes
from medscribe_pipeline.warehouse.store import SCHEMA_HEAD, Warehouse
from medscribe_pipeline.warehouse.tables import metadata, sync_cursor_history
from medscribe_pipeline.warehouse.views import v_notes, v_transcript_turns, view_metadata
from tests.databases import NOW, dump, landing_for, new_database, record, rows_of, schema_differences
from tests.old_warehouses import dumped, restore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from medscribe_pipeline.settings import Settings

    MakeSettings = Callable[..., Settings]

RELEASED = ["0001", "0002", "0003", "0004", "0005"]

OPENER = """
import sys
from medscribe_pipeline.settings import Settings
from medscribe_pipeline.warehouse.store import Warehouse
for url in sys.argv[1:]:
    print("ready", flush=True)
    sys.stdin.readline()
    with Warehouse.open(Settings(warehouse_url=url)) as warehouse:
        print(warehouse.schema_version(), flush=True)
"""


def raw_rows(warehouse: Warehouse, columns: dict[str, list[str]]) -> dict[str, list[tuple[Any, ...]]]:
    """These columns of these tables, as the driver gives them; JSON null and nothing are the same."""
    with warehouse.read() as connection:
        return {
            table: sorted(
                map(tuple, connection.execute(sa.select(*map(sa.column, names)).select_from(sa.table(table)))), key=repr
            )
            for table, names in columns.items()
        }


def columns_of(warehouse: Warehouse) -> dict[str, list[str]]:
    with warehouse.read() as connection:
        there = sa.inspect(connection)
        names = [name for name in there.get_table_names() if name != "alembic_version"]
        return {name: [column["name"] for column in there.get_columns(name)] for name in names}


def test_there_is_a_dump_of_every_released_schema() -> None:
    for backend in ("sqlite", "postgresql"):
        assert dumped(backend)[: len(RELEASED)] == RELEASED


@pytest.mark.parametrize("version", dumped("sqlite"))
def test_every_row_of_an_older_warehouse_is_there_afterwards(
    make_settings: MakeSettings, database_url: str, version: str
) -> None:
    restore(database_url, version)
    with Warehouse.open(make_settings(warehouse_url=database_url), migrate=False) as warehouse:
        assert warehouse.schema_version() == version
        old = columns_of(warehouse)
        before = raw_rows(warehouse, old)

        assert warehouse.migrate() is (version != SCHEMA_HEAD)

        assert raw_rows(warehouse, old) == before
        assert min(len(rows) for rows in before.values()) > 0
        assert schema_differences(warehouse) == []


def test_what_was_written_then_is_read_and_changed_by_what_runs_now(
    make_settings: MakeSettings, database_url: str
) -> None:
    restore(database_url, RELEASED[0])
    settings = make_settings(warehouse_url=database_url)
    with Warehouse.open(settings) as warehouse:
        with warehouse.read() as connection:
            first, second = sorted(connection.execute(sa.select(v_notes.c.note_id)).scalars())
            full, bare = read_notes(connection, [first, second], with_transcripts=True)
            said = connection.execute(sa.select(v_transcript_turns.c.speaker)).scalars().all()
            nothing = connection.scalar(sa.text("SELECT count(*) FROM notes WHERE practitioner IS NULL"))
        landing = landing_for(warehouse)
        landed = landing.land([record("new")], [], Cursor(NOW, "new"), now=NOW)
        landing.record_history(Cursor(), now=NOW)

        assert full.note.visit.practitioner is not None
        assert full.note.visit.practitioner.display == "Dr Zz"
        assert bare.note.visit.practitioner is None
        assert (len(said), nothing, landed.new) == (2, 1, 1)
        assert [row["id"] for row in rows_of(warehouse, sync_cursor_history)] == [1, 2, 3]
        assert set(dump(warehouse)) == set(metadata.tables)


def test_there_is_no_way_back(make_settings: MakeSettings, database_url: str) -> None:
    with Warehouse.open(make_settings(warehouse_url=database_url)) as warehouse:
        settings = migrate.config()
        with warehouse.begin() as connection:
            settings.attributes["connection"] = connection
            with pytest.raises(ConfigError, match="only moves forward") as raised:
                command.downgrade(settings, RELEASED[0])

        assert raised.value.code == "no_downgrade"
        assert warehouse.schema_version() == SCHEMA_HEAD
        assert set(dump(warehouse)) == set(metadata.tables)


@pytest.fixture(params=["sqlite", "postgresql"])
def two_databases(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """URLs of an empty database and of one with the oldest schema."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            urls = [f"sqlite:///{tmp_path / name}.sqlite" for name in ("empty", "old")]
        else:
            server = request.getfixturevalue("postgres_server_url")
            urls = [stack.enter_context(new_database(server)) for _ in range(2)]
        restore(urls[1], RELEASED[0])
        yield urls


def test_two_processes_that_start_at_once_migrate_once(
    clean_environment: Path, make_settings: MakeSettings, two_databases: list[str]
) -> None:
    assert clean_environment
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPENER, *two_databases],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        heard = []
        for _ in two_databases:
            heard += [process.stdout.readline() for process in processes if process.stdout]
            for process in processes:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            heard += [process.stdout.readline() for process in processes if process.stdout]
        said = [process.communicate(timeout=20) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait(10)

    assert heard == ["ready\n", "ready\n", f"{SCHEMA_HEAD}\n", f"{SCHEMA_HEAD}\n"] * 2
    assert said == [("", "")] * 2
    for url in two_databases:
        with Warehouse.open(make_settings(warehouse_url=url), migrate=False) as warehouse, warehouse.read() as reading:
            assert set(sa.inspect(reading).get_view_names()) == set(view_metadata.tables)
            assert reading.scalar(sa.text("SELECT count(*) FROM alembic_version")) == 1
