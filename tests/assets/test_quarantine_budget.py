"""An asset that quarantines too much of a run fails, after it has stored all the rest, and fails for it once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.fhir import build as fhir_build
from tests.assets.jobs import build, failures, sync
from tests.synced import DAYS

if TYPE_CHECKING:
    import dagster as dg
    import pytest

    from tests.synced import Clinic


def test_a_pull_over_budget_fails_once_and_keeps_what_it_landed(
    empty_clinic: Clinic, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSCRIBE_QUARANTINE_BUDGET", "0.01")
    monkeypatch.setenv("MEDSCRIBE_QUARANTINE_FLOOR", "1")
    of_sessions = "SELECT count(*) FROM {} WHERE provider = 'audioscribe'"

    first = failures(sync(instance, "audioscribe_sessions"))
    landed = empty_clinic.value(of_sessions.format("source_records"))
    second = sync(instance, "audioscribe_sessions")

    told = first["audioscribe_sessions"]
    assert (told["code"], told["exit_code"]) == ("quarantine_budget", 1)
    bad = empty_clinic.value(of_sessions.format("quarantine"))
    assert f"records={landed + bad} quarantined={bad} budget=0.01" in told["description"]
    assert landed > 0
    assert second.success


def test_notes_and_documents_over_budget_fail_when_every_day_of_the_run_is_stored(
    empty_clinic: Clinic, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise MedscribeError("A rule", code="cmp-1", field_paths=("Composition.section",))

    monkeypatch.setenv("MEDSCRIBE_QUARANTINE_FLOOR", "2")
    sync(instance)
    total = empty_clinic.value("SELECT count(*) FROM source_records")
    empty_clinic.change(
        "UPDATE source_records SET payload = json_remove(payload, '$.createdAt')"
        " WHERE rowid % 3 = 0 AND stream <> 'audios'"
    )
    notes = failures(build(instance, DAYS))
    with monkeypatch.context() as patch:
        patch.setattr(fhir_build, "check", refuse)
        documents = failures(build(instance, DAYS))
    after = build(instance, DAYS)

    bad = empty_clinic.value("SELECT count(*) FROM quarantine WHERE stage = 'map'")
    assert {step: each["code"] for step, each in notes.items()} == {"scribe_notes": "quarantine_budget"}
    assert f"records={total} quarantined={bad} " in notes["scribe_notes"]["description"]
    assert bad > 2
    assert empty_clinic.value("SELECT count(*) FROM source_records WHERE outcome IS NULL") == 0
    assert {step: each["code"] for step, each in documents.items()} == {"fhir_documents": "quarantine_budget"}
    # What broke the rule then is built now, and delivered: nothing waits but what is really wrong.
    assert after.success
    waiting = "SELECT count(*) FROM quarantine WHERE resolved_at IS NULL AND stage = 'fhir'"
    assert empty_clinic.value(waiting) == 0
    assert empty_clinic.value("SELECT count(*) FROM deliveries WHERE state = 'delivered'") > 0
