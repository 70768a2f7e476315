"""Whatever the server does to us: nothing missing, nothing twice, nothing dangling, nothing old over anything new.

Notes come, are amended and withdrawn in waves while about every third request fails in one of many ways. Judged is by
the server's own ledger.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.warehouse.store import Warehouse
from tests.chaos import faults_for
from tests.delivering import WAYS, settle, target, the_note, write
from tests.fhir_server import FhirServer, Wanted, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from medscribe_pipeline.settings import EhrSettings, Settings
    from tests.delivering import Way
    from tests.fhir_server import Endpoint

NOTES = 14
ASKABLE = [name for name, way in WAYS.items() if way.can_tell]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FhirServer]:
    with FhirServer(tmp_path_factory.mktemp("fhir") / "ledger.sqlite") as running:
        yield running


class Story:
    """Notes that change while they are delivered, and what has to be on the server in the end."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self.wanted: dict[int, Wanted] = {}
        self._settings = settings
        self._random = Random(seed)  # noqa: S311 - the same story for the same seed
        self._waves = 0
        Warehouse.open(settings).close()

    def wave(self, *, create: int = 0, amend: int = 0, withdraw: int = 0) -> None:
        """Some notes are new, some change, some are withdrawn."""
        self._waves += 1
        fresh = [Wanted(number) for number in range(len(self.wanted), len(self.wanted) + create)]
        standing = [each for each in self.wanted.values() if not each.withdrawn]
        changed = self._random.sample(standing, amend + withdraw)
        fresh += [replace(each, version=each.version + 1) for each in changed[:amend]]
        fresh += [replace(each, version=each.version + 1, withdrawn=True) for each in changed[amend:]]
        self.wanted |= {each.note: each for each in fresh}
        notes = [the_note(each.note, each.version, withdrawn=each.withdrawn) for each in fresh]
        with Warehouse.open(self._settings, migrate=False) as warehouse:
            write(warehouse, self._settings, notes, seq=self._waves)


def run_story(
    server: FhirServer, settings: Settings, folder: Path, way: Way, seed: int
) -> tuple[Story, Endpoint, EhrSettings]:
    at = server.endpoint(replace(way.abilities, token=True), faults_for(way, seed))
    ehr = target(folder, at, way)
    story = Story(settings, seed)
    amendable = way.capabilities.get("amendment") != "hold"
    waves = ({"create": NOTES}, {"create": 2, "amend": 5, "withdraw": 2}, {"amend": 5, "withdraw": 1}, {"create": 2})
    for wave in waves:
        story.wave(**{name: count for name, count in wave.items() if amendable or name == "create"})
        settle(settings, ehr, wait=lambda _seconds: at.wait_until_done())
    at.mend()
    settle(settings, ehr, wait=lambda _seconds: at.wait_until_done())
    at.wait_until_done()
    return story, at, ehr


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", ASKABLE)
def test_nothing_is_missing_twice_dangling_or_stale(
    server: FhirServer, make_settings: Callable[..., Settings], tmp_path: Path, name: str, seed: int
) -> None:
    settings = make_settings()

    story, at, _ = run_story(server, settings, tmp_path, WAYS[name], seed)

    assert judge(at.written(), story.wanted.values()).fine, judge(at.written(), story.wanted.values())
    assert states(settings)["unknown"] == states(settings)["rejected"] == 0


def states(settings: Settings) -> dict[str, int]:
    """How many notes stand in each state with any of their versions."""
    with closing(sqlite3.connect(settings.home / "warehouse.sqlite")) as connection:
        found = dict(connection.execute("SELECT state, count(DISTINCT note_id) FROM deliveries GROUP BY state"))
    return {state: found.get(state, 0) for state in ("planned", "sent", "unknown", "rejected", "delivered")}
