"""Whole days to servers that can do this and not that: what holds a note, what is sent how, and what is left."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from medscribe_pipeline.ehr import by_hand
from medscribe_pipeline.ehr.client import FhirClient
from medscribe_pipeline.ehr.delivery import Allowance, deliver_day, reconcile_target
from medscribe_pipeline.ehr.dry_run import preview_day
from medscribe_pipeline.ehr.ledger import State
from medscribe_pipeline.ehr.listing import Which
from medscribe_pipeline.errors import ConfigError, Retriable
from medscribe_pipeline.notes import Identifier, NoteState, Practitioner
from medscribe_pipeline.warehouse.tables import deliveries
from tests.databases import rows_of
from tests.medscribe_pipeline.ehr.clinic import DAY, Clinic, edited, note
from tests.medscribe_pipeline.ehr.odd_habits import EntryFault, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from medscribe_pipeline.ehr.dry_run import Planned
    from medscribe_pipeline.notes import ScribeNote
    from medscribe_pipeline.settings import Settings
    from tests.medscribe_pipeline.ehr.odd_ehr import OddEhr

LITERAL = 'references = "literal"'
POSTS_ONLY = 'strategy = "unconditional"\nconditional_create = false\n'
CANNOT_BE_ASKED = f"""{POSTS_ONLY}search = false
read = false
if_match = false
amendment = "hold"
retraction = "hold"
kinds = ["DocumentReference"]
"""


@pytest.fixture
def clinic(make_settings: Callable[..., Settings], odd: OddEhr) -> Iterator[Clinic]:
    clinic = Clinic(make_settings(), odd.base_url)
    yield clinic
    clinic.close()


@pytest.fixture
def able(clinic: Clinic, tmp_path: Path) -> Callable[[str], None]:
    """Says what the target can do."""

    def say(values: str) -> None:
        file = tmp_path / "own.toml"
        file.write_text(values)
        clinic.with_ehr(capabilities=file)

    return say


def known(odd: OddEhr, kind: str, server_id: str, system: str, value: str, **more: Any) -> None:
    """Somebody or something the server knows."""
    odd.store[kind, server_id] = [
        {
            "resourceType": kind,
            "id": server_id,
            "identifier": [{"system": system, "value": value}],
            "meta": {"versionId": "1"},
            **more,
        }
    ]


def preview(clinic: Clinic) -> list[Planned]:
    with clinic.http() as http:
        return list(preview_day(clinic.warehouse, FhirClient(http), clinic.ehr, DAY, clock=lambda: clinic.now))


def requests(odd: OddEhr, method: str) -> int:
    return sum(each.method == method for each in odd.seen)


def test_a_patient_the_server_does_not_know_holds_the_note_until_it_does(
    clinic: Clinic, odd: OddEhr, able: Callable[[str], None]
) -> None:
    able(LITERAL)
    clinic.write(note(1), note(2, patient="q"))
    known(odd, "Patient", "p-9", "urn:example:patients", "p")

    first = clinic.deliver()
    known(odd, "Patient", "q-9", "urn:example:patients", "q")
    too_early = clinic.deliver()
    clinic.now += timedelta(hours=1)
    later = clinic.deliver()

    assert (first.delivered, first.held, first.complete) == (1, {"patient_missing": 1}, True)
    assert (too_early.delivered, too_early.held) == (0, {"patient_missing": 1})
    assert (later.delivered, later.held) == (1, {})
    subjects = {each["subject"]["reference"] for each in odd.newest("DocumentReference")}
    assert subjects == {"Patient/p-9", "Patient/q-9"}
    assert {each["subject"]["reference"] for each in odd.newest("Composition")} == subjects
    assert odd.newest("Patient")[0]["meta"]["versionId"] == "1"  # looked at, never written


def test_two_patients_by_one_identifier_are_nobody(clinic: Clinic, odd: OddEhr, able: Callable[[str], None]) -> None:
    able(LITERAL)
    clinic.write(note(1))
    for server_id in ("p-1", "p-2"):
        known(odd, "Patient", server_id, "urn:example:patients", "p")

    report = clinic.deliver()

    assert report.held == {"patient_ambiguous": 1}
    assert odd.writes() == []


def test_an_author_is_waited_for_only_where_one_is_required(
    clinic: Clinic, odd: OddEhr, able: Callable[[str], None]
) -> None:
    doctor = Practitioner((Identifier("urn:example:doctors", "d"),), display="Zoë Testperson")
    signed = replace(note(1), visit=replace(note(1).visit, practitioner=doctor))
    known(odd, "Patient", "p-9", "urn:example:patients", "p")
    clinic.write(signed)
    able(f'{LITERAL}\nauthor = "required"')

    waiting = clinic.deliver()
    able(LITERAL)
    without = clinic.deliver()

    assert waiting.held == {"practitioner_missing": 1}
    assert without.delivered == 1
    assert "Practitioner/" not in str(odd.newest("DocumentReference"))


def test_a_status_the_server_does_not_take_is_held_and_so_is_what_a_person_has_to_do(
    clinic: Clinic, odd: OddEhr, able: Callable[[str], None]
) -> None:
    able('doc_status = ["final"]\namendment = "hold"\nretraction = "hold"')
    clinic.write(note(1), note(2))
    clinic.deliver()
    clinic.write(edited(note(1), "Better."), replace(note(2, state=NoteState.RETRACTED)))
    able('doc_status = ["final"]')

    refused = clinic.deliver()
    able('amendment = "hold"\nretraction = "hold"')
    by_hand = clinic.deliver()
    able("search = true")
    taken = clinic.deliver()

    assert refused.held == {"doc_status_not_accepted": 2}
    assert by_hand.held == {"amendment_by_hand": 1, "retraction_by_hand": 1}
    assert (taken.delivered, taken.held) == (2, {})
    assert sorted(each["docStatus"] for each in odd.newest("DocumentReference")) == ["amended", "entered-in-error"]


def test_a_switch_holds_everything_and_lets_it_go_again(clinic: Clinic, odd: OddEhr) -> None:
    clinic.write(note(1))
    clinic.with_ehr(hold_all=True)

    held = clinic.deliver()
    asked = len(odd.seen)
    clinic.with_ehr(hold_all=False)
    released = clinic.deliver()

    assert (held.held, asked) == ({"held_by_switch": 1}, 0)
    assert released.delivered == 1


def test_a_run_sends_no_more_than_it_may_and_the_next_run_the_rest(clinic: Clinic, odd: OddEhr) -> None:
    clinic.write(*(note(number, patient=f"p{number}") for number in range(5)))
    clinic.with_ehr(documents_per_run=2)

    reports = [clinic.deliver() for _ in range(4)]

    assert [(each.delivered, each.left_for_next_run) for each in reports] == [(2, 3), (2, 1), (1, 0), (0, 0)]
    assert [each.complete for each in reports] == [False, False, True, True]
    assert clinic.ledger("claimed") == clinic.ledger("planned") == 0
    assert len(odd.newest("Composition")) == 5


def test_what_a_run_may_send_is_shared_by_its_days(clinic: Clinic, odd: OddEhr) -> None:
    other_day = DAY - timedelta(days=1)
    clinic.write(note(1), note(2))
    clinic.write(note(3), note(4), day=other_day)
    allowance = Allowance(notes=3)

    with clinic.warehouse.worker() as worker, clinic.http() as http:
        client = FhirClient(http)
        reports = [
            deliver_day(
                clinic.warehouse,
                client,
                clinic.ehr,
                day,
                run_id=None,
                clock=lambda: clinic.now,
                worker=worker,
                allowance=allowance,
            )
            for day in (other_day, DAY)
        ]

    assert [(each.delivered, each.left_for_next_run) for each in reports] == [(2, 0), (1, 1)]
    assert sum(each.path == "metadata" for each in odd.seen) == 1


def test_bytes_are_counted_and_one_note_always_fits(clinic: Clinic) -> None:
    clinic.write(*(note(number, "long words " * 200, patient=f"p{number}") for number in range(3)))
    clinic.with_ehr(bytes_per_run=10)

    reports = [clinic.deliver() for _ in range(3)]

    assert [each.delivered for each in reports] == [1, 1, 1]
    assert reports[-1].complete


def test_what_the_server_drops_is_told_and_kept(clinic: Clinic, odd: OddEhr) -> None:
    odd.does.dropped = ("custodian", "category")
    clinic.with_ehr(read_back_share=1)
    clinic.write(note(1), note(2))

    report = clinic.deliver()

    assert (report.delivered, report.read_back) == (2, 2)
    assert report.changed == {"DocumentReference.category": 2, "Composition.category": 2} | {
        path: 2 for path in report.changed if path.endswith("custodian")
    }
    codes = {row["kind"]: row["outcome_codes"] for row in rows_of(clinic.warehouse, deliveries)}
    assert "changed:Composition.category" in codes["Composition"]
    assert "changed:Composition.category" not in codes["DocumentReference"]


def test_a_share_is_read_back_and_a_server_that_will_not_tell_does_no_harm(clinic: Clinic, odd: OddEhr) -> None:
    clinic.write(*(note(number, patient=f"p{number}") for number in range(40)))
    clinic.with_ehr(read_back_share=0.5)
    odd.read_faults.append(500)

    report = clinic.deliver()

    assert report.delivered == 40
    assert 5 < report.read_back < 35
    assert report.changed == {}


def test_many_notes_share_a_request_and_only_what_failed_is_sent_again(
    clinic: Clinic, odd: OddEhr, able: Callable[[str], None]
) -> None:
    able('strategy = "batch"\nentries_per_bundle = 20')
    clinic.write(*(note(number, patient=f"p{number}") for number in range(25)))
    odd.faults.append(Fault(entries={3: EntryFault(429, reset_s=0), 8: EntryFault(500)}))

    report = clinic.deliver()

    assert (report.delivered, report.complete) == (25, True)
    assert len(odd.newest("Composition")) == len(odd.newest("DocumentReference")) == 25
    assert {each["meta"]["versionId"] for each in odd.newest("Composition")} == {"1"}
    sent = sum(len(each.body["entry"]) for each in odd.writes())
    assert sent == 50 + 2
    assert requests(odd, "POST") <= 6


def test_notes_of_one_patient_leave_one_after_the_other_even_in_batches(
    clinic: Clinic, odd: OddEhr, able: Callable[[str], None]
) -> None:
    able('strategy = "batch"')
    clinic.write(*(note(number) for number in range(4)))

    report = clinic.deliver()

    assert report.delivered == 4
    assert [len(each.body["entry"]) for each in odd.writes()] == [2, 2, 2, 2]


def test_a_lost_answer_of_a_server_that_cannot_be_asked_waits_for_a_person(
    clinic: Clinic, odd: OddEhr, able: Callable[[str], None]
) -> None:
    able(CANNOT_BE_ASKED)
    clinic.write(note(1), note(2, patient="q"))
    odd.faults.append(Fault(committed=True, cut=True))

    first = clinic.deliver()
    posted = requests(odd, "POST")
    clinic.write(edited(note(1), "Better."), edited(note(2, patient="q"), "Better."))
    later = [clinic.deliver() for _ in range(3)]

    assert (first.delivered, first.unknown) == (1, {"cannot_be_asked": 1})
    assert posted == requests(odd, "POST") == len(odd.newest("DocumentReference")) == 2
    assert {each.held.get("amendment_by_hand") for each in later} == {2}
    assert clinic.ledger("unknown") == 1


def test_of_a_server_without_conditions_a_lost_answer_is_looked_for(
    clinic: Clinic, odd: OddEhr, able: Callable[[str], None]
) -> None:
    able(POSTS_ONLY)
    odd.does.conditional = False
    clinic.write(note(1), note(2, patient="q"))
    odd.faults += [Fault(committed=True, cut=True), Fault(cut=True)]

    report = clinic.deliver()

    assert (report.delivered, report.complete) == (2, True)
    assert len(odd.newest("Composition")) == len(odd.newest("DocumentReference")) == 2


@pytest.mark.parametrize(
    "values", ['strategy = "transaction"', 'strategy = "batch"', 'strategy = "single"', POSTS_ONLY]
)
def test_a_version_that_was_lost_and_overtaken_is_found_and_replaced(
    clinic: Clinic, odd: OddEhr, able: Callable[[str], None], values: str
) -> None:
    able(values)
    odd.does.conditional = "unconditional" not in values
    clinic.write(note(1))
    odd.faults += [Fault(committed=True, cut=True)]
    odd.read_faults += [500] * 8
    lost = clinic.deliver()
    odd.read_faults.clear()
    newest = edited(note(1), "Better by now.")
    clinic.write(newest)

    report = clinic.deliver()

    assert sum(lost.unknown.values()) == 1
    assert (report.delivered, report.complete, clinic.ledger("unknown")) == (1, True, 0)
    (composition,), (document,) = odd.newest("Composition"), odd.newest("DocumentReference")
    assert "Better by now." in composition["section"][0]["text"]["div"]
    assert document["docStatus"] == "amended"


def test_while_the_server_is_away_nothing_changes_but_what_waits(
    clinic: Clinic, odd: OddEhr, able: Callable[[str], None]
) -> None:
    able(LITERAL)
    clinic.write(note(1))
    clinic.deliver()
    clinic.write(note(2, patient="q"))
    clinic.now += timedelta(hours=1)
    odd.read_faults += [500] * 20

    with pytest.raises(Retriable) as away:
        clinic.deliver()

    assert (away.value.context["held"], away.value.context["planned"]) == (1, 1)
    assert odd.writes() == []


def test_a_server_of_another_kind_gets_nothing_and_the_file_of_the_user_is_named(
    clinic: Clinic, odd: OddEhr, able: Callable[[str], None]
) -> None:
    able('strategy = "singel"')
    clinic.write(note(1))

    with pytest.raises(ConfigError) as wrong:
        clinic.deliver()

    assert (wrong.value.code, wrong.value.context["setting"]) == ("capabilities", "MEDSCRIBE_EHR_CAPABILITIES")
    assert odd.seen == []


def test_all_that_is_in_doubt_can_be_asked_after_at_once(clinic: Clinic, odd: OddEhr) -> None:
    other_day = DAY - timedelta(days=1)
    clinic.write(note(1))
    clinic.write(note(2), day=other_day)
    clinic.deliver()
    with clinic.warehouse.begin() as connection:
        connection.execute(sa.update(deliveries).values(state="unknown", reason="timeout"))

    with clinic.http() as http:
        counts = reconcile_target(
            clinic.warehouse, FhirClient(http), clinic.ehr, clock=lambda: clinic.now, sleep=clinic.sleep
        )

    assert counts == {State.DELIVERED: 1}
    assert clinic.ledger("delivered") == clinic.ledger() == 2
    assert requests(odd, "POST") == 1


def test_what_would_be_sent_is_told_without_sending(clinic: Clinic, odd: OddEhr) -> None:
    first, gone = note(1), note(2, patient="q")
    clinic.write(first, gone, note(3, state=NoteState.DRAFT))
    new = {each.note_id: each for each in preview(clinic)}
    ledger_before = clinic.ledger()
    clinic.deliver()
    settled = preview(clinic)
    clinic.write(edited(first, "Better."), replace(gone, state=NoteState.RETRACTED, version="c" * 64))
    writes = len(odd.writes())

    changed = {each.note_id: each for each in preview(clinic)}

    assert ledger_before == 0
    assert [(each.change, each.already_there) for each in (new[str(first.note_id)], new[str(gone.note_id)])] == [
        ("create", False),
        ("create", False),
    ]
    assert new[str(note(3).note_id)].reason == "not_validated"
    assert new[str(first.note_id)].differences == ("Composition", "DocumentReference")
    assert settled == []
    better = changed[str(first.note_id)]
    assert (better.change, better.kinds) == ("update", ("Composition", "DocumentReference"))
    assert "Composition.section.0.text.div" in better.differences
    assert "Better." not in repr(better)
    assert changed[str(gone.note_id)].change == "retract"
    assert len(odd.writes()) == writes


def test_a_forgotten_ledger_is_seen_before_anything_is_sent(clinic: Clinic, odd: OddEhr) -> None:
    clinic.write(note(1))
    clinic.deliver()
    with clinic.warehouse.begin() as connection:
        connection.execute(sa.delete(deliveries))

    (planned,) = preview(clinic)

    assert (planned.already_there, planned.differences) == (True, ())
    assert len(odd.newest("Composition")) == 1


def version_on(odd: OddEhr) -> set[str]:
    return {each["meta"]["versionId"] for each in odd.newest("DocumentReference")}


@pytest.mark.parametrize("texts", [["Better."], ["Better.", "Cough for three days."]])
def test_where_a_later_version_is_a_document_of_its_own(
    clinic: Clinic, odd: OddEhr, able: Callable[[str], None], texts: list[str]
) -> None:
    able('amendment = "new_document"\nkinds = ["DocumentReference"]')
    base: ScribeNote = note(1)
    clinic.write(base)
    clinic.deliver()
    for text in texts:
        clinic.write(base if text == "Cough for three days." else edited(base, text))
        assert clinic.deliver().delivered == 1

    documents = odd.newest("DocumentReference")
    assert len(documents) == 2
    assert sorted(each["status"] for each in documents) == ["current", "superseded"]
    assert clinic.deliver().already_delivered == 1


def test_a_provenance_that_can_name_nothing_is_forgone(
    clinic: Clinic, odd: OddEhr, able: Callable[[str], None]
) -> None:
    able(
        'strategy = "single"\nidempotency_header = "idempotency-key"\nconditional_create = false\nsearch = false\n'
        'kinds = ["DocumentReference", "Provenance"]\ndrop = ["identifier", "masterIdentifier"]'
    )
    odd.does.header = "idempotency-key"
    clinic.write(note(1))

    report = clinic.deliver()

    assert (report.delivered, report.complete) == (1, True)
    assert len(odd.newest("DocumentReference")) == 1
    assert clinic.deliver().already_delivered == 1


def test_on_a_server_that_takes_no_identifier_a_lost_update_is_found_by_reading(
    clinic: Clinic, odd: OddEhr, able: Callable[[str], None]
) -> None:
    able(
        POSTS_ONLY
        + 'search = false\nkinds = ["DocumentReference"]\ndrop = ["identifier", "masterIdentifier"]\n'
        + LITERAL
    )
    known(odd, "Patient", "p-9", "urn:example:patients", "p")
    clinic.write(note(1))
    clinic.deliver()
    clinic.write(edited(note(1), "Better."))
    odd.faults.append(Fault(committed=True, cut=True))

    report = clinic.deliver()

    assert (report.delivered, report.complete) == (1, True)
    assert [each["meta"]["versionId"] for each in odd.newest("DocumentReference")] == ["2"]


def test_what_was_given_up_in_doubt_may_be_there(clinic: Clinic, odd: OddEhr, able: Callable[[str], None]) -> None:
    able(CANNOT_BE_ASKED.replace("hold", "update").replace("read = false", "read = true"))
    clinic.write(note(1), note(2, patient="q"))
    odd.faults += [Fault(committed=True, cut=True)] * 2
    clinic.deliver()
    given_up = by_hand.discard(clinic.warehouse, Which(targets=("ehr",)), who="alice", clock=lambda: clinic.now)
    clinic.write(replace(note(1), state=NoteState.RETRACTED, version="c" * 64))

    report = clinic.deliver()

    assert given_up.versions == 2
    assert (report.held, report.discarded) == ({"retraction_by_hand": 1}, 1)
    assert requests(odd, "POST") == 2
