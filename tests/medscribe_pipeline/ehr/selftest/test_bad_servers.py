"""The self-test against servers that do not: what it says of them is so, and its advice puts it right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.medscribe_pipeline.ehr.odd_ehr import OddEhr
from tests.medscribe_pipeline.ehr.selftest.trials import (
    KEYED,
    LateEhr,
    RacingEhr,
    Trial,
    advice,
    finding,
    states,
    statuses,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.medscribe_pipeline.ehr.odd_ehr import Resource


@pytest.mark.parametrize(
    ("habits", "own", "code", "advised"),
    [
        (
            {"conditional": False},
            {},
            "conditional_create_holds",
            {"conditional_create": False, "strategy": "unconditional"},
        ),
        ({"if_match": False}, {}, "stale_update_refused", {"if_match": False}),
        ({"atomic": False}, {}, "transaction_is_atomic", {"strategy": "batch"}),
        (
            {"identifiers": False},
            {},
            "search_finds",
            {"search": False, "conditional_create": False, "strategy": "unconditional"},
        ),
        ({"searches": False}, {}, "search_finds", {"search": False}),
        ({"dropped": ("masterIdentifier",)}, {}, "identifiers_kept", {"drop": ["masterIdentifier"]}),
        ({"reads": False}, {}, "read_works", {"read": False}),
        ({"types": ("DocumentReference",)}, {}, "accepts_documents", {"kinds": ["DocumentReference"]}),
        ({"bundles": False}, {}, "accepts_documents", {"strategy": "single"}),
        (
            {"bundles": False, "types": ("DocumentReference",)},
            {},
            "accepts_documents",
            {"strategy": "single", "kinds": ["DocumentReference"]},
        ),
        ({"updates": False}, {}, "update_works", {"amendment": "hold", "retraction": "hold"}),
        (
            {"if_match": False, "reads": False},
            {},
            "stale_update_refused",
            {"if_match": False, "read": False, "amendment": "hold", "retraction": "hold"},
        ),
        ({}, KEYED, "idempotency_key_holds", {"idempotency_header": "", "strategy": "unconditional"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else str(value),
)
def test_a_bad_server_is_found_out_and_the_advice_puts_it_right(
    trial: Trial, odd: OddEhr, habits: dict[str, Any], own: dict[str, Any], code: str, advised: dict[str, Any]
) -> None:
    for name, value in habits.items():
        setattr(odd.does, name, value)

    report = trial.run(own=own)
    followed = trial.run(own={**own, **advice(report)}, run_id="r2")

    assert (finding(report, code).state, finding(report, code).relied_on) == ("differs", True)
    assert report.exit_code == 2
    assert advice(report) == advised
    assert followed.exit_code == 0
    assert not [each for each in followed.findings if each.state == "differs" and each.relied_on]


def test_documents_left_twice_are_all_withdrawn(trial: Trial, odd: OddEhr) -> None:
    odd.does.conditional = False

    report = trial.run()

    assert len(odd.newest("Composition")) == 2
    assert len(report.left) == len(odd.newest("Composition")) + len(odd.newest("DocumentReference"))
    assert statuses(odd) == {"entered-in-error"}


def test_what_of_a_torn_transaction_is_left_is_withdrawn_too(trial: Trial, odd: OddEhr) -> None:
    odd.does.atomic = False

    report = trial.run()

    assert len(odd.newest("Composition")) == 2
    assert {each.status for each in report.left} == statuses(odd) == {"entered-in-error"}


def test_a_race_that_leaves_two_is_told_and_is_no_reason_not_to_deliver(clean_environment: Path) -> None:
    server = RacingEhr()
    try:
        report = Trial(server.base_url, clean_environment).run(
            own={"strategy": "single", "kinds": ["DocumentReference"]}
        )
    finally:
        server.close()

    assert states(report)["conditional_create_holds"] == "ok"
    assert (states(report)["race_leaves_one"], report.exit_code, report.lines()) == ("differs", 0, [])
    assert len(server.newest("DocumentReference")) == 3
    assert statuses(server) == {"entered-in-error"}


def test_with_a_single_connection_there_is_no_race(trial: Trial) -> None:
    assert states(trial.run(connections=1))["race_leaves_one"] == "unknown"


@pytest.mark.parametrize(("patience_s", "state", "code"), [(2.0, "ok", 0), (0.5, "differs", 2)])
def test_a_late_search_is_waited_for(clean_environment: Path, patience_s: float, state: str, code: int) -> None:
    server = LateEhr(questions=2)
    trial = Trial(server.base_url, clean_environment)
    try:
        report = trial.run(reconcile_after_s=patience_s)
    finally:
        server.close()

    assert trial.waits[:3] == [0.0, 0.5, 1.0]
    assert (states(report)["search_finds"], report.exit_code) == (state, code)
    assert "after 1.5 s" in finding(report, "search_finds").text
    assert report.settings() == ({} if state == "ok" else {"reconcile_after_s": 3})


def test_a_search_that_never_finds_ends(clean_environment: Path) -> None:
    server = LateEhr(questions=1_000)
    trial = Trial(server.base_url, clean_environment)
    try:
        report = trial.run()
    finally:
        server.close()

    assert (states(report)["search_finds"], advice(report)) == ("differs", {"search": False})
    assert (sum(trial.waits), report.requests < 50) == (15.5, True)


@pytest.mark.parametrize(
    ("change", "code", "paths", "relied_on"),
    [
        (lambda r: r.pop("docStatus", None), "doc_status_kept", ("DocumentReference.docStatus",), False),
        (
            lambda r: r.pop("category", None),
            "stored_as_sent",
            ("Composition.category", "DocumentReference.category"),
            False,
        ),
        (
            lambda r: [each["attachment"].pop("hash") for each in r.get("content", [])],
            "stored_as_sent",
            ("DocumentReference.content.0.attachment.hash",),
            False,
        ),
        (
            lambda r: [each["attachment"].update(data="bm90aGluZw==") for each in r.get("content", [])],
            "content_kept",
            ("DocumentReference.content.0.attachment.data",),
            True,
        ),
        (lambda r: r.get("section", [{}])[0].pop("text", None), "content_kept", ("Composition.section.0.text",), True),
    ],
)
def test_what_the_server_drops_or_changes_is_told_by_path(
    trial: Trial, odd: OddEhr, change: Any, code: str, paths: tuple[str, ...], relied_on: bool
) -> None:
    def shown(resource: Resource) -> Resource:
        change(resource)
        return resource

    odd.does.shown = shown

    report = trial.run()

    assert (finding(report, code).paths, finding(report, code).state) == (paths, "differs")
    assert (report.exit_code == 2) is relied_on


def test_a_server_without_etags_is_read_before_it_is_written(trial: Trial, odd: OddEhr) -> None:
    odd.does.etags = False

    report = trial.run()

    assert (report.exit_code, advice(report)) == (0, {"if_match": False})
    assert statuses(odd) == {"entered-in-error"}


def test_a_server_that_tells_of_one_and_holds_two_is_found_out(clean_environment: Path) -> None:
    class DoublingEhr(OddEhr):
        def create(
            self, kind: str, resource: Resource, condition: str | None, key: str | None = None
        ) -> tuple[int, Resource]:
            status, stored = super().create(kind, resource, condition, key)
            if status == 200:
                super().create(kind, resource, None)
            return status, stored

    server = DoublingEhr()
    try:
        report = Trial(server.base_url, clean_environment).run()
    finally:
        server.close()

    assert finding(report, "conditional_create_holds").state == "differs"
    assert len(report.left) == len(server.newest("Composition")) + len(server.newest("DocumentReference"))
    assert statuses(server) == {"entered-in-error"}


def test_a_document_that_is_rewritten_would_not_be_found_again(trial: Trial, odd: OddEhr) -> None:
    odd.does.shown = lambda resource: {**resource, **({"title": "Note"} if "title" in resource else {})}

    report = trial.run(own={"strategy": "batch"})

    assert states(report)["lost_answer_is_found"] == "differs"
    assert finding(report, "stored_as_sent").paths == ("Composition.title",)
    # Sent again under a condition, it would be one all the same.
    assert (states(report)["conditional_create_holds"], report.exit_code) == ("ok", 0)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.fixed_dictionaries(
        {
            name: st.booleans()
            for name in (
                "conditional",
                "if_match",
                "etags",
                "identifiers",
                "bundles",
                "updates",
                "atomic",
                "reads",
                "searches",
                "locations",
            )
        }
    )
)
def test_whatever_a_server_does_following_the_advice_comes_to_an_end(
    clean_environment: Path, habits: dict[str, bool]
) -> None:
    server = OddEhr()
    for name, value in habits.items():
        setattr(server.does, name, value)
    trial = Trial(server.base_url, clean_environment)
    own: dict[str, Any] = {}
    try:
        for attempt in range(3):
            report = trial.run(own=own, run_id=f"r{attempt}")
            own |= advice(report)
            if report.exit_code != 2 or not report.lines():
                break
        there = {(kind, each["id"]) for kind in ("Composition", "DocumentReference") for each in server.newest(kind)}
    finally:
        server.close()

    assert report.exit_code in ((0,) if habits["locations"] else (0, 1, 2))
    assert report.requests < 60
    if attempt == 0 and habits["locations"]:
        assert {(each.type, each.server_id) for each in report.left} == there
