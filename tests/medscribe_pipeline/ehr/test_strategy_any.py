"""What holds however notes are sent: by transaction, in batches, one by one, with idempotency keys."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.ehr.ledger import State
from medscribe_pipeline.errors import Deferred
from tests.medscribe_pipeline.ehr.clinic import note
from tests.medscribe_pipeline.ehr.odd_ehr import Fault
from tests.medscribe_pipeline.ehr.shipping import (
    ALL_KINDS,
    COMPOSITION,
    DOCUMENT,
    PROVENANCE,
    abilities,
    amended,
    every_conditional_way,
    every_safe_way,
    every_way,
    shows_nothing,
    spoken,
)

if TYPE_CHECKING:
    from tests.medscribe_pipeline.ehr.shipping import Dock, Sent

V1, V2 = note(1), amended(note(1))
BOTH = {COMPOSITION, DOCUMENT}


@every_way
def test_a_new_note_is_created_and_its_copies_are_told(dock: Dock, way: str) -> None:
    dock.heed(way)

    sent = dock.send(abilities(way), V1)

    assert sent.outcome == (State.DELIVERED, "")
    assert {kind: (copy.server_id, copy.etag) for kind, copy in sent.verdict.copies.items()} == {
        kind: (dock.server.newest(kind)[0]["id"], 'W/"1"') for kind in BOTH
    }
    assert sent.verdict.seconds > 0
    assert dock.points.count("request") == dock.points.count("response") == len(dock.server.writes())
    shows_nothing(sent)


@every_safe_way
def test_a_note_that_is_there_already_is_left_as_it_is(dock: Dock, way: str) -> None:
    dock.heed(way)
    able = abilities(way)
    first = dock.send(able, V1)

    again = dock.send(able, V1)

    assert again.outcome == (State.DELIVERED, "")
    assert {k: c.server_id for k, c in again.verdict.copies.items()} == {
        k: c.server_id for k, c in first.verdict.copies.items()
    }
    assert dock.versions(COMPOSITION) == dock.versions(DOCUMENT) == [1]


@every_conditional_way
def test_an_older_version_from_an_earlier_life_is_replaced_and_not_doubled(dock: Dock, way: str) -> None:
    able = abilities(way)
    dock.send(able, V1)

    sent = dock.send(able, V2)

    assert sent.outcome == (State.DELIVERED, "")
    assert dock.versions(COMPOSITION) == dock.versions(DOCUMENT) == [2]
    assert len(dock.of_version(V2)) == 1
    assert {copy.etag for copy in sent.verdict.copies.values()} == {'W/"2"'}


@every_conditional_way
def test_a_newer_version_is_never_overwritten_by_an_older_one(dock: Dock, way: str) -> None:
    able = abilities(way)
    dock.send(able, V2)

    sent = dock.send(able, V1)

    assert sent.outcome == (State.REJECTED, "newer_in_ehr")
    assert dock.versions(COMPOSITION) == dock.versions(DOCUMENT) == [1]
    assert len(dock.of_version(V2)) == 1


@every_conditional_way
def test_where_amendments_are_done_by_hand_another_version_waits_for_a_person(dock: Dock, way: str) -> None:
    dock.send(abilities(way), V1)

    sent = dock.send(abilities(way, amendment="hold"), V2)

    assert sent.outcome == (State.REJECTED, "other_version_in_ehr")
    assert dock.versions() == [1]


@every_conditional_way
def test_an_older_version_is_replaced_on_a_server_that_can_be_searched_and_not_read(dock: Dock, way: str) -> None:
    able = abilities(way, read=False)
    dock.server.does.reads = False
    dock.send(able, V1)

    sent = dock.send(able, V2)

    assert sent.outcome == (State.DELIVERED, "")
    assert dock.versions() == [2]


@every_conditional_way
def test_several_documents_of_one_note_are_for_a_person(dock: Dock, way: str) -> None:
    able = abilities(way, kinds=(COMPOSITION, DOCUMENT, PROVENANCE))
    dock.server.does.conditional = False
    dock.send(able, V1)
    dock.send(able, V1)
    dock.server.does.conditional = True

    sent = dock.send(able, V2)

    assert sent.outcome == (State.REJECTED, "several_matches")
    assert dock.versions() == [1, 1]


# Failing


@every_safe_way
@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("fault", [Fault(cut=True), Fault(500), Fault(503), Fault(504), Fault(408)])
def test_an_answer_that_is_lost_is_looked_up(dock: Dock, way: str, fault: Fault, committed: bool) -> None:
    dock.heed(way)
    able = abilities(way, kinds=(DOCUMENT,))
    dock.server.faults.append(replace(fault, committed=committed))

    lost = dock.send(able, V1)

    assert lost.verdict.state is State.UNKNOWN
    assert len(dock.server.writes()) == 1
    assert dock.look_up(able, lost).verdict.state is (State.DELIVERED if committed else State.PLANNED)
    shows_nothing(lost)


@every_way
def test_a_server_that_is_not_there_was_sent_nothing(dock: Dock, way: str) -> None:
    dock.server.close()

    sent = dock.send(abilities(way), V1)

    assert sent.verdict.state is State.PLANNED
    assert sent.verdict.codes == ("unreachable",)
    shows_nothing(sent)


@every_way
@pytest.mark.parametrize("wait", ["7", "Mon, 02 Mar 2026 18:00:07 GMT"])
def test_the_wait_a_server_asks_for_is_kept(dock: Dock, way: str, wait: str) -> None:
    dock.heed(way)
    dock.server.faults.append(Fault(429, headers={"Retry-After": wait, "Date": "Mon, 02 Mar 2026 18:00:00 GMT"}))

    sent = dock.send(abilities(way), V1)
    again = dock.again(abilities(way), sent)

    assert sent.verdict.state is State.PLANNED
    assert sent.verdict.stops
    assert len(dock.slept) == 1
    assert 6 < dock.slept[0] <= 7
    assert again.outcome == (State.DELIVERED, "")


@every_way
def test_a_wait_longer_than_we_are_willing_to_is_told(dock: Dock, way: str) -> None:
    dock.heed(way)
    dock.server.faults.append(Fault(503, headers={"Retry-After": "3600"}))

    sent = dock.send(abilities(way), V1)

    assert sent.verdict.state is State.PLANNED
    assert isinstance(sent.verdict.error, Deferred)
    assert dock.server.newest(DOCUMENT) == []


@every_way
@pytest.mark.parametrize("body", [b"", b"<html>Testperson</html>", b'{"error": {"message": "Testperson", "code": 3}}'])
def test_a_refusal_is_understood_whatever_its_body(dock: Dock, way: str, body: bytes) -> None:
    dock.heed(way)
    dock.server.faults.extend([Fault(422, body=body)] * 4)

    sent = dock.send(abilities(way), V1)

    assert sent.outcome == (State.REJECTED, "refused")
    assert sent.verdict.codes == ("422",)
    shows_nothing(sent)


@every_way
def test_of_a_refusal_codes_and_paths_are_kept(dock: Dock, way: str) -> None:
    dock.heed(way)
    dock.server.does.refuses = lambda _: 422

    sent = dock.send(abilities(way), V1)

    assert sent.outcome == (State.REJECTED, "refused")
    assert sent.verdict.codes == ("422", "invalid", "Composition")
    shows_nothing(sent)


@every_way
def test_a_note_too_large_for_the_server_says_so(dock: Dock, way: str) -> None:
    dock.heed(way)
    dock.server.does.max_bytes = 500

    sent = dock.send(abilities(way), V1)

    assert sent.outcome == (State.REJECTED, "too_large")
    assert dock.server.newest(DOCUMENT) == []


@every_way
def test_credentials_that_are_refused_stop_everything(dock: Dock, way: str) -> None:
    dock.server.does.token = "another"

    sent = dock.send(abilities(way), V1)

    assert sent.verdict.state is State.PLANNED
    assert sent.verdict.stops
    assert len(dock.server.seen) == 1


@every_safe_way
def test_where_it_was_put_nobody_said_so_it_is_looked_for(dock: Dock, way: str) -> None:
    dock.heed(way)
    dock.server.does.locations = False
    able = abilities(way)

    sent = dock.send(able, V1)

    assert sent.outcome == (State.UNKNOWN, "no_location")
    assert dock.look_up(able, sent).verdict.state in (State.DELIVERED, State.PLANNED)
    assert dock.versions() in ([1], [])


@every_way
def test_what_was_only_accepted_is_not_there_yet(dock: Dock, way: str) -> None:
    dock.heed(way)
    dock.server.faults.append(Fault(202, committed=True, body=b""))

    sent = dock.send(abilities(way, kinds=(DOCUMENT,)), V1)

    assert sent.verdict.state is State.UNKNOWN


# What is sent


@every_way
def test_what_is_done_is_not_sent_again(dock: Dock, way: str) -> None:
    dock.heed(way)
    able = abilities(way)
    sent: Sent = dock.send(able, V1)
    before = len(dock.server.writes())

    again = dock.again(able, sent)

    assert again.outcome == (State.DELIVERED, "")
    assert len(dock.server.writes()) == before


def test_the_same_note_gives_the_same_bytes(dock: Dock) -> None:
    able = abilities("transaction", kinds=ALL_KINDS)
    dock.server.faults.extend([Fault(500)] * 2)

    dock.send(able, spoken(V1))
    dock.send(able, spoken(V1))

    one, other = dock.server.writes()
    assert one.body == other.body


def test_notes_of_other_dates_are_no_newer(dock: Dock) -> None:
    """A date that is missing, or has no time, says nothing about which of two versions is newer."""
    able = abilities("single", kinds=(DOCUMENT,))
    first = dock.send(able, replace(V1, updated_at=V1.updated_at and V1.updated_at + timedelta(days=1)))
    dock.server.edit(DOCUMENT, first.verdict.copies[DOCUMENT].server_id or "", date="2026")

    sent = dock.send(able, V2)

    assert sent.outcome == (State.DELIVERED, "")
