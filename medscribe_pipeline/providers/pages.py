"""Numbered pages, each read once and landed in order, from the first one to the end of the list.

Where they come faster than they are landed, several are landed at once: a transaction costs as much as dozens
of records.
"""

from __future__ import annotations

from collections import deque
from hashlib import sha256
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from medscribe_pipeline.errors import ProviderContractError
from medscribe_pipeline.providers.pull import (
    SAME_PAGE_TRIES,
    PullReport,
    as_stored,
    land_stored,
    too_many_pages,
    workers,
)
from medscribe_pipeline.warehouse.arrivals import Landed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future, ThreadPoolExecutor
    from datetime import datetime

    from medscribe_pipeline.providers.pull import Asked, Clock, Page, Progress, Source, Stored, Window
    from medscribe_pipeline.warehouse.landing import Landing

__all__ = ["pull_pages"]

ENOUGH = 1000
"""Records after which no further page is waited for, though it is there: more cost memory and gain nothing."""


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
    expected: int = 0,
    stop_after_known_pages: int = 0,
    created_at: Callable[[Any], datetime | None] = lambda _: None,
    on_progress: Progress = lambda _: None,
    give_up: Callable[[], None] = lambda: None,
) -> PullReport:
    """Reads numbered pages until an empty one (or none at all) and lands them in order.

    Args:
        fetch: Page number to page; `None` past the end.
        source: The stream.
        landing: Where it is written.
        first_page: Number of the first page.
        max_pages: More than that is a loop.
        threads: Pages asked for at once, and landed at once at most.
        window: Records created outside it are left alone.
        clock: Gives the current time.
        expected: How many records there were the last time: pages after as many are not asked for ahead. 0: not known.
        stop_after_known_pages: Stop early after this many pages without news; 0 never.
        created_at: Creation time of a list item, for `window`.
        on_progress: Called for each page, once it is landed.
        give_up: See `workers`.

    Raises:
        ProviderContractError: Pages repeat in a circle, or never end.
    """
    report = PullReport()
    quiet = 0
    with workers(threads, "pull", give_up) as pool:
        # A source that is asked for each record fails by pages, and an early stop counts them.
        most = 1 if source.detailed or stop_after_known_pages else threads
        together = _Together(source, landing, pool, report, window, clock, on_progress)
        try:
            prefetched = _prefetched(fetch, pool, first_page, threads, max_pages, expected)
            for page, more in _fresh(fetch, prefetched, report):
                items = page.items
                if window.since or window.until:
                    items = [(item, content) for item, content in items if window.covers(created_at(item))]
                together.add(items, page.sent_at, len(page.items))
                if more and together.pages < most and together.records < ENOUGH:
                    continue
                landed = together.land()
                quiet = 0 if landed.new or landed.changed or landed.quarantined else quiet + 1
                if stop_after_known_pages and quiet >= stop_after_known_pages:
                    break
        except Exception:
            # What came before is kept.
            together.land()
            raise
        together.land()
    return report


class _Together:
    """Pages that were there already when the one before was ready: they share a transaction.

    Args:
        source: The stream.
        landing: Where they are written.
        pool: For details.
        report: Counts them once they are landed.
        window: What is wanted.
        clock: Gives the current time.
        on_progress: Called for each once it is landed.
    """

    def __init__(
        self,
        source: Source,
        landing: Landing,
        pool: ThreadPoolExecutor,
        report: PullReport,
        window: Window,
        clock: Clock,
        on_progress: Progress,
    ) -> None:
        self._source = source
        self._how = (source, landing, None, pool, report, window, clock)
        self._report = report
        self._on_progress = on_progress
        self._pages: list[Asked] = []
        self._listed: list[int] = []
        self._keys: set[str] = set()

    @property
    def pages(self) -> int:
        """How many there are."""
        return len(self._pages)

    @property
    def records(self) -> int:
        """How many were listed on them."""
        return sum(self._listed)

    def add(self, items: Sequence[Stored], sent_at: datetime, listed: int) -> None:
        """Adds a page of as many listed items; lands what is there if it has one of the same records, as it was then.

        Lists move while they are read, and what is on two of their pages may have changed in between.
        """
        keys = {self._source.identify(item) or content.hash for item, content in items}
        if not keys.isdisjoint(self._keys):
            self.land()
        self._keys |= keys
        self._pages.append((items, sent_at))
        self._listed.append(listed)

    def land(self) -> Landed:
        """Lands them, if there are any. Whether or not that succeeds, there are none afterwards."""
        pages, listed = self._pages, self._listed
        self._pages, self._listed, self._keys = [], [], set()
        landed = land_stored(pages, *self._how) if pages else Landed()
        for number in listed:
            self._report.pages += 1
            self._report.items += number
            self._on_progress(self._report)
        return landed


def _fresh(
    fetch: Callable[[int], Page | None], pages: Iterator[tuple[int, Page | None, bool]], report: PullReport
) -> Iterator[tuple[_ReadPage, bool]]:
    """Pages that were not there before, up to the end of the list; see `_prefetched`."""
    seen: set[str] = set()
    previous: str | None = None
    repeats = 0
    for number, page, more in pages:
        current = _read(page)
        for _ in range(SAME_PAGE_TRIES):
            # The same page twice: a hiccup of the server, or one that clamps at its last page. Asking tells.
            if current is None or current.digest not in seen:
                break
            report.repeated_pages += 1
            current = _read(fetch(number))
        if current is None:
            report.complete = True
            return
        digest = current.digest
        if digest in seen:
            repeats += 1
            if digest != previous:
                raise ProviderContractError(
                    "Pages repeat in a circle; check the provider's paging",
                    code="page_circle",
                    context={"page": number},
                )
            if repeats > 1:  # Three times the same under three numbers: the list ended.
                report.complete = True
                return
            continue
        repeats = 0
        seen.add(digest)
        previous = digest
        yield current, more


class _ReadPage(NamedTuple):
    """A page with at least one item, as it can be stored.

    Attributes:
        items: Its items.
        sent_at: When it was asked for.
        digest: What tells it from other pages.
    """

    items: list[Stored]
    sent_at: datetime
    digest: str


def _read(page: Page | None) -> _ReadPage | None:
    # Not in the threads that ask: they would wait for each other's turn at the interpreter longer than it takes.
    if page is None or not page.items:
        return None
    items = [as_stored(item) for item in page.items]
    digest = sha256("".join(content.hash for _, content in items).encode()).hexdigest()
    return _ReadPage(items, page.sent_at, digest)


def _prefetched(
    fetch: Callable[[int], Page | None],
    pool: ThreadPoolExecutor,
    first: int,
    width: int,
    max_pages: int,
    expected: int,
) -> Iterator[tuple[int, Page | None, bool]]:
    """Pages in order, each with its number and whether the next one is there already.

    At most `width` of them are asked for ahead; the window opens slowly, most lists are short.
    Pages past the end of the list are asked for in vain, so none is asked for ahead where the end is near: after the
    page with which as many records as `expected` have come, or after one with fewer records than others had.
    """
    waiting: deque[tuple[int, Future[Page | None]]] = deque()
    following = first
    ahead = 1
    fullest = 0
    end: float = inf
    try:
        while True:
            while not waiting or (len(waiting) < ahead and following <= end):
                waiting.append((following, pool.submit(fetch, following)))
                following += 1
            number, future = waiting.popleft()
            if number - first >= max_pages:
                raise too_many_pages(max_pages)
            page = future.result()
            yield number, page, bool(waiting) and waiting[0][1].done()
            size = len(page.items) if page else 0
            if number == first and size and expected:
                end = first + -(-expected // size)
            elif number >= end and size >= fullest:
                end = inf  # There is more than there was.
            ahead = min(width, ahead + 1) if size >= fullest else 1
            fullest = max(size, fullest)
    finally:
        for _, future in waiting:
            future.cancel()
