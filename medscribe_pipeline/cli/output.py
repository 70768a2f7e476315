"""How the command speaks: a live line on a terminal, a plain heartbeat elsewhere, tables, and JSON on request."""

from __future__ import annotations

import logging
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson
from rich import box
from rich.console import Console
from rich.table import Table

from medscribe_pipeline.operation.reasons import SAYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from medscribe_pipeline.cli.runner import SyncResult
    from medscribe_pipeline.warehouse.reports import ProviderStatus, Status

__all__ = ["console", "plain_table", "print_json", "progress_shown", "run_summary", "status_json", "status_tables"]

HEARTBEAT_S = 10.0

console = Console()
_errors = Console(stderr=True)


def print_json(value: Any) -> None:
    """One JSON document on standard output, for programs."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode() + "\n")


class _Latest(logging.Handler):
    """Keeps the newest progress message."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.message = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.message = record.getMessage()


@contextmanager
def progress_shown(title: str) -> Iterator[None]:
    """Shows on standard error that work goes on: a spinner on a terminal, a line every ten seconds elsewhere."""
    logger = logging.getLogger("medscribe_pipeline.progress")
    latest = _Latest()
    logger.addHandler(latest)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    done = threading.Event()
    started = time.monotonic()

    def line() -> str:
        return f"{title} · {latest.message or 'starting'} · {time.monotonic() - started:.0f} s"

    def beat() -> None:
        if _errors.is_terminal:
            with _errors.status(line()) as status:
                while not done.wait(0.2):
                    status.update(line())
            return
        while not done.wait(HEARTBEAT_S):
            _errors.print(line(), highlight=False)

    thread = threading.Thread(target=beat, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        logger.removeHandler(latest)


def status_json(status: Status) -> dict[str, Any]:
    """The status as plain JSON values; composite keys are joined with a dot."""
    from medscribe_pipeline.warehouse.reports import TargetStatus

    def flat(counter: Any) -> dict[str, int]:
        return {".".join(filter(None, key)) if isinstance(key, tuple) else str(key): n for key, n in counter.items()}

    def of_targets(provider: ProviderStatus) -> dict[str, Any]:
        """Only where there are several, and then each of them, whatever it has been sent."""
        listed = status.targets if len(status.targets) > 1 else ()
        each = {name: provider.targets.get(name, TargetStatus()) for name in listed}
        shown = {
            name: {"deliveries": flat(of.deliveries), "held": flat(of.held), "rejected": flat(of.rejected)}
            for name, of in each.items()
        }
        return {"targets": shown} if shown else {}

    return {
        "account": status.account,
        "days": status.days,
        "days_due": status.days_due,
        "open_events": status.open_events,
        "providers": {
            name: {
                "landed": flat(each.landed),
                "notes": flat(each.notes),
                "held_records": flat(each.held_records),
                "documents": flat(each.documents),
                "deliveries": flat(each.deliveries),
                "held": flat(each.held),
                "rejected": flat(each.rejected),
                "quarantined": flat(each.quarantined),
                "jobs": flat(each.jobs),
                "refused": flat(each.refused),
                **of_targets(each),
            }
            for name, each in status.providers.items()
        },
        "cursors": [
            {"provider": c.provider, "stream": c.stream, "watermark": c.watermark, "moved_at": c.moved_at}
            for c in status.cursors
        ],
    }


def plain_table(title: str | None = None) -> Table:
    """A table as all commands draw them: no frame, so that little width is lost."""
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )


def run_summary(result: SyncResult) -> None:
    """What one sync pulled, built and delivered."""
    pulled = plain_table("Pulled in this run")
    pulled.add_column("stream", no_wrap=True)
    columns = {
        "pages": "pages",
        "records_seen": "seen",
        "new": "new",
        "changed": "changed",
        "unchanged": "same",
        "quarantined": "bad",
        "requests": "requests",
        "retries": "retries",
    }
    for title in columns.values():
        pulled.add_column(title, justify="right")
    for name, facts in result.sources.items():
        if "pages" in facts:
            pulled.add_row(name, *(str(facts.get(column, 0) or "·") for column in columns))
    if pulled.row_count:
        console.print(pulled)
    _work_summary(result)
    notes = result.stages.get("scribe_notes", {})
    documents = result.stages.get("fhir_document_references", {})
    sent = [facts for facts in result.stages.values() if "already_delivered" in facts]
    mapped, built = notes.get("looked_at", 0), documents.get("built", 0)
    line = f"{result.days} visit days built: {mapped} records mapped, {built} notes to FHIR"
    for facts in sent:
        line += f"; to {facts['target']} " if len(sent) > 1 else ", "
        line += f"{facts['delivered']} delivered now, {facts['already_delivered']} already there and not sent again"
        if facts.get("left_for_next_run"):
            line += f", {facts['left_for_next_run']} left for the next run"
    console.print(line + ".", highlight=False)


def _work_summary(result: SyncResult) -> None:
    """What became of jobs and of the inbox, for the providers that work on order."""
    jobs = plain_table("Jobs in this run")
    jobs.add_column("provider", no_wrap=True)
    for title in ("submitted", "asked", "fetched", "failed", "open"):
        jobs.add_column(title, justify="right")
    jobs.add_column("how all jobs stand")
    for name, facts in result.sources.items():
        if "submitted" in facts:
            counts = [facts[key] for key in ("submitted", "polled", "fetched", "failed", "open")]
            jobs.add_row(name.removesuffix("_jobs"), *(str(count or "·") for count in counts), facts["states"])
    if jobs.row_count:
        console.print(jobs)
    inbox = result.sources.get("inbox_events", {})
    if inbox.get("looked_at"):
        done, waiting = inbox["processed"], inbox["waiting"]
        line = f"Inbox: {inbox['looked_at']} events looked at; processed: {done}; waiting: {waiting}."
        console.print(line, highlight=False)


def status_tables(status: Status) -> list[Table]:
    """The status for a person: a table of what is where, one of why something stopped; none without anything."""
    if not status.providers:
        return []
    why = _why(status)
    return [_where(status), why] if why.row_count else [_where(status)]


def _where(status: Status) -> Table:
    main = plain_table("Where everything is")
    main.add_column("")
    each = list(status.providers.values())
    for p in each:
        main.add_column(p.provider, justify="right")

    def row(title: str, values: list[int]) -> None:
        main.add_row(title, *(str(value) if value else "·" for value in values))

    def rows_if_any(titles: Iterable[str], count: Callable[[ProviderStatus, str], int]) -> None:
        for title in titles:
            if any(count(p, title) for p in each):
                row(f"  {title}", [count(p, title) for p in each])

    if any(p.jobs for p in each):
        row("jobs", [p.jobs.total() for p in each])
        rows_if_any(JOB_STATES, lambda p, state: p.jobs_in(state))
    row("records landed", [p.landed.total() for p in each])
    row("  of them no note (yet)", [p.held_records.total() for p in each])
    row("notes", [p.notes.total() for p in each])
    row("  validated by a clinician", [p.notes["validated"] for p in each])
    row("  drafts", [p.notes["draft"] for p in each])
    row("  retracted", [p.notes["retracted"] for p in each])
    for kind in ("Composition", "DocumentReference"):
        row(f"{kind}s", [p.documents[kind] for p in each])
        for title, counts in _delivery_rows(status, kind):
            row(title, counts)
    row("quarantined", [p.quarantined.total() for p in each])
    return main


def _delivery_rows(status: Status, kind: str) -> Iterator[tuple[str, list[int]]]:
    """How the documents of a kind stand, of each provider; for each target where there are several."""
    each = list(status.providers.values())
    for name in status.targets if len(status.targets) > 1 else (None,):
        there = f" ({name})" if name else ""
        for state in DELIVERY_STATES:
            counts = [_deliveries(p, name, kind, state) for p in each]
            if any(counts):
                yield f"  {state}{there}", counts
        yield f"  waiting{there}", [_deliveries(p, name, kind, "planned", "claimed", "sent") for p in each]


def _why(status: Status) -> Table:
    why = plain_table("What did not go on, and why")
    for column in ("provider", "what", "why", "count"):
        why.add_column(column, justify="right" if column == "count" else "left")
    for p in status.providers.values():
        several = [(f" ({name})", of) for name, of in p.targets.items()] if len(status.targets) > 1 else [("", p)]
        rows = [
            *(("record without note", code, count) for code, count in p.held_records.items()),
            *((f"document held{there}", code, count) for there, of in several for code, count in of.held.items()),
            *(
                (f"document rejected by the EHR{there}", code, count)
                for there, of in several
                for code, count in of.rejected.items()
            ),
            *((f"quarantined ({stage})", code, count) for (stage, code), count in p.quarantined.items()),
            *((f"job {state}", code, n) for (state, code), n in p.jobs.items() if state in JOBS_THAT_STOPPED),
            *((f"{WANTED.get(wanted, wanted)} refused", code, count) for (wanted, code), count in p.refused.items()),
        ]
        for what, code, count in sorted(rows):
            why.add_row(p.provider, what, SAYS.get(code, code), str(count))
    return why


def _deliveries(provider: ProviderStatus, target: str | None, kind: str, *states: str) -> int:
    """Documents of a kind in these states, on one target or on all."""
    of = provider if target is None else provider.targets.get(target)
    return sum(of.deliveries[kind, state] for state in states) if of is not None else 0


DELIVERY_STATES = ("delivered", "held", "rejected", "unknown", "discarded")

JOB_STATES = ("wanted", "submitting", "running", "ready", "failed", "expired", "cancelled", "unknown")
"""In the order of a job's life; `fetched` is what the line above them is mostly made of."""

JOBS_THAT_STOPPED = ("failed", "expired", "unknown")

WANTED = {"follow_up": "next job"}
