"""Several processes deliver one day at once, some of them die, and the server fails: the result is the same."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from medscribe_pipeline.warehouse.store import Warehouse
from medscribe_pipeline.warehouse.tables import deliveries
from tests.chaos import faults_for
from tests.deliver_at_once import start
from tests.delivering import WAYS, settle, target, the_note, write
from tests.dying import DIED
from tests.fhir_server import FhirServer, Wanted, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from medscribe_pipeline.settings import Settings

# For each process more than it claims at once, so that all of them have something to do.
NOTES_EACH = 9
FEWEST = 36
DEATHS = [("marked_sent", 1), ("response", 2), ("settled", 1)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FhirServer]:
    with FhirServer(tmp_path_factory.mktemp("fhir") / "ledger.sqlite") as running:
        yield running


@pytest.mark.parametrize(
    ("backend", "count", "name", "deaths"),
    [
        ("sqlite", 2, "transaction", DEATHS[:1]),
        ("sqlite", 2, "unconditional, search", []),
        ("postgresql", 2, "batch", []),
        ("postgresql", 8, "transaction", DEATHS),
        ("postgresql", 8, "single", []),
        ("postgresql", 8, "unconditional, search", DEATHS[1:]),
        ("postgresql", 8, "unconditional, no search", DEATHS[:2]),
    ],
)
def test_many_deliver_at_once(
    server: FhirServer,
    make_settings: Callable[..., Settings],
    request: pytest.FixtureRequest,
    backend: str,
    count: int,
    name: str,
    deaths: list[tuple[str, int]],
) -> None:
    url = {"warehouse_url": request.getfixturevalue("postgres_url")} if backend == "postgresql" else {}
    settings, way = make_settings(**url), WAYS[name]
    number_of_notes = max(FEWEST, NOTES_EACH * count)
    with Warehouse.open(settings) as warehouse:
        write(warehouse, settings, map(the_note, range(number_of_notes)))
    at = server.endpoint(replace(way.abilities, token=True), faults_for(way, count, most=30))

    codes = start(settings, at, name, count, deaths)
    at.mend()
    settle(settings, target(settings.home, at, way), wait=lambda _seconds: at.wait_until_done())
    at.wait_until_done()

    # One that begins when the others are done finds nothing to die of.
    assert set(codes[: len(deaths)]) <= {DIED, 0}
    assert set(codes[len(deaths) :]) == {0}
    waiting = in_doubt(settings)
    wanted = [Wanted(number) for number in range(number_of_notes) if str(the_note(number).note_id) not in waiting]
    judgement = judge(at.written(), wanted)
    assert judgement.fine, judgement
    assert at.told()["requests"] > number_of_notes
    assert way.can_tell <= (not waiting)


def in_doubt(settings: Settings) -> set[str]:
    """Notes that wait for a person."""
    with Warehouse.open(settings, migrate=False) as warehouse, warehouse.read() as connection:
        assert not set(connection.scalars(sa.select(deliveries.c.state))) - {"delivered", "unknown"}
        return set(connection.scalars(sa.select(deliveries.c.note_id).where(deliveries.c.state == "unknown")))
