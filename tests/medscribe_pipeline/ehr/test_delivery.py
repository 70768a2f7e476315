from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from medscribe_pipeline.errors import ConfigError, Deferred, Retriable
from medscribe_pipeline.fhir import VERSION_SYSTEM, version_identifier
from medscribe_pipeline.notes import NoteState, TranscriptTurn
from medscribe_pipeline.settings import FhirSettings
from medscribe_pipeline.warehouse.tables import fhir_documents
from tests.databases import rows_of
from tests.medscribe_pipeline.ehr.clinic import edited, note
from tests.medscribe_pipeline.ehr.fake_ehr import BROKEN, CUT, Fault

if TYPE_CHECKING:
    from medscribe_pipeline.ehr.delivery import DeliveryReport
    from medscribe_pipeline.notes import ScribeNote
    from tests.medscribe_pipeline.ehr.clinic import Clinic
    from tests.medscribe_pipeline.ehr.fake_ehr import FakeEhr, Resource


def versions(ehr: FakeEhr) -> list[str]:
    """Version ids of everything the server holds."""
    return [each["meta"]["versionId"] for kind in ("Composition", "DocumentReference") for each in ehr.newest(kind)]


def holds(ehr: FakeEhr, *expected: ScribeNote) -> bool:
    """Whether the server holds exactly these note versions, one Composition and one DocumentReference each."""
    masters = sorted(each["masterIdentifier"]["value"] for each in ehr.newest("DocumentReference"))
    wanted = sorted(version_identifier(each.note_id, each.version) for each in expected)
    return masters == wanted and len(ehr.newest("Composition")) == len(expected)


def test_validated_notes_arrive_once_with_what_the_server_said(clinic: Clinic, ehr: FakeEhr) -> None:
    notes = [note(number) for number in range(1, 8)]
    clinic.write(*notes)

    report = clinic.deliver()

    assert (report.delivered, report.planned, report.complete) == (7, 0, True)
    assert holds(ehr, *notes)
    assert set(versions(ehr)) == {"1"}
    with clinic.warehouse.read() as connection:
        rows = connection.execute(sa.text("SELECT * FROM deliveries")).mappings().all()
    assert {(row["state"], row["etag"], row["attempts"]) for row in rows} == {("delivered", 'W/"1"', 1)}
    assert {(row["kind"], row["server_id"]) for row in rows} == set(ehr.store)
    assert {row["outcome_codes"] for row in rows} == {'["201"]'}
    assert all(row["claimed_by"] is None and row["sent_at"] and row["settled_at"] for row in rows)
    assert report.latency_median_s is not None
    assert report.requests == 1 + 7


def test_an_unchanged_day_writes_nothing_and_asks_nobody(clinic: Clinic, ehr: FakeEhr) -> None:
    clinic.write(note(1), note(2, state=NoteState.DRAFT))
    clinic.deliver()
    requests = ehr.seen.total()
    statements: list[str] = []
    sa.event.listen(clinic.warehouse.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))

    report = clinic.deliver()

    assert ehr.seen.total() == requests
    assert [each for each in statements if not each.lstrip().startswith(("SELECT", "BEGIN"))] == []
    assert "BEGIN IMMEDIATE" not in statements
    assert (report.delivered, report.already_delivered, report.held) == (0, 1, {"not_validated": 1})


@pytest.mark.parametrize(
    ("held", "reason"),
    [
        (note(1, state=NoteState.DRAFT), "not_validated"),
        (note(1, patient=None), "patient_unknown"),
        (note(1, state=NoteState.RETRACTED), "retracted_before_delivery"),
    ],
)
def test_what_may_not_go_out_is_held_and_goes_once_it_may(
    clinic: Clinic, ehr: FakeEhr, held: ScribeNote, reason: str
) -> None:
    clinic.write(held)

    first = clinic.deliver()
    clinic.write(note(1))
    second = clinic.deliver()

    assert (first.held, first.complete) == ({reason: 1}, True)
    assert second.delivered == 1
    assert holds(ehr, note(1))


def test_only_the_newest_version_of_a_waiting_note_leaves(clinic: Clinic, ehr: FakeEhr) -> None:
    clinic.write(note(1, patient=None))
    clinic.deliver()
    clinic.write(note(1, "Better by now."))

    clinic.deliver()

    assert holds(ehr, note(1, "Better by now."))
    assert (clinic.ledger("held"), clinic.ledger("delivered")) == (2, 2)


def test_later_versions_update_what_is_there(clinic: Clinic, ehr: FakeEhr) -> None:
    first = note(1)
    second = edited(first, "Cough for a week.")
    clinic.write(first)
    clinic.deliver()
    clinic.write(second)

    report = clinic.deliver()

    assert report.delivered == 1
    assert holds(ehr, second)
    assert versions(ehr) == ["2", "2"]
    assert clinic.ledger("delivered") == 4
    (document,) = ehr.newest("DocumentReference")
    assert document["docStatus"] == "amended"
    assert "relatesTo" not in document  # the earlier version is this resource's own past


def test_documents_of_other_kinds_stay_here(clinic: Clinic, ehr: FakeEhr) -> None:
    clinic.settings = clinic.settings.model_copy(update={"fhir": FhirSettings(transcripts=True)})
    clinic.write(replace(note(1), transcript=(TranscriptTurn("I cough.", "patient", 0, 900),)))

    report = clinic.deliver()

    assert report.delivered == 1
    assert "Transcript" in {row["kind"] for row in rows_of(clinic.warehouse, fhir_documents)}
    assert [len(ehr.newest(kind)) for kind in ("Composition", "DocumentReference", "Provenance")] == [1, 1, 0]


def test_a_note_edited_back_goes_out_again(clinic: Clinic, ehr: FakeEhr) -> None:
    first = note(1)
    for each in (first, edited(first, "Something else."), first):
        clinic.write(each)
        report = clinic.deliver()
        assert report.delivered == 1

    assert holds(ehr, first)
    assert versions(ehr) == ["3", "3"]
    assert clinic.deliver().already_delivered == 1


def test_the_life_of_a_note_on_either_database(any_clinic: Clinic, ehr: FakeEhr) -> None:
    first, second = note(1), edited(note(1), "Cough for a week.")
    any_clinic.write(note(1, state=NoteState.DRAFT), note(2, patient=None))
    assert any_clinic.deliver().held == {"not_validated": 1, "patient_unknown": 1}
    any_clinic.write(first)
    ehr.faults.append(CUT)
    assert any_clinic.deliver().delivered == 1
    any_clinic.write(second)
    ehr.faults.append(BROKEN)
    assert any_clinic.deliver().delivered == 1
    any_clinic.write(first)
    assert any_clinic.deliver().delivered == 1
    any_clinic.write(note(1, state=NoteState.RETRACTED))
    assert any_clinic.deliver().delivered == 1
    assert any_clinic.deliver().already_delivered == 1
    assert versions(ehr) == ["4", "4"]


def test_a_retraction_reaches_what_was_delivered(clinic: Clinic, ehr: FakeEhr) -> None:
    clinic.write(note(1))
    clinic.deliver()
    clinic.write(note(1, state=NoteState.RETRACTED))

    clinic.deliver()

    assert {each["status"] for each in ehr.newest("DocumentReference")} == {"entered-in-error"}
    assert {each["status"] for each in ehr.newest("Composition")} == {"entered-in-error"}


def test_an_older_warehouse_overwrites_nothing(clinic: Clinic, ehr: FakeEhr) -> None:
    first, second = note(1), edited(note(1), "Cough for a week.")
    clinic.write(first, seq=5)
    clinic.deliver()
    clinic.write(second, seq=6)
    clinic.deliver()
    with clinic.warehouse.begin() as connection:  # What a restored backup of notes and documents looks like.
        connection.execute(sa.text("DELETE FROM fhir_documents"))
    clinic.write(edited(first, "A version from the past."), seq=4)

    clinic.deliver()

    assert holds(ehr, second)


def test_an_answer_lost_after_the_commit_is_looked_up_and_not_sent_again(clinic: Clinic, ehr: FakeEhr) -> None:
    clinic.write(note(1), note(2, patient="q"))
    ehr.faults.extend([CUT, CUT])

    report = clinic.deliver()

    assert report.delivered == 2
    assert ehr.seen["POST"] == 2
    assert set(versions(ehr)) == {"1"}
    assert 0 < sum(clinic.slept) <= 2


def test_a_lost_answer_to_an_update_is_looked_up(clinic: Clinic, ehr: FakeEhr) -> None:
    second = edited(note(1), "Cough for a week.")
    clinic.write(note(1))
    clinic.deliver()
    clinic.write(second)
    ehr.faults.append(CUT)

    report = clinic.deliver()

    assert report.delivered == 1
    assert (versions(ehr), holds(ehr, second)) == (["2", "2"], True)
    clinic.write(edited(second, "Gone."))
    assert clinic.deliver().delivered == 1, "the ETag found by looking is the one to match later"


@pytest.mark.parametrize("fault", [BROKEN, Fault(status=409), Fault(status=503), Fault(status=408)])
def test_what_surely_did_not_arrive_is_sent_again(clinic: Clinic, ehr: FakeEhr, fault: Fault) -> None:
    clinic.write(note(1))
    ehr.faults.append(fault)

    report = clinic.deliver()

    assert report.delivered == 1
    assert (ehr.seen["POST"], versions(ehr)) == (2, ["1", "1"])


def test_a_note_is_tried_three_times_in_a_call_and_then_left_to_the_next(clinic: Clinic, ehr: FakeEhr) -> None:
    clinic.write(note(1))
    ehr.faults.extend([Fault(status=409)] * 3)

    first = clinic.deliver()
    second = clinic.deliver()

    assert (first.planned, first.complete, ehr.seen["POST"]) == (1, False, 4)
    assert second.delivered == 1


def test_unknown_stays_unknown_while_the_server_does_not_tell(clinic: Clinic, ehr: FakeEhr) -> None:
    clinic.write(note(1))
    ehr.faults.append(CUT)
    ehr.searches_work = False

    first = clinic.deliver()
    again = clinic.deliver()
    clinic.write(edited(note(1), "Cough for a week."))
    blocked = clinic.deliver()
    ehr.searches_work = True
    last = clinic.deliver()

    assert (first.unknown, again.unknown) == ({"lookup_failed": 1}, {"lookup_failed": 1})
    assert blocked.planned == 1, "a note with a version in doubt waits"
    assert last.delivered == 1
    assert (ehr.seen["POST"], versions(ehr)) == (2, ["2", "2"])


def test_what_somebody_changed_in_the_ehr_is_not_overwritten(clinic: Clinic, ehr: FakeEhr) -> None:
    clinic.write(note(1))
    clinic.deliver()
    (document,) = ehr.newest("DocumentReference")
    ehr.put("DocumentReference", document["id"], {**document, "masterIdentifier": {"system": "x", "value": "theirs"}})
    clinic.write(edited(note(1), "Cough for a week."))

    report = clinic.deliver()

    assert report.rejected == {"changed_in_ehr": 1}
    assert ehr.newest("DocumentReference")[0]["masterIdentifier"]["value"] == "theirs"
    assert ehr.newest("Composition")[0]["meta"]["versionId"] == "1"


def test_duplicates_in_the_ehr_are_for_a_person(clinic: Clinic, ehr: FakeEhr) -> None:
    clinic.write(note(1))
    clinic.deliver()
    (composition,) = ehr.newest("Composition")
    ehr.put("Composition", "twin", composition)
    with clinic.warehouse.begin() as connection:
        connection.execute(sa.text("DELETE FROM deliveries"))

    report = clinic.deliver()

    assert report.rejected == {"several_matches": 1}


@pytest.mark.parametrize("changed", [False, True])
def test_a_new_warehouse_recognises_what_an_earlier_one_delivered(clinic: Clinic, ehr: FakeEhr, changed: bool) -> None:
    clinic.write(note(1))
    clinic.deliver()
    with clinic.warehouse.begin() as connection:
        connection.execute(sa.text("DELETE FROM deliveries"))
    now = edited(note(1), "Cough for a week.") if changed else note(1)
    if changed:
        clinic.write(now)

    report = clinic.deliver()

    assert report.delivered == 1
    assert holds(ehr, now)
    assert versions(ehr) == (["2", "2"] if changed else ["1", "1"])
    clinic.write(edited(now, "Once more."))
    assert clinic.deliver().delivered == 1


def test_half_of_what_an_earlier_warehouse_delivered_is_made_whole(clinic: Clinic, ehr: FakeEhr) -> None:
    clinic.write(note(1))
    clinic.deliver()
    with clinic.warehouse.begin() as connection:
        connection.execute(sa.text("DELETE FROM deliveries"))
    for key in [key for key in ehr.store if key[0] == "DocumentReference"]:
        del ehr.store[key]
    second = edited(note(1), "Cough for a week.")
    clinic.write(second)

    report = clinic.deliver()

    assert report.delivered == 1
    assert holds(ehr, second)
    assert "Cough for a week." in str(ehr.newest("Composition")[0])


def test_a_server_that_tells_no_versions_is_still_updated(clinic: Clinic, ehr: FakeEhr) -> None:
    ehr.etags = False
    second = edited(note(1), "Cough for a week.")
    clinic.write(note(1))
    clinic.deliver()
    clinic.write(second)

    assert clinic.deliver().delivered == 1
    assert holds(ehr, second)
    (document,) = ehr.newest("DocumentReference")
    ehr.put("DocumentReference", document["id"], {**document, "masterIdentifier": {"system": "x", "value": "theirs"}})
    clinic.write(note(1))
    assert clinic.deliver().rejected == {"changed_in_ehr": 1}


def test_a_refusal_keeps_codes_and_no_diagnostics_and_stays(clinic: Clinic, ehr: FakeEhr) -> None:
    clinic.write(note(1), note(2, patient="q"))
    ehr.faults.append(Fault(status=422))

    report = clinic.deliver()
    again = clinic.deliver()

    assert (report.rejected, report.delivered) == ({"refused": 1}, 1)
    assert again.rejected == {"refused": 1}
    assert ehr.seen["POST"] == 2
    with clinic.warehouse.read() as connection:
        codes = set(connection.scalars(sa.text("SELECT outcome_codes FROM deliveries WHERE state = 'rejected'")))
    assert codes == {'["422","exception","Composition.date"]'}


def test_documents_built_anew_after_a_rejection_get_another_try(clinic: Clinic, ehr: FakeEhr) -> None:
    clinic.write(note(1))
    ehr.faults.append(Fault(status=422))
    clinic.deliver()
    with clinic.warehouse.begin() as connection:
        connection.execute(sa.text("UPDATE fhir_documents SET mapping_version = 'an older one'"))
    clinic.write(note(1))

    assert clinic.deliver().delivered == 1


def fail_second(answer: Resource) -> None:
    answer["entry"][1] = {"response": {"status": "422 Unprocessable"}}


@pytest.mark.parametrize(
    ("fault", "rejected"),
    [
        (Fault(edit=lambda answer: answer["entry"].pop()), {}),
        (Fault(edit=lambda answer: answer["entry"][0]["response"].pop("status")), {}),
        (Fault(body=b""), {}),
        (Fault(body=b"<html>hello</html>"), {}),
        (Fault(body=b'{"resourceType": "OperationOutcome"}'), {}),
        (Fault(edit=lambda answer: [entry["response"].pop("location") for entry in answer["entry"]]), {}),
        (Fault(edit=fail_second), {"refused": 1}),
    ],
)
def test_a_strange_2xx_is_no_success_until_looked_up(
    clinic: Clinic, ehr: FakeEhr, fault: Fault, rejected: dict[str, int]
) -> None:
    clinic.write(note(1))
    ehr.faults.append(fault)

    report = clinic.deliver()

    assert report.rejected == rejected
    assert report.delivered == (0 if rejected else 1)
    looked_up = ehr.seen["GET DocumentReference"] + ehr.seen["GET Composition"]
    assert (looked_up > 0) == (not rejected)
    assert (ehr.seen["POST"], versions(ehr)) == (1, ["1", "1"])


def test_wrong_credentials_stop_everything_and_lose_nothing(clinic: Clinic, ehr: FakeEhr) -> None:
    clinic.write(*(note(number, patient=f"p{number}") for number in range(1, 10)))
    ehr.token = "right"

    with pytest.raises(ConfigError) as stopped:
        clinic.deliver(token="wrong")
    report = clinic.deliver(token="right")

    assert stopped.value.context["planned"] == 9
    assert ehr.seen["POST"] <= 9 + clinic.ehr.connections
    assert report.delivered == 9
    assert set(versions(ehr)) == {"1"}


def test_asked_to_come_back_later_we_stop_and_say_when(clinic: Clinic, ehr: FakeEhr) -> None:
    clinic.write(*(note(number, patient=f"p{number}") for number in range(1, 10)))
    ehr.faults.extend([Fault(), Fault(status=429, headers={"Retry-After": "3600"})])

    with pytest.raises(Deferred) as stopped:
        clinic.deliver()

    context = stopped.value.context
    assert (context["unknown"], context["in_flight"]) == (0, 0)
    assert int(context["planned"]) + int(context["delivered"]) == 9
    assert int(context["delivered"]) >= 1
    assert clinic.ledger("claimed") + clinic.ledger("sent") == 0
    assert clinic.deliver().complete
    assert set(versions(ehr)) == {"1"}


def test_a_short_wait_is_waited_for(clinic: Clinic, ehr: FakeEhr) -> None:
    clinic.with_ehr(max_attempts=3)
    clinic.write(note(1))
    ehr.faults.append(Fault(status=429, headers={"Retry-After": "1"}))

    assert clinic.deliver().delivered == 1


def test_failing_again_and_again_opens_the_circuit(clinic: Clinic, ehr: FakeEhr) -> None:
    clinic.write(*(note(number, patient=f"p{number}") for number in range(1, 31)))
    ehr.faults.extend([BROKEN] * 100)

    with pytest.raises(Retriable) as stopped:
        clinic.deliver()

    assert stopped.value.code == "circuit_open"
    assert stopped.value.context["planned"] == 30
    assert 5 <= ehr.seen["POST"] < 5 + clinic.ehr.connections
    ehr.faults.clear()
    assert clinic.deliver().delivered == 30


def test_an_unreachable_ehr_leaves_all_planned(clinic: Clinic, ehr: FakeEhr) -> None:
    clinic.write(note(1))
    ehr.close()

    with pytest.raises(Retriable) as stopped:
        clinic.deliver()

    assert stopped.value.context["planned"] == 1


@pytest.mark.parametrize("version", ["5.0.0", "3.0.2", ""])
def test_a_server_of_another_fhir_version_gets_nothing(clinic: Clinic, ehr: FakeEhr, version: str) -> None:
    clinic.write(note(1))
    ehr.fhir_version = version

    with pytest.raises(ConfigError) as refused:
        clinic.deliver()

    assert refused.value.code == "fhir_version"
    assert ehr.seen["POST"] == 0


def test_notes_of_one_patient_leave_one_after_the_other_in_order(clinic: Clinic, ehr: FakeEhr) -> None:
    notes = [note(number, patient="one") for number in range(1, 6)] + [note(number, patient="two") for number in (6, 7)]
    clinic.with_ehr(connections=4)
    clinic.write(*notes)
    pauses = deque([0.1, 0.08, 0.06, 0.04, 0.02])  # Whoever does not wait for the one before overtakes it.
    ehr.before_transaction = lambda: time.sleep(pauses.popleft() if pauses else 0)

    clinic.deliver()

    sent = [each["masterIdentifier"] for each in ehr.order if each["subject"]["identifier"]["value"] == "one"]
    expected = [version_identifier(each.note_id, each.version) for each in notes[:5]]
    assert sent == [{"system": VERSION_SYSTEM, "value": value} for value in expected]


def test_an_exception_from_within_leaves_nothing_claimed(clinic: Clinic) -> None:
    for turn, name in enumerate(("claimed", "marked_sent", "answered", "settled")):
        # Others each time: those of the last turn may all have been delivered when it was over.
        numbers = range(10 * turn + 1, 10 * turn + 6)
        clinic.write(*(note(number, patient=f"p{number}") for number in numbers))

        def stop(reached: str, name: str = name) -> None:
            if reached == name:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            clinic.deliver(checkpoint=stop)
        assert clinic.ledger("claimed") + clinic.ledger("sent") + clinic.ledger("unknown") == 0

    clinic.deliver()
    assert clinic.ledger("delivered") == 40


def test_progress_counts_up_to_the_whole(clinic: Clinic) -> None:
    clinic.write(*(note(number, patient=f"p{number}") for number in range(1, 6)))
    seen: list[tuple[int, int]] = []

    clinic.deliver(on_progress=lambda done, total: seen.append((done, total)))

    assert seen[-1] == (5, 5)
    assert seen == sorted(seen)


def test_what_another_live_run_has_in_hand_is_left_to_it(clinic: Clinic, ehr: FakeEhr) -> None:
    clinic.write(note(1), note(2, patient="q"))
    reports: list[DeliveryReport] = []

    def meanwhile(reached: str) -> None:
        if reached == "marked_sent" and not reports:
            reports.append(clinic.deliver())

    outer = clinic.deliver(checkpoint=meanwhile)

    assert (reports[0].in_flight, reports[0].delivered, reports[0].complete) == (2, 0, False)
    assert outer.delivered == 2
    assert ehr.seen["POST"] == 2


def test_a_note_edited_after_its_claim_leaves_in_its_new_words_only(clinic: Clinic, ehr: FakeEhr) -> None:
    clinic.write(note(1))
    second = edited(note(1), "Cough for a week.")

    def meanwhile(reached: str) -> None:
        if reached == "claimed" and clinic.ledger() == 2:
            clinic.write(second)

    first = clinic.deliver(checkpoint=meanwhile)
    report = clinic.deliver()

    assert (first.delivered, report.delivered) == (0, 1)
    assert holds(ehr, second)
    assert versions(ehr) == ["1", "1"]


def test_a_note_withdrawn_between_plan_and_claim_stays_here(clinic: Clinic, ehr: FakeEhr) -> None:
    clinic.with_ehr(connections=1)
    notes = [note(number, patient="one") for number in range(1, 20)]
    clinic.write(*notes)

    def meanwhile(reached: str) -> None:
        if reached == "claimed" and clinic.now < drafted_at:
            clinic.write(note(19, state=NoteState.DRAFT))

    drafted_at = clinic.now + timedelta(seconds=30)
    clinic.deliver(checkpoint=meanwhile)

    assert holds(ehr, *notes[:-1])


def test_nothing_of_a_patient_is_logged_or_raised(
    clinic: Clinic, ehr: FakeEhr, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    clinic.write(note(1, "Secretive cough.", patient="mrn-4711"), note(2, "Secretive cough.", patient="mrn-4712"))
    ehr.faults.extend([Fault(status=422), CUT])

    report = clinic.deliver()

    assert report.rejected
    for secret in ("Secretive", "mrn-47", "Testperson", str(note(1).note_id), "identifier="):
        assert secret not in caplog.text
        assert secret not in repr(report)


def test_latencies_are_summarised(clinic: Clinic, ehr: FakeEhr) -> None:
    clinic.write(note(1), note(2, patient="q"))
    ehr.before_transaction = lambda: time.sleep(0.05)

    report = clinic.deliver()

    assert report.latency_median_s is not None
    assert report.latency_p95_s is not None
    assert 0.05 <= report.latency_median_s <= report.latency_p95_s
