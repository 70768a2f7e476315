"""When is a visit day done? Only when everything that landed on it went all the way."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from medscribe_pipeline.fhir.build import build_day
from medscribe_pipeline.pipeline import due_days, fingerprint, finish_day
from medscribe_pipeline.providers.build import build_notes
from medscribe_pipeline.settings import EhrSettings, FhirSettings
from medscribe_pipeline.warehouse.days import DayRule
from medscribe_pipeline.warehouse.tables import deliveries
from tests.databases import NOW, TODAY, dump, landing_for, record

if TYPE_CHECKING:
    from collections.abc import Callable

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
    ],
)
def test_a_day_is_not_done_before_the_ehr_has_answered(house: House, state: str, done: bool) -> None:
    house.settings = house.settings.model_copy(update={"ehr": EhrSettings(base_url="https://ehr.example/fhir")})
    house.land(1)
    house.map()
    house.build()
    row = {
        "target": "ehr",
        "note_id": "n",
        "kind": "Composition",
        "version": "v",
        "account": "default",
        "visit_day": TODAY,
        "source_seq": 1,
        "state": state,
        "attempts": 0,
    }
    with house.warehouse.begin() as connection:
        connection.execute(sa.insert(deliveries).values(row))

    assert house.finish() is done
    assert house.due() == ([] if done else [TODAY])


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
