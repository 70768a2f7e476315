"""What is wrong with stored documents is found in the documents themselves, on both databases."""

from __future__ import annotations

import copy
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from medscribe_pipeline.fhir.build import build_day
from medscribe_pipeline.fhir.faults import FAULTS, find_faults
from medscribe_pipeline.providers.build import build_notes
from medscribe_pipeline.settings import FhirSettings
from medscribe_pipeline.warehouse.tables import fhir_documents, notes
from tests.databases import NOW, TODAY, landing_for, record, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

YESTERDAY = TODAY - timedelta(days=1)


@pytest.fixture
def built(warehouse: Warehouse, settings: Settings) -> Warehouse:
    """Drafts of two days, with their documents."""
    return build(warehouse, settings)


def build(warehouse: Warehouse, settings: Settings) -> Warehouse:
    for number, at in ((1, NOW), (2, NOW), (3, NOW - timedelta(days=1))):
        payload = {"id": number, "note": "Plan:\nRest.", "createdAt": at.isoformat()}
        item = record(str(number), payload=payload, visited_at=at)
        landing_for(warehouse, "audioscribe", "sessions").land([item], [], None, now=NOW)
    for day in (YESTERDAY, TODAY):
        build_notes(warehouse, settings, day, clock=lambda: NOW)
        build_day(warehouse, settings, day, clock=lambda: NOW)
    return warehouse


def documents(warehouse: Warehouse, kind: str, day: Any = TODAY) -> list[dict[str, Any]]:
    """The stored documents of a kind and day, in the order of their notes."""
    rows = [row for row in rows_of(warehouse, fhir_documents) if (row["kind"], row["visit_day"]) == (kind, day)]
    return sorted(rows, key=lambda row: str(row["note_id"]))


def change(warehouse: Warehouse, row: dict[str, Any], edit: Callable[[dict[str, Any]], None]) -> None:
    """Edits a stored document."""
    resource = copy.deepcopy(row["resource"])
    edit(resource)
    with warehouse.begin() as connection:
        connection.execute(
            sa.update(fhir_documents)
            .where(fhir_documents.c.note_id == row["note_id"], fhir_documents.c.kind == row["kind"])
            .values(resource=resource)
        )


@pytest.mark.parametrize("release", ["R4", "R5"])
def test_documents_as_they_are_built_have_no_fault(
    warehouse: Warehouse, make_settings: Callable[..., Settings], release: str
) -> None:
    settings = make_settings(fhir=FhirSettings(release=release, transcripts=True))
    build(warehouse, settings)

    assert find_faults(warehouse) == {}
    assert len(documents(warehouse, "DocumentReference")) == 2


def test_two_notes_with_one_identifier_are_found_in_either_document(built: Warehouse) -> None:
    for kind in ("Composition", "DocumentReference"):
        one, other = documents(built, kind)
        change(built, other, lambda resource, one=one: resource.update(identifier=one["resource"]["identifier"]))  # type: ignore[misc]  # mypy knows no defaults of lambdas

    assert find_faults(built, [TODAY]) == {"identifier_shared": 2, "identifier_foreign": 2}


def test_an_identifier_of_a_note_of_another_day_is_found_without_reading_that_day(built: Warehouse) -> None:
    (other,) = documents(built, "DocumentReference", YESTERDAY)
    own = documents(built, "DocumentReference")[0]
    change(built, own, lambda resource: resource.update(masterIdentifier=other["resource"]["masterIdentifier"]))

    assert find_faults(built, [TODAY]) == {"identifier_foreign": 1}
    assert find_faults(built, [YESTERDAY]) == {}
    assert find_faults(built) == {"identifier_foreign": 1}


def test_a_document_without_its_identifier_is_found(built: Warehouse) -> None:
    change(built, documents(built, "Composition")[0], lambda resource: resource.pop("identifier"))

    assert find_faults(built) == {"identifier_foreign": 1}


@pytest.mark.parametrize(
    ("kind", "claim"),
    [
        ("Composition", {"status": "final"}),
        ("Composition", {"status": "amended"}),
        ("Composition", {"attester": [{"mode": "legal"}]}),
        ("DocumentReference", {"docStatus": "final"}),
    ],
)
def test_text_nobody_validated_that_claims_it_was_is_found(built: Warehouse, kind: str, claim: dict[str, Any]) -> None:
    change(built, documents(built, kind)[0], lambda resource: resource.update(claim))

    assert find_faults(built) == {"unreviewed_as_final": 1}
    with built.begin() as connection:
        connection.execute(sa.update(notes).values(state="validated"))
    assert find_faults(built) == {}


def test_documents_of_another_version_are_not_sent_and_not_looked_at(built: Warehouse) -> None:
    row = documents(built, "DocumentReference")[0]
    change(built, row, lambda resource: resource.update(docStatus="final"))
    with built.begin() as connection:
        connection.execute(sa.update(notes).where(notes.c.note_id == row["note_id"]).values(version=uuid.uuid4().hex))

    assert find_faults(built) == {}


def test_every_fault_is_explained() -> None:
    assert all(text.endswith(".") for text in FAULTS.values())
