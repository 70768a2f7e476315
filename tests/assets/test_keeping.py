"""Sweeps and retention as assets: what they report, and that a list nobody can believe fails the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from assets.keeping import SweepConfig, keeping_assets
from medscribe_pipeline.errors import ConfigError
from tests.assets.jobs import failures, reported, run
from tests.synced import secrets_of

if TYPE_CHECKING:
    import dagster as dg

    from tests.synced import Clinic

FACTS = {"listed", "looked_at", "missing", "there", "waiting", "gone", "retracted", "unanswered", "days_touched"}


def test_a_sweep_retracts_what_is_gone_and_a_list_nobody_can_believe_fails(
    clinic: Clinic, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSCRIBE_SWEEP_POLICY", "retract")
    victim = clinic.value("SELECT min(source_id) FROM notes WHERE provider = 'askara' AND state = 'validated'")
    clinic.sandbox.world.delete("notes", victim)
    for key in list(clinic.sandbox.world.records("sessions")):
        clinic.sandbox.world.delete("sessions", key)

    result = run(instance, "sweep")

    figures, failed = reported(result), failures(result)
    facts = figures["askara_sweep", None]
    assert set(facts) == {"policy", *(f"{stream}_{fact}" for stream in ("audios", "notes") for fact in FACTS)}
    assert (facts["notes_gone"], facts["notes_retracted"], facts["notes_days_touched"]) == (1, 1, 1)
    assert facts["audios_gone"] == 0
    assert clinic.value("SELECT count(*) FROM source_records WHERE gone_at IS NOT NULL") == 1
    assert (list(failed), failed["audioscribe_sweep"]["code"]) == (["audioscribe_sweep"], "sweep_doubted")
    told = repr((figures, failed))
    assert [secret for secret in secrets_of(clinic) if secret in told] == []


def test_retention_reports_what_it_removed(
    clinic: Clinic, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSCRIBE_PAYLOAD_DAYS", "1")
    clinic.change("UPDATE source_records SET fetched_at = '2026-01-01T00:00:00.000000+00:00'")

    facts = reported(run(instance, "prune"))["retention", None]

    assert facts["source_records"] > 0
    assert (facts["notes_history"], facts["payload_days"], facts["history_days"]) == (0, 1, 365)


def test_a_wrong_day_is_refused(clinic: Clinic) -> None:
    from assets.keeping import _day  # noqa: PLC0415 - of no use to anybody else

    assert SweepConfig().since_day is None
    assert _day("2026-03-02") is not None
    with pytest.raises(ConfigError):
        _day("yesterday")
    assert len(keeping_assets(clinic.settings)) == 3
