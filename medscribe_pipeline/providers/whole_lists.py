"""Everything a provider still lists, page by page: what a sweep compares with what has landed.

The lists are those the streams are pulled from. A list that moves while it is read may hide a record between two pages;
whoever misses one asks for it before believing that it is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from medscribe_pipeline.errors import ProviderContractError
from medscribe_pipeline.notes import content_hash
from medscribe_pipeline.providers import askara, audioscribe
from medscribe_pipeline.providers.pull import SAME_PAGE_TRIES, too_many_pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from medscribe_pipeline.providers.http import HttpClient
    from medscribe_pipeline.providers.pull import Page, Source
    from medscribe_pipeline.settings import Settings

__all__ = ["ASKARA_AUDIOS", "ASKARA_NOTES", "AUDIOSCRIBE_SESSIONS", "WholeList", "every_page"]


@dataclass(frozen=True, slots=True)
class WholeList:
    """How all records of a stream are listed.

    Attributes:
        pages: All pages; of records that changed before the time given, as many as the provider likes may be missing.
        source: What is special about the stream; its `detail` asks for one record.
        detail: Whether a single record can be asked for.
        offered: Whether the settings let the stream be listed at all.
    """

    pages: Callable[[HttpClient, Settings, datetime | None], Iterator[Page]]
    source: Callable[[HttpClient, Settings], Source]
    detail: bool = True
    offered: Callable[[Settings], bool] = lambda _: True


def every_page(
    fetch: Callable[[int], Page | None], *, first_page: int, max_pages: int, page_size: int | None = None
) -> Iterator[Page]:
    """Numbered pages until the list ends: at an empty page or none, a short one, or the last one again and again.

    Args:
        fetch: Page number to page; `None` past the end.
        first_page: Number of the first page.
        max_pages: More than that is a loop.
        page_size: Items of a full page, where that is known.

    Raises:
        ProviderContractError: Pages repeat in a circle, or never end.
    """
    seen: set[str] = set()
    previous = ""
    for number in range(first_page, first_page + max_pages):
        page = fetch(number)
        for _ in range(SAME_PAGE_TRIES):
            # The same page twice: a hiccup of the server, or one that clamps at its last page. Asking tells.
            if page is None or not page.items or content_hash(page.items) not in seen:
                break
            page = fetch(number)
        if page is None or not page.items:
            return
        digest = content_hash(page.items)
        if digest in seen:
            if digest == previous:
                return
            raise ProviderContractError(
                "Pages repeat in a circle; check the provider's paging", code="page_circle", context={"page": number}
            )
        seen.add(digest)
        previous = digest
        yield page
        if page_size is not None and len(page.items) < page_size:
            return
    raise too_many_pages(max_pages)


def _sessions(client: HttpClient, settings: Settings, _since: datetime | None) -> Iterator[Page]:
    own = settings.audioscribe
    source = audioscribe.SessionSource(client, settings)
    return every_page(source.page, first_page=own.first_page, max_pages=own.max_pages)


def _askara(
    resource: str, *extra: tuple[str, str]
) -> Callable[[HttpClient, Settings, datetime | None], Iterator[Page]]:
    def pages(client: HttpClient, settings: Settings, since: datetime | None) -> Iterator[Page]:
        own = settings.askara

        def fetch(number: int) -> Page:
            # What was made since then was changed since then.
            return askara.list_page(client, resource, own, number, "asc", "updatedAt", since, extra=extra)

        return every_page(fetch, first_page=1, max_pages=own.max_pages, page_size=own.page_size)

    return pages


def _audios(client: HttpClient, settings: Settings, since: datetime | None) -> Iterator[Page]:
    """Whether the list holds archived audios is not documented, so they are asked for, too."""
    passes = (_askara(askara.AUDIOS), _askara(askara.AUDIOS, askara.ARCHIVED))
    return chain.from_iterable(pages(client, settings, since) for pages in passes)


AUDIOSCRIBE_SESSIONS = WholeList(_sessions, audioscribe.SessionSource)
ASKARA_AUDIOS = WholeList(_audios, askara.AudioSource)
ASKARA_NOTES = WholeList(
    _askara(askara.NOTES), askara.NoteSource, offered=lambda settings: settings.askara.notes_by == "list"
)
