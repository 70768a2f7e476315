"""deploy/postgres and deploy/dagster-postgres.yaml, on a server of their own: roles belong to a whole server."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from dagster import DagsterInstance

from tests.databases import postgres_process, postgres_programs
from tests.deploy.deployed import DEPLOY, text
from tests.synced import DAGSTER_ON_PYDANTIC

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWORD = "it's $1 synthetic"

ACCESS = """
    SELECT datname, pg_get_userbyid(datdba), has_database_privilege('dagster', oid, 'CONNECT'),
           has_database_privilege('medscribe', oid, 'CONNECT')
    FROM pg_database WHERE datname IN ('dagster', 'medscribe') ORDER BY 1
"""


@pytest.fixture(scope="module")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sa.URL]:
    """A server on which the script has run, as the image runs it."""
    programs = postgres_programs()
    assert programs is not None
    folder = tmp_path_factory.mktemp("secrets")
    for name in ("dagster_password", "warehouse_password"):
        (folder / name).write_text(f"{PASSWORD}\n", encoding="utf-8")
    script = folder / "databases.sql"
    script.write_text(text("postgres/databases.sql").replace("/run/secrets", str(folder)), encoding="utf-8")
    with postgres_process(programs) as server:
        url = sa.make_url(server.url)
        options = ["--no-psqlrc", "--host", str(url.query["host"]), "--username", "postgres", "--file", str(script)]
        done = subprocess.run([f"{programs}/psql", *options], capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert PASSWORD not in done.stdout
        yield url


def test_two_databases_whose_owners_see_their_own_only(server_url: sa.URL) -> None:
    engine = sa.create_engine(server_url)
    with engine.connect() as connection:
        owners = [tuple(row) for row in connection.execute(sa.text(ACCESS))]
        hashes = connection.scalars(sa.text("SELECT rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL")).all()
    engine.dispose()

    assert owners == [("dagster", "dagster", True, False), ("medscribe", "medscribe", False, True)]
    assert [each.partition("$")[0] for each in hashes] == ["SCRAM-SHA-256"] * 2


@pytest.mark.filterwarnings(DAGSTER_ON_PYDANTIC)
def test_a_dagster_instance_in_its_database(
    server_url: sa.URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = server_url.set(drivername="postgresql+psycopg2", username="dagster", database="dagster")
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", own.render_as_string(hide_password=False))
    shutil.copy(DEPLOY / "dagster-postgres.yaml", tmp_path / "dagster.yaml")

    with DagsterInstance.from_config(str(tmp_path)) as instance:
        kept = (type(instance.run_storage).__name__, type(instance.compute_log_manager).__name__)
        runs = instance.get_runs_count()
        limits = instance.get_concurrency_config()

    assert kept == ("PostgresRunStorage", "NoOpComputeLogManager")
    assert runs == 0
    assert limits.pool_config.default_pool_limit == 1
    assert not list(tmp_path.rglob("*.db"))
