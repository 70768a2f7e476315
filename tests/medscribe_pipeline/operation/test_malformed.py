"""Thousands of malformed records: each is a note, held with a code, or in quarantine with a code and paths."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import sqlalchemy as sa

from medscribe_pipeline.notes import content_hash
from medscribe_pipeline.operation.replay import replay
from medscribe_pipeline.providers.pull import storable
from medscribe_pipeline.providers.wire import source_id_of
from medscribe_pipeline.sandbox import MARKERS
from medscribe_pipeline.warehouse.quarantine_list import Which, selected_ids
from medscribe_pipeline.warehouse.reports import day_balances
from medscribe_pipeline.warehouse.tables import fhir_documents, notes, quarantine, source_records
from tests.databases import NOW, dump, rows_of
from tests.malformed import LISTED, ORDERED, Malformed, corpus
from tests.medscribe_pipeline.operation.intake import (
    build,
    land_results,
    outcomes,
    pages_of,
    pull,
    reader_of,
    troubles,
)

if TYPE_CHECKING:
    from medscribe_pipeline.operation.replay import ReplayReport
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

LATER = NOW.replace(hour=12)
RESTLESS = ("attempts", "last_seen_at", "run_id", "changed_seq", "built_seq", "value")
"""What says when and how often something was tried."""


def keyed(records: tuple[Malformed, ...]) -> list[tuple[str, Malformed]]:
    """The records with the id each is known by: its own, or a hash of it."""
    name = (records[0].provider, records[0].stream)
    if name in ORDERED:
        return [(f"{record.key}/note", record) for record in records]
    items = [storable(item) for page in pages_of(record.raw for record in records) for item in page]
    keys = [source_id_of(item, LISTED[name]) or content_hash(item)[:32] for item in items]
    return list(zip(keys, records, strict=True))


def take_in(warehouse: Warehouse, settings: Settings, records: tuple[Malformed, ...]) -> None:
    provider, stream = records[0].provider, records[0].stream
    if (provider, stream) in LISTED:
        pull(warehouse, settings, provider, stream, (record.raw for record in records))
    else:
        land_results(warehouse, provider, [(record.key, record.raw) for record in records])
    build(warehouse, settings)


def try_again(warehouse: Warehouse, settings: Settings) -> ReplayReport:
    return replay(warehouse, settings, selected_ids(warehouse, Which()), clock=lambda: LATER)


def mend(warehouse: Warehouse, records: tuple[Malformed, ...]) -> None:
    """Puts what is wrong with the records in quarantine right, wherever each of them is kept."""
    provider, stream = records[0].provider, records[0].stream
    originals = dict(keyed(records))
    with warehouse.begin() as connection:
        for row in troubles(warehouse):
            mended: Any = originals[row["source_id"]].mended
            if (provider, stream) in LISTED and row["error_code"] != "no_id":
                mended = {**mended, LISTED[provider, stream]: row["source_id"]}
            if row["stage"] == "extract":
                connection.execute(sa.update(quarantine).where(quarantine.c.id == row["id"]).values(payload=mended))
                continue
            own = (source_records.c.source_id == row["source_id"],)
            if (provider, stream) in ORDERED:
                landed = connection.execute(sa.select(source_records.c.payload).where(*own)).scalar_one()
                mended = {**landed, "result": mended}
            connection.execute(sa.update(source_records).where(*own).values(payload=mended))


@pytest.mark.parametrize(("provider", "stream"), [*LISTED, *ORDERED])
def test_every_malformed_record_is_accounted_for_and_can_be_mended(
    warehouse: Warehouse, settings: Settings, caplog: pytest.LogCaptureFixture, provider: str, stream: str
) -> None:
    caplog.set_level(logging.DEBUG)
    # Every kind of damage in every third place is enough to find what only one database minds.
    thinned = warehouse.engine.dialect.name != "sqlite"
    records = corpus(provider, stream)[:: 3 if thinned else 1]

    take_in(warehouse, settings, records)

    became = outcomes(warehouse, provider, stream)
    waiting = troubles(warehouse)
    quarantined = {row["source_id"] for row in waiting}
    for key, record in keyed(records):
        outcome, code = became.get(key, ("", None))
        assert outcome in {"note", "part"} or (outcome == "held" and code) or key in quarantined, record.what
    for row in waiting:
        assert row["error_code"]
        assert row["field_paths"]
        assert row["error_code"] != "unexpected", row["field_paths"]
        assert len(orjson.dumps(row["field_paths"])) < 10_000
        told = f"{row['error_code']} {row['field_paths']}"
        assert [marker for marker in MARKERS if marker in told] == []
    assert all(balance.balanced for balance in day_balances(warehouse))
    assert [marker for marker in MARKERS if marker in caplog.text] == []

    before = dump(warehouse, *RESTLESS, "mapped_at", "built_at")
    again = try_again(warehouse, settings)
    assert dump(warehouse, *RESTLESS, "mapped_at", "built_at") == before
    assert (again.rows, sum(again.still.values()), again.left) == (len(waiting), len(waiting), {})

    mend(warehouse, records)
    after = try_again(warehouse, settings)
    # Of an announced record without an id there is nothing but the announcement: the provider has to be asked.
    unasked = sum(row["error_code"] == "no_id" for row in waiting) if has_details(provider, stream) else 0
    assert after.still == {}
    assert sum(after.left.values()) == after.left["asked_by_sync"] == unasked
    assert [row["error_code"] for row in troubles(warehouse)] == ["detail_failed"] * unasked
    assert {outcome for outcome, _ in outcomes(warehouse, provider, stream).values()} <= {"note", "held"}
    assert all(balance.balanced for balance in day_balances(warehouse))


def has_details(provider: str, stream: str) -> bool:
    return (provider, stream) in LISTED and reader_of(provider, stream).detailed


def test_the_sound_ones_of_a_page_are_filed_whatever_stands_beside_them(
    warehouse: Warehouse, settings: Settings
) -> None:
    """Every tenth record of the worst page is sound."""
    records = corpus("audioscribe", "sessions")
    sound = {f"sound-{n}": {**record.mended, "id": f"sound-{n}"} for n, record in enumerate(records[::10])}
    raw = [record.raw for record in records]
    for n, each in enumerate(sound.values()):
        raw.insert(n * 11, orjson.dumps(each))

    pull(warehouse, settings, "audioscribe", "sessions", raw, page=len(raw))
    build(warehouse, settings)

    became = outcomes(warehouse, "audioscribe", "sessions")
    assert {became[key] for key in sound} == {("note", None)}
    built = {row["note_id"] for row in rows_of(warehouse, fhir_documents)}
    assert {row["note_id"] for row in rows_of(warehouse, notes) if row["source_id"] in sound} <= built


def test_the_corpus_is_thousands_and_the_same_every_time() -> None:
    streams = [*LISTED, *ORDERED]
    first = [record.raw for stream in streams for record in corpus(*stream)]
    corpus.cache_clear()

    again = [record.raw for stream in streams for record in corpus(*stream)]

    assert len(again) > 2000
    assert again == first
