"""What the self-test does not try, or leaves behind because it cannot do otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.ehr.selftest import People
from tests.medscribe_pipeline.ehr.selftest.trials import (
    PATIENT,
    UNCONDITIONAL,
    Trial,
    advice,
    finding,
    place_patient,
    states,
    statuses,
)

if TYPE_CHECKING:
    from tests.medscribe_pipeline.ehr.odd_ehr import OddEhr


@pytest.mark.parametrize(
    "kind", ["generic", "hapi", "medplum", "epic", "oracle", "azure", "google", "healthlake", "us-core-9"]
)
def test_every_kind_of_server_can_be_tried(trial: Trial, odd: OddEhr, kind: str) -> None:
    place_patient(odd)
    odd.does.header = "x-amz-fhir-idempotency-key"

    report = trial.run(kind=kind, people=People(PATIENT.patient, encounter_id="e1"))

    assert (report.exit_code, report.problem) == (0, None)
    assert report.left


def test_epic_keeps_one_note_that_nobody_can_withdraw(trial: Trial, odd: OddEhr) -> None:
    place_patient(odd)

    report = trial.run(kind="epic", people=People(patient_id="p1", encounter_id="e1"), two=True)

    assert [(each.type, each.status) for each in report.left] == [("DocumentReference", "current")]
    assert len(odd.newest("DocumentReference")) == 1
    assert {code for code, state in states(report).items() if state == "unknown"} == {
        "search_finds",
        "conditional_create_holds",
        "update_works",
        "retraction_works",
    }


def test_what_cannot_tell_is_not_sent_twice_unasked(trial: Trial, odd: OddEhr) -> None:
    odd.does.conditional = False

    report = trial.run(own=UNCONDITIONAL)

    assert finding(report, "conditional_create_holds").state == "unknown"
    assert "--may-leave-two" in finding(report, "conditional_create_holds").advice
    assert any("twice" in each for each in report.warnings)
    assert (report.exit_code, len(odd.newest("Composition"))) == (0, 1)


@pytest.mark.parametrize(
    ("conditional", "state", "advised"),
    [(False, "ok", {}), (True, "differs", {"conditional_create": True, "strategy": "single"})],
)
def test_asked_to_it_is_sent_twice(
    trial: Trial, odd: OddEhr, conditional: bool, state: str, advised: dict[str, Any]
) -> None:
    odd.does.conditional = conditional

    report = trial.run(own=UNCONDITIONAL, two=True)

    assert (states(report)["conditional_create_holds"], report.exit_code) == (state, 0)
    assert advice(report) == advised
    assert len(odd.newest("Composition")) == (1 if conditional else 2)
    assert statuses(odd) == {"entered-in-error"}


def test_what_works_and_is_not_counted_on_is_advised(trial: Trial) -> None:
    report = trial.run(own={"search": False, "read": False})

    assert (report.exit_code, advice(report)) == (0, {"search": True, "read": True})


def test_what_cannot_be_withdrawn_stays_and_is_named(trial: Trial, odd: OddEhr) -> None:
    report = trial.run(own={"amendment": "hold", "retraction": "hold"})

    assert {states(report)[code] for code in ("update_works", "retraction_works")} == {"unknown"}
    assert "stale_update_refused" not in states(report)
    assert report.exit_code == 0
    assert {(each.type, each.status) for each in report.left} == {
        ("Composition", "final"),
        ("DocumentReference", "current"),
    }
    assert len(report.left) == len(odd.newest("Composition")) + len(odd.newest("DocumentReference"))


def test_a_withdrawal_that_is_not_stored_is_found_out(trial: Trial, odd: OddEhr) -> None:
    odd.does.shown = lambda resource: {**resource, "status": "current"}

    report = trial.run()

    assert (states(report)["retraction_works"], report.exit_code) == ("differs", 2)
    assert advice(report)["retraction"] == "hold"


def test_a_provenance_stays_and_is_named(trial: Trial) -> None:
    report = trial.run(own={"kinds": ["DocumentReference", "Provenance"]})

    assert ("Provenance", "-") in {(each.type, each.status) for each in report.left}
    assert report.exit_code == 0
