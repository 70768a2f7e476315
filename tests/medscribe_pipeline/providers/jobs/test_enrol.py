"""From the manifest to jobs: every wish once, a changed one when the old one is through, a refused one shown."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from medscribe_pipeline.providers.jobs import by_hand, enrol, jobs_due
from medscribe_pipeline.providers.work import JobSpec
from medscribe_pipeline.visits import VisitRow
from medscribe_pipeline.warehouse.manifest import import_visits
from medscribe_pipeline.warehouse.tables import scribe_jobs, visits
from tests.databases import DAYS, rows_of
from tests.medscribe_pipeline.providers.jobs.job_shop import NAME, NOTE, REFUSED_CODE, TRANSCRIBE

if TYPE_CHECKING:
    from collections import Counter

    from tests.medscribe_pipeline.providers.jobs.job_shop import Shop


def enrol_all(shop: Shop, limit: int = 100, time_s: float = 60) -> Counter[str]:
    until = shop.clock.now() + timedelta(seconds=time_s)
    return enrol(shop.warehouse, shop.work, clock=shop.clock.now, run_id="run-1", limit=limit, until=until)


def test_rows_of_a_file_and_rows_of_sql_become_jobs_once(shop_anywhere: Shop) -> None:
    shop = shop_anywhere
    shop.visit("ok")
    row = VisitRow(NAME, "from-file", audio_url="https://ward.example/2/ok", language="fr", diarization=True)
    import_visits(shop.warehouse, [row], days=DAYS, now=shop.clock.now())
    shop.visit("mute", audio_url=None)
    shop.visit("elsewhere", provider="askara")

    first, second = enrol_all(shop), enrol_all(shop)

    assert (first, second) == ({"wanted": 2}, {})
    assert shop.states() == {"from-file/transcribe": "wanted", "visit-ok/transcribe": "wanted"}
    job = rows_of(shop.warehouse, scribe_jobs)[0]
    assert job["request"] == {"audio": "https://ward.example/2/ok", "language": "fr"}


def test_a_recording_is_due_until_it_is_enrolled_even_when_it_is_refused(shop_anywhere: Shop) -> None:
    shop = shop_anywhere

    def due() -> int:
        return jobs_due(shop.warehouse, NAME, shop.clock.now())

    assert due() == 0
    shop.visit("ok")
    shop.visit("refused", audio_url="http://ward.example/1/refused")
    shop.visit("mute", audio_url=None)
    shop.visit("elsewhere", provider="askara")
    assert due() == 2

    enrol_all(shop)

    assert due() == 1  # the wanted job


def test_who_and_when_may_change_without_a_new_job(shop: Shop) -> None:
    shop.visit("ok")
    enrol_all(shop)
    before = shop.row("ok")

    shop.visit("ok", patient_id="p-1", started_at=shop.clock.now(), encounter_id="e-1", practitioner_id="d-1")

    assert (enrol_all(shop), shop.row("ok")) == ({}, before)


@pytest.mark.parametrize(
    "change",
    [
        {"audio_url": "https://ward.example/new"},
        {"audio_path": "/audio/1.wav"},
        {"language": "fr"},
        {"template": "SOAP"},
        {"section_style": "paragraphs"},
        {"split_by_problem": False},
        {"diarization": True},
        {"category": "telehealth"},
    ],
)
def test_another_audio_or_other_options_are_another_request(shop: Shop, change: dict[str, object]) -> None:
    shop.visit("ok")
    enrol_all(shop)
    before = shop.row("ok")

    shop.visit("ok", **change)

    assert enrol_all(shop) == {"wanted": 1}
    assert (shop.row("ok")["job_key"], shop.row("ok")["state"]) == (before["job_key"], "wanted")
    assert shop.row("ok")["client_request_id"] != before["client_request_id"]


@pytest.mark.parametrize("state", ["submitting", "running", "ready", "unknown", "wanted"])
def test_a_change_waits_while_the_old_request_is_under_way(shop: Shop, state: str) -> None:
    shop.visit("ok")
    enrol_all(shop)
    shop.change("ok", state=state, submissions=1)
    before = shop.row("ok")
    shop.visit("ok", language="fr")

    waiting = (enrol_all(shop), shop.row("ok"))
    shop.change("ok", state="failed")
    afterwards = enrol_all(shop)

    assert waiting == ({}, before)
    assert afterwards == {"wanted": 1}
    assert (shop.row("ok")["request"]["language"], shop.row("ok")["submissions"]) == ("fr", 0)


def fetch_transcript(shop: Shop) -> None:
    """Brings the transcript in without a run, so that the note that follows is wanted and not sent."""
    shop.run()
    shop.call_back("note")


def test_a_change_replaces_the_whole_chain_and_what_never_left_is_cancelled(shop: Shop) -> None:
    shop.visit("note")
    fetch_transcript(shop)
    assert shop.row("note", NOTE)["state"] == "wanted"
    shop.visit("note", language="fr")

    enrol_all(shop)
    cancelled = (shop.row("note", NOTE)["state"], shop.row("note", NOTE)["code"])
    shop.run(wait_s=60)

    assert cancelled == ("cancelled", "superseded")
    assert shop.states() == {"visit-note/note": "fetched", "visit-note/transcribe": "fetched"}
    assert shop.row("note", NOTE)["request_hash"] == shop.row("note")["request_hash"]
    assert sorted(shop.vendor.submissions.values()) == [1, 1, 1]


@pytest.mark.parametrize("fate", ["fail", "never"])
def test_what_a_person_gave_up_stays_so_until_the_visit_asks_for_something_else(shop: Shop, fate: str) -> None:
    shop.visit(fate)
    if fate == "fail":
        shop.run(wait_s=60)
    else:
        enrol_all(shop)
    job = shop.row(fate)["client_request_id"]
    assert by_hand.cancel(shop.warehouse, job, who="alice", now=shop.clock.now()) is by_hand.Found.DONE

    again = enrol_all(shop)
    shop.run(wait_s=60)
    stays = shop.row(fate)["state"]
    shop.visit(fate, language="fr")
    changed = enrol_all(shop)

    assert (again, stays, changed) == ({}, "cancelled", {"wanted": 1})


def test_a_change_back_is_a_change_too(shop: Shop) -> None:
    shop.visit("note")
    fetch_transcript(shop)
    first = shop.row("note")["client_request_id"]
    shop.visit("note", language="fr")
    shop.run(wait_s=60)

    shop.visit("note", language=None)
    shop.run(wait_s=60)

    assert shop.row("note")["client_request_id"] == first
    assert shop.results()[1]["payload"]["request"]["language"] is None


def test_a_refused_visit_is_shown_and_looked_at_again(shop: Shop) -> None:
    shop.visit("ok", audio_url="http://ward.example/ok")
    first, second = enrol_all(shop), enrol_all(shop)
    shown = shop.row("ok", "visit")

    shop.visit("ok", audio_url="https://ward.example/ok")
    third = enrol_all(shop)

    assert (first, second, third) == ({"refused": 1}, {}, {"wanted": 1})
    assert (shown["state"], shown["code"], shown["request"]) == ("cancelled", REFUSED_CODE, {})
    assert shop.states() == {"visit-ok/transcribe": "wanted"}


def test_what_was_in_the_way_may_go_without_a_change_of_the_visit(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.visit("ok", audio_url="http://ward.example/ok")
    enrol_all(shop)
    monkeypatch.setattr(shop.work, "wanted", lambda key, _: [JobSpec(key, TRANSCRIBE, {})])

    enrol_all(shop)

    assert shop.states() == {"visit-ok/transcribe": "wanted"}


def test_a_reason_that_changes_is_the_one_shown(shop: Shop) -> None:
    shop.visit("ok", audio_url="http://ward.example/ok")
    enrol_all(shop)

    shop.visit("ok", audio_url=None, audio_path="/audio/1.wav")
    enrol_all(shop)

    assert shop.row("ok", "visit")["code"] == "no_recording"


def test_a_row_nobody_foresaw_stops_no_other(shop: Shop) -> None:
    shop.visit("a", audio_url="bug")
    shop.visit("ok")

    enrol_all(shop)

    assert shop.row("a", "visit")["code"] == "internal"
    assert shop.row("ok")["state"] == "wanted"


def test_the_limit_counts_new_visits_and_not_those_refused_before(shop: Shop) -> None:
    for number in range(3):
        shop.visit(f"a{number}", audio_url="http://ward.example/x")
    enrol_all(shop)
    for number in range(5):
        shop.visit(f"b{number}")

    assert [enrol_all(shop, limit=2)["wanted"] for _ in range(4)] == [2, 2, 1, 0]


def test_a_key_as_long_as_its_column_has_a_job_and_a_result(shop_anywhere: Shop) -> None:
    shop = shop_anywhere
    shop.visit("ok", correlation_key="k" * 255, audio_url="https://ward.example/sync")

    shop.run()

    (result,) = shop.results()
    assert (len(result["source_id"]) <= 255, result["parent_id"]) == (True, "k" * 255)


def insert_many(shop: Shop, number: int) -> None:
    row = {"account": "default", "provider": NAME, "imported_at": shop.clock.now() - timedelta(days=1)}
    many = [{**row, "correlation_key": f"v{n}", "audio_url": f"https://ward.example/{n}/ok"} for n in range(number)]
    with shop.warehouse.begin() as connection:
        connection.execute(sa.insert(visits), many)


def test_thousands_of_visits_are_enrolled_once(shop: Shop) -> None:
    insert_many(shop, 1201)

    counts = [enrol_all(shop, limit=10_000), enrol_all(shop, limit=10_000)]

    assert counts == [{"wanted": 1201}, {}]


def test_enrolling_ends_in_time_and_goes_on_in_the_next_run(shop: Shop) -> None:
    insert_many(shop, 150)

    assert [enrol_all(shop, limit=1000, time_s=0)["wanted"] for _ in range(3)] == [100, 50, 0]
