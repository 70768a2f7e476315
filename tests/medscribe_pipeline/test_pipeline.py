"""When is a visit day done? Only when everything that landed on it went all the way."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from medscribe_pipeline.ehr.waiting import make_due
from medscribe_pipeline.fhir.build import build_day, count_due, mapping_version
from medscribe_pipeline.fhir.coverage import read_coverage
from medscribe_pipeline.fhir.faults import find_faults
from medscribe_pipeline.fhir.options import BuildOptions
from medscribe_pipeline.notes import content_hash
from medscribe_pipeline.pipeline import due_days, fingerprint, finish_day, newest_change, wake_held_notes
from medscribe_pipeline.providers.build import build_notes, mapping_fingerprint
from medscribe_pipeline.settings import EhrSettings, FhirSettings
from medscribe_pipeline.warehouse.days import DayRule
from medscribe_pipeline.warehouse.reports import day_balances, duplicates, orphans
from medscribe_pipeline.warehouse.tables import (
    deliveries,
    ehr_references,
    fhir_documents,
    note_sections,
    notes,
    source_records,
    transcripts,
)
from tests.databases import NOW, TODAY, dump, landing_for, record, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

DAY = timedelta(days=1)


@dataclass
class House:
    """A warehouse with the settings of its account."""

    warehouse: Warehouse
    settings: Settings
    landings: int = 0

    def land(self, *numbers: int, at: datetime = NOW) -> None:
        self.landings += 1
        records = []
        for number in numbers:
            payload = {"id": number, "note": f"Text {self.landings}", "createdAt": at.isoformat()}
            records.append(record(str(number), f"{self.landings}", payload=payload, visited_at=at))
        landing_for(self.warehouse, "audioscribe", "sessions").land(records, [], None, now=NOW)

    def map(self, day: date = TODAY) -> None:
        build_notes(self.warehouse, self.settings, day, clock=lambda: NOW)

    def build(self, day: date = TODAY) -> None:
        build_day(self.warehouse, self.settings, day, clock=lambda: NOW)

    def finish(self, day: date = TODAY) -> bool:
        return finish_day(self.warehouse, self.settings, day)

    def due(self) -> list[date]:
        return [day for day, _ in due_days(self.warehouse, self.settings)]


@pytest.fixture
def house(warehouse: Warehouse, settings: Settings) -> House:
    return House(warehouse, settings)


def test_a_day_is_due_until_everything_on_it_is_built(house: House) -> None:
    house.land(1, 2)
    assert (house.due(), house.finish()) == ([TODAY], False)

    house.map()
    assert (house.due(), house.finish()) == ([TODAY], False)

    house.build()
    assert (house.due(), house.finish(), house.due()) == ([TODAY], True, [])


def test_finishing_again_changes_nothing(house: House) -> None:
    house.land(1)
    house.map()
    house.build()
    house.finish()
    before = dump(house.warehouse)

    assert house.finish()
    assert dump(house.warehouse) == before


def test_a_day_nothing_landed_on_is_done(house: House) -> None:
    assert house.finish()
    assert house.due() == []


def test_what_lands_after_the_build_keeps_the_day_due(house: House) -> None:
    house.land(1)
    house.map()
    house.build()
    house.land(2)

    assert not house.finish()
    assert house.due() == [TODAY]


def test_a_change_makes_a_finished_day_due_again(house: House) -> None:
    for _ in range(2):
        house.land(1)
        assert house.due() == [TODAY]
        house.map()
        house.build()
        assert house.finish()


@contextmanager
def plans_of(warehouse: Warehouse) -> Iterator[list[str]]:
    """What SQLite tells of how it finds the rows of each statement that asks for some."""
    plans: list[str] = []

    def look(_connection: object, cursor: Any, statement: str, parameters: Any, _context: object, many: bool) -> None:
        if not many and statement.startswith(("SELECT", "UPDATE", "DELETE")):
            found = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(detail for *_, detail in found)

    sa.event.listen(warehouse.engine, "before_cursor_execute", look)
    try:
        yield plans
    finally:
        sa.event.remove(warehouse.engine, "before_cursor_execute", look)


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_what_a_day_takes_does_not_depend_on_how_much_there_is_of_other_days(house: House) -> None:
    house.land(1, 2)
    with plans_of(house.warehouse) as plans:
        house.map()
        house.build()
        assert house.finish()
        check_a_day(house)

    growing = {table.name for table in GROWING}
    found = [
        (match[1], match[2]) for plan in plans if (match := re.match(r"(?:SCAN|SEARCH) ([a-z_]+?)(?:_\d)?\b(.*)", plan))
    ]
    vague = (" (account=?)", " (account=? AND target=?)")
    assert {table for table, _ in found} >= growing - {transcripts.name}
    assert [
        (table, by) for table, by in found if table in growing and (not by or ">" in by or by.endswith(vague))
    ] == []


GROWING = (source_records, notes, note_sections, transcripts, fhir_documents, deliveries)
DOCUMENT = tuple(
    fhir_documents.c[name] for name in ("note_id", "kind", "version", "account", "visit_day", "source_seq")
)


def check_a_day(house: House) -> None:
    """What the asset checks read in a run of one day."""
    read_coverage(house.warehouse, BuildOptions.of(house.settings.fhir).mapping, TODAY)
    assert find_faults(house.warehouse, [TODAY]) == {}
    assert not any(duplicates(house.warehouse, ["ehr"], [TODAY]).values())
    assert not any(orphans(house.warehouse, [TODAY]).values())
    assert all(each.balanced for each in day_balances(house.warehouse, [TODAY]))


@pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
def test_checks_of_a_day_do_not_read_the_other_days(house: House) -> None:
    for day, numbers in ((TODAY - DAY, range(400)), (TODAY, range(400, 402))):
        house.land(*numbers, at=NOW - (TODAY - day))
        house.map(day)
        house.build(day)
    filed = sa.select(sa.literal("ehr"), *DOCUMENT, sa.literal("delivered"), fhir_documents.c.note_id, 1)
    columns = ("target", *(column.name for column in DOCUMENT), "state", "server_id", "attempts")
    with house.warehouse.begin() as connection:
        connection.execute(
            sa.insert(deliveries).from_select(columns, filed.where(fhir_documents.c.kind == "Composition"))
        )
        connection.exec_driver_sql(f"ANALYZE {', '.join(table.name for table in GROWING)}")
    plans: list[str] = []

    def look(_connection: object, cursor: Any, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith("SELECT") and "FROM" in statement:
            # Of so few rows it would read all, whatever there is to find them by.
            cursor.connection.execute("SET LOCAL enable_seqscan = off")
            cursor.connection.execute("SET LOCAL enable_hashjoin = off")
            plans.append(str(cursor.connection.execute(f"EXPLAIN {statement}", parameters).fetchall()))

    sa.event.listen(house.warehouse.engine, "before_cursor_execute", look)
    check_a_day(house)
    sa.event.remove(house.warehouse.engine, "before_cursor_execute", look)

    assert "ix_deliveries_server_id" in str(plans)
    assert len(plans) > len(GROWING)
    assert [plan for plan in plans if any(f"Seq Scan on {table.name}" in plan for table in GROWING)] == []
    assert [plan for plan in plans if re.search(r"Index Cond: \(\(account\)::text = '\w+'::text\)", plan)] == []


@pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
def test_documents_of_a_day_nobody_counted_yet_are_found_by_their_notes(house: House) -> None:
    yesterday = TODAY - DAY
    house.land(*range(400), at=NOW - DAY)
    house.map(yesterday)
    house.build(yesterday)
    asked: list[tuple[str, Any]] = []
    with house.warehouse.engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE notes, fhir_documents")
        sa.event.listen(connection, "before_cursor_execute", lambda *args: asked.append(args[2:4]))
        assert count_due(connection, house.warehouse.account, TODAY, mapping_version(house.settings)) == 0
        ((statement, parameters),) = asked
        plan = str(connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).all())

    # By their day they would be all documents of the day, for each of its notes.
    assert "ix_fhir_documents_day" not in plan
    assert "pk_fhir_documents" in plan


def test_days_come_oldest_first_and_no_more_than_asked_for(house: House) -> None:
    for days in (0, 2, 1):
        house.land(days, at=NOW - days * DAY)

    assert house.due() == [TODAY - 2 * DAY, TODAY - DAY, TODAY]
    found = due_days(house.warehouse, house.settings, limit=2)
    assert found == [(TODAY - 2 * DAY, 2), (TODAY - DAY, 3)]


@pytest.mark.parametrize(
    "changes",
    [
        {"timezone": "Europe/Paris"},
        {"fhir": FhirSettings(base_uri="https://hospital.example/fhir")},
        {"ehr": EhrSettings(base_url="https://ehr.example/fhir")},
    ],
)
def test_another_mapping_or_target_makes_every_day_due(house: House, changes: dict[str, Any]) -> None:
    house.land(1)
    house.map()
    house.build()
    house.finish()

    house.settings = house.settings.model_copy(update=changes)

    assert house.due() == [TODAY]


def test_the_target_counts_by_its_name_not_its_url(settings: Settings) -> None:
    def with_ehr(**changes: Any) -> str:
        return fingerprint(settings.model_copy(update={"ehr": EhrSettings(**changes)}))

    one = with_ehr(base_url="https://one.example/fhir")
    moved = with_ehr(base_url="https://two.example/fhir")
    other = with_ehr(base_url="https://one.example/fhir", target="another")

    assert one == moved
    assert len({one, other, fingerprint(settings)}) == 3


def test_a_plain_target_counts_by_its_name_alone(settings: Settings) -> None:
    """So that nothing is built again for a release that only knows more kinds of targets."""
    plain = settings.model_copy(update={"ehr": EhrSettings(base_url="https://ehr.example/fhir", connections=2)})

    parts = [mapping_fingerprint(plain), mapping_version(plain), "ehr"]
    assert fingerprint(plain) == content_hash(parts)[:16]


def test_what_decides_about_notes_makes_every_day_due_and_how_much_is_sent_does_not(
    settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "capabilities.toml"

    def with_ehr(*more: EhrSettings, **changes: Any) -> str:
        ehr = EhrSettings(base_url="https://ehr.example/fhir", **changes)
        return fingerprint(settings.model_copy(update={"ehr": ehr, "more_targets": more}))

    def written(text: str) -> str:
        file.write_text(text)
        return with_ehr(capabilities=file)

    store = EhrSettings(base_url="https://store.example/fhir", target="store")
    other = EhrSettings(base_url="https://store.example/fhir", target="archive")
    decisive = [
        with_ehr(),
        with_ehr(capabilities=file),
        written("search = false"),
        written("search = true"),
        with_ehr(kind="epic"),
        with_ehr(kind="hapi"),
        with_ehr(hold_all=True),
        with_ehr(encounter_by_time=True),
        with_ehr(store),
        with_ehr(store, other),
    ]
    assert len(set(decisive)) == len(decisive)
    assert with_ehr(documents_per_run=9, bytes_per_run=9, read_back_share=1, token="t") == with_ehr()
    assert with_ehr(other, store) == with_ehr(store, other)


def put(house: House, state: str, **facts: Any) -> None:
    """A row of the ledger."""
    row: dict[str, Any] = {"target": "ehr", "note_id": "n", "kind": "Composition", "version": "v", "account": "default"}
    row |= {"visit_day": TODAY, "source_seq": 1, "state": state, "attempts": 0, **facts}
    with house.warehouse.begin() as connection:
        connection.execute(sa.insert(deliveries).values(row))


def with_targets(house: House, *names: str) -> House:
    """The house with a built day, delivering to targets of these names."""
    made = [EhrSettings(base_url="https://ehr.example/fhir", target=name) for name in names]
    house.settings = house.settings.model_copy(update={"ehr": made[0], "more_targets": tuple(made[1:])})
    house.land(1)
    house.map()
    house.build()
    return house


@pytest.mark.parametrize(
    ("state", "done"),
    [
        ("planned", False),
        ("claimed", False),
        ("sent", False),
        ("unknown", False),
        ("delivered", True),
        ("rejected", True),
        ("held", True),
        ("discarded", True),
    ],
)
def test_a_day_is_not_done_before_the_ehr_has_answered(house: House, state: str, done: bool) -> None:
    with_targets(house, "ehr")
    put(house, state)

    assert house.finish() is done
    assert house.due() == ([] if done else [TODAY])


@pytest.mark.parametrize("reason", ["lookup_failed", "timeout", None])
def test_what_another_run_can_find_out_keeps_the_day_due(house: House, reason: str | None) -> None:
    with_targets(house, "ehr")
    put(house, "unknown", reason=reason)

    assert not house.finish()


def test_what_only_a_person_can_find_out_lets_the_day_rest_with_what_waits_behind_it(house: House) -> None:
    with_targets(house, "ehr")
    put(house, "unknown", reason="cannot_be_asked")
    put(house, "planned", version="v2")

    assert house.finish()

    put(house, "planned", note_id="another")
    house.settings = house.settings.model_copy(update={"timezone": "Europe/Paris"})
    house.map()
    house.build()
    assert not house.finish()


def test_the_same_note_in_doubt_elsewhere_is_no_excuse(house: House) -> None:
    with_targets(house, "ehr", "store")
    put(house, "unknown", reason="cannot_be_asked")
    put(house, "planned", target="store")

    assert not finish_day(house.warehouse, house.settings, TODAY, target="ehr")
    assert not finish_day(house.warehouse, house.settings, TODAY, target="store")


def test_with_several_targets_a_day_is_done_when_each_has_gone_through_it(house: House) -> None:
    with_targets(house, "ehr", "store")

    def finish(target: str) -> bool:
        return finish_day(house.warehouse, house.settings, TODAY, target=target)

    assert (finish("ehr"), finish("ehr"), house.due()) == (False, False, [TODAY])
    assert (finish("store"), house.due()) == (True, [])

    house.land(1)
    house.map()
    house.build()
    assert (finish("store"), house.due()) == (False, [TODAY])
    assert (finish("ehr"), house.due()) == (True, [])


def test_a_target_that_is_new_has_to_go_through_every_day_and_one_that_is_gone_has_not(house: House) -> None:
    with_targets(house, "ehr")
    assert house.finish()
    both = (EhrSettings(base_url="https://store.example/fhir", target="store"),)

    house.settings = house.settings.model_copy(update={"more_targets": both})
    assert house.due() == [TODAY]
    assert not finish_day(house.warehouse, house.settings, TODAY, target="store")

    house.settings = house.settings.model_copy(update={"more_targets": ()})
    assert house.due() == []


def test_what_changes_while_a_target_goes_through_a_day_keeps_it_due(house: House) -> None:
    with_targets(house, "ehr")
    seen = newest_change(house.warehouse, TODAY)
    with house.warehouse.begin() as connection:
        make_due(house.warehouse, connection, [TODAY])

    assert not finish_day(house.warehouse, house.settings, TODAY, target="ehr", seen=seen)
    assert house.due() == [TODAY]
    assert finish_day(house.warehouse, house.settings, TODAY, target="ehr", seen=newest_change(house.warehouse, TODAY))


def test_a_note_held_for_its_patient_is_woken_on_the_target_where_it_waits(house: House) -> None:
    with_targets(house, "ehr", "store")
    note_id = str(rows_of(house.warehouse, notes)[0]["note_id"])
    with house.warehouse.begin() as connection:
        connection.execute(sa.update(notes).values(patient_system="urn:clinic", patient_id="p1"))
        connection.execute(
            sa.insert(ehr_references).values(
                account="default",
                target="store",
                kind="Patient",
                system="urn:clinic",
                value="p1",
                state="missing",
                origin="search",
                looked_at=NOW,
            )
        )
    put(house, "delivered", note_id=note_id)
    put(house, "held", note_id=note_id, target="store", reason="patient_missing")
    for target in ("ehr", "store"):
        finish_day(house.warehouse, house.settings, TODAY, target=target)

    due = []
    for minutes in (1, 20):
        wake_held_notes(house.warehouse, house.settings, now=NOW + timedelta(minutes=minutes))
        due.append(house.due())

    assert due == [[], [TODAY]]


@pytest.mark.parametrize(
    ("written", "day"),
    [
        ("2026-03-01T22:59:59+00:00", "2026-03-01"),
        ("2026-03-01T23:00:00+00:00", "2026-03-02"),
        ("2026-07-01T21:59:59+00:00", "2026-07-01"),
        ("2026-07-01T22:00:00+00:00", "2026-07-02"),
        ("1999-12-31T00:00:00+00:00", "2015-01-01"),
        ("2026-07-20T00:00:00+00:00", "2026-07-10"),
    ],
)
def test_a_visit_day_is_a_local_day_between_the_first_and_today(
    make_settings: Callable[..., Settings], written: str, day: str
) -> None:
    rule = DayRule.of(make_settings(timezone="Europe/Paris"))

    now = datetime.fromisoformat("2026-07-09T23:00:00+00:00")  # The 10th in Paris.
    assert rule.day(datetime.fromisoformat(written), now=now) == date.fromisoformat(day)


def test_a_first_day_in_the_future_takes_everything(make_settings: Callable[..., Settings]) -> None:
    rule = DayRule.of(make_settings(first_day=TODAY + DAY))

    assert rule.day(NOW, now=NOW) == TODAY + DAY
