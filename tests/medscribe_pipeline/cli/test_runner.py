"""Running the jobs in process: what counts as a failure, which exit code it asks for, and where the runs are kept."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.cli import runner
from medscribe_pipeline.cli.runner import StepFailure, SyncResult
from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.providers.inbox_store import store_event
from medscribe_pipeline.warehouse.store import Warehouse
from tests.synced import CLOSED_PORT, DAYS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from medscribe_pipeline.settings import Settings
    from tests.synced import Clinic


def result_of(*codes: int) -> SyncResult:
    return SyncResult(failures=[StepFailure("step", "code", "message", code) for code in codes])


@pytest.mark.parametrize(
    ("codes", "worst"), [((), 0), ((1,), 1), ((1, 3), 3), ((3, 1, 2), 2), ((3, 3), 3), ((1, 2), 2)]
)
def test_settings_come_before_connections_before_the_rest(codes: tuple[int, ...], worst: int) -> None:
    assert result_of(*codes).exit_code == worst


def sync(clinic: Clinic) -> SyncResult:
    with clinic.open() as warehouse:
        return runner.sync(clinic.settings, warehouse)


def test_figures_are_added_up_over_days_and_the_slowest_latency_stays(empty_clinic: Clinic) -> None:
    result = sync(empty_clinic)

    notes, sent = result.stages["scribe_notes"], result.stages["ehr_deliveries"]
    assert notes["dagster/row_count"] == empty_clinic.value("SELECT count(*) FROM notes")
    assert notes["landed"] == empty_clinic.value("SELECT count(*) FROM source_records")
    assert sent["delivered"] == empty_clinic.value(
        "SELECT count(*) FROM deliveries WHERE state = 'delivered' AND kind = 'Composition'"
    )
    assert 0 < sent["latency_median_s"] <= sent["latency_p95_s"] < 5
    assert result.days == len(DAYS)


def test_days_that_do_not_follow_each_other_are_all_built(clinic: Clinic) -> None:
    clinic.change("UPDATE visit_days SET built_seq = 0 WHERE visit_day IN (?, ?)", str(DAYS[0]), str(DAYS[3]))

    result = sync(clinic)

    assert result.days == 2
    assert clinic.value("SELECT count(*) FROM visit_days WHERE built_seq < changed_seq") == 0


def test_one_sync_sends_no_more_than_one_run_may_however_many_runs_it_takes(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = (str(DAYS[0]), str(DAYS[2]))
    clinic.change("DELETE FROM deliveries WHERE visit_day IN (?, ?)", *apart)
    clinic.change("UPDATE visit_days SET built_seq = 0 WHERE visit_day IN (?, ?)", *apart)
    monkeypatch.setenv("MEDSCRIBE_EHR_DOCUMENTS_PER_RUN", "1")

    first, second = sync(clinic).stages["ehr_deliveries"], sync(clinic).stages["ehr_deliveries"]

    assert (first["delivered"], second["delivered"]) == (1, 1)
    assert second["left_for_next_run"] == first["left_for_next_run"] - 1


def test_a_failed_check_is_told_and_is_no_success(clinic: Clinic) -> None:
    clinic.change("UPDATE visit_days SET built_seq = 0 WHERE visit_day = ?", str(DAYS[0]))
    note = clinic.value("SELECT min(note_id) FROM fhir_documents WHERE visit_day = ?", str(DAYS[0]))
    clinic.change("UPDATE fhir_documents SET note_id = 'nobody' WHERE note_id = ?", note)

    result = sync(clinic)

    assert [(failure.step, failure.code) for failure in result.failures] == [("no_orphans", "check_failed")]
    assert result.exit_code == 1


def test_the_inbox_is_heeded_although_the_jobs_of_a_provider_failed(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic.change(
        "INSERT INTO visits (account, provider, correlation_key, audio_url) "
        "VALUES ('default', 'nabla', 'visit-903', 'https://recordings.clinic.example/903.wav')"
    )
    monkeypatch.setenv("MEDSCRIBE_NABLA_BASE_URL", CLOSED_PORT)
    monkeypatch.setenv("MEDSCRIBE_NABLA_MAX_ATTEMPTS", "1")
    with clinic.open() as warehouse:
        store_event(warehouse, "audioscribe", "session", "e-1", {"id": "nobody"}, False, datetime.now(UTC))

    result = sync(clinic)

    assert [failure.step for failure in result.failures] == ["nabla_jobs"]
    assert result.sources["inbox_events"]["looked_at"] == 1
    assert clinic.value("SELECT attempts FROM inbox") == 1


def test_a_run_that_does_not_start_is_no_success(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConfigError("The disk is full", code="warehouse")

    with clinic.open() as warehouse:
        monkeypatch.setattr(Warehouse, "open", refuse)
        result = runner.sync(clinic.settings, warehouse)

    assert [(failure.step, failure.code) for failure in result.failures] == [("sync", "run_failed")]
    assert result.exit_code == 1


def test_a_wrong_window_is_told_before_anything_starts(clinic: Clinic) -> None:
    clinic.sandbox.stats.reset()

    with clinic.open() as warehouse, pytest.raises(ConfigError, match="until is not an ISO 8601 time"):
        runner.sync(clinic.settings, warehouse, until="tomorrow")

    assert clinic.sandbox.stats.requests.total() == 0


def test_the_instance_is_made_once_and_keeps_its_settings(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()

    first = runner.dagster_home(settings)
    (first / "dagster.yaml").write_text("# ours\n", encoding="utf-8")

    assert runner.dagster_home(settings) == first == settings.home / "dagster"
    assert (first / "dagster.yaml").read_text(encoding="utf-8") == "# ours\n"


def test_the_instance_holds_its_files_open(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()

    with Warehouse.open(settings) as warehouse, runner.open_instance(settings, warehouse) as instance:
        assert type(instance.event_log_storage).__name__ == "LocalEvents"
        assert (settings.home / "dagster" / "history" / "runs" / "index.db").exists()


def test_a_home_that_cannot_be_written_is_a_wrong_setting(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")

    with pytest.raises(ConfigError, match="MEDSCRIBE_HOME"):
        runner.dagster_home(make_settings(home=tmp_path / "file"))
