"""A load that is killed again and again ends as one that nobody disturbed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medscribe_pipeline.warehouse.store import Warehouse
from tests.loading import BEFORE, COMMIT, PAGES, Death, is_whole, load, start, state_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.settings import Settings

KILLED = -9
DEATHS = [
    Death("INSERT INTO source_records", 1, BEFORE),
    Death("INSERT INTO source_records", 2, COMMIT),
    Death("UPDATE change_counter", 2, BEFORE),
    Death("INSERT INTO source_records", 2, COMMIT),
    Death("INSERT INTO notes", 1, BEFORE),
    Death("INSERT INTO note_sections", 1, COMMIT),
    Death("INSERT INTO fhir_documents", 1, COMMIT),
    Death("UPDATE visit_days SET built_seq", 1, BEFORE),
    Death("INSERT INTO transcripts", 1, BEFORE),
    Death("SELECT DISTINCT fhir_documents.note_id", 1, BEFORE),
    Death("UPDATE visit_days SET built_seq", 2, COMMIT),
]


def test_killed_while_pulling_and_building(
    make_settings: Callable[..., Settings], settings: Settings, warehouse: Warehouse
) -> None:
    with Warehouse.open(make_settings()) as undisturbed:
        load(undisturbed, settings)
        expected = state_of(undisturbed)

    codes = start(settings, DEATHS)

    assert codes == [KILLED] * len(DEATHS) + [0]
    assert is_whole(warehouse)
    assert state_of(warehouse) == expected
    assert len(expected["notes"]) == PAGES * 2
    assert len(expected["fhir_documents"]) >= PAGES * 4
