"""The self-test against servers that do what they say: it says so, and withdraws what it sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.sandbox import Sandbox
from tests.medscribe_pipeline.ehr.fake_ehr import FakeEhr
from tests.medscribe_pipeline.ehr.selftest.trials import (
    KEYED,
    Trial,
    finding,
    states,
    statuses,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.medscribe_pipeline.ehr.odd_ehr import OddEhr


def test_all_of_it_holds_on_a_good_server(trial: Trial, odd: OddEhr) -> None:
    report = trial.run()

    assert states(report) == dict.fromkeys(
        (
            "accepts_documents",
            "search_finds",
            "lost_answer_is_found",
            "read_works",
            "identifiers_kept",
            "doc_status_kept",
            "content_kept",
            "stored_as_sent",
            "conditional_create_holds",
            "race_leaves_one",
            "update_works",
            "stale_update_refused",
            "transaction_is_atomic",
            "retraction_works",
        ),
        "ok",
    )
    assert (report.exit_code, report.lines(), report.settings(), report.problem) == (0, [], {}, None)
    assert report.requests == len(odd.seen) <= 32
    assert trial.waits == [0.0] * len(trial.waits)


def test_what_is_left_is_withdrawn_and_named(trial: Trial, odd: OddEhr) -> None:
    report = trial.run()

    there = {(kind, each["id"]) for kind in ("Composition", "DocumentReference") for each in odd.newest(kind)}
    assert len(there) == 3  # the note and its document, and the document of the race
    assert {(each.type, each.server_id) for each in report.left} == there
    assert {each.status for each in report.left} == statuses(odd) == {"entered-in-error"}


def test_what_is_sent_shows_that_it_is_synthetic_and_is_fresh_for_each_run(trial: Trial, odd: OddEhr) -> None:
    trial.run(run_id="r1")
    first = {str(each["identifier"]) for each in odd.newest("Composition")}
    trial.run(run_id="r2")

    titles = {each["title"] for each in odd.newest("Composition")}
    assert titles == {f"SYNTHETIC TEST DOCUMENT {run}, PLEASE IGNORE" for run in ("r1", "r2")}
    assert len({str(each["identifier"]) for each in odd.newest("Composition")}) == 2 * len(first) == 2
    assert {each["subject"]["identifier"]["value"] for each in odd.newest("Composition")} == {"synthetic-test-patient"}


@pytest.mark.parametrize(
    ("own", "code"),
    [
        ({"strategy": "batch"}, "conditional_create_holds"),
        ({"strategy": "single"}, "conditional_create_holds"),
        ({"amendment": "new_document"}, "update_works"),
        ({"kinds": ["Composition", "DocumentReference", "Provenance"]}, "accepts_documents"),
        (KEYED, "idempotency_key_holds"),
    ],
)
def test_other_ways_of_sending_hold_too(trial: Trial, odd: OddEhr, own: dict[str, Any], code: str) -> None:
    odd.does.header = "x-key"

    report = trial.run(own=own)

    assert finding(report, code).state == "ok"
    assert {each.state for each in report.findings} == {"ok"}
    assert report.exit_code == 0
    assert statuses(odd) == {"entered-in-error"}


def test_the_endpoint_of_the_sandbox_is_as_it_says(clean_environment: Path) -> None:
    with Sandbox() as sandbox:
        token = sandbox.environment()["MEDSCRIBE_EHR_TOKEN"]
        report = Trial(sandbox.fhir_url, clean_environment, token).run()

    assert set(states(report).values()) == {"ok"}
    assert (report.exit_code, report.lines()) == (0, [])


def test_transactions_are_all_that_is_needed(clean_environment: Path) -> None:
    server = FakeEhr()
    try:
        report = Trial(server.base_url, clean_environment).run(
            own={
                "strategy": "transaction",
                "conditional_create": True,
                "search": True,
                "read": True,
                "if_match": True,
                "kinds": ["Composition", "DocumentReference"],
            }
        )
    finally:
        server.close()

    assert finding(report, "transaction_is_atomic").state == "ok"
    assert (report.exit_code, report.problem) == (0, None)
    # That server keeps no labels, which nothing of delivery depends on.
    assert finding(report, "stored_as_sent").paths == ("Composition.meta.security", "DocumentReference.meta.security")
