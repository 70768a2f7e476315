"""Events out of the inbox: what was pushed to us becomes landed records and settled jobs.

An event is believed only as far as it is proved. A signed Nabla callback carries its result. Everything else is a hint
that something happened: the session, the note with its audio, or the job is asked for by its id, over our own
connection, and lands by the same way as what is pulled.

What an event asks for and the mark that it was done are one transaction, so a crash at any point loses nothing and
does nothing twice. What cannot be done yet stays open with its code, is tried again by the next run, and is given up
after a time, with the code; the row is kept in any case.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.errors import ConfigError, Deferred, MedscribeError, Rejected, WarehouseError
from medscribe_pipeline.providers import nabla
from medscribe_pipeline.providers.catalogue import PROVIDERS
from medscribe_pipeline.providers.inbox_hints import (
    Answered,
    NothingNamed,
    Part,
    fetch,
    is_forgotten,
    is_forgotten_job,
    is_landed,
    named_in,
)
from medscribe_pipeline.providers.inbox_store import (
    Event,
    OpenRow,
    conclude,
    oldest_open,
    open_events,
    postpone,
    read_event,
    store_event,
    store_events,
)
from medscribe_pipeline.providers.jobs import settle_callback
from medscribe_pipeline.providers.pull import PullReport, Window, land_items
from medscribe_pipeline.providers.work import Phase, Progress
from medscribe_pipeline.warehouse.days import DayRule
from medscribe_pipeline.warehouse.erasure import FORGOTTEN
from medscribe_pipeline.warehouse.joined import Joined
from medscribe_pipeline.warehouse.landing import Landing
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.watching import Pool, working

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import ThreadPoolExecutor
    from datetime import date, datetime

    from medscribe_pipeline.providers.http import HttpClient
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = [
    "Event",
    "InboxReport",
    "open_events",
    "process_inbox",
    "store_event",
    "store_events",
]

REFUSED_TRIES = 5
"""A record may be announced a moment before it can be read."""

GIVE_UP_AFTER = timedelta(days=7)
FAILURES_IN_A_ROW = 3

log = logging.getLogger(__name__)


@dataclass(slots=True)
class InboxReport:
    """What was done; counts and days only.

    Attributes:
        looked_at: Events that were tried.
        processed: Done, by what it came to: `landed`, `unchanged`, `quarantined`, `settled`, `asked_again`.
        refused: Concluded without an effect, by code.
        waiting: Still open, by the reason.
        days: Visit days that landed changes touched.
        still_open: Events that wait now, those of `waiting` and those that came since.
    """

    looked_at: int = 0
    processed: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    waiting: Counter[str] = field(default_factory=Counter)
    days: set[date] = field(default_factory=set)
    still_open: int = 0


def process_inbox(
    warehouse: Warehouse,
    settings: Settings,
    *,
    clock: Callable[[], datetime],
    run_id: str | None,
    limit: int = 1000,
    checkpoint: Callable[[str], None] = lambda _: None,
) -> InboxReport:
    """Processes events, oldest first; a provider that is down does not hold up the others.

    Args:
        warehouse: Where the inbox is.
        settings: The settings.
        clock: Gives the current time.
        run_id: The run this is part of.
        limit: Events tried at most.
        checkpoint: Called with `fetched`, `landed` (before the commit) and `processed` (after it), for tests.

    Raises:
        Busy: Another run is at it.
        ConfigError: The warehouse cannot be used.
    """
    report = InboxReport()
    with (
        working("medscribe.inbox", run=run_id),
        warehouse.locks.hold(f"inbox:{settings.account}", settings.lock_timeout_s),
    ):
        rows = oldest_open(warehouse, limit)
        run = _Run(warehouse, settings, clock, run_id, report, checkpoint)
        for provider in sorted({row.key.provider for row in rows}):
            mine = [row for row in rows if row.key.provider == provider]
            if provider == nabla.NAME:
                run.settle_callbacks(mine)
            else:
                run.follow_hints(provider, mine)
        report.still_open = open_events(warehouse)[0]
        log.info(
            "Inbox processed: looked_at=%d processed=%d waiting=%d",
            report.looked_at,
            report.processed.total(),
            report.still_open,
        )
    return report


class _Run:
    def __init__(
        self,
        warehouse: Warehouse,
        settings: Settings,
        clock: Callable[[], datetime],
        run_id: str | None,
        report: InboxReport,
        checkpoint: Callable[[str], None],
    ) -> None:
        self._warehouse = warehouse
        self._settings = settings
        self._clock = clock
        self._run_id = run_id
        self._report = report
        self._checkpoint = checkpoint
        self._days = DayRule.of(settings)

    def settle_callbacks(self, rows: Sequence[OpenRow]) -> None:
        """Nabla's callbacks: a signed one brings its result; of another one only the archived API's is believed.

        That one can never be asked for: there is nothing but the secret path it came by.
        """
        own = self._settings.nabla
        patience = timedelta(seconds=own.job_expires_after_s)
        for row in rows:
            self._report.looked_at += 1
            believed = row.verified or own.api_version == "archived"
            work = nabla.Nabla(self._settings) if believed else _Hearsay(self._settings)
            payload = read_event(self._warehouse, row.key)
            try:
                read = work.read_callback(payload)
                if read is None:
                    self._refuse(row, "no_job")
                elif is_forgotten_job(self._warehouse, row.key.provider, *read[:2]):
                    self._refuse(row, FORGOTTEN)
                elif not self._settle(row, work, payload):
                    self._later(row, "unknown_job", give_up_after=patience)
                else:
                    self._report.processed["settled" if believed else "asked_again"] += 1
            except MedscribeError as error:
                self._failed(row, error)
            except Exception as error:  # noqa: BLE001  # one event that trips us must not stop the others
                self._failed(row, _internal(error))

    def _settle(self, row: OpenRow, work: nabla.Nabla, payload: Any) -> bool:
        now = self._clock()
        with self._warehouse.begin() as connection:
            joined = Joined(self._warehouse, connection)
            found = settle_callback(joined, work, payload, days=self._days, now=now, run_id=self._run_id)
            if found:
                conclude(connection, joined, row.key, code=None, now=now)
            self._checkpoint("landed")
        self._checkpoint("processed")
        return found

    def follow_hints(self, provider: str, rows: Sequence[OpenRow]) -> None:
        """Asks for what the events name, a few at a time, and lands it."""
        wanted: list[tuple[OpenRow, str]] = []
        for row in rows:
            named = named_in(row, read_event(self._warehouse, row.key))
            if isinstance(named, NothingNamed):
                self._report.looked_at += 1
                self._refuse(row, named.code)
            elif is_forgotten(self._warehouse, provider, named):
                self._report.looked_at += 1
                self._refuse(row, FORGOTTEN)
            else:
                wanted.append((row, named))
        if not wanted:
            return
        width = getattr(self._settings, provider).connections
        try:
            with (
                PROVIDERS[provider].open_client(self._settings, self._warehouse) as client,
                Pool(width, thread_name_prefix="inbox") as pool,
            ):
                self._follow(wanted, client, pool, width)
        except MedscribeError as error:
            # No credentials, as a rule. One event carries the code; the others of this provider are not even tried.
            self._failed(wanted[0][0], error)

    def _follow(
        self, wanted: Sequence[tuple[OpenRow, str]], client: HttpClient, pool: ThreadPoolExecutor, width: int
    ) -> None:
        failures = 0
        for chunk in in_chunks(wanted, width):
            asked = [
                pool.submit(fetch, client, self._settings, self._warehouse, row.key.provider, named)
                for row, named in chunk
            ]
            for (row, _), answer in zip(chunk, asked, strict=True):
                self._report.looked_at += 1
                try:
                    parts = answer.result()
                    self._checkpoint("fetched")
                    self._land(row, parts, pool)
                except Rejected as error:
                    self._later(row, error.code, tries=REFUSED_TRIES)
                except MedscribeError as error:
                    self._failed(row, error)
                    failures += 1
                    if failures >= FAILURES_IN_A_ROW or isinstance(error, Deferred | ConfigError):
                        return
                except Exception as error:  # noqa: BLE001  # one event that trips us must not stop the others
                    self._failed(row, _internal(error))
                else:
                    failures = 0

    def _land(self, row: OpenRow, parts: Sequence[Part], pool: ThreadPoolExecutor) -> None:
        pulled = PullReport()
        with self._warehouse.begin() as connection:
            joined = Joined(self._warehouse, connection)
            for part in parts:
                if is_landed(joined, row.key.provider, part):
                    continue
                landing = Landing(joined, row.key.provider, part.stream, days=self._days, run_id=self._run_id)
                source = Answered(part)
                # Full: what is compared is the whole record, not the list item it was announced by.
                land_items(
                    [part.answer.body],
                    part.answer.sent_at,
                    source,
                    landing,
                    None,
                    pool,
                    pulled,
                    Window(full=True),
                    self._clock,
                )
            code = "quarantined" if pulled.landed.quarantined or pulled.still_quarantined else None
            conclude(connection, joined, row.key, code=code, now=self._clock())
            self._checkpoint("landed")
        self._checkpoint("processed")
        self._report.days |= pulled.landed.days
        changed = pulled.landed.new + pulled.landed.changed
        self._report.processed[code or ("landed" if changed else "unchanged")] += 1

    def _failed(self, row: OpenRow, error: MedscribeError) -> None:
        if isinstance(error, WarehouseError):
            raise error
        cause = error.context.get("cause", "")
        log.warning("Event waits: provider=%s kind=%s code=%s cause=%s", row.key.provider, row.kind, error.code, cause)
        self._later(row, error.code)

    def _later(
        self, row: OpenRow, code: str, *, tries: int | None = None, give_up_after: timedelta = GIVE_UP_AFTER
    ) -> None:
        """Leaves an event for the next run, unless it has had its tries, or its time."""
        if (tries is not None and row.attempts + 1 >= tries) or self._clock() - row.received_at > give_up_after:
            self._refuse(row, code)
            return
        postpone(self._warehouse, row.key, code)
        self._report.waiting[code] += 1

    def _refuse(self, row: OpenRow, code: str) -> None:
        with self._warehouse.begin() as connection:
            conclude(connection, self._warehouse, row.key, code=code, now=self._clock())
        self._report.refused[code] += 1


def _internal(error: Exception) -> MedscribeError:
    """An error nobody expected, without its text: that may quote the event."""
    return MedscribeError("An event could not be processed", code="internal", context={"cause": type(error).__name__})


class _Hearsay(nabla.Nabla):
    """Nabla, when nobody has signed: all that is believed is which job to ask after."""

    def read_callback(self, payload: Any) -> tuple[str | None, str | None, Progress] | None:
        """The ids as they came; that a job has ended, without its end."""
        read = super().read_callback(payload)
        if read is None:
            return None
        vendor_job_id, client_request_id, progress = read
        under_way = progress.phase in (Phase.RUNNING, Phase.UNRECOGNISED)
        return vendor_job_id, client_request_id, Progress(Phase.RUNNING if under_way else Phase.DONE, vendor_job_id)
