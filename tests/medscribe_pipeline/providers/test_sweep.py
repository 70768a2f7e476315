"""Sweeps against the sandbox: what is gone is found, asked for again, and withdrawn by policy; all else stays."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from medscribe_pipeline.errors import Busy, ConfigError, ProviderContractError, Retriable
from medscribe_pipeline.providers import whole_lists
from medscribe_pipeline.providers.catalogue import PROVIDERS, Stream
from medscribe_pipeline.providers.pull import Page
from medscribe_pipeline.providers.sweep import _Listed
from medscribe_pipeline.sandbox import AskaraOptions, Sandbox
from medscribe_pipeline.warehouse.tables import fhir_documents, sweep_sightings
from tests.databases import NOW, dump, rows_of
from tests.medscribe_pipeline.providers.swept import (
    CORPUS,
    build,
    landed_ids,
    note_of,
    now,
    pull,
    record_of,
    settings_for,
    sweep,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

EVERYTHING = 1.0


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    """For tests that change nothing at the provider."""
    with Sandbox(corpus=CORPUS) as running:
        yield running


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(corpus=CORPUS) as running:
        yield running


@pytest.fixture
def sessions(warehouse: Warehouse, settings: Settings, sandbox: Sandbox) -> Settings:
    """AudioScribe's sessions have landed and are notes; settings that retract."""
    ours = settings_for(sandbox, settings, sweep_policy="retract")
    pull(warehouse, ours, "audioscribe")
    return ours


@pytest.fixture
def askara(warehouse: Warehouse, settings: Settings, sandbox: Sandbox) -> Settings:
    ours = settings_for(sandbox, settings, sweep_policy="retract")
    pull(warehouse, ours, "askara")
    return ours


def without_details(monkeypatch: pytest.MonkeyPatch, provider: str) -> None:
    """A provider whose records cannot be asked for one by one."""
    known = PROVIDERS[provider]
    streams: tuple[Stream, ...] = tuple(
        replace(stream, whole=replace(stream.whole, detail=False)) for stream in known.streams
    )
    monkeypatch.setitem(PROVIDERS, provider, replace(known, streams=streams))


def test_what_is_all_there_is_left_alone(warehouse: Warehouse, settings: Settings, shared: Sandbox) -> None:
    ours = settings_for(shared, settings, sweep_policy="retract")
    for provider in ("askara", "audioscribe"):
        pull(warehouse, ours, provider)
    before = dump(warehouse)

    found = {**sweep(warehouse, ours, "askara"), **sweep(warehouse, ours, "audioscribe")}

    assert {(each.missing, each.gone, each.doubt) for each in found.values()} == {(0, 0, None)}
    assert min(each.looked_at for each in found.values()) > 0
    assert dump(warehouse) == before


def test_a_session_that_is_gone_is_retracted_and_its_documents_say_so(
    warehouse: Warehouse, sessions: Settings, sandbox: Sandbox
) -> None:
    victim, *others = landed_ids(warehouse, "sessions")
    before = note_of(warehouse, victim)
    sandbox.world.delete("sessions", victim)

    found = sweep(warehouse, sessions, "audioscribe", run_id="run-7")["sessions"]
    build(warehouse, sessions)

    assert (found.missing, found.gone, found.retracted, found.gone_ids) == (1, 1, 1, (victim,))
    assert found.days == {before.visit_day}
    after = note_of(warehouse, victim)
    assert (after.state, after.visit_day) == ("retracted", before.visit_day)
    assert after.version != before.version
    assert {note_of(warehouse, other).state for other in others} == {"validated"}
    with warehouse.read() as connection:
        resources = connection.scalars(
            sa.select(fhir_documents.c.resource).where(
                fhir_documents.c.note_id == after.note_id, fhir_documents.c.version == after.version
            )
        ).all()
    assert {resource.get("status") for resource in resources if resource["resourceType"] != "Provenance"} == {
        "entered-in-error"
    }
    assert record_of(warehouse, victim).run_id == "run-7"
    assert rows_of(warehouse, sweep_sightings) == []


def test_what_was_withdrawn_is_not_looked_for_again(warehouse: Warehouse, sessions: Settings, sandbox: Sandbox) -> None:
    sandbox.world.delete("sessions", landed_ids(warehouse, "sessions")[0])
    first = sweep(warehouse, sessions, "audioscribe")["sessions"]
    build(warehouse, sessions)
    before = dump(warehouse)

    second = sweep(warehouse, sessions, "audioscribe")["sessions"]

    assert (second.looked_at, second.missing) == (first.looked_at - 1, 0)
    assert dump(warehouse) == before


def test_a_session_that_comes_back_is_a_note_again(warehouse: Warehouse, sessions: Settings, sandbox: Sandbox) -> None:
    victim = landed_ids(warehouse, "sessions")[0]
    before, session = note_of(warehouse, victim), sandbox.world.records("sessions")[victim]
    sandbox.world.delete("sessions", victim)
    sweep(warehouse, sessions, "audioscribe")
    build(warehouse, sessions)

    sandbox.world.put("sessions", victim, session)
    pull(warehouse, sessions, "audioscribe")

    after = note_of(warehouse, victim)
    assert (after.state, after.version) == ("validated", before.version)
    assert record_of(warehouse, victim).gone_at is None


def test_with_the_policy_report_everything_stays_and_the_missing_are_written_down(
    warehouse: Warehouse, sessions: Settings, sandbox: Sandbox
) -> None:
    ours = sessions.model_copy(update={"sweep_policy": "report"})
    victim = landed_ids(warehouse, "sessions")[0]
    sandbox.world.delete("sessions", victim)

    first = sweep(warehouse, ours, "audioscribe")["sessions"]
    second = sweep(warehouse, ours, "audioscribe")["sessions"]

    assert [(each.gone, each.retracted, each.days) for each in (first, second)] == [(1, 0, set())] * 2
    (sighting,) = rows_of(warehouse, sweep_sightings)
    assert sighting["source_id"] == victim
    assert sighting["confirmed_at"] < sighting["last_missing_at"]
    assert note_of(warehouse, victim).state == "validated"
    assert record_of(warehouse, victim).gone_at is None


def test_what_was_reported_is_retracted_once_the_policy_says_so(
    warehouse: Warehouse, sessions: Settings, sandbox: Sandbox
) -> None:
    victim = landed_ids(warehouse, "sessions")[0]
    sandbox.world.delete("sessions", victim)
    sweep(warehouse, sessions.model_copy(update={"sweep_policy": "report"}), "audioscribe")

    sweep(warehouse, sessions, "audioscribe")

    assert record_of(warehouse, victim).gone_at is not None
    assert rows_of(warehouse, sweep_sightings) == []


def test_a_dry_run_asks_and_writes_nothing(warehouse: Warehouse, sessions: Settings, sandbox: Sandbox) -> None:
    victim = landed_ids(warehouse, "sessions")[0]
    sandbox.world.delete("sessions", victim)
    before = dump(warehouse)

    found = sweep(warehouse, sessions, "audioscribe", dry_run=True)["sessions"]

    assert (found.gone, found.retracted, found.gone_ids) == (1, 0, (victim,))
    assert dump(warehouse) == before


def test_an_empty_list_is_never_believed(warehouse: Warehouse, sessions: Settings, sandbox: Sandbox) -> None:
    for key in list(sandbox.world.records("sessions")):
        sandbox.world.delete("sessions", key)
    before = dump(warehouse)

    found = sweep(warehouse, sessions.model_copy(update={"sweep_max_share": EVERYTHING}), "audioscribe")["sessions"]

    assert (found.listed, found.doubt, found.is_suspicious) == (0, "empty_list", True)
    assert (found.gone, found.waiting, found.retracted) == (0, 0, 0)
    assert dump(warehouse) == before


@pytest.mark.parametrize(("share", "doubt"), [(0.05, "too_many_missing"), (EVERYTHING, None)])
def test_a_much_shorter_list_is_believed_only_if_the_settings_say_so(
    warehouse: Warehouse, sessions: Settings, sandbox: Sandbox, share: float, doubt: str | None
) -> None:
    victims = landed_ids(warehouse, "sessions")[:6]
    for key in victims:
        sandbox.world.delete("sessions", key)
    sandbox.stats.reset()

    found = sweep(warehouse, sessions.model_copy(update={"sweep_max_share": share}), "audioscribe")["sessions"]

    assert (found.missing, found.doubt) == (6, doubt)
    assert found.retracted == (0 if doubt else 6)
    assert {record_of(warehouse, key).gone_at is None for key in victims} == {doubt is not None}
    details = sandbox.stats.snapshot()["requests"].get("GET /audioscribe/api/v1/audioscribe/sessions/{id}/", 0)
    # One of them is the control question after a record that is listed.
    assert details == (0 if doubt else 7)


def test_what_cannot_be_asked_for_is_gone_when_two_sweeps_some_time_apart_have_missed_it(
    warehouse: Warehouse, sessions: Settings, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_details(monkeypatch, "audioscribe")
    victim = landed_ids(warehouse, "sessions")[0]
    sandbox.world.delete("sessions", victim)
    start, wait = now(), timedelta(seconds=sessions.sweep_confirm_after_s)

    def at(moment: timedelta) -> tuple[int, int]:
        found = sweep(warehouse, sessions, "audioscribe", clock=lambda: start + moment)["sessions"]
        return found.waiting, found.retracted

    assert at(timedelta()) == (1, 0)
    assert at(wait - timedelta(seconds=1)) == (1, 0)
    assert at(wait) == (0, 1)


def test_what_is_listed_again_in_between_starts_anew(
    warehouse: Warehouse, sessions: Settings, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_details(monkeypatch, "audioscribe")
    victim = landed_ids(warehouse, "sessions")[0]
    session = sandbox.world.records("sessions")[victim]
    sandbox.world.delete("sessions", victim)
    start, wait = now(), timedelta(seconds=sessions.sweep_confirm_after_s)
    sweep(warehouse, sessions, "audioscribe", clock=lambda: start)
    sandbox.world.put("sessions", victim, session)
    sweep(warehouse, sessions, "audioscribe", clock=lambda: start + wait)
    assert rows_of(warehouse, sweep_sightings) == []
    sandbox.world.delete("sessions", victim)

    found = sweep(warehouse, sessions, "audioscribe", clock=lambda: start + 2 * wait)["sessions"]

    assert (found.waiting, found.retracted) == (1, 0)


def test_a_provider_that_knows_none_of_its_records_one_by_one_proves_nothing(
    warehouse: Warehouse, sessions: Settings, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def everything_unknown(source: Any, source_id: str) -> Any:
        return source._client.get_json(f"{source._path}not-{source_id}/")

    monkeypatch.setattr("medscribe_pipeline.providers.audioscribe.SessionSource.detail", everything_unknown)
    sandbox.world.delete("sessions", landed_ids(warehouse, "sessions")[0])

    found = sweep(warehouse, sessions, "audioscribe")["sessions"]

    assert (found.waiting, found.gone, found.retracted) == (1, 0, 0)


def test_a_note_and_an_audio_that_are_gone_take_their_notes_with_them(
    warehouse: Warehouse, askara: Settings, sandbox: Sandbox
) -> None:
    first, *rest = landed_ids(warehouse, "notes")
    second = next(
        key for key in rest if record_of(warehouse, key).parent_id not in (None, record_of(warehouse, first).parent_id)
    )
    parent = record_of(warehouse, second).parent_id
    sandbox.world.delete("notes", first)
    sandbox.world.delete("audios", parent)

    found = sweep(warehouse, askara, "askara")
    build(warehouse, askara)

    assert [(name, each.gone_ids) for name, each in found.items()] == [("audios", (parent,)), ("notes", (first,))]
    assert [note_of(warehouse, key).state for key in (first, second)] == ["retracted", "retracted"]
    others = [key for key in rest if record_of(warehouse, key).parent_id != parent]
    assert {note_of(warehouse, key).state for key in others} == {"validated"}
    assert record_of(warehouse, parent).outcome_code == "gone_at_provider"


def test_archived_audios_count_as_listed_whether_lists_hold_them_or_not(
    warehouse: Warehouse, settings: Settings
) -> None:
    with Sandbox(corpus=CORPUS, askara=AskaraOptions(lists_archived=False)) as sandbox:
        ours = settings_for(sandbox, settings, sweep_policy="retract")
        pull(warehouse, ours, "askara")
        victim = record_of(warehouse, landed_ids(warehouse, "notes")[0]).parent_id
        sandbox.world.archive(victim)
        found = sweep(warehouse, ours, "askara")["audios"]

    assert (found.missing, found.gone) == (0, 0)


def test_what_is_not_listed_and_still_there_lands_as_it_is_now(
    warehouse: Warehouse, sessions: Settings, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = landed_ids(warehouse, "sessions")[0]
    shown = whole_lists.AUDIOSCRIBE_SESSIONS.pages

    def hiding(client: Any, ours: Settings, since: Any) -> Iterator[Page]:
        for page in shown(client, ours, since):
            yield Page([item for item in page.items if str(item.get("id")) != victim], page.sent_at)

    known = PROVIDERS["audioscribe"]
    (stream,) = known.streams
    hidden = replace(stream, whole=replace(stream.whole, pages=hiding))
    monkeypatch.setitem(PROVIDERS, "audioscribe", replace(known, streams=(hidden,)))
    sandbox.world.edit_session(victim, "Plan:\nA synthetic change nobody listed.")

    found = sweep(warehouse, sessions, "audioscribe")["sessions"]

    assert (found.missing, found.there, found.gone) == (1, 1, 0)
    assert found.days == {record_of(warehouse, victim).visit_day}
    assert "nobody listed" in record_of(warehouse, victim).payload["note"]


def test_only_visits_of_the_window_are_compared(warehouse: Warehouse, askara: Settings, sandbox: Sandbox) -> None:
    by_day = {key: note_of(warehouse, key).visit_day for key in landed_ids(warehouse, "notes")}
    first, last = min(by_day.values()), max(by_day.values())
    assert first < last
    old, new = (next(key for key, day in by_day.items() if day == wanted) for wanted in (first, last))
    for key in (old, new):
        sandbox.world.delete("notes", key)

    found = sweep(warehouse, askara, "askara", since_day=last)["notes"]

    assert found.gone_ids == (new,)
    assert record_of(warehouse, old).gone_at is None


def test_notes_asked_for_by_audio_are_left_out(warehouse: Warehouse, askara: Settings, sandbox: Sandbox) -> None:
    ours = askara.model_copy(update={"askara": askara.askara.model_copy(update={"notes_by": "audio"})})
    sandbox.world.delete("notes", landed_ids(warehouse, "notes")[0])

    found = sweep(warehouse, ours, "askara")["notes"]

    assert (found.doubt, found.is_suspicious, found.gone) == ("not_listed", False, 0)


def test_a_provider_that_fails_ends_the_sweep_and_nothing_is_believed(
    warehouse: Warehouse, sessions: Settings, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in landed_ids(warehouse, "sessions")[:4]:
        sandbox.world.delete("sessions", key)

    def down(_source: Any, _source_id: str) -> Any:
        raise Retriable("The server failed.", code="server_error")

    monkeypatch.setattr("medscribe_pipeline.providers.audioscribe.SessionSource.detail", down)
    before = dump(warehouse)

    with pytest.raises(Retriable):
        sweep(warehouse, sessions, "audioscribe")

    assert dump(warehouse) == before


def test_one_record_nobody_answers_for_is_counted_and_stays(
    warehouse: Warehouse, sessions: Settings, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, gone = landed_ids(warehouse, "sessions")[:2]
    for key in (silent, gone):
        sandbox.world.delete("sessions", key)
    ask = PROVIDERS["audioscribe"].streams[0].whole.source

    class OneFails:
        detailed = False

        def __init__(self, client: Any, ours: Settings) -> None:
            self._own = ask(client, ours)
            self.identify, self.facts = self._own.identify, self._own.facts

        def detail(self, source_id: str) -> Any:
            if source_id == silent:
                raise Retriable("The server failed.", code="server_error")
            return self._own.detail(source_id)

    known = PROVIDERS["audioscribe"]
    (stream,) = known.streams
    monkeypatch.setitem(
        PROVIDERS,
        "audioscribe",
        replace(known, streams=(replace(stream, whole=replace(stream.whole, source=OneFails)),)),
    )

    found = sweep(warehouse, sessions, "audioscribe")["sessions"]

    assert (found.unanswered, found.gone_ids) == (Counter(server_error=1), (gone,))
    assert record_of(warehouse, silent).gone_at is None


def test_providers_without_lists_have_nothing_to_sweep(warehouse: Warehouse, settings: Settings) -> None:
    with pytest.raises(ConfigError) as caught:
        sweep(warehouse, settings, "nabla")

    assert caught.value.code == "no_list"


def test_one_sweep_of_a_provider_at_a_time(warehouse: Warehouse, settings: Settings, shared: Sandbox) -> None:
    ours = settings_for(shared, settings)
    with warehouse.locks.hold("sweep:default:audioscribe", 0), pytest.raises(Busy):
        sweep(warehouse, ours, "audioscribe")


def test_progress_is_told(warehouse: Warehouse, settings: Settings, shared: Sandbox) -> None:
    told: list[tuple[str, int]] = []

    sweep(warehouse, settings_for(shared, settings), "audioscribe", on_progress=lambda *each: told.append(each))

    assert [stream for stream, _ in told] == ["sessions"] * len(told)
    counts = [count for _, count in told]
    assert counts == sorted(counts)
    assert counts[-1] > 0


@hypothesis(max_examples=50, deadline=None)
@given(listed=st.sets(st.text(min_size=1, max_size=4)), asked=st.text(min_size=1, max_size=4))
def test_a_set_in_eight_bytes_an_id_answers_as_a_set_does(listed: set[str], asked: str) -> None:
    small = _Listed()
    for each in listed:
        small.add(each)
    small.close()

    assert (asked in small, len(small)) == (asked in listed, len(listed))


def pages(*numbers: list[int]) -> Callable[[int], Page | None]:
    return lambda number: Page(list(numbers[number]), NOW) if number < len(numbers) else None


@pytest.mark.parametrize(
    ("fetch", "page_size", "found"),
    [
        (pages(), None, []),
        (pages([1, 2], [3, 4], [5]), None, [1, 2, 3, 4, 5]),
        (pages([1, 2], [3, 4], [5], [9]), 2, [1, 2, 3, 4, 5]),
        (pages([1, 2], [3, 4], []), 2, [1, 2, 3, 4]),
        (lambda number: Page([min(number, 2)], NOW), None, [0, 1, 2]),
    ],
    ids=["nothing", "until none", "until a short page", "until an empty page", "clamped at the last page"],
)
def test_lists_are_read_to_their_end(
    fetch: Callable[[int], Page | None], page_size: int | None, found: list[int]
) -> None:
    read = whole_lists.every_page(fetch, first_page=0, max_pages=10, page_size=page_size)

    assert [item for page in read for item in page.items] == found


@pytest.mark.parametrize(
    ("fetch", "code"),
    [(lambda number: Page([number % 3], NOW), "page_circle"), (lambda number: Page([number], NOW), "too_many_pages")],
)
def test_lists_that_do_not_end_are_told(fetch: Callable[[int], Page], code: str) -> None:
    with pytest.raises(ProviderContractError) as caught:
        list(whole_lists.every_page(fetch, first_page=0, max_pages=10))

    assert caught.value.code == code


def test_a_page_served_twice_by_accident_is_asked_for_again() -> None:
    served = iter([[1], [1], [2], []])

    read = whole_lists.every_page(lambda _: Page(next(served), NOW), first_page=0, max_pages=10)

    assert [item for page in read for item in page.items] == [1, 2]
