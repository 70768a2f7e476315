"""What every provider that works on order has to do, whoever it is.

A subclass names the provider and a few of its facts, and gives an `origin`: the provider's side, over real HTTP. What
becomes of a recording is told by the end of its URL, as the sandbox has it: `visit-1-failed.wav`. An origin of another
kind has to know the words `failed`, `never`, `unrecognised` and `gone`; any other recording is done after a few
questions.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.errors import ConfigError, Retriable
from medscribe_pipeline.providers.jobs import RESULTS, settle_callback
from medscribe_pipeline.providers.records import ManifestVisit
from medscribe_pipeline.providers.retry import CredentialsError
from medscribe_pipeline.providers.work import Job
from medscribe_pipeline.warehouse.days import DayRule
from tests.conformance.bench import told
from tests.conformance.gate import CANARY, TROUBLES, unused_url
from tests.conformance.wanted import AUDIO, WantedConformance

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conformance.bench import Bench

__all__ = ["WorkProviderConformance"]

JUNK: tuple[Any, ...] = (
    None,
    17,
    "words",
    [],
    [{}],
    {},
    {"id": None},
    {"qx": "unheard of"},
    {"data": {"data": {"data": []}}},
)
HARD_TEXT = "Élodie سلمى 患者 \N{GRINNING FACE} <b>&\"'\\ %s {0}"


class WorkProviderConformance(WantedConformance):
    """Gives a provider that works on order its tests."""

    # From the recording to the note

    def test_a_recording_becomes_notes(self, bench: Bench) -> None:
        bench.visit("one", "two", patient_id="patient-7", patient_system="urn:example:patients")

        report = bench.order()
        notes = bench.map()

        assert report.trouble == {}
        assert bench.states() == {"fetched"}
        rows = bench.records()
        assert {(row["stream"], row["source_id"]) for row in rows} == {(RESULTS, key) for key in bench.jobs()}
        assert {row["parent_id"] for row in rows} == {"one", "two"}
        assert {row["outcome"] for row in rows} <= {"note", "part"}
        assert {note["patient_id"] for note in notes} == {"patient-7"}
        assert {note["state"] for note in notes} == {"draft"}
        assert all(note["has_text"] and note["created_at"] for note in notes)
        assert len({row["parent_id"] for row in rows if row["outcome"] == "note"}) == 2

    def test_every_request_leaves_once_with_its_id_and_its_credentials_in_a_header(self, bench: Bench) -> None:
        bench.visit("one", "two", "three")

        bench.order()

        assert set(bench.submissions().values()) == {1}
        assert bench.submissions().keys() == {row["client_request_id"] for row in bench.jobs().values()}
        assert bench.origin.secrets
        for asked in bench.gate.seen:
            assert not any(secret in asked.target or secret.encode() in asked.body for secret in bench.origin.secrets)
            assert any(secret in value for secret in bench.origin.secrets for value in asked.headers.values())

    def test_what_is_done_is_not_asked_after_again(self, bench: Bench) -> None:
        bench.visit("one")
        bench.order()
        before, seen = bench.records(), len(bench.gate.seen)
        bench.later(86_400)

        bench.order()

        assert len(bench.gate.seen) == seen
        assert bench.records() == before

    def test_ids_are_the_same_for_ever_and_others_in_every_account(self, bench: Bench) -> None:
        def all_ids() -> tuple[dict[str, str], dict[Any, str]]:
            bench.start_again()
            bench.visit("one")
            bench.order()
            notes = {(note["source_id"], note["kind"]): note["note_id"] for note in bench.map()}
            return {key: row["client_request_id"] for key, row in bench.jobs().items()}, notes

        first, again = all_ids(), all_ids()
        bench.configure_general(ACCOUNT="another")
        elsewhere = all_ids()

        assert first[1]
        assert again == first
        for here, there in zip(first, elsewhere, strict=True):
            assert here.keys() == there.keys()
            assert not set(here.values()) & set(there.values())

    # Credentials, connection, death

    def test_wrong_credentials_name_their_variable_and_the_job_stays_wanted(self, bench: Bench) -> None:
        right = bench.origin.environment[self._variable()]
        bench.visit("one")
        bench.configure(**{self.credentials[0][0]: CANARY})

        with pytest.raises(CredentialsError, match=self._variable()) as refused:
            bench.order()
        assert bench.states() == {"wanted"}
        bench.configure(**{self.credentials[0][0]: right})
        bench.order()

        assert CANARY not in told(refused.value)
        assert bench.states() == {"fetched"}

    def test_a_credential_that_cannot_be_sent_names_its_variable(self, bench: Bench) -> None:
        bench.configure(**{self.credentials[0][0]: f"{CANARY}\ntwo lines"})

        with pytest.raises(ConfigError, match=self._variable()) as refused:
            bench.order()

        assert CANARY not in told(refused.value)
        assert bench.gate.seen == []

    def test_unreachable_leaves_the_job_wanted(self, bench: Bench) -> None:
        right = bench.own.base_url  # type: ignore[attr-defined]  # every provider has one
        bench.visit("one")
        with unused_url() as url:
            bench.configure(BASE_URL=url)
            with pytest.raises(Retriable) as caught:
                bench.order()
        states = bench.states()
        bench.configure(BASE_URL=right)

        bench.order()

        assert caught.value.code == "unreachable"
        assert states == {"wanted"}
        assert bench.states() == {"fetched"}

    def test_a_submission_whose_answer_is_lost_is_repeated_only_where_that_does_no_harm(self, bench: Bench) -> None:
        bench.visit("one")
        bench.gate.trouble, bench.gate.spared = "lost", lambda _, asked: asked.method != "POST"

        for _ in range(4):
            bench.order()
            bench.later(60)

        sent = set(bench.submissions().values())
        if self.repeatable:
            assert (bench.states(), sent) == ({"fetched"}, {2})
        else:
            assert (bench.states(), sent) == ({"unknown"}, {1})
            assert all(row["code"] for row in bench.jobs().values())

    def test_a_submission_that_was_throttled_is_simply_sent_later(self, bench: Bench) -> None:
        bench.visit("one")
        bench.gate.trouble, bench.gate.spared = "429", lambda _, asked: asked.method != "POST"

        for _ in range(4):
            bench.order()
            bench.later(60)

        assert bench.states() == {"fetched"}

    @pytest.mark.parametrize("trouble", [*TROUBLES, "lost"])
    def test_trouble_with_the_questions_leaves_no_trace(self, bench: Bench, trouble: str) -> None:
        bench.visit("one", "two")
        bench.gate.trouble, bench.gate.spared = trouble, lambda _, asked: asked.method == "POST"

        for _ in range(3):
            bench.order()
            bench.later(600)

        assert bench.states() == {"fetched"}
        assert len(bench.records()) == len(bench.jobs())
        assert set(bench.submissions().values()) == {1}

    @pytest.mark.parametrize("moment", ["enrolled", "claimed", "asked", "answered", "settled"])
    def test_a_run_that_dies_is_simply_followed_by_another(self, bench: Bench, moment: str) -> None:
        def die(name: str) -> None:
            if name == moment:
                raise _PowerCutError

        bench.visit("one", "two")
        with pytest.raises(_PowerCutError):
            bench.order(checkpoint=die)

        for _ in range(3):
            bench.later(60)
            bench.order()

        if self.repeatable:
            assert bench.states() == {"fetched"}
        else:
            assert bench.states() <= {"fetched", "unknown"}
            assert set(bench.submissions().values()) <= {1}
        assert len(bench.records()) == sum(row["state"] == "fetched" for row in bench.jobs().values())

    # What providers say

    def test_failure_is_a_verdict_with_a_code(self, bench: Bench) -> None:
        bench.visit("one-failed", "two")

        report = bench.order()
        seen = len(bench.gate.seen)
        bench.order()

        (failed,) = [row for row in bench.jobs().values() if row["state"] == "failed"]
        assert failed["correlation_key"] == "one-failed"
        assert re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", failed["code"])
        assert report.failed == {failed["code"]: 1}
        assert {row["parent_id"] for row in bench.records()} == {"two"}
        assert len(bench.gate.seen) == seen

    @pytest.mark.parametrize("word", ["never", "unrecognised"])
    def test_what_does_not_end_is_given_up_in_time(self, bench: Bench, word: str) -> None:
        bench.configure(JOB_EXPIRES_AFTER_S="3600")
        bench.visit(f"one-{word}", "two")
        bench.order()
        before = {row["state"] for key, row in bench.jobs().items() if key.startswith("one")}
        bench.later(7200)

        bench.order()

        assert before == {"running"}
        assert {row["state"] for key, row in bench.jobs().items() if key.startswith("one")} == {"expired"}
        assert {row["parent_id"] for row in bench.records()} == {"two"}

    def test_what_the_provider_forgot_is_shown(self, bench: Bench) -> None:
        bench.visit("one-gone", "two")

        bench.order()

        (gone,) = [row for row in bench.jobs().values() if row["correlation_key"] == "one-gone"]
        assert gone["state"] in {"failed", "expired"}
        assert gone["code"]

    @pytest.mark.parametrize("junk", JUNK, ids=repr)
    def test_an_answer_that_makes_no_sense_settles_nothing(self, bench: Bench, junk: Any) -> None:
        bench.visit("one")
        bench.order(wait_s=0)
        states = bench.states()
        bench.gate.listed = lambda _: junk
        bench.later(60)

        bench.order(wait_s=0)

        assert states == {"running"}
        assert bench.states() == {"running"}
        assert bench.records() == []

    @pytest.mark.parametrize("junk", JUNK, ids=repr)
    def test_a_callback_that_makes_no_sense_is_about_nothing(self, bench: Bench, junk: Any) -> None:
        assert bench.work.read_callback(junk) is None

    def test_callbacks_bring_a_result_once(self, bench: Bench) -> None:
        bench.visit("one")
        bench.order(wait_s=0)
        job = next(iter(bench.jobs().values()))
        asked = len(bench.gate.seen)
        pushed = self.callback(job, {"qx": "result"})
        if pushed is None:
            assert bench.work.read_callback({"id": job["vendor_job_id"], "status": "done"}) is None
            return

        taken = [
            settle_callback(
                bench.warehouse, bench.work, pushed, days=DayRule.of(bench.settings), now=bench.now(), run_id=None
            )
            for _ in range(3)
        ]

        assert taken == [True, True, True]
        (row,) = bench.records()
        assert (row["source_id"], len(bench.gate.seen)) == (job["job_key"], asked)
        assert bench.jobs()[job["job_key"]]["state"] == "fetched"

    # Results as they come

    def test_what_nobody_knows_yet_is_kept_and_stops_nothing(self, bench: Bench) -> None:
        bench.gate.listed = _each(lambda item: {**item, "qx_new_field": [1, None]})
        bench.visit("one")

        bench.order()
        notes = bench.map()

        assert notes
        assert all("qx_new_field" in str(row["payload"]["result"]) for row in bench.records())

    @pytest.mark.parametrize("extra", ["", "\x00", "\ud83d", " and more" * 5_000], ids=["plain", "nul", "half", "long"])
    def test_every_text_comes_through(self, bench: Bench, extra: str) -> None:
        bench.gate.listed = _each(
            lambda item: (
                {**item, self.text_field: HARD_TEXT + extra} if isinstance(item.get(self.text_field), str) else item
            )
        )
        bench.visit("one")

        bench.order()
        bench.map()

        assert bench.states() == {"fetched"}
        assert bench.quarantined() == []
        assert HARD_TEXT in bench.texts()

    @pytest.mark.parametrize("damage", [17, [], {"deep": [None]}, None, ...], ids=repr)
    def test_a_damaged_result_stops_no_other(self, bench: Bench, damage: Any) -> None:
        bench.visit("one", "two")
        bench.order()
        sound = len(bench.map())
        bench.start_again()
        bench.visit("one")
        bench.gate.listed = _each(
            lambda item: (
                {k: v for k, v in {**item, self.text_field: damage}.items() if v is not ...}
                if self.text_field in item
                else item
            )
        )
        bench.order()
        bench.gate.listed = lambda body: body
        bench.visit("two")

        bench.order()
        notes = bench.map()

        assert sound
        outcomes = {row["parent_id"]: row["outcome"] for row in bench.records() if row["outcome"] != "part"}
        assert outcomes["two"] == "note"
        assert outcomes.get("one", "held") in {"note", "held", "quarantined"}
        assert {note["state"] for note in notes} == {"draft"}

    @pytest.mark.parametrize(
        "result", [{}, {"qx": [None]}, {"data": 17}, {"payload": {"transcript": "words"}}], ids=repr
    )
    def test_nothing_follows_from_a_result_that_makes_no_sense(self, bench: Bench, result: dict[str, Any]) -> None:
        for spec in bench.work.wanted("one", ManifestVisit(audio_url=AUDIO)):
            job = Job(spec.correlation_key, spec.step, spec.request, "ours", "theirs")

            assert list(bench.work.follow_up(job, result)) == []

    # What must not get out

    def test_no_log_and_no_error_knows_a_patient(self, bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        bench.visit("qx-visit-one", "qx-visit-two-failed", patient_id=CANARY)
        bench.gate.listed = _each(lambda item: {**item, "message": CANARY, self.text_field: CANARY})

        bench.order()
        bench.map()
        bench.visit("qx-visit-three", patient_id=CANARY)
        bench.gate.broken_after = 0
        report = bench.order()

        said = caplog.text + str(report)
        words = (CANARY, "qx-visit", *bench.origin.secrets, bench.gate.url, "audio.example")
        assert CANARY in str(bench.records())
        assert [word for word in words if word in said] == []


def _each(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Any], Any]:
    """Changes every object in an answer."""

    def changed(value: Any) -> Any:
        if isinstance(value, list):
            return [changed(item) for item in value]
        if isinstance(value, dict):
            return change({name: changed(item) for name, item in value.items()})
        return value

    return changed


class _PowerCutError(Exception):
    """Stands for the end of the process."""
