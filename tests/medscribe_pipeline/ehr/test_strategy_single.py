"""What holds only where every document is a request of its own, under a condition or with an idempotency key."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.ehr.ledger import Copy, State
from tests.medscribe_pipeline.ehr.clinic import note
from tests.medscribe_pipeline.ehr.odd_ehr import Fault
from tests.medscribe_pipeline.ehr.shipping import (
    ALL_KINDS,
    COMPOSITION,
    DOCUMENT,
    IDEMPOTENCY,
    PROVENANCE,
    abilities,
    amended,
    shipment,
    shows_nothing,
    spoken,
)

if TYPE_CHECKING:
    from tests.medscribe_pipeline.ehr.shipping import Dock

ABLE = abilities("single")
KEYED = abilities("keyed")
V1, V2 = note(1), amended(note(1))


@pytest.fixture
def keyed(dock: Dock) -> Dock:
    """A server that goes by idempotency keys and knows no conditions."""
    dock.server.does.conditional = dock.server.does.if_match = dock.server.does.bundles = False
    dock.server.does.header = IDEMPOTENCY
    return dock


def written(dock: Dock) -> list[str]:
    return [f"{each.method} {each.path.partition('/')[0]}" for each in dock.server.writes()]


def test_documents_leave_one_by_one_in_order_under_their_identifier(dock: Dock) -> None:
    sent = dock.send(abilities("single", kinds=ALL_KINDS), spoken(V1))

    assert sent.outcome == (State.DELIVERED, "")
    assert written(dock) == [
        "POST Composition",
        "POST DocumentReference",
        "POST DocumentReference",
        "PUT Provenance",
    ]
    conditions = [each.headers.get("if-none-exist", "") for each in dock.server.writes()]
    assert conditions[0] == conditions[1] != conditions[2]
    assert all(each.startswith("identifier=https://example.org/fhir/sid/askara/default/") for each in conditions[:3])
    assert conditions[3] == ""
    assert {each.headers["prefer"] for each in dock.server.writes()} == {"return=minimal"}


def test_an_update_names_the_version_it_replaces(dock: Dock) -> None:
    first = dock.send(ABLE, V1)

    dock.send(ABLE, V2, first)

    assert written(dock)[2:] == ["PUT Composition", "PUT DocumentReference"]
    assert [each.headers["if-match"] for each in dock.server.writes()[2:]] == ['W/"1"', 'W/"1"']


def test_the_first_document_that_fails_ends_it_and_what_is_done_is_done(dock: Dock) -> None:
    dock.server.does.refuses = lambda resource: 422 if resource["resourceType"] == DOCUMENT else 0
    able = abilities("single", kinds=(COMPOSITION, DOCUMENT, PROVENANCE))

    sent = dock.send(able, V1)
    dock.server.does.refuses = lambda _: 0
    again = dock.again(able, sent)

    assert sent.outcome == (State.REJECTED, "refused")
    assert set(sent.verdict.copies) == {COMPOSITION}
    assert again.outcome == (State.DELIVERED, "")
    assert written(dock) == [
        "POST Composition",
        "POST DocumentReference",
        "POST DocumentReference",
        "PUT Provenance",
    ]


def test_a_success_needs_no_body_that_can_be_read(dock: Dock) -> None:
    dock.server.faults.extend([Fault(201, committed=True, body=b"<html>Testperson</html>")] * 2)

    sent = dock.send(ABLE, V1)

    assert sent.outcome == (State.DELIVERED, "")
    shows_nothing(sent)


def test_a_place_may_be_told_by_the_resource_itself(dock: Dock) -> None:
    dock.server.does.locations = False
    body = b'{"resourceType": "DocumentReference", "id": "s1", "meta": {"versionId": "1"}}'
    dock.server.faults.append(Fault(201, committed=True, body=body))

    sent = dock.send(abilities("single", kinds=(DOCUMENT,)), V1)

    assert sent.outcome == (State.DELIVERED, "")
    assert sent.verdict.copies[DOCUMENT].server_id == "s1"


@pytest.mark.parametrize("place", ["Patient/s1", "https://ehr.example/r4/Binary/s1/_history/1"])
def test_a_place_of_something_else_is_not_believed(dock: Dock, place: str) -> None:
    dock.server.faults.append(Fault(201, committed=True, headers={"Location": place}))
    able = abilities("single", kinds=(DOCUMENT,))

    sent = dock.send(able, V1)

    assert sent.outcome == (State.UNKNOWN, "answer_mixed_up")
    assert dock.look_up(able, sent).verdict.state is State.DELIVERED


@pytest.mark.parametrize(
    "place", ["DocumentReference/s1/_history/1", "http://ehr.example/r4/DocumentReference/s1", "/DocumentReference/s1/"]
)
def test_a_place_may_be_written_in_several_ways(dock: Dock, place: str) -> None:
    dock.server.faults.append(Fault(201, committed=True, headers={"Location": place}, body=b""))

    sent = dock.send(abilities("single", kinds=(DOCUMENT,)), V1)

    assert sent.verdict.copies[DOCUMENT] == Copy("s1", 'W/"1"', ("201",))


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"message": "no Testperson here"}'])
@pytest.mark.parametrize("status", [404, 406, 415])
def test_a_base_url_that_leads_elsewhere_is_a_wrong_setting(dock: Dock, status: int, body: bytes) -> None:
    dock.server.faults.append(Fault(status, body=body))

    sent = dock.send(ABLE, V1)

    assert sent.verdict.state is State.PLANNED
    assert sent.verdict.stops
    assert sent.verdict.error is not None
    assert sent.verdict.error.code == "fhir_endpoint"
    shows_nothing(sent)


def test_once_nothing_can_be_sent_the_next_note_is_not_tried(dock: Dock) -> None:
    dock.server.faults.append(Fault(429, headers={"Retry-After": "3600"}))

    first, second = dock.deliver(ABLE, shipment(note(1)), shipment(note(2)))

    assert first.verdict.stops
    assert (second.verdict.state, second.verdict.error) == (State.PLANNED, None)
    assert len(dock.server.writes()) == 1


def test_a_provenance_on_a_server_that_takes_no_ids_of_ours_is_refused_and_the_rest_is_there(dock: Dock) -> None:
    dock.server.does.updates = False

    sent = dock.send(abilities("single", kinds=(COMPOSITION, DOCUMENT, PROVENANCE)), V1)

    assert sent.outcome == (State.REJECTED, "refused")
    assert set(sent.verdict.copies) == {COMPOSITION, DOCUMENT}


def test_a_provenance_that_wants_a_version_is_no_edit_of_anybody(dock: Dock) -> None:
    dock.server.does.refuses = lambda resource: 412 if resource["resourceType"] == PROVENANCE else 0

    sent = dock.send(abilities("single", kinds=(DOCUMENT, PROVENANCE)), V1)

    assert sent.outcome == (State.REJECTED, "refused")


# Idempotency keys


def test_each_document_of_each_version_has_a_key_of_its_own(keyed: Dock) -> None:
    keyed.send(KEYED, V1)
    keyed.send(KEYED, note(2))
    keyed.send(KEYED, V1)

    keys = [each.headers[IDEMPOTENCY] for each in keyed.server.writes()]
    assert len(set(keys)) == 4
    assert keys[4:] == keys[:2]
    assert all(str(uuid.UUID(key)) == key for key in keys)
    assert not any("if-none-exist" in each.headers for each in keyed.server.writes())


@pytest.mark.parametrize("reads", [True, False])
def test_a_create_whose_answer_was_lost_is_known_by_its_key(keyed: Dock, reads: bool) -> None:
    able = abilities("keyed", kinds=(DOCUMENT,), read=reads, amendment="hold", retraction="hold")
    keyed.server.does.reads = reads
    keyed.server.faults.append(Fault(cut=True, committed=True))
    lost = keyed.send(able, V1)

    again = keyed.again(able, lost)

    assert lost.verdict.state is State.UNKNOWN
    assert again.outcome == (State.DELIVERED, "")
    assert again.verdict.copies[DOCUMENT] == Copy("s1", 'W/"1"', ("409",))
    assert len(keyed.server.newest(DOCUMENT)) == 1
    shows_nothing(again)


def test_a_key_that_finds_a_later_version_overwrites_nothing(keyed: Dock) -> None:
    keyed.send(KEYED, V2, keyed.send(KEYED, V1))

    sent = keyed.send(KEYED, V1)  # The warehouse was restored from a backup.

    assert sent.outcome == (State.REJECTED, "newer_in_ehr")
    assert [len(each) for each in keyed.server.store.values()] == [2, 2]


def test_words_that_were_edited_since_are_not_overwritten_by_a_key(keyed: Dock) -> None:
    first = keyed.send(KEYED, V1)
    keyed.server.edit(COMPOSITION, first.verdict.copies[COMPOSITION].server_id or "", title="by hand")

    sent = keyed.send(KEYED, V1)

    assert sent.outcome == (State.DELIVERED, "")
    assert keyed.server.newest(COMPOSITION)[0]["title"] == "by hand"


def test_a_409_that_is_no_answer_to_the_key_is_a_conflict(keyed: Dock) -> None:
    keyed.server.faults.append(Fault(409))

    sent = keyed.send(KEYED, V1)

    assert sent.outcome == (State.UNKNOWN, "conflict")
    assert keyed.look_up(KEYED, sent).verdict.state is State.PLANNED


def test_an_edit_that_only_the_version_shows_is_not_overwritten(keyed: Dock) -> None:
    """Without If-Match the version is compared by us, and a note says nothing of confidentiality."""
    first = keyed.send(KEYED, V1)
    keyed.server.edit(COMPOSITION, first.verdict.copies[COMPOSITION].server_id or "", confidentiality="R")

    sent = keyed.send(KEYED, V2, first)

    assert sent.outcome == (State.REJECTED, "changed_in_ehr")


@pytest.mark.parametrize("spelled", ['"1"', 'W/"1"', "1"])
def test_a_version_may_be_spelled_in_several_ways(keyed: Dock, spelled: str) -> None:
    first = keyed.send(KEYED, V1)
    other = {kind: replace(copy, etag='"1"') for kind, copy in first.verdict.copies.items()}
    keyed.server.does.shown = lambda resource: {**resource, "meta": {"versionId": spelled.strip('W/"')}}

    (sent,) = keyed.deliver(KEYED, replace(shipment(V2, after=first), standing=other))

    assert sent.outcome == (State.DELIVERED, "")
