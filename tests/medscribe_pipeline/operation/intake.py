"""Records into a warehouse by the code that reads what a provider answers, and through mapping to FHIR documents."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.errors import Rejected
from medscribe_pipeline.fhir.build import build_day
from medscribe_pipeline.notes import content_hash
from medscribe_pipeline.pipeline import due_days, finish_day
from medscribe_pipeline.providers.answers import parse_json
from medscribe_pipeline.providers.build import build_notes
from medscribe_pipeline.providers.catalogue import PROVIDERS, Reader
from medscribe_pipeline.providers.pull import Facts, PullReport, Window, land_items, storable
from medscribe_pipeline.providers.wire import source_id_of
from medscribe_pipeline.warehouse.arrivals import SourceRecord
from medscribe_pipeline.warehouse.tables import quarantine, source_records
from tests.databases import NOW, landing_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from medscribe_pipeline.providers.answers import Answer
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

PAGE = 100


@dataclass
class Offline:
    """A stream without its provider: what is listed is all there is."""

    reader: Reader
    settings: Settings
    detailed: bool = False

    def identify(self, item: Any) -> str | None:
        return source_id_of(item, self.reader.id_field)

    def facts(self, payload: Any) -> Facts:
        return self.reader.facts(payload, self.settings, None)

    def detail(self, _source_id: str) -> Answer:
        raise Rejected("Nothing is asked for here.", code="not_found", status=404)


def reader_of(provider: str, stream: str) -> Reader:
    reader = PROVIDERS[provider].stream(stream).reader
    assert reader is not None
    return reader


def pages_of(raw: Iterable[bytes], page: int = PAGE) -> Iterator[list[Any]]:
    """Records as they are read out of answers of so many each."""
    records = list(raw)
    for start in range(0, len(records), page):
        yield parse_json(b"[" + b",".join(records[start : start + page]) + b"]")


def pull(
    warehouse: Warehouse,
    settings: Settings,
    provider: str,
    stream: str,
    raw: Iterable[bytes],
    at: datetime = NOW,
    page: int = PAGE,
) -> PullReport:
    """Lands records, in pages, as a pull does."""
    source = Offline(reader_of(provider, stream), settings)
    landing = landing_for(warehouse, provider, stream)
    report = PullReport()
    with ThreadPoolExecutor(1) as pool:
        for items in pages_of(raw, page):
            land_items(items, at, source, landing, None, pool, report, Window(), lambda: at)
    return report


def land_results(warehouse: Warehouse, provider: str, results: Sequence[tuple[str, bytes]], at: datetime = NOW) -> None:
    """Lands results of jobs, as the ledger does; by correlation key."""
    records = []
    for key, raw in results:
        payload = {
            "job_key": f"{key}/note",
            "correlation_key": key,
            "step": "note",
            "client_request_id": "r-1",
            "request": {},
            "result": storable(parse_json(raw)),
        }
        records.append(
            SourceRecord(
                source_id=f"{key}/note",
                payload=payload,
                list_hash=content_hash(payload),
                updated_at=None,
                fetched_at=at,
                visited_at=None,
                parent_id=key,
            )
        )
    landing_for(warehouse, provider, "results").land(records, [], None, now=at)


def build(warehouse: Warehouse, settings: Settings, at: datetime = NOW) -> None:
    """Maps and builds everything that is due."""
    for day, _ in due_days(warehouse, settings):
        build_notes(warehouse, settings, day, clock=lambda: at)
        build_day(warehouse, settings, day, clock=lambda: at)
        finish_day(warehouse, settings, day)


def outcomes(warehouse: Warehouse, provider: str, stream: str) -> dict[str, tuple[str, str | None]]:
    """What became of each landed record."""
    records = source_records.c
    query = sa.select(records.source_id, records.outcome, records.outcome_code).where(
        records.provider == provider, records.stream == stream
    )
    with warehouse.read() as connection:
        return {key: (outcome, code) for key, outcome, code in connection.execute(query)}


def troubles(warehouse: Warehouse, *, closed: bool = False) -> list[dict[str, Any]]:
    """The rows of the quarantine that are open; with `closed`, those that are not."""
    condition = quarantine.c.resolved_at.is_not(None) if closed else quarantine.c.resolved_at.is_(None)
    with warehouse.read() as connection:
        return [
            row._asdict()
            for row in connection.execute(sa.select(quarantine).where(condition).order_by(quarantine.c.id))
        ]
