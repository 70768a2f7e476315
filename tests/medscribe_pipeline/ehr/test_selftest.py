"""The self-test against good servers and bad ones: what it says of them is so, and what it advises puts it right."""

from __future__ import annotations

import contextlib
import re
import threading
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medscribe_pipeline.ehr import targets
from medscribe_pipeline.ehr.client import FhirClient
from medscribe_pipeline.ehr.selftest import Finding, People, SelftestReport, selftest
from medscribe_pipeline.errors import ConfigError, Retriable
from medscribe_pipeline.providers.http import BearerToken, HttpClient
from medscribe_pipeline.sandbox import Sandbox
from medscribe_pipeline.settings import EhrSettings, FhirSettings
from tests.medscribe_pipeline.ehr.fake_ehr import FakeEhr
from tests.medscribe_pipeline.ehr.odd_ehr import OddEhr
from tests.medscribe_pipeline.ehr.odd_habits import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.medscribe_pipeline.ehr.odd_ehr import Resource

PATIENT = People(("urn:example:patients", "synthetic-test-patient"))
UNCONDITIONAL = {"strategy": "unconditional", "conditional_create": False}
KEYED = {"strategy": "single", "conditional_create": False, "idempotency_header": "x-key"}


class LateEhr(OddEhr):
    """Its searches find a document when it was asked after a few times; its conditions know it at once."""

    def __init__(self, questions: int) -> None:
        super().__init__()
        self.questions = questions
        self.asked: dict[str, int] = {}
        self.is_creating = False

    def create(
        self, kind: str, resource: Resource, condition: str | None, key: str | None = None
    ) -> tuple[int, Resource]:
        with self.lock:
            self.is_creating = True
            try:
                return super().create(kind, resource, condition, key)
            finally:
                self.is_creating = False

    def find(self, kind: str, token: str) -> list[Resource]:
        if self.is_creating:
            return super().find(kind, token)
        self.asked[token] = self.asked.get(token, 0) + 1
        return super().find(kind, token) if self.asked[token] > self.questions else []


class RacingEhr(OddEhr):
    """Looks for what a condition names, and writes a moment later: two at once both find nothing."""

    def create(
        self, kind: str, resource: Resource, condition: str | None, key: str | None = None
    ) -> tuple[int, Resource]:
        found = self.find(kind, f"{(note := resource['identifier'])[0]['system']}|{note[0]['value']}")
        if not found:
            with contextlib.suppress(threading.BrokenBarrierError):
                self.together.wait(0.2)
            if self.together.broken:
                self.together.reset()
        return super().create(kind, resource, condition if found else None, key)

    together = threading.Barrier(2)


@dataclass
class Trial:
    """A server that is tried, and what is to be known of the trial."""

    url: str
    folder: Path
    token: str | None = None
    waits: list[float] = field(default_factory=list)

    def run(self, *, people: People = PATIENT, run_id: str = "r1", two: bool = False, **changes: Any) -> SelftestReport:
        """Runs the self-test under these settings; of `own`, capabilities of the operator's own."""
        own = changes.pop("own", {})
        ehr = EhrSettings(base_url=self.url, max_attempts=1, capabilities=self.file(own) if own else None, **changes)
        auth = BearerToken(self.token, "token") if self.token else None
        with HttpClient("ehr", self.url, ehr, auth) as http:
            return selftest(
                FhirClient(http),
                ehr,
                FhirSettings(),
                run_id=run_id,
                people=people,
                may_leave_two=two,
                sleep=self.waits.append,
            )

    def file(self, own: dict[str, Any]) -> Path:
        """The same as a file of capabilities."""
        path = self.folder / "capabilities.toml"
        shown = {name: str(value).lower() if isinstance(value, bool) else repr(value) for name, value in own.items()}
        path.write_text("".join(f"{name} = {value}\n" for name, value in shown.items()))
        return path


@pytest.fixture
def odd() -> Iterator[OddEhr]:
    server = OddEhr()
    yield server
    server.close()


@pytest.fixture
def trial(odd: OddEhr, clean_environment: Path) -> Trial:
    return Trial(odd.base_url, clean_environment)


def states(report: SelftestReport) -> dict[str, str]:
    return {each.code: each.state for each in report.findings}


def finding(report: SelftestReport, code: str) -> Finding:
    return next(each for each in report.findings if each.code == code)


def advice(report: SelftestReport) -> dict[str, Any]:
    return tomllib.loads("\n".join(report.lines()))


def statuses(server: OddEhr) -> set[str]:
    return {each["status"] for kind in ("Composition", "DocumentReference") for each in server.newest(kind)}


# A server that does what it says


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


# Servers that do not


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


# What is not tried, and what cannot be


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


# The test patient


def place_patient(odd: OddEhr, server_id: str = "p1") -> None:
    resource = {
        "resourceType": "Patient",
        "id": server_id,
        "identifier": [{"system": "urn:example:patients", "value": "synthetic-test-patient"}],
        "meta": {"versionId": "1"},
    }
    odd.store["Patient", server_id] = [resource]


LITERAL = {"references": "literal"}


@pytest.mark.parametrize("people", [PATIENT, People(patient_id="p1")])
def test_a_target_that_goes_by_ids_is_given_the_one_of_the_patient(trial: Trial, odd: OddEhr, people: People) -> None:
    place_patient(odd)

    report = trial.run(own=LITERAL, people=people)

    assert {each["subject"]["reference"] for each in odd.newest("DocumentReference")} == {"Patient/p1"}
    assert (report.exit_code, report.warnings) == (0, ())


def test_a_target_that_goes_by_identifiers_takes_an_id_too(trial: Trial, odd: OddEhr) -> None:
    place_patient(odd)

    report = trial.run(people=People(patient_id="p1"))

    assert {each["subject"]["reference"] for each in odd.newest("Composition")} == {"Patient/p1"}
    assert report.exit_code == 0


def test_without_a_patient_the_operator_is_warned_or_asked(trial: Trial, odd: OddEhr) -> None:
    report = trial.run(people=People())
    writes = len(odd.writes())

    assert any("synthetic patient" in each for each in report.warnings)
    assert {each["subject"]["identifier"]["value"] for each in odd.newest("Composition")} == {"selftest-r1"}
    with pytest.raises(ConfigError, match="--patient-id") as caught:
        trial.run(own=LITERAL, people=People())
    assert (caught.value.code, len(odd.writes())) == ("patient", writes)


@pytest.mark.parametrize(
    ("people", "there", "code"),
    [
        (PATIENT, (), "patient_missing"),
        (PATIENT, ("p1", "p2"), "patient_ambiguous"),
        (People(patient_id="p1"), (), "patient_missing"),
        (People(patient_id="../p1"), ("p1",), "patient"),
    ],
)
def test_a_patient_that_is_not_surely_there_stops_it_before_anything_is_sent(
    trial: Trial, odd: OddEhr, people: People, there: tuple[str, ...], code: str
) -> None:
    for each in there:
        place_patient(odd, each)

    with pytest.raises(ConfigError) as caught:
        trial.run(own=LITERAL, people=people)

    assert (caught.value.code, odd.writes()) == (code, [])
    assert "synthetic-test-patient" not in str(caught.value)


def test_who_may_not_read_patients_is_warned(trial: Trial, odd: OddEhr) -> None:
    odd.does.reads = False

    report = trial.run(own={**LITERAL, "read": False}, people=People(patient_id="p1"))

    assert any("your word alone" in each for each in report.warnings)


@pytest.mark.parametrize(
    ("own", "option"),
    [({"encounter": "required"}, "--encounter-id"), ({"author": "required"}, "--practitioner-id")],
)
def test_what_else_a_target_wants_to_know_is_asked_for(
    trial: Trial, odd: OddEhr, own: dict[str, Any], option: str
) -> None:
    place_patient(odd)

    with pytest.raises(ConfigError, match=option):
        trial.run(own={**LITERAL, **own})
    assert odd.writes() == []

    known = People(PATIENT.patient, practitioner_id="d1", encounter_id="e1")
    assert trial.run(own={**LITERAL, **own}, people=known).exit_code == 0
    document = odd.newest("DocumentReference")[0]
    assert document["author"][0]["reference"] == "Practitioner/d1"
    assert document["context"]["encounter"] == [{"reference": "Encounter/e1"}]


def test_a_report_shows_no_patient_and_no_words_of_the_note(trial: Trial, odd: OddEhr) -> None:
    odd.does.dropped = ("subject", "author")

    report = trial.run()

    shown = f"{report!r}{PATIENT!r}"
    assert finding(report, "stored_as_sent").paths[0] == "Composition.subject"
    assert not re.search("synthetic-test-patient|Cough|Zoë|127.0.0.1|Examplin", shown)


def test_advice_that_contradicts_itself_is_brought_together() -> None:
    both = (
        Finding("a", "differs", "", changes={"strategy": "unconditional", "conditional_create": False}),
        Finding("b", "differs", "", changes={"strategy": "batch", "if_match": False, "read": False}),
    )
    able = targets.Capabilities()
    report = SelftestReport("ehr", "r1", both, (), (), 0, able)

    wanted = {**able.model_dump(), **advice(report)}
    assert targets.Capabilities.model_validate(wanted).strategy == "unconditional"
    assert report.lines()[-1].endswith("# follows from the others")
