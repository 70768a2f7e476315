"""Results and callbacks: each result lands once, with the move that fetched it, whichever way it came."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.providers.jobs import settle_callback
from medscribe_pipeline.warehouse.tables import source_records, visit_days
from tests.databases import DAYS, TODAY, rows_of
from tests.medscribe_pipeline.providers.jobs.job_shop import NAME, NOTE

if TYPE_CHECKING:
    from tests.medscribe_pipeline.providers.jobs.job_shop import Shop


def texts(shop: Shop) -> list[str]:
    return [row["payload"]["result"]["text"] for row in shop.results()]


def test_a_result_lands_whole_under_its_job_and_visit(shop_anywhere: Shop) -> None:
    shop = shop_anywhere
    shop.visit("sync", started_at=shop.clock.now() - timedelta(days=3))
    shop.run()

    (row,) = shop.results()
    job = shop.row("sync")
    assert (row["provider"], row["source_id"], row["parent_id"]) == (NAME, "visit-sync/transcribe", "visit-sync")
    assert row["payload"] == {
        "job_key": "visit-sync/transcribe",
        "correlation_key": "visit-sync",
        "step": "transcribe",
        "client_request_id": job["client_request_id"],
        "request": {"audio": "https://ward.example/sync", "language": None},
        "result": {
            "id": job["vendor_job_id"],
            "status": "done",
            "text": f"words of {job['client_request_id']}",
        },
    }
    assert (job["state"], job["code"], job["settled_at"]) == ("fetched", None, shop.clock.now())
    assert row["visit_day"] == TODAY - timedelta(days=3)
    assert [day["visit_day"] for day in rows_of(shop.warehouse, visit_days)] == [row["visit_day"]]


@pytest.mark.parametrize("by", ["ours", "theirs", "both"])
def test_a_callback_finds_its_job_by_either_id(shop: Shop, by: str) -> None:
    shop.visit("never")
    shop.run()

    assert shop.call_back("never", by=by)

    assert shop.row("never")["state"] == "fetched"
    assert texts(shop) == ["words by callback"]


@pytest.mark.parametrize(
    "payload",
    [
        {},
        "text",
        {"job": "v-other", "status": "done", "text": "x"},
        {"job": "v-other", "client_request_id": "other", "status": "done", "text": "x"},
    ],
)
def test_a_callback_about_no_job_of_ours_is_left_for_later(shop: Shop, payload: Any) -> None:
    shop.visit("never")
    shop.run()

    known = settle_callback(shop.warehouse, shop.work, payload, days=DAYS, now=shop.clock.now(), run_id=None)

    assert (known, shop.row("never")["state"], shop.results()) == (False, "running", [])


def test_the_same_result_twice_and_by_poll_after_a_callback_changes_nothing(shop: Shop) -> None:
    shop.visit("ok")
    shop.run()
    shop.call_back("ok")
    before = (shop.row("ok"), shop.results())
    shop.later(100)

    again = shop.call_back("ok", text="other words")
    shop.run()

    assert again
    assert (shop.row("ok"), shop.results()) == before


@pytest.mark.parametrize("state", ["wanted", "submitting", "running", "ready", "unknown", "expired", "failed"])
def test_a_result_is_welcome_in_every_state_that_has_none(shop: Shop, state: str) -> None:
    shop.visit("never")
    shop.run()
    shop.change("never", state=state, code="why" if state in ("unknown", "expired", "failed") else None)

    assert shop.call_back("never")

    assert shop.row("never")["state"] == "fetched"
    assert (shop.row("never")["code"], texts(shop)) == (None, ["words by callback"])


def test_a_failure_after_the_result_is_no_failure(shop: Shop) -> None:
    shop.visit("never")
    shop.run()
    shop.call_back("never")

    shop.call_back("never", "failed", code="NO_SPEECH")

    assert shop.row("never")["state"] == "fetched"


def test_a_failure_is_the_providers_word_and_a_sentence_is_not_repeated(shop: Shop) -> None:
    shop.visit("never", "ok")
    shop.run()

    shop.call_back("never", "failed", code="NO_SPEECH")
    shop.call_back("ok", "failed", code="Mrs Test did not speak")

    assert [(shop.row(fate)["state"], shop.row(fate)["code"]) for fate in ("never", "ok")] == [
        ("failed", "NO_SPEECH"),
        ("failed", "provider_failure"),
    ]


def test_a_callback_without_the_result_only_makes_the_question_sooner(shop: Shop) -> None:
    shop.visit("late")
    shop.run()
    shop.vendor.polls[shop.row("late")["vendor_job_id"]] = 1  # The next question gets the result.

    shop.call_back("late", "done-empty")
    ready = shop.row("late")
    shop.run()

    assert (ready["state"], ready["next_poll_at"]) == ("ready", shop.clock.now())
    assert shop.row("late")["state"] == "fetched"


def test_a_result_that_cannot_land_leaves_its_job_as_it_was(shop: Shop) -> None:
    shop.visit("never")
    shop.run()
    before = shop.row("never")
    with shop.warehouse.begin() as connection:
        connection.execute(
            sa.text("CREATE TRIGGER full BEFORE INSERT ON source_records BEGIN SELECT RAISE(ABORT, 'no'); END")
        )

    with pytest.raises(MedscribeError):
        shop.call_back("never")

    assert (shop.row("never"), shop.results()) == (before, [])


def test_a_nul_character_does_not_keep_a_result_out(shop_anywhere: Shop) -> None:
    shop = shop_anywhere
    shop.visit("nul")

    shop.run(wait_s=100)

    assert texts(shop) == ["a\ufffdb"]


def test_what_follows_is_wanted_in_the_same_breath(shop: Shop) -> None:
    shop.visit("note")
    shop.run()

    shop.call_back("note")

    note = shop.row("note", NOTE)
    assert (note["state"], note["request"]["text"]) == ("wanted", "words by callback")
    assert note["request_hash"] == shop.row("note")["request_hash"]
    assert note["client_request_id"] != shop.row("note")["client_request_id"]


@pytest.mark.parametrize(("fate", "code"), [("dead-end", "no_template"), ("follow-bug", "internal")])
def test_a_result_that_cannot_be_followed_up_lands_and_says_so(shop: Shop, fate: str, code: str) -> None:
    shop.visit(fate)
    shop.run()

    shop.call_back(fate)

    assert texts(shop) == ["words by callback"]
    shown = shop.row(fate, "follow_up")
    assert (shown["state"], shown["code"], shop.row(fate)["state"]) == ("cancelled", code, "fetched")


def test_the_result_of_another_request_lands_even_if_our_clock_is_behind(shop: Shop) -> None:
    shop.visit("sync")
    shop.run()
    with shop.warehouse.begin() as connection:
        connection.execute(sa.update(source_records).values(fetched_at=shop.clock.now() + timedelta(hours=1)))
    shop.visit("sync", language="fr")

    shop.run()

    (row,) = shop.results()
    assert row["payload"]["request"]["language"] == "fr"


EVENTS = ["poll", "done", "done-empty", "failed", "running", "later"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(st.sampled_from(EVENTS), max_size=8), fate=st.sampled_from(["ok", "late", "never", "fail"]))
def test_any_order_of_polls_and_callbacks_lands_at_most_one_result_that_never_changes(
    shop: Shop, events: list[str], fate: str
) -> None:
    number = next(NUMBERS)
    fate = f"{number}/{fate}"
    shop.visit(fate)
    shop.run()
    landed: list[str] = []
    for event in events:
        match event:
            case "later":
                shop.later(70)
            case "poll":
                shop.run()
            case _:
                shop.call_back(fate, event, code="NO_SPEECH")
        now = [row["payload"]["result"]["text"] for row in shop.results() if row["parent_id"] == f"visit-{fate}"]
        assert now[: len(landed)] == landed
        assert len(now) == (shop.row(fate)["state"] == "fetched")
        landed = now
    assert set(shop.vendor.submissions.values()) == {1}


NUMBERS = itertools.count()
