"""Landing: all of a page or nothing, the newer wins, and every change is numbered in the order it was committed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.visits import VisitRow
from medscribe_pipeline.warehouse.arrivals import Cursor, Known, Problem
from medscribe_pipeline.warehouse.days import days_to_build, mark_built
from medscribe_pipeline.warehouse.landed_rows import LandedRows
from medscribe_pipeline.warehouse.manifest import import_visits
from medscribe_pipeline.warehouse.store import Warehouse
from medscribe_pipeline.warehouse.tables import (
    change_counter,
    quarantine,
    source_records,
    sync_cursor_history,
    sync_cursors,
    visit_days,
)
from tests.databases import DAYS, NOW, TODAY, dump, landing_for, record, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medscribe_pipeline.settings import Settings

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
YESTERDAY = TODAY - DAY


def problem(source_id: str, code: str = "wire_model", payload: Any = None, payload_hash: str = "h1") -> Problem:
    return Problem(
        source_id=source_id, code=code, field_paths=("createdAt:missing",), payload=payload, payload_hash=payload_hash
    )


def landed(warehouse: Warehouse) -> dict[str, dict[str, Any]]:
    return {row["source_id"]: row for row in rows_of(warehouse, source_records)}


def due(warehouse: Warehouse) -> dict[date, int]:
    return dict(days_to_build(warehouse, "mapping"))


def build_all(warehouse: Warehouse) -> None:
    """As if every due day had been built to the end."""
    for day, seq in due(warehouse).items():
        with warehouse.begin() as connection:
            mark_built(warehouse, connection, day, seq, "mapping")


def test_a_page_lands_with_its_quarantine_and_cursor(warehouse: Warehouse) -> None:
    landing = landing_for(warehouse)

    done = landing.land([record("a"), record("b")], [problem("c")], Cursor(NOW, "b"), now=NOW)

    assert (done.new, done.changed, done.unchanged, done.stale, done.quarantined) == (2, 0, 0, 0, 1)
    assert done.days == {TODAY}
    assert landed(warehouse)["a"]["payload"] == {"uuid": "a", "text": "one"}
    assert [row["source_id"] for row in rows_of(warehouse, quarantine)] == ["c"]
    assert landing.cursor() == Cursor(NOW, "b")
    assert due(warehouse) == {TODAY: 2}


@pytest.mark.parametrize("table", [source_records, quarantine, sync_cursors, visit_days, change_counter], ids=str)
def test_a_page_that_fails_half_way_leaves_nothing(warehouse: Warehouse, table: sa.Table) -> None:
    """Each table in turn refuses the write that the second page needs."""
    landing = landing_for(warehouse)
    landing.land([record("a"), record("gone-tomorrow")], [problem("b")], Cursor(NOW, "a"), now=NOW)
    before = dump(warehouse)

    def refuse(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith((f"INSERT INTO {table.name}", f"UPDATE {table.name}")):
            raise ZeroDivisionError

    sa.event.listen(warehouse.engine, "before_cursor_execute", refuse)
    try:
        with pytest.raises(ZeroDivisionError):
            landing.land(
                [record("a", "two", fetched_at=NOW + MINUTE), record("n", visited_at=NOW - DAY)],
                [problem("b", payload_hash="h2"), problem("z")],
                Cursor(NOW + MINUTE, "n"),
                now=NOW + MINUTE,
            )
    finally:
        sa.event.remove(warehouse.engine, "before_cursor_execute", refuse)

    assert dump(warehouse) == before


def test_what_is_unchanged_is_not_written(warehouse: Warehouse) -> None:
    landing = landing_for(warehouse)
    landing.land([record("a"), record("b")], [], Cursor(NOW, "b"), now=NOW)
    before = dump(warehouse)

    done = landing.land(
        [record("a", fetched_at=NOW + MINUTE), record("b", fetched_at=NOW + MINUTE)], [], None, now=NOW + MINUTE
    )

    assert (done.new, done.changed, done.unchanged) == (0, 0, 2)
    assert done.days == set()
    assert dump(warehouse) == before


def test_nothing_at_all_needs_no_transaction(warehouse: Warehouse) -> None:
    warehouse.close()  # The pool would have to connect again.
    with warehouse.locks.hold("x", 0):
        assert landing_for(warehouse).land([], [], None, now=NOW).days == set()


def test_a_change_replaces_the_record_and_makes_its_day_due(warehouse: Warehouse) -> None:
    landing = landing_for(warehouse)
    landing.land([record("a")], [], None, now=NOW)
    build_all(warehouse)
    assert due(warehouse) == {}

    done = landing.land([record("a", "two", fetched_at=NOW + MINUTE)], [], None, now=NOW + MINUTE)

    assert (done.new, done.changed) == (0, 1)
    assert landed(warehouse)["a"]["payload"]["text"] == "two"
    assert due(warehouse) == {TODAY: 2}


def test_a_record_that_moves_to_another_day_touches_both(warehouse: Warehouse) -> None:
    landing = landing_for(warehouse)
    landing.land([record("a")], [], None, now=NOW)
    build_all(warehouse)

    landing.land([record("a", "two", visited_at=NOW - DAY)], [], None, now=NOW)

    assert landed(warehouse)["a"]["visit_day"] == YESTERDAY
    assert due(warehouse) == {YESTERDAY: 2, TODAY: 2}


def test_a_new_list_item_alone_is_remembered(warehouse: Warehouse) -> None:
    landing = landing_for(warehouse)
    landing.land([record("a")], [], None, now=NOW)

    landing.land([record("a", list_hash="another")], [], None, now=NOW)

    assert landing.known(["a", "b"]) == {"a": Known("another")}


@pytest.mark.parametrize(
    ("old", "new", "wins"),
    [
        ({"updated_at": NOW}, {"updated_at": NOW - MINUTE, "fetched_at": NOW + MINUTE}, False),
        ({"updated_at": NOW}, {"updated_at": NOW + MINUTE, "fetched_at": NOW - MINUTE}, True),
        ({"updated_at": NOW}, {"updated_at": NOW, "fetched_at": NOW - MINUTE}, False),
        ({"updated_at": NOW}, {"updated_at": NOW, "fetched_at": NOW + MINUTE}, True),
        ({}, {"fetched_at": NOW - MINUTE}, False),
        ({}, {"fetched_at": NOW + MINUTE}, True),
        ({"updated_at": NOW}, {"fetched_at": NOW - MINUTE}, False),
        ({}, {"updated_at": NOW - DAY, "fetched_at": NOW + MINUTE}, True),
    ],
)
def test_the_older_never_replaces_the_newer(
    warehouse: Warehouse, old: dict[str, Any], new: dict[str, Any], wins: bool
) -> None:
    landing = landing_for(warehouse)
    landing.land([record("a", "old", **old)], [], None, now=NOW)
    before = dump(warehouse)

    done = landing.land([record("a", "new", **new)], [], None, now=NOW)

    assert (done.changed, done.stale) == ((1, 0) if wins else (0, 1))
    assert landed(warehouse)["a"]["payload"]["text"] == ("new" if wins else "old")
    if not wins:
        assert dump(warehouse) == before


def test_of_two_in_one_page_the_last_counts(warehouse: Warehouse) -> None:
    done = landing_for(warehouse).land([record("a", "one"), record("a", "two")], [], None, now=NOW)

    assert done.new == 1
    assert landed(warehouse)["a"]["payload"]["text"] == "two"


def test_changes_are_numbered_without_repeats(warehouse: Warehouse) -> None:
    landing = landing_for(warehouse)
    for number in range(3):
        landing.land([record("a", f"v{number}"), record(f"b{number}")], [], None, now=NOW)

    numbers = sorted(row["change_seq"] for row in landed(warehouse).values())
    assert len(set(numbers)) == 4
    assert rows_of(warehouse, change_counter)[0]["value"] == 6 == max(numbers)


def test_numbers_rise_in_the_order_of_commits(settings: Settings, warehouse: Warehouse) -> None:
    """A reader that has seen number n has seen all numbers below: however many write at once."""
    writers, pages = 4, 6
    done = False
    gaps: list[str] = []

    def write(writer: int) -> None:
        with Warehouse.open(settings, migrate=False) as own:
            landing = landing_for(own, stream=f"s{writer}")
            for page in range(pages):
                landing.land([record(f"{page}-{n}") for n in range(3)], [], None, now=NOW)

    def watch() -> None:
        query = sa.select(sa.func.count(), sa.func.max(source_records.c.change_seq))
        with Warehouse.open(settings, migrate=False) as own:
            while not done:
                with own.read() as connection:
                    count, highest = connection.execute(query).one()
                if count != (highest or 0):
                    gaps.append(f"{count} rows, highest {highest}")

    with ThreadPoolExecutor(writers + 1) as pool:
        watching = pool.submit(watch)
        try:
            list(pool.map(write, range(writers)))
        finally:
            done = True
        watching.result(30)

    assert gaps == []
    assert due(warehouse) == {TODAY: writers * pages * 3}


def test_the_cursor_never_moves_back(warehouse: Warehouse) -> None:
    landing = landing_for(warehouse)
    landing.land([], [], Cursor(NOW, "new"), now=NOW)

    landing.land([], [], Cursor(NOW - MINUTE, "old"), now=NOW + MINUTE)

    assert landing.cursor() == Cursor(NOW, "new")


def test_a_stream_may_have_a_second_cursor(warehouse: Warehouse) -> None:
    first, second = landing_for(warehouse), landing_for(warehouse, cursor_stream="archived")
    first.land([record("a")], [], Cursor(NOW, "a"), now=NOW)

    second.land([record("a", "two")], [], Cursor(NOW - DAY, "b"), now=NOW)

    assert (first.cursor(), second.cursor()) == (Cursor(NOW, "a"), Cursor(NOW - DAY, "b"))
    assert len(rows_of(warehouse, source_records)) == 1


def test_history_has_one_row_for_each_sync_that_moved_the_cursor(warehouse: Warehouse) -> None:
    landing = landing_for(warehouse)
    before = landing.cursor()
    assert landing.record_history(before, now=NOW) == Cursor()
    for moves in range(2):
        landing.land([], [], Cursor(NOW + moves * MINUTE, "x"), now=NOW)

    after = landing.record_history(before, now=NOW)
    landing.record_history(after, now=NOW)

    assert after == Cursor(NOW + MINUTE, "x")
    assert [(row["watermark"], row["run_id"]) for row in rows_of(warehouse, sync_cursor_history)] == [
        (NOW + MINUTE, "run-1")
    ]


def test_the_same_trouble_again_is_one_row_with_one_attempt_more(warehouse: Warehouse) -> None:
    landing = landing_for(warehouse)
    first = landing.land([], [problem("a", payload={"n": 1})], None, now=NOW)
    again = landing.land([], [problem("a", payload={"n": 1})], None, now=NOW + MINUTE)
    other = landing.land([], [problem("a", code="detail_failed", payload={"n": 2})], None, now=NOW + DAY)

    assert (first.quarantined, again.quarantined, other.quarantined) == (1, 0, 1)
    (row,) = rows_of(warehouse, quarantine)
    assert (row["attempts"], row["error_code"], row["payload"]) == (3, "detail_failed", {"n": 2})
    assert (row["first_seen_at"], row["last_seen_at"], row["resolved_at"]) == (NOW, NOW + DAY, None)
    assert row["field_paths"] == ["createdAt:missing"]


def test_a_record_that_lands_leaves_the_quarantine(warehouse: Warehouse) -> None:
    landing = landing_for(warehouse)
    landing.land([], [problem("a"), problem("b")], None, now=NOW)

    landing.land([record("a")], [], None, now=NOW + MINUTE)

    found = {row["source_id"]: row["resolved_at"] for row in rows_of(warehouse, quarantine)}
    assert found == {"a": NOW + MINUTE, "b": None}


def test_trouble_that_returns_begins_anew(warehouse: Warehouse) -> None:
    landing = landing_for(warehouse)
    landing.land([], [problem("a")], None, now=NOW)
    landing.land([record("a")], [], None, now=NOW)

    done = landing.land([], [problem("a")], None, now=NOW + DAY)

    (row,) = rows_of(warehouse, quarantine)
    assert done.quarantined == 1
    assert (row["attempts"], row["first_seen_at"], row["resolved_at"]) == (1, NOW + DAY, None)


def test_a_record_that_turns_out_unchanged_leaves_the_quarantine_too(warehouse: Warehouse) -> None:
    landing = landing_for(warehouse)
    landing.land([record("a")], [], None, now=NOW)
    landing.land([], [problem("a", code="detail_failed")], None, now=NOW)

    landing.land([record("a")], [], None, now=NOW + MINUTE)

    assert rows_of(warehouse, quarantine)[0]["resolved_at"] == NOW + MINUTE


def test_known_are_landed_and_misfitting_records_but_not_those_nobody_answered_for(warehouse: Warehouse) -> None:
    landing = landing_for(warehouse)
    landing.land(
        [record("a")],
        [problem("misfit", payload_hash="h"), problem("silent", code="detail_failed"), problem("x", payload_hash="i")],
        None,
        now=NOW,
    )
    landing.land([record("x")], [], None, now=NOW)
    landing_for(warehouse, stream="notes").land([record("elsewhere")], [], None, now=NOW)

    found = landing.known(["a", "misfit", "silent", "x", "elsewhere", "new"])

    assert found == {
        "a": Known("list of one"),
        "misfit": Known("h", quarantined=True),
        "x": Known("list of one"),
    }


def test_problems_are_looked_up_only_where_there_ever_were_any(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[int] = []
    ask = LandedRows.problems

    def problems(self: LandedRows, connection: sa.Connection, ids: Sequence[str]) -> Iterator[Any]:
        looked_up.append(len(ids))
        return ask(self, connection, ids)

    monkeypatch.setattr(LandedRows, "problems", problems)
    landing_for(warehouse, stream="notes").land([], [problem("elsewhere")], None, now=NOW)
    landing = landing_for(warehouse)
    landing.land([record("a")], [], None, now=NOW)

    before = landing.known(["a", "b"])
    untroubled = list(looked_up)
    landing.land([], [problem("b", payload_hash="h")], None, now=NOW)

    assert (before, untroubled) == ({"a": Known("list of one")}, [])
    assert landing.known(["a", "b"]) == landing_for(warehouse).known(["a", "b"]) == before | {"b": Known("h", True)}


def test_what_went_to_quarantine_while_a_stream_is_read_is_tried_again_and_stays_one_row(warehouse: Warehouse) -> None:
    reading = landing_for(warehouse)
    assert reading.known(["b"]) == {}
    landing_for(warehouse).land([], [problem("b", payload_hash="h")], None, now=NOW)

    again = reading.land([], [problem("b", payload_hash="h")], None, now=NOW)
    landed_at_last = reading.land([record("b")], [], None, now=NOW)

    assert (again.quarantined, landed_at_last.new) == (0, 1)
    (row,) = rows_of(warehouse, quarantine)
    assert row["resolved_at"] == NOW


def test_who_waits_longest_for_an_answer_is_asked_for_first(warehouse: Warehouse) -> None:
    landing = landing_for(warehouse)
    for minutes, source_id in enumerate(("first", "second", "third")):
        item = {"uuid": source_id}
        landing.land([], [problem(source_id, "detail_failed", item)], None, now=NOW + minutes * MINUTE)
    landing.land([], [problem("misfit")], None, now=NOW)
    landing.land([record("second")], [], None, now=NOW)

    assert landing.waiting_for_detail(10) == [("first", {"uuid": "first"}), ("third", {"uuid": "third"})]
    assert landing.waiting_for_detail(1) == [("first", {"uuid": "first"})]


def test_a_note_lives_on_the_day_of_its_audio(warehouse: Warehouse) -> None:
    landing_for(warehouse).land([record("audio", visited_at=NOW - DAY)], [], None, now=NOW)

    landing_for(warehouse, stream="notes").land([record("note", parent_id="audio")], [], None, now=NOW)

    assert landed(warehouse)["note"]["visit_day"] == YESTERDAY


def test_a_changed_audio_takes_its_notes_along(warehouse: Warehouse) -> None:
    audios, notes = landing_for(warehouse), landing_for(warehouse, stream="notes")
    notes.land([record("note", parent_id="audio"), record("other", parent_id="another")], [], None, now=NOW)
    audios.land([record("audio")], [], None, now=NOW)
    build_all(warehouse)

    audios.land([record("audio", "two", visited_at=NOW - DAY)], [], None, now=NOW)

    rows = landed(warehouse)
    assert rows["note"]["visit_day"] == rows["audio"]["visit_day"] == YESTERDAY
    assert rows["note"]["change_seq"] == rows["audio"]["change_seq"]
    assert rows["other"]["visit_day"] == TODAY
    assert set(due(warehouse)) == {YESTERDAY, TODAY}


def test_a_days_newest_change_counts_whoever_caused_it(warehouse: Warehouse) -> None:
    audios, notes = landing_for(warehouse), landing_for(warehouse, stream="notes")
    audios.land([record("a"), record("b")], [], None, now=NOW)
    notes.land([record("note", parent_id="a")], [], None, now=NOW)

    audios.land([record("a", "two"), record("b", "two")], [], None, now=NOW)

    assert due(warehouse) == {TODAY: 5}


def test_an_audio_is_mapped_again_when_its_note_arrives(warehouse: Warehouse) -> None:
    audios, notes = landing_for(warehouse), landing_for(warehouse, stream="notes")
    audios.land([record("audio"), record("alone")], [], None, now=NOW)
    with warehouse.begin() as connection:
        connection.execute(sa.update(source_records).values(mapped_seq=source_records.c.change_seq))
    build_all(warehouse)

    notes.land([record("note", parent_id="audio")], [], None, now=NOW)

    rows = landed(warehouse)
    assert rows["audio"]["mapped_seq"] is None
    assert rows["audio"]["change_seq"] == 1
    assert rows["alone"]["mapped_seq"] == 2
    assert due(warehouse) == {TODAY: 3}


def test_a_note_that_changes_leaves_its_audio_alone(warehouse: Warehouse) -> None:
    audios, notes = landing_for(warehouse), landing_for(warehouse, stream="notes")
    audios.land([record("audio")], [], None, now=NOW)
    notes.land([record("note", parent_id="audio")], [], None, now=NOW)
    with warehouse.begin() as connection:
        connection.execute(sa.update(source_records).values(mapped_seq=source_records.c.change_seq))

    notes.land([record("note", "two", parent_id="audio")], [], None, now=NOW)

    assert landed(warehouse)["audio"]["mapped_seq"] == 1


def test_accounts_share_nothing(settings: Settings, warehouse: Warehouse) -> None:
    landing_for(warehouse).land([record("a")], [problem("b")], Cursor(NOW, "a"), now=NOW)

    with Warehouse.open(settings.model_copy(update={"account": "other"}), migrate=False) as other:
        landing = landing_for(other)
        assert (landing.cursor(), landing.known(["a", "b"])) == (Cursor(), {})
        landing.land([record("a", "theirs")], [], None, now=NOW)

    assert landed(warehouse)["a"]["account"] in {"default", "other"}
    texts = {row["account"]: row["payload"]["text"] for row in rows_of(warehouse, source_records)}
    assert texts == {"default": "one", "other": "theirs"}


def test_a_record_that_cannot_be_stored_is_one_of_our_errors(warehouse: Warehouse) -> None:
    with pytest.raises(MedscribeError) as raised:
        landing_for(warehouse).land([record("a", list_hash=None)], [], None, now=NOW)

    assert raised.value.code == "warehouse_statement"


def test_the_manifest_decides_the_day_of_what_lands_later(warehouse: Warehouse) -> None:
    visit = VisitRow(provider="askara", correlation_key="audio", started_at=NOW - DAY)
    import_visits(warehouse, [visit], days=DAYS, now=NOW)

    landing_for(warehouse).land([record("audio")], [], None, now=NOW)
    landing_for(warehouse, stream="notes").land([record("note", parent_id="audio")], [], None, now=NOW)

    assert {row["visit_day"] for row in landed(warehouse).values()} == {YESTERDAY}


def test_a_manifest_imported_later_moves_what_has_landed(warehouse: Warehouse) -> None:
    landing_for(warehouse).land([record("audio"), record("other")], [], None, now=NOW)
    landing_for(warehouse, stream="notes").land([record("note", parent_id="audio")], [], None, now=NOW)
    build_all(warehouse)
    visit = VisitRow(provider="askara", correlation_key="audio", patient_id="p", started_at=NOW - DAY)

    first = import_visits(warehouse, [visit], days=DAYS, now=NOW)
    before = dump(warehouse)
    again = import_visits(warehouse, [visit], days=DAYS, now=NOW + DAY)

    assert (first.new, first.changed, first.unchanged, first.records) == (1, 0, 0, 2)
    assert (again.new, again.changed, again.unchanged, again.records) == (0, 0, 1, 0)
    assert dump(warehouse) == before
    days = {source_id: row["visit_day"] for source_id, row in landed(warehouse).items()}
    assert days == {"audio": YESTERDAY, "note": YESTERDAY, "other": TODAY}
    assert set(due(warehouse)) == {YESTERDAY, TODAY}


def test_a_manifest_is_imported_whole_or_not_at_all(warehouse: Warehouse) -> None:
    good = VisitRow(provider="askara", correlation_key="a", patient_id="p")
    bad = VisitRow(provider="askara", correlation_key=None, patient_id="p")  # type: ignore[arg-type]
    before = dump(warehouse)

    with pytest.raises(MedscribeError):
        import_visits(warehouse, [good, bad], days=DAYS, now=NOW)

    assert dump(warehouse) == before


def test_an_import_of_many_rows_touches_only_their_records(warehouse: Warehouse) -> None:
    landing_for(warehouse).land([record(f"a{n}") for n in range(3)], [], None, now=NOW)
    rows = [VisitRow(provider="askara", correlation_key=f"a{n}", patient_id="p") for n in range(1, 2000)]

    done = import_visits(warehouse, rows, days=DAYS, now=NOW)

    assert (done.new, done.records) == (1999, 2)
    assert landed(warehouse)["a0"]["change_seq"] == 1
