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
PLACE = {"source_seq": 1, "visit_day": DAY}

Step = tuple[str, str, int]


def take(connection: sa.Connection, key: Key, name: str, worker: str, attempts: int) -> bool:
    moves: dict[str, Callable[[], bool]] = {
        "hold": lambda: ledger.hold(connection, key, "not_validated", source_seq=1, visit_day=DAY),
        "release": lambda: ledger.release(connection, key, source_seq=1, visit_day=DAY),
        "plan_again": lambda: ledger.plan_again(connection, key, source_seq=1, visit_day=DAY),
        "claim": lambda: ledger.claim(connection, key, worker=worker, now=NOW),
        "give_back": lambda: ledger.give_back(connection, key, worker=worker),
        "mark_sent": lambda: ledger.mark_sent(connection, key, worker=worker, now=NOW),
        "take_back": lambda: ledger.take_back(connection, key, worker=worker),
        "deliver": lambda: ledger.deliver(connection, key, COPIES, now=NOW, attempts=attempts),
        "refuse": lambda: ledger.refuse(connection, key, "refused", now=NOW, attempts=attempts),
        "lose": lambda: ledger.lose(connection, key, "timeout", now=NOW, attempts=attempts),
        "release_absent": lambda: ledger.release_absent(connection, key, attempts=attempts),
    }
    assert set(moves) == set(MOVES)
    return moves[name]()


def read(connection: sa.Connection, key: Key) -> Entry:
    """Both rows together; `entries` refuses halves and rows that disagree."""
    (entry,) = ledger.entries(connection, key.target, [key.note_id])[key.note_id]
    return entry


# Fewest steps first, so that long ways through the states are walked too.
STEPS = st.lists(st.tuples(st.sampled_from(sorted(MOVES)), WORKERS, st.integers(0, 3)), max_size=40)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, held=st.booleans())
def test_any_sequence_of_moves_keeps_the_ledger_in_order(clinic: Clinic, steps: list[Step], held: bool) -> None:
    key = Key("ehr", str(uuid.uuid4()), "v1")
    with clinic.warehouse.begin() as connection:
        ledger.add(connection, "default", [NewEntry(key, 1, DAY, "not_validated" if held else None)])
        for name, worker, attempts in steps:
            before = read(connection, key)
            moved = take(connection, key, name, worker, attempts)
            after = read(connection, key)

            if not moved:
                assert after == before
                continue
            assert before.state in MOVES[name].sources
            assert after.state is MOVES[name].target
            assert after.attempts == before.attempts + (name == "mark_sent")
            assert (after.claimed_by is not None) == (after.state in (State.CLAIMED, State.SENT))
            assert (after.reason is not None) == (after.state in (State.HELD, State.REJECTED, State.UNKNOWN))
            if name in ("give_back", "mark_sent", "take_back"):
                assert before.claimed_by == worker
            if name in ("deliver", "refuse", "lose", "release_absent"):
                assert before.attempts == attempts
            if after.state is State.DELIVERED:
                assert all(copy.server_id and copy.etag for copy in after.copies.values())


def test_nothing_is_sent_that_was_not_claimed_and_nothing_doubtful_without_a_look() -> None:
    into_sent = {name for name, move in MOVES.items() if move.target is State.SENT}
    out_of_unknown = {name for name, move in MOVES.items() if State.UNKNOWN in move.sources}
    into_planned_from_sent = {
        name for name, move in MOVES.items() if move.target is State.PLANNED and State.SENT in move.sources
    }

    assert (into_sent, MOVES["mark_sent"].sources) == ({"mark_sent"}, (State.CLAIMED,))
    assert out_of_unknown == {"deliver", "refuse", "lose", "release_absent"}
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

        ledger.add(connection, "default", [NewEntry(key, 2, DAY + timedelta(days=1), "not_validated")])

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


def test_half_an_entry_is_an_error_and_rolls_back(clinic: Clinic) -> None:
    key = planned(clinic)
    with clinic.warehouse.begin() as connection:
        connection.execute(sa.delete(deliveries).where(deliveries.c.kind == KINDS[0]))

    with pytest.raises(MedscribeError, match="half an entry"), clinic.warehouse.begin() as connection:
        ledger.claim(connection, key, worker="w1", now=NOW)

    with clinic.warehouse.read() as connection:
        assert connection.scalar(sa.select(deliveries.c.state)) == "planned"


def planned(clinic: Clinic) -> Key:
    key = Key("ehr", str(uuid.uuid4()), "v1")
    with clinic.warehouse.begin() as connection:
        ledger.add(connection, "default", [NewEntry(key, 1, DAY, None)])
    return key
