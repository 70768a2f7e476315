from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medscribe_pipeline.ehr import ledger
from medscribe_pipeline.ehr.ledger import KINDS, MOVES, Copy, Entry, Key, NewEntry, State
from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.warehouse.tables import deliveries
from tests.medscribe_pipeline.ehr.clinic import DAY, NOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.medscribe_pipeline.ehr.clinic import Clinic

COPIES = {kind: Copy(f"id-of-{kind}", 'W/"1"', ("201",)) for kind in KINDS}
WORKERS = st.sampled_from(["w1", "w2"])
PART = {KINDS[0]: COPIES[KINDS[0]]}
UNITS = [("DocumentReference",), KINDS, (*KINDS, "Provenance")]

Step = tuple[str, str, int, bool]


def take(connection: sa.Connection, key: Key, step: Step, kinds: tuple[str, ...]) -> bool:
    name, worker, attempts, partly = step
    whole = {kind: Copy(f"id-of-{kind}", 'W/"1"', ("201",)) for kind in kinds}
    part = {kinds[0]: whole[kinds[0]]} if partly else {}
    moves: dict[str, Callable[[], bool]] = {
        "hold": lambda: ledger.hold(connection, key, "not_validated", source_seq=1, visit_day=DAY),
        "release": lambda: ledger.release(connection, key, source_seq=1, visit_day=DAY),
        "plan_again": lambda: ledger.plan_again(connection, key, source_seq=1, visit_day=DAY),
        "claim": lambda: ledger.claim(connection, key, worker=worker, now=NOW),
        "give_back": lambda: ledger.give_back(connection, key, worker=worker),
        "mark_sent": lambda: ledger.mark_sent(connection, key, worker=worker, now=NOW),
        "take_back": lambda: ledger.take_back(connection, key, worker=worker, copies=part),
        "deliver": lambda: ledger.deliver(connection, key, part or whole, now=NOW, attempts=attempts),
        "refuse": lambda: ledger.refuse(connection, key, "refused", now=NOW, copies=part, attempts=attempts),
        "lose": lambda: ledger.lose(connection, key, "timeout", now=NOW, copies=part, attempts=attempts),
        "release_absent": lambda: ledger.release_absent(connection, key, attempts=attempts, copies=part),
        "discard": lambda: ledger.discard(connection, key, now=NOW, attempts=attempts),
    }
    assert set(moves) == set(MOVES)
    return moves[name]()


def read(connection: sa.Connection, key: Key) -> Entry:
    """All rows together; `entries` refuses rows that disagree."""
    (entry,) = ledger.entries(connection, key.target, [key.note_id])[key.note_id]
    return entry


# Fewest steps first, so that long ways through the states are walked too.
STEPS = st.lists(st.tuples(st.sampled_from(sorted(MOVES)), WORKERS, st.integers(0, 3), st.booleans()), max_size=40)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, held=st.booleans(), kinds=st.sampled_from(UNITS))
def test_any_sequence_of_moves_keeps_the_ledger_in_order(
    clinic: Clinic, steps: list[Step], held: bool, kinds: tuple[str, ...]
) -> None:
    key = Key("ehr", str(uuid.uuid4()), "v1")
    with clinic.warehouse.begin() as connection:
        ledger.add(connection, "default", [NewEntry(key, kinds, 1, DAY, "not_validated" if held else None)])
        for step in steps:
            name, worker, attempts, partly = step
            before = read(connection, key)
            moved = take(connection, key, step, kinds)
            after = read(connection, key)

            assert after.copies.keys() == set(kinds)
            if not moved:
                assert after == before
                continue
            assert before.state in MOVES[name].sources
            assert after.state is MOVES[name].target
            assert after.attempts == before.attempts + (name == "mark_sent")
            assert (after.claimed_by is not None) == (after.state in (State.CLAIMED, State.SENT))
            if after.state is not State.DISCARDED:
                assert (after.reason is not None) == (after.state in (State.HELD, State.REJECTED, State.UNKNOWN))
            if name in ("give_back", "mark_sent", "take_back"):
                assert before.claimed_by == worker
            if name in ("deliver", "refuse", "lose", "release_absent", "discard"):
                assert before.attempts == attempts
            if after.state is State.DELIVERED:
                assert all(copy.server_id and copy.etag for copy in after.copies.values())
            # What is there stays known, until the whole of it was delivered and has to be delivered again.
            assert after.done.keys() >= before.done.keys() or (name, before.state) == ("plan_again", State.DELIVERED)
            if partly and name in ("take_back", "refuse", "lose", "release_absent"):
                assert kinds[0] in after.done


def test_nothing_is_sent_that_was_not_claimed_and_nothing_doubtful_without_a_look() -> None:
    into_sent = {name for name, move in MOVES.items() if move.target is State.SENT}
    out_of_unknown = {name for name, move in MOVES.items() if State.UNKNOWN in move.sources}
    into_planned_from_sent = {
        name for name, move in MOVES.items() if move.target is State.PLANNED and State.SENT in move.sources
    }

    assert (into_sent, MOVES["mark_sent"].sources) == ({"mark_sent"}, (State.CLAIMED,))
    assert out_of_unknown == {"deliver", "refuse", "lose", "release_absent", "discard"}
    assert into_planned_from_sent == {"take_back"}


def test_of_two_workers_one_claims(clinic: Clinic) -> None:
    key = planned(clinic)

    with clinic.warehouse.begin() as connection:
        first = ledger.claim(connection, key, worker="w1", now=NOW)
        second = ledger.claim(connection, key, worker="w2", now=NOW)
        theirs = ledger.mark_sent(connection, key, worker="w2", now=NOW)

    assert (first, second, theirs) == (True, False, False)


def test_an_observation_from_before_another_attempt_changes_nothing(clinic: Clinic) -> None:
    key = planned(clinic)
    with clinic.warehouse.begin() as connection:
        for _ in range(2):
            ledger.claim(connection, key, worker="w1", now=NOW)
            ledger.mark_sent(connection, key, worker="w1", now=NOW)
            ledger.lose(connection, key, "timeout", now=NOW, worker="w1")
            attempts = read(connection, key).attempts
            if attempts == 1:
                ledger.release_absent(connection, key, attempts=1)

        stale = ledger.release_absent(connection, key, attempts=1)

        assert (stale, read(connection, key).state) == (False, State.UNKNOWN)


def test_entering_a_version_twice_keeps_what_is_there(clinic: Clinic) -> None:
    key = planned(clinic)
    with clinic.warehouse.begin() as connection:
        ledger.claim(connection, key, worker="w1", now=NOW)

        ledger.add(connection, "default", [NewEntry(key, KINDS, 2, DAY + timedelta(days=1), "not_validated")])

        assert read(connection, key).state is State.CLAIMED
        assert read(connection, key).source_seq == 1


def test_planning_again_forgets_what_the_server_said(clinic: Clinic) -> None:
    key = planned(clinic)
    with clinic.warehouse.begin() as connection:
        ledger.claim(connection, key, worker="w1", now=NOW)
        ledger.mark_sent(connection, key, worker="w1", now=NOW)
        ledger.deliver(connection, key, COPIES, now=NOW, worker="w1")

        ledger.plan_again(connection, key, source_seq=7, visit_day=DAY)

        entry = read(connection, key)
    assert (entry.state, entry.source_seq, entry.settled_at) == (State.PLANNED, 7, None)
    assert {(copy.server_id, copy.etag) for copy in entry.copies.values()} == {(None, None)}


def test_what_of_a_rejected_version_is_there_stays_known(clinic: Clinic) -> None:
    key = planned(clinic)
    with clinic.warehouse.begin() as connection:
        ledger.claim(connection, key, worker="w1", now=NOW)
        ledger.mark_sent(connection, key, worker="w1", now=NOW)
        ledger.refuse(connection, key, "refused", now=NOW, codes=["422"], copies=PART, worker="w1")

        ledger.plan_again(connection, key, source_seq=7, visit_day=DAY)

        codes = dict(connection.execute(sa.select(deliveries.c.kind, deliveries.c.outcome_codes)).all())
        assert read(connection, key).done == {KINDS[0]: Copy("id-of-Composition", 'W/"1"')}
    assert codes == {KINDS[0]: ["201"], KINDS[1]: ["422"]}


def test_a_part_of_it_is_no_delivery(any_clinic: Clinic) -> None:
    key = planned(any_clinic)
    rest = {KINDS[1]: COPIES[KINDS[1]]}
    with any_clinic.warehouse.begin() as connection:
        ledger.claim(connection, key, worker="w1", now=NOW)
        ledger.mark_sent(connection, key, worker="w1", now=NOW)

        assert not ledger.deliver(connection, key, PART, now=NOW, worker="w1")
        assert ledger.lose(connection, key, "timeout", now=NOW, copies=PART, worker="w1")
        assert ledger.deliver(connection, key, rest, now=NOW, attempts=1)
        assert read(connection, key).done == {kind: Copy(copy.server_id, copy.etag) for kind, copy in COPIES.items()}


def test_a_version_that_waits_takes_the_shape_the_target_wants(any_clinic: Clinic) -> None:
    key = planned(any_clinic)
    with any_clinic.warehouse.begin() as connection:
        ledger.claim(connection, key, worker="w1", now=NOW)
        ledger.mark_sent(connection, key, worker="w1", now=NOW)
        under_way = ledger.reshape(connection, key, ["Provenance"])
        ledger.take_back(connection, key, worker="w1", copies=PART)

        reshaped = ledger.reshape(connection, key, ["Provenance"])
        again = ledger.reshape(connection, key, ["Provenance"])

        entry = read(connection, key)
    assert (under_way, reshaped, again) == (False, True, False)
    assert (set(entry.copies), set(entry.done)) == ({KINDS[0], "Provenance"}, {KINDS[0]})
    assert (entry.state, entry.attempts) == (State.PLANNED, 1)


def test_rows_that_disagree_are_told_and_do_not_move(any_clinic: Clinic) -> None:
    key = planned(any_clinic)
    with any_clinic.warehouse.begin() as connection:
        connection.execute(sa.update(deliveries).where(deliveries.c.kind == KINDS[0]).values(state="held"))

        moved = ledger.claim(connection, key, worker="w1", now=NOW)

    assert not moved
    with pytest.raises(MedscribeError, match="do not agree"), any_clinic.warehouse.read() as connection:
        read(connection, key)


def planned(clinic: Clinic) -> Key:
    key = Key("ehr", str(uuid.uuid4()), "v1")
    with clinic.warehouse.begin() as connection:
        ledger.add(connection, "default", [NewEntry(key, KINDS, 1, DAY, None)])
    return key
