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
from tests.fhir_server import Fault, Faults, FhirServer, Wanted, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from medscribe_pipeline.settings import Settings
    from tests.delivering import Way
    from tests.fhir_server import Endpoint

NOTES = 12
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


def run_story(server: FhirServer, settings: Settings, folder: Path, way: Way, seed: int) -> tuple[Story, Endpoint]:
    """Delivers each wave under faults until nothing is left, the last time without."""
    at = server.endpoint(replace(way.abilities, token=True), faults_for(way, seed))
    ehr = target(folder, at, way)
    story = Story(settings, seed)
    amendable = way.capabilities.get("amendment") != "hold"
    waves = ({"create": NOTES}, {"create": 2, "amend": 5, "withdraw": 2}, {"amend": 4, "withdraw": 1})
    for wave in waves:
        story.wave(**{name: count for name, count in wave.items() if amendable or name == "create"})
        settle(settings, ehr, wait=lambda _seconds: at.wait_until_done())
    assert sum(at.told()["happened"].values()) > 2
    at.mend()
    settle(settings, ehr, wait=lambda _seconds: at.wait_until_done())
    at.wait_until_done()
    return story, at


@pytest.mark.parametrize("name", ASKABLE)
def test_nothing_is_missing_twice_dangling_or_stale(
    server: FhirServer, make_settings: Callable[..., Settings], tmp_path: Path, name: str
) -> None:
    settings = make_settings()

    story, at = run_story(server, settings, tmp_path, WAYS[name], seed=1)

    judgement = judge(at.written(), story.wanted.values())
    assert judgement.fine, judgement
    assert states(settings)["unknown"] == states(settings)["rejected"] == set()


def test_what_nobody_can_ask_after_waits_and_is_never_sent_twice(
    server: FhirServer, make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    settings, way = make_settings(), WAYS["unconditional, no search"]

    story, at = run_story(server, settings, tmp_path, way, seed=3)

    waiting = states(settings)["unknown"]
    there = [each for note, each in story.wanted.items() if str(the_note(note).note_id) not in waiting]
    judgement = judge(at.written(), there)
    assert judgement.fine, judgement
    assert 0 < len(waiting) < len(story.wanted)
    assert states(settings)["rejected"] == set()


@pytest.mark.parametrize("name", ["transaction", "batch", "single"])
def test_a_condition_that_fails_for_no_reason_is_for_a_person_and_duplicates_nothing(
    server: FhirServer, make_settings: Callable[..., Settings], tmp_path: Path, name: str
) -> None:
    settings, way = make_settings(), WAYS[name]
    at = server.endpoint(replace(way.abilities, token=True), Faults(script=("", Fault.PRECONDITION)))
    story = Story(settings, seed=1)
    story.wave(create=6)

    settle(settings, target(tmp_path, at, way), wait=lambda _seconds: at.wait_until_done())

    refused = states(settings)["rejected"]
    wanted = [each for note, each in story.wanted.items() if str(the_note(note).note_id) not in refused]
    judgement = judge(at.written(), wanted)
    assert judgement.fine, judgement
    assert refused


def states(settings: Settings) -> dict[str, set[str]]:
    """The notes that stand in each state with any of their versions."""
    found: dict[str, set[str]] = {state: set() for state in ("planned", "sent", "unknown", "rejected", "delivered")}
    with closing(sqlite3.connect(settings.home / "warehouse.sqlite")) as connection:
        for state, note_id in connection.execute("SELECT state, note_id FROM deliveries"):
            found[state].add(note_id)
    return found
