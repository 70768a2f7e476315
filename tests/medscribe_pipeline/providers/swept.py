"""Helpers of the tests of sweeps: providers of the sandbox, pulled into a warehouse, and what became of a note."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.fhir.build import build_day
from medscribe_pipeline.providers.build import build_notes
from medscribe_pipeline.providers.catalogue import PROVIDERS
from medscribe_pipeline.providers.pull import Window
from medscribe_pipeline.providers.sweep import StreamSweep, sweep_provider
from medscribe_pipeline.providers.sync import sync_stream
from medscribe_pipeline.sandbox import CorpusOptions
from medscribe_pipeline.settings import AskaraSettings, AudioScribeSettings
from medscribe_pipeline.warehouse.tables import notes, source_records, visit_days

if TYPE_CHECKING:
    from medscribe_pipeline.sandbox import Sandbox
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

CORPUS = CorpusOptions(days=2, audios_per_day=6, sessions_per_day=6, recordings=0)


def now() -> datetime:
    return datetime.now(UTC)


def settings_for(sandbox: Sandbox, settings: Settings, **changes: Any) -> Settings:
    """Settings that point to the sandbox; AudioScribe's notes count as reviewed, so that they could be delivered."""
    tokens = {name: value for name, value in sandbox.environment().items() if name.endswith("_TOKEN")}
    polite: dict[str, Any] = {"max_attempts": 1, "timeout_s": 5}
    return settings.model_copy(
        update={
            "askara": AskaraSettings(
                base_url=sandbox.askara_url, token=tokens["MEDSCRIBE_ASKARA_TOKEN"], page_size=5, **polite
            ),
            "audioscribe": AudioScribeSettings(
                base_url=sandbox.audioscribe_url, token=tokens["MEDSCRIBE_AUDIOSCRIBE_TOKEN"], reviewed=True, **polite
            ),
            **changes,
        }
    )


def pull(warehouse: Warehouse, settings: Settings, provider: str, *, full: bool = False) -> None:
    """Pulls all streams and builds what is due, notes and documents."""
    for stream in PROVIDERS[provider].streams:
        sync_stream(warehouse, settings, provider, stream.name, Window(full=full), clock=now)
    build(warehouse, settings)


def build(warehouse: Warehouse, settings: Settings) -> None:
    with warehouse.read() as connection:
        days = list(connection.scalars(sa.select(visit_days.c.visit_day)))
    for day in days:
        build_notes(warehouse, settings, day, clock=now)
        build_day(warehouse, settings, day, clock=now)


def sweep(warehouse: Warehouse, settings: Settings, provider: str, **changes: Any) -> dict[str, StreamSweep]:
    found = sweep_provider(warehouse, settings, provider, clock=changes.pop("clock", now), **changes)
    return {each.stream: each for each in found}


def note_of(warehouse: Warehouse, source_id: str) -> sa.Row[Any]:
    with warehouse.read() as connection:
        return connection.execute(sa.select(notes).where(notes.c.source_id == source_id)).one()


def record_of(warehouse: Warehouse, source_id: str) -> sa.Row[Any]:
    with warehouse.read() as connection:
        return connection.execute(sa.select(source_records).where(source_records.c.source_id == source_id)).one()


def landed_ids(warehouse: Warehouse, stream: str) -> list[str]:
    """Source ids of the landed records that became a note, sorted."""
    query = sa.select(notes.c.source_id).where(notes.c.stream == stream, notes.c.state == "validated", notes.c.has_text)
    with warehouse.read() as connection:
        return sorted(connection.scalars(query))
