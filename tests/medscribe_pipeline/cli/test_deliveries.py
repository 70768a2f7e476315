"""`medscribe deliveries` and `medscribe deliver --dry-run`: what they show, what they hide, what they do and refuse."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from medscribe_pipeline.cli.deliveries import deliveries_app
from medscribe_pipeline.cli.deliveries_meaning import means
from medscribe_pipeline.ehr import ledger
from medscribe_pipeline.ehr.ledger import KINDS, State
from medscribe_pipeline.ehr.listing import pages
from medscribe_pipeline.settings import Settings
from medscribe_pipeline.warehouse.tables import deliveries
from tests.databases import dump
from tests.medscribe_pipeline.ehr.clinic import DAY, Clinic, edited, note
from tests.medscribe_pipeline.ehr.fake_ehr import FakeEhr
from tests.medscribe_pipeline.ehr.standings import due_days, place, standing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from medscribe_pipeline.ehr.listing import Standing
    from tests.medscribe_pipeline.cli.conftest import Ran

OTHER_DAY = DAY + timedelta(days=1)
WORDS = "Cough for three days."
COMMANDS = [each.name or getattr(each.callback, "__name__", "") for each in deliveries_app.registered_commands]
LISTED = {"note_id", "target", "provider", "version", "newest", "visit_day", "state", "reason", "attempts", "codes"} | {
    "kinds"
}
SHOWN = (LISTED - {"codes", "kinds"}) | {"claimed_at", "sent_at", "settled_at", "documents", "by_hand", "means"}
DONE = {"versions", "overtaken", "found", "obstacles", "days"}


@pytest.fixture
def ehr() -> Iterator[FakeEhr]:
    server = FakeEhr()
    yield server
    server.close()


@pytest.fixture
def clinic(home: Path, ehr: FakeEhr, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clinic]:
    """A warehouse the command finds, and an EHR."""
    assert home
    for name, value in {
        "BASE_URL": ehr.base_url,
        "RECONCILE_AFTER_S": "0",
        "MAX_ATTEMPTS": "1",
        "BACKOFF_S": "0",
        "TIMEOUT_S": "5",
    }.items():
        monkeypatch.setenv(f"MEDSCRIBE_EHR_{name}", value)
    monkeypatch.setattr("medscribe_pipeline.warehouse.audit.current_user", lambda: "alice")
    clinic = Clinic(Settings.load(), ehr.base_url)
    yield clinic
    clinic.close()


@pytest.fixture
def mixed(clinic: Clinic) -> dict[str, ledger.Key]:
    """One version in each state a person meets."""
    clinic.write(*(note(number) for number in range(1, 6)))
    return {
        "rejected": place(clinic, note(1), State.REJECTED, codes=("422", "value", "Composition.date")),
        "unknown": place(clinic, note(2), State.UNKNOWN),
        "delivered": place(clinic, note(3), State.DELIVERED),
        "held": place(clinic, note(4), State.HELD),
        "planned": place(clinic, note(5), State.PLANNED, target="store"),
    }


def tells_nobody(ran: Ran) -> bool:
    """Whether neither the note's words nor whom it is about are in what was printed."""
    return not any(secret in ran.out + ran.err for secret in (WORDS, "urn:example:patients", "History"))


# list


def test_a_list_is_counts_and_then_a_line_for_each_version(
    mixed: dict[str, ledger.Key], medscribe: Callable[..., Ran]
) -> None:
    ran = medscribe("deliveries", "list")

    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    for key in mixed.values():
        (line,) = (line for line in lines if line.startswith(key.note_id))
        assert key.target in line
    (rejected,) = (line for line in lines if line.startswith(mixed["rejected"].note_id))
    assert rejected.split()[1:] == [
        "2026-03-02",
        "ehr",
        "newest",
        "rejected",
        "refused",
        "1",
        "422,value,Composition.date",
    ]
    assert all(word in ran.words for word in ("not_validated", "clinician", "cannot_be_asked"))
    assert tells_nobody(ran)


def test_a_list_for_programs_has_a_stable_shape(mixed: dict[str, ledger.Key], medscribe: Callable[..., Ran]) -> None:
    ran = medscribe("deliveries", "list", "--json")

    assert set(ran.json) == {"counts", "deliveries", "more"}
    assert ran.json["more"] is False
    assert {(each["target"], each["state"], each["reason"], each["versions"]) for each in ran.json["counts"]} == {
        ("ehr", "rejected", "refused", 1),
        ("ehr", "unknown", "cannot_be_asked", 1),
        ("ehr", "delivered", None, 1),
        ("ehr", "held", "not_validated", 1),
        ("store", "planned", None, 1),
    }
    assert all(set(each) == LISTED for each in ran.json["deliveries"])
    assert {each["note_id"] for each in ran.json["deliveries"]} == {key.note_id for key in mixed.values()}
    assert tells_nobody(ran)


def test_ids_on_the_server_are_shown_on_request_only(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    clinic.write(note(1))
    found = standing(clinic, place(clinic, note(1), State.DELIVERED))
    ids = {row.kind: row.server_id for row in found.written}

    plain, asked = medscribe("deliveries", "list"), medscribe("deliveries", "list", "--ids")
    program = medscribe("deliveries", "list", "--ids", "--json")

    assert not any(str(server_id) in plain.out for server_id in ids.values())
    assert all(f"{kind}/{server_id}" in asked.out for kind, server_id in ids.items())
    assert program.json["deliveries"][0]["server_ids"] == ids


@pytest.mark.parametrize(
    ("flags", "chosen"),
    [
        (("--state", "rejected"), {"rejected"}),
        (("--state", "rejected", "--state", "held"), {"rejected", "held"}),
        (("--reason", "not_validated"), {"held"}),
        (("--target", "store"), {"planned"}),
        (("--target", "ehr", "--state", "planned"), set()),
        (("--day", "2026-03-03"), set()),
        (("--provider", "askara", "--state", "delivered"), {"delivered"}),
        (("--provider", "nabla"), set()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "+".join(sorted(value)),
)
def test_a_list_is_narrowed_down(
    mixed: dict[str, ledger.Key], medscribe: Callable[..., Ran], flags: tuple[str, ...], chosen: set[str]
) -> None:
    program, people = medscribe("deliveries", "list", *flags, "--json"), medscribe("deliveries", "list", *flags)

    assert {each["note_id"] for each in program.json["deliveries"]} == {mixed[name].note_id for name in chosen}
    assert sum(each["versions"] for each in program.json["counts"]) == len(chosen)
    assert (people.code, "There is nothing of that in the ledger." in people.words) == (0, not chosen)


def test_what_a_list_leaves_out_is_told(mixed: dict[str, ledger.Key], medscribe: Callable[..., Ran]) -> None:
    some, whole = medscribe("deliveries", "list", "--limit", "2"), medscribe("deliveries", "list", "--limit", "0")
    program = medscribe("deliveries", "list", "--limit", "2", "--json").json
    exact = medscribe("deliveries", "list", "--limit", len(mixed), "--json").json

    assert "There are more; these are the first 2." in some.words
    assert "There are more" not in whole.words
    assert (len(program["deliveries"]), program["more"], sum(each["versions"] for each in program["counts"])) == (
        2,
        True,
        len(mixed),
    )
    assert (len(exact["deliveries"]), exact["more"]) == (len(mixed), False)


def test_counts_alone(mixed: dict[str, ledger.Key], medscribe: Callable[..., Ran]) -> None:
    people, program = medscribe("deliveries", "list", "--counts"), medscribe("deliveries", "list", "--counts", "--json")

    assert set(program.json) == {"counts"}
    assert not any(key.note_id in people.out for key in mixed.values())
    assert "cannot_be_asked" in people.words


def test_an_empty_ledger_is_nothing_wrong(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    assert clinic

    people, program = medscribe("deliveries", "list"), medscribe("deliveries", "list", "--json")

    assert (people.code, people.words) == (0, "There is nothing of that in the ledger.")
    assert program.json == {"counts": [], "deliveries": [], "more": False}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("list", "--state", "lost"), "--state takes one of: planned"),
        (("discard", "--state", "delivered"), "--state takes one of: planned, held, rejected, unknown"),
        (("list", "--target", "absent"), "known are: ehr"),
        (("list", "--day", "someday"), "Not a day"),
        (("list", "--limit", "-1"), "--limit"),
        (("show", "nothing"), "There is no such note"),
        (("retry",), "Say which"),
        (("discard",), "Say which"),
        (("retry", "nothing"), "There is no such note"),
        (("retry", "--target", "absent"), "known are: ehr"),
        (("reconcile", "--target", "absent"), "known are: ehr"),
        (("release", str(uuid.UUID(int=7)), "--absent"), "There is no such note"),
        (("release", "x"), "Give one of the two"),
        (("release", "x", "--absent", "--there", "abc"), "Give one of the two"),
        (("release", "x", "--absent", "--kind", "Composition"), "Give one of the two"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_arguments_are_exit_code_2_and_do_nothing(
    clinic: Clinic, mixed: dict[str, ledger.Key], medscribe: Callable[..., Ran], arguments: tuple[str, ...], told: str
) -> None:
    assert mixed
    before = dump(clinic.warehouse)

    ran = medscribe("deliveries", *arguments)

    assert (ran.code, ran.out) == (2, "")
    assert told in " ".join(ran.err.split())
    assert dump(clinic.warehouse) == before


# show


def test_a_note_is_shown_with_every_version_and_what_it_means(
    clinic: Clinic, mixed: dict[str, ledger.Key], medscribe: Callable[..., Ran]
) -> None:
    name = mixed["rejected"].note_id
    place(clinic, note(1), State.DELIVERED, target="store")
    with clinic.warehouse.begin() as connection:
        changed = ["201", "changed:DocumentReference.content.0.attachment.hash"]
        connection.execute(sa.update(deliveries).where(deliveries.c.target == "store").values(outcome_codes=changed))

    program, people = medscribe("deliveries", "show", name, "--json"), medscribe("deliveries", "show", "askara:n-1")

    assert set(program.json) == {"note", "deliveries"}
    rejected, delivered = program.json["deliveries"]
    assert set(rejected) == set(delivered) == SHOWN
    assert {(each["kind"], *each["codes"], *each["minded"]) for each in rejected["documents"]} == {
        (kind, "422", "value", "Composition.date") for kind in KINDS
    }
    assert delivered["documents"][0]["changed"] == ["DocumentReference.content.0.attachment.hash"]
    assert (delivered["documents"][0]["codes"], delivered["documents"][0]["minded"]) == (["201"], [])
    assert "medscribe deliveries retry" in rejected["means"]
    for sentence in (rejected["means"], delivered["means"]):
        assert sentence in people.words
    assert "dropped or changed by the server: DocumentReference.content.0.attachment.hash" in people.words
    assert "elements the server minds: Composition.date" in people.words
    assert tells_nobody(program)
    assert tells_nobody(people)


def test_a_note_the_ledger_has_not_seen_is_nothing_wrong(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    clinic.write(note(1))

    ran = medscribe("deliveries", "show", str(note(1).note_id))

    assert (ran.code, "The ledger has nothing of it yet." in ran.words) == (0, True)


@pytest.mark.parametrize("state", State)
def test_every_state_is_explained(clinic: Clinic, state: State) -> None:
    clinic.write(note(1))

    sentence = means(standing(clinic, place(clinic, note(1), state)))

    assert sentence.endswith(".")
    assert "{" not in sentence


@pytest.mark.parametrize(
    ("state", "reason", "told"),
    [
        (State.REJECTED, "changed_in_ehr", "somebody edited the server's copy"),
        (State.REJECTED, "something_new", "mend the cause"),
        (State.UNKNOWN, "cannot_be_asked", "this server cannot be asked"),
        (State.UNKNOWN, "timeout", "medscribe deliveries reconcile"),
        (State.HELD, "superseded", "a newer version"),
        (State.HELD, "patient_missing", "the EHR knows no such patient"),
    ],
)
def test_a_reason_says_what_can_be_done(clinic: Clinic, state: State, reason: str, told: str) -> None:
    clinic.write(note(1))

    assert told in means(standing(clinic, place(clinic, note(1), state, reason)))


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


# deliver --dry-run


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


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_docs(command: str) -> None:
    page = Path(__file__).parents[3] / "docs" / "delivery.md"

    assert f"| `medscribe deliveries {command}" in page.read_text(encoding="utf-8")
