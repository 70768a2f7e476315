"""What one visit day came to: the figures behind `medscribe day`, `medscribe status --day` and the daily report.

Counts, codes and times only: nothing here reads a text, a payload or an identifier of a patient. What the figures mean
is judged in `verdict`; how they look is `day_page`'s.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from medscribe_pipeline.fhir import BuildOptions
from medscribe_pipeline.fhir.coverage import Coverage, read_coverage
from medscribe_pipeline.operation.day_counts import DayCounts
from medscribe_pipeline.operation.reasons import Act, Explained, Kind, explain
from medscribe_pipeline.providers.catalogue import PROVIDERS
from medscribe_pipeline.warehouse.cursors import read_cursors

if TYPE_CHECKING:
    from medscribe_pipeline.operation.delays import Delay
    from medscribe_pipeline.providers.own_counts import OwnCount
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.cursors import CursorRow
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["DayReport", "Gap", "ProviderDay", "StreamDay", "day_bounds", "read_day"]


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that has not gone all the way, and how often. `target` where it is about one."""

    kind: Kind
    code: str | None
    provider: str
    count: int
    target: str | None = None

    @property
    def explained(self) -> Explained:
        """What it means and what to do."""
        return explain(self.kind, self.code)

    @property
    def act(self) -> Act:
        """What it asks for."""
        return self.explained.act


@dataclass(slots=True)
class ProviderDay:
    """One provider's day, as numbers of records and notes.

    Attributes:
        landed: Records of the day.
        records: They by outcome: `note`, `part`, `held`, `quarantined`, `waiting`.
        notes: Notes of the day by state.
        documents: Notes by what became of their documents: `documents`, `none`, `quarantined`, `waiting`.
        deliveries: Notes with documents on each target, by state of their newest version.
    """

    provider: str
    landed: int = 0
    records: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    documents: Counter[str] = field(default_factory=Counter)
    deliveries: dict[str, Counter[str]] = field(default_factory=dict)
    jobs: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class StreamDay:
    """Whether a stream was read to its end since the day was over.

    Attributes:
        provider: Name of the provider.
        stream: Name of the stream.
        complete_until: What changed up to here was surely seen; `None` while it was never read to its end.
        watermark: Time of the newest record that was surely seen, where the stream has such a cursor.
        is_past: Whether everything of the day was surely seen.
    """

    provider: str
    stream: str
    complete_until: datetime | None
    watermark: datetime | None
    is_past: bool


@dataclass(slots=True)
class DayReport:
    """A visit day of an account. Times are aware UTC; `starts_at` and `ends_at` are the midnights around it."""

    account: str
    day: date
    timezone: str
    starts_at: datetime
    ends_at: datetime
    read_at: datetime
    targets: tuple[str, ...]
    providers: dict[str, ProviderDay] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)
    streams: list[StreamDay] = field(default_factory=list)
    delays: list[Delay] = field(default_factory=list)
    coverage: Coverage = field(default_factory=lambda: Coverage(()))
    asked: list[OwnCount] = field(default_factory=list)

    @property
    def zone(self) -> ZoneInfo:
        """Where the account is."""
        return ZoneInfo(self.timezone)

    @property
    def is_over(self) -> bool:
        """Whether the day has ended where the account is."""
        return self.read_at >= self.ends_at

    @property
    def landed(self) -> int:
        """Records of the day."""
        return sum(each.landed for each in self.providers.values())

    @property
    def notes(self) -> int:
        """Notes of the day; one without words is a record without a note, and counted there."""
        return sum(each.documents.total() - each.documents["none"] for each in self.providers.values())

    def delivered(self, target: str) -> int:
        """Notes whose newest version is on a target."""
        return sum(each.deliveries.get(target, Counter())["delivered"] for each in self.providers.values())

    def open_gaps(self) -> list[Gap]:
        """What is missing: what a person has to see to first, then what goes on by itself; most frequent first."""
        order = {Act.PERSON: 0, Act.WAITS: 2}
        missing = [gap for gap in self.gaps if gap.act in order]

        def rank(gap: Gap) -> tuple[int, int, str, str, str]:
            # What may be of another day is told after what is surely of this one.
            doubtful = gap.kind is Kind.MAYBE_QUARANTINED
            return order[gap.act] + doubtful, -gap.count, gap.kind, gap.code or "", gap.provider

        return sorted(missing, key=rank)


def day_bounds(settings: Settings, day: date) -> tuple[datetime, datetime]:
    """The midnights around a day where the account is, as UTC: 23 or 25 hours apart when clocks change."""

    def midnight(of: date) -> datetime:
        return datetime(of.year, of.month, of.day, tzinfo=settings.zone).astimezone(UTC)

    return midnight(day), midnight(day + timedelta(days=1))


def read_day(warehouse: Warehouse, settings: Settings, day: date, *, fingerprint: str, now: datetime) -> DayReport:
    """Counts one day.

    Args:
        warehouse: The warehouse.
        settings: The settings: zone, providers, targets, mapping.
        day: The visit day.
        fingerprint: What days are built with now; see `pipeline.fingerprint`.
        now: The current time, aware UTC.
    """
    starts_at, ends_at = day_bounds(settings, day)
    # While no target is configured, what was delivered to the first before; as `medscribe status` does.
    targets = tuple(settings.targets) or (settings.ehr.target,)
    report = DayReport(
        warehouse.account, day, settings.timezone, starts_at, ends_at, now, targets if settings.targets else ()
    )
    with warehouse.read() as connection:
        counts = DayCounts(connection, warehouse.account, day, starts_at, ends_at)
        _add_records(report, counts)
        _add_deliveries(report, counts, fingerprint)
        _add_quarantine(report, counts)
        _add_jobs(report, counts)
        report.delays = counts.delays(report.targets)
        cursors = read_cursors(connection, warehouse.account)
    report.streams = [
        _stream(name, stream.name, cursors, ends_at)
        for name in settings.providers
        for stream in PROVIDERS[name].streams
    ]
    report.gaps += [Gap(Kind.UNREAD, each.stream, each.provider, 1) for each in report.streams if not each.is_past]
    if not settings.providers:
        report.gaps.append(Gap(Kind.UNWATCHED, None, "", 1))
    report.coverage = read_coverage(warehouse, BuildOptions.of(settings.fhir).mapping, day)
    return report


def _provider(report: DayReport, name: str) -> ProviderDay:
    return report.providers.setdefault(name, ProviderDay(name))


def _add_records(report: DayReport, counts: DayCounts) -> None:
    for name, outcome, code, number in counts.records():
        provider = _provider(report, name)
        provider.landed += number
        provider.records[outcome] += number
        if outcome == "held":
            report.gaps.append(Gap(Kind.RECORD, code, name, number))
        elif outcome == "waiting":
            report.gaps.append(Gap(Kind.UNMAPPED, None, name, number))
    listed = [name for name, provider in PROVIDERS.items() if provider.streams]
    report.gaps += [Gap(Kind.EXPECTED, None, name, number) for name, number in counts.expected(listed)]


def _add_deliveries(report: DayReport, counts: DayCounts, fingerprint: str) -> None:
    for name, state, stage, number in counts.notes():
        provider = _provider(report, name)
        provider.notes[state] += number
        provider.documents[stage] += number
        if stage == "waiting":
            report.gaps.append(Gap(Kind.UNBUILT, None, name, number))
    for target in report.targets:
        for name, state, reason, number in counts.deliveries(target):
            of_target = _provider(report, name).deliveries.setdefault(target, Counter())
            of_target[state] += number
            if state in _GAPS:
                report.gaps.append(Gap(_GAPS[state], reason, name, number, target))
        for name, reason, number in counts.older_unknown(target):
            report.gaps.append(Gap(Kind.UNKNOWN, reason, name, number, target))
    if counts.is_outdated(fingerprint):
        report.gaps.append(Gap(Kind.OUTDATED, None, "", 1))


_GAPS = {
    "planned": Kind.ON_ITS_WAY,
    "claimed": Kind.ON_ITS_WAY,
    "sent": Kind.ON_ITS_WAY,
    "held": Kind.HELD,
    "rejected": Kind.REJECTED,
    "unknown": Kind.UNKNOWN,
    "discarded": Kind.DISCARDED,
}
"""What each state of the delivery ledger but `delivered` leaves open."""


def _add_quarantine(report: DayReport, counts: DayCounts) -> None:
    for name, of_day, code, number in counts.quarantine():
        kind = Kind.QUARANTINED if of_day else Kind.MAYBE_QUARANTINED
        report.gaps.append(Gap(kind, code, name, number))


_JOB_GAPS = {
    "wanted": Kind.JOB_OPEN,
    "submitting": Kind.JOB_OPEN,
    "running": Kind.JOB_OPEN,
    "ready": Kind.JOB_OPEN,
    "failed": Kind.JOB_STOPPED,
    "expired": Kind.JOB_STOPPED,
    "unknown": Kind.JOB_UNKNOWN,
    "cancelled": Kind.JOB_CANCELLED,
}


def _add_jobs(report: DayReport, counts: DayCounts) -> None:
    for name, state, code, is_marker, number in counts.jobs():
        if not is_marker:
            _provider(report, name).jobs[state] += number
        if state in _JOB_GAPS:
            # While it is open, a code says why asking after it did not work the last time: no reason of its own.
            kind = Kind.JOB_REFUSED if is_marker else _JOB_GAPS[state]
            report.gaps.append(Gap(kind, None if kind is Kind.JOB_OPEN else code, name, number))
    report.gaps += [Gap(Kind.EVENT, None, name, number) for name, number in counts.events()]


def _stream(provider: str, stream: str, cursors: dict[tuple[str, str], CursorRow], ends_at: datetime) -> StreamDay:
    row = cursors.get((provider, stream))
    times = [] if row is None else [time for time in (row.complete_until, row.watermark) if time is not None]
    return StreamDay(
        provider,
        stream,
        row.complete_until if row else None,
        row.watermark if row else None,
        is_past=any(time >= ends_at for time in times),
    )
