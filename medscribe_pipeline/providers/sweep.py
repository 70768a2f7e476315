"""The sweep: finds records that have landed and that their provider holds no more.

All ids the provider lists are compared with those that have landed. What is missing is asked for one by one: only what
the provider says it does not know is believed to be gone. Where that cannot be asked, or where the answer proves
nothing because records that are listed are not known there either, a record has to be missing in two sweeps some time
apart. An empty list, or one that is much too short, is never believed: a broken list must not withdraw notes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING

from medscribe_pipeline.errors import ConfigError, Deferred, ProviderContractError, Rejected, Retriable
from medscribe_pipeline.providers.catalogue import PROVIDERS
from medscribe_pipeline.providers.inbox_hints import Answered, Part, is_landed
from medscribe_pipeline.providers.pull import PullReport, Window, land_items
from medscribe_pipeline.warehouse.days import DayRule
from medscribe_pipeline.warehouse.landing import Landing
from medscribe_pipeline.warehouse.sightings import missing_records, remember_missing
from medscribe_pipeline.warehouse.tombstones import land_tombstones

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date

    from medscribe_pipeline.providers.answers import Answer
    from medscribe_pipeline.providers.catalogue import Stream
    from medscribe_pipeline.providers.http import HttpClient
    from medscribe_pipeline.providers.pull import Source
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["EMPTY_LIST", "NOT_LISTED", "TOO_MANY_MISSING", "StreamSweep", "sweep_provider"]

ALWAYS_BELIEVED = 5
"""So many missing records are looked into whatever share of the stream they are; an empty list never is."""

MOST_MISSING = 10_000
"""More missing records than that are never looked into at once: each one costs the provider a request."""

FAILURES_IN_A_ROW = 3
CONTROL_QUESTIONS = 3
SLACK = timedelta(days=1)
"""A visit day is local, and what was made a little earlier may count to it."""

EMPTY_LIST = "empty_list"
TOO_MANY_MISSING = "too_many_missing"
NOT_LISTED = "not_listed"


@dataclass(slots=True)
class StreamSweep:
    """What the sweep of one stream found; counts, days and codes.

    Attributes:
        stream: Name of the stream.
        listed: Ids the provider lists.
        looked_at: Landed records they were compared with: not gone before, not retracted by other ways.
        missing: Those of them that are not listed.
        there: Those of the missing that were there when they were asked for.
        unanswered: Those that could not be told, by code.
        waiting: Those a second sweep has to miss, too.
        gone: Those believed to be gone.
        retracted: Those of them that were withdrawn now.
        doubt: Why nothing was believed: `empty_list`, `too_many_missing`, `not_listed`.
        days: Visit days that became due.
        gone_ids: Source ids of what is gone.
    """

    stream: str
    listed: int = 0
    looked_at: int = 0
    missing: int = 0
    there: int = 0
    unanswered: Counter[str] = field(default_factory=Counter)
    waiting: int = 0
    gone: int = 0
    retracted: int = 0
    doubt: str | None = None
    days: set[date] = field(default_factory=set)
    gone_ids: tuple[str, ...] = field(default=(), repr=False)

    @property
    def is_suspicious(self) -> bool:
        """Whether the list was too short to be believed: somebody has to look at the provider, or at the settings."""
        return self.doubt in (EMPTY_LIST, TOO_MANY_MISSING)


def sweep_provider(
    warehouse: Warehouse,
    settings: Settings,
    provider: str,
    *,
    clock: Callable[[], datetime],
    since_day: date | None = None,
    dry_run: bool = False,
    run_id: str | None = None,
    on_progress: Callable[[str, int], None] = lambda _stream, _listed: None,
) -> list[StreamSweep]:
    """Sweeps all streams of a provider, one after the other, one request at a time.

    Args:
        warehouse: The warehouse.
        settings: The settings; `sweep_policy` says whether what is gone is retracted.
        provider: Provider name.
        clock: Gives the current time.
        since_day: Only records of visits from this day on.
        dry_run: Ask and count, and write nothing.
        run_id: The run this is part of.
        on_progress: Called after each page with the stream and the number of ids so far.

    Raises:
        ConfigError: The provider cannot be listed.
        Busy: Another sweep of the provider is under way.
        MedscribeError: The provider cannot be asked. Streams swept before are done.
    """
    known = PROVIDERS[provider]
    if not known.streams:
        raise ConfigError(
            "This provider has no list to compare with: what it made for us was fetched once, and is ours",
            code="no_list",
            context={"provider": provider},
        )
    with (
        warehouse.locks.hold(f"sweep:{settings.account}:{provider}", settings.lock_timeout_s),
        known.open_client(settings, warehouse) as client,
    ):
        return [
            _Sweep(warehouse, settings, provider, stream, client, clock, run_id, dry_run).run(since_day, on_progress)
            for stream in known.streams
        ]


class _Listed:
    """A set of ids in eight bytes each: a list may be of any length.

    Two ids with the same eight bytes would make one that is gone look listed, and leave it alone.
    """

    def __init__(self) -> None:
        self._digests = array("Q")

    def add(self, source_id: str) -> None:
        self._digests.append(_digest(source_id))

    def close(self) -> None:
        """After the last `add`, before the first question."""
        self._digests = array("Q", sorted(self._digests))

    def __len__(self) -> int:
        return len(self._digests)

    def __contains__(self, source_id: str) -> bool:
        digest = _digest(source_id)
        place = bisect_left(self._digests, digest)
        return place < len(self._digests) and self._digests[place] == digest


def _digest(source_id: str) -> int:
    return int.from_bytes(blake2b(source_id.encode(), digest_size=8).digest())


class _Sweep:
    """The sweep of one stream."""

    def __init__(
        self,
        warehouse: Warehouse,
        settings: Settings,
        provider: str,
        stream: Stream,
        client: HttpClient,
        clock: Callable[[], datetime],
        run_id: str | None,
        dry_run: bool,
    ) -> None:
        self._warehouse = warehouse
        self._settings = settings
        self._provider = provider
        self._stream = stream
        self._client = client
        self._clock = clock
        self._run_id = run_id
        self._dry_run = dry_run
        self._source: Source = stream.whole.source(client, settings)
        self._report = StreamSweep(stream.name)
        self._examples: list[str] = []
        self._answered: set[str] = set()

    def run(self, since_day: date | None, on_progress: Callable[[str, int], None]) -> StreamSweep:
        report = self._report
        if not self._stream.whole.offered(self._settings):
            report.doubt = NOT_LISTED
            return report
        started_at = self._clock()
        listed = self._list(since_day, on_progress)
        report.listed = len(listed)
        missing = self._missing(listed, since_day, started_at)
        if report.doubt is not None:
            return report
        gone = self._ask(missing) if self._stream.whole.detail else {}
        unsure = [] if self._stream.whole.detail else missing
        if gone and not self._answers_prove_something():
            gone, unsure = {}, list(gone)
        self._conclude(gone, unsure, listed)
        return report

    def _list(self, since_day: date | None, on_progress: Callable[[str, int], None]) -> _Listed:
        since = datetime.combine(since_day, datetime.min.time(), UTC) - SLACK if since_day else None
        listed = _Listed()
        for page in self._stream.whole.pages(self._client, self._settings, since):
            for source_id in filter(None, map(self._source.identify, page.items)):
                listed.add(source_id)
                if len(self._examples) < CONTROL_QUESTIONS:
                    self._examples.append(source_id)
            on_progress(self._stream.name, len(listed))
        listed.close()
        return listed

    def _missing(self, listed: _Listed, since_day: date | None, started_at: datetime) -> list[str]:
        """Landed records that are not listed; none, and a doubt, where that are too many to be true."""
        report = self._report
        with self._warehouse.read() as connection:
            landed: Iterator[str] = missing_records(
                connection,
                self._warehouse.account,
                self._provider,
                self._stream.name,
                since_day=since_day,
                fetched_before=started_at,
            )
            missing: list[str] = []
            for source_id in landed:
                report.looked_at += 1
                if source_id in listed:
                    continue
                report.missing += 1
                if len(missing) < MOST_MISSING:
                    missing.append(source_id)
        share = int(report.looked_at * self._settings.sweep_max_share)
        if report.missing and not len(listed):
            report.doubt = EMPTY_LIST
        elif report.missing > min(max(ALWAYS_BELIEVED, share), MOST_MISSING):
            report.doubt = TOO_MANY_MISSING
        return missing

    def _ask(self, missing: list[str]) -> dict[str, datetime]:
        """Asks for each missing record. Returns what the provider does not know, with the time of the question."""
        report = self._report
        gone: dict[str, datetime] = {}
        failures = 0
        for source_id in missing:
            asked_at = self._clock()
            try:
                answer = self._source.detail(source_id)
            except Rejected as error:
                failures = 0
                if error.code == "not_found":
                    gone[source_id] = asked_at
                else:
                    report.unanswered[error.code] += 1
            except (Retriable, ProviderContractError) as error:
                # One record whose detail always fails must not stop the others; a provider that is down must.
                failures += 1
                if failures >= FAILURES_IN_A_ROW or isinstance(error, Deferred):
                    raise
                report.unanswered[error.code] += 1
            else:
                failures = 0
                if self._source.identify(answer.body) == source_id:
                    report.there += 1
                    self._answered.add(source_id)
                    self._land(source_id, answer)
                else:
                    report.unanswered["other_record"] += 1
        return gone

    def _land(self, source_id: str, answer: Answer) -> None:
        """A record that is not listed and still there may have changed: archived ones are not in every list."""
        part = Part(self._source, self._stream.name, source_id, answer)
        if self._dry_run or is_landed(self._warehouse, self._provider, part):
            return
        landing = Landing(
            self._warehouse,
            self._provider,
            self._stream.name,
            days=DayRule.of(self._settings),
            run_id=self._run_id,
        )
        pulled = PullReport()
        with ThreadPoolExecutor(1, thread_name_prefix="sweep") as pool:
            land_items(
                [answer.body],
                answer.sent_at,
                Answered(part),
                landing,
                None,
                pool,
                pulled,
                Window(full=True),
                self._clock,
            )
        self._report.days |= pulled.landed.days

    def _answers_prove_something(self) -> bool:
        """Whether a record that is listed is known when it is asked for: else `not found` says nothing."""
        for source_id in islice(self._examples, CONTROL_QUESTIONS):
            try:
                answer = self._source.detail(source_id)
            except Rejected:
                continue
            if self._source.identify(answer.body) == source_id:
                return True
        return False

    def _conclude(self, gone: dict[str, datetime], unsure: list[str], listed: _Listed) -> None:
        """Writes down what is missing, and withdraws what is gone if that is the policy."""
        report, now = self._report, self._clock()
        names = (self._warehouse.account, self._provider, self._stream.name)
        confirm_after = timedelta(seconds=self._settings.sweep_confirm_after_s)
        if self._dry_run:
            report.gone, report.waiting = len(gone), len(unsure)
            report.gone_ids = tuple(sorted(gone))
            return
        with self._warehouse.begin() as connection:
            confirmed = remember_missing(
                self._warehouse,
                connection,
                *names,
                missing=[*gone, *unsure],
                sure=set(gone),
                is_there=lambda source_id: source_id in self._answered or source_id in listed,
                confirm_after=confirm_after,
                now=now,
            )
        report.waiting = len(gone) + len(unsure) - len(confirmed)
        report.gone = len(confirmed)
        report.gone_ids = tuple(sorted(confirmed))
        if self._settings.sweep_policy == "retract" and confirmed:
            # Without a question of its own a record counts as gone since the list was read to its end.
            times = {source_id: gone.get(source_id, now) for source_id in confirmed}
            report.days |= land_tombstones(
                self._warehouse, self._provider, self._stream.name, times, run_id=self._run_id
            )
            report.retracted = len(confirmed)
