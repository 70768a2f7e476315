"""Numbered pages to their end, whatever that looks like; and what becomes of each record of a page."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medscribe_pipeline.errors import Deferred, MedscribeError, ProviderContractError, Rejected, Retriable
from medscribe_pipeline.providers.answers import Answer
from medscribe_pipeline.providers.pages import pull_pages
from medscribe_pipeline.providers.pull import (
    Page,
    PullReport,
    Window,
    items_of,
    retry_waiting,
    workers,
)
from medscribe_pipeline.warehouse.tables import quarantine, source_records
from tests.databases import dump, empty, landing_for, rows_of, writes_of
from tests.medscribe_pipeline.providers.scripted_source import (
    SECOND,
    START,
    Scripted,
    Ticking,
    changed_at,
    failing,
    missing,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from medscribe_pipeline.warehouse.store import Warehouse


@pytest.fixture
def source() -> Scripted:
    return Scripted(detailed=False)


def pull(
    warehouse: Warehouse, source: Scripted, fetch: Callable[[int], Page | None] | None = None, **changes: Any
) -> PullReport:
    options: dict[str, Any] = {
        "first_page": 0,
        "max_pages": 50,
        "threads": 3,
        "window": Window(),
        "clock": source.clock,
        **changes,
    }
    return pull_pages(fetch or source.page, source, landing_for(warehouse, "audioscribe", "sessions"), **options)


def texts(warehouse: Warehouse) -> dict[str, str]:
    return {row["source_id"]: row["payload"]["text"] for row in rows_of(warehouse, source_records)}


def codes(warehouse: Warehouse) -> dict[str, str]:
    return {row["source_id"]: row["error_code"] for row in rows_of(warehouse, quarantine) if row["resolved_at"] is None}


def fill(source: Scripted, count: int) -> None:
    for number in range(count):
        source.put(f"s{number:02}")


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7])
def test_all_pages_are_read(warehouse: Warehouse, source: Scripted, count: int) -> None:
    fill(source, count)

    report = pull(warehouse, source)

    assert sorted(texts(warehouse)) == [f"s{number:02}" for number in range(count)]
    assert report.complete
    assert (report.items, report.landed.new, report.pages) == (count, count, (count + 1) // 2)


def test_a_page_that_is_not_there_is_the_end(warehouse: Warehouse, source: Scripted) -> None:
    fill(source, 4)

    report = pull(warehouse, source, lambda number: source.page(number) if number < 2 else None)

    assert (report.complete, report.landed.new) == (True, 4)


def test_numbering_may_begin_anywhere(warehouse: Warehouse, source: Scripted) -> None:
    fill(source, 4)
    asked: list[int] = []

    def fetch(number: int) -> Page | None:
        asked.append(number)
        return source.page(number - 1)

    report = pull(warehouse, source, fetch, first_page=1)

    assert report.landed.new == 4
    assert min(asked) == 1


def test_a_second_pull_of_the_same_writes_nothing(
    warehouse: Warehouse, source: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(source, 5)
    pull(warehouse, source)
    before = dump(warehouse)
    begun: list[int] = []
    monkeypatch.setattr(type(warehouse), "begin", lambda _: begun.append(1))

    with writes_of(warehouse) as written:
        report = pull(warehouse, source)

    assert (report.landed.new, report.landed.changed, report.landed.unchanged) == (0, 0, 5)
    assert (begun, written) == ([], [])
    assert dump(warehouse) == before


def test_a_server_that_clamps_at_its_last_page_has_an_end(warehouse: Warehouse, source: Scripted) -> None:
    fill(source, 6)

    report = pull(warehouse, source, lambda number: source.page(min(number, 2)))

    assert report.complete
    assert report.landed.new == 6


def test_a_page_repeated_once_is_asked_for_again(warehouse: Warehouse, source: Scripted) -> None:
    fill(source, 6)
    asked: list[int] = []

    def fetch(number: int) -> Page | None:
        asked.append(number)
        stale = number == 2 and asked.count(2) == 1
        return source.page(1 if stale else number)

    report = pull(warehouse, source, fetch, threads=1)

    assert (report.landed.new, report.repeated_pages, report.complete) == (6, 1, True)


def test_a_list_that_moves_by_a_page_is_read_on(warehouse: Warehouse, source: Scripted) -> None:
    """New records in front push a whole page to the next number: it is seen twice, and nothing is lost."""
    fill(source, 6)

    def push(request: int) -> None:
        if request == 2:
            source.put("a0")
            source.put("a1")

    source.before = push
    pull(warehouse, source, threads=1)
    report = pull(warehouse, source, threads=1)

    assert len(texts(warehouse)) == 8
    assert report.complete


def test_pages_in_a_circle_are_refused(warehouse: Warehouse, source: Scripted) -> None:
    fill(source, 6)

    with pytest.raises(ProviderContractError) as raised:
        pull(warehouse, source, lambda number: source.page(number % 3))

    assert raised.value.code == "page_circle"
    assert len(texts(warehouse)) == 6


def test_a_list_without_end_is_left_at_the_ceiling(warehouse: Warehouse, source: Scripted) -> None:
    def endless(number: int) -> Page:
        return Page([{"uuid": f"s{number}", "text": "x", "updatedAt": START.isoformat()}], START)

    with pytest.raises(ProviderContractError) as raised:
        pull(warehouse, source, endless, max_pages=5)

    assert (raised.value.code, raised.value.context) == ("too_many_pages", {"pages": 5})
    assert len(texts(warehouse)) == 5


def test_pages_are_asked_for_ahead_within_bounds_and_landed_in_order(warehouse: Warehouse, source: Scripted) -> None:
    fill(source, 16)
    lock = threading.Lock()
    running = most = furthest = 0
    landed_pages: list[int] = []

    def fetch(number: int) -> Page | None:
        nonlocal running, most, furthest
        with lock:
            running += 1
            most, furthest = max(most, running), max(furthest, number - len(landed_pages))
        time.sleep(0.03 / (1 + number % 3))  # Later pages may answer first.
        with lock:
            running -= 1
        return source.page(number)

    pull(warehouse, source, fetch, threads=3, on_progress=lambda report: landed_pages.append(report.pages))

    assert landed_pages == list(range(1, 9))
    assert 1 < most <= 3
    assert furthest <= 2 * 3  # As many may be there, and wait for each other.
    order = sorted(rows_of(warehouse, source_records), key=lambda row: int(row["change_seq"]))
    assert [row["source_id"] for row in order] == [f"s{number:02}" for number in range(16)]


class Patient(Ticking):
    """A clock that is looked at when pages land: those asked for ahead have arrived by then."""

    def __call__(self) -> datetime:
        time.sleep(0.02)
        return super().__call__()


def test_pages_that_are_there_already_are_landed_at_once(warehouse: Warehouse, source: Scripted) -> None:
    fill(source, 40)
    pages_landed: list[int] = []

    report = pull(
        warehouse,
        source,
        threads=4,
        clock=Patient(),
        on_progress=lambda report: pages_landed.append(len(rows_of(warehouse, source_records)) // 2 - report.pages),
    )

    assert (report.pages, report.items, report.landed.new) == (20, 40, 40)
    # Each is told of when it is landed, and no more than four are at once.
    assert 0 < max(pages_landed) < 4
    assert min(pages_landed) == 0
    order = sorted(rows_of(warehouse, source_records), key=lambda row: int(row["change_seq"]))
    assert [row["source_id"] for row in order] == [f"s{number:02}" for number in range(40)]


@pytest.mark.parametrize("same", [True, False])
def test_a_record_on_two_pages_that_are_there_is_landed_twice(
    warehouse: Warehouse, source: Scripted, *, same: bool
) -> None:
    fill(source, 12)

    def fetch(number: int) -> Page | None:
        page = source.page(number)
        items = page.items if page else []
        if items and number:
            moved = source.records[f"s{2 * number - 1:02}"]
            items = [moved if same else {**moved, "text": f"edited {number}"}, *items]
        return Page(items, START + number * SECOND)

    report = pull(warehouse, source, fetch, threads=4, clock=Patient())

    landed = report.landed
    assert (landed.new, landed.unchanged, landed.changed) == ((12, 5, 0) if same else (12, 0, 5))
    assert texts(warehouse)["s03"] == ("one" if same else "edited 2")


@pytest.mark.parametrize("page", range(1, 7))
def test_pages_that_wait_for_each_other_are_kept_when_the_next_one_fails(
    warehouse: Warehouse, source: Scripted, page: int
) -> None:
    fill(source, 14)

    def fetch(number: int) -> Page | None:
        if number == page:
            raise failing()
        return source.page(number)

    with pytest.raises(Retriable):
        pull(warehouse, source, fetch, threads=4, clock=Patient())

    assert len(texts(warehouse)) == 2 * page


def test_one_thread_asks_for_one_page_at_a_time(warehouse: Warehouse, source: Scripted) -> None:
    fill(source, 4)

    pull(warehouse, source, threads=1)

    assert source.requests == 3


@pytest.mark.parametrize(("before", "now"), [(8, 8), (7, 7), (7, 8), (8, 9)])
def test_no_page_past_the_known_end_is_asked_for_but_the_empty_one(
    warehouse: Warehouse, source: Scripted, before: int, now: int
) -> None:
    fill(source, now)

    report = pull(warehouse, source, expected=before)

    assert (report.landed.new, report.complete) == (now, True)
    assert source.requests == -(-now // 2) + 1


@pytest.mark.parametrize("expected", [1, 6, 100])
def test_what_was_expected_is_no_bound(warehouse: Warehouse, source: Scripted, expected: int) -> None:
    fill(source, 15)

    report = pull(warehouse, source, expected=expected)

    assert (report.landed.new, report.pages, report.complete) == (15, 8, True)


def test_nothing_is_asked_for_ahead_after_a_page_that_is_not_full(warehouse: Warehouse, source: Scripted) -> None:
    fill(source, 12)
    asked: list[int] = []
    ahead: list[int] = []

    def fetch(number: int) -> Page | None:
        asked.append(number)
        page = source.page(number)
        return Page(page.items[:1], page.sent_at) if page and number == 1 else page

    report = pull(warehouse, source, fetch, threads=2, on_progress=lambda told: ahead.append(len(asked) - told.pages))

    # One that is short says nothing for sure: the list goes on.
    assert (report.landed.new, report.complete) == (11, True)
    assert ahead[2] == 0


def test_the_early_stop_ends_after_pages_without_news(warehouse: Warehouse, source: Scripted) -> None:
    fill(source, 12)
    pull(warehouse, source)
    source.put("s01", "edited")
    source.requests = 0

    report = pull(warehouse, source, threads=1, stop_after_known_pages=2)

    assert (report.pages, report.complete, report.landed.changed) == (3, False, 1)


def test_a_window_leaves_other_records_alone(warehouse: Warehouse, source: Scripted) -> None:
    for hours in range(4):
        source.put(f"s{hours}", at=START + timedelta(hours=hours))
    source.records["undated"] = {"uuid": "undated", "text": "x", "updatedAt": "yesterday"}
    window = Window(since=START + timedelta(hours=1), until=START + timedelta(hours=2))

    report = pull(warehouse, source, window=window, created_at=changed_at)

    assert sorted(texts(warehouse)) == ["s1", "s2"]
    assert codes(warehouse) == {"undated": "wire_model"}
    assert report.items == 5


def test_a_page_that_fails_stops_the_pull_and_keeps_what_came_before(warehouse: Warehouse, source: Scripted) -> None:
    fill(source, 10)

    def fetch(number: int) -> Page | None:
        if number == 3:
            raise failing()
        return source.page(number)

    with pytest.raises(Retriable):
        pull(warehouse, source, fetch)

    assert len(texts(warehouse)) == 6


@pytest.mark.parametrize("page", range(5))
def test_after_a_failure_the_next_pull_ends_like_an_undisturbed_one(
    warehouse: Warehouse, source: Scripted, page: int
) -> None:
    fill(source, 7)
    pull(warehouse, source)
    undisturbed = dump(warehouse, "fetched_at", "moved_at")
    empty(warehouse)

    def fetch(number: int) -> Page | None:
        if number == page:
            raise failing()
        return source.page(number)

    with pytest.raises(Retriable):
        pull(warehouse, source, fetch)
    pull(warehouse, source)

    assert dump(warehouse, "fetched_at", "moved_at") == undisturbed


# A record and its new text, or None to delete it.
MOVES = st.lists(
    st.tuples(
        st.sampled_from([f"{letter}0{n}" for letter in "as" for n in range(8)]), st.sampled_from([None, "x", "y"])
    ),
    max_size=8,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(0, 8), moves=MOVES)
def test_a_moving_list_is_complete_after_one_more_pull(
    warehouse: Warehouse, count: int, moves: list[tuple[str, str | None]]
) -> None:
    empty(warehouse)
    source = Scripted(detailed=False)
    fill(source, count)
    to_come = list(moves)

    def move(_: int) -> None:
        source_id, text = to_come.pop(0) if to_come else ("", None)
        if text is None:
            source.records.pop(source_id, None)
        else:
            source.put(source_id, text)

    source.before = move
    pull(warehouse, source, threads=1)
    source.before = lambda _: None
    pull(warehouse, source, threads=1)

    found = texts(warehouse)
    assert {key: record["text"] for key, record in source.records.items()}.items() <= found.items()


def test_one_bad_record_stops_nothing(warehouse: Warehouse, source: Scripted) -> None:
    fill(source, 2)
    source.put("bad", text=None)  # type: ignore[arg-type]
    source.put("worse", updatedAt="soon")
    source.records["nameless"] = {"text": "x", "updatedAt": START.isoformat()}
    source.records["odd"] = {"uuid": "line\nbreak", "text": "x", "updatedAt": START.isoformat()}

    report = pull(warehouse, source)

    assert sorted(texts(warehouse)) == ["s00", "s01"]
    assert sorted(codes(warehouse).values()) == ["no_id", "no_id", "wire_model", "wire_model"]
    assert report.landed.quarantined == 4
    (row,) = [row for row in rows_of(warehouse, quarantine) if row["source_id"] == "worse"]
    assert row["field_paths"] == ["updatedAt:datetime_from_date_parsing"]
    assert row["payload"]["updatedAt"] == "soon"


def test_what_is_in_quarantine_stays_there_quietly_until_it_changes(warehouse: Warehouse, source: Scripted) -> None:
    fill(source, 1)
    source.put("bad", text=None)  # type: ignore[arg-type]
    source.records["nameless"] = {"text": "x", "updatedAt": START.isoformat()}
    pull(warehouse, source)
    before = dump(warehouse)

    again = pull(warehouse, source)
    unchanged = dump(warehouse)
    source.put("bad", "good")
    mended = pull(warehouse, source)

    assert unchanged == before
    assert (again.landed.quarantined, again.still_quarantined) == (0, 2)
    assert mended.landed.new == 1
    assert list(codes(warehouse).values()) == ["no_id"]


@pytest.mark.parametrize("item", [None, 7, "text", [], {}, {"uuid": None}, {"uuid": ""}, {"uuid": "x" * 256}])
def test_what_is_no_record_at_all_is_quarantined(warehouse: Warehouse, source: Scripted, item: Any) -> None:
    pull(warehouse, source, lambda number: Page([item] if number == 0 else [], START))

    assert list(codes(warehouse).values()) == ["no_id"]


def test_a_cut_list_item_is_asked_for_whole(warehouse: Warehouse, source: Scripted) -> None:
    source.put("a", "whole")
    cut = Page([{"uuid": "a"}], START)

    pull(warehouse, source, lambda number: cut if number == 0 else None)

    assert texts(warehouse) == {"a": "whole"}
    assert source.details == {"a": 1}


def test_nul_characters_are_replaced_before_anything_is_stored(warehouse: Warehouse, source: Scripted) -> None:
    source.put("a", "be\x00fore")
    source.records["a"]["od\x00d"] = ["\x00", {"x": "\x00"}]

    pull(warehouse, source)
    again = pull(warehouse, source)

    (row,) = rows_of(warehouse, source_records)
    assert row["payload"]["text"] == "be\ufffdfore"
    assert row["payload"]["od\ufffdd"] == ["\ufffd", {"x": "\ufffd"}]
    assert again.landed.unchanged == 1


def test_text_that_only_looks_like_an_escape_is_left_alone(warehouse: Warehouse, source: Scripted) -> None:
    source.put("a", r"\u0000 and \\u0000")

    pull(warehouse, source)

    assert texts(warehouse) == {"a": r"\u0000 and \\u0000"}


@pytest.fixture
def detailed() -> Scripted:
    return Scripted(detailed=True, page_size=5)


def test_details_are_asked_for_once(warehouse: Warehouse, detailed: Scripted) -> None:
    fill(detailed, 4)
    pull(warehouse, detailed)
    detailed.put("s01", "edited")

    pull(warehouse, detailed)

    assert texts(warehouse) == {"s00": "one", "s01": "edited", "s02": "one", "s03": "one"}
    assert detailed.details == {"s00": 1, "s01": 2, "s02": 1, "s03": 1}


def test_a_full_refresh_asks_for_everything_and_changes_nothing(warehouse: Warehouse, detailed: Scripted) -> None:
    fill(detailed, 3)
    pull(warehouse, detailed)
    before = dump(warehouse)

    report = pull(warehouse, detailed, window=Window(full=True))

    assert set(detailed.details.values()) == {2}
    assert report.landed.unchanged == 3
    assert dump(warehouse) == before


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        (missing(), "detail_missing"),
        (Rejected("no", code="rejected", status=410), "detail_refused"),
        (failing(), "detail_failed"),
        (ProviderContractError("no", code="not_json"), "detail_failed"),
    ],
)
def test_a_detail_that_fails_waits_and_is_asked_for_again(
    warehouse: Warehouse, detailed: Scripted, trouble: MedscribeError, code: str
) -> None:
    fill(detailed, 3)
    detailed.troubles["s01"] = trouble
    pull(warehouse, detailed)
    assert sorted(texts(warehouse)) == ["s00", "s02"]
    assert codes(warehouse) == {"s01": code}

    detailed.troubles.clear()
    landing = landing_for(warehouse, "audioscribe", "sessions")
    retry_waiting(detailed, landing, PullReport(), detailed.clock, 2)

    assert sorted(texts(warehouse)) == ["s00", "s01", "s02"]
    assert codes(warehouse) == {}


def test_three_details_in_a_row_that_fail_mean_the_provider_is_down(warehouse: Warehouse, detailed: Scripted) -> None:
    fill(detailed, 5)
    detailed.troubles = {f"s{number:02}": failing() for number in (1, 2, 3)}

    with pytest.raises(Retriable):
        pull(warehouse, detailed)

    assert dump(warehouse)["source_records"] == []


def test_failures_between_answers_are_the_records_own(warehouse: Warehouse, detailed: Scripted) -> None:
    fill(detailed, 5)
    detailed.troubles = {f"s{number:02}": failing() for number in (0, 1, 3, 4)}

    pull(warehouse, detailed)

    assert sorted(texts(warehouse)) == ["s02"]
    assert len(codes(warehouse)) == 4


def test_a_provider_that_asks_for_quiet_stops_the_pull(warehouse: Warehouse, detailed: Scripted) -> None:
    fill(detailed, 3)
    detailed.troubles["s00"] = Deferred("later", until=START)

    with pytest.raises(Deferred):
        pull(warehouse, detailed)


def test_an_answer_about_another_record_is_not_taken_for_this_one(warehouse: Warehouse, detailed: Scripted) -> None:
    fill(detailed, 2)
    detailed.records["s01"]["uuid"] = "s01"
    ask = detailed.detail

    def confused(source_id: str) -> Answer:
        return ask("s00" if source_id == "s01" else source_id)

    detailed.detail = confused  # type: ignore[method-assign]
    pull(warehouse, detailed)

    assert sorted(texts(warehouse)) == ["s00"]
    assert codes(warehouse) == {"s01": "detail_failed"}


def test_the_quarantine_keeps_the_payload_that_did_not_fit(warehouse: Warehouse, detailed: Scripted) -> None:
    detailed.put("a", text=["not", "text"])  # type: ignore[arg-type]

    pull(warehouse, detailed)
    again = pull(warehouse, detailed)

    (row,) = rows_of(warehouse, quarantine)
    assert row["payload"]["text"] == ["not", "text"]
    assert row["field_paths"] == ["text:string_type"]
    assert again.landed.quarantined == 0
    assert detailed.details == {"a": 1}


def test_a_waiting_record_that_has_not_changed_after_all_stops_waiting(
    warehouse: Warehouse, detailed: Scripted
) -> None:
    fill(detailed, 1)
    pull(warehouse, detailed)
    detailed.troubles["s00"] = failing()
    pull(warehouse, detailed, window=Window(full=True))
    assert codes(warehouse) == {"s00": "detail_failed"}
    detailed.troubles.clear()

    landing = landing_for(warehouse, "audioscribe", "sessions")
    retry_waiting(detailed, landing, PullReport(), detailed.clock, 2)

    assert codes(warehouse) == {}


def test_nobody_is_asked_when_nobody_waits(warehouse: Warehouse, detailed: Scripted) -> None:
    retry_waiting(detailed, landing_for(warehouse), PullReport(), Ticking(), 2)

    assert detailed.details == {}


@pytest.mark.parametrize("body", [[1], {"member": [1]}, {"hydra:member": [1], "hydra:totalItems": 1}])
def test_lists_are_recognised_in_each_form(body: Any) -> None:
    assert items_of(Answer(200, {}, body, START)) == [1]


@pytest.mark.parametrize("body", [None, "x", 3, {}, {"member": None}, {"items": []}, {"error": "no"}])
def test_what_is_no_list_stops_the_stream(body: Any) -> None:
    with pytest.raises(ProviderContractError) as raised:
        items_of(Answer(200, {}, body, START))

    assert raised.value.code == "not_a_list"


def test_a_window_is_inclusive() -> None:
    window = Window(since=START, until=START + SECOND)

    assert [window.covers(START + n * SECOND) for n in (-1, 0, 1, 2)] == [False, True, True, False]
    assert window.covers(None)
    assert Window().covers(START)


@pytest.mark.parametrize("end", [None, KeyboardInterrupt, ProviderContractError])
def test_threads_are_told_to_give_up_only_when_the_block_fails(end: type[BaseException] | None) -> None:
    gave_up = threading.Event()
    ended = []

    def hang() -> None:
        # Like a request to a server that hangs: it ends when no further try is made.
        gave_up.wait(5)
        ended.append(gave_up.is_set())

    try:
        with workers(1, "test", gave_up.set) as pool:
            pool.submit(hang if end else ended.clear)
            if end is not None:
                raise end("x")
    except (KeyboardInterrupt, ProviderContractError):
        pass

    assert gave_up.is_set() == (end is not None)
    assert ended == ([True] if end else [])
