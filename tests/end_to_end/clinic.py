"""A clinic that has recordings transcribed on order: sandbox, command, receiver, and what must have become of all."""

from __future__ import annotations

import socket
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.sandbox import CorpusOptions, IntronOptions, PushOptions
from medscribe_pipeline.sandbox.jobs import Phase
from medscribe_pipeline.sandbox.recordings import AUDIO_HOST
from medscribe_pipeline.warehouse.tables import inbox, notes, scribe_jobs, source_records
from tests.end_to_end.command import Medscribe, finish, kill, write_visits
from tests.end_to_end.states import value_of
from tests.end_to_end.trap import open_sandbox

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from medscribe_pipeline.sandbox import Sandbox
    from tests.end_to_end.command import Ended, Process
    from tests.end_to_end.trap import Trap

CORPUS = CorpusOptions(days=1, audios_per_day=2, sessions_per_day=2, recordings=0)
PLENTY = 1_000_000
PATH_SECRET = "path-secret-synthetic-000001"
OPEN = {"wanted", "submitting", "running", "ready"}
START_S = 30.0
MOST_RUNS = 8

# What is asked for at once in a test, and loopback has no limits.
QUICK = {
    **{f"MEDSCRIBE_{name}_POLL_FIRST_S": "0" for name in ("NABLA", "INTRON")},
    **{f"MEDSCRIBE_{name}_POLL_LONGEST_S": "0.2" for name in ("NABLA", "INTRON")},
    **{f"MEDSCRIBE_{name}_BACKOFF_S": "0.01" for name in ("NABLA", "INTRON")},
    **{f"MEDSCRIBE_{name}_REVIEWED": "true" for name in ("NABLA", "INTRON")},
    "MEDSCRIBE_INTRON_STATUS_CALLS_PER_MINUTE": str(PLENTY),
    "MEDSCRIBE_INTRON_UPLOADS_PER_MINUTE": str(PLENTY),
    "MEDSCRIBE_RECEIVER_PATH_SECRET": PATH_SECRET,
}

# How the steps of a recording end, as `state` or `state code`, by what its name says becomes of it.
FETCHED, NO_RESULT, REFUSED, GONE = "fetched", "expired no_result", "failed 422", "failed gone"
TRANSCRIBED = {
    **{
        script: {"transcribe": FETCHED, "note": FETCHED}
        for script in ("", "slow", "silent", "early", "late", "twice", "forged", "stale", "late-twice-forged")
    },
    "failed": {"transcribe": REFUSED},
    "never": {"transcribe": NO_RESULT},
    "unrecognised": {"transcribe": "expired unrecognised"},
    "gone": {"transcribe": GONE},
    "note-failed": {"transcribe": FETCHED, "note": REFUSED},
    "note-never": {"transcribe": FETCHED, "note": NO_RESULT},
    "note-gone": {"transcribe": FETCHED, "note": GONE},
    "note-callbackonly": {"transcribe": FETCHED, "note": FETCHED},
}
LISTENED = {
    **{script: {"listen": FETCHED} for script in ("", "slow", "early", "late", "twice", "late-twice")},
    "failed": {"listen": REFUSED},
    "never": {"listen": NO_RESULT},
    "silent": {"listen": NO_RESULT},
}
UPLOADED = {
    **{script: {"upload": FETCHED} for script in ("", "slow", "busy", "waiting")},
    "failed": {"upload": "failed FILE_PROCESSING_FAILED"},
    "invalid": {"upload": "failed FILE_INVALID"},
    "oversized": {"upload": "failed FILE_INVALID_SIZE"},
    "overlong": {"upload": "failed FILE_INVALID_DURATION"},
    "timeout": {"upload": "failed FILE_PROCESSING_TIMEOUT"},
    "cancelled": {"upload": "failed FILE_PROCESSING_CANCELLED"},
    "never": {"upload": NO_RESULT},
    "unrecognised": {"upload": "expired unrecognised"},
    "gone": {"upload": GONE},
}

# Documents that Intron makes of a recording, as results and as notes are called.
DOCUMENTS = {
    "transcript_soap_note": "note",
    "transcript_summary": "summary",
    "transcript_clerking": "clerking",
    "transcript_treatment_plan": "treatment_plan",
    "transcript_op_note": "operation_note",
}


@dataclass
class Clinic:
    """Sandbox, command and warehouse of one test.

    Attributes:
        ends: How each job must end, by its key.
        files: The recording of each visit.
    """

    sandbox: Sandbox
    trap: Trap
    medscribe: Medscribe
    url: str
    ends: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def record(self, provider: str, endings: Mapping[str, Mapping[str, str]], times: int = 1) -> None:
        """Makes recordings, `times` for each fate; those of Intron as sound files and as URLs in turn."""
        patients, users = (list(self.sandbox.world.records(name)) for name in ("patients", "users"))
        made = [(script, steps) for script, steps in endings.items() for _ in range(times)]
        for n, (script, steps) in enumerate(made):
            key = f"{provider}-{n:04d}"
            at = datetime(2026, 3, 30, 8, tzinfo=UTC) + timedelta(minutes=n)
            visit = {
                "patient_id": patients[n % len(patients)],
                "practitioner_id": users[n % len(users)],
                "encounter_id": f"enc-{key}",
                "started_at": at.isoformat(),
                "ended_at": (at + timedelta(minutes=5)).isoformat(),
                "language": "en" if provider == "intron" else "en-US",
            }
            file = f"visit-{key}{script and '-'}{script}.wav"
            record = {"key": key, "provider": provider, "file": file, "visit": visit}
            self.sandbox.world.put("recordings", key, record)
            self.files[key] = file
            self.ends |= {f"{key}/{step}": end for step, end in steps.items()}

    def import_visits(self, *, local: bool = True) -> None:
        """Imports the manifest; every other recording of Intron by its URL, or all of them."""
        rows = self.sandbox.world.visits()
        for n, row in enumerate(row for row in rows if row.get("audio_path")):
            if n % 2 or not local:
                row["audio_url"] = f"https://{AUDIO_HOST}/{Path(row.pop('audio_path')).name}"
        path = self.medscribe.work / "visits.csv"
        write_visits(path, rows)
        ended = self.medscribe.run("visits", "import", str(path), "--json")
        assert ended.code == 0, ended.err
        assert ended.json["new"] == len(rows)

    def rows(self, table: sa.Table, *conditions: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
        """Rows of a table."""
        with sa.create_engine(self.url, poolclass=sa.NullPool).connect() as connection:
            return [dict(row) for row in connection.execute(sa.select(table).where(*conditions)).mappings()]

    def count(self, table: sa.Table, *conditions: sa.ColumnElement[bool]) -> int:
        """How many rows there are."""
        with sa.create_engine(self.url, poolclass=sa.NullPool).connect() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(table).where(*conditions)) or 0

    def standing(self) -> dict[str, str]:
        """How every job stands: `state`, or `state code`."""
        return {row["job_key"]: f"{row['state']} {row['code'] or ''}".strip() for row in self.rows(scribe_jobs)}

    def sync_to_the_end(self, *, ticks: int = 10) -> list[Ended]:
        """Syncs until no job is under way and no event waits; `ticks` of the providers' time pass in between."""
        runs: list[Ended] = []
        while len(runs) < MOST_RUNS:
            if len(runs) > 1:
                self._wait_for_expiry()
            runs.append(self.medscribe.sync())
            self.sandbox.pushes.tick(ticks)
            assert "Traceback" not in runs[-1].err
            failures = runs[-1].json["run"]["failures"]
            # A job that has seconds may come to its end between the last question and the check.
            assert {failure["step"] for failure in failures} <= {"no_job_is_overdue"}, failures
            jobs, events = scribe_jobs.c.state.in_(OPEN), inbox.c.processed_at.is_(None)
            if not (self.count(scribe_jobs, jobs) or self.count(inbox, events) or self.sandbox.outbox.waiting()):
                assert failures == []
                return runs
        raise AssertionError(f"not at the end after {MOST_RUNS} runs: {self.standing()}")

    def _wait_for_expiry(self) -> None:
        """Until the time of jobs that may never end is up, if that is soon: what the next run finds it can settle."""
        until = max((row["expires_at"] for row in self.rows(scribe_jobs) if row["state"] == "running"), default=None)
        left_s = 0.0 if until is None else (until - datetime.now(UTC)).total_seconds()
        if 0 < left_s < START_S:
            time.sleep(left_s)

    def submissions(self) -> Counter[str]:
        """What has to be submitted, as the sandbox counts it, each once."""
        return Counter(
            f"{key.split('-')[0]} {step} {self.files[key]}" for key, step in (job.split("/") for job in self.ends)
        )

    def told(self) -> dict[str, Any]:
        """What the providers have for whoever has a result to fetch, by job."""
        steps = {file: key for key, file in self.files.items()}
        nabla, intron = self.sandbox.nabla, self.sandbox.intron
        found = {
            f"{steps[job['order']['name']]}/{job['kind']}": nabla._answer(job, Phase.DONE)
            for job in nabla.book.jobs()
            if nabla.book.phase(job, asked=False) is Phase.DONE
        }
        return found | {
            f"{steps[job['name']]}/upload": intron._told(job, structured=False)
            for job in intron.book.jobs()
            if intron.book.phase(job, asked=True) is Phase.DONE
        }

    def assert_results_are_there_once(self) -> None:
        """Each fetched job has its result, that of the provider; nothing else has; each is mapped once."""
        fetched = {key for key, end in self.standing().items() if end == FETCHED}
        results = [row for row in self.rows(source_records) if row["stream"] == "results"]
        told = self.told()
        assert sorted(row["source_id"] for row in results) == sorted(fetched)
        for row in results:
            assert held(row["payload"]["result"]) == held(told[row["source_id"]]), row["source_id"]
        made = [(row["source_id"], row["kind"]) for row in self.rows(notes) if row["stream"] == "results"]
        assert sorted(made) == sorted(self._documents(fetched, told))

    def _documents(self, fetched: Iterable[str], told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        for key in fetched:
            if key.endswith("/upload"):
                yield from ((key, kind) for name, kind in DOCUMENTS.items() if told[key].get(name))
            elif key.endswith(("/note", "/listen")):
                yield key, "note"

    def assert_notes_are_filed_once(self) -> None:
        """Every note is in the EHR as one Composition, and nothing else is."""
        filed = Counter(value_of(each) for each in self.sandbox.fhir.resources("Composition"))
        assert filed == Counter(row["note_id"] for row in self.rows(notes) if row["state"] == "validated")

    @contextmanager
    def receiving(self, **changes: str | None) -> Iterator[Process]:
        """The receiver as a process, where the callbacks go; at the end it is killed if it still runs."""
        ready = self.medscribe.work / f"ready-{time.monotonic_ns()}.json"
        process = self.medscribe.start("receive", "--ready-file", str(ready), **changes)
        try:
            give_up_at = time.monotonic() + START_S
            while not ready.exists():
                assert process.poll() is None, "the receiver ended"
                assert time.monotonic() < give_up_at, "the receiver did not start"
                time.sleep(0.01)
            yield process
        finally:
            kill(process.pid)
            finish(process)


def held(result: dict[str, Any]) -> dict[str, Any]:
    """What a result says, without how the way it came by names the job."""
    named = {"id", "request_id", "client_request_id"}
    inside = result.get("payload") or result.get("data") or result
    return {name: value for name, value in inside.items() if name not in named}


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def open_clinic(
    folder: Path, *, database_url: str | None = None, settings: Mapping[str, str | None] | None = None, **options: Any
) -> Iterator[Clinic]:
    """A clinic with all four providers.

    Args:
        folder: The test's own.
        database_url: The warehouse; by default the embedded one.
        settings: Of every command; `None` removes one.
        options: Of `Sandbox`.
    """
    port = free_port()
    callbacks = f"http://127.0.0.1:{port}/callbacks/nabla"
    options = {"intron": IntronOptions(status_calls_per_minute=PLENTY), "audio_folder": folder / "audio", **options}
    options["push"] = replace(options.get("push", PushOptions()), nabla_url=callbacks)
    with open_sandbox(corpus=CORPUS, **options) as (sandbox, trap):
        medscribe = Medscribe(folder, {**sandbox.environment(), **QUICK}, working=True)
        # Always the same port: a message that waits for the receiver has its address already.
        medscribe.environment["MEDSCRIBE_RECEIVER_PORT"] = str(port)
        medscribe.environment["MEDSCRIBE_NABLA_CALLBACK_URL"] = f"{callbacks}/{PATH_SECRET}"
        if database_url is not None:
            medscribe.environment["MEDSCRIBE_WAREHOUSE_URL"] = database_url
        for name, value in (settings or {}).items():
            medscribe.environment.pop(name, None)
            if value is not None:
                medscribe.environment[name] = value
        yield Clinic(sandbox, trap, medscribe, database_url or f"sqlite:///{medscribe.database}")
