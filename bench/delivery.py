"""How near delivery comes to what the same requests take when nobody keeps a ledger.

    python -m bench.delivery [--notes 10000] [--delay-ms 50] [--connections 16] [--rounds 3] [--strategy transaction]

In each round two take turns against a server in a process of its own that answers every write after so many
milliseconds: delivery of a whole day (planning, claims, requests, settling, every step committed to SQLite), and a bare
loop of threads that posts the very same bodies with httpx over as many connections and looks at nothing but the status.
"""

from __future__ import annotations

import argparse
import gc
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import httpx
import orjson

from bench.note_mapping import NOTE
from medscribe_pipeline.cli import GARBAGE_AFTER
from medscribe_pipeline.ehr.auth import open_http
from medscribe_pipeline.ehr.client import FhirClient
from medscribe_pipeline.ehr.delivery import deliver_day
from medscribe_pipeline.fhir.build import build_day
from medscribe_pipeline.notes import Identifier, Visit, content_hash, stable_id
from medscribe_pipeline.settings import EhrSettings, Settings
from medscribe_pipeline.warehouse.notes import MappedNote, write_notes
from medscribe_pipeline.warehouse.store import Warehouse, in_chunks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from medscribe_pipeline.ehr.client import EntryOutcome
    from medscribe_pipeline.notes import ScribeNote

__all__ = ["Round", "measure"]

ROOT = Path(__file__).parents[1]
DAY = date(2025, 3, 4)
NOTES_TO_A_PATIENT = 2

Post = tuple[str, bytes, dict[str, str]]
"""A request that writes: path below the base URL, body, headers of its own."""


class Round:
    """What one round took, in seconds. Use `ratio` to compare: 1 is as fast as the bare loop."""

    def __init__(self, delivery_s: float, bare_s: float) -> None:
        self.delivery_s = delivery_s
        self.bare_s = bare_s

    @property
    def ratio(self) -> float:
        """Notes a second of delivery, in those of the bare loop."""
        return self.bare_s / self.delivery_s


class _Recorder(FhirClient):
    """Keeps what is posted, as it is posted."""

    def __init__(self, http: Any) -> None:
        super().__init__(http)
        self.posts: list[Post] = []

    def bundle(self, bundle: dict[str, Any] | bytes) -> list[EntryOutcome]:
        """As ever."""
        self.posts.append(("", _encoded(bundle), {}))
        return super().bundle(bundle)

    def create(
        self,
        kind: str,
        resource: dict[str, Any] | bytes,
        *,
        condition: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> EntryOutcome:
        """As ever."""
        self.posts.append((f"/{kind}", _encoded(resource), {"If-None-Exist": condition} if condition else {}))
        return super().create(kind, resource, condition=condition, headers=headers)


def measure(notes: int, delay_s: float, connections: int, rounds: int, strategy: str) -> list[Round]:
    """Measures; the first day delivered is not counted: it says what is posted, and everything is imported then."""
    with (
        tempfile.TemporaryDirectory(prefix="medscribe-bench-") as folder,
        _server(0) as quick,
        _server(delay_s) as slow,
    ):
        root = Path(folder)
        template = _prepare(root, notes)
        capabilities = root / "capabilities.toml"
        capabilities.write_text(f'strategy = "{strategy}"\n', encoding="utf-8")

        def settings_of(base_url: str) -> EhrSettings:
            return EhrSettings(base_url=base_url, capabilities=capabilities, connections=connections)

        posts: list[Post] = []
        _deliver(root, template, settings_of(quick), notes, posts)
        taken = []
        for _ in range(rounds):
            delivery_s = _deliver(root, template, settings_of(slow), notes)
            taken.append(Round(delivery_s, _post_all(slow, posts, connections)))
        return taken


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="medscribe-bench-") as folder:
        yield Path(folder)


@contextmanager
def _server(delay_s: float) -> Iterator[str]:
    command = [sys.executable, "-m", "bench.answering", str(delay_s)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own program
    try:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/fhir"
    finally:
        process.terminate()
        process.communicate(timeout=10)


def _prepare(root: Path, notes: int) -> Path:
    """A warehouse with a day of notes and their documents; returns its file."""
    settings = _settings(root, root / "template.sqlite")
    with Warehouse.open(settings) as warehouse:
        for chunk in in_chunks(range(notes), 500):
            with warehouse.begin() as connection:
                mapped = [MappedNote(_note(number), DAY, number + 1) for number in chunk]
                write_notes(warehouse, connection, mapped, datetime.now(UTC))
        build_day(warehouse, settings, DAY, clock=lambda: datetime.now(UTC))
    return root / "template.sqlite"


def _note(number: int) -> ScribeNote:
    visit = NOTE.visit or Visit()
    patient = Identifier("https://example.org/sid/patient", f"synthetic-patient-{number // NOTES_TO_A_PATIENT}")
    return replace(
        NOTE,
        note_id=stable_id("nabla", "default", f"bench-{number}", "note"),
        account="default",
        source_id=f"bench-{number}",
        version=content_hash(["bench", number]),
        visit=replace(visit, patient=patient),
    )


def _deliver(root: Path, template: Path, ehr: EhrSettings, notes: int, posts: list[Post] | None = None) -> float:
    """Delivers the day from the beginning; returns how long that took."""
    file = root / "warehouse.sqlite"
    shutil.copy(template, file)
    with (
        Warehouse.open(_settings(root, file), migrate=False) as warehouse,
        warehouse.worker() as worker,
        open_http(ehr, None) as http,
    ):
        client = FhirClient(http) if posts is None else _Recorder(http)
        started = time.perf_counter()
        report = deliver_day(warehouse, client, ehr, DAY, run_id=None, clock=lambda: datetime.now(UTC), worker=worker)
        took = time.perf_counter() - started
        if isinstance(client, _Recorder) and posts is not None:
            posts += client.posts
    if report.delivered != notes:
        raise RuntimeError("not everything was delivered, so nothing was measured")
    return took


def _settings(root: Path, file: Path) -> Settings:
    return Settings(home=root, warehouse_url=f"sqlite:///{file}")


def _post_all(base_url: str, posts: Sequence[Post], connections: int) -> float:
    """Posts everything with as many threads as connections; returns how long that took."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    headers = {"Accept": "application/fhir+json", "Content-Type": "application/fhir+json", "Prefer": "return=minimal"}
    waiting = iter(posts)
    lock = threading.Lock()

    def post() -> None:
        while True:
            with lock:
                next_one = next(waiting, None)
            if next_one is None:
                return
            path, body, own = next_one
            client.post(f"{base_url}{path}", content=body, headers=own).raise_for_status()

    with httpx.Client(headers=headers, limits=limits, timeout=30) as client:
        threads = [threading.Thread(target=post) for _ in range(connections)]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - started


def _encoded(body: dict[str, Any] | bytes) -> bytes:
    return body if isinstance(body, bytes) else orjson.dumps(body)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m bench.delivery")
    parser.add_argument("--notes", type=int, default=10_000, help="notes of the day")
    parser.add_argument("--delay-ms", type=float, default=50, help="how long the server takes for an answer")
    parser.add_argument("--connections", type=int, default=16, help="connections, of both")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which the median is taken")
    parser.add_argument("--strategy", choices=("transaction", "batch", "single"), default="transaction")
    asked = parser.parse_args()
    # As the command itself does it.
    gc.set_threshold(GARBAGE_AFTER)
    notes = max(asked.notes, 1)
    taken = measure(notes, asked.delay_ms / 1000, asked.connections, max(asked.rounds, 1), asked.strategy)
    sys.stdout.write("| round | delivery, notes/s | bare loop, notes/s | ratio |\n| --- | --- | --- | --- |\n")
    for number, each in enumerate(taken, 1):
        sys.stdout.write(
            f"| {number} | {notes / each.delivery_s:.0f} | {notes / each.bare_s:.0f} | {each.ratio:.2f} |\n"
        )
    delivery_s, bare_s = median(each.delivery_s for each in taken), median(each.bare_s for each in taken)
    ratio = median(each.ratio for each in taken)
    sys.stdout.write(f"| median | {notes / delivery_s:.0f} | {notes / bare_s:.0f} | {ratio:.2f} |\n")


if __name__ == "__main__":
    main()
