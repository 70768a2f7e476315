"""What cannot be found out: servers that fail, go away, or are not there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.errors import Retriable
from tests.medscribe_pipeline.ehr.odd_ehr import OddEhr
from tests.medscribe_pipeline.ehr.odd_habits import Fault
from tests.medscribe_pipeline.ehr.selftest.trials import (
    Trial,
    finding,
    states,
    statuses,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.medscribe_pipeline.ehr.odd_ehr import Resource


def test_a_server_that_takes_nothing_is_told_apart_from_one_that_is_not_there(trial: Trial, odd: OddEhr) -> None:
    odd.does.types = ()

    report = trial.run()

    assert (states(report), report.exit_code, report.left) == ({"accepts_documents": "differs"}, 2, ())
    assert "404" in finding(report, "accepts_documents").codes


def test_a_server_that_fails_on_every_write_is_unknown(trial: Trial, odd: OddEhr) -> None:
    odd.does.failing = 500

    report = trial.run()

    assert (states(report), report.exit_code) == ({"accepts_documents": "unknown"}, 3)
    assert report.problem is not None
    assert report.left == ()


@pytest.mark.parametrize("fault", [Fault(status=502, committed=True), Fault(cut=True, committed=True)])
def test_a_lost_answer_is_looked_up_as_in_deliveries(trial: Trial, odd: OddEhr, fault: Fault) -> None:
    odd.faults.append(fault)

    report = trial.run()

    assert trial.waits[0] == 2.0
    assert "looked_up" in finding(report, "accepts_documents").codes
    assert {each.state for each in report.findings} == {"ok"}
    assert statuses(odd) == {"entered-in-error"}


def test_what_the_server_puts_off_for_somebody_to_look_at_is_unknown(trial: Trial, odd: OddEhr) -> None:
    odd.faults.append(Fault(status=202))

    report = trial.run(own={"strategy": "single", "kinds": ["DocumentReference"]})

    assert (states(report), report.exit_code) == ({"accepts_documents": "unknown"}, 1)


def test_withdrawals_nobody_answers_leave_what_is_unknown(trial: Trial, odd: OddEhr) -> None:
    odd.does.refuses = lambda resource: 500 if resource["status"] == "entered-in-error" else 0

    report = trial.run()

    assert {states(report)[code] for code in ("stale_update_refused", "retraction_works")} == {"unknown"}
    assert ({each.status for each in report.left}, report.exit_code) == ({"unknown"}, 1)


def test_an_amendment_nobody_answers_is_unknown(trial: Trial, odd: OddEhr) -> None:
    odd.does.refuses = lambda resource: 500 if resource.get("docStatus") == "amended" else 0

    report = trial.run()

    assert (states(report)["update_works"], report.exit_code) == ("unknown", 1)
    assert statuses(odd) == {"entered-in-error"}


def test_a_stale_update_refused_for_another_reason_says_nothing(trial: Trial, odd: OddEhr) -> None:
    odd.does.stale = 400

    report = trial.run()

    assert states(report)["stale_update_refused"] == states(report)["transaction_is_atomic"] == "unknown"
    assert report.exit_code == 0


def test_a_transaction_that_is_not_refused_is_no_evidence(clean_environment: Path) -> None:
    class FickleEhr(OddEhr):
        def bundle(self, bundle: Resource, faults: Any) -> list[Resource]:
            methods = {each["request"]["method"] for each in bundle["entry"]}
            self.does.if_match = len(methods) == 1
            return super().bundle(bundle, faults)

    server = FickleEhr()
    try:
        report = Trial(server.base_url, clean_environment).run()
    finally:
        server.close()

    assert (states(report)["transaction_is_atomic"], report.exit_code) == ("unknown", 0)
    assert statuses(server) == {"entered-in-error"}


def test_new_documents_without_etags_are_withdrawn_too(trial: Trial, odd: OddEhr) -> None:
    report = trial.run(own={"amendment": "new_document", "if_match": False})

    assert (states(report)["update_works"], report.exit_code) == ("ok", 0)
    assert {each.status for each in report.left} == statuses(odd) == {"entered-in-error"}


def test_a_server_that_goes_away_leaves_a_report_of_what_stands_there(clean_environment: Path) -> None:
    server = OddEhr()
    trial = Trial(server.base_url, clean_environment)

    def go_away() -> None:
        if len(server.writes()) > 1:
            # Nobody is let in any more, and who is in is put out.
            server.close()
            server.faults.append(Fault(cut=True))

    server.before_write = go_away

    report = trial.run()

    assert isinstance(report.problem, Retriable)
    assert report.exit_code == 3
    assert {each.status for each in report.left} == {"final", "current"}


def test_nothing_is_sent_to_a_server_that_is_not_there(clean_environment: Path) -> None:
    with pytest.raises(Retriable) as caught:
        Trial("http://127.0.0.1:9/fhir", clean_environment).run()

    assert caught.value.exit_code == 3
