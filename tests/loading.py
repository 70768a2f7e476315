"""A small load: sessions are pulled page by page, mapped to notes, built into documents. Done twice, it is done once.

As a program it is killed again and again, and lets others go on: see `start`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from medscribe_pipeline.fhir.build import build_day
from medscribe_pipeline.pipeline import finish_day
from medscribe_pipeline.providers.build import build_notes
from medscribe_pipeline.providers.pages import pull_pages
from medscribe_pipeline.providers.pull import Facts, Page, Window
from medscribe_pipeline.settings import Settings
from medscribe_pipeline.warehouse.store import Warehouse
from medscribe_pipeline.warehouse.tables import fhir_documents, notes, source_records, visit_days
from tests.databases import DAYS, NOW, dump, landing_for
from tests.dying import fork, join

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from medscribe_pipeline.providers.answers import Answer

__all__ = ["BEFORE", "CANARY", "COMMIT", "LOCK", "PAGES", "Death", "at", "is_whole", "load", "start", "state_of"]

ROOT = Path(__file__).parents[1]
PAGES, PAGE_SIZE = 5, 2
BEFORE, COMMIT = "before", "commit"
LOCK = "sync:default:audioscribe:sessions"
CANARY = "qxcanary"
"""In the title and the text of every session."""

_TIMES = ("fetched_at", "mapped_at", "built_at", "moved_at", "first_seen_at", "last_seen_at", "run_id")


class Sessions:
    """Ten sessions of a provider in memory, on two days.

    Args:
        before: Called with the number of a page before it is given out.
    """

    detailed = False

    def __init__(self, before: Callable[[int], None] = lambda _number: None) -> None:
        self._before = before

    def page(self, number: int) -> Page:
        self._before(number)
        first = number * PAGE_SIZE + 1
        return Page([self._session(n) for n in range(first, first + PAGE_SIZE)] if number < PAGES else [], NOW)

    @staticmethod
    def _session(number: int) -> dict[str, Any]:
        return {
            "id": number,
            "title": f"Visit of Testa Zz-{CANARY}",
            "note": f"Chief complaint: {CANARY} cough {number}\n\nPlan:\nRest",
            "originalTranscript": f"So, the cough {number}.",
            "createdAt": (NOW - timedelta(days=number % 2)).isoformat(),
        }

    @staticmethod
    def identify(item: Any) -> str | None:
        return str(item["id"])

    @staticmethod
    def facts(payload: Any) -> Facts:
        return Facts(updated_at=None, visited_at=NOW - timedelta(days=payload["id"] % 2))

    @staticmethod
    def detail(source_id: str) -> Answer:
        raise NotImplementedError(source_id)


def load(warehouse: Warehouse, settings: Settings, before: Callable[[int], None] = lambda _number: None) -> None:
    """Everything from the provider to the documents."""
    source = Sessions(before)
    with warehouse.locks.hold(LOCK, 10):
        pull_pages(
            source.page,
            source,
            landing_for(warehouse, "audioscribe", "sessions"),
            first_page=0,
            max_pages=PAGES + 1,
            threads=1,
            window=Window(),
            clock=lambda: NOW,
        )
    for day in days():
        build_notes(warehouse, settings, day, clock=lambda: NOW)
        build_day(warehouse, settings, day, clock=lambda: NOW)
        finish_day(warehouse, settings, day)


def days() -> list[date]:
    return [DAYS.day(NOW - timedelta(days=ago), now=NOW) for ago in (1, 0)]


def state_of(warehouse: Warehouse) -> dict[str, list[dict[str, Any]]]:
    """What is in the tables, but for when it was written."""
    return dump(warehouse, *_TIMES)


def is_whole(warehouse: Warehouse) -> bool:
    """Whether nothing is half-written: pages, notes with all their documents, days with what touched them."""
    with warehouse.read() as connection:
        landed = connection.scalar(sa.select(sa.func.count()).select_from(source_records)) or 0
        highest = connection.scalar(sa.select(sa.func.max(visit_days.c.changed_seq))) or 0
        mapped = connection.scalar(sa.select(sa.func.count()).where(source_records.c.outcome.is_not(None))) or 0
        written = connection.scalar(sa.select(sa.func.count()).select_from(notes)) or 0
        kinds = connection.execute(
            sa.select(sa.func.count()).select_from(fhir_documents).group_by(fhir_documents.c.note_id)
        ).scalars()
        return landed % PAGE_SIZE == 0 and landed == highest and mapped == written and len(set(kinds)) <= 1


class Death(NamedTuple):
    """Where a process is killed: before a statement that begins so, or before the commit of what it wrote."""

    statement: str
    occurrence: int
    moment: str


def start(settings: Settings, deaths: Sequence[Death]) -> list[int]:
    """Loads with one process after the other; returns their exit codes.

    Args:
        settings: Where the warehouse is.
        deaths: Where each of them is killed; one more is left in peace.
    """
    asked = {"home": str(settings.home), "warehouse": settings.database_url, "deaths": list(deaths)}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MEDSCRIBE_")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.loading"],
        cwd=ROOT,
        env=environment,
        input=json.dumps(asked),
        stdout=subprocess.PIPE,
        text=True,
        timeout=100,
        check=True,
    )
    codes: list[int] = json.loads(done.stdout)
    return codes


def main(asked: dict[str, Any]) -> list[int]:
    """Forks one process after the other."""
    settings = Settings(home=Path(asked["home"]), warehouse_url=asked["warehouse"])

    def work(death: list[Any] | None) -> None:
        with Warehouse.open(settings, migrate=False) as warehouse:
            if death is not None:
                at(warehouse.engine, Death(*death), lambda: os.kill(os.getpid(), signal.SIGKILL))
            load(warehouse, settings)

    return [join(fork(lambda death=death: work(death))) for death in (*asked["deaths"], None)]  # type: ignore[misc]


def at(engine: sa.Engine, death: Death, act: Callable[[], None]) -> None:
    """Does something once, at one moment of a load."""
    seen = 0

    def execute(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal seen
        # PostgreSQL takes many rows by COPY.
        if statement.replace("COPY ", "INSERT INTO ", 1).startswith(death.statement):
            seen += 1
            if (seen, death.moment) == (death.occurrence, BEFORE):
                act()

    def commit(_connection: object) -> None:
        nonlocal seen
        if (seen, death.moment) == (death.occurrence, COMMIT):
            seen += 1
            act()

    sa.event.listen(engine, "before_cursor_execute", execute)
    sa.event.listen(engine, "commit", commit)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.load(sys.stdin))))
