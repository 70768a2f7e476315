"""`medscribe deliver --dry-run`: what would go, and how it differs from what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.ehr.ledger import KINDS, State
from tests.databases import dump
from tests.medscribe_pipeline.cli.deliveries.telling import tells_nobody
from tests.medscribe_pipeline.ehr.clinic import DAY, Clinic, edited, note
from tests.medscribe_pipeline.ehr.standings import place

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.medscribe_pipeline.cli.conftest import Ran
    from tests.medscribe_pipeline.ehr.fake_ehr import FakeEhr


@pytest.fixture
def about_to_leave(clinic: Clinic, ehr: FakeEhr) -> Clinic:
    """A note that is there already in other words, one that is new, one that may not go."""
    clinic.write(note(1))
    assert clinic.deliver().delivered == 1
    clinic.write(edited(note(1), "Cough for four days."), note(2), note(3, patient=None))
    ehr.order.clear()
    return clinic


def test_a_dry_run_says_what_would_go_and_how_it_differs(
    about_to_leave: Clinic, medscribe: Callable[..., Ran], ehr: FakeEhr
) -> None:
    before = dump(about_to_leave.warehouse)

    ran = medscribe("deliver", "--dry-run", "--day", "2026-03-02", "--json")

    assert (ran.code, ran.err) == (0, "")
    by_note = {each["note_id"]: each for each in ran.json["notes"]}
    first, second, third = (by_note[str(note(number).note_id)] for number in (1, 2, 3))
    assert (first["change"], second["change"]) == ("update", "create")
    assert (third["change"], third["reason"]) == (None, "patient_unknown")
    assert (set(first["kinds"]), set(second["kinds"])) == (set(KINDS), set(KINDS))
    paths = [each["path"] for each in first["differences"]]
    assert any(path.startswith("Composition.section") for path in paths)
    assert all(set(each) == {"path"} for each in first["differences"])
    assert ran.json["counts"] == {"ehr": {"update": 1, "create": 1, "held": 1}}
    assert "four days" not in ran.out
    assert tells_nobody(ran)
    assert ehr.order == []
    assert dump(about_to_leave.warehouse) == before


def test_values_are_shown_on_request_only(about_to_leave: Clinic, medscribe: Callable[..., Ran]) -> None:
    assert about_to_leave

    plain, asked = (
        medscribe("deliver", "--dry-run", "--day", DAY),
        medscribe("deliver", "--dry-run", "--day", DAY, "--text"),
    )

    assert "Nothing was sent." in plain.words
    assert "1 create, 1 held, 1 update" in plain.words
    assert tells_nobody(plain)
    assert "three days" in asked.words
    assert "four days" in asked.words


def test_without_a_day_the_days_that_are_due_are_looked_at(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    clinic.write(note(1))
    place(clinic, note(1), State.REJECTED)

    nothing = medscribe("deliver", "--dry-run", "--json")
    medscribe("deliveries", "retry", "askara:n-1")
    due = medscribe("deliver", "--dry-run", "--json")

    assert (nothing.json["days"], nothing.json["notes"]) == ([], [])
    assert (due.json["days"], due.json["notes"][0]["change"]) == (["2026-03-02"], "create")


def test_what_the_switch_holds_can_be_looked_at_without_it(
    clinic: Clinic, medscribe: Callable[..., Ran], ehr: FakeEhr
) -> None:
    clinic.write(note(1))
    clinic.with_ehr(hold_all=True)
    assert clinic.deliver().held == {"held_by_switch": 1}

    ran = medscribe("deliver", "--dry-run", "--day", DAY, "--json")

    assert ran.json["counts"] == {"ehr": {"create": 1}}
    assert ehr.store == {}


def test_without_dry_run_it_names_the_command_that_delivers(
    about_to_leave: Clinic, medscribe: Callable[..., Ran], ehr: FakeEhr
) -> None:
    assert about_to_leave

    ran = medscribe("deliver", "--day", "2026-03-02")

    assert (ran.code, ran.out) == (2, "")
    assert "`medscribe sync`" in ran.err
    assert ehr.order == []


def test_a_server_that_cannot_be_asked_is_exit_code_3_and_nothing_else(
    about_to_leave: Clinic, medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert about_to_leave
    monkeypatch.setenv("MEDSCRIBE_EHR_BASE_URL", "http://127.0.0.1:9/fhir")

    ran = medscribe("deliver", "--dry-run", "--day", DAY, "--json")

    assert (ran.code, ran.out) == (3, "")
