"""The patient a self-test needs, and what else a target wants to know."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.ehr import targets
from medscribe_pipeline.ehr.selftest import Finding, People, SelftestReport
from medscribe_pipeline.errors import ConfigError
from tests.medscribe_pipeline.ehr.selftest.trials import (
    PATIENT,
    Trial,
    advice,
    finding,
    place_patient,
)

if TYPE_CHECKING:
    from tests.medscribe_pipeline.ehr.odd_ehr import OddEhr

LITERAL = {"references": "literal"}


@pytest.mark.parametrize("people", [PATIENT, People(patient_id="p1")])
def test_a_target_that_goes_by_ids_is_given_the_one_of_the_patient(trial: Trial, odd: OddEhr, people: People) -> None:
    place_patient(odd)

    report = trial.run(own=LITERAL, people=people)

    assert {each["subject"]["reference"] for each in odd.newest("DocumentReference")} == {"Patient/p1"}
    assert (report.exit_code, report.warnings) == (0, ())


def test_a_target_that_goes_by_identifiers_takes_an_id_too(trial: Trial, odd: OddEhr) -> None:
    place_patient(odd)

    report = trial.run(people=People(patient_id="p1"))

    assert {each["subject"]["reference"] for each in odd.newest("Composition")} == {"Patient/p1"}
    assert report.exit_code == 0


def test_without_a_patient_the_operator_is_warned_or_asked(trial: Trial, odd: OddEhr) -> None:
    report = trial.run(people=People())
    writes = len(odd.writes())

    assert any("synthetic patient" in each for each in report.warnings)
    assert {each["subject"]["identifier"]["value"] for each in odd.newest("Composition")} == {"selftest-r1"}
    with pytest.raises(ConfigError, match="--patient-id") as caught:
        trial.run(own=LITERAL, people=People())
    assert (caught.value.code, len(odd.writes())) == ("patient", writes)


@pytest.mark.parametrize(
    ("people", "there", "code"),
    [
        (PATIENT, (), "patient_missing"),
        (PATIENT, ("p1", "p2"), "patient_ambiguous"),
        (People(patient_id="p1"), (), "patient_missing"),
        (People(patient_id="../p1"), ("p1",), "patient"),
    ],
)
def test_a_patient_that_is_not_surely_there_stops_it_before_anything_is_sent(
    trial: Trial, odd: OddEhr, people: People, there: tuple[str, ...], code: str
) -> None:
    for each in there:
        place_patient(odd, each)

    with pytest.raises(ConfigError) as caught:
        trial.run(own=LITERAL, people=people)

    assert (caught.value.code, odd.writes()) == (code, [])
    assert "synthetic-test-patient" not in str(caught.value)


def test_who_may_not_read_patients_is_warned(trial: Trial, odd: OddEhr) -> None:
    odd.does.reads = False

    report = trial.run(own={**LITERAL, "read": False}, people=People(patient_id="p1"))

    assert any("your word alone" in each for each in report.warnings)


@pytest.mark.parametrize(
    ("own", "option"),
    [({"encounter": "required"}, "--encounter-id"), ({"author": "required"}, "--practitioner-id")],
)
def test_what_else_a_target_wants_to_know_is_asked_for(
    trial: Trial, odd: OddEhr, own: dict[str, Any], option: str
) -> None:
    place_patient(odd)

    with pytest.raises(ConfigError, match=option):
        trial.run(own={**LITERAL, **own})
    assert odd.writes() == []

    known = People(PATIENT.patient, practitioner_id="d1", encounter_id="e1")
    assert trial.run(own={**LITERAL, **own}, people=known).exit_code == 0
    document = odd.newest("DocumentReference")[0]
    assert document["author"][0]["reference"] == "Practitioner/d1"
    assert document["context"]["encounter"] == [{"reference": "Encounter/e1"}]


def test_a_report_shows_no_patient_and_no_words_of_the_note(trial: Trial, odd: OddEhr) -> None:
    odd.does.dropped = ("subject", "author")

    report = trial.run()

    shown = f"{report!r}{PATIENT!r}"
    assert finding(report, "stored_as_sent").paths[0] == "Composition.subject"
    assert not re.search("synthetic-test-patient|Cough|Zoë|127.0.0.1|Examplin", shown)


def test_advice_that_contradicts_itself_is_brought_together() -> None:
    both = (
        Finding("a", "differs", "", changes={"strategy": "unconditional", "conditional_create": False}),
        Finding("b", "differs", "", changes={"strategy": "batch", "if_match": False, "read": False}),
    )
    able = targets.Capabilities()
    report = SelftestReport("ehr", "r1", both, (), (), 0, able)

    wanted = {**able.model_dump(), **advice(report)}
    assert targets.Capabilities.model_validate(wanted).strategy == "unconditional"
    assert report.lines()[-1].endswith("# follows from the others")
