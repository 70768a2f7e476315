"""Numbers of changes: nobody is passed by while committing, so a reader that goes on from the last skips none."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from medscribe_pipeline.providers.inbox_store import Event, store_events
from medscribe_pipeline.visits import VisitRow
from medscribe_pipeline.warehouse.manifest import import_visits
from medscribe_pipeline.warehouse.store import Warehouse
from medscribe_pipeline.warehouse.tables import change_counter, inbox, source_records
from tests.databases import DAYS, NOW, landing_for, record, rows_of
from tests.loading import COMMIT, Death, at

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.settings import Settings

LANDED = Death("INSERT INTO source_records", 1, COMMIT)
WRITERS, PAGES = 3, 5


def land(warehouse: Warehouse) -> None:
    landing_for(warehouse, stream="late").land([record("one"), record("two")], [], None, now=NOW)


def land_more(warehouse: Warehouse) -> None:
    landing_for(warehouse, stream="quick").land([record("three")], [], None, now=NOW)


def take_in(warehouse: Warehouse) -> None:
    store_events(warehouse, [Event("audioscribe", "session", "1", {"id": 1}, verified=False)], now=NOW)


def import_one(warehouse: Warehouse) -> None:
    import_visits(warehouse, [VisitRow(provider="askara", correlation_key="a")], days=DAYS, now=NOW)


@pytest.mark.parametrize("other", [land_more, take_in, import_one])
def test_who_comes_second_waits_for_the_commit_of_the_first(
    settings: Settings, warehouse: Warehouse, other: Callable[[Warehouse], None]
) -> None:
    landing_for(warehouse).land([record("a")], [], None, now=NOW)
    written, go_on = threading.Event(), threading.Event()

    def before_commit() -> None:
        written.set()
        assert go_on.wait(10)

    with (
        Warehouse.open(settings, migrate=False) as first,
        Warehouse.open(settings, migrate=False) as second,
        ThreadPoolExecutor(2) as pool,
    ):
        at(first.engine, LANDED, before_commit)
        late = pool.submit(land, first)
        assert written.wait(10)
        quick = pool.submit(other, second)
        time.sleep(0.2)
        waited = not quick.done()
        seen = [row["change_seq"] for row in rows_of(warehouse, source_records)]
        go_on.set()
        late.result(10)
        quick.result(10)

    assert waited
    assert seen == [1]
    numbers = [row["change_seq"] for row in rows_of(warehouse, source_records) if row["stream"] == "late"]
    after = [row["change_seq"] for row in rows_of(warehouse, source_records) if row["source_id"] == "three"]
    after += [row["seq"] for row in rows_of(warehouse, inbox)]
    assert sorted(numbers) == [2, 3]
    assert after == ([] if other is import_one else [4])


def test_a_reader_that_goes_on_from_the_last_sees_everything(settings: Settings, warehouse: Warehouse) -> None:
    """Writers that dawdle at random before they commit, and a reader that only ever asks for what is newer."""
    seen: list[int] = []
    done = threading.Event()

    def write(writer: int) -> None:
        rng = random.Random(writer)  # noqa: S311 - how long to dawdle, nothing secret
        with Warehouse.open(settings, migrate=False) as own:
            sa.event.listen(own.engine, "commit", lambda _connection: time.sleep(rng.random() / 50))
            for page in range(PAGES):
                rows = [record(f"{page}-{number}") for number in range(2)]
                landing_for(own, stream=f"s{writer}").land(rows, [], None, now=NOW)

    def read() -> None:
        with Warehouse.open(settings, migrate=False) as own:
            ended = False
            while not ended:
                ended = done.is_set()
                newer = sa.select(source_records.c.change_seq).where(source_records.c.change_seq > max(seen, default=0))
                with own.read() as connection:
                    seen.extend(sorted(connection.scalars(newer)))

    with ThreadPoolExecutor(WRITERS + 1) as pool:
        reading = pool.submit(read)
        try:
            list(pool.map(write, range(WRITERS)))
        finally:
            done.set()
        reading.result(20)

    assert seen == list(range(1, WRITERS * PAGES * 2 + 1))
    assert rows_of(warehouse, change_counter)[0]["value"] == len(seen)
