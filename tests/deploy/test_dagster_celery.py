"""The instance for Celery's workers: Dagster takes it, and it says what the others say but for runs and workers."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher import RunLauncher

from resources.celery_launcher import LivingWorkersLauncher
from scale.services import instance_settings
from tests.deploy.deployed import DEPLOY, load
from tests.synced import DAGSTER_ON_PYDANTIC

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings(DAGSTER_ON_PYDANTIC)


@pytest.fixture
def _broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql+psycopg2://dagster@postgres.example.org/dagster")
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://broker.example.org:6379/0")
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "redis://broker.example.org:6379/1")


@pytest.mark.usefixtures("_broker")
def test_dagster_sends_runs_to_the_broker_of_the_workers(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "dagster-celery.yaml", tmp_path / "dagster.yaml")

    data = InstanceRef.from_dir(str(tmp_path)).run_launcher_data
    assert data is not None
    launcher = data.rehydrate(as_type=RunLauncher)  # type: ignore[type-abstract]

    assert isinstance(launcher, LivingWorkersLauncher)
    assert launcher.celery.conf.broker_url == "redis://broker.example.org:6379/0"
    assert launcher.celery.conf.result_backend == "redis://broker.example.org:6379/1"


def test_it_differs_from_the_others_in_what_workers_need() -> None:
    celery, postgres = load("dagster-celery.yaml"), load("dagster-postgres.yaml")

    launcher = celery.pop("run_launcher")
    patience = {name: celery["run_monitoring"].pop(name) for name in ("poll_interval_seconds", "start_timeout_seconds")}
    assert celery == postgres
    assert launcher["class"] == LivingWorkersLauncher.__name__
    assert patience["poll_interval_seconds"] < patience["start_timeout_seconds"]


def test_the_demo_has_the_same_with_less_patience() -> None:
    demo, deployed = instance_settings(3), load("dagster-celery.yaml")

    assert demo["concurrency"]["runs"]["max_concurrent_runs"] == 3
    for block in ("run_retries", "run_launcher", "storage"):
        assert demo[block] == deployed[block]
    assert demo["run_monitoring"].keys() == deployed["run_monitoring"].keys()
