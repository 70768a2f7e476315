"""What holds however notes are sent: by transaction, in batches, one by one, with idempotency keys."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.ehr.ledger import State
from medscribe_pipeline.errors import Deferred
from tests.medscribe_pipeline.ehr.clinic import edited, note
from tests.medscribe_pipeline.ehr.odd_ehr import Fault
from tests.medscribe_pipeline.ehr.shipping import (
    ALL_KINDS,
    COMPOSITION,
    DOCUMENT,
    IDEMPOTENCY,
    PROVENANCE,
    TRANSCRIPT,
    abilities,
    amended,
    shows_nothing,
    spoken,
    withdrawn,
)

if TYPE_CHECKING:
    from tests.medscribe_pipeline.ehr.shipping import Dock, Sent

CONDITIONAL = ("transaction", "batch", "single")
SAFE = (*CONDITIONAL, "keyed")
WAYS = (*SAFE, "unconditional")
V1, V2 = note(1), amended(note(1))
BOTH = {COMPOSITION, DOCUMENT}

every_way = pytest.mark.parametrize("way", WAYS)
every_safe_way = pytest.mark.parametrize("way", SAFE)
every_conditional_way = pytest.mark.parametrize("way", CONDITIONAL)


def heed(dock: Dock, way: str) -> None:
    """The server is one for which this way is right."""
    dock.server.does.bundles = way in ("transaction", "batch")
    dock.server.does.conditional = way in CONDITIONAL
    dock.server.does.header = IDEMPOTENCY if way == "keyed" else ""


def versions(dock: Dock, kind: str = DOCUMENT) -> list[int]:
    """How many versions there are of each resource."""
    return [len(each) for (type_, _), each in dock.server.store.items() if type_ == kind]


# Creating


@every_way
def test_a_new_note_is_created_and_its_copies_are_told(dock: Dock, way: str) -> None:
    heed(dock, way)

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
    heed(dock, way)
    able = abilities(way)
    first = dock.send(able, V1)

    again = dock.send(able, V1)

    assert again.outcome == (State.DELIVERED, "")
    assert {k: c.server_id for k, c in again.verdict.copies.items()} == {
        k: c.server_id for k, c in first.verdict.copies.items()
    }
    assert versions(dock, COMPOSITION) == versions(dock, DOCUMENT) == [1]


@every_conditional_way
def test_an_older_version_from_an_earlier_life_is_replaced_and_not_doubled(dock: Dock, way: str) -> None:
    able = abilities(way)
    dock.send(able, V1)

    sent = dock.send(able, V2)

    assert sent.outcome == (State.DELIVERED, "")
    assert versions(dock, COMPOSITION) == versions(dock, DOCUMENT) == [2]
    assert len(dock.of_version(V2)) == 1
    assert {copy.etag for copy in sent.verdict.copies.values()} == {'W/"2"'}


@every_conditional_way
def test_a_newer_version_is_never_overwritten_by_an_older_one(dock: Dock, way: str) -> None:
    able = abilities(way)
    dock.send(able, V2)

    sent = dock.send(able, V1)

    assert sent.outcome == (State.REJECTED, "newer_in_ehr")
    assert versions(dock, COMPOSITION) == versions(dock, DOCUMENT) == [1]
    assert len(dock.of_version(V2)) == 1


@every_conditional_way
def test_where_amendments_are_done_by_hand_another_version_waits_for_a_person(dock: Dock, way: str) -> None:
    dock.send(abilities(way), V1)

    sent = dock.send(abilities(way, amendment="hold"), V2)

    assert sent.outcome == (State.REJECTED, "other_version_in_ehr")
    assert versions(dock) == [1]


@every_conditional_way
def test_an_older_version_is_replaced_on_a_server_that_can_be_searched_and_not_read(dock: Dock, way: str) -> None:
    able = abilities(way, read=False)
    dock.server.does.reads = False
    dock.send(able, V1)

    sent = dock.send(able, V2)

    assert sent.outcome == (State.DELIVERED, "")
    assert versions(dock) == [2]


@every_conditional_way
def test_several_documents_of_one_note_are_for_a_person(dock: Dock, way: str) -> None:
    able = abilities(way, kinds=(COMPOSITION, DOCUMENT, PROVENANCE))
    dock.server.does.conditional = False
    dock.send(able, V1)
    dock.send(able, V1)
    dock.server.does.conditional = True

    sent = dock.send(able, V2)

    assert sent.outcome == (State.REJECTED, "several_matches")
    assert versions(dock) == [1, 1]


# Updating


@every_way
def test_a_later_version_replaces_what_was_left(dock: Dock, way: str) -> None:
    heed(dock, way)
    able = abilities(way)
    first = dock.send(able, V1)

    sent = dock.send(able, V2, first)

    assert sent.outcome == (State.DELIVERED, "")
    assert versions(dock, COMPOSITION) == versions(dock, DOCUMENT) == [2]
    (stored,) = dock.server.newest(DOCUMENT)
    assert "relatesTo" not in stored  # It would replace itself.
    assert stored["docStatus"] == "amended"
    assert {copy.etag for copy in sent.verdict.copies.values()} == {'W/"2"'}


@every_way
@pytest.mark.parametrize("stale", [412, 409])
def test_what_somebody_changed_in_the_ehr_is_not_overwritten(dock: Dock, way: str, stale: int) -> None:
    heed(dock, way)
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
    heed(dock, way)
    able = abilities(way)
    first = dock.send(able, V1)
    dock.server.edit(COMPOSITION, first.verdict.copies[COMPOSITION].server_id or "", title="by hand")

    sent = dock.send(able, V2, first)

    assert sent.outcome == (State.REJECTED, "changed_in_ehr")
    assert dock.server.newest(COMPOSITION)[0]["title"] == "by hand"


@pytest.mark.parametrize("way", [*CONDITIONAL, "unconditional"])
@pytest.mark.parametrize("stale", [412, 409])
def test_a_race_between_looking_and_writing_is_lost_by_us(dock: Dock, way: str, stale: int) -> None:
    heed(dock, way)
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
    heed(dock, way)
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
    heed(dock, way)
    dock.server.does.stale = stale
    able = abilities(way)
    first = dock.send(able, V1)
    dock.server.faults.append(Fault(cut=True, committed=True))
    lost = dock.send(able, V2, first)

    again = dock.again(able, lost)

    assert lost.verdict.state is State.UNKNOWN
    assert again.outcome == (State.DELIVERED, "")
    assert versions(dock, COMPOSITION) == versions(dock, DOCUMENT) == [2]
    assert again.verdict.copies[DOCUMENT].etag == 'W/"2"'


@every_way
def test_a_conflict_that_changed_nothing_is_looked_at_again(dock: Dock, way: str) -> None:
    heed(dock, way)
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
    heed(dock, way)
    dock.server.does.etags = False
    able = abilities(way, if_match=False)
    first = dock.send(able, V1)

    second = dock.send(able, V2, first)

    assert second.outcome == (State.DELIVERED, "")
    assert versions(dock) == [2]
    assert second.verdict.copies[DOCUMENT].etag is None


@every_way
def test_without_versions_another_version_in_its_place_is_noticed(dock: Dock, way: str) -> None:
    heed(dock, way)
    dock.server.does.etags = False
    able = abilities(way, if_match=False)
    first = dock.send(able, V1)
    dock.send(able, edited(V1, "Cough, in another life."), first)

    sent = dock.send(able, V2, first)

    assert sent.outcome == (State.REJECTED, "changed_in_ehr")
    assert dock.of_version(V2) == []


@every_way
def test_without_versions_and_identifiers_nobody_can_say_what_stands(dock: Dock, way: str) -> None:
    heed(dock, way)
    dock.server.does.etags = False
    able = abilities(way, if_match=False, kinds=(DOCUMENT,))
    first = dock.send(able, V1)

    sent = dock.send(able, V2, first, without=("masterIdentifier", "identifier"))

    assert sent.outcome == (State.REJECTED, "version_unknown")
    assert dock.of_version(V2) == []


# Failing


@every_safe_way
@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("fault", [Fault(cut=True), Fault(500), Fault(503), Fault(504), Fault(408)])
def test_an_answer_that_is_lost_is_looked_up(dock: Dock, way: str, fault: Fault, committed: bool) -> None:
    heed(dock, way)
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
    heed(dock, way)
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
    heed(dock, way)
    dock.server.faults.append(Fault(503, headers={"Retry-After": "3600"}))

    sent = dock.send(abilities(way), V1)

    assert sent.verdict.state is State.PLANNED
    assert isinstance(sent.verdict.error, Deferred)
    assert dock.server.newest(DOCUMENT) == []


@every_way
@pytest.mark.parametrize("body", [b"", b"<html>Testperson</html>", b'{"error": {"message": "Testperson", "code": 3}}'])
def test_a_refusal_is_understood_whatever_its_body(dock: Dock, way: str, body: bytes) -> None:
    heed(dock, way)
    dock.server.faults.extend([Fault(422, body=body)] * 4)

    sent = dock.send(abilities(way), V1)

    assert sent.outcome == (State.REJECTED, "refused")
    assert sent.verdict.codes == ("422",)
    shows_nothing(sent)


@every_way
def test_of_a_refusal_codes_and_paths_are_kept(dock: Dock, way: str) -> None:
    heed(dock, way)
    dock.server.does.refuses = lambda _: 422

    sent = dock.send(abilities(way), V1)

    assert sent.outcome == (State.REJECTED, "refused")
    assert sent.verdict.codes == ("422", "invalid", "Composition")
    shows_nothing(sent)


@every_way
def test_a_note_too_large_for_the_server_says_so(dock: Dock, way: str) -> None:
    heed(dock, way)
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
    heed(dock, way)
    dock.server.does.locations = False
    able = abilities(way)

    sent = dock.send(able, V1)

    assert sent.outcome == (State.UNKNOWN, "no_location")
    assert dock.look_up(able, sent).verdict.state in (State.DELIVERED, State.PLANNED)
    assert versions(dock) in ([1], [])


@every_way
def test_what_was_only_accepted_is_not_there_yet(dock: Dock, way: str) -> None:
    heed(dock, way)
    dock.server.faults.append(Fault(202, committed=True, body=b""))

    sent = dock.send(abilities(way, kinds=(DOCUMENT,)), V1)

    assert sent.verdict.state is State.UNKNOWN


# What follows the documents


@every_way
def test_a_provenance_names_what_it_is_about_by_id(dock: Dock, way: str) -> None:
    heed(dock, way)

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
    heed(dock, way)
    able = abilities(way, kinds=(COMPOSITION, DOCUMENT, PROVENANCE))
    first = dock.send(able, V1)

    second = dock.send(able, V2, first)

    assert second.outcome == (State.DELIVERED, "")
    assert versions(dock, PROVENANCE) == [1, 1]
    assert dock.server.newest(PROVENANCE)[1]["target"][1]["reference"] == (
        f"Composition/{first.verdict.copies[COMPOSITION].server_id}"
    )


@every_way
def test_a_provenance_that_is_refused_leaves_the_documents_done(dock: Dock, way: str) -> None:
    heed(dock, way)
    dock.server.does.refuses = lambda resource: 422 if resource["resourceType"] == PROVENANCE else 0
    able = abilities(way, kinds=(COMPOSITION, DOCUMENT, PROVENANCE))

    sent = dock.send(able, V1)
    dock.server.does.refuses = lambda _: 0
    again = dock.again(able, sent)

    assert sent.outcome == (State.REJECTED, "refused")
    assert set(sent.verdict.copies) == (set() if way == "transaction" else BOTH)
    assert again.outcome == (State.DELIVERED, "")
    assert versions(dock) == [1]


@every_way
def test_a_transcript_names_the_note_it_is_of(dock: Dock, way: str) -> None:
    heed(dock, way)
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
    heed(dock, way)
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
    heed(dock, way)
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
    heed(dock, way)
    able = abilities(way, **AS_NEW)
    first = dock.send(able, V1)
    dock.server.does.refuses = lambda resource: status if resource["status"] == "superseded" else 0

    second = dock.send(able, V2, first)

    assert second.outcome == (State.DELIVERED, "")
    assert "superseding_refused" in second.verdict.codes
    assert len(dock.of_version(V2)) == 1


@every_way
def test_a_mark_that_may_be_missing_is_made_later(dock: Dock, way: str) -> None:
    heed(dock, way)
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
    heed(dock, way)
    able = abilities(way, **AS_NEW)
    first = dock.send(able, V1)
    second = dock.send(able, V2, first)

    again = dock.again(able, second)

    assert again.outcome == (State.DELIVERED, "")
    assert "replaced_was_changed" not in again.verdict.codes
    assert versions(dock) == [2, 1]


@every_way
@pytest.mark.parametrize(("status", "marked"), [(503, True), (403, False), (400, False)])
def test_a_mark_whose_document_cannot_be_read(dock: Dock, way: str, status: int, marked: bool) -> None:
    heed(dock, way)
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
    heed(dock, way)
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


@every_safe_way
def test_a_note_edited_back_is_current_again_and_not_doubled(dock: Dock, way: str) -> None:
    heed(dock, way)
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
    heed(dock, way)
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
    heed(dock, way)
    able = abilities(way, if_match=True, amendment=amendment)
    first = dock.send(able, V1)

    sent = dock.send(able, withdrawn(V1), first)

    assert sent.outcome == (State.DELIVERED, "")
    assert [each["status"] for each in dock.server.newest(DOCUMENT)] == ["entered-in-error"]
    assert [each["status"] for each in dock.server.newest(COMPOSITION)] == ["entered-in-error"]


@every_way
def test_what_is_done_is_not_sent_again(dock: Dock, way: str) -> None:
    heed(dock, way)
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
