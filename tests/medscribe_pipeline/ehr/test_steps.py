"""The writes of a note version, as they leave."""

from __future__ import annotations

import copy
import uuid
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st

from medscribe_pipeline.ehr.ledger import COMPOSITION, DOCUMENT_REFERENCE, KINDS, Copy, Key
from medscribe_pipeline.ehr.sending import Shipment
from medscribe_pipeline.ehr.strategies.steps import condition_of, full_url
from medscribe_pipeline.ehr.targets import Capabilities
from medscribe_pipeline.fhir import build_documents, check
from tests.fhir_options import options
from tests.medscribe_pipeline.ehr.clinic import note
from tests.medscribe_pipeline.ehr.transactions import transaction

STANDING = {COMPOSITION: Copy("c-1", 'W/"3"'), DOCUMENT_REFERENCE: Copy("d-1", 'W/"4"')}


def shipment() -> Shipment:
    documents = build_documents(note(1), options())
    resources = {COMPOSITION: documents.composition, DOCUMENT_REFERENCE: documents.document_reference}
    return Shipment(Key("ehr", str(note(1).note_id), note(1).version), resources)


def test_the_first_delivery_creates_both_unless_the_note_is_there() -> None:
    bundle = transaction(shipment())

    check(bundle)
    system = "https://example.org/fhir/sid/askara/default/note"
    condition = f"identifier={system}%7C{note(1).note_id}"
    assert [entry["request"] for entry in bundle["entry"]] == [
        {"method": "POST", "url": kind, "ifNoneExist": condition} for kind in KINDS
    ]
    assert len({entry["fullUrl"] for entry in bundle["entry"]}) == 2
    assert bundle == transaction(shipment())


def test_an_update_names_the_copies_it_replaces_and_leaves_the_stored_json_alone() -> None:
    leaving = shipment()
    stored: dict[str, Any] = copy.deepcopy(dict(leaving.resources))

    bundle = transaction(leaving, STANDING)

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
    leaving = replace(shipment(), resources={kind: documents.resources()[kind] for kind in KINDS})

    created, updated = (
        {entry["resource"]["resourceType"]: entry["resource"] for entry in bundle["entry"]}
        for bundle in (transaction(leaving), transaction(leaving, STANDING))
    )

    assert created[DOCUMENT_REFERENCE]["relatesTo"] == documents.document_reference["relatesTo"]
    assert "relatesTo" not in updated[DOCUMENT_REFERENCE]
    assert updated[DOCUMENT_REFERENCE]["docStatus"] == updated[COMPOSITION]["status"] == "amended"
    assert leaving.resources[DOCUMENT_REFERENCE]["relatesTo"]


@given(st.uuids(), st.sampled_from(KINDS))
def test_the_address_of_an_entry_is_the_uuid_its_note_and_kind_make(note_id: uuid.UUID, kind: str) -> None:
    leaving = Shipment(Key("ehr", str(note_id), "v"), {})

    assert full_url(leaving, kind) == uuid.uuid5(note_id, kind).urn


@given(st.one_of(st.text(st.characters(codec="utf-8"), max_size=12), st.uuids().map(str)))
@settings(max_examples=200, deadline=None)
def test_a_condition_has_nothing_in_it_that_ends_its_value(value: str) -> None:
    resource = {"identifier": {"system": "https://example.org/sid/note", "value": value}}

    condition = condition_of(resource, COMPOSITION, Capabilities(conditional_create=True))

    assert condition == f"identifier=https://example.org/sid/note%7C{quote(value, safe=':/')}"
