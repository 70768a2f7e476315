"""Job assets, the inbox, their checks and sensors: in process, against the sandbox."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
import sqlalchemy as sa

from assets.checks import work_checks
from assets.work import work_assets
from medscribe_pipeline.providers.inbox_store import store_event
from medscribe_pipeline.warehouse.tables import scribe_jobs
from resources import WarehouseResource
from tests.assets.jobs import WORK, failures, reported, run, work
from tests.synced import CLOSED_PORT, secrets_of, tables_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.synced import Clinic

VISIT = "INSERT INTO visits (account, provider, correlation_key, audio_url) VALUES ('default', ?, ?, ?)"
AUDIO = "https://recordings.clinic.example/{}.wav"
JOB_COUNTS = {
    "dagster/row_count",
    "enrolled",
    "recovered",
    "submitted",
    "polled",
    "fetched",
    "failed",
    "expired",
    "unknown",
    "open",
    "overdue",
}
JOB_WORDS = {"failed_why", "trouble", "refused_visits", "states"}
WAIT_S = 20.0
EVENT = {"event": "callback", "patient": "qxcanary"}


@pytest.fixture
def ordered(empty_clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> Clinic:
    """A clinic in which a person has written two visits with recordings into the table, by SQL."""
    for name in ("NABLA", "INTRON"):
        monkeypatch.setenv(f"MEDSCRIBE_{name}_POLL_FIRST_S", "0")
        monkeypatch.setenv(f"MEDSCRIBE_{name}_POLL_LONGEST_S", "0.2")
        monkeypatch.setenv(f"MEDSCRIBE_{name}_MAX_ATTEMPTS", "1")
    empty_clinic.open().close()
    order(empty_clinic, "nabla", "visit-901")
    order(empty_clinic, "intron", "visit-902")
    return empty_clinic


def order(clinic: Clinic, provider: str, key: str) -> None:
    clinic.change(VISIT, provider, key, AUDIO.format(key))


def jobs_of(clinic: Clinic, provider: str) -> dict[str, str]:
    query = "SELECT job_key, state FROM scribe_jobs WHERE provider = ?"
    return dict(clinic.rows(query, provider))


def put_event(clinic: Clinic, event_id: str = "qxevent-1") -> None:
    """Stores an event nobody can do anything about (its job is unknown), as the receiver does."""
    with clinic.open() as warehouse:
        assert store_event(warehouse, "nabla", "callback", event_id, EVENT, True, datetime.now(UTC))


# Assets


def test_a_visit_written_by_sql_becomes_a_job_and_a_result(ordered: Clinic, instance: dg.DagsterInstance) -> None:
    result = work(instance, wait_s=WAIT_S)

    assert result.success, failures(result)
    for provider in ("nabla", "intron"):
        states = jobs_of(ordered, provider)
        assert states
        assert set(states.values()) == {"fetched"}
        landed = ordered.rows("SELECT source_id FROM source_records WHERE provider = ? ORDER BY 1", provider)
        assert [key for (key,) in landed] == sorted(states)


def test_each_job_asset_reports_counts_codes_and_states(ordered: Clinic, instance: dg.DagsterInstance) -> None:
    figures = reported(work(instance, wait_s=WAIT_S))

    assert sorted(figures) == [(name, None) for name in WORK]
    for provider in ("nabla", "intron"):
        facts = figures[f"{provider}_jobs", None]
        done = len(jobs_of(ordered, provider))
        assert set(facts) == JOB_COUNTS | JOB_WORDS | {"oldest_open_s"}
        assert all(isinstance(facts[name], int) for name in JOB_COUNTS)
        assert facts["dagster/row_count"] == facts["fetched"] == facts["submitted"] == done
        assert facts["states"] == f"fetched {done}"
        assert (facts["open"], facts["overdue"], facts["failed_why"], facts["refused_visits"]) == (0, 0, "-", "-")


def test_a_second_run_orders_nothing_again(ordered: Clinic, instance: dg.DagsterInstance) -> None:
    work(instance, wait_s=WAIT_S)
    before = tables_of(ordered.database)
    ordered.sandbox.stats.reset()

    figures = reported(work(instance))

    assert {figures[f"{name}_jobs", None]["submitted"] for name in ("nabla", "intron")} == {0}
    assert ordered.sandbox.stats.requests.total() == 0
    assert tables_of(ordered.database) == before


def test_without_waiting_a_job_is_left_to_the_next_run(
    ordered: Clinic, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSCRIBE_NABLA_POLL_FIRST_S", "600")
    monkeypatch.setenv("MEDSCRIBE_NABLA_POLL_LONGEST_S", "600")
    monkeypatch.setenv("MEDSCRIBE_NABLA_POLL_LONGEST_S", "600")

    facts = reported(work(instance, "nabla_jobs"))["nabla_jobs", None]

    assert (facts["submitted"], facts["fetched"], facts["open"]) == (1, 0, 1)
    assert set(jobs_of(ordered, "nabla").values()) == {"running"}


def test_a_visit_that_cannot_be_worked_on_is_shown_with_its_code(ordered: Clinic, instance: dg.DagsterInstance) -> None:
    ordered.change(VISIT, "nabla", "visit-903", "http://127.0.0.1/qxcanary.wav")

    facts = reported(work(instance, "nabla_jobs"))["nabla_jobs", None]

    assert facts["refused_visits"] == "audio_url_scheme 1"
    assert facts["submitted"] == 1


def test_a_provider_that_is_down_keeps_its_jobs_and_stops_no_other(
    ordered: Clinic, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSCRIBE_NABLA_BASE_URL", CLOSED_PORT)

    result = work(instance, "nabla_jobs", "intron_jobs", wait_s=WAIT_S)

    assert {step: (told["code"], told["exit_code"]) for step, told in failures(result).items()} == {
        "nabla_jobs": ("unreachable", 3)
    }
    assert set(jobs_of(ordered, "nabla").values()) == {"wanted"}
    assert set(jobs_of(ordered, "intron").values()) == {"fetched"}


def test_a_wrong_token_asks_for_the_setting(
    ordered: Clinic, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSCRIBE_INTRON_TOKEN", "canary-token")

    told = failures(work(instance, "intron_jobs"))["intron_jobs"]

    assert told["exit_code"] == 2
    assert "MEDSCRIBE_INTRON_TOKEN" in told["description"]
    assert "canary" not in told["description"]
    assert set(jobs_of(ordered, "intron").values()) == {"wanted"}


def test_an_event_that_is_about_no_job_is_refused_and_counted(ordered: Clinic, instance: dg.DagsterInstance) -> None:
    put_event(ordered)

    facts = reported(work(instance, "inbox_events"))["inbox_events", None]

    assert set(facts) == {
        "dagster/row_count",
        "looked_at",
        "processed",
        "refused",
        "waiting",
        "still_open",
        "days_touched",
    }
    assert (facts["looked_at"], facts["days_touched"]) == (1, 0)
    assert (facts["refused"], facts["processed"], facts["still_open"]) == ("no_job 1", "-", 0)


def test_no_id_and_no_patient_goes_through_dagster(clinic: Clinic, instance: dg.DagsterInstance) -> None:
    put_event(clinic)

    result = work(instance, wait_s=1.0)

    keys = [key for (key,) in clinic.rows("SELECT correlation_key FROM visits WHERE provider IN ('nabla', 'intron')")]
    requests = [key for (key,) in clinic.rows("SELECT client_request_id FROM scribe_jobs")]
    said = repr((result.all_events, instance.all_logs(result.run_id)))
    assert keys
    assert requests
    assert [secret for secret in [*secrets_of(clinic), *keys, *requests, "qxevent-1"] if secret in said] == []


# Checks


def audit(clinic: Clinic, instance: dg.DagsterInstance) -> dict[tuple[str, str], dict[str, Any]]:
    """Runs the checks alone; their figures by asset and name, with `passed`."""
    checks = work_checks(clinic.settings)
    job = dg.define_asset_job("audit", selection=dg.AssetSelection.checks(*checks))
    definitions = dg.Definitions(
        assets=work_assets(clinic.settings),
        asset_checks=checks,
        jobs=[job],
        resources={"warehouse": WarehouseResource()},
    )
    result = definitions.resolve_job_def("audit").execute_in_process(instance=instance)
    return {
        (evaluation.asset_key.to_user_string(), evaluation.check_name): {
            "passed": evaluation.passed,
            **{name: value.value for name, value in evaluation.metadata.items()},
        }
        for evaluation in result.get_asset_check_evaluations()
    }


OVERDUE, HEEDED = ("nabla_jobs", "no_job_is_overdue"), ("inbox_events", "every_event_is_heeded")


def test_checks_pass_when_nothing_waits(ordered: Clinic, instance: dg.DagsterInstance) -> None:
    found = audit(ordered, instance)

    assert {name: facts["passed"] for name, facts in found.items()} == {
        OVERDUE: True,
        ("intron_jobs", "no_job_is_overdue"): True,
        HEEDED: True,
    }
    assert found[HEEDED] == {"passed": True, "waiting": 0, "oldest_s": 0.0}
    assert found[OVERDUE] == {"passed": True, "overdue": 0, "oldest_open_s": 0.0, "unknown": 0}


@pytest.mark.parametrize(
    "change",
    [
        {"state": "running", "expires_at": "2026-01-01T00:00:00.000000+00:00"},
        {"state": "wanted", "wanted_at": "2026-01-01T00:00:00.000000+00:00"},
    ],
    ids=["asked after beyond its bound", "never submitted"],
)
def test_a_job_that_is_left_behind_fails_its_check(
    ordered: Clinic, instance: dg.DagsterInstance, change: dict[str, str]
) -> None:
    work(instance, "nabla_jobs")
    columns = ", ".join(f"{name} = ?" for name in change)
    ordered.change(f"UPDATE scribe_jobs SET {columns}", *change.values())  # noqa: S608 - names of our own

    found = audit(ordered, instance)

    assert (found[OVERDUE]["passed"], found["intron_jobs", "no_job_is_overdue"]["passed"]) == (False, True)


def test_an_event_that_is_left_behind_fails_its_check_however_many_came_after(
    ordered: Clinic, instance: dg.DagsterInstance
) -> None:
    put_event(ordered)
    ordered.change("UPDATE inbox SET received_at = '2026-01-01T00:00:00.000000+00:00', attempts = 3")
    for number in range(30):
        put_event(ordered, f"later-{number}")

    facts = audit(ordered, instance)[HEEDED]

    assert (facts["passed"], facts["waiting"]) == (False, 31)
    assert facts["oldest_s"] > 86_400


# Sensors


def tick(clinic: Clinic, instance: dg.DagsterInstance, name: str) -> dg.SensorExecutionData:
    """One evaluation of a sensor, as the daemon makes it."""
    from medscribe_pipeline.definitions import build_definitions  # noqa: PLC0415 - loads those of the environment

    definitions = build_definitions(clinic.settings)
    resources = dict(definitions.resources or {})
    with dg.build_sensor_context(instance=instance, definitions=definitions, resources=resources) as context:
        return definitions.resolve_sensor_def(name).evaluate_tick(context)


def test_without_work_the_sensors_skip(ordered: Clinic, instance: dg.DagsterInstance) -> None:
    ordered.change("DELETE FROM visits")

    skipped = [tick(ordered, instance, name).skip_message for name in ("nabla_due_jobs", "inbox_sensor")]

    assert skipped == ["No job is due.", "The inbox is empty."]


def test_a_recording_without_a_job_is_due_and_its_run_submits_it(
    ordered: Clinic, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSCRIBE_NABLA_POLL_FIRST_S", "600")
    monkeypatch.setenv("MEDSCRIBE_NABLA_POLL_LONGEST_S", "600")
    assert len(tick(ordered, instance, "nabla_due_jobs").run_requests or []) == 1

    assert run(instance, "work_nabla").success

    assert set(jobs_of(ordered, "nabla").values()) == {"running"}
    assert tick(ordered, instance, "nabla_due_jobs").skip_message == "No job is due."


def test_a_due_job_is_asked_for_once_a_minute_and_its_run_finishes_it(
    ordered: Clinic, instance: dg.DagsterInstance
) -> None:
    work(instance, "nabla_jobs")
    make_due(ordered)

    asked = tick(ordered, instance, "nabla_due_jobs").run_requests or []
    done = eventually(lambda: run(instance, "work_nabla").success and finished(ordered, "nabla"))

    assert len(asked) == 1
    assert done
    assert tick(ordered, instance, "nabla_due_jobs").run_requests == []


def make_due(clinic: Clinic) -> None:
    assert set(jobs_of(clinic, "nabla").values()) == {"running"}
    clinic.change("UPDATE scribe_jobs SET next_poll_at = '2026-01-01T00:00:00.000000+00:00'")


def finished(clinic: Clinic, provider: str) -> bool:
    return set(jobs_of(clinic, provider).values()) == {"fetched"}


def eventually(condition: Callable[[], bool], tries: int = 40) -> bool:
    """Whether it holds at last: the sandbox's jobs take a few questions."""
    for _ in range(tries):
        if condition():
            return True
        time.sleep(0.1)
    return False


def test_an_event_is_asked_for_once_until_it_is_time_to_ask_again(
    ordered: Clinic, instance: dg.DagsterInstance
) -> None:
    put_event(ordered)

    first, second = (tick(ordered, instance, "inbox_sensor").run_requests or [] for _ in range(2))

    assert len(first) == len(second) == 1
    before, after = first[0].run_key, second[0].run_key
    assert before is not None
    assert after is not None
    # Between the two half an hour may have begun, and no other event.
    assert before.partition("/")[0] == after.partition("/")[0]


@pytest.mark.parametrize("name", ["nabla_due_jobs", "inbox_sensor"])
def test_a_sensor_asks_one_question_of_the_warehouse_and_nothing_of_anybody_else(
    ordered: Clinic, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    work(instance, "nabla_jobs")
    make_due(ordered)
    put_event(ordered)
    before = tables_of(ordered.database)
    monkeypatch.setenv("MEDSCRIBE_NABLA_BASE_URL", CLOSED_PORT)
    ordered.sandbox.stats.reset()
    asked: list[str] = []

    def listen(*arguments: Any) -> None:
        if any(table in arguments[2] for table in (scribe_jobs.name, "inbox")):
            asked.append(arguments[2])

    sa.event.listen(sa.Engine, "before_cursor_execute", listen)
    try:
        assert len(tick(ordered, instance, name).run_requests or []) == 1
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", listen)

    assert len(asked) == 1
    assert ordered.sandbox.stats.requests.total() == 0
    assert tables_of(ordered.database) == before
