"""`medscribe deliveries retry`, `discard`, `release` and `reconcile`: what they do, and what they refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.ehr import ledger
from medscribe_pipeline.ehr.ledger import State
from medscribe_pipeline.ehr.listing import pages
from tests.databases import dump
from tests.medscribe_pipeline.ehr.clinic import DAY, Clinic, edited, note
from tests.medscribe_pipeline.ehr.standings import due_days, place, standing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from medscribe_pipeline.ehr.listing import Standing
    from tests.medscribe_pipeline.cli.conftest import Ran
    from tests.medscribe_pipeline.ehr.fake_ehr import FakeEhr

DONE = {"versions", "overtaken", "found", "obstacles", "days"}


# retry and discard


def test_one_version_is_retried_at_once(
    clinic: Clinic, mixed: dict[str, ledger.Key], medscribe: Callable[..., Ran]
) -> None:
    ran = medscribe("deliveries", "retry", "askara:n-1")

    assert (ran.code, ran.err) == (0, "")
    assert "To be planned again" in ran.words
    assert "1 versions planned again; the next `medscribe sync` goes through 1 visit days." in ran.words
    assert due_days(clinic) == {DAY}
    shown = medscribe("deliveries", "show", "askara:n-1")
    assert "by hand: alice at 20" in shown.words
    assert ": planned again" in shown.words
    assert standing(clinic, mixed["rejected"]).state is State.PLANNED


@pytest.mark.parametrize(("act", "result"), [("retry", State.PLANNED), ("discard", State.DISCARDED)])
def test_more_than_one_needs_a_word(clinic: Clinic, medscribe: Callable[..., Ran], act: str, result: State) -> None:
    clinic.write(note(1), note(2))
    keys = [place(clinic, note(number), State.REJECTED) for number in (1, 2)]
    before = dump(clinic.warehouse)

    asked, program = (
        medscribe("deliveries", act, "--reason", "refused"),
        medscribe("deliveries", act, "--reason", "refused", "--json"),
    )
    untouched = dump(clinic.warehouse)
    done = medscribe("deliveries", act, "--reason", "refused", "--yes", "--json")

    assert (asked.code, program.code) == (2, 2)
    assert "Add --yes if all 2 versions" in " ".join(asked.err.split())
    assert "refused" in asked.words
    assert (program.json["versions"], program.json["found"][0]["versions"]) == (0, 2)
    assert untouched == before
    assert (done.code, set(done.json), done.json["versions"]) == (0, DONE, 2)
    assert {standing(clinic, key).state for key in keys} == {result}


def test_by_its_reason_only_what_is_rejected_is_retried(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    clinic.write(note(1), note(2))
    keys = [place(clinic, note(number), State.REJECTED) for number in (1, 2)]
    medscribe("deliveries", "discard", keys[0].note_id)

    medscribe("deliveries", "retry", "--reason", "refused", "--yes")
    first = [standing(clinic, key).state for key in keys]
    medscribe("deliveries", "retry", "--reason", "refused", "--discarded")

    assert first == [State.DISCARDED, State.PLANNED]
    assert standing(clinic, keys[0]).state is State.PLANNED


def test_older_versions_are_said_to_be_left_alone(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    clinic.write(note(1))
    place(clinic, note(1), State.REJECTED)
    clinic.write(edited(note(1), "Cough for four days."))

    people, program = (
        medscribe("deliveries", "retry", "askara:n-1"),
        medscribe("deliveries", "retry", "askara:n-1", "--json"),
    )

    assert (people.code, program.code) == (0, 0)
    assert "1 not planned again: an older version of its note: only the newest is ever sent." in people.words
    assert program.json == {
        "versions": 0,
        "overtaken": 0,
        "found": [],
        "obstacles": {"older_version": 1},
        "days": [],
    }


@pytest.mark.parametrize("act", ["retry", "discard"])
def test_nothing_to_do_is_a_sentence(clinic: Clinic, medscribe: Callable[..., Ran], act: str) -> None:
    clinic.write(note(1))
    place(clinic, note(1), State.DELIVERED)

    named = medscribe("deliveries", act, "askara:n-1")
    found = medscribe("deliveries", act, "--day", "2026-03-02")

    assert (named.code, found.code) == (0, 0)
    assert "`medscribe deliveries show NOTE` tells how they stand" in named.words
    assert "There is nothing of that to be" in found.words


def test_what_may_be_there_is_retried_after_a_look_only(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    clinic.write(note(1))
    key = place(clinic, note(1), State.UNKNOWN)
    discarded = medscribe("deliveries", "discard", "askara:n-1")

    refused = medscribe("deliveries", "retry", "askara:n-1")
    shown = medscribe("deliveries", "show", "askara:n-1")
    looked = medscribe("deliveries", "retry", "askara:n-1", "--absent")

    assert (discarded.code, refused.code, looked.code) == (0, 0, 0)
    assert "then it stays there, and nothing updates or withdraws it" in discarded.words
    assert "discarded while nobody knew whether it arrived" in refused.words
    assert "nobody knows whether it had arrived" in shown.words
    assert standing(clinic, key).state is State.PLANNED


def test_a_lost_race_is_told_and_is_exit_code_1(
    clinic: Clinic, mixed: dict[str, ledger.Key], medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = mixed["rejected"]

    def read(*arguments: Any) -> Iterator[list[Standing]]:
        """With somebody who is faster than whoever reads."""
        for page in pages(*arguments):
            with clinic.warehouse.begin() as connection:
                assert ledger.discard(connection, key, now=clinic.now)
            yield page

    monkeypatch.setattr("medscribe_pipeline.ehr.by_hand.pages", read)

    ran = medscribe("deliveries", "retry", "askara:n-1")

    assert ran.code == 1
    assert "0 versions planned again" in ran.words
    assert "1 changed meanwhile, by a run or by somebody else, and were left alone" in ran.words


# release


def test_what_is_not_there_is_released(
    clinic: Clinic, mixed: dict[str, ledger.Key], medscribe: Callable[..., Ran]
) -> None:
    ran = medscribe("deliveries", "release", "askara:n-2", "--absent")

    assert (ran.code, ran.words[:14]) == (0, "Planned again:")
    assert standing(clinic, mixed["unknown"]).state is State.PLANNED
    assert due_days(clinic) == {DAY}
    again = medscribe("deliveries", "release", "askara:n-2", "--absent")
    assert (again.code, again.words[:33]) == (0, "Nothing of this note is unknown. ")


def test_what_is_there_is_told_document_by_document(
    clinic: Clinic, mixed: dict[str, ledger.Key], medscribe: Callable[..., Ran]
) -> None:
    unnamed = medscribe("deliveries", "release", "askara:n-2", "--there", "abc")
    first = medscribe("deliveries", "release", "askara:n-2", "--there", "abc", "--kind", "Composition")
    second = medscribe("deliveries", "release", "askara:n-2", "--there", "def", "--json")

    assert (unnamed.code, first.code, second.code) == (2, 0, 0)
    assert "in doubt are: Composition, DocumentReference" in " ".join(unnamed.err.split())
    assert "Other documents of it are still in doubt" in first.words
    assert second.json == {"unknown": 1, "state": "delivered", "overtaken": False}
    found = standing(clinic, mixed["unknown"])
    assert {row.kind: row.server_id for row in found.written} == {"Composition": "abc", "DocumentReference": "def"}


def test_what_was_sent_again_since_the_look_is_not_released(
    clinic: Clinic, mixed: dict[str, ledger.Key], medscribe: Callable[..., Ran]
) -> None:
    late = medscribe("deliveries", "release", "askara:n-2", "--absent", "--attempts", "3")
    before = standing(clinic, mixed["unknown"]).state
    right = medscribe("deliveries", "release", "askara:n-2", "--absent", "--attempts", "1", "--json")

    assert (late.code, before) == (1, State.UNKNOWN)
    assert "Something else happened to it meanwhile" in late.words
    assert (right.code, right.json["state"]) == (0, "planned")


def test_of_several_targets_one_has_to_be_named(
    clinic: Clinic, mixed: dict[str, ledger.Key], medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSCRIBE_EHR_MORE_TARGETS", '["store"]')
    monkeypatch.setenv("MEDSCRIBE_EHR_STORE_BASE_URL", "http://127.0.0.1:9/fhir")
    other = place(clinic, note(2), State.UNKNOWN, target="store")

    both = medscribe("deliveries", "release", "askara:n-2", "--absent")
    one = medscribe("deliveries", "release", "askara:n-2", "--absent", "--target", "store")

    assert (both.code, one.code) == (2, 0)
    assert "say with --target" in " ".join(both.err.split())
    assert standing(clinic, other).state is State.PLANNED
    assert standing(clinic, mixed["unknown"]).state is State.UNKNOWN


# reconcile


def test_servers_are_asked_after_what_is_unknown(
    clinic: Clinic, mixed: dict[str, ledger.Key], medscribe: Callable[..., Ran], ehr: FakeEhr
) -> None:
    program, again = medscribe("deliveries", "reconcile", "--json"), medscribe("deliveries", "reconcile")

    assert program.code == 0
    assert program.json == {"targets": {"ehr": {"settled": {"planned": 1}, "unknown": 0, "error": None}}}
    assert standing(clinic, mixed["unknown"]).state is State.PLANNED
    assert due_days(clinic) == {DAY}
    assert (again.code, again.words) == (0, "ehr: nothing is unknown.")
    assert ehr.store == {}


def test_what_stays_unknown_is_exit_code_1(
    mixed: dict[str, ledger.Key], medscribe: Callable[..., Ran], ehr: FakeEhr
) -> None:
    assert mixed
    ehr.searches_work = False

    ran = medscribe("deliveries", "reconcile")

    assert (ran.code, "1 still unknown" in ran.words) == (1, True)


def test_a_server_that_is_away_does_not_keep_the_others_from_being_asked(
    clinic: Clinic, mixed: dict[str, ledger.Key], medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"BASE_URL": "http://127.0.0.1:9/fhir", "MAX_ATTEMPTS": "1", "BACKOFF_S": "0"}.items():
        monkeypatch.setenv(f"MEDSCRIBE_EHR_AWAY_{name}", value)
    monkeypatch.setenv("MEDSCRIBE_EHR_MORE_TARGETS", '["away"]')
    place(clinic, note(2), State.UNKNOWN, target="away")
    monkeypatch.setenv("MEDSCRIBE_EHR_TARGET", "ehr")

    ran = medscribe("deliveries", "reconcile", "--json")

    assert ran.code == 3
    assert ran.json["targets"]["away"] == {"settled": {}, "unknown": 1, "error": "unreachable"}
    assert ran.json["targets"]["ehr"]["settled"] == {"planned": 1}
    assert standing(clinic, mixed["unknown"]).state is State.PLANNED
