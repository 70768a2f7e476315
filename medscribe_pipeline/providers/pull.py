"""Pulling a listed stream: known records skipped, each page landed in one transaction.

Two paging drivers, because the two kinds of list fail in different ways:

* `pages.pull_pages`: numbered pages of unknown size and order (AudioScribe). Read to the end every time; a record that
  slips between two pages because the list moved is found by the next sync. Pages are prefetched, and those that are
  there already share a transaction.
* `changes.pull_changes`: a list sorted by change time with a lower bound (Askara).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from pydantic import ValidationError

from medscribe_pipeline.errors import (
    Deferred,
    MedscribeError,
    ProviderContractError,
    Rejected,
    Retriable,
    place_of,
)
from medscribe_pipeline.providers.wire import source_id_of
from medscribe_pipeline.warehouse.arrivals import Content, Cursor, Landed, Problem, SourceRecord
from medscribe_pipeline.watching import Pool
from medscribe_pipeline.watching.telemetry import traced

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from medscribe_pipeline.providers.answers import Answer
    from medscribe_pipeline.warehouse.landing import Landing

__all__ = [
    "NO_ID_PATHS",
    "SAME_PAGE_TRIES",
    "UNEXPECTED",
    "Asked",
    "Facts",
    "Misfit",
    "Page",
    "PullReport",
    "Source",
    "Stored",
    "Window",
    "as_stored",
    "items_of",
    "land_items",
    "land_stored",
    "read_facts",
    "retry_waiting",
    "storable",
    "too_many_pages",
]

SAME_PAGE_TRIES = 2
DETAIL_FAILURES_IN_A_ROW = 3
WAITING_LIMIT = 200
MAX_PATHS = 50
"""Misfits of one record that are told; a list of thousands of wrong values says no more than its first ones."""

NO_ID_PATHS = ("id:unusable",)

UNEXPECTED = "unexpected"
"""Code of a record that tripped us in a way nobody foresaw: a mistake of ours. Its path says where in our code."""

_ESCAPE = re.compile(rb"\\(u0000|.)", re.DOTALL)

Stored = tuple[Any, Content]
"""A list item as it can be stored (see `storable`), and its content."""

Asked = tuple[Sequence[Stored], datetime]
"""Items that came together, and when they were asked for."""

Clock = Callable[[], datetime]
Progress = Callable[["PullReport"], None]


@dataclass(frozen=True, slots=True)
class Facts:
    """What landing must know of a record; see `SourceRecord`."""

    updated_at: datetime | None
    visited_at: datetime | None
    parent_id: str | None = None


@dataclass(frozen=True, slots=True)
class Misfit:
    """Why a payload cannot land: a code, and where in it the trouble is."""

    code: str
    paths: tuple[str, ...]


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

    @property
    def taken_on(self) -> int:
        """Records that were news: landed, or newly in quarantine. What was known counts for nothing here."""
        landed = self.landed
        return landed.new + landed.changed + landed.stale + landed.quarantined


@contextmanager
def workers(count: int, name: str, give_up: Callable[[], None]) -> Iterator[ThreadPoolExecutor]:
    """Threads for requests, all ended when the block is.

    Args:
        count: How many.
        name: Prefix of their names.
        give_up: Called when the block fails or is interrupted, before waiting for them: Ctrl-C must not have to wait
            until a server that hangs has been asked for the last time.
    """
    pool = Pool(count, thread_name_prefix=name)
    try:
        yield pool
    except BaseException:
        give_up()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


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
    stored = [as_stored(item) for item in items]
    return land_stored([(stored, sent_at)], source, landing, cursor, pool, report, window, clock)


@traced("medscribe.pull.page")
def land_stored(
    pages: Sequence[Asked],
    source: Source,
    landing: Landing,
    cursor: Cursor | None,
    pool: ThreadPoolExecutor,
    report: PullReport,
    window: Window,
    clock: Clock,
) -> Landed:
    """See `land_items`; of pages that were made ready to be stored, in one transaction."""
    candidates, problems = _identified(pages, source)
    known = landing.known([*candidates, *(problem.source_id for problem in problems)])
    seen = {key for key, (_, content, _) in candidates.items() if key in known and known[key].list_hash == content.hash}
    # What was forgotten on request is not even asked for.
    kept_away = {key for key in candidates if key in known and known[key].forgotten}
    wanted = {
        key: value for key, value in candidates.items() if (window.full or key not in seen) and key not in kept_away
    }
    skipped = [known[key] for key in candidates if key not in wanted]
    unseen = [problem for problem in problems if problem.source_id not in known]
    still_quarantined = sum(skip.quarantined for skip in skipped)
    report.landed.unchanged += len(skipped) - still_quarantined
    report.still_quarantined += still_quarantined + len(problems) - len(unseen)
    records: list[SourceRecord] = []
    failures = 0
    tasks = {key: pool.submit(source.detail, key) for key in wanted} if source.detailed else {}
    try:
        for key, (item, content, sent_at) in wanted.items():
            try:
                payload, fetched_at, facts = _whole(source, key, item, sent_at, tasks.get(key))
            except _MisfitError as misfit:
                unseen.append(_problem(key, misfit.code, misfit.paths, misfit.payload, content.hash))
            except Rejected as error:
                code = "detail_missing" if error.code == "not_found" else "detail_refused"
                unseen.append(_problem(key, code, (), item, content.hash))
            except (Retriable, ProviderContractError) as error:
                # One record whose detail always fails must not stop the others; a provider that is down must.
                failures += 1
                if failures >= DETAIL_FAILURES_IN_A_ROW or isinstance(error, Deferred):
                    raise
                unseen.append(_problem(key, "detail_failed", (), item, content.hash))
            else:
                failures = 0
                records.append(
                    SourceRecord(
                        source_id=key,
                        payload=payload,
                        list_hash=content.hash,
                        updated_at=facts.updated_at,
                        fetched_at=fetched_at,
                        visited_at=facts.visited_at,
                        parent_id=facts.parent_id,
                        content=content if payload is item else None,
                    )
                )
    finally:
        for task in tasks.values():
            task.cancel()
    landed = landing.land(records, unseen, cursor, now=clock())
    report.landed.add(landed)
    return landed


def _identified(
    pages: Sequence[Asked], source: Source
) -> tuple[dict[str, tuple[Any, Content, datetime]], list[Problem]]:
    """Items by their ids, each with its content and when it was asked for; and those that have no id."""
    candidates: dict[str, tuple[Any, Content, datetime]] = {}
    problems: list[Problem] = []
    for items, sent_at in pages:
        for item, content in items:
            source_id = source.identify(item)
            if source_id is None:
                problems.append(_problem(content.hash[:32], "no_id", NO_ID_PATHS, item, content.hash))
            else:
                candidates[source_id] = (item, content, sent_at)
    return candidates, problems


def retry_waiting(
    source: Source,
    landing: Landing,
    report: PullReport,
    clock: Clock,
    threads: int,
    give_up: Callable[[], None] = lambda: None,
) -> None:
    """Asks again for records whose details the provider did not give last time; they may not be listed any more."""
    waiting = landing.waiting_for_detail(WAITING_LIMIT)
    if not waiting:
        return
    with workers(threads, "retry", give_up) as pool:
        items = [item for _, item in waiting]
        # Full: a record that landed meanwhile and has not changed since must leave the quarantine as well.
        land_items(items, clock(), source, landing, None, pool, report, Window(full=True), clock)


def _whole(
    source: Source, source_id: str, item: Any, sent_at: datetime, detail: Future[Answer] | None
) -> tuple[Any, datetime, Facts]:
    """The whole record behind a list item, checked: payload, when it was asked for, facts."""
    if detail is not None:
        return _checked(source, *_answered(source, source_id, detail.result()))
    try:
        return _checked(source, item, sent_at)
    except _MisfitError as error:
        misfit = error
    # A list may cut what the record's own endpoint gives whole: ask once before it goes to quarantine.
    try:
        body, asked_at = _answered(source, source_id, source.detail(source_id))
    except MedscribeError:
        raise misfit from None
    return _checked(source, body, asked_at)


class _MisfitError(Exception):
    """A payload that does not fit the wire model. Never leaves this module, and prints nothing."""

    def __init__(self, payload: Any, code: str, paths: tuple[str, ...]) -> None:
        super().__init__()
        self.payload = payload
        self.code = code
        self.paths = paths


def read_facts(read: Callable[[], Facts]) -> Facts | Misfit:
    """What landing must know of a payload, or why nothing can be known; whatever it holds, nothing is raised."""
    try:
        found = read()
    except ValidationError as error:
        return Misfit("wire_model", field_paths(error))
    except Exception as error:  # noqa: BLE001  # one record that trips us must not stop the others
        return Misfit(UNEXPECTED, (place_of(error),))
    if found.parent_id is not None and source_id_of({"id": found.parent_id}, "id") is None:
        return Misfit("wire_model", ("parent:unusable_id",))
    return found


def _checked(source: Source, payload: Any, fetched_at: datetime) -> tuple[Any, datetime, Facts]:
    found = read_facts(partial(source.facts, payload))
    if isinstance(found, Misfit):
        raise _MisfitError(payload, found.code, found.paths)
    return payload, fetched_at, found


def _answered(source: Source, source_id: str, answer: Answer) -> tuple[Any, datetime]:
    """What a detail answer holds and when it was asked for; it must be the record we asked for."""
    body = storable(answer.body)
    if source.identify(body) not in (source_id, None):
        raise ProviderContractError("The provider answered with another record than asked for", code="other_record")
    return body, answer.sent_at


def storable(value: Any) -> Any:
    """The value with U+FFFD for U+0000: JSON allows it, PostgreSQL stores it neither in text nor in JSONB."""
    return as_stored(value)[0]


def as_stored(value: Any) -> Stored:
    """See `storable`; with the content that was written to find out."""
    content = Content.of(value)
    if b"\\u0000" not in content.written:  # True also for an escaped backslash before the word u0000: no harm
        return value, content
    mended = orjson.loads(_ESCAPE.sub(lambda found: found[0] if found[1] != b"u0000" else b"\\ufffd", content.written))
    return mended, Content.of(mended)


def too_many_pages(max_pages: int) -> ProviderContractError:
    """The list did not end within the ceiling."""
    return ProviderContractError(
        "More pages than MEDSCRIBE_<PROVIDER>_MAX_PAGES; raise it if the account is really that large",
        code="too_many_pages",
        context={"pages": max_pages},
    )


def _problem(source_id: str, code: str, paths: tuple[str, ...], payload: Any, digest: str) -> Problem:
    return Problem(source_id=source_id, code=code, field_paths=paths, payload=payload, payload_hash=digest)


def field_paths(error: ValidationError) -> tuple[str, ...]:
    """Where a payload does not fit, with the kind of misfit: `createdAt:datetime_parsing`. Never what it holds."""
    details = error.errors(include_input=False, include_url=False, include_context=False)[:MAX_PATHS]
    return tuple(f"{'.'.join(str(part) for part in detail['loc'])}:{detail['type']}" for detail in details)
