"""What holds only where the documents of a note happen together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.ehr.ledger import State
from medscribe_pipeline.fhir import check
from tests.medscribe_pipeline.ehr.clinic import note
from tests.medscribe_pipeline.ehr.odd_ehr import EntryFault, Fault
from tests.medscribe_pipeline.ehr.shipping import (
    ALL_KINDS,
    COMPOSITION,
    DOCUMENT,
    PROVENANCE,
    abilities,
    amended,
    shipment,
    shows_nothing,
    spoken,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.medscribe_pipeline.ehr.odd_ehr import Resource
    from tests.medscribe_pipeline.ehr.shipping import Dock

ABLE = abilities("transaction")
WITH_PROVENANCE = abilities("transaction", kinds=(COMPOSITION, DOCUMENT, PROVENANCE))
V1, V2 = note(1), amended(note(1))


def swap(answer: Resource) -> None:
    answer["entry"].reverse()


def shorten(answer: Resource) -> None:
    answer["entry"].pop()


def lengthen(answer: Resource) -> None:
    answer["entry"].append(answer["entry"][0])


def empty(answer: Resource) -> None:
    del answer["entry"]


def spoil(answer: Resource) -> None:
    answer["entry"][0] = "Testperson"


def dress(answer: Resource) -> None:
    for entry in answer["entry"]:
        entry["response"] |= {"status": f"{entry['response']['status']} Created", "x-vendor": {"note": "Testperson"}}
        entry["response"]["location"] = f"https://ehr.example/r4/{entry['response']['location']}/_history/1?a=b"


def test_one_request_carries_all_documents_of_a_note(dock: Dock) -> None:
    able = abilities("transaction", kinds=ALL_KINDS)

    sent = dock.send(able, spoken(V1))

    (write,) = dock.server.writes()
    assert sent.outcome == (State.DELIVERED, "")
    assert write.body["type"] == "transaction"
    assert [entry["resource"]["resourceType"] for entry in write.body["entry"]] == [
        COMPOSITION,
        DOCUMENT,
        DOCUMENT,
        PROVENANCE,
    ]
    assert len({entry["fullUrl"] for entry in write.body["entry"]}) == 4
    check(write.body)


def test_of_what_is_already_done_the_rest_is_sent_and_refers_to_it_by_id(dock: Dock) -> None:
    sent = dock.send(ABLE, V1)
    leaving = replace(shipment(V1, WITH_PROVENANCE.kinds), done=sent.verdict.copies)

    (whole,) = dock.deliver(WITH_PROVENANCE, leaving)

    assert whole.outcome == (State.DELIVERED, "")
    assert [entry["resource"]["resourceType"] for entry in dock.server.writes()[-1].body["entry"]] == [PROVENANCE]
    (stored,) = dock.server.newest(PROVENANCE)
    assert [each["reference"] for each in stored["target"]] == [
        f"{kind}/{sent.verdict.copies[kind].server_id}" for kind in (DOCUMENT, COMPOSITION)
    ]


@pytest.mark.parametrize("refused", [COMPOSITION, DOCUMENT, PROVENANCE])
def test_one_document_refused_is_all_refused_and_nothing_is_there(dock: Dock, refused: str) -> None:
    dock.server.does.refuses = lambda resource: 422 if resource["resourceType"] == refused else 0

    sent = dock.send(WITH_PROVENANCE, V1)

    assert sent.outcome == (State.REJECTED, "refused")
    assert not sent.verdict.copies
    assert dock.server.store == {}


def test_a_changed_document_keeps_the_untouched_one_from_being_replaced(dock: Dock) -> None:
    first = dock.send(ABLE, V1)
    dock.server.edit(COMPOSITION, first.verdict.copies[COMPOSITION].server_id or "", title="by hand")

    sent = dock.send(ABLE, V2, first)

    assert sent.outcome == (State.REJECTED, "changed_in_ehr")
    assert dock.of_version(V2) == []


def test_a_transaction_that_was_a_batch_after_all_is_believed_entry_by_entry(dock: Dock) -> None:
    dock.server.does.atomic = False
    dock.server.does.refuses = lambda resource: 422 if resource["resourceType"] == DOCUMENT else 0

    sent = dock.send(WITH_PROVENANCE, V1)
    dock.server.does.refuses = lambda _: 0
    again = dock.again(WITH_PROVENANCE, sent)

    assert sent.outcome == (State.REJECTED, "refused")
    assert set(sent.verdict.copies) == {COMPOSITION, PROVENANCE}
    assert again.outcome == (State.DELIVERED, "")
    assert len(dock.server.newest(COMPOSITION)) == len(dock.server.newest(DOCUMENT)) == 1


@pytest.mark.parametrize(
    ("fault", "state", "reason"),
    [
        (EntryFault(500), State.UNKNOWN, "entry_failed"),
        (EntryFault(409), State.UNKNOWN, "conflict"),
        (EntryFault(412), State.REJECTED, "several_matches"),
        (EntryFault(422), State.REJECTED, "refused"),
        (EntryFault(413), State.REJECTED, "too_large"),
        (EntryFault(202), State.UNKNOWN, "accepted"),
        (EntryFault(304), State.UNKNOWN, "entry_failed"),
        (EntryFault(0), State.UNKNOWN, "entry_failed"),
    ],
)
def test_a_200_with_an_entry_that_failed_is_no_delivery(
    dock: Dock, fault: EntryFault, state: State, reason: str
) -> None:
    dock.server.does.atomic = False
    dock.server.faults.append(Fault(entries={1: fault}))

    sent = dock.send(ABLE, V1)

    assert sent.outcome == (state, reason)
    assert set(sent.verdict.copies) == {COMPOSITION}


def test_an_entry_that_is_put_off_is_sent_again_alone(dock: Dock) -> None:
    dock.server.does.atomic = False
    dock.server.faults.append(Fault(entries={1: EntryFault(429, reset_s=4)}))

    sent = dock.send(ABLE, V1)

    assert sent.outcome == (State.DELIVERED, "")
    assert [len(write.body["entry"]) for write in dock.server.writes()] == [2, 1]
    assert dock.slept == [4]


@pytest.mark.parametrize("edit", [shorten, lengthen, empty, spoil])
def test_an_answer_that_does_not_account_for_every_entry_is_looked_up(
    dock: Dock, edit: Callable[[Resource], None]
) -> None:
    dock.server.faults.append(Fault(edit=edit))

    sent = dock.send(ABLE, V1)

    assert sent.outcome == (State.UNKNOWN, "answer_incomplete")
    assert dock.look_up(ABLE, sent).verdict.state is State.DELIVERED
    shows_nothing(sent)


def test_an_answer_in_another_order_is_not_believed(dock: Dock) -> None:
    dock.server.faults.append(Fault(edit=swap))

    sent = dock.send(ABLE, V1)
    found = dock.look_up(ABLE, sent)

    assert sent.outcome == (State.UNKNOWN, "answer_mixed_up")
    assert not sent.verdict.copies
    assert found.verdict.state is State.DELIVERED
    assert found.verdict.copies[DOCUMENT].server_id == dock.server.newest(DOCUMENT)[0]["id"]


def test_an_answer_about_other_documents_is_not_believed(dock: Dock) -> None:
    first = dock.send(ABLE, V1)
    other = dock.send(ABLE, note(2))
    place = f"{DOCUMENT}/{other.verdict.copies[DOCUMENT].server_id}"
    dock.server.faults.append(Fault(edit=lambda answer: answer["entry"][1]["response"].update(location=place)))

    sent = dock.send(ABLE, V2, first)

    assert sent.outcome == (State.UNKNOWN, "answer_mixed_up")


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{}", b'{"status": "ok", "note": "Testperson"}'])
def test_a_success_that_says_nothing_is_looked_up(dock: Dock, body: bytes) -> None:
    dock.server.faults.append(Fault(body=body))

    sent = dock.send(ABLE, V1)

    assert sent.outcome == (State.UNKNOWN, "answer_incomplete")
    assert dock.look_up(ABLE, sent).verdict.state is State.DELIVERED
    shows_nothing(sent)


@pytest.mark.parametrize("body", [b"<html>Testperson</html>", b'{"resourceType": "Bundle", "entry": [{"resp'])
def test_a_success_nobody_can_read_is_looked_up(dock: Dock, body: bytes) -> None:
    dock.server.faults.append(Fault(body=body))

    sent = dock.send(ABLE, V1)

    assert sent.outcome == (State.UNKNOWN, "not_json")
    assert dock.look_up(ABLE, sent).verdict.state is State.DELIVERED
    shows_nothing(sent)


def test_an_answer_in_a_makers_own_dress_is_understood(dock: Dock) -> None:
    dock.server.faults.append(Fault(edit=dress))

    sent = dock.send(ABLE, V1)

    assert sent.outcome == (State.DELIVERED, "")
    assert sent.verdict.copies[DOCUMENT].server_id == dock.server.newest(DOCUMENT)[0]["id"]
    shows_nothing(sent)


@pytest.mark.parametrize("committed", [False, True])
def test_a_replacement_whose_answer_was_lost_is_looked_up(dock: Dock, committed: bool) -> None:
    first = dock.send(ABLE, V1)
    dock.server.faults.append(Fault(cut=True, committed=committed))

    lost = dock.send(ABLE, V2, first)

    assert lost.verdict.state is State.UNKNOWN
    assert dock.look_up(ABLE, lost).verdict.state is (State.DELIVERED if committed else State.PLANNED)


def test_a_matched_document_is_replaced_under_the_version_that_was_found(dock: Dock) -> None:
    dock.send(abilities("transaction", kinds=(DOCUMENT,)), V1)

    sent = dock.send(WITH_PROVENANCE, V2)

    assert sent.outcome == (State.DELIVERED, "")
    (replacing,) = dock.server.writes()[-1].body["entry"]
    assert replacing["request"]["ifMatch"] == 'W/"1"'
    assert [each["reference"] for each in dock.server.newest(PROVENANCE)[0]["target"]] == [
        f"{kind}/{sent.verdict.copies[kind].server_id}" for kind in (DOCUMENT, COMPOSITION)
    ]


def test_two_notes_are_two_transactions(dock: Dock) -> None:
    dock.server.does.refuses = lambda resource: 422 if str(note(1).note_id) in str(resource) else 0

    refused, delivered = dock.deliver(ABLE, shipment(note(1)), shipment(note(2)))

    assert refused.outcome == (State.REJECTED, "refused")
    assert delivered.outcome == (State.DELIVERED, "")
