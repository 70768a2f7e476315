"""A run whose worker is gone is not called healthy; one whose worker lives, or has ended it, is left alone."""

from __future__ import annotations

import uuid

import pytest
from dagster import DagsterRun
from dagster._core.launcher import WorkerStatus
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

from resources import celery_launcher
from resources.celery_launcher import LivingWorkersLauncher

WORKER = "w1@far.example.org"


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> LivingWorkersLauncher:
    monkeypatch.setattr(celery_launcher, "PING_TIMEOUT_S", 0.01)
    return LivingWorkersLauncher(default_queue="dagster", broker="memory://", backend="cache+memory://")


@pytest.fixture
def run() -> DagsterRun:
    # The backend in memory is one for all tests.
    return DagsterRun(job_name="build_days", tags={DAGSTER_CELERY_TASK_ID_TAG: str(uuid.uuid4())})


def told(launcher: LivingWorkersLauncher, run: DagsterRun, state: str) -> None:
    result = RuntimeError() if state == "FAILURE" else {"pid": 1, "hostname": WORKER}
    launcher.celery.backend.store_result(run.tags[DAGSTER_CELERY_TASK_ID_TAG], result, state)


def answering(launcher: LivingWorkersLauncher, monkeypatch: pytest.MonkeyPatch, answers: list[bool]) -> list[str]:
    """Lets pings be answered so; returns whom was asked."""
    asked: list[str] = []

    def ping(names: list[str], timeout: float) -> list[dict[str, object]]:
        assert timeout
        asked.extend(names)
        return [{names[0]: {"ok": "pong"}}] if answers.pop(0) else []

    monkeypatch.setattr(launcher.celery.control, "ping", ping)
    return asked


def test_a_worker_that_does_not_answer_is_gone(launcher: LivingWorkersLauncher, run: DagsterRun) -> None:
    told(launcher, run, "STARTED")

    assert launcher.check_run_worker_health(run).status is WorkerStatus.NOT_FOUND


def test_a_worker_that_answers_is_at_work(
    launcher: LivingWorkersLauncher, run: DagsterRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(launcher, run, "STARTED")
    asked = answering(launcher, monkeypatch, [True])

    assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
    assert asked == [WORKER]


def test_one_lost_answer_ends_no_run(
    launcher: LivingWorkersLauncher, run: DagsterRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(launcher, run, "STARTED")
    asked = answering(launcher, monkeypatch, [False, True])

    assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
    assert asked == [WORKER, WORKER]


@pytest.mark.parametrize(
    ("state", "status"),
    [("SUCCESS", WorkerStatus.SUCCESS), ("FAILURE", WorkerStatus.FAILED), ("PENDING", WorkerStatus.UNKNOWN)],
)
def test_what_has_not_begun_or_has_ended_asks_nobody(
    launcher: LivingWorkersLauncher, run: DagsterRun, monkeypatch: pytest.MonkeyPatch, state: str, status: WorkerStatus
) -> None:
    if state != "PENDING":
        told(launcher, run, state)
    asked = answering(launcher, monkeypatch, [])

    assert launcher.check_run_worker_health(run).status is status
    assert asked == []
