"""A later version takes the place of what was left, and of nothing else, however it is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.ehr.ledger import State
from tests.medscribe_pipeline.ehr.clinic import edited, note
from tests.medscribe_pipeline.ehr.odd_ehr import Fault
from tests.medscribe_pipeline.ehr.shipping import (
    COMPOSITION,
    CONDITIONAL,
    DOCUMENT,
    abilities,
    amended,
    every_conditional_way,
    every_way,
    shows_nothing,
)

if TYPE_CHECKING:
    from tests.medscribe_pipeline.ehr.shipping import Dock

V1, V2 = note(1), amended(note(1))


@every_way
def test_a_later_version_replaces_what_was_left(dock: Dock, way: str) -> None:
    dock.heed(way)
    able = abilities(way)
    first = dock.send(able, V1)

    sent = dock.send(able, V2, first)

    assert sent.outcome == (State.DELIVERED, "")
    assert dock.versions(COMPOSITION) == dock.versions(DOCUMENT) == [2]
    (stored,) = dock.server.newest(DOCUMENT)
    assert "relatesTo" not in stored  # It would replace itself.
    assert stored["docStatus"] == "amended"
    assert {copy.etag for copy in sent.verdict.copies.values()} == {'W/"2"'}


@every_way
@pytest.mark.parametrize("stale", [412, 409])
def test_what_somebody_changed_in_the_ehr_is_not_overwritten(dock: Dock, way: str, stale: int) -> None:
    dock.heed(way)
    able = abilities(way)
    first = dock.send(able, V1)
    dock.server.does.stale = stale
    dock.server.edit(DOCUMENT, first.verdict.copies[DOCUMENT].server_id or "", description="by hand")

    sent = dock.send(able, V2, first)

    assert sent.outcome == (State.REJECTED, "changed_in_ehr")
    assert dock.server.newest(DOCUMENT)[0]["description"] == "by hand"
    shows_nothing(sent)


@every_way
def test_an_edited_composition_is_not_overwritten_either(dock: Dock, way: str) -> None:
    dock.heed(way)
    able = abilities(way)
    first = dock.send(able, V1)
    dock.server.edit(COMPOSITION, first.verdict.copies[COMPOSITION].server_id or "", title="by hand")

    sent = dock.send(able, V2, first)

    assert sent.outcome == (State.REJECTED, "changed_in_ehr")
    assert dock.server.newest(COMPOSITION)[0]["title"] == "by hand"


@pytest.mark.parametrize("way", [*CONDITIONAL, "unconditional"])
@pytest.mark.parametrize("stale", [412, 409])
def test_a_race_between_looking_and_writing_is_lost_by_us(dock: Dock, way: str, stale: int) -> None:
    dock.heed(way)
    dock.server.does.stale = stale
    able = abilities(way)
    first = dock.send(able, V1)
    server_id = first.verdict.copies[DOCUMENT].server_id or ""
    dock.server.before_write = lambda: dock.server.edit(DOCUMENT, server_id, description="by hand")

    sent = dock.send(able, V2, first)

    assert sent.outcome == (State.REJECTED, "changed_in_ehr")
    assert dock.of_version(V2) == []


@every_way
def test_what_was_deleted_in_the_ehr_is_not_brought_back(dock: Dock, way: str) -> None:
    dock.heed(way)
    able = abilities(way)
    first = dock.send(able, V1)
    dock.server.does.refuses = lambda resource: 410 if "id" in resource else 0
    dock.server.store.clear()

    sent = dock.send(able, V2, first)

    assert sent.verdict.state is State.REJECTED
    assert dock.of_version(V2) == []


@pytest.mark.parametrize("way", [*CONDITIONAL, "unconditional"])
@pytest.mark.parametrize("stale", [412, 409])
def test_an_update_whose_answer_was_lost_is_known_again(dock: Dock, way: str, stale: int) -> None:
    dock.heed(way)
    dock.server.does.stale = stale
    able = abilities(way)
    first = dock.send(able, V1)
    dock.server.faults.append(Fault(cut=True, committed=True))
    lost = dock.send(able, V2, first)

    again = dock.again(able, lost)

    assert lost.verdict.state is State.UNKNOWN
    assert again.outcome == (State.DELIVERED, "")
    assert dock.versions(COMPOSITION) == dock.versions(DOCUMENT) == [2]
    assert again.verdict.copies[DOCUMENT].etag == 'W/"2"'


@every_way
def test_a_conflict_that_changed_nothing_is_looked_at_again(dock: Dock, way: str) -> None:
    dock.heed(way)
    able = abilities(way)
    first = dock.send(able, V1)
    dock.server.faults.append(Fault(409))

    sent = dock.send(able, V2, first)

    assert sent.outcome == (State.UNKNOWN, "conflict")
    assert dock.look_up(able, sent).verdict.state is State.PLANNED
    assert dock.again(able, sent).outcome == (State.DELIVERED, "")


@every_conditional_way
def test_two_who_create_at_once_make_one(dock: Dock, way: str) -> None:
    able = abilities(way, kinds=(DOCUMENT,))
    dock.server.faults.append(Fault(409))

    sent = dock.send(able, V1)

    assert sent.outcome == (State.UNKNOWN, "conflict")
    assert dock.look_up(able, sent).verdict.state is State.PLANNED


@every_way
def test_a_server_that_tells_no_versions_is_read_before_it_is_written(dock: Dock, way: str) -> None:
    dock.heed(way)
    dock.server.does.etags = False
    able = abilities(way, if_match=False)
    first = dock.send(able, V1)

    second = dock.send(able, V2, first)

    assert second.outcome == (State.DELIVERED, "")
    assert dock.versions() == [2]
    assert second.verdict.copies[DOCUMENT].etag is None


@every_way
def test_without_versions_another_version_in_its_place_is_noticed(dock: Dock, way: str) -> None:
    dock.heed(way)
    dock.server.does.etags = False
    able = abilities(way, if_match=False)
    first = dock.send(able, V1)
    dock.send(able, edited(V1, "Cough, in another life."), first)

    sent = dock.send(able, V2, first)

    assert sent.outcome == (State.REJECTED, "changed_in_ehr")
    assert dock.of_version(V2) == []


@every_way
def test_without_versions_and_identifiers_nobody_can_say_what_stands(dock: Dock, way: str) -> None:
    dock.heed(way)
    dock.server.does.etags = False
    able = abilities(way, if_match=False, kinds=(DOCUMENT,))
    first = dock.send(able, V1)

    sent = dock.send(able, V2, first, without=("masterIdentifier", "identifier"))

    assert sent.outcome == (State.REJECTED, "version_unknown")
    assert dock.of_version(V2) == []


@every_way
def test_without_versions_and_without_reading_nothing_is_replaced(dock: Dock, way: str) -> None:
    dock.heed(way)
    dock.server.does.etags = False
    able = abilities(way, if_match=True, read=False)
    first = dock.send(able, V1)

    sent = dock.send(able, V2, first)

    assert sent.outcome == (State.REJECTED, "version_unknown")
    assert dock.versions() == [1]


@every_way
def test_without_versions_a_write_whose_answer_was_lost_is_known_again(dock: Dock, way: str) -> None:
    dock.heed(way)
    dock.server.does.etags = False
    able = abilities(way, if_match=False, kinds=(DOCUMENT,))
    first = dock.send(able, V1)
    dock.server.faults.append(Fault(cut=True, committed=True))
    lost = dock.send(able, V2, first)

    again = dock.again(able, lost)

    assert lost.verdict.state is State.UNKNOWN
    assert again.outcome == (State.DELIVERED, "")
    assert dock.versions() == [2]


@every_way
def test_without_versions_a_newer_one_is_not_overwritten(dock: Dock, way: str) -> None:
    dock.heed(way)
    dock.server.does.etags = False
    able = abilities(way, if_match=False)
    first = dock.send(able, V1)
    dock.send(able, amended(V2), first)

    sent = dock.send(able, V2, first)

    assert sent.outcome == (State.REJECTED, "newer_in_ehr")
    assert dock.of_version(V2) == []


@every_way
@pytest.mark.parametrize("stale", [409, 412])
def test_a_conflict_over_what_is_gone_is_for_a_person(dock: Dock, way: str, stale: int) -> None:
    dock.heed(way)
    able = abilities(way, if_match=True)
    first = dock.send(able, V1)
    dock.server.does.refuses = lambda resource: stale if "id" in resource else 0
    dock.server.store.clear()

    sent = dock.send(able, V2, first)

    assert sent.outcome == (State.REJECTED, "changed_in_ehr")


@every_way
@pytest.mark.parametrize(
    ("status", "state", "code"),
    [(400, State.REJECTED, "400"), (500, State.PLANNED, "500"), (403, State.PLANNED, "403")],
)
def test_what_cannot_be_read_is_not_replaced(dock: Dock, way: str, status: int, state: State, code: str) -> None:
    dock.heed(way)
    able = abilities(way, if_match=False)
    first = dock.send(able, V1)
    before = len(dock.server.writes())
    dock.server.read_faults.append(status)

    sent = dock.send(able, V2, first)

    assert sent.verdict.state is state
    assert code in sent.verdict.codes
    assert len(dock.server.writes()) == before
    shows_nothing(sent)
