"""Pulling a listed stream: pages in order, known records skipped, each page landed in one transaction.

Two paging drivers, because the two kinds of list fail in different ways:

* `pull_pages`: numbered pages of unknown size and order (AudioScribe). Read to the end every time; a record that
  slips between two pages because the list moved is found by the next sync. Pages are prefetched.
* `pull_changes`: a list sorted by change time with a lower bound (Askara). Reading by page number would lose records
  for ever when the list moves under the reader, because the watermark passes them. So each next request starts at the
  newest change time seen (inclusive), and page numbers only count inside one instant.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from pydantic import ValidationError

from medscribe_pipeline.errors import Deferred, MedscribeError, ProviderContractError, Rejected, Retriable
from medscribe_pipeline.notes import content_hash
from medscribe_pipeline.providers.http import Answer
from medscribe_pipeline.warehouse.landing import Cursor, Landed, Landing, Problem, SourceRecord

__all__ = ["Facts", "Page", "PullReport", "Source", "Window", "land_items", "pull_changes", "pull_pages", "retry_waiting"]

SAME_PAGE_TRIES = 2
DETAIL_FAILURES_IN_A_ROW = 3
WAITING_LIMIT = 200
UNSORTED_PASSES = 3

Clock = Callable[[], datetime]
Progress = Callable[["PullReport"], None]


@dataclass(frozen=True, slots=True)
class Facts:
    """What landing must know of a record; see `SourceRecord`."""

    updated_at: datetime | None
    visited_at: datetime | None
    parent_id: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """The items of one list answer, and when it was asked for."""

    items: list[Any]
    sent_at: datetime


class Source(Protocol):
    """What is special about one stream of one provider."""

    def identify(self, item: Any) -> str | None:
        """The id of a list item, without checking anything else; `None` if it has none."""
        ...

    def facts(self, payload: Any) -> Facts:
        """Checks a payload against the wire model; raises pydantic's `ValidationError`."""
        ...

    detailed: bool
    """Whether list items are only announcements, and each new or changed record has to be asked for."""

    def detail(self, source_id: str) -> Answer:
        """Asks for one whole record."""
        ...


@dataclass(frozen=True, slots=True)
class Window:
    """A window of change times a person asked for; `full` reads everything again. All optional."""

    since: datetime | None = None
    until: datetime | None = None
    full: bool = False

    def covers(self, moment: datetime | None) -> bool:
        """Whether a record of that time is wanted; records without a time always are."""
        if moment is None:
            return True
        return not ((self.since and moment < self.since) or (self.until and moment > self.until))


@dataclass(slots=True)
class PullReport:
    """What one stream's sync did; counts and times only."""

    pages: int = 0
    items: int = 0
    landed: Landed = field(default_factory=Landed)
    still_quarantined: int = 0
    repeated_pages: int = 0
    watermark: datetime | None = None
    complete: bool = False


def items_of(answer: Answer) -> list[Any]:
    """The list in an answer: a bare array, or an object that holds one under `member` (API Platform's JSON-LD).

    Raises:
        ProviderContractError: It is neither.
    """
    body = answer.body
    if isinstance(body, dict):
        body = next((body[key] for key in ("member", "hydra:member") if key in body), None)
    if not isinstance(body, list):
        raise ProviderContractError("A list endpoint answered something that is not a list", code="not_a_list")
    return body


def pull_pages(
    fetch: Callable[[int], Page | None],
    source: Source,
    landing: Landing,
    *,
    first_page: int,
    max_pages: int,
    threads: int,
    window: Window,
    clock: Clock,
    stop_after_known_pages: int = 0,
    created_at: Callable[[Any], datetime | None] = lambda _: None,
    on_progress: Progress = lambda _: None,
) -> PullReport:
    """Reads numbered pages until an empty one (or none at all) and lands them in order.

    Args:
        fetch: Page number to page; `None` past the end.
        source: The stream.
        landing: Where it is written.
        first_page: Number of the first page.
        max_pages: More than that is a loop.
        threads: Pages asked for at once.
        window: Records created outside it are left alone.
        clock: Gives the current time.
        stop_after_known_pages: Stop early after this many pages without news; 0 never.
        created_at: Creation time of a list item, for `window`.
        on_progress: Called after each page.

    Raises:
        ProviderContractError: Pages repeat in a circle, or never end.
    """
    report = PullReport()
    seen: set[str] = set()
    previous: str | None = None
    repeats = quiet = 0
    with ThreadPoolExecutor(threads, thread_name_prefix="pull") as pool:
        for number, page in _prefetched(fetch, pool, first_page, threads, max_pages):
            current = page
            digest = _digest(current)
            for _ in range(SAME_PAGE_TRIES):
                # The same page twice: a hiccup of the server, or one that clamps at its last page. Asking tells.
                if current is None or not current.items or digest not in seen:
                    break
                report.repeated_pages += 1
                current = fetch(number)
                digest = _digest(current)
            if current is None or not current.items:
                report.complete = True
                break
            if digest in seen:
                repeats += 1
                if digest != previous:
                    raise ProviderContractError(
                        "Pages repeat in a circle; check the provider's paging", code="page_circle", context={"page": number}
                    )
                if repeats > 1:  # Three times the same under three numbers: the list ended.
                    report.complete = True
                    break
                continue
            repeats = 0
            seen.add(digest)
            previous = digest
            items = [item for item in current.items if window.covers(created_at(item))]
            landed = land_items(items, current.sent_at, source, landing, None, pool, report, window, clock)
            report.pages += 1
            report.items += len(current.items)
            on_progress(report)
            quiet = 0 if landed.new or landed.changed or landed.quarantined else quiet + 1
            if stop_after_known_pages and quiet >= stop_after_known_pages:
                break
    return report


def _digest(page: Page | None) -> str:
    return "" if page is None else content_hash(page.items)


def _prefetched(
    fetch: Callable[[int], Page | None], pool: ThreadPoolExecutor, first: int, width: int, max_pages: int
) -> Iterator[tuple[int, Page | None]]:
    """Pages in order, at most `width` of them asked for ahead; the window opens slowly, most lists are short."""
    waiting: deque[tuple[int, Future[Page | None]]] = deque()
    following = first
    ahead = 1
    try:
        while True:
            while len(waiting) < ahead:
                waiting.append((following, pool.submit(fetch, following)))
                following += 1
            number, future = waiting.popleft()
            if number - first >= max_pages:
                raise ProviderContractError(
                    "More pages than MEDSCRIBE_<PROVIDER>_MAX_PAGES; raise it if the account is really that large",
                    code="too_many_pages",
                    context={"pages": max_pages},
                )
            yield number, future.result()
            ahead = min(width, ahead + 1)
    finally:
        for _, future in waiting:
            future.cancel()


def pull_changes(
    fetch: Callable[[datetime | None, int], Page],
    source: Source,
    landing: Landing,
    *,
    changed_at: Callable[[Any], datetime | None],
    page_size: int,
    max_pages: int,
    threads: int,
    window: Window,
    lookback: timedelta,
    lag: timedelta,
    clock: Clock,
    on_progress: Progress = lambda _: None,
) -> PullReport:
    """Reads everything changed since the watermark, oldest change first, moving the watermark page by page.

    The watermark never passes what was surely seen: it stays behind the start of the sync by `lag`, each sync
    reads again from `lookback` behind it (inclusive; known records cost a comparison), and it moves with a page only
    while the server honours order and lower bound. A server that ignores them is read whole, until a pass finds nothing new.

    Args:
        fetch: Lower bound of the change time (inclusive; `None` for all) and page number (from 1) to page.
        source: The stream.
        landing: Where it is written, cursor included.
        changed_at: Change time of a list item, `None` if it has none.
        page_size: Items a full page has; a shorter one is the last.
        max_pages: More than that is a loop.
        threads: Details asked for at once.
        window: What a person asked for; a gap to the watermark leaves the watermark alone.
        lookback: Overlap with the last sync.
        lag: Distance the watermark keeps to the start of the sync.
        clock: Gives the current time.
        on_progress: Called after each page.

    Raises:
        ProviderContractError: The list does not end.
    """
    started_at = clock()
    cap = min(started_at - lag, window.until or started_at)
    before = landing.cursor()
    report = PullReport(watermark=before.watermark)
    low = None if window.full or before.watermark is None else before.watermark - lookback
    if window.since is not None:
        low = window.since
    moves = window.since is None or (before.watermark is not None and window.since <= before.watermark)

    with ThreadPoolExecutor(threads, thread_name_prefix="detail") as pool:

        def land(page: Page, cursor: Cursor | None) -> Landed:
            landed = land_items(page.items, page.sent_at, source, landing, cursor, pool, report, window, clock)
            report.pages += 1
            report.items += len(page.items)
            if cursor is not None:
                report.watermark = cursor.watermark
            on_progress(report)
            return landed

        def advanced(times: Sequence[datetime], items: Sequence[Any]) -> Cursor | None:
            if not moves or not times or (report.watermark and min(times[-1], cap) <= report.watermark):
                return None
            return Cursor(min(times[-1], cap), source.identify(items[-1]))

        honoured = _pull_sorted(fetch, land, advanced, changed_at, low, page_size, max_pages)
        if not honoured:
            newest: list[datetime] = []
            for _ in range(UNSORTED_PASSES):
                before_pass = report.landed.new + report.landed.changed
                for page in _all_pages(fetch, low, page_size, max_pages):
                    land(page, None)
                    newest.extend(time for time in map(changed_at, page.items) if time is not None)
                    newest = [max(newest)] if newest else []
                if report.landed.new + report.landed.changed == before_pass:
                    break
            cursor = advanced(newest, [None]) if newest else None
            if cursor is not None:
                landing.land([], [], Cursor(cursor.watermark), now=clock())
                report.watermark = cursor.watermark
    report.complete = True
    return report


def _pull_sorted(
    fetch: Callable[[datetime | None, int], Page],
    land: Callable[[Page, Cursor | None], Landed],
    advanced: Callable[[Sequence[datetime], Sequence[Any]], Cursor | None],
    changed_at: Callable[[Any], datetime | None],
    low: datetime | None,
    page_size: int,
    max_pages: int,
) -> bool:
    """The walk along the change times; `False` when the server turns out not to honour them."""
    number = 1
    for _ in range(max_pages):
        for _ in range(1 + SAME_PAGE_TRIES):
            page = fetch(low, number)
            times = [time for time in map(changed_at, page.items) if time is not None]
            in_order = all(a <= b for a, b in zip(times, times[1:], strict=False))
            if in_order and (low is None or not times or times[0] >= low):
                break
            # A stale page served once looks the same as a server that ignores the order: ask again before believing.
        else:
            return False
        land(page, advanced(times, page.items))
        if len(page.items) < page_size:
            return True
        if times and (low is None or times[-1] > low):
            low, number = times[-1], 1
        else:
            number += 1
    raise ProviderContractError(
        "More pages than MEDSCRIBE_<PROVIDER>_MAX_PAGES; raise it if the account is really that large",
        code="too_many_pages",
        context={"pages": max_pages},
    )


def _all_pages(
    fetch: Callable[[datetime | None, int], Page], low: datetime | None, page_size: int, max_pages: int
) -> Iterator[Page]:
    previous: str | None = None
    for number in range(1, max_pages + 1):
        page = fetch(low, number)
        digest = _digest(page)
        if digest == previous and page.items:
            page = fetch(low, number)
            if _digest(page) == previous:
                raise ProviderContractError("Paging does not advance", code="page_circle", context={"page": number})
            digest = _digest(page)
        yield page
        if len(page.items) < page_size:
            return
        previous = digest


def land_items(
    items: Sequence[Any],
    sent_at: datetime,
    source: Source,
    landing: Landing,
    cursor: Cursor | None,
    pool: ThreadPoolExecutor,
    report: PullReport,
    window: Window,
    clock: Clock,
) -> Landed:
    """Lands the items of a page that are new or changed, asking for details where the stream has them."""
    candidates: dict[str, tuple[Any, str]] = {}
    problems: list[Problem] = []
    for item in items:
        source_id = source.identify(item)
        digest = content_hash(item)
        if source_id is None:
            problems.append(_problem(digest[:32], "no_id", (), item, digest))
        else:
            candidates[source_id] = (item, digest)
    known = landing.known([*candidates, *(problem.source_id for problem in problems)])
    wanted = {key: value for key, value in candidates.items() if window.full or known.get(key) != value[1]}
    unseen = [problem for problem in problems if problem.source_id not in known]
    report.landed.unchanged += len(candidates) - len(wanted)
    report.still_quarantined += len(problems) - len(unseen)
    records: list[SourceRecord] = []
    failures = 0
    tasks = {key: pool.submit(source.detail, key) for key in wanted} if source.detailed else {}
    try:
        for key, (item, digest) in wanted.items():
            try:
                payload, fetched_at, facts = _whole(source, key, item, sent_at, tasks.get(key))
            except ValidationError as error:
                unseen.append(_problem(key, "wire_model", field_paths(error), item, digest))
            except Rejected as error:
                unseen.append(_problem(key, "detail_missing" if error.code == "not_found" else "detail_refused", (), item, digest))
            except (Retriable, ProviderContractError) as error:
                # One record whose detail always fails must not stop the others; a provider that is down must.
                failures += 1
                if failures >= DETAIL_FAILURES_IN_A_ROW or isinstance(error, Deferred):
                    raise
                unseen.append(_problem(key, "detail_failed", (), item, digest))
            else:
                failures = 0
                records.append(
                    SourceRecord(
                        source_id=key,
                        payload=payload,
                        list_hash=digest,
                        updated_at=facts.updated_at,
                        fetched_at=fetched_at,
                        visited_at=facts.visited_at,
                        parent_id=facts.parent_id,
                    )
                )
    finally:
        for task in tasks.values():
            task.cancel()
    landed = landing.land(records, unseen, cursor, now=clock())
    report.landed.add(landed)
    return landed


def retry_waiting(source: Source, landing: Landing, report: PullReport, clock: Clock, threads: int) -> None:
    """Asks again for records whose details the provider did not give last time; they may not be listed any more."""
    waiting = landing.waiting_for_detail(WAITING_LIMIT)
    if not waiting:
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="retry") as pool:
        items = [item for _, item in waiting]
        land_items(items, clock(), source, landing, None, pool, report, Window(), clock)


def _whole(
    source: Source, source_id: str, item: Any, sent_at: datetime, detail: Future[Answer] | None
) -> tuple[Any, datetime, Facts]:
    """The whole record behind a list item, checked: payload, when it was asked for, facts."""
    if detail is not None:
        answer = detail.result()
        return answer.body, answer.sent_at, source.facts(answer.body)
    try:
        return item, sent_at, source.facts(item)
    except ValidationError:
        # A list may cut what the record's own endpoint gives whole: ask once before it goes to quarantine.
        try:
            answer = source.detail(source_id)
        except MedscribeError:
            answer = None
        if answer is None:
            raise
        return answer.body, answer.sent_at, source.facts(answer.body)


def _problem(source_id: str, code: str, paths: tuple[str, ...], payload: Any, digest: str) -> Problem:
    return Problem(source_id=source_id, code=code, field_paths=paths, payload=payload, payload_hash=digest)


def field_paths(error: ValidationError) -> tuple[str, ...]:
    """Where a payload does not fit, with the kind of misfit: `createdAt:datetime_parsing`. Never what it holds."""
    details = error.errors(include_input=False, include_url=False, include_context=False)
    return tuple(f"{'.'.join(str(part) for part in detail['loc'])}:{detail['type']}" for detail in details)
