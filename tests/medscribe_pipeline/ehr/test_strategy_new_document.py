"""Versions that stand beside each other, and what follows the documents, however they are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.ehr.ledger import State
from tests.medscribe_pipeline.ehr.clinic import note
from tests.medscribe_pipeline.ehr.odd_ehr import Fault
from tests.medscribe_pipeline.ehr.shipping import (
    ALL_KINDS,
    COMPOSITION,
    DOCUMENT,
    PROVENANCE,
    TRANSCRIPT,
    abilities,
    amended,
    every_conditional_way,
    every_safe_way,
    every_way,
    spoken,
    withdrawn,
)

if TYPE_CHECKING:
    from tests.medscribe_pipeline.ehr.shipping import Dock

V1, V2 = note(1), amended(note(1))
BOTH = {COMPOSITION, DOCUMENT}


@every_way
def test_a_provenance_names_what_it_is_about_by_id(dock: Dock, way: str) -> None:
    dock.heed(way)

    sent = dock.send(abilities(way, kinds=(COMPOSITION, DOCUMENT, PROVENANCE)), V1)

    assert sent.outcome == (State.DELIVERED, "")
    (stored,) = dock.server.newest(PROVENANCE)
    copies = sent.verdict.copies
    assert [each["reference"] for each in stored["target"]] == [
        f"DocumentReference/{copies[DOCUMENT].server_id}",
        f"Composition/{copies[COMPOSITION].server_id}",
    ]
    assert copies[PROVENANCE].server_id == stored["id"]


@every_way
def test_each_version_has_a_provenance_of_its_own(dock: Dock, way: str) -> None:
    dock.heed(way)
    able = abilities(way, kinds=(COMPOSITION, DOCUMENT, PROVENANCE))
    first = dock.send(able, V1)

    second = dock.send(able, V2, first)

    assert second.outcome == (State.DELIVERED, "")
    assert dock.versions(PROVENANCE) == [1, 1]
    assert dock.server.newest(PROVENANCE)[1]["target"][1]["reference"] == (
        f"Composition/{first.verdict.copies[COMPOSITION].server_id}"
    )


@every_way
def test_a_provenance_that_is_refused_leaves_the_documents_done(dock: Dock, way: str) -> None:
    dock.heed(way)
    dock.server.does.refuses = lambda resource: 422 if resource["resourceType"] == PROVENANCE else 0
    able = abilities(way, kinds=(COMPOSITION, DOCUMENT, PROVENANCE))

    sent = dock.send(able, V1)
    dock.server.does.refuses = lambda _: 0
    again = dock.again(able, sent)

    assert sent.outcome == (State.REJECTED, "refused")
    assert set(sent.verdict.copies) == (set() if way == "transaction" else BOTH)
    assert again.outcome == (State.DELIVERED, "")
    assert dock.versions() == [1]


@every_way
def test_a_transcript_names_the_note_it_is_of(dock: Dock, way: str) -> None:
    dock.heed(way)
    able = abilities(way, kinds=ALL_KINDS)

    sent = dock.send(able, spoken(V1))

    assert sent.outcome == (State.DELIVERED, "")
    copies = sent.verdict.copies
    stored = dock.server.store[DOCUMENT, copies[TRANSCRIPT].server_id or ""][-1]
    (related,) = stored["context"]["related"]
    known = related.get("reference", f"DocumentReference/{copies[DOCUMENT].server_id}")
    assert known == f"DocumentReference/{copies[DOCUMENT].server_id}"
    assert "reference" in related or way == "batch"  # Entries of a batch cannot refer to each other.
    assert copies[TRANSCRIPT].server_id != copies[DOCUMENT].server_id


# Amendments as new documents


AS_NEW: dict[str, Any] = {"amendment": "new_document", "kinds": (DOCUMENT,), "if_match": True}


@every_way
def test_a_new_document_replaces_the_old_one_which_is_marked(dock: Dock, way: str) -> None:
    dock.heed(way)
    able = abilities(way, **AS_NEW)
    first = dock.send(able, V1)

    second = dock.send(able, V2, first)

    assert second.outcome == (State.DELIVERED, "")
    old, new = dock.server.newest(DOCUMENT)
    assert (old["status"], new["status"]) == ("superseded", "current")
    assert new["relatesTo"] == [{"code": "replaces", "target": {"reference": f"DocumentReference/{old['id']}"}}]
    assert second.verdict.copies[DOCUMENT].server_id == new["id"]
    assert old["content"] == dock.server.store[DOCUMENT, old["id"]][0]["content"]


@every_way
def test_what_was_edited_in_the_ehr_is_not_marked_and_the_note_goes_out(dock: Dock, way: str) -> None:
    dock.heed(way)
    able = abilities(way, **AS_NEW)
    first = dock.send(able, V1)
    dock.server.edit(DOCUMENT, first.verdict.copies[DOCUMENT].server_id or "", description="by hand")

    second = dock.send(able, V2, first)

    assert second.outcome == (State.DELIVERED, "")
    assert "replaced_was_changed" in second.verdict.codes
    assert [each["status"] for each in dock.server.newest(DOCUMENT)] == ["current", "current"]


@every_way
@pytest.mark.parametrize("status", [400, 403, 409, 412, 413, 422])
def test_a_note_does_not_wait_for_the_mark_on_another(dock: Dock, way: str, status: int) -> None:
    dock.heed(way)
    able = abilities(way, **AS_NEW)
    first = dock.send(able, V1)
    dock.server.does.refuses = lambda resource: status if resource["status"] == "superseded" else 0

    second = dock.send(able, V2, first)

    assert second.outcome == (State.DELIVERED, "")
    assert "superseding_refused" in second.verdict.codes
    assert len(dock.of_version(V2)) == 1


@every_way
def test_a_mark_that_may_be_missing_is_made_later(dock: Dock, way: str) -> None:
    dock.heed(way)
    able = abilities(way, **AS_NEW)
    first = dock.send(able, V1)
    apart = 0 if way == "transaction" else 1
    dock.server.faults.extend([Fault()] * apart + [Fault(500)])

    second = dock.send(able, V2, first)
    known = dock.look_up(able, second) if second.verdict.state is State.UNKNOWN else second
    again = dock.again(able, second, dict(known.verdict.copies))

    assert second.verdict.state is (State.UNKNOWN if way == "transaction" else State.PLANNED)
    assert again.outcome == (State.DELIVERED, "")
    assert [each["status"] for each in dock.server.newest(DOCUMENT)] == ["superseded", "current"]


@every_way
def test_a_mark_that_was_made_is_not_told_as_a_change(dock: Dock, way: str) -> None:
    dock.heed(way)
    able = abilities(way, **AS_NEW)
    first = dock.send(able, V1)
    second = dock.send(able, V2, first)

    again = dock.again(able, second)

    assert again.outcome == (State.DELIVERED, "")
    assert "replaced_was_changed" not in again.verdict.codes
    assert dock.versions() == [2, 1]


@every_way
@pytest.mark.parametrize(("status", "marked"), [(503, True), (403, False), (400, False)])
def test_a_mark_whose_document_cannot_be_read(dock: Dock, way: str, status: int, marked: bool) -> None:
    dock.heed(way)
    able = abilities(way, **AS_NEW)
    first = dock.send(able, V1)
    dock.server.read_faults.append(status)

    second = dock.send(able, V2, first)
    again = dock.again(able, second)

    assert second.verdict.state is (State.PLANNED if marked else State.DELIVERED)
    assert ("superseding_refused" in second.verdict.codes) is not marked
    assert again.outcome == (State.DELIVERED, "")
    assert len(dock.of_version(V2)) == 1


@every_way
def test_a_mark_that_waits_for_a_document_that_is_done(dock: Dock, way: str) -> None:
    dock.heed(way)
    able = abilities(way, **AS_NEW)
    first = dock.send(able, V1)
    second = dock.send(abilities(way, **{**AS_NEW, "if_match": False}), V2, first)
    dock.server.read_faults.append(500)

    unread = dock.again(able, second)
    again = dock.again(able, unread)

    assert unread.verdict.state is State.PLANNED
    assert unread.verdict.copies == second.verdict.copies
    assert again.outcome == (State.DELIVERED, "")
    assert [each["status"] for each in dock.server.newest(DOCUMENT)] == ["superseded", "current"]


@every_way
def test_an_old_document_that_is_gone_needs_no_mark(dock: Dock, way: str) -> None:
    dock.heed(way)
    able = abilities(way, **AS_NEW)
    first = dock.send(able, V1)
    dock.server.store.clear()

    second = dock.send(able, V2, first)

    assert second.outcome == (State.DELIVERED, "")
    assert "replaced_was_changed" in second.verdict.codes


@every_conditional_way
def test_a_new_document_that_is_there_already_needs_no_reading(dock: Dock, way: str) -> None:
    able = abilities(way, **{**AS_NEW, "read": False, "search": False})
    dock.server.does.reads = dock.server.does.searches = False
    first = dock.send(able, V1)

    again = dock.send(able, V1)

    assert again.outcome == (State.DELIVERED, "")
    assert again.verdict.copies[DOCUMENT].server_id == first.verdict.copies[DOCUMENT].server_id


@every_conditional_way
@pytest.mark.parametrize(("can", "reason"), [(True, "vanished"), (False, "cannot_be_asked")])
def test_a_match_nobody_can_show_is_not_believed(dock: Dock, way: str, can: bool, reason: str) -> None:
    able = abilities(way, kinds=(DOCUMENT,), read=can, search=can)
    dock.send(able, V1)
    dock.server.read_faults.append(404)

    sent = dock.send(able, V1)

    assert sent.outcome == (State.UNKNOWN, reason)


@every_safe_way
def test_a_note_edited_back_is_current_again_and_not_doubled(dock: Dock, way: str) -> None:
    dock.heed(way)
    able = abilities(way, **AS_NEW)
    second = dock.send(able, V2, dock.send(able, V1))

    back = dock.send(able, V1, second)

    assert back.outcome == (State.DELIVERED, "")
    old, new = dock.server.newest(DOCUMENT)
    assert (old["status"], new["status"]) == ("current", "superseded")
    assert len(dock.of_version(V1)) == 1
    assert back.verdict.copies[DOCUMENT].server_id == old["id"]


@every_safe_way
def test_a_note_edited_back_whose_answer_was_lost_is_not_taken_for_there(dock: Dock, way: str) -> None:
    dock.heed(way)
    able = abilities(way, **AS_NEW)
    second = dock.send(able, V2, dock.send(able, V1))
    dock.server.faults.append(Fault(500))
    lost = dock.send(able, V1, second)

    found = dock.look_up(able, lost)
    again = dock.again(able, lost, dict(found.verdict.copies))

    assert found.verdict.state is State.PLANNED
    assert again.outcome == (State.DELIVERED, "")
    assert [each["status"] for each in dock.server.newest(DOCUMENT)] == ["current", "superseded"]


@every_conditional_way
@pytest.mark.parametrize(("status", "reason"), [("superseded", "newer_in_ehr"), ("entered-in-error", "changed_in_ehr")])
def test_what_the_ehr_has_moved_on_from_is_not_made_current(dock: Dock, way: str, status: str, reason: str) -> None:
    able = abilities(way, **AS_NEW)
    first = dock.send(able, V1)
    dock.server.edit(DOCUMENT, first.verdict.copies[DOCUMENT].server_id or "", status=status)

    sent = dock.send(able, V1)  # The ledger was lost.

    assert sent.outcome == (State.REJECTED, reason)
    assert dock.server.newest(DOCUMENT)[0]["status"] == status


@every_way
@pytest.mark.parametrize("amendment", ["update", "new_document"])
def test_a_withdrawal_is_made_in_place(dock: Dock, way: str, amendment: str) -> None:
    dock.heed(way)
    able = abilities(way, if_match=True, amendment=amendment)
    first = dock.send(able, V1)

    sent = dock.send(able, withdrawn(V1), first)

    assert sent.outcome == (State.DELIVERED, "")
    assert [each["status"] for each in dock.server.newest(DOCUMENT)] == ["entered-in-error"]
    assert [each["status"] for each in dock.server.newest(COMPOSITION)] == ["entered-in-error"]
