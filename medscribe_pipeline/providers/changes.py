"""Pulling a list sorted by change time, with a lower bound (Askara): what changed since the watermark.

Reading such a list by page number would lose records for ever when it moves under the reader, because the watermark
passes them. So each next request starts at the newest change time seen (inclusive), and page numbers only count
inside one instant. A server that turns out to ignore order or bound is read whole, by page number.

Where page numbers count, a record is skipped when another one before it leaves the list (edited: it moves to the end;
deleted) between two requests. No single reading can tell. Two readings that show the same records in the same order
can: had a record left during the first one, it would have been seen there and be missing from the second. The
watermark passes only what was read that way.

One thing a list that shows no text cannot tell: two edits within one tick of the provider's clock, with our request
for the record between them. The first text stays until the record's next edit, or a full refresh.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from medscribe_pipeline.errors import ProviderContractError
from medscribe_pipeline.notes import content_hash
from medscribe_pipeline.providers.pull import SAME_PAGE_TRIES, PullReport, land_items, too_many_pages, workers
from medscribe_pipeline.warehouse.arrivals import Cursor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime, timedelta

    from medscribe_pipeline.providers.pull import Clock, Page, Progress, Source, Window
    from medscribe_pipeline.warehouse.landing import Landing

__all__ = ["Order", "pull_changes"]

Order = Literal["asc", "desc"]

PASSES = 3
"""Readings of a part that only page numbers divide; if no two agree by then, the watermark stays before it."""


def pull_changes(
    fetch: Callable[[datetime | None, int, Order], Page],
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
    give_up: Callable[[], None] = lambda: None,
) -> PullReport:
    """Reads everything changed since the watermark, oldest change first, moving the watermark page by page.

    The watermark never passes what was surely seen: it stays behind the start of the sync by `lag`, each sync
    reads again from `lookback` behind it (inclusive; known records cost a comparison), and it moves with a page only
    while the server honours order and lower bound.

    Args:
        fetch: Lower bound of the change time (inclusive; `None` for all), page number (from 1) and order to page.
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
        give_up: See `pull.workers`.

    Raises:
        ProviderContractError: The list does not end, or its pages do not follow each other.
    """
    started_at = clock()
    before = landing.cursor().watermark
    low = None if window.full or before is None else before - lookback
    if window.since is not None:
        low = window.since
    report = PullReport(watermark=before)

    with workers(threads, "detail", give_up) as pool:

        def land(page: Page, cursor: Cursor | None) -> None:
            land_items(page.items, page.sent_at, source, landing, cursor, pool, report, window, clock)
            report.pages += 1
            report.items += len(page.items)
            if cursor is not None:
                report.watermark = cursor.watermark
            on_progress(report)

        def move(cursor: Cursor) -> None:
            landing.land([], [], cursor, now=clock())
            report.watermark = cursor.watermark

        walk = _Walk(fetch, land, move, source, changed_at, page_size, max_pages)
        walk.cap = min(started_at - lag, window.until or started_at)
        walk.watermark = before
        walk.held = window.since is not None and (before is None or window.since > before)
        if not walk.read_sorted(low):
            walk.read_whole(low)
    # Page numbers that no two readings agreed on may hide a record, and so may a window.
    report.complete = not walk.held
    return report


class _Walk:
    """One reading of the list.

    Attributes:
        cap: The watermark does not pass it.
        watermark: Where it stands.
        held: It stays there, because something before the reader may not have been seen.
    """

    cap: datetime
    watermark: datetime | None
    held: bool

    def __init__(
        self,
        fetch: Callable[[datetime | None, int, Order], Page],
        land: Callable[[Page, Cursor | None], None],
        move: Callable[[Cursor], None],
        source: Source,
        changed_at: Callable[[Any], datetime | None],
        page_size: int,
        max_pages: int,
    ) -> None:
        self._fetch = fetch
        self._land = land
        self._move = move
        self._source = source
        self._changed_at = changed_at
        self._page_size = page_size
        self._max_pages = max_pages

    def read_sorted(self, low: datetime | None) -> bool:
        """The walk along the change times; `False` when the server turns out not to honour them."""
        for step in range(self._max_pages):
            page = self._in_order(low, 1)
            if page is None:
                return False
            times = self._times(page)
            if not self._is_last(page) and (not times or (step == 0 and not self._obeys(low, page))):
                return False
            if self._is_last(page) or low is None or times[-1] > low:
                cursor = self._end_of(page)
                self._land(page, cursor)
                self._note(cursor)
                if self._is_last(page):
                    return True
                low = times[-1]
                continue
            last = self._read_instant(low, page)
            if last is None:
                return False
            if self._is_last(last):
                return True
            low = self._times(last)[-1]
        raise too_many_pages(self._max_pages)

    def _read_instant(self, instant: datetime, page: Page) -> Page | None:
        """Reads the pages that one instant fills, from the first one on, until two readings agree.

        Returns:
            The page on which the instant ends, landed; `None` when the server does not honour order or bound.
        """
        first: Page | None = page
        last: Page | None = None
        previous: list[str] | None = None
        for _ in range(PASSES):
            first = first or self._in_order(instant, 1)
            if first is None:
                return None
            last, seen = self._read_instant_once(instant, first)
            if last is None:
                return None
            if seen == previous:
                self._advance(self._end_of(last))
                return last
            first, previous = None, seen
        self.held = True
        return last

    def _read_instant_once(self, instant: datetime, page: Page) -> tuple[Page | None, list[str]]:
        seen: list[str] = []
        for number in range(2, self._max_pages + 2):
            self._land(page, None)
            seen += [content_hash(item) for item in page.items if self._changed_at(item) == instant]
            if self._is_last(page) or any(time > instant for time in self._times(page)):
                return page, seen
            following = self._in_order(instant, number, before=page)
            if following is None:
                return None, seen
            page = following
        raise too_many_pages(self._max_pages)

    def read_whole(self, low: datetime | None) -> None:
        """Reads all pages by number, until two readings agree on everything up to the cap."""
        previous: list[str] | None = None
        for _ in range(PASSES):
            seen: list[str] = []
            newest: datetime | None = None
            for page in self._all_pages(low):
                self._land(page, None)
                for item in page.items:
                    time = self._changed_at(item)
                    if time is None or time <= self.cap:
                        seen.append(content_hash(item))
                    if time is not None and (newest is None or time > newest):
                        newest = time
            moved = self._cursor(newest, None)
            if moved is None:  # Nothing depends on this reading: the next one begins where it began.
                return
            if seen == previous:
                self._advance(moved)
                return
            previous = seen
        self.held = True

    def _all_pages(self, low: datetime | None) -> Iterator[Page]:
        page: Page | None = None
        for number in range(1, self._max_pages + 1):
            page = self._following(low, number, page)
            yield page
            if self._is_last(page):
                return
        raise too_many_pages(self._max_pages)

    def _in_order(self, low: datetime | None, number: int, before: Page | None = None) -> Page | None:
        """A page whose times rise from `low` on; `None` if the server does not give one."""
        for _ in range(1 + SAME_PAGE_TRIES):
            page = self._following(low, number, before)
            times = self._times(page)
            if all(a <= b for a, b in pairwise(times)) and (low is None or not times or times[0] >= low):
                return page
            # A stale page served once looks the same as a server that ignores the order: ask again before believing.
        return None

    def _obeys(self, low: datetime | None, page: Page) -> bool:
        """Whether the order is ours to choose: a list in another order may begin with a page in ours by chance."""
        opposite = self._fetch(low, 1, "desc")
        times = self._times(opposite)
        same_start = bool(opposite.items) and self._source.identify(opposite.items[0]) == self._source.identify(
            page.items[0]
        )
        return bool(times) and times[0] >= self._times(page)[-1] and not same_start

    def _following(self, low: datetime | None, number: int, before: Page | None) -> Page:
        """A page that differs from the one before it."""
        for _ in range(1 + SAME_PAGE_TRIES):
            page = self._fetch(low, number, "asc")
            if before is None or not page.items or page.items != before.items:
                return page
        raise ProviderContractError("Paging does not advance", code="page_circle", context={"page": number})

    def _is_last(self, page: Page) -> bool:
        return len(page.items) < self._page_size

    def _times(self, page: Page) -> list[datetime]:
        return [time for time in map(self._changed_at, page.items) if time is not None]

    def _end_of(self, page: Page) -> Cursor | None:
        times = self._times(page)
        return self._cursor(times[-1], self._source.identify(page.items[-1])) if times else None

    def _cursor(self, newest: datetime | None, signpost: str | None) -> Cursor | None:
        """Where the watermark may move; `None` if it may not, or would not."""
        if self.held or newest is None:
            return None
        reached = min(newest, self.cap)
        if self.watermark is not None and reached <= self.watermark:
            return None
        return Cursor(reached, signpost)

    def _advance(self, cursor: Cursor | None) -> None:
        if cursor is not None:
            self._move(cursor)
        self._note(cursor)

    def _note(self, cursor: Cursor | None) -> None:
        if cursor is not None:
            self.watermark = cursor.watermark
