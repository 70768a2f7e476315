from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from medscribe_pipeline.ehr.client import EntryOutcome
from medscribe_pipeline.ehr.ledger import COMPOSITION, DOCUMENT_REFERENCE, KINDS, Copy, Key, State
from medscribe_pipeline.ehr.sending import Shipment, create_bundle, judge, update_bundle
from medscribe_pipeline.fhir import build_documents, check
from tests.fhir_options import options
from tests.medscribe_pipeline.ehr.clinic import note

STANDING = {COMPOSITION: Copy("c-1", 'W/"3"'), DOCUMENT_REFERENCE: Copy("d-1", 'W/"4"')}


def shipment() -> Shipment:
    documents = build_documents(note(1), options())
    resources = {COMPOSITION: documents.composition, DOCUMENT_REFERENCE: documents.document_reference}
    return Shipment(Key("ehr", str(note(1).note_id), note(1).version), resources)


def outcomes(*statuses: int, server_id: str | None = "x-1") -> list[EntryOutcome]:
    return [EntryOutcome(status, server_id, 'W/"1"', ("value",) if status >= 400 else ()) for status in statuses]


def test_the_first_delivery_creates_both_unless_the_note_is_there() -> None:
    bundle = create_bundle(shipment())

    check(bundle)
    system = "https://example.org/fhir/sid/askara/default/note"
    condition = f"identifier={system}%7C{note(1).note_id}"
    assert [entry["request"] for entry in bundle["entry"]] == [
        {"method": "POST", "url": kind, "ifNoneExist": condition} for kind in KINDS
    ]
    assert len({entry["fullUrl"] for entry in bundle["entry"]}) == 2
    assert bundle == create_bundle(shipment())


def test_an_update_names_the_copies_it_replaces_and_leaves_the_stored_json_alone() -> None:
    leaving = shipment()
    stored: dict[str, Any] = copy.deepcopy(dict(leaving.resources))

    bundle = update_bundle(leaving, STANDING)

    check(bundle)
    assert [entry["request"] for entry in bundle["entry"]] == [
        {"method": "PUT", "url": "Composition/c-1", "ifMatch": 'W/"3"'},
        {"method": "PUT", "url": "DocumentReference/d-1", "ifMatch": 'W/"4"'},
    ]
    assert [entry["resource"]["id"] for entry in bundle["entry"]] == ["c-1", "d-1"]
    assert leaving.resources == stored


def test_an_update_in_place_does_not_say_that_a_resource_replaces_itself() -> None:
    amended = replace(note(1), amends="b" * 64)
    documents = build_documents(amended, options())
    leaving = replace(shipment(), resources=documents.resources())

    created, updated = (
        {entry["resource"]["resourceType"]: entry["resource"] for entry in bundle["entry"]}
        for bundle in (create_bundle(leaving), update_bundle(leaving, STANDING))
    )

    assert created[DOCUMENT_REFERENCE]["relatesTo"] == documents.document_reference["relatesTo"]
    assert "relatesTo" not in updated[DOCUMENT_REFERENCE]
    assert updated[DOCUMENT_REFERENCE]["docStatus"] == updated[COMPOSITION]["status"] == "amended"
    assert leaving.resources[DOCUMENT_REFERENCE]["relatesTo"]


@pytest.mark.parametrize(
    ("given", "state", "reason"),
    [
        (outcomes(201, 201), State.DELIVERED, ""),
        (outcomes(200, 201), State.DELIVERED, ""),
        (outcomes(201, 201, server_id=None), State.UNKNOWN, "no_location"),
        ([], State.UNKNOWN, "answer_incomplete"),
        (outcomes(201), State.UNKNOWN, "answer_incomplete"),
        (outcomes(201, 201, 201), State.UNKNOWN, "answer_incomplete"),
        (outcomes(201, 422), State.REJECTED, "refused"),
        (outcomes(404, 201), State.REJECTED, "refused"),
        (outcomes(409, 422), State.REJECTED, "refused"),
        (outcomes(201, 409), State.UNKNOWN, "conflict"),
        (outcomes(412, 412), State.UNKNOWN, "precondition"),
        (outcomes(202, 202), State.UNKNOWN, "entry_failed"),
        (outcomes(0, 201), State.UNKNOWN, "entry_failed"),
        (outcomes(429, 429), State.UNKNOWN, "entry_failed"),
        (outcomes(500, 201), State.UNKNOWN, "entry_failed"),
        (outcomes(304, 200), State.UNKNOWN, "entry_failed"),
    ],
)
def test_only_two_entries_done_are_a_delivery(given: list[EntryOutcome], state: State, reason: str) -> None:
    verdict = judge(given)

    assert (verdict.state, verdict.reason) == (state, reason)
    assert set(verdict.copies) == (set(KINDS) if state is State.DELIVERED else set())


def test_an_update_needs_no_location() -> None:
    verdict = judge(outcomes(200, 200, server_id=None), STANDING)

    assert {kind: each.server_id for kind, each in verdict.copies.items()} == {
        COMPOSITION: "c-1",
        DOCUMENT_REFERENCE: "d-1",
    }
