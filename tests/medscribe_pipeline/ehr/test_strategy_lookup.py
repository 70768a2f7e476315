"""Asking after a version: by identifier, by id, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.ehr.ledger import State
from tests.medscribe_pipeline.ehr.clinic import edited, note
from tests.medscribe_pipeline.ehr.odd_ehr import Fault
from tests.medscribe_pipeline.ehr.shipping import (
    ALL_KINDS,
    COMPOSITION,
    DOCUMENT,
    PROVENANCE,
    Sent,
    abilities,
    amended,
    every_way,
    shipment,
    shows_nothing,
    spoken,
)

if TYPE_CHECKING:
    from tests.medscribe_pipeline.ehr.shipping import Dock

V1, V2 = note(1), amended(note(1))


def unsent(dock: Dock, way: str, **changes: Any) -> Sent:
    """A version that was never sent."""
    dock.heed(way)
    dock.server.faults.append(Fault(500))
    sent = dock.send(abilities(way, **changes), V1)
    dock.server.faults.clear()
    return sent


@every_way
def test_what_was_never_sent_is_surely_not_there(dock: Dock, way: str) -> None:
    sent = unsent(dock, way)

    found = dock.look_up(abilities(way), sent)

    assert found.outcome == (State.PLANNED, "")
    assert not found.verdict.copies
    assert found.verdict.seconds == 0


@every_way
def test_what_is_there_is_found_with_its_version(dock: Dock, way: str) -> None:
    able = abilities(way, kinds=ALL_KINDS)
    sent = dock.send(able, spoken(V1))

    found = dock.look_up(able, sent)

    assert found.verdict.state is State.DELIVERED
    assert {k: (c.server_id, c.etag) for k, c in found.verdict.copies.items()} == {
        k: (c.server_id, c.etag) for k, c in sent.verdict.copies.items()
    }
    assert {copy.codes for copy in found.verdict.copies.values()} == {("looked_up",)}


@pytest.mark.parametrize("way", ["batch", "single", "unconditional"])
@pytest.mark.parametrize("there", [COMPOSITION, DOCUMENT, PROVENANCE])
def test_what_is_there_in_part_is_told(dock: Dock, way: str, there: str) -> None:
    able = abilities(way, kinds=(COMPOSITION, DOCUMENT, PROVENANCE))
    (part,) = dock.deliver(able, shipment(V1, (there,)))

    found = dock.look_up(able, Sent(shipment(V1, able.kinds), part.verdict))

    assert found.verdict.state is State.PLANNED
    assert set(found.verdict.copies) == {there}


@pytest.mark.parametrize("way", ["batch", "single", "unconditional"])
def test_another_version_is_not_taken_for_this_one(dock: Dock, way: str) -> None:
    able = abilities(way)
    first = dock.send(able, V1)

    found = dock.look_up(able, Sent(shipment(V2, after=first), first.verdict))

    assert found.verdict.state is State.PLANNED
    assert not found.verdict.copies


def test_a_transaction_implies_the_composition_beside_its_document(dock: Dock) -> None:
    """A server may have rewritten the words of a Composition, which has nothing else to tell its version."""
    able = abilities("transaction")
    sent = dock.send(able, V1)
    dock.server.edit(COMPOSITION, sent.verdict.copies[COMPOSITION].server_id or "", section=[{"title": "Rewritten"}])

    assert dock.look_up(able, sent).verdict.state is State.DELIVERED
    assert dock.look_up(abilities("batch"), sent).verdict.state is State.PLANNED


def test_a_transaction_that_was_half_done_implies_nothing(dock: Dock) -> None:
    able = abilities("transaction")
    first = dock.send(able, V1)
    (half,) = dock.deliver(able, shipment(V2, (DOCUMENT,), after=first))

    found = dock.look_up(able, Sent(shipment(V2, after=first), half.verdict))

    assert found.verdict.state is State.PLANNED
    assert set(found.verdict.copies) == {DOCUMENT}


@every_way
@pytest.mark.parametrize("kind", [COMPOSITION, DOCUMENT])
def test_several_are_for_a_person(dock: Dock, way: str, kind: str) -> None:
    able = abilities(way)
    sent = dock.send(able, V1)
    twin = dock.server.store[kind, sent.verdict.copies[kind].server_id or ""]
    dock.server.store[kind, "twin"] = [{**twin[-1], "id": "twin"}]

    assert dock.look_up(able, sent).outcome == (State.REJECTED, "several_matches")


@every_way
@pytest.mark.parametrize("status", [400, 403, 429, 500])
def test_a_server_that_will_not_tell_leaves_it_unknown(dock: Dock, way: str, status: int) -> None:
    able = abilities(way)
    sent = dock.send(able, V1)
    dock.server.read_faults.append(status)

    found = dock.look_up(able, sent)

    assert found.outcome == (State.UNKNOWN, "lookup_failed")
    assert found.verdict.error is not None
    shows_nothing(found)


@every_way
def test_what_is_known_before_the_server_falls_silent_is_kept(dock: Dock, way: str) -> None:
    able = abilities(way)
    sent = dock.send(able, V1)
    dock.server.read_faults.extend([0, 500])

    found = dock.look_up(able, sent)

    assert found.outcome == (State.UNKNOWN, "lookup_failed")
    assert set(found.verdict.copies) == {COMPOSITION}


@every_way
@pytest.mark.parametrize(
    "answer",
    [
        {"resourceType": "OperationOutcome"},
        {"resourceType": "Composition", "id": "s1"},
        {"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "DocumentReference", "id": "s1"}}]},
        {"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Composition", "id": "Zoë Testperson"}}]},
        [],
    ],
)
def test_an_answer_to_another_question_is_none(dock: Dock, way: str, answer: Any) -> None:
    able = abilities(way)
    sent = dock.send(able, V1)
    dock.server.does.searchset = lambda _: answer

    found = dock.look_up(able, sent)

    assert found.outcome == (State.UNKNOWN, "lookup_failed")
    shows_nothing(found)


def by_id(way: str) -> Any:
    """A target that keeps no identifiers of ours: it cannot be searched, only read."""
    return abilities(way, kinds=(DOCUMENT,), search=False)


@pytest.mark.parametrize("way", ["single", "unconditional"])
def test_what_was_to_be_replaced_is_read_by_its_id(dock: Dock, way: str) -> None:
    able = by_id(way)
    first = dock.send(able, V1)
    dock.server.faults.append(Fault(500))
    lost = dock.send(able, V2, first)

    before = dock.look_up(able, lost)
    dock.again(able, lost)
    after = dock.look_up(able, lost)

    assert before.outcome == (State.PLANNED, "")
    assert after.verdict.state is State.DELIVERED
    assert after.verdict.copies[DOCUMENT].etag == 'W/"2"'


@pytest.mark.parametrize("way", ["single", "unconditional"])
def test_a_document_of_its_own_is_not_looked_for_in_the_place_of_the_old_one(dock: Dock, way: str) -> None:
    able = abilities(way, kinds=(DOCUMENT,), search=False, amendment="new_document")
    first = dock.send(able, V1)

    found = dock.look_up(able, Sent(shipment(V2, able.kinds, after=first), first.verdict))

    assert found.outcome == (State.UNKNOWN, "cannot_be_asked")


@every_way
def test_a_server_that_can_neither_be_searched_nor_read_is_not_asked(dock: Dock, way: str) -> None:
    mute = {"search": False, "read": False, "if_match": True}
    able, sent = abilities(way, **mute), unsent(dock, way, **mute)
    before = len(dock.server.seen)

    assert dock.look_up(able, sent).outcome == (State.UNKNOWN, "cannot_be_asked")
    assert len(dock.server.seen) == before


@pytest.mark.parametrize("way", ["single", "unconditional"])
def test_what_was_deleted_is_not_there(dock: Dock, way: str) -> None:
    able = by_id(way)
    first = dock.send(able, V1)
    dock.server.store.clear()

    assert dock.look_up(able, Sent(shipment(V2, able.kinds, after=first), first.verdict)).verdict.state is State.PLANNED


# What nothing but the words tells


WORDLESS = ("masterIdentifier",)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (V1, State.DELIVERED),
        (edited(V1, "Other words altogether."), State.PLANNED),
        (V2, State.PLANNED),
    ],
)
def test_without_an_identifier_of_the_version_its_words_tell(dock: Dock, source: Any, expected: State) -> None:
    able = abilities("single", kinds=(DOCUMENT,))
    sent = dock.send(able, V1, without=WORDLESS)

    found = dock.look_up(able, Sent(shipment(source, able.kinds, without=WORDLESS), sent.verdict))

    assert found.verdict.state is expected


def test_of_several_documents_of_a_note_the_one_in_these_words_is_it(dock: Dock) -> None:
    able = abilities("unconditional", kinds=(DOCUMENT,), amendment="new_document")
    first = dock.send(able, V1, without=WORDLESS)
    second = dock.send(able, V2, first, without=WORDLESS)

    found = dock.look_up(able, second)

    assert found.verdict.state is State.DELIVERED
    assert found.verdict.copies[DOCUMENT].server_id == second.verdict.copies[DOCUMENT].server_id
