"""A provider that works on order, spoken to over loopback HTTP, and a warehouse whose visits it works for."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import sqlalchemy as sa

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.providers.http import HttpClient, Refused
from medscribe_pipeline.providers.jobs import RESULTS, Ledger, State, settle_callback
from medscribe_pipeline.providers.work import Job, JobSpec, Phase, Progress
from medscribe_pipeline.providers.work_runner import WorkReport, run_work
from medscribe_pipeline.settings import JobSettings
from medscribe_pipeline.warehouse.locks import FileLocks, PostgresLocks
from medscribe_pipeline.warehouse.store import Warehouse, _create_engine
from medscribe_pipeline.warehouse.tables import change_counter, metadata, scribe_jobs, source_records, visits
from tests.databases import DAYS, rows_of
from tests.medscribe_pipeline.providers.scripted_server import FakeClock, Hangup, Reply, Seen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from medscribe_pipeline.providers.records import ManifestVisit

NAME = "dictaphone"
TRANSCRIBE = "transcribe"
NOTE = "note"

REFUSED_CODE = "audio_refused"


@contextmanager
def open_warehouse(url: str, folder: Path) -> Iterator[Warehouse]:
    """A warehouse with all tables; the first to open it makes them."""
    engine = _create_engine(sa.make_url(url))
    with engine.connect().execution_options(medscribe_write=True) as connection, connection.begin():
        if not sa.inspect(connection).has_table(change_counter.name):
            metadata.create_all(connection)
            connection.execute(sa.insert(change_counter).values(id=1, value=0))
    is_sqlite = engine.dialect.name == "sqlite"
    locks = FileLocks(folder / "locks") if is_sqlite else PostgresLocks(engine)
    with Warehouse(engine, account="default", locks=locks) as warehouse:
        yield warehouse


@dataclass
class Vendor:
    """The provider's side. What becomes of a job is the last part of its audio's URL: `https://ward.example/1/fail`.

    `ok`: running once, then done. `sync`: done at once. `fail`: fails. `refuse`: 422. `absent`: 404. `cut`: taken, and
    the answer lost, once. `busy`: 500 once. `never`: runs for ever. `odd`: a status nobody knows. `lost`: unknown when
    asked after. `broken`: 500 when asked after. `late`: done, the result a question later. `note`: a note follows.
    """

    submissions: Counter[str] = field(default_factory=Counter)
    polls: Counter[str] = field(default_factory=Counter)
    _fates: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, seen: Seen) -> Reply | Hangup:
        with self._lock:
            if seen.method == "POST":
                return self._take(seen.json["client_request_id"], seen.json["audio"].rsplit("/", 1)[-1])
            return self._tell(seen.path.rsplit("/", 1)[-1])

    def _take(self, name: str, fate: str) -> Reply | Hangup:
        self.submissions[name] += 1
        self._fates[f"v-{name}"] = fate
        match fate:
            case "refuse":
                return _reply({"code": "AUDIO_TOO_SHORT"}, 422)
            case "absent":
                return _reply({}, 404)
            case "forbidden":
                return _reply({}, 403)
            case "cut" if self.submissions[name] == 1:
                return Hangup()
            case "sync":
                return _reply({"id": f"v-{name}", "status": "done", "text": f"words of {name}"})
        return _reply({"id": f"v-{name}", "status": "running"})

    def _tell(self, vendor_id: str) -> Reply:
        self.polls[vendor_id] += 1
        count = self.polls[vendor_id]
        body: dict[str, Any] = {"status": "done", "text": f"words of {vendor_id.removeprefix('v-')}"}
        match self._fates.get(vendor_id, "lost"):
            case "lost":
                return _reply({}, 404)
            case "broken":
                return _reply({}, 500)
            case "never":
                body = {"status": "running"}
            case "odd":
                body = {"status": "pondering"}
            case "fail":
                body = {"status": "failed", "code": "NO_SPEECH"}
            case "gossip":
                body = {"status": "failed", "code": "Mrs Test did not speak"}
            case "late" if count == 1:
                body = {"status": "done"}
            case "nul":
                body["text"] = "a\x00b"
            case "ok" | "note" if count == 1:
                body = {"status": "running"}
        return _reply(body)


def _reply(body: dict[str, Any], status: int = 200) -> Reply:
    return Reply(status, orjson.dumps(body))


class Dictaphone:
    """Our side of the provider: a `WorkProvider`."""

    name = NAME

    def __init__(self, *, repeatable: bool = False, budgets: dict[str, int] | None = None) -> None:
        self.repeatable_submit = repeatable
        self.budgets = budgets or {}

    def wanted(self, correlation_key: str, visit: ManifestVisit) -> list[JobSpec]:
        if visit.audio_url is None:
            return []
        if visit.audio_url.startswith("http:"):
            raise MedscribeError("Plain HTTP", code=REFUSED_CODE)
        if visit.audio_url == "bug":
            raise KeyError("Mrs Test")
        return [JobSpec(correlation_key, TRANSCRIBE, {"audio": visit.audio_url, "language": visit.language})]

    def submit(self, client: HttpClient, job: Job) -> Progress:
        body = {"client_request_id": job.client_request_id, "audio": job.request["audio"]}
        return self._read(client.request("POST", "/jobs", json=body, repeat=False).body)

    def poll(self, client: HttpClient, job: Job) -> Progress:
        try:
            return self._read(client.get_json(f"/jobs/{job.vendor_job_id}").body)
        except Refused as refused:
            if refused.status == 404:
                return Progress(Phase.GONE)
            raise

    def follow_up(self, job: Job, result: dict[str, Any]) -> Sequence[JobSpec]:
        if job.step == TRANSCRIBE and job.request["audio"].endswith("/note"):
            return [JobSpec(job.correlation_key, NOTE, {"audio": "sync", "text": result["text"]})]
        if job.request["audio"].endswith("/dead-end"):
            raise MedscribeError("Nothing to follow", code="no_template")
        if job.request["audio"].endswith("/follow-bug"):
            raise KeyError("Mrs Test")
        return []

    def read_callback(self, payload: Any) -> tuple[str | None, str | None, Progress] | None:
        if not isinstance(payload, dict) or not payload.keys() & {"job", "client_request_id"}:
            return None
        return payload.get("job"), payload.get("client_request_id"), self._read(payload)

    @staticmethod
    def _read(body: Any) -> Progress:
        vendor_id = body.get("id")
        match body.get("status"):
            case "running":
                return Progress(Phase.RUNNING, vendor_id)
            case "done":
                return Progress(Phase.DONE, vendor_id, body if "text" in body else None)
            case "failed":
                return Progress(Phase.FAILED, vendor_id, code=body["code"])
        return Progress(Phase.UNRECOGNISED, vendor_id)


SETTINGS: dict[str, Any] = {
    "timeout_s": 5,
    "connections": 2,
    "max_attempts": 1,
    "poll_first_s": 10,
    "poll_longest_s": 60,
    "job_expires_after_s": 600,
}


@dataclass
class Shop:
    """Visits, jobs and runs of one account, with a clock that stands still unless somebody sleeps."""

    warehouse: Warehouse
    url: str
    vendor: Vendor
    clock: FakeClock
    work: Dictaphone = field(default_factory=Dictaphone)
    settings: dict[str, Any] = field(default_factory=lambda: dict(SETTINGS))

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.warehouse, NAME)

    def visit(self, *fates: str, **changes: Any) -> None:
        """Inserts a visit for each fate, by SQL, as long ago as SQL likes."""
        with self.warehouse.begin() as connection:
            for fate in fates:
                row = {
                    "account": "default",
                    "provider": NAME,
                    "correlation_key": f"visit-{fate}",
                    "audio_url": f"https://ward.example/{fate}",
                    "imported_at": self.clock.now() - timedelta(days=3650),
                    **changes,
                }
                self.warehouse.upsert(connection, visits, [row])

    def run(self, worker: str | None = None, **changes: Any) -> WorkReport:
        settings = JobSettings(**self.settings)
        facts: dict[str, Any] = {
            "days": DAYS,
            "clock": self.clock.now,
            "sleep": self.clock.sleep,
            "run_id": "run-1",
            **changes,
        }
        with (
            HttpClient(NAME, self.url, settings, clock=self.clock, sleep=self.clock.sleep) as client,
            self.warehouse.worker() as own,
        ):
            return run_work(self.warehouse, self.work, client, settings, worker=worker or own, **facts)

    def call_back(self, fate: str, status: str = "done", *, by: str = "both", **more: Any) -> bool:
        """A callback about the job of a visit, naming it by our id, by the provider's, or by both."""
        ours = self.row(fate)["client_request_id"]
        payload = {"job": f"v-{ours}", "client_request_id": ours, "status": status, "id": f"v-{ours}", **more}
        if status == "done":
            payload["text"] = more.get("text", "words by callback")
        elif status == "done-empty":
            payload["status"] = "done"
        for name in {"ours": ("job",), "theirs": ("client_request_id",), "both": ()}[by]:
            del payload[name]
        return settle_callback(self.warehouse, self.work, payload, days=DAYS, now=self.clock.now(), run_id="run-2")

    def later(self, seconds: float) -> None:
        self.clock.sleep(seconds)

    def states(self) -> dict[str, str]:
        return {row["job_key"]: row["state"] for row in rows_of(self.warehouse, scribe_jobs)}

    def row(self, fate: str, step: str = TRANSCRIBE) -> dict[str, Any]:
        (found,) = [row for row in rows_of(self.warehouse, scribe_jobs) if row["job_key"] == f"visit-{fate}/{step}"]
        return found

    def change(self, fate: str, step: str = TRANSCRIBE, **values: Any) -> None:
        """Writes into a job what a run of long ago would have left."""
        with self.warehouse.begin() as connection:
            key = scribe_jobs.c.job_key == f"visit-{fate}/{step}"
            connection.execute(sa.update(scribe_jobs).where(key).values(**values))

    def results(self) -> list[dict[str, Any]]:
        return [row for row in rows_of(self.warehouse, source_records) if row["stream"] == RESULTS]


def count(states: dict[str, str], state: State) -> int:
    return sum(each == state for each in states.values())
