"""How many records of a day a provider itself counts, and whether we have them, asked with one request a stream.

Askara's lists can be bounded by the time a record was created, and give either a total or a page: fewer than a page is
an exact number, a full page says that there are at least as many. What the page lists is looked up by id, because a
record may belong to another visit day than that of its creation. AudioScribe's list has neither a bound nor a total,
and providers that work on order have no list: there the ledger of jobs is all that can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.providers import askara
from medscribe_pipeline.providers.catalogue import PROVIDERS
from medscribe_pipeline.providers.pull import items_of
from medscribe_pipeline.providers.wire import source_id_of, wire_time
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import quarantine, source_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["NO_COUNT", "OwnCount", "ask_own_counts"]

NO_COUNT = "no_count"
"""Code of a stream whose list cannot be counted in one request."""

_TOTALS = ("totalItems", "hydra:totalItems")


@dataclass(frozen=True, slots=True)
class OwnCount:
    """What a provider says of one stream and day.

    Attributes:
        provider: Name of the provider.
        stream: Name of the stream.
        counted: How many records it created on that day; `None` where that cannot be had.
        at_least: Whether there may be more: the page was full, and no total was given.
        listed: How many of them it named.
        missing: How many of those have neither landed nor wait in quarantine.
        code: Why there is no count: `no_count`, or the code of what went wrong.
    """

    provider: str
    stream: str
    counted: int | None = None
    at_least: bool = False
    listed: int = 0
    missing: int = 0
    code: str | None = None


def ask_own_counts(
    warehouse: Warehouse, settings: Settings, starts_at: datetime, ends_at: datetime
) -> Iterator[OwnCount]:
    """Asks each configured provider that has lists for the records it created from `starts_at` to before `ends_at`.

    What goes wrong is told by its code and stops nothing.
    """
    for name in settings.providers:
        for stream in PROVIDERS[name].streams:
            if name != askara.NAME:
                yield OwnCount(name, stream.name, code=NO_COUNT)
                continue
            try:
                found = _ask_askara(warehouse, settings, stream.name, starts_at, ends_at)
            except MedscribeError as error:
                found = OwnCount(name, stream.name, code=error.code)
            yield found


def _ask_askara(
    warehouse: Warehouse, settings: Settings, stream: str, starts_at: datetime, ends_at: datetime
) -> OwnCount:
    page_size = settings.askara.page_size
    params = [
        ("page", "1"),
        ("itemsPerPage", str(page_size)),
        ("createdAt[gte]", wire_time(starts_at)),
        ("createdAt[lt]", wire_time(ends_at)),
    ]
    with PROVIDERS[askara.NAME].open_client(settings, warehouse) as client:
        answer = client.get_json(f"/{stream}", params)
    items = items_of(answer)
    ids = sorted({found for item in items if (found := source_id_of(item, "uuid")) is not None})
    total = _total(answer.body)
    return OwnCount(
        askara.NAME,
        stream,
        counted=len(items) if total is None else total,
        at_least=total is None and len(items) >= page_size,
        listed=len(items),
        missing=len(ids) - _known(warehouse, askara.NAME, stream, ids),
    )


def _total(body: Any) -> int | None:
    """The total that API Platform's JSON-LD gives beside a page."""
    given = [body.get(name) for name in _TOTALS] if isinstance(body, dict) else []
    return next((each for each in given if isinstance(each, int) and not isinstance(each, bool) and each >= 0), None)


def _known(warehouse: Warehouse, provider: str, stream: str, ids: Sequence[str]) -> int:
    """How many of these records have landed, or could not and are in quarantine."""
    known: set[str] = set()
    with warehouse.read() as connection:
        for table in (source_records, quarantine):
            own = [table.c.account == warehouse.account, table.c.provider == provider, table.c.stream == stream]
            for chunk in in_chunks(ids):
                known.update(connection.scalars(sa.select(table.c.source_id).where(*own, table.c.source_id.in_(chunk))))
    return len(known)
