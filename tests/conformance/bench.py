"""What both conformance classes work with: an account of one provider behind a gate, and its warehouse."""

from __future__ import annotations

import shutil
import traceback
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import combinations
from itertools import count as counter
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
import sqlalchemy as sa

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.providers.build import build_notes
from medscribe_pipeline.providers.catalogue import PROVIDERS, Provider
from medscribe_pipeline.providers.pull import PullReport, Window
from medscribe_pipeline.providers.sync import sync_stream
from medscribe_pipeline.providers.work_runner import WorkReport, run_work
from medscribe_pipeline.settings import JobSettings, ProviderSettings, Settings
from medscribe_pipeline.warehouse.days import DayRule
from medscribe_pipeline.warehouse.store import Warehouse
from medscribe_pipeline.warehouse.tables import note_sections, notes, quarantine, scribe_jobs, source_records, visits
from tests.databases import rows_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from medscribe_pipeline.providers.work import WorkProvider
    from tests.conformance.gate import Answer, Asked, Gate

__all__ = ["Bench", "OpenBench", "Origin", "check_credentials", "told"]

Row = dict[str, Any]

_ACCOUNTS = counter(1)


@dataclass(frozen=True)
class Origin:
    """The provider's side.

    Attributes:
        api: Its API: a function of a test, or `gate.forward_to` a sandbox.
        environment: Variables that give our side its credentials, and what it needs to have more than one page.
        held: Ids of what it holds, by stream.
        path: Between the root of the API and what the provider's file adds.
    """

    api: Callable[[Asked], Answer]
    environment: dict[str, str]
    held: dict[str, set[str]]
    path: str = ""

    @property
    def secrets(self) -> list[str]:
        """What of the environment must never be seen."""
        endings = ("TOKEN", "SECRET", "KEY")
        return [value for name, value in self.environment.items() if name.endswith(endings)]


class Bench:
    """Pulls, maps and looks, as the graph does. The account is the one the environment names."""

    def __init__(
        self, name: str, origin: Origin, gate: Gate, monkeypatch: pytest.MonkeyPatch, folder: Path, empty: Path
    ) -> None:
        self.name, self.origin, self.gate = name, origin, gate
        self._monkeypatch, self._folder, self._empty = monkeypatch, folder, empty
        self._open: list[Warehouse] = []
        self._began_at, self._later_s = datetime(2026, 4, 1, 8, tzinfo=UTC), 0.0
        patience = {"BACKOFF_S": "0", "TIMEOUT_S": "5", "MAX_ATTEMPTS": "3", "BASE_URL": f"{gate.url}{origin.path}"}
        for variable, value in origin.environment.items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setenv("MEDSCRIBE_HOME", str(folder / "home"))
        # Of its own, because request ids are derived from it and a provider remembers those it has seen.
        monkeypatch.setenv("MEDSCRIBE_ACCOUNT", f"account-{next(_ACCOUNTS)}")
        self.configure(**patience)
        self.start_again()

    @property
    def provider(self) -> Provider:
        """Its entry in the catalogue."""
        return PROVIDERS[self.name]

    @property
    def own(self) -> ProviderSettings:
        """Its settings."""
        own = getattr(self.settings, self.name)
        assert isinstance(own, ProviderSettings)
        return own

    def configure(self, **variables: str | None) -> None:
        """Sets or removes variables of the provider, named without their prefix, and reads all settings again."""
        self.configure_general(**{f"{self.name.upper()}_{name}": value for name, value in variables.items()})

    def configure_general(self, **variables: str | None) -> None:
        """The same for any variable, named without `MEDSCRIBE_`."""
        for name, value in variables.items():
            if value is None:
                self._monkeypatch.delenv(f"MEDSCRIBE_{name}", raising=False)
            else:
                self._monkeypatch.setenv(f"MEDSCRIBE_{name}", value)
        self.settings = Settings.load()

    def start_again(self) -> None:
        """From now on in an empty warehouse."""
        path = self._folder / f"warehouse-{len(self._open)}.sqlite"
        shutil.copy(self._empty, path)
        self.configure_general(WAREHOUSE_URL=f"sqlite:///{path}")
        self.warehouse = Warehouse.open(self.settings, migrate=False)
        self._open.append(self.warehouse)

    def close(self) -> None:
        """Closes all warehouses."""
        for warehouse in self._open:
            warehouse.close()

    def pull(
        self, *, full: bool = False, on_progress: Callable[[PullReport], None] = lambda _: None
    ) -> dict[str, PullReport]:
        """All streams, in their order."""
        return {
            stream.name: sync_stream(
                self.warehouse,
                self.settings,
                self.name,
                stream.name,
                Window(full=full),
                clock=lambda: datetime.now(UTC),
                on_progress=on_progress,
            ).pulled
            for stream in self.provider.streams
        }

    def visit(self, *keys: str, **columns: Any) -> None:
        """Enters a visit for each key; the key ends the name of its recording, too."""
        with self.warehouse.begin() as connection:
            for key in keys:
                row = {"audio_url": f"https://audio.example.invalid/visit-{key}.wav", **columns}
                row |= {"account": self.settings.account, "provider": self.name, "correlation_key": key}
                self.warehouse.upsert(connection, visits, [{**row, "imported_at": self.now()}])

    @property
    def work(self) -> WorkProvider:
        """What works on order."""
        assert self.provider.work is not None
        return self.provider.work(self.settings)

    def order(self, *, wait_s: float = 600, checkpoint: Callable[[str], None] = lambda _: None) -> WorkReport:
        """One run over the jobs. Waiting takes no time: the clock goes forward instead."""
        own = self.own
        assert isinstance(own, JobSettings)
        with (
            self.provider.open_client(self.settings, self.warehouse) as client,
            self.warehouse.worker() as worker,
        ):
            return run_work(
                self.warehouse,
                self.work,
                client,
                own,
                days=DayRule.of(self.settings),
                clock=self.now,
                sleep=self.later,
                worker=worker,
                run_id=None,
                wait_s=wait_s,
                checkpoint=checkpoint,
            )

    def now(self) -> datetime:
        """The time of the job ledger."""
        return self._began_at + timedelta(seconds=self._later_s)

    def later(self, seconds: float) -> None:
        """Lets time pass."""
        self._later_s += seconds

    def jobs(self) -> dict[str, Row]:
        """All jobs by key."""
        return {row["job_key"]: row for row in rows_of(self.warehouse, scribe_jobs)}

    def states(self) -> set[str]:
        """The states there are jobs in."""
        return {row["state"] for row in self.jobs().values()}

    def submissions(self) -> Counter[str]:
        """How often each request left, by its id."""
        ids = [row["client_request_id"] for row in self.jobs().values()]
        posts = [asked for asked in self.gate.seen if asked.method == "POST"]
        return Counter(own for asked in posts for own in ids if own.encode() in asked.body)

    def map(self) -> list[Row]:
        """Maps all days; returns the notes."""
        for day in sorted({row["visit_day"] for row in self.records()}):
            build_notes(self.warehouse, self.settings, day, clock=lambda: datetime.now(UTC))
        return rows_of(self.warehouse, notes)

    def records(self, stream: str | None = None) -> list[Row]:
        rows = rows_of(self.warehouse, source_records)
        return [row for row in rows if stream is None or row["stream"] == stream]

    def record(self, stream: str, source_id: str) -> Row:
        (found,) = [row for row in self.records(stream) if row["source_id"] == source_id]
        return found

    def texts(self) -> str:
        """The text of all notes."""
        return "\n".join(row["text"] for row in rows_of(self.warehouse, note_sections))

    def note(self, source_id: str) -> Row:
        """The note of a record, with its text."""
        (found,) = [row for row in rows_of(self.warehouse, notes) if row["source_id"] == source_id]
        query = sa.select(note_sections.c.text).where(note_sections.c.note_id == found["note_id"])
        with self.warehouse.read() as connection:
            return {**found, "text": "\n".join(connection.scalars(query.order_by(note_sections.c.ordinal)))}

    def quarantined(self) -> list[Row]:
        """What is in quarantine now."""
        return [row for row in rows_of(self.warehouse, quarantine) if row["resolved_at"] is None]

    def state(self) -> list[tuple[Any, ...]]:
        """What landed, without what tells when: two ways to the same end must agree in it."""
        names = ("stream", "source_id", "content_hash", "list_hash", "parent_id", "source_updated_at", "visit_day")
        return [tuple(row[name] for name in names) for row in self.records()]


OpenBench: TypeAlias = "Callable[[str, Origin, str], AbstractContextManager[Bench]]"
"""Provider, its side and its id field to an account; a fixture."""


def told(error: BaseException) -> str:
    """All that anybody could read in an exception: text, arguments, attributes, and the same of what led to it."""
    parts = traceback.format_exception(error)
    seen: BaseException | None = error
    while seen is not None:
        parts += [repr(seen), repr(vars(seen))]
        seen = seen.__cause__ or seen.__context__
    return "\n".join(parts)


def check_credentials(bench: Bench, credentials: tuple[tuple[str, ...], ...]) -> None:
    """Nothing: absent. One whole set: present. Half a set: an error that names what is missing, and no value."""
    every = {name for names in credentials for name in names}
    for names in credentials:
        for count in range(len(names) + 1):
            for given in combinations(names, count):
                variables: dict[str, str | None] = dict.fromkeys(every)
                values = dict.fromkeys(given, "Qx-made-up-value")
                if 0 < count < len(names):
                    with pytest.raises(ConfigError) as half:
                        bench.configure(**{**variables, **values})
                    missing = [f"MEDSCRIBE_{bench.name.upper()}_{name}" for name in names if name not in given]
                    assert [name for name in missing if name not in str(half.value)] == []
                    assert "Qx-made-up-value" not in told(half.value)
                else:
                    bench.configure(**{**variables, **values})
                    assert (bench.name in bench.settings.providers) is bool(given)
