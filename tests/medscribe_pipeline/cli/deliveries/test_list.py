"""`medscribe deliveries list` and `show`: what they show, and what they hide."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from medscribe_pipeline.cli.deliveries import deliveries_app
from medscribe_pipeline.cli.deliveries_meaning import means
from medscribe_pipeline.ehr.ledger import KINDS, State
from medscribe_pipeline.warehouse.tables import deliveries
from tests.databases import dump
from tests.medscribe_pipeline.cli.deliveries.telling import tells_nobody
from tests.medscribe_pipeline.ehr.clinic import Clinic, note
from tests.medscribe_pipeline.ehr.standings import place, standing

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.ehr import ledger
    from tests.medscribe_pipeline.cli.conftest import Ran

COMMANDS = [each.name or getattr(each.callback, "__name__", "") for each in deliveries_app.registered_commands]
LISTED = {"note_id", "target", "provider", "version", "newest", "visit_day", "state", "reason", "attempts", "codes"} | {
    "kinds"
}
SHOWN = (LISTED - {"codes", "kinds"}) | {"claimed_at", "sent_at", "settled_at", "documents", "by_hand", "means"}


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


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_docs(command: str) -> None:
    page = Path(__file__).parents[4] / "docs" / "delivery.md"

    assert f"| `medscribe deliveries {command}" in page.read_text(encoding="utf-8")
