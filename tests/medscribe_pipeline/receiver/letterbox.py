"""A receiver to post to, in this process or in one of its own, and what lies in its inbox."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import sqlalchemy as sa

from medscribe_pipeline.receiver import Receiver, sign
from medscribe_pipeline.settings import NablaSettings, ReceiverSettings
from medscribe_pipeline.warehouse.store import SCHEMA_HEAD, Warehouse
from medscribe_pipeline.warehouse.tables import change_counter, inbox, metadata
from tests.databases import NOW, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from medscribe_pipeline.settings import Settings

SECRET = "whsec-synthetic-0001"
PATH_SECRET = "path-secret-synthetic-000001"
CANARY = "qxcanary"
SCRIPT = Path(__file__).with_name("receive_alone.py")
START_S = 30.0


def prepare(settings: Settings) -> Warehouse:
    """An empty warehouse with the newest schema."""
    warehouse = Warehouse.open(settings, migrate=False)
    with warehouse.begin() as connection:
        metadata.create_all(connection)
        connection.execute(sa.insert(change_counter).values(id=1, value=0))
        connection.execute(sa.text("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)"))
        connection.execute(sa.text("INSERT INTO alembic_version VALUES (:head)"), {"head": SCHEMA_HEAD})
    return warehouse


def receiver_settings(
    make_settings: Callable[..., Settings],
    *,
    webhook_secret: str | None = SECRET,
    path_secret: str | None = PATH_SECRET,
    warehouse_url: str | None = None,
    **receiver: Any,
) -> Settings:
    """Settings with both secrets, on a free port."""
    return make_settings(
        nabla=NablaSettings(webhook_secret=webhook_secret),
        receiver=ReceiverSettings(**{"port": 0, "path_secret": path_secret, **receiver}),
        warehouse_url=warehouse_url,
    )


@dataclass
class Letterbox:
    """Posts to a receiver and looks into its inbox."""

    url: str
    warehouse: Warehouse
    http: httpx.Client
    settings: Settings
    now: datetime = NOW

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """Posts JSON, or bytes as they are."""
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        return self.http.post(f"{self.url}{path}", content=content, headers=headers)

    def callback(self, body: Any, *, secret: str = SECRET, at: datetime | None = None) -> httpx.Response:
        """Posts a signed Nabla callback."""
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        return self.post("/callbacks/nabla", content, **signature(content, secret=secret, at=at or self.now))

    def rows(self) -> list[dict[str, Any]]:
        """The inbox in the order of arrival."""
        return sorted(rows_of(self.warehouse, inbox), key=lambda row: row["seq"])

    def metrics(self) -> dict[str, float]:
        """What `/metrics` counts."""
        text = self.http.get(f"{self.url}/metrics").text
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in lines}

    def outcomes(self) -> dict[str, float]:
        """What became of events, over all providers and kinds."""
        found: dict[str, float] = {}
        for name, value in self.metrics().items():
            if name.startswith("medscribe_receiver_events_total"):
                outcome = name.split('outcome="')[1].rstrip('"}')
                found[outcome] = found.get(outcome, 0) + value
        return found


def signature(body: bytes, *, secret: str = SECRET, at: datetime = NOW) -> dict[str, str]:
    """Headers that prove a body."""
    timestamp = at.isoformat().replace("+00:00", "Z")
    return {"x-nabla-webhook-timestamp": timestamp, "x-nabla-webhook-signature": sign(secret, timestamp, body)}


@contextmanager
def open_letterbox(
    settings: Settings, *, clock: Callable[[], datetime] = lambda: NOW, monotonic: Callable[[], float] = time.monotonic
) -> Iterator[Letterbox]:
    """A receiver in this process; its warehouse is not the one the test looks with."""
    with (
        prepare(settings) as looking,
        Warehouse.open(settings, migrate=False) as writing,
        httpx.Client(timeout=20) as http,
        Receiver(settings, writing, clock=clock, monotonic=monotonic) as receiver,
    ):
        yield Letterbox(receiver.url, looking, http, settings)


@contextmanager
def receiver_process(settings: Settings) -> Iterator[tuple[subprocess.Popen[bytes], Letterbox]]:
    """A receiver in a process of its own, on the same SQLite file."""
    home = settings.home
    ready = home / "ready.json"
    with prepare(settings) as looking, httpx.Client(timeout=20) as http:
        process = subprocess.Popen([sys.executable, str(SCRIPT), str(home), str(ready), SECRET, PATH_SECRET], cwd=home)
        try:
            url = _url_of(ready, process)
            yield process, Letterbox(url, looking, http, settings, now=datetime.now(UTC))
        finally:
            process.kill()
            process.wait(20)


def _url_of(ready: Path, process: subprocess.Popen[bytes]) -> str:
    give_up_at = time.monotonic() + START_S
    while not ready.exists():
        assert process.poll() is None, "the receiver ended"
        assert time.monotonic() < give_up_at, "the receiver did not start"
        time.sleep(0.02)
    return str(orjson.loads(ready.read_bytes())["url"])
