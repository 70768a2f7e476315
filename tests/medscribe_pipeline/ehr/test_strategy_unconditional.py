"""A server that cannot tell whether it has a note: nothing is sent twice, unless it surely was not carried out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.ehr.ledger import State
from tests.medscribe_pipeline.ehr.clinic import note
from tests.medscribe_pipeline.ehr.odd_ehr import Fault, OddEhr
from tests.medscribe_pipeline.ehr.shipping import (
    COMPOSITION,
    DOCUMENT,
    PROVENANCE,
    Dock,
    abilities,
    amended,
    shipment,
    shows_nothing,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

V1, V2 = note(1), amended(note(1))
SEARCHABLE = abilities("unconditional")
# As Epic: neither conditions nor look-ups, and no identifier is kept.
BLIND = abilities(
    "unconditional",
    kinds=(DOCUMENT,),
    search=False,
    read=False,
    if_match=False,
    amendment="hold",
    retraction="hold",
)
# As Oracle: read by id, and no identifier is kept.
BY_ID = abilities("unconditional", kinds=(DOCUMENT,), search=False)
DROPPED = ("meta", "masterIdentifier", "identifier")


@pytest.fixture
def dock() -> Iterator[Dock]:
    """A client that is allowed several tries, and must not take them."""
    server = OddEhr()
    server.does.conditional = server.does.bundles = False
    dock = Dock(server, max_attempts=4)
    yield dock
    dock.close()
    server.close()


def test_a_note_is_created_without_a_condition(dock: Dock) -> None:
    sent = dock.send(BLIND, V1, without=DROPPED)

    (write,) = dock.server.writes()
    assert sent.outcome == (State.DELIVERED, "")
    assert (write.method, write.path) == ("POST", DOCUMENT)
    assert not {"if-none-exist", "x-amz-fhir-idempotency-key"} & write.headers.keys()
    assert not {"id", *DROPPED} & write.body.keys()
    assert dock.server.seen == [write]


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize(
    "fault",
    [Fault(cut=True), Fault(500), Fault(502), Fault(503), Fault(504), Fault(408), Fault(425)],
)
def test_what_may_have_happened_is_not_sent_again(dock: Dock, fault: Fault, committed: bool) -> None:
    dock.server.faults.append(replace(fault, committed=committed))

    sent = dock.send(BLIND, V1, without=DROPPED)

    assert sent.verdict.state is State.UNKNOWN
    assert len(dock.server.writes()) == 1
    shows_nothing(sent)


@pytest.mark.parametrize(
    "fault", [Fault(409), Fault(202, committed=True, body=b""), Fault(302, headers={"Location": "/x"})]
)
def test_what_says_nothing_for_certain_is_not_sent_again_either(dock: Dock, fault: Fault) -> None:
    dock.server.faults.append(fault)

    sent = dock.send(BLIND, V1, without=DROPPED)

    assert sent.verdict.state is State.UNKNOWN
    assert len(dock.server.writes()) == 1


def test_a_note_that_is_there_somewhere_waits_for_a_person(dock: Dock) -> None:
    dock.server.does.locations = False

    sent = dock.send(BLIND, V1, without=DROPPED)
    found = dock.look_up(BLIND, sent)

    assert sent.outcome == (State.UNKNOWN, "no_location")
    assert found.outcome == (State.UNKNOWN, "cannot_be_asked")
    assert len(dock.server.seen) == 1


@pytest.mark.parametrize(
    "fault", [Fault(429), Fault(429, headers={"Retry-After": "2"}), Fault(503, headers={"Retry-After": "2"})]
)
def test_what_was_surely_not_carried_out_is_sent_again(dock: Dock, fault: Fault) -> None:
    dock.server.faults.append(fault)

    sent = dock.send(BLIND, V1, without=DROPPED)

    assert sent.outcome == (State.DELIVERED, "")
    assert len(dock.server.writes()) == 2
    assert len(dock.server.newest(DOCUMENT)) == 1


@pytest.mark.parametrize("status", [400, 412, 413, 422])
def test_a_refusal_is_believed(dock: Dock, status: int) -> None:
    dock.server.faults.append(Fault(status))

    sent = dock.send(BLIND, V1, without=DROPPED)

    assert sent.outcome == (State.REJECTED, "too_large" if status == 413 else "refused")
    assert len(dock.server.writes()) == 1


@pytest.mark.parametrize("committed", [False, True])
def test_a_server_that_can_be_searched_is_asked(dock: Dock, committed: bool) -> None:
    dock.server.faults.append(Fault(cut=True, committed=committed))
    lost = dock.send(SEARCHABLE, V1)

    found = dock.look_up(SEARCHABLE, lost)
    again = dock.again(SEARCHABLE, lost, dict(found.verdict.copies))

    assert found.verdict.state is State.PLANNED  # The second document has not left.
    assert set(found.verdict.copies) == ({COMPOSITION} if committed else set())
    assert again.outcome == (State.DELIVERED, "")
    assert len(dock.server.newest(COMPOSITION)) == len(dock.server.newest(DOCUMENT)) == 1


def test_a_document_of_this_version_that_the_ehr_has_moved_on_from_has_arrived(dock: Dock) -> None:
    """To call it missing would be to send it again."""
    able = abilities("unconditional", kinds=(DOCUMENT,))
    dock.server.faults.append(Fault(cut=True, committed=True))
    lost = dock.send(able, V1)
    dock.server.edit(DOCUMENT, "s1", status="entered-in-error")

    found = dock.look_up(able, lost)

    assert found.verdict.state is State.DELIVERED


def test_a_document_that_does_not_say_which_version_it_is_waits_for_a_person(dock: Dock) -> None:
    """The note is there, in words that tell nothing: it is neither called missing nor taken for this version."""
    able = abilities("unconditional", kinds=(DOCUMENT,))
    dock.server.faults.append(Fault(cut=True, committed=True))
    lost = dock.send(able, V1, without=("masterIdentifier",))
    dock.server.does.shown = lambda resource: {**resource, "content": [{"attachment": {"url": "Binary/1"}}]}

    found = dock.look_up(able, lost)

    assert found.outcome == (State.UNKNOWN, "cannot_be_asked")


@pytest.mark.parametrize("dropped", ["docStatus", "date", "type", "author"])
def test_an_element_the_server_does_not_keep_does_not_make_it_another_version(dock: Dock, dropped: str) -> None:
    able = abilities("unconditional", kinds=(DOCUMENT,))
    dock.server.does.dropped = (dropped,)
    dock.server.faults.append(Fault(cut=True, committed=True))
    lost = dock.send(able, V1, without=("masterIdentifier",))

    found = dock.look_up(able, lost)

    assert found.verdict.state is State.DELIVERED


# Replacing what stands


def test_what_stands_is_replaced_by_its_id_and_version(dock: Dock) -> None:
    first = dock.send(BY_ID, V1, without=DROPPED)

    sent = dock.send(BY_ID, V2, first, without=DROPPED)

    assert sent.outcome == (State.DELIVERED, "")
    assert [len(each) for each in dock.server.store.values()] == [2]


@pytest.mark.parametrize("committed", [False, True])
def test_a_replacement_whose_answer_was_lost_is_read_by_its_id(dock: Dock, committed: bool) -> None:
    first = dock.send(BY_ID, V1, without=DROPPED)
    dock.server.faults.append(Fault(cut=True, committed=committed))

    lost = dock.send(BY_ID, V2, first, without=DROPPED)
    found = dock.look_up(BY_ID, lost)

    assert lost.verdict.state is State.UNKNOWN
    assert found.verdict.state is (State.DELIVERED if committed else State.PLANNED)
    assert len(dock.server.writes()) == 2


def test_a_first_delivery_whose_answer_was_lost_cannot_be_read_by_an_id_nobody_knows(dock: Dock) -> None:
    dock.server.faults.append(Fault(cut=True, committed=True))

    lost = dock.send(BY_ID, V1, without=DROPPED)

    assert dock.look_up(BY_ID, lost).outcome == (State.UNKNOWN, "cannot_be_asked")


def test_a_provenance_is_written_again_where_it_cannot_be_read(dock: Dock) -> None:
    able = abilities("unconditional", kinds=(DOCUMENT, PROVENANCE), read=False)
    dock.server.does.reads = False
    dock.server.faults.extend([Fault(), Fault(500, committed=True)])

    lost = dock.send(able, V1)
    found = dock.look_up(able, lost)
    again = dock.again(able, lost, dict(found.verdict.copies))

    assert lost.verdict.state is State.UNKNOWN
    assert set(lost.verdict.copies) == set(found.verdict.copies) == {DOCUMENT}
    assert found.verdict.state is State.PLANNED
    assert again.outcome == (State.DELIVERED, "")
    assert len(dock.server.newest(DOCUMENT)) == len(dock.server.newest(PROVENANCE)) == 1


def test_notes_that_share_a_call_share_nothing_else(dock: Dock) -> None:
    dock.server.faults.append(Fault(500, committed=True))

    lost, delivered = dock.deliver(BLIND, *(shipment(note(number), BLIND.kinds) for number in (1, 2)))

    assert lost.verdict.state is State.UNKNOWN
    assert delivered.outcome == (State.DELIVERED, "")
    assert len(dock.server.writes()) == 2
