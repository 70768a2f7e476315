from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscribe_pipeline.ehr.day_view import NoteFacts
from medscribe_pipeline.ehr.ledger import KINDS, MOVES, Copy, Entry, Key, State
from medscribe_pipeline.ehr.plan import (
    Decision,
    Rules,
    decide,
    hold_reason,
    may_claim,
    newest_delivered,
    standing_copies,
    would_leave,
)
from medscribe_pipeline.notes import NoteState
from tests.medscribe_pipeline.ehr.clinic import DAY, NOW

NOTE_ID = str(uuid.uuid4())
IN_DOUBT = (State.CLAIMED, State.SENT, State.UNKNOWN)
REASONS = {State.HELD: "not_validated", State.REJECTED: "refused", State.UNKNOWN: "timeout"}
MORE = (*KINDS, "Provenance")


def facts(
    version: str = "v2",
    *,
    state: str = NoteState.VALIDATED,
    seq: int = 5,
    patient: str | None = "s|p",
    built_at: datetime | None = NOW,
    kinds: tuple[str, ...] = KINDS,
) -> NoteFacts:
    return NoteFacts(NOTE_ID, state, version, seq, DAY, patient, built_at, frozenset(kinds if built_at else ()))


def entry(
    version: str,
    state: State,
    *,
    seq: int = 1,
    settled_at: datetime | None = NOW,
    kinds: tuple[str, ...] = KINDS,
    done: tuple[str, ...] = (),
) -> Entry:
    """One entry; of a delivered one everything is done."""
    settled = settled_at if state in (State.DELIVERED, State.REJECTED, State.UNKNOWN, State.DISCARDED) else None
    worker = "w1" if state in (State.CLAIMED, State.SENT) else None
    there = kinds if state is State.DELIVERED else done
    copies = {kind: Copy(f"{version}-{kind}" if kind in there else None, None) for kind in kinds}
    return Entry(Key("ehr", NOTE_ID, version), state, REASONS.get(state), seq, DAY, 0, worker, settled, copies)


NOTES = st.builds(
    facts,
    st.sampled_from(["v1", "v2", "v3"]),
    state=st.sampled_from([str(each) for each in NoteState]),
    seq=st.integers(1, 6),
    patient=st.sampled_from([None, "s|p"]),
    built_at=st.sampled_from([None, NOW - timedelta(hours=1), NOW + timedelta(hours=1)]),
    kinds=st.sampled_from([KINDS, MORE]),
)
ENTRIES = st.lists(
    st.builds(
        entry,
        st.sampled_from(["v1", "v2", "v3"]),
        st.sampled_from(list(State)),
        seq=st.integers(1, 6),
        kinds=st.sampled_from([KINDS, MORE]),
        done=st.sampled_from([(), KINDS[:1]]),
    ),
    unique_by=lambda each: each.key,
    max_size=3,
)
RULES = st.builds(
    Rules,
    st.sampled_from([KINDS, MORE, KINDS[1:], ("Provenance",)]),
    st.sampled_from(["update", "new_document", "hold"]),
    st.sampled_from(["update", "hold"]),
    st.booleans(),
)


def apply(listed: list[Entry], decisions: list[Decision]) -> list[Entry]:
    """The ledger after these decisions; every one of them must be a move the ledger allows."""
    by_key = {each.key: each for each in listed}
    for each in decisions:
        if each.move == "add":
            assert each.key not in by_key
            state = State.HELD if each.reason else State.PLANNED
            copies = dict.fromkeys(each.kinds, Copy(None, None))
            by_key[each.key] = Entry(
                each.key, state, each.reason, each.source_seq, each.visit_day, 0, None, None, copies
            )
            continue
        before = by_key[each.key]
        if each.move == "reshape":
            assert before.state in (State.PLANNED, State.HELD)
            assert each.kinds
            by_key[each.key] = replace(before, copies={**dict.fromkeys(each.kinds, Copy(None, None)), **before.done})
            continue
        move = MOVES[each.move]
        assert before.state in move.sources
        settled = None if each.move == "plan_again" else before.settled_at
        forgotten = each.move == "plan_again" and before.state is State.DELIVERED
        by_key[each.key] = replace(
            before,
            state=move.target,
            settled_at=settled,
            source_seq=each.source_seq,
            visit_day=each.visit_day,
            reason=each.reason,
            copies=dict.fromkeys(before.copies, Copy(None, None)) if forgotten else before.copies,
        )
    return list(by_key.values())


@settings(max_examples=600, deadline=None)
@given(note=NOTES, listed=ENTRIES, rules=RULES, obstacle=st.sampled_from([None, "patient_missing"]))
def test_deciding_is_allowed_settles_at_once_and_never_lets_out_what_must_stay(
    note: NoteFacts, listed: list[Entry], rules: Rules, obstacle: str | None
) -> None:
    decisions = decide("ehr", note, listed, rules, obstacle)
    after = apply(listed, decisions)

    assert decide("ehr", note, after, rules, obstacle) == []
    planned = [each for each in after if each.state is State.PLANNED]
    leaving = [each for each in planned if may_claim(note, each, after, rules)]
    for each in leaving:
        others = [other for other in after if other is not each]
        assert not rules.hold_all
        assert obstacle is None or newest_delivered(listed) is not None
        assert each.copies.keys() <= {*rules.kinds, *each.done}
        assert each.key.version == note.version
        assert note.state in (NoteState.VALIDATED, NoteState.RETRACTED)
        assert note.patient
        assert note.built_at
        assert not any(other.state in IN_DOUBT for other in after)
        assert not any(other.state is State.DELIVERED and other.source_seq > note.source_seq for other in after)
        if any(other.done for other in others):
            assert "hold" not in (rules.retraction if note.state == NoteState.RETRACTED else rules.amendment)
        if note.state == NoteState.RETRACTED:
            assert {kind for other in others for kind in other.done} >= each.copies.keys() - each.done.keys()
    assert len(leaving) <= 1
    # Whoever asks the network only for what would leave misses nothing.
    if obstacle is None and leaving:
        assert would_leave("ehr", note, listed, rules)


@pytest.mark.parametrize(
    ("note", "maybe_there", "reason"),
    [
        (facts(), False, None),
        (facts(state=NoteState.DRAFT), False, "not_validated"),
        (facts(state=NoteState.DRAFT), True, "not_validated"),
        (facts(state=NoteState.FAILED), False, "not_validated"),
        (facts(state="some state of tomorrow"), False, "not_validated"),
        (facts(patient=None), False, "patient_unknown"),
        (facts(state=NoteState.RETRACTED), False, "retracted_before_delivery"),
        (facts(state=NoteState.RETRACTED), True, None),
        (facts(state=NoteState.RETRACTED, patient=None), True, "patient_unknown"),
    ],
)
def test_why_a_note_is_held(note: NoteFacts, maybe_there: bool, reason: str | None) -> None:
    assert hold_reason(note, maybe_there=maybe_there) == reason


@pytest.mark.parametrize("state", [State.DELIVERED, State.UNKNOWN, State.SENT, State.CLAIMED])
def test_a_retraction_follows_a_version_that_may_be_there(state: State) -> None:
    retracted = facts(state=NoteState.RETRACTED)

    (decision,) = decide("ehr", retracted, [entry("v1", state)])

    assert (decision.move, decision.reason) == ("add", None)


@pytest.mark.parametrize("state", [State.PLANNED, State.HELD, State.REJECTED])
def test_a_retraction_of_what_never_arrived_is_held(state: State) -> None:
    retracted = facts(state=NoteState.RETRACTED)

    decision = decide("ehr", retracted, [entry("v1", state)])[-1]

    assert (decision.move, decision.reason) == ("add", "retracted_before_delivery")


@pytest.mark.parametrize("state", IN_DOUBT)
def test_a_version_waits_while_an_earlier_one_is_in_doubt(state: State) -> None:
    own = entry("v2", State.PLANNED, seq=5)

    assert may_claim(facts(), own, [own])
    assert not may_claim(facts(), own, [own, entry("v1", state)])


@pytest.mark.parametrize(
    "note", [facts(patient=None), facts(state=NoteState.DRAFT), facts(built_at=None), facts("v3"), facts(seq=6)]
)
def test_a_plan_the_note_has_outrun_is_not_claimed(note: NoteFacts) -> None:
    own = entry("v2", State.PLANNED, seq=5)

    assert not may_claim(note, own, [own])


def test_a_note_without_documents_of_its_version_is_not_entered() -> None:
    assert decide("ehr", facts(built_at=None), []) == []


def test_a_ledger_ahead_of_the_notes_is_left_alone() -> None:
    assert decide("ehr", facts("v1", seq=3), [entry("v1", State.PLANNED), entry("v2", State.DELIVERED, seq=4)]) == []


def test_of_two_versions_with_one_sequence_the_later_settled_stands() -> None:
    older, newer = entry("v1", State.DELIVERED), entry("v2", State.DELIVERED, settled_at=NOW + timedelta(seconds=1))

    assert newest_delivered([newer, older]) is newer
    assert [each.move for each in decide("ehr", facts("v1", seq=1), [older, newer])] == ["plan_again"]


def test_what_stands_is_the_newest_copy_of_each_document_whatever_became_of_its_version() -> None:
    first = entry("v1", State.DELIVERED, seq=1, kinds=MORE)
    in_part = entry("v2", State.REJECTED, seq=2, done=KINDS[:1])
    never = entry("v3", State.HELD, seq=3)
    own = entry("v4", State.UNKNOWN, seq=4, done=KINDS)

    copies, of_version = standing_copies([own, in_part, first, never], own.key)

    assert {kind: copy.server_id for kind, copy in copies.items()} == {
        KINDS[0]: f"v2-{KINDS[0]}",
        KINDS[1]: f"v1-{KINDS[1]}",
        "Provenance": "v1-Provenance",
    }
    assert of_version == "v1"
    assert standing_copies([own, never], own.key) == ({}, None)
