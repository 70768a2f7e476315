"""With everything logged and everything failing, patients and secrets are in the warehouse and nowhere else."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.sandbox import Faults
from tests.canaries import texts_of
from tests.collector import collecting
from tests.end_to_end.clinic import QUICK
from tests.end_to_end.command import Medscribe
from tests.end_to_end.refusing_ehr import refusing_ehr
from tests.end_to_end.trap import CORPUS, open_sandbox
from tests.end_to_end.watch import remains

if TYPE_CHECKING:
    from pathlib import Path

    from medscribe_pipeline.sandbox import Sandbox
    from tests.end_to_end.command import Ended

pytestmark = pytest.mark.timeout(300)

# Python runs this at its start: every logger tells everything, on standard error.
LOG_EVERYTHING = """
import logging, sys
logging.basicConfig(level=1, stream=sys.stderr)
for name in ("", ".engine", ".engine.Engine", ".pool"):
    logging.getLogger(f"sqlalchemy{name}").setLevel(1)
for name in ("alembic", "dagster", "filelock", "httpcore", "httpx", "medscribe_pipeline", "tenacity"):
    logging.getLogger(name).setLevel(1)
"""
# Dagster stores what these loggers say with the run.
STORE_EVERYTHING = """
telemetry:
  enabled: false
python_logs:
  python_log_level: DEBUG
  managed_python_loggers: [root, medscribe_pipeline, httpx, httpcore, sqlalchemy.engine]
"""
WRONG = "a-wrong-token"
# All the more is said, and nothing that fails is forgiven.
STRICT = {
    "MEDSCRIBE_LOG_LEVEL": "debug",
    "MEDSCRIBE_LOG_FORMAT": "json",
    "MEDSCRIBE_QUARANTINE_BUDGET": "0",
    "MEDSCRIBE_QUARANTINE_FLOOR": "0",
    **QUICK,
}
OAUTH = ("MEDSCRIBE_ASKARA_CLIENT_ID", "MEDSCRIBE_ASKARA_CLIENT_SECRET", "MEDSCRIBE_ASKARA_REFRESH_TOKEN")
TOKENS = ("MEDSCRIBE_ASKARA_TOKEN", "MEDSCRIBE_AUDIOSCRIBE_TOKEN", "MEDSCRIBE_EHR_TOKEN")
RETRY = "Trying again: client=askara"


class Talkative(Medscribe):
    """The command with all its loggers on."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        hook = folder / "python"
        hook.mkdir()
        (hook / "sitecustomize.py").write_text(LOG_EVERYTHING)
        super().__init__(
            folder, {**sandbox.environment(oauth=True), **STRICT, "PYTHONPATH": str(hook)}, working=True, cold=True
        )
        (self.home / "dagster").mkdir(parents=True)
        (self.home / "dagster" / "dagster.yaml").write_text(STORE_EVERYTHING)


def test_patients_and_secrets_are_in_the_warehouse_and_nowhere_else(tmp_path: Path) -> None:
    corpus = replace(CORPUS, recordings=4)
    with (
        open_sandbox(corpus=corpus, audio_folder=tmp_path / "audio") as (sandbox, trap),
        refusing_ehr() as refusing_url,
        collecting() as collector,
    ):
        medscribe = Talkative(tmp_path, sandbox)
        medscribe.environment["MEDSCRIBE_OTEL_ENDPOINT"] = collector.url

        ended = fail_in_every_way(medscribe, sandbox, refusing_url)

    canaries = remains.canaries()
    printed = [text for each in ended for text in (each.out, each.err)]
    # What was to fail did fail.
    assert [each.code for each in ended] == [0, 1, 2, 2, 0, 0, 2]
    assert "quarantine_budget" in ended[1].out
    assert trap.faults
    # The search finds what is there: patients and tokens in the warehouse, lines on the terminal, in Dagster, as JSON.
    assert {"Zzmark", "qxcanary", "Camille", "sandbox-refresh-"} <= canaries.among(texts_of(medscribe.database))
    assert any(RETRY in text for text in printed)
    assert any('"event": "Trying again"' in text for text in printed)
    assert any(RETRY in text for path in remains.files() for text in texts_of(path))
    assert {"medscribe.pull", "medscribe.request", "medscribe.retries", "medscribe.backlog"} <= collector.names()
    # And it finds nothing else; what was printed and written is searched after every test.
    assert canaries.among([json.dumps(body) for _, body in collector.received]) == set()


def fail_in_every_way(medscribe: Talkative, sandbox: Sandbox, refusing_url: str) -> list[Ended]:
    """Faults and an EHR that refuses; wrong tokens; a wrong manifest; a warehouse somebody has tampered with."""
    ended = [medscribe.import_visits(sandbox.world)]
    sandbox.set_faults(replace(Faults.all_on(3), retry_after_s=0, slow_s=0.05))
    ended.append(medscribe.sync(MEDSCRIBE_EHR_BASE_URL=refusing_url))
    sandbox.set_faults(None)
    ended.append(medscribe.sync(**{**dict.fromkeys(OAUTH), **dict.fromkeys(TOKENS, WRONG)}))
    ended.append(medscribe.run("visits", "import", str(wrong_manifest(medscribe, sandbox))))
    ended.append(medscribe.run("status"))
    ended.append(medscribe.run("show", f"audioscribe:{next(iter(sandbox.world.items.sessions))}"))
    damage(medscribe.database)
    ended.append(medscribe.sync("--full-refresh"))
    return ended


def wrong_manifest(medscribe: Medscribe, sandbox: Sandbox) -> Path:
    """A manifest in which the names of patients stand where they do not belong."""
    name = next(iter(sandbox.world.records("patients").values()))["lastName"]
    path = medscribe.work / "wrong.csv"
    path.write_text(f'provider,correlation_key,started_at,patient_system\n{name},1,{name},"{name}"\n"{name},4001,,\n')
    return path


def damage(database: Path) -> None:
    """Somebody has changed the schema by hand: statements that carry patients' texts now fail."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("ALTER TABLE source_records RENAME COLUMN payload TO body")
