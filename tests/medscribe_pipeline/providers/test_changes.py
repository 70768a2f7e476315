"""Reading a list of changes that moves under the reader: nothing is lost, and the watermark passes nothing unseen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from medscribe_pipeline.errors import ProviderContractError, Retriable
from medscribe_pipeline.providers.changes import Order, pull_changes
from medscribe_pipeline.providers.pull import Page, PullReport, Window
from medscribe_pipeline.warehouse.tables import quarantine, source_records, sync_cursors
from tests.databases import dump, empty, landing_for, rows_of
from tests.medscribe_pipeline.providers.scripted_source import SECOND, START, Scripted, Ticking, changed_at, failing

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.warehouse.store import Warehouse

HOUR = timedelta(hours=1)
LAG = timedelta(seconds=30)
STEP = timedelta(seconds=10)
"""The server's change times are this coarse, so that many fall on one instant."""


def pull(
    warehouse: Warehouse,
    source: Scripted,
    fetch: Callable[[datetime | None, int, Order], Page] | None = None,
    **changes: Any,
) -> PullReport:
    options: dict[str, Any] = {
        "changed_at": changed_at,
        "page_size": source.page_size,
        "max_pages": 60,
        "threads": 2,
        "window": Window(),
        "lookback": timedelta(0),
        "lag": LAG,
        "clock": source.clock,
        **changes,
    }
    return pull_changes(fetch or source.changes, source, landing_for(warehouse), **options)


def texts(warehouse: Warehouse) -> dict[str, str]:
    return {row["source_id"]: row["payload"]["text"] for row in rows_of(warehouse, source_records)}


def watermark(warehouse: Warehouse) -> datetime | None:
    found: datetime | None = landing_for(warehouse).cursor().watermark
    return found


def live(source: Scripted) -> dict[str, str]:
    return {source_id: record["text"] for source_id, record in source.records.items()}


def fill(source: Scripted, count: int, at: datetime = START - HOUR, apart: timedelta = SECOND) -> None:
    for number in range(count):
        source.put(f"a{number:02}", at=at + number * apart)


@pytest.fixture
def source() -> Scripted:
    return Scripted()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7])
def test_everything_is_read_once_and_the_watermark_stands_at_the_newest(
    warehouse: Warehouse, source: Scripted, count: int
) -> None:
    fill(source, count)

    report = pull(warehouse, source)

    assert texts(warehouse) == live(source)
    assert (report.landed.new, report.complete) == (count, True)
    newest = START - HOUR + (count - 1) * SECOND if count else None
    assert watermark(warehouse) == report.watermark == newest
    assert set(source.details.values()) <= {1}


def test_the_next_sync_reads_only_what_changed_since(warehouse: Warehouse, source: Scripted) -> None:
    fill(source, 9)
    pull(warehouse, source)
    source.requests = 0
    source.put("a03", "edited")

    report = pull(warehouse, source)

    assert texts(warehouse) == live(source)
    assert (report.landed.changed, report.items, source.requests) == (1, 3, 3)


def test_a_sync_without_news_writes_nothing(warehouse: Warehouse, source: Scripted) -> None:
    fill(source, 7)
    for number in range(5):
        source.put(f"same{number}", at=START - HOUR / 2)
    pull(warehouse, source)
    before = dump(warehouse)

    report = pull(warehouse, source, lookback=HOUR)

    assert (report.landed.new, report.landed.changed, report.landed.stale) == (0, 0, 0)
    assert dump(warehouse) == before


def test_the_watermark_stays_behind_the_start_of_the_sync(warehouse: Warehouse, source: Scripted) -> None:
    source.put("old", at=START - HOUR)
    source.put("fresh")
    source.put("future", at=START + HOUR)

    pull(warehouse, source)

    reached = watermark(warehouse)
    assert texts(warehouse) == live(source)
    assert reached is not None
    assert reached <= source.clock.now - LAG


def test_what_changes_late_behind_the_watermark_is_found_by_looking_back(
    warehouse: Warehouse, source: Scripted
) -> None:
    source.put("a", at=START - HOUR)
    pull(warehouse, source)
    source.put("late", at=START - HOUR - 5 * SECOND)

    pull(warehouse, source, lookback=5 * SECOND)

    assert texts(warehouse) == live(source)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 9])
def test_one_instant_may_fill_many_pages(warehouse: Warehouse, source: Scripted, count: int) -> None:
    source.put("before", at=START - 2 * HOUR)
    fill(source, count, apart=timedelta(0))
    source.put("z-after", at=START - HOUR / 2)

    pull(warehouse, source)

    assert texts(warehouse) == live(source)
    assert watermark(warehouse) == START - HOUR / 2
    assert set(source.details.values()) == {1}


def test_nothing_is_skipped_when_a_record_leaves_a_crowded_instant(warehouse: Warehouse, source: Scripted) -> None:
    """The record edited between two pages of its instant moves away, and the others move up past the reader."""
    fill(source, 7, apart=timedelta(0))

    def edit(request: int) -> None:
        if request == 4:
            source.put("a00", "edited")

    source.before = edit
    pull(warehouse, source)

    assert texts(warehouse) == live(source)


def test_the_watermark_waits_before_an_instant_that_never_comes_to_rest(warehouse: Warehouse, source: Scripted) -> None:
    source.put("before", at=START - 2 * HOUR)
    fill(source, 12, apart=timedelta(0))
    # Past its crowded instant the list goes on: the watermark must not follow it there.
    source.put("z-after", at=START - HOUR / 2)
    victims = iter(sorted(source.records)[:-2])

    def edit(_: int) -> None:
        victim = next(victims, None)
        if victim is not None:
            source.put(victim, "edited")

    source.before = edit
    pull(warehouse, source)
    reached = watermark(warehouse)
    source.before = lambda _: None
    pull(warehouse, source)

    assert reached is None or reached <= START - HOUR
    assert texts(warehouse) == live(source)


@dataclass(frozen=True)
class Move:
    """What happens to the list before one request. Without a text the record is deleted."""

    source_id: str
    text: str | None


IDS = [f"a{number:02}" for number in range(12)]
MOVES = st.lists(
    st.none() | st.builds(Move, st.sampled_from(IDS), st.sampled_from([None, "two", "three"])), max_size=12
)
# Instants of the records there at first: few, so that they crowd.
INSTANTS = st.lists(st.integers(0, 3), max_size=12)
# How the list is walked does not depend on the database, and SQLite is faster.
ON_SQLITE = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
SAME_WAREHOUSE = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Moving(Scripted):
    """A source whose list changes before each request as told, and which fails once if told."""

    def begin(self, instants: list[int], moves: list[Move | None], fails_at: int | None) -> None:
        for source_id, instant in zip(IDS, instants, strict=False):
            self.put(source_id, at=START - HOUR + instant * STEP)
        to_come = list(moves)

        def move(request: int) -> None:
            if request == fails_at:
                raise failing()
            if to_come and (due := to_come.pop(0)):
                self.apply(due)

        self.before = move

    def apply(self, move: Move) -> None:
        if move.text is None:
            self.records.pop(move.source_id, None)
        else:
            now = self.clock()
            # Where the list shows no text, two edits of one record within one instant could not be told apart.
            self.put(move.source_id, move.text, at=now if self.detailed else now - (now - START) % STEP)

    def rest(self) -> None:
        self.before = lambda _: None


@ON_SQLITE
@SAME_WAREHOUSE
@given(
    instants=INSTANTS,
    moves=MOVES,
    page_size=st.integers(2, 4),
    fails_at=st.none() | st.integers(1, 8),
    detailed=st.booleans(),
    honours_bound=st.booleans(),
)
@example(
    instants=[0] * 6,
    moves=[None, None, Move("a00", "two")],
    page_size=2,
    fails_at=None,
    detailed=False,
    honours_bound=True,
)
@example(
    instants=[0] * 6, moves=[None, Move("a00", None)] * 3, page_size=2, fails_at=5, detailed=True, honours_bound=True
)
def test_a_moving_list_is_complete_after_one_more_sync(
    warehouse: Warehouse,
    instants: list[int],
    moves: list[Move | None],
    page_size: int,
    fails_at: int | None,
    detailed: bool,
    honours_bound: bool,
) -> None:
    empty(warehouse)
    source = Moving(clock=Ticking(), detailed=detailed, honours_bound=honours_bound, page_size=page_size)
    source.begin(instants, moves, fails_at)

    try:
        pull(warehouse, source)
    except Retriable:
        assert fails_at is not None
    reached = watermark(warehouse)
    after_first = texts(warehouse)
    for source_id, record in source.records.items():
        time = changed_at(record)
        assert time is not None
        if reached is not None and time < reached:
            assert after_first.get(source_id) == record["text"], "the watermark passed a change nobody saw"

    source.rest()
    pull(warehouse, source)

    assert live(source).items() <= texts(warehouse).items()


@ON_SQLITE
@SAME_WAREHOUSE
@given(count=st.integers(0, 9), moves=MOVES, page_size=st.integers(2, 4), honours_bound=st.booleans())
def test_a_list_in_no_useful_order_is_complete_after_one_more_sync(
    warehouse: Warehouse, count: int, moves: list[Move | None], page_size: int, honours_bound: bool
) -> None:
    """Newest first, whatever was asked for. The list rests only while the reader finds that out."""
    empty(warehouse)
    source = Moving(clock=Ticking(), honours_order=False, honours_bound=honours_bound, page_size=page_size)
    source.begin([], [None, None, *moves], None)
    for number, source_id in enumerate(IDS[:count]):
        source.put(source_id, at=START - HOUR - number * STEP)

    pull(warehouse, source)
    source.rest()
    pull(warehouse, source)

    assert live(source).items() <= texts(warehouse).items()


def test_a_server_that_ignores_the_bound_is_read_whole(warehouse: Warehouse, source: Scripted) -> None:
    source.honours_bound = False
    fill(source, 7)
    pull(warehouse, source)
    source.put("a00", "edited")

    report = pull(warehouse, source)

    assert texts(warehouse) == live(source)
    assert report.landed.changed == 1
    assert set(source.details.values()) == {1, 2}


def test_a_server_that_ignores_the_order_is_read_whole(warehouse: Warehouse, source: Scripted) -> None:
    source.honours_order = False
    for number in range(7):
        source.put(f"a{number}", at=START - HOUR - number * SECOND)

    pull(warehouse, source)
    reached = watermark(warehouse)
    before = dump(warehouse)
    pull(warehouse, source)

    assert texts(warehouse) == live(source)
    assert reached == START - HOUR
    assert dump(warehouse) == before


def test_an_order_that_is_right_by_chance_is_not_believed(warehouse: Warehouse, source: Scripted) -> None:
    source.honours_order = False
    for number in range(6):
        source.put(f"a{number}", at=START - HOUR + number * SECOND)
    source.put("a1", "edited", at=START - SECOND)

    pull(warehouse, source)
    pull(warehouse, source)

    assert texts(warehouse) == live(source)


def test_an_unsorted_list_that_never_rests_leaves_the_watermark(warehouse: Warehouse, source: Scripted) -> None:
    source.honours_order = False
    for number in range(30):
        source.put(f"a{number:02}", at=START - HOUR - number * SECOND)
    victims = iter(sorted(source.records))

    def shrink(_: int) -> None:
        source.records.pop(next(victims, ""), None)

    source.before = shrink
    pull(warehouse, source)

    assert watermark(warehouse) is None


def test_a_stale_page_served_once_is_not_believed(warehouse: Warehouse, source: Scripted) -> None:
    fill(source, 6)
    pull(warehouse, source)
    source.put("a00", "edited")
    asked = 0

    def fetch(low: datetime | None, number: int, order: Order) -> Page:
        nonlocal asked
        asked += 1
        return source.changes(None if asked == 1 else low, number, order)

    report = pull(warehouse, source, fetch)

    assert texts(warehouse) == live(source)
    assert report.items == 3


def test_a_server_that_ignores_page_numbers_is_refused(warehouse: Warehouse, source: Scripted) -> None:
    fill(source, 5, apart=timedelta(0))

    with pytest.raises(ProviderContractError) as raised:
        pull(warehouse, source, lambda low, _, order: source.changes(low, 1, order))

    assert raised.value.code == "page_circle"


@pytest.mark.parametrize("honours_order", [True, False])
def test_a_list_without_end_is_left_at_the_ceiling(warehouse: Warehouse, source: Scripted, honours_order: bool) -> None:
    source.honours_order = honours_order
    for number in range(40):
        source.put(f"a{number:02}", at=START - HOUR - number * SECOND)

    with pytest.raises(ProviderContractError) as raised:
        pull(warehouse, source, max_pages=5)

    assert raised.value.code == "too_many_pages"


@pytest.mark.parametrize("fails_at", range(1, 7))
def test_after_a_failure_the_next_sync_ends_like_an_undisturbed_one(
    warehouse: Warehouse, source: Scripted, fails_at: int
) -> None:
    fill(source, 9)
    pull(warehouse, source)
    undisturbed = dump(warehouse, "fetched_at", "moved_at")
    empty(warehouse)
    source.requests = 0

    def fail(request: int) -> None:
        if request == fails_at:
            raise failing()

    source.before = fail
    with pytest.raises(Retriable):
        pull(warehouse, source)
    part = len(texts(warehouse))
    source.before = lambda _: None
    pull(warehouse, source)

    assert dump(warehouse, "fetched_at", "moved_at") == undisturbed
    assert part >= min(fails_at - 2, 8)


def test_a_record_nobody_answers_for_does_not_hold_the_watermark(warehouse: Warehouse, source: Scripted) -> None:
    fill(source, 4)
    source.troubles["a01"] = failing()

    pull(warehouse, source)

    assert watermark(warehouse) == START - HOUR + 3 * SECOND
    assert [row["source_id"] for row in rows_of(warehouse, quarantine)] == ["a01"]


def test_a_window_behind_the_watermark_reads_again_from_there(warehouse: Warehouse, source: Scripted) -> None:
    fill(source, 6)
    pull(warehouse, source)
    source.records["a02"]["text"] = "changed in silence"
    reached = watermark(warehouse)

    pull(warehouse, source, window=Window(since=START - HOUR + 2 * SECOND, full=True))

    assert texts(warehouse) == live(source)
    assert source.details["a01"] == 1
    assert watermark(warehouse) == reached


def test_a_window_that_leaves_a_gap_leaves_the_watermark(warehouse: Warehouse, source: Scripted) -> None:
    fill(source, 3)
    pull(warehouse, source)
    reached = watermark(warehouse)
    source.put("gap", at=START - HOUR / 2)
    source.put("wanted", at=START - HOUR / 4)

    pull(warehouse, source, window=Window(since=START - HOUR / 3))
    assert "gap" not in texts(warehouse)
    assert watermark(warehouse) == reached

    pull(warehouse, source)
    assert texts(warehouse) == live(source)


def test_a_window_before_the_first_sync_leaves_no_watermark(warehouse: Warehouse, source: Scripted) -> None:
    fill(source, 3)

    pull(warehouse, source, window=Window(since=START - HOUR))

    assert len(texts(warehouse)) == 3
    assert rows_of(warehouse, sync_cursors) == []


def test_a_window_with_an_end_lets_the_watermark_up_to_it(warehouse: Warehouse, source: Scripted) -> None:
    fill(source, 4, apart=STEP)
    until = START - HOUR + STEP

    pull(warehouse, source, window=Window(until=until))

    assert watermark(warehouse) == until
