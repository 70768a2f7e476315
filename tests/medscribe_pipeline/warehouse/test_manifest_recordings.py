"""What a manifest says about recordings reaches the table, and counts as a change when it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from medscribe_pipeline.visits import VisitRow
from medscribe_pipeline.warehouse.locks import FileLocks
from medscribe_pipeline.warehouse.manifest import import_visits
from medscribe_pipeline.warehouse.store import Warehouse, _create_engine
from medscribe_pipeline.warehouse.tables import change_counter, metadata, visits
from tests.databases import DAYS, NOW, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECORDING: dict[str, Any] = {
    "audio_url": "https://ward.example/audio/1.wav?signature=" + "x" * 1500,
    "audio_path": None,
    "section_style": "bullet_points",
    "split_by_problem": True,
    "diarization": False,
    "category": "telehealth",
}


@pytest.fixture
def anywhere(database_url: str, tmp_path: Path) -> Iterator[Warehouse]:
    engine = _create_engine(sa.make_url(database_url))
    with engine.begin() as connection:
        metadata.create_all(connection)
        connection.execute(sa.insert(change_counter).values(id=1, value=0))
    with Warehouse(engine, account="default", locks=FileLocks(tmp_path / "locks")) as warehouse:
        yield warehouse


def test_every_column_is_written(anywhere: Warehouse) -> None:
    import_visits(anywhere, [VisitRow("nabla", "k", **RECORDING)], days=DAYS, now=NOW)

    (row,) = rows_of(anywhere, visits)
    assert {name: row[name] for name in RECORDING} == RECORDING


@pytest.mark.parametrize(
    "change",
    [
        {"audio_url": None},
        {"audio_path": "1.wav"},
        {"section_style": "auto"},
        {"split_by_problem": None},
        {"diarization": None},
        {"diarization": True},
        {"category": None},
    ],
)
def test_a_change_of_any_column_is_a_change(anywhere: Warehouse, change: dict[str, Any]) -> None:
    import_visits(anywhere, [VisitRow("nabla", "k", **RECORDING)], days=DAYS, now=NOW)

    same = import_visits(anywhere, [VisitRow("nabla", "k", **RECORDING)], days=DAYS, now=NOW)
    other = import_visits(anywhere, [VisitRow("nabla", "k", **{**RECORDING, **change})], days=DAYS, now=NOW)

    assert ((same.changed, same.unchanged), (other.changed, other.unchanged)) == ((0, 1), (1, 0))
    (row,) = rows_of(anywhere, visits)
    assert {name: row[name] for name in RECORDING} == {**RECORDING, **change}
