"""Runs over the ledger, against a provider on loopback that counts what it gets."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.errors import ConfigError, MedscribeError, Retriable
from medscribe_pipeline.providers.http import CredentialsError
from medscribe_pipeline.providers.jobs import State
from medscribe_pipeline.providers.work_failures import FAILURES_THAT_OPEN, MAX_SUBMISSIONS
from medscribe_pipeline.providers.work_lanes import poll_interval
from medscribe_pipeline.settings import JobSettings
from tests.medscribe_pipeline.providers.jobs.job_shop import SETTINGS, Dictaphone, Shop, count
from tests.medscribe_pipeline.providers.scripted_server import Hangup, Reply, ScriptedServer, Seen, unused_port

if TYPE_CHECKING:
    from medscribe_pipeline.providers.work import Job
    from medscribe_pipeline.providers.work_runner import WorkReport


def test_one_run_waits_for_its_own_jobs_and_brings_all_home(shop_anywhere: Shop) -> None:
    shop = shop_anywhere
    shop.visit("ok", "sync", "late", "note", "fail", "refuse")

    report = shop.run(wait_s=120)

    assert report.states == {"fetched": 5, "failed": 2}
    assert (report.enrolled, report.submitted, report.fetched) == (6, 7, 5)
    assert report.failed == {"NO_SPEECH": 1, "rejected_422": 1}
    assert (report.oldest_open_s, report.overdue, len(shop.results())) == (None, 0, 5)
    assert set(shop.vendor.submissions.values()) == {1}


def test_a_run_that_does_not_wait_submits_and_leaves_the_rest_to_the_next(shop: Shop) -> None:
    shop.visit("ok")

    first = shop.run()
    too_early = shop.run()
    shop.later(10)
    running = shop.run()
    shop.later(20)
    done = shop.run()

    assert [(each.submitted, each.polled, each.fetched) for each in (first, too_early, running, done)] == [
        (1, 0, 0),
        (0, 0, 0),
        (0, 1, 0),
        (0, 1, 1),
    ]
    assert first.oldest_open_s == 0
    assert running.oldest_open_s == 10
    assert shop.clock.slept == [10, 20]


def test_questions_grow_apart_and_a_job_is_asked_once_more_when_its_time_is_up(shop: Shop) -> None:
    shop.visit("never")
    asked: list[float] = []

    def note_time(name: str) -> None:
        if name == "asked":
            asked.append(shop.clock.monotonic())

    report = shop.run(wait_s=700, checkpoint=note_time)

    assert asked == [10, 30, 70, 130, 190, 250, 310, 370, 430, 490, 550, 600]
    assert (report.expired, shop.row("never")["state"], shop.row("never")["code"]) == (1, "expired", "no_result")


@pytest.mark.parametrize(("fate", "code"), [("odd", "unrecognised"), ("broken", "server_error")])
def test_what_nobody_understands_is_asked_for_a_bounded_time_and_says_why(shop: Shop, fate: str, code: str) -> None:
    shop.visit(fate)
    shop.run()
    shop.later(10)
    shop.run()
    running = (shop.row(fate)["state"], shop.row(fate)["code"])
    shop.later(600)

    report = shop.run()

    assert running == ("running", code)
    assert (report.expired, report.codes["expired"]) == (1, {code: 1})


def test_a_job_nobody_asked_after_for_days_is_asked_before_it_is_given_up(shop: Shop) -> None:
    shop.visit("ok")
    shop.run()
    shop.vendor.polls[shop.row("ok")["vendor_job_id"]] = 1
    shop.later(1_000_000)

    assert shop.run().fetched == 1


def test_a_provider_that_cannot_be_reached_says_nothing_about_a_job(shop: Shop) -> None:
    shop.visit("never")
    shop.run()
    shop.later(1_000_000)

    with unused_port() as port:
        shop.url = f"http://127.0.0.1:{port}"
        with pytest.raises(Retriable) as caught:
            shop.run()

    assert (caught.value.code, shop.row("never")["state"]) == ("unreachable", "running")


def test_a_job_the_provider_no_longer_knows_is_gone(shop: Shop) -> None:
    shop.visit("lost")

    assert shop.run(wait_s=20).failed == {"gone": 1}


def test_a_failure_is_data_and_stops_no_other_job(shop: Shop) -> None:
    shop.visit("a/broken", "b/fail", "c/ok", "d/odd", "e/refuse")

    report = shop.run(wait_s=40)

    assert (report.fetched, report.failed) == (1, {"NO_SPEECH": 1, "rejected_422": 1})
    assert count(shop.states(), State.RUNNING) == 2


def test_a_lost_answer_makes_a_job_unknown_and_it_is_not_sent_again(shop: Shop) -> None:
    shop.visit("cut")

    first, second = shop.run(), shop.run()

    assert (first.unknown, second.codes["unknown"]) == ({"disconnected": 1}, {"disconnected": 1})
    assert set(shop.vendor.submissions.values()) == {1}


def test_where_it_is_documented_to_do_no_harm_it_is_sent_again_under_the_same_id(shop: Shop) -> None:
    shop.work = Dictaphone(repeatable=True)
    shop.visit("cut")

    first = shop.run()
    waiting = shop.row("cut")
    second = shop.run(wait_s=20)

    assert (first.trouble, waiting["state"], waiting["code"]) == ({"disconnected": 1}, "wanted", "disconnected")
    assert second.fetched == 1
    assert shop.vendor.submissions == {waiting["client_request_id"]: 2}


def test_doubt_does_not_go_on_for_ever(shop: Shop, server: ScriptedServer) -> None:
    shop.work = Dictaphone(repeatable=True)
    server.responder = lambda _: Hangup()
    shop.visit("ok")

    for _ in range(MAX_SUBMISSIONS + 2):
        shop.run()

    assert (len(server.seen), shop.row("ok")["state"]) == (MAX_SUBMISSIONS, "unknown")


def test_an_address_with_nothing_there_is_tried_a_few_times(shop: Shop) -> None:
    shop.visit("absent")

    reports = [shop.run() for _ in range(MAX_SUBMISSIONS + 1)]

    assert [report.states for report in reports[:-2]] == [{"wanted": 1}] * (MAX_SUBMISSIONS - 1)
    assert reports[-1].codes["failed"] == {"not_found_404": 1}
    assert shop.vendor.submissions.total() == MAX_SUBMISSIONS


def test_what_surely_did_not_leave_is_wanted_again_without_counting(shop: Shop) -> None:
    shop.visit("ok")
    with unused_port() as port:
        real, shop.url = shop.url, f"http://127.0.0.1:{port}"
        for _ in range(MAX_SUBMISSIONS + 1):
            with pytest.raises(Retriable) as caught:
                shop.run()
            assert caught.value.code == "unreachable"
    not_sent = shop.row("ok")
    shop.url = real

    assert (not_sent["state"], not_sent["submissions"], not_sent["code"]) == ("wanted", 0, "unreachable")
    assert shop.run(wait_s=60).fetched == 1


def test_refused_credentials_end_the_run_and_nothing_is_lost(shop: Shop) -> None:
    shop.visit("forbidden", *(f"{number}/forbidden" for number in range(9)))

    with pytest.raises(CredentialsError) as caught:
        shop.run()

    assert count(shop.states(), State.WANTED) == 10
    assert shop.vendor.submissions.total() <= 2
    assert caught.value.context["submitted"] in (1, 2)
    assert {shop.row("forbidden")["submissions"], shop.row("0/forbidden")["submissions"]} == {0}


def test_a_provider_that_fails_all_the_time_is_left_alone(shop: Shop, server: ScriptedServer) -> None:
    shop.work = Dictaphone(repeatable=True)
    server.responder = lambda _: Reply(500)
    shop.visit(*(f"{number}/ok" for number in range(20)))

    with pytest.raises(Retriable) as caught:
        shop.run()

    assert caught.value.code == "circuit_open"
    assert FAILURES_THAT_OPEN <= len(server.seen) <= FAILURES_THAT_OPEN + SETTINGS["connections"]
    assert count(shop.states(), State.WANTED) == 20


def test_a_bug_in_one_job_is_told_at_the_end_without_its_text(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.visit("a", "ok", "sync")
    submit = Dictaphone.submit

    def stumble(self: Dictaphone, client: Any, job: Job) -> Any:
        if job.correlation_key == "visit-a":
            raise KeyError("Mrs Test")
        return submit(self, client, job)

    monkeypatch.setattr(Dictaphone, "submit", stumble)

    with pytest.raises(MedscribeError) as caught:
        shop.run(wait_s=60)

    assert (caught.value.code, caught.value.context["type"], caught.value.context["fetched"]) == (
        "internal",
        "KeyError",
        2,
    )
    assert "Test" not in str(caught.value)
    assert (shop.row("a")["state"], shop.row("a")["code"]) == ("unknown", "internal")


def test_a_server_that_wants_quiet_ends_the_run(shop: Shop, server: ScriptedServer) -> None:
    shop.visit("ok")
    shop.run()
    shop.later(10)
    server.responder = lambda _: Reply(429, headers={"Retry-After": "3600"})

    with pytest.raises(Retriable, match="longer than") as caught:
        shop.run()

    assert caught.value.context["until"]
    assert shop.row("ok")["state"] == "running"


@pytest.mark.parametrize("repeatable", [False, True])
def test_what_a_dead_run_was_submitting_is_taken_over(shop: Shop, repeatable: bool) -> None:
    shop.work = Dictaphone(repeatable=repeatable)
    shop.visit("sync", "other/sync")
    with shop.warehouse.worker() as alive:
        shop.run(clock=shop.clock.now)
        shop.change("sync", state="submitting", claimed_by="dead", submissions=1, settled_at=None)
        shop.change("other/sync", state="submitting", claimed_by=alive, submissions=1, settled_at=None)

        report = shop.run()

    assert report.recovered == 1
    assert report.unknown == ({} if repeatable else {"worker_died": 1})
    assert shop.row("sync")["state"] == ("fetched" if repeatable else "unknown")
    assert shop.row("other/sync")["state"] == "submitting"


def test_oldest_first_and_no_more_than_a_run_may(shop: Shop, server: ScriptedServer) -> None:
    shop.settings |= {"jobs_per_run": 2, "connections": 1}
    for fate in ("c/sync", "b/sync", "a/sync"):
        shop.visit(fate)
        shop.run(run_for_s=0)  # Enrols, and begins nothing.
        shop.later(1)

    shop.run()

    assert [seen.json["audio"] for seen in server.seen] == [
        "https://ward.example/c/sync",
        "https://ward.example/b/sync",
    ]
    assert shop.run().fetched == 1


def test_the_longest_waiting_is_asked_first_and_a_run_asks_only_so_often(shop: Shop, server: ScriptedServer) -> None:
    shop.visit("a/never", "b/never", "c/never")
    shop.run()
    for hours, fate in enumerate(("a/never", "c/never", "b/never")):
        shop.change(fate, next_poll_at=shop.clock.now() - timedelta(hours=hours))
    server.seen.clear()
    shop.settings |= {"jobs_per_run": 2, "connections": 1}

    shop.run()

    asked = [seen.path.rsplit("/", 1)[-1] for seen in server.seen]
    assert asked == [shop.row(fate)["vendor_job_id"] for fate in ("b/never", "c/never")]


def test_a_run_waits_for_its_budget_and_keeps_to_it(shop_anywhere: Shop) -> None:
    shop = shop_anywhere
    shop.work = Dictaphone(budgets={"submit": 3, "poll": 2})
    shop.visit(*(f"{number}/ok" for number in range(7)))

    report = shop.run(run_for_s=600, wait_s=600)

    assert report.fetched == 7
    # Seven submissions at three a minute, fourteen questions at two: six minutes and a bit of waiting.
    assert 6 * 60 <= shop.clock.monotonic() < 600


def test_what_the_client_repeats_counts_for_the_budget(shop: Shop, server: ScriptedServer) -> None:
    shop.work = Dictaphone(budgets={"poll": 3})
    shop.settings |= {"max_attempts": 3, "backoff_s": 0, "connections": 1}
    shop.visit("a/broken", "b/broken")
    shop.run()
    shop.later(10)
    server.seen.clear()

    shop.run(run_for_s=30)

    assert len(server.seen) == 3


def test_two_runs_at_once_submit_nothing_twice_and_share_the_budget(
    shop_anywhere: Shop, server: ScriptedServer
) -> None:
    shop = shop_anywhere
    shop.work = Dictaphone(budgets={"submit": 1000, "poll": 9})
    shop.visit(*(f"{number}/{fate}" for number in range(15) for fate in ("sync", "never")))
    together = threading.Barrier(2)
    reports: list[WorkReport] = []

    def one_run() -> None:
        together.wait(10)
        reports.append(shop.run())

    def two_runs() -> None:
        threads = [threading.Thread(target=one_run) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

    two_runs()
    shop.later(10)
    server.seen.clear()
    shop.clock.slept.append(0)
    run = shop.run
    shop.run = lambda *args, **changes: run(*args, run_for_s=30, **changes)  # type: ignore[method-assign]
    two_runs()

    assert len(reports) == 4
    assert len(shop.vendor.submissions) == 30
    assert set(shop.vendor.submissions.values()) == {1}
    assert sum(report.submitted for report in reports) == 30
    assert len(shop.results()) == 15
    assert len(server.seen) == shop.vendor.polls.total() == 9


def test_progress_and_report_hold_counts_and_codes_only(shop: Shop) -> None:
    shop.visit("ok", "gossip", "refuse")
    shop.visit("http", audio_url="http://ward.example/x")
    told: list[int] = []

    report = shop.run(wait_s=60, on_progress=lambda each: told.append(each.submitted + each.polled))

    assert told == list(range(1, len(told) + 1))
    assert report.refused == {"audio_refused": 1}
    assert report.failed == {"provider_failure": 1, "rejected_422": 1}
    assert "ward.example" not in repr(report)
    assert "visit-" not in repr(report)
    assert "Mrs Test" not in repr(report)


def test_an_exception_of_the_caller_leaves_no_answer_unwritten(shop: Shop) -> None:
    shop.visit("a/sync", "b/sync", "c/sync")

    def stop(name: str) -> None:
        if name == "settled":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shop.run(checkpoint=stop)

    assert len(shop.results()) == shop.vendor.submissions.total()
    assert count(shop.states(), State.SUBMITTING) == 0


def test_a_stop_before_the_answer_is_written_leaves_a_doubt_and_no_second_submission(
    shop: Shop, server: ScriptedServer
) -> None:
    shop.settings["connections"] = 1
    shop.visit("sync")

    def fail(name: str) -> None:
        if name == "answered":
            raise ConfigError("The warehouse is gone")

    with pytest.raises(ConfigError):
        shop.run(checkpoint=fail)
    shop.run()

    assert (shop.row("sync")["state"], len(server.seen)) == ("unknown", 1)


@pytest.mark.parametrize(
    ("first_s", "longest_s", "waits"),
    [(10, 60, [10, 20, 40, 60, 60]), (0, 5, [0, 1, 2, 4, 5]), (50, 3, [3, 3, 3, 3, 3])],
)
def test_intervals_double_up_to_the_longest(first_s: float, longest_s: float, waits: list[float]) -> None:
    settings = JobSettings(poll_first_s=first_s, poll_longest_s=longest_s)

    assert [poll_interval(settings, polls).total_seconds() for polls in range(5)] == waits
    assert poll_interval(settings, 10_000).total_seconds() == longest_s


def answers_slowly(server: ScriptedServer, shop: Shop) -> None:
    """Every answer takes a moment, so that requests overlap."""
    vendor = shop.vendor

    def slow(seen: Seen) -> Reply | Hangup:
        threading.Event().wait(0.02)
        return vendor(seen)

    server.responder = slow


def test_requests_overlap_as_far_as_there_are_connections(shop: Shop, server: ScriptedServer) -> None:
    answers_slowly(server, shop)
    shop.settings["connections"] = 4
    shop.visit(*(f"{number}/sync" for number in range(12)))

    report = shop.run()

    assert report.fetched == 12
    assert 2 <= server.connections <= 4
