"""Processing the inbox: hints are asked for, signed results land, each once; what cannot be done yet is not lost."""

from __future__ import annotations

import os
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.errors import Busy, WarehouseTrouble
from medscribe_pipeline.providers.inbox import GIVE_UP_AFTER, REFUSED_TRIES
from medscribe_pipeline.providers.jobs import State
from medscribe_pipeline.providers.pull import Window
from medscribe_pipeline.providers.sync import sync_stream
from medscribe_pipeline.settings import AudioScribeSettings, NablaSettings
from medscribe_pipeline.warehouse.tables import change_counter, quarantine
from tests.databases import NOW, rows_of
from tests.medscribe_pipeline.providers.process_and_die import DIED
from tests.medscribe_pipeline.providers.pushed import (
    AUDIO,
    AUDIO_PATH,
    EVERYTHING,
    NOTE,
    NOTE_PATH,
    SESSION,
    SESSION_PATH,
    TRANSCRIPT,
    VENDOR_ID,
    Provided,
    Pushed,
    settings_for,
)
from tests.medscribe_pipeline.receiver.letterbox import prepare
from tests.warm import start_warm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from medscribe_pipeline.settings import Settings
    from tests.medscribe_pipeline.providers.scripted_server import ScriptedServer

MINUTE = timedelta(minutes=1)
SCRIPT = Path(__file__).with_name("process_and_die.py")


@pytest.fixture
def provided(server: ScriptedServer) -> Provided:
    server.responder = provided = Provided()
    return provided


@pytest.fixture
def pushed(make_settings: Callable[..., Settings], server: ScriptedServer, provided: Provided) -> Iterator[Pushed]:
    """On SQLite."""
    settings = settings_for(make_settings, server.url)
    with prepare(settings) as warehouse:
        yield Pushed(warehouse, settings, provided)


@pytest.fixture
def anywhere(
    make_settings: Callable[..., Settings], server: ScriptedServer, provided: Provided, database_url: str
) -> Iterator[Pushed]:
    """On SQLite and on PostgreSQL."""
    settings = settings_for(make_settings, server.url, warehouse_url=database_url)
    with prepare(settings) as warehouse:
        yield Pushed(warehouse, settings, provided)


def asked(server: ScriptedServer) -> list[str]:
    return [seen.path for seen in server.seen]


# Hints


def test_a_session_is_asked_for_and_only_that_is_believed(anywhere: Pushed, server: ScriptedServer) -> None:
    anywhere.session(note="what somebody who knows the path made up")

    report = anywhere.process()

    assert (report.looked_at, dict(report.processed), report.still_open) == (1, {"landed": 1}, 0)
    assert report.days == {date(2026, 3, 1)}
    assert anywhere.landed()["sessions/7"]["payload"] == SESSION
    assert anywhere.states() == [(None, True, 1)]
    assert asked(server) == [SESSION_PATH]


def test_a_session_lands_as_if_it_had_been_pulled(pushed: Pushed) -> None:
    pushed.session()
    pushed.process()
    pushed.provided.records["/api/v1/audioscribe/sessions/"] = [SESSION]
    before = pushed.landed()

    pulled = sync_stream(
        pushed.warehouse, pushed.settings, "audioscribe", "sessions", Window(), clock=lambda: NOW + MINUTE
    ).pulled.landed

    assert (pulled.new, pulled.changed) == (0, 0)
    assert pushed.landed() == before


def test_a_note_lands_with_its_audio(anywhere: Pushed, server: ScriptedServer) -> None:
    anywhere.new_note()

    report = anywhere.process()

    landed = anywhere.landed()
    assert (landed["notes/n-1"]["payload"], landed["audios/a-1"]["payload"]) == (NOTE, AUDIO)
    assert landed["notes/n-1"]["parent_id"] == "a-1"
    # The visit was when the audio was recorded, not when the note was written.
    assert {row["visit_day"] for row in landed.values()} == {date(2026, 2, 27)} == report.days
    assert asked(server) == [NOTE_PATH, AUDIO_PATH]
    assert dict(report.processed) == {"landed": 1}


@pytest.mark.parametrize(
    ("records", "landed"),
    [
        ({NOTE_PATH: NOTE}, {"notes/n-1"}),  # the audio is gone
        ({NOTE_PATH: {**NOTE, "audio": None}}, {"notes/n-1"}),
        ({NOTE_PATH: {**NOTE, "audio": {"uuid": "a-1"}}, AUDIO_PATH: AUDIO}, {"notes/n-1", "audios/a-1"}),
    ],
)
def test_a_note_lands_with_what_there_is(pushed: Pushed, records: dict[str, Any], landed: set[str]) -> None:
    pushed.provided.records = records
    pushed.new_note()
    pushed.process()

    assert pushed.landed().keys() == landed
    assert pushed.states() == [(None, True, 1)]


def test_a_note_keeps_the_audio_it_was_pulled_with(pushed: Pushed) -> None:
    pushed.new_note()
    pushed.process()
    pushed.provided.records[NOTE_PATH] = {**NOTE, "audio": None, "content": "two", "updatedAt": "2026-03-01T11:00:00Z"}
    pushed.store("askara", "new_note", {"id": "n-1", "action": "new_note"})
    pushed.now += MINUTE
    pushed.process()

    landed = pushed.landed()["notes/n-1"]
    assert (landed["payload"]["content"], landed["parent_id"]) == ("two", "a-1")


def test_news_that_is_none_changes_nothing(pushed: Pushed) -> None:
    pushed.session()
    pushed.new_note()
    pushed.process()
    before = pushed.landed()
    pushed.now += MINUTE
    pushed.session(note="again, otherwise")
    pushed.store("askara", "new_note", {"id": "n-1", "action": "new_note"}, "new_note:n-1")
    counted = rows_of(pushed.warehouse, change_counter)

    report = pushed.process()

    assert dict(report.processed) == {"unchanged": 2}
    assert report.days == set()
    assert pushed.landed() == before
    assert rows_of(pushed.warehouse, change_counter) == counted


@pytest.mark.parametrize(
    ("provider", "kind", "payload", "code"),
    [
        ("askara", "new_document", {"id": "d-1", "action": "new_document"}, "not_a_note"),
        ("askara", "document_synchronize", {"id": "d-1", "action": "document_synchronize"}, "not_a_note"),
        ("askara", "other", {"id": "u-1", "resource_type": "user", "action": "user_renamed"}, "unrecognised"),
        ("askara", "new_note", {"action": "new_note"}, "unrecognised"),
        ("askara", "other", ["x"], "unrecognised"),
        ("audioscribe", "other", {"hello": 1}, "no_id"),
        ("nabla", "callback", {"request_uuid": "r", "type": "NOTE_EXPORT", "data": {}}, "no_job"),
        ("nabla", "other", [1], "no_job"),
        ("telepathy", "callback", {"id": 1}, "unrecognised"),
    ],
)
def test_what_is_about_no_note_is_kept_with_its_reason(
    pushed: Pushed, server: ScriptedServer, provider: str, kind: str, payload: Any, code: str
) -> None:
    pushed.store(provider, kind, payload)

    report = pushed.process()

    assert dict(report.refused) == {code: 1}
    assert pushed.states() == [(code, True, 1)]
    assert pushed.events()[0]["payload"] == payload
    assert asked(server) == []


def test_an_event_nobody_knows_may_still_be_about_a_note(pushed: Pushed) -> None:
    pushed.store("askara", "other", {"id": "n-1", "resource_type": "note", "action": "note_validated"})
    pushed.process()

    assert "notes/n-1" in pushed.landed()


def test_a_record_that_fits_no_model_goes_to_quarantine(pushed: Pushed) -> None:
    pushed.provided.records[SESSION_PATH] = {"id": 7, "note": "no time"}
    pushed.session()

    report = pushed.process()

    assert dict(report.processed) == {"quarantined": 1}
    assert pushed.landed() == {}
    assert [row["error_code"] for row in rows_of(pushed.warehouse, quarantine)] == ["wire_model"]


# What cannot be done yet


def test_what_is_not_there_yet_is_asked_for_again(pushed: Pushed) -> None:
    pushed.provided.records = {}
    pushed.session()
    pushed.new_note()
    for tries in (1, 2):
        report = pushed.process()
        assert dict(report.waiting) == {"not_found": 2}
        assert pushed.states() == [("not_found", False, tries)] * 2

    pushed.provided.records = dict(EVERYTHING)
    pushed.process()

    assert pushed.states() == [(None, True, 3)] * 2
    assert pushed.landed().keys() == {"sessions/7", "notes/n-1", "audios/a-1"}


def test_what_never_comes_is_given_up_and_kept(pushed: Pushed) -> None:
    pushed.provided.records = {}
    pushed.session()
    reports = [pushed.process() for _ in range(REFUSED_TRIES + 2)]

    assert [report.looked_at for report in reports] == [1] * REFUSED_TRIES + [0, 0]
    assert dict(reports[REFUSED_TRIES - 1].refused) == {"not_found": 1}
    assert pushed.states() == [("not_found", True, REFUSED_TRIES)]
    assert pushed.events()[0]["payload"]["id"] == 7


def test_a_provider_that_is_down_does_not_hold_up_the_others(pushed: Pushed, server: ScriptedServer) -> None:
    pushed.settings = pushed.settings.model_copy(
        update={"askara": pushed.settings.askara.model_copy(update={"connections": 1})}
    )
    for number in range(10):
        pushed.provided.records[f"/notes/n-{number}"] = 500
        pushed.new_note(f"n-{number}")
    pushed.session()

    report = pushed.process()

    assert dict(report.processed) == {"landed": 1}
    assert dict(report.waiting) == {"server_error": 3}
    assert report.still_open == 10
    assert len([path for path in asked(server) if path.startswith("/notes")]) == 3


def test_one_record_that_always_fails_does_not_hold_up_its_provider(pushed: Pushed) -> None:
    for number in range(6):
        pushed.provided.records[f"/notes/n-{number}"] = 500 if number % 2 else {**NOTE, "uuid": f"n-{number}"}
        pushed.new_note(f"n-{number}")

    report = pushed.process()

    assert (dict(report.processed), dict(report.waiting)) == ({"landed": 3}, {"server_error": 3})


def test_a_provider_that_is_down_for_good_is_given_up(pushed: Pushed) -> None:
    pushed.provided.records = {SESSION_PATH: 500}
    pushed.session()
    pushed.now += GIVE_UP_AFTER
    assert dict(pushed.process().waiting) == {"server_error": 1}
    pushed.now += MINUTE

    assert dict(pushed.process().refused) == {"server_error": 1}
    assert pushed.states() == [("server_error", True, 2)]


def test_another_record_than_asked_for_is_not_landed(pushed: Pushed) -> None:
    pushed.provided.records[SESSION_PATH] = {**SESSION, "id": 8}
    pushed.session()

    assert dict(pushed.process().waiting) == {"other_record": 1}
    assert pushed.landed() == {}


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_end_one_provider_only(pushed: Pushed, status: int) -> None:
    pushed.provided.records |= {f"/notes/n-{number}": status for number in range(5)}
    for number in range(5):
        pushed.new_note(f"n-{number}")
    pushed.session()

    report = pushed.process()

    assert (dict(report.processed), dict(report.waiting)) == ({"landed": 1}, {"credentials": 1})


def test_without_credentials_events_wait(pushed: Pushed) -> None:
    pushed.settings = pushed.settings.model_copy(update={"audioscribe": AudioScribeSettings()})
    pushed.session()
    pushed.new_note()

    report = pushed.process()

    assert (dict(report.processed), dict(report.waiting)) == ({"landed": 1}, {"credentials": 1})
    assert report.still_open == 1


def test_those_that_wait_do_not_stand_in_the_way(pushed: Pushed) -> None:
    pushed.provided.records = {f"/notes/n-{number}": 404 for number in range(5)}
    for number in range(5):
        pushed.new_note(f"n-{number}")
    assert pushed.process(limit=5).waiting.total() == 5
    pushed.provided.records |= EVERYTHING
    pushed.session()

    assert dict(pushed.process(limit=1).processed) == {"landed": 1}


def test_one_run_at_a_time(pushed: Pushed) -> None:
    pushed.session()
    with pushed.warehouse.locks.hold("inbox:default", 1), pytest.raises(Busy):
        pushed.process()

    assert pushed.process().looked_at == 1


# Nabla


def test_a_signed_callback_brings_its_result(anywhere: Pushed, server: ScriptedServer) -> None:
    anywhere.job()
    anywhere.callback()

    report = anywhere.process()

    landed = anywhere.landed()["results/visit-1/transcribe"]
    assert landed["payload"]["result"]["payload"]["transcript"] == TRANSCRIPT
    assert anywhere.job_of().state == State.FETCHED
    assert (dict(report.processed), report.still_open) == ({"settled": 1}, 0)
    assert asked(server) == []


def test_a_callback_twice_lands_once(pushed: Pushed) -> None:
    pushed.job()
    pushed.callback()
    pushed.process()
    before = pushed.landed()
    pushed.now += MINUTE
    pushed.callback(sent_again=True)

    assert dict(pushed.process().processed) == {"settled": 1}
    assert pushed.landed() == before


def test_a_failure_is_the_providers_verdict(pushed: Pushed) -> None:
    pushed.job()
    pushed.callback(status="FAILED", payload={"code": 83005, "message": "qxcanary"})
    pushed.process()

    assert (pushed.job_of().state, pushed.job_of().code) == (State.FAILED, "83005")
    assert pushed.landed() == {}


def test_a_callback_that_is_early_is_matched_later(anywhere: Pushed) -> None:
    anywhere.callback()
    for tries in (1, 2):
        assert dict(anywhere.process().waiting) == {"unknown_job": 1}
        assert anywhere.states() == [("unknown_job", False, tries)]
    anywhere.job()

    anywhere.process()

    assert anywhere.job_of().state == State.FETCHED
    assert anywhere.states() == [(None, True, 3)]


def test_a_callback_nobody_waits_for_is_given_up_and_kept(pushed: Pushed) -> None:
    pushed.callback()
    pushed.now += timedelta(seconds=pushed.settings.nabla.job_expires_after_s) + MINUTE

    assert dict(pushed.process().refused) == {"unknown_job": 1}
    assert pushed.states() == [("unknown_job", True, 1)]


@pytest.mark.parametrize(
    ("status", "state"), [("SUCCEEDED", State.READY), ("FAILED", State.READY), ("ONGOING", State.RUNNING)]
)
def test_an_unsigned_callback_only_makes_us_ask(pushed: Pushed, status: str, state: State) -> None:
    pushed.job()
    pushed.callback(verified=False, status=status)

    report = pushed.process()

    entry = pushed.job_of()
    assert (entry.state, entry.next_poll_at) == (state, NOW if state == State.READY else entry.next_poll_at)
    assert pushed.landed() == {}
    assert dict(report.processed) == {"asked_again": 1}


def test_the_archived_api_has_nothing_but_its_callback(pushed: Pushed) -> None:
    archived = NablaSettings(token="t", api_version="archived", callback_url="https://receiver.example/callbacks/nabla")
    pushed.settings = pushed.settings.model_copy(update={"nabla": archived})
    pushed.job(step="listen")
    body = {"request_id": VENDOR_ID, "transcript": TRANSCRIPT, "note": {"title": "Test", "sections": []}}
    pushed.store("nabla", "callback", body)
    pushed.process()

    assert pushed.job_of(step="listen").state == State.FETCHED
    assert pushed.landed()["results/visit-1/listen"]["payload"]["result"]["note"]["title"] == "Test"


# Whatever dies when


class PowerCut(BaseException):
    """Like an interrupt: nobody may take it for a failure of the event."""


@pytest.mark.parametrize("point", ["fetched", "landed", "processed"])
def test_an_event_and_its_mark_are_one_transaction(anywhere: Pushed, point: str) -> None:
    anywhere.session()

    def cut(name: str) -> None:
        if name == point:
            raise PowerCut

    with pytest.raises(PowerCut):
        anywhere.process(checkpoint=cut)
    done = point == "processed"
    assert (len(anywhere.landed()), anywhere.events()[0]["processed_at"] is not None) == (int(done), done)

    anywhere.process()
    assert len(anywhere.landed()) == 1
    assert anywhere.states() == [(None, True, 1)]


@pytest.mark.parametrize("point", ["fetched", "landed", "processed"])
def test_a_process_that_dies_loses_nothing_and_lands_nothing_twice(
    pushed: Pushed, server: ScriptedServer, point: str
) -> None:
    pushed.session()
    pushed.new_note()
    pushed.job()
    pushed.callback()
    home = pushed.settings.home
    run = [str(home), server.url, point]
    # Each run gets as far as the point lets it; one event at least is done by each that gets to `processed`.
    codes = [start_warm(run, os.environ, home, script=SCRIPT).wait(60) for _ in range(3)]
    pushed.process()

    assert codes[0] == DIED
    assert [(code, done) for code, done, _ in pushed.states()] == [(None, True)] * 3
    landed = pushed.landed()
    assert landed.keys() == {"sessions/7", "notes/n-1", "audios/a-1", "results/visit-1/transcribe"}
    # One number for each event and each landed record: nothing was landed, lost and landed again.
    assert [row["value"] for row in rows_of(pushed.warehouse, change_counter)] == [3 + 4]
    assert pushed.job_of().state == State.FETCHED


@pytest.mark.parametrize("point", ["fetched", "landed"])
def test_an_event_that_trips_us_does_not_stop_the_others(
    pushed: Pushed, point: str, caplog: pytest.LogCaptureFixture
) -> None:
    pushed.new_note()
    pushed.session()
    pushed.job()
    pushed.callback()
    reached: list[str] = []

    def trip(name: str) -> None:
        reached.append(name)
        if reached.count(point) == 1 and name == point:
            raise LookupError("qxcanary")

    report = pushed.process(checkpoint=trip)

    assert (dict(report.processed), dict(report.waiting)) == ({"landed": 1, "settled": 1}, {"internal": 1})
    assert "LookupError" in caplog.text
    assert "qxcanary" not in caplog.text
    assert dict(pushed.process().processed) == {"landed": 1}


def test_a_warehouse_that_fails_ends_the_run(pushed: Pushed) -> None:
    pushed.session()

    def fail(name: str) -> None:
        if name == "landed":
            raise WarehouseTrouble("The warehouse is locked")

    with pytest.raises(WarehouseTrouble):
        pushed.process(checkpoint=fail)

    assert pushed.states() == [(None, False, 0)]
