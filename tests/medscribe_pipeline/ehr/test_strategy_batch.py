"""What holds only where several notes share a request, and each entry has a fate of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.ehr.ledger import State
from medscribe_pipeline.ehr.strategies import open_strategy
from medscribe_pipeline.errors import Deferred
from tests.medscribe_pipeline.ehr.clinic import note
from tests.medscribe_pipeline.ehr.odd_ehr import EntryFault, Fault
from tests.medscribe_pipeline.ehr.shipping import (
    COMPOSITION,
    DOCUMENT,
    PROVENANCE,
    abilities,
    amended,
    shipment,
    shows_nothing,
)

if TYPE_CHECKING:
    from tests.medscribe_pipeline.ehr.odd_ehr import Resource
    from tests.medscribe_pipeline.ehr.shipping import Dock, Sent

ABLE = abilities("batch")
DATE = "Mon, 02 Mar 2026 18:00:00 GMT"


def notes(dock: Dock, count: int, **changes: object) -> list[Sent]:
    able = abilities("batch", **changes)
    return dock.deliver(able, *(shipment(note(number), able.kinds) for number in range(count)))


def outcomes(sent: list[Sent]) -> list[tuple[State, str]]:
    return [each.outcome for each in sent]


def sizes(dock: Dock) -> list[int]:
    """Entries of each request."""
    return [len(write.body["entry"]) for write in dock.server.writes()]


def is_of(number: int, resource: Resource) -> bool:
    return str(note(number).note_id) in str(resource)


@pytest.mark.parametrize(
    ("entries", "kinds", "expected"),
    [
        (100, (COMPOSITION, DOCUMENT), 50),
        (8, (COMPOSITION, DOCUMENT, PROVENANCE), 2),
        (2, (COMPOSITION, DOCUMENT, PROVENANCE), 1),
    ],
)
def test_as_many_notes_a_request_as_have_room(dock: Dock, entries: int, kinds: tuple[str, ...], expected: int) -> None:
    able = abilities("batch", entries_per_bundle=entries, kinds=kinds)

    assert open_strategy(able, dock.client, dock.points.append).notes_per_request == expected


def test_notes_share_a_request_and_each_gets_its_own_copies(dock: Dock) -> None:
    sent = notes(dock, 3)

    assert outcomes(sent) == [(State.DELIVERED, "")] * 3
    assert sizes(dock) == [6]
    for number, each in enumerate(sent):
        stored = dock.server.store[DOCUMENT, each.verdict.copies[DOCUMENT].server_id or ""][-1]
        assert is_of(number, stored)


def test_what_follows_the_documents_shares_a_request_too(dock: Dock) -> None:
    sent = notes(dock, 2, kinds=(COMPOSITION, DOCUMENT, PROVENANCE))

    assert outcomes(sent) == [(State.DELIVERED, "")] * 2
    assert sizes(dock) == [4, 2]


def test_a_bundle_has_no_more_entries_than_the_server_takes(dock: Dock) -> None:
    sent = notes(dock, 3, entries_per_bundle=4)

    assert outcomes(sent) == [(State.DELIVERED, "")] * 3
    assert sizes(dock) == [4, 2]


def test_a_bundle_has_no_more_bytes_than_the_server_takes(dock: Dock) -> None:
    dock.server.does.max_bytes = 4_000

    sent = notes(dock, 4, max_bundle_bytes=4_000)

    assert outcomes(sent) == [(State.DELIVERED, "")] * 4
    assert all(int(write.headers["content-length"]) <= 4_000 for write in dock.server.writes())
    assert len(sizes(dock)) > 1


@pytest.mark.parametrize("wait", ["5", "Mon, 02 Mar 2026 18:00:05 GMT"])
def test_only_the_entry_that_was_put_off_is_sent_again_after_the_wait(dock: Dock, wait: str) -> None:
    dock.server.faults.append(Fault(entries={1: EntryFault(429)}, headers={"Retry-After": wait, "Date": DATE}))

    sent = notes(dock, 2)

    assert outcomes(sent) == [(State.DELIVERED, "")] * 2
    assert sizes(dock) == [4, 1]
    assert dock.slept == [5]
    assert len(dock.server.newest(DOCUMENT)) == len(dock.server.newest(COMPOSITION)) == 2


def test_the_wait_may_stand_in_the_outcome_of_the_entry(dock: Dock) -> None:
    dock.server.faults.append(Fault(entries={0: EntryFault(429, reset_s=3), 3: EntryFault(429, reset_s=9)}))

    sent = notes(dock, 2)

    assert outcomes(sent) == [(State.DELIVERED, "")] * 2
    assert sizes(dock) == [4, 2]
    assert dock.slept == [9]


def test_a_wait_longer_than_we_are_willing_to_leaves_what_is_done_done(dock: Dock) -> None:
    dock.server.faults.append(Fault(entries={1: EntryFault(429)}, headers={"Retry-After": "3600"}))

    first, second = notes(dock, 2)

    assert first.verdict.state is State.PLANNED
    assert isinstance(first.verdict.error, Deferred)
    assert first.verdict.stops
    assert set(first.verdict.copies) == {COMPOSITION}
    assert second.outcome == (State.DELIVERED, "")
    assert dock.slept == []


def test_an_entry_is_not_put_off_for_ever(dock: Dock) -> None:
    dock.server.faults.extend([Fault(entries={0: EntryFault(429, reset_s=1)})] * 20)

    (sent,) = notes(dock, 1, kinds=(DOCUMENT,))

    assert sent.verdict.state is State.PLANNED
    assert sent.verdict.stops
    assert len(dock.server.writes()) == 4
    assert dock.server.store == {}


def test_a_mark_is_not_put_off_for_ever_either(dock: Dock) -> None:
    able = abilities("batch", kinds=(DOCUMENT,), amendment="new_document")
    (first,) = dock.deliver(able, shipment(note(1), able.kinds))
    dock.server.faults.extend([Fault(), *[Fault(entries={0: EntryFault(429, reset_s=1)})] * 20])

    (sent,) = dock.deliver(able, shipment(amended(note(1)), able.kinds, after=first))
    dock.server.faults.clear()
    again = dock.again(able, sent)

    assert sent.verdict.state is State.PLANNED
    assert sent.verdict.stops
    assert set(sent.verdict.copies) == {DOCUMENT}
    assert again.outcome == (State.DELIVERED, "")
    assert [each["status"] for each in dock.server.newest(DOCUMENT)] == ["superseded", "current"]


def test_a_503_that_names_no_wait_may_have_happened(dock: Dock) -> None:
    dock.server.faults.append(Fault(entries={0: EntryFault(503, committed=True)}))

    (sent,) = notes(dock, 1, kinds=(DOCUMENT,))

    assert sent.outcome == (State.UNKNOWN, "entry_failed")
    assert dock.look_up(abilities("batch", kinds=(DOCUMENT,)), sent).verdict.state is State.DELIVERED


@pytest.mark.parametrize(
    ("fault", "state", "reason"),
    [
        (EntryFault(422), State.REJECTED, "refused"),
        (EntryFault(403), State.REJECTED, "refused"),
        (EntryFault(413), State.REJECTED, "too_large"),
        (EntryFault(412), State.REJECTED, "several_matches"),
        (EntryFault(500), State.UNKNOWN, "entry_failed"),
        (EntryFault(500, committed=True), State.UNKNOWN, "entry_failed"),
        (EntryFault(409), State.UNKNOWN, "conflict"),
        (EntryFault(202), State.UNKNOWN, "accepted"),
    ],
)
def test_an_entry_that_failed_is_nothing_to_its_neighbours(
    dock: Dock, fault: EntryFault, state: State, reason: str
) -> None:
    dock.server.faults.append(Fault(entries={3: fault}))

    first, second, third = notes(dock, 3)
    again = dock.again(ABLE, second)

    assert first.outcome == third.outcome == (State.DELIVERED, "")
    assert second.outcome == (state, reason)
    assert set(second.verdict.copies) == {COMPOSITION}
    assert again.outcome == (State.DELIVERED, "")
    assert len(dock.server.newest(DOCUMENT)) == len(dock.server.newest(COMPOSITION)) == 3
    assert sizes(dock) == [6, 1]
    shows_nothing(second)


def test_what_may_have_happened_outweighs_what_was_refused(dock: Dock) -> None:
    dock.server.faults.append(Fault(entries={0: EntryFault(422), 1: EntryFault(500, committed=True)}))

    (sent,) = notes(dock, 1)

    assert sent.outcome == (State.UNKNOWN, "entry_failed")
    assert {"422", "500"} <= set(sent.verdict.codes)


def test_a_provenance_waits_for_all_documents_of_its_note(dock: Dock) -> None:
    dock.server.faults.append(Fault(entries={1: EntryFault(500)}))

    first, second = notes(dock, 2, kinds=(COMPOSITION, DOCUMENT, PROVENANCE))

    assert first.verdict.state is State.UNKNOWN
    assert second.outcome == (State.DELIVERED, "")
    assert len(dock.server.newest(PROVENANCE)) == 1


@pytest.mark.parametrize("status", [400, 422])
def test_one_entry_that_spoils_the_bundle_is_singled_out(dock: Dock, status: int) -> None:
    dock.server.does.strict = True
    dock.server.does.refuses = lambda resource: (
        status if is_of(2, resource) and resource["resourceType"] == DOCUMENT else 0
    )

    sent = notes(dock, 4)

    assert outcomes(sent) == [
        (State.DELIVERED, ""),
        (State.DELIVERED, ""),
        (State.REJECTED, "refused"),
        (State.DELIVERED, ""),
    ]
    assert set(sent[2].verdict.copies) == {COMPOSITION}
    assert str(status) in sent[2].verdict.codes
    assert len(dock.server.newest(DOCUMENT)) == 3
    shows_nothing(sent[2])


def test_a_bundle_too_large_is_cut_in_halves(dock: Dock) -> None:
    dock.server.does.max_bytes = 4_000

    sent = notes(dock, 4)

    assert outcomes(sent) == [(State.DELIVERED, "")] * 4
    assert sizes(dock)[0] == 8
    assert len(dock.server.newest(DOCUMENT)) == len(dock.server.newest(COMPOSITION)) == 4


def test_one_note_too_large_is_told_from_a_bundle_too_large(dock: Dock) -> None:
    dock.server.does.max_bytes = 6_000
    long = shipment(amended(note(1), "Cough. " * 2_000))

    first, second, third = dock.deliver(ABLE, shipment(note(0)), long, shipment(note(2)))

    assert first.outcome == third.outcome == (State.DELIVERED, "")
    assert second.outcome == (State.REJECTED, "too_large")


def test_a_cut_leaves_the_later_portions_to_their_own_fate(dock: Dock) -> None:
    dock.server.faults.append(Fault(cut=True, committed=True))

    first, second = notes(dock, 2, entries_per_bundle=2)

    assert first.outcome == (State.UNKNOWN, "disconnected")
    assert second.outcome == (State.DELIVERED, "")
    assert dock.look_up(ABLE, first).verdict.state is State.DELIVERED


def test_once_nothing_can_be_sent_nothing_is_tried(dock: Dock) -> None:
    dock.server.faults.append(Fault(429, headers={"Retry-After": "3600"}))

    first, second = notes(dock, 2, entries_per_bundle=2)

    assert first.verdict.state is second.verdict.state is State.PLANNED
    assert first.verdict.stops
    assert second.verdict.error is None
    assert len(dock.server.writes()) == 1


@pytest.mark.parametrize(
    "fault", [Fault(body=b""), Fault(body=b"<html>"), Fault(edit=lambda each: each["entry"].pop())]
)
def test_an_answer_that_accounts_for_less_leaves_all_of_it_unknown(dock: Dock, fault: Fault) -> None:
    dock.server.faults.append(fault)

    sent = notes(dock, 2)

    assert [each.verdict.state for each in sent] == [State.UNKNOWN] * 2
    assert not any(each.verdict.copies for each in sent)
    assert [dock.look_up(ABLE, each).verdict.state for each in sent] == [State.DELIVERED] * 2


def test_answers_that_changed_places_are_noticed_where_they_can_be(dock: Dock) -> None:
    first = notes(dock, 2)
    dock.server.faults.append(Fault(edit=lambda answer: answer["entry"].reverse()))
    leaving = [shipment(amended(note(number)), after=first[number]) for number in range(2)]

    sent = dock.deliver(ABLE, *leaving)

    assert outcomes(sent) == [(State.UNKNOWN, "answer_mixed_up")] * 2
    assert [dock.look_up(ABLE, each).verdict.state for each in sent] == [State.DELIVERED] * 2


@pytest.mark.parametrize("amendment", ["update", "new_document"])
@pytest.mark.parametrize("etags", [True, False])
def test_a_note_never_takes_the_place_of_another_whose_answer_it_got(dock: Dock, etags: bool, amendment: str) -> None:
    """Two documents of one type that changed places cannot be told apart when they are created."""
    dock.server.does.etags = etags
    able = abilities("batch", kinds=(DOCUMENT,), amendment=amendment)
    dock.server.faults.append(Fault(edit=lambda answer: answer["entry"].reverse()))
    first = dock.deliver(able, *(shipment(note(number), able.kinds) for number in range(2)))
    leaving = [shipment(amended(note(number)), able.kinds, after=first[number]) for number in range(2)]

    sent = dock.deliver(able, *leaving)

    assert outcomes(sent) == [(State.REJECTED, "changed_in_ehr")] * 2
    assert [len(each) for each in dock.server.store.values()] == [1, 1]


def test_one_place_is_not_taken_for_two_documents(dock: Dock) -> None:
    def repeat(answer: Resource) -> None:
        answer["entry"][3] = answer["entry"][1]

    dock.server.faults.append(Fault(edit=repeat))

    sent = notes(dock, 2)

    assert outcomes(sent) == [(State.UNKNOWN, "answer_mixed_up")] * 2
    assert [set(each.verdict.copies) for each in sent] == [{COMPOSITION}] * 2
    assert [dock.look_up(ABLE, each).verdict.state for each in sent] == [State.DELIVERED] * 2


def test_no_notes_are_no_request(dock: Dock) -> None:
    assert dock.deliver(ABLE) == []
    assert dock.server.seen == []
