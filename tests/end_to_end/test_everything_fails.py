"""Everything fails, in every way and at once, with every logger on: no error, line, span or metric names anybody.

In this process, so that the errors themselves can be looked at, with all they came from.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from medscribe_pipeline.ehr.auth import open_http
from medscribe_pipeline.ehr.client import FhirClient
from medscribe_pipeline.ehr.delivery import deliver_day
from medscribe_pipeline.fhir.build import build_day
from medscribe_pipeline.operation.reasons import SAYS
from medscribe_pipeline.providers.build import build_notes
from medscribe_pipeline.providers.catalogue import PROVIDERS
from medscribe_pipeline.providers.inbox import process_inbox
from medscribe_pipeline.providers.pull import Window
from medscribe_pipeline.providers.sync import sync_stream
from medscribe_pipeline.providers.work_runner import run_work
from medscribe_pipeline.sandbox import Fault, Faults, advance
from medscribe_pipeline.settings import Settings
from medscribe_pipeline.visits import read_visits
from medscribe_pipeline.warehouse.days import DayRule
from medscribe_pipeline.warehouse.manifest import import_visits
from medscribe_pipeline.warehouse.quarantine_budget import QuarantineBudget
from medscribe_pipeline.warehouse.store import Warehouse
from medscribe_pipeline.watching import logs
from tests.canaries import Canaries, files_below, needles_of, secrets_in
from tests.collector import hearing
from tests.end_to_end.clinic import QUICK as WORKING_QUICK
from tests.end_to_end.command import QUICK, write_visits
from tests.end_to_end.refusing_ehr import refusing_ehr
from tests.end_to_end.trap import CORPUS, open_sandbox
from tests.synced import CLOSED_PORT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from medscribe_pipeline.sandbox import Sandbox

DAYS = [date(2026, 3, day) for day in (29, 30, 31)]
SERVERS = ("ASKARA", "AUDIOSCRIBE", "NABLA", "INTRON", "EHR")
HASTY = {
    f"MEDSCRIBE_{name}_{setting}": value
    for name in SERVERS
    for setting, value in {"MAX_ATTEMPTS": "1", "TIMEOUT_S": "0.5", "BACKOFF_S": "0.01", "MAX_WAIT_S": "0.01"}.items()
}
SETTINGS = {
    **QUICK,
    **WORKING_QUICK,
    **HASTY,
    "MEDSCRIBE_TIMEZONE": "Europe/Paris",
    "MEDSCRIBE_AUDIOSCRIBE_REVIEWED": "true",
    "MEDSCRIBE_QUARANTINE_BUDGET": "0",
    "MEDSCRIBE_QUARANTINE_FLOOR": "0",
    "MEDSCRIBE_INTRON_ALLOW_PRIVATE_AUDIO": "true",
}
# By database: somebody has changed the schema, and then nobody is let in any more.
AWAY = {
    "sqlite": ("warehouse_schema", "warehouse_not_sqlite"),
    "postgresql+psycopg": ("warehouse_schema", "warehouse_refused"),
}
DAMAGE = "ALTER TABLE source_records RENAME COLUMN payload TO body"
TALKATIVE = (
    "",
    "httpx",
    "httpcore",
    "hpack",
    "sqlalchemy",
    "sqlalchemy.engine.Engine",
    "alembic",
    "medscribe_pipeline",
)


class Failing:
    """Does all there is to do for a clinic, and keeps what goes wrong."""

    def __init__(self, settings: Settings, warehouse: Warehouse) -> None:
        self.settings = settings
        self.warehouse = warehouse
        self.errors: list[BaseException] = []

    @property
    def codes(self) -> set[str]:
        return {str(getattr(error, "code", type(error).__name__)) for error in self.errors}

    def attempt(self, act: Callable[[], Any]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is to be looked at
            self.errors.append(error)

    def pull(self) -> None:
        for name in self.settings.providers:
            for stream in PROVIDERS[name].streams:
                self.attempt(lambda name=name, stream=stream: self._pull(name, stream.name))  # type: ignore[misc]
            if PROVIDERS[name].work is not None:
                self.attempt(lambda name=name: self._work(name))  # type: ignore[misc]
        self.attempt(
            lambda: process_inbox(self.warehouse, self.settings, clock=lambda: datetime.now(UTC), run_id="run-1")
        )

    def _pull(self, name: str, stream: str) -> None:
        budget = QuarantineBudget.of(self.settings)
        window = Window(full=True)
        report = sync_stream(
            self.warehouse, self.settings, name, stream, window, clock=lambda: datetime.now(UTC), run_id="run-1"
        )
        budget.spend(records=report.pulled.taken_on, quarantined=report.pulled.landed.quarantined)
        budget.check()

    def _work(self, name: str) -> None:
        provider = PROVIDERS[name]
        assert provider.work is not None
        with self.warehouse.worker() as worker, provider.open_client(self.settings, self.warehouse) as client:
            run_work(
                self.warehouse,
                provider.work(self.settings),
                client,
                getattr(self.settings, name),
                days=DayRule.of(self.settings),
                clock=lambda: datetime.now(UTC),
                sleep=time.sleep,
                worker=worker,
                run_id="run-1",
            )

    def build(self) -> None:
        for day in DAYS:
            self.attempt(
                lambda day=day: build_notes(self.warehouse, self.settings, day, clock=lambda: datetime.now(UTC))  # type: ignore[misc]
            )
            self.attempt(
                lambda day=day: build_day(self.warehouse, self.settings, day, clock=lambda: datetime.now(UTC))  # type: ignore[misc]
            )

    def deliver(self, url: str) -> None:
        target = self.settings.ehr.model_copy(update={"base_url": url})
        with open_http(target, self.warehouse) as http, self.warehouse.worker() as worker:
            client = FhirClient(http, self.settings.fhir.release)
            for day in DAYS:
                self.attempt(
                    lambda day=day: deliver_day(  # type: ignore[misc]
                        self.warehouse,
                        client,
                        target,
                        day,
                        run_id="run-1",
                        clock=lambda: datetime.now(UTC),
                        worker=worker,
                    )
                )


def go_away(warehouse: Warehouse) -> None:
    """The database ends every connection and lets nobody in; a file becomes another file."""
    if warehouse.engine.dialect.name == "sqlite":
        assert warehouse.engine.url.database is not None
        warehouse.engine.dispose()
        with open(warehouse.engine.url.database, "r+b") as file:  # noqa: PTH123 - it has to stay the same file
            file.write(b"\0" * 4096)
        return
    name = warehouse.engine.url.database
    elsewhere = warehouse.engine.url.set(database="postgres")
    with sa.create_engine(elsewhere, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool).connect() as server:
        server.execute(sa.text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'))
        ended = sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
        server.execute(ended, {"name": name})


def point_to(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, database_url: str, tmp_path: Path) -> dict[str, str]:
    environment = {
        **sandbox.environment(oauth=True),
        **SETTINGS,
        "MEDSCRIBE_HOME": str(tmp_path / "home"),
        "MEDSCRIBE_WAREHOUSE_URL": database_url,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment


@pytest.fixture
def _everything_is_logged() -> Any:
    before = {name: logging.getLogger(name).level for name in TALKATIVE}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.usefixtures("clean_environment", "_everything_is_logged")
def test_nobody_is_named_when_everything_fails(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    corpus = replace(CORPUS, recordings=4)
    with open_sandbox(corpus=corpus, audio_folder=tmp_path / "audio") as (sandbox, _), hearing(codes=SAYS) as heard:
        environment = point_to(sandbox, monkeypatch, database_url, tmp_path)
        settings = Settings.load()
        with Warehouse.open(settings) as warehouse, refusing_ehr() as refusing_url:
            logs.start("json", "debug")
            for name in TALKATIVE:
                logging.getLogger(name).setLevel(logging.DEBUG)
            manifest = tmp_path / "visits.csv"
            write_visits(manifest, sandbox.world.visits())
            rows = read_visits(manifest, zone=settings.zone, known_providers=tuple(PROVIDERS))
            import_visits(warehouse, rows, days=DayRule.of(settings), now=datetime.now(UTC))
            failing = Failing(settings, warehouse)
            for fault in Fault if database_url.startswith("sqlite") else (Fault.TRUNCATED,):
                sandbox.set_faults(replace(Faults.only(fault), retry_after_s=1, slow_s=0.02))
                failing.pull()
            sandbox.set_faults(None)
            failing.pull()
            failing.build()
            for url in (CLOSED_PORT, refusing_url):
                failing.deliver(url)
            advance(sandbox.world)
            with warehouse.begin() as connection:
                connection.execute(sa.text(DAMAGE))
            failing.pull()
            failing.build()
            go_away(warehouse)
            failing.pull()
            failing.build()
        world, points = sandbox.world, heard.points()
    canaries = Canaries({*needles_of(world), *secrets_in(environment), "sandbox-access-", "sandbox-refresh-"})
    said = capfd.readouterr()
    rejected = (("medscribe.state", "rejected"), ("medscribe.target", "ehr"))

    # What was to fail did fail, and was told.
    assert failing.codes >= {"not_json", "quarantine_budget", "unreachable", *AWAY[database_url.partition(":")[0]]}
    assert points["medscribe.deliveries"][rejected] > 0
    assert '"event": "Day delivered"' in said.err
    assert {"medscribe.pull", "medscribe.deliver", "medscribe.request"} <= {span.name for span in heard.spans()}
    # And nobody was named.
    assert [found for error in failing.errors if (found := canaries.in_error(error))] == []
    assert canaries.among([said.out, said.err]) == set()
    assert canaries.among([*heard.texts(), repr(points)]) == set()
    assert canaries.in_files(files_below([tmp_path / "home"])) == {}
