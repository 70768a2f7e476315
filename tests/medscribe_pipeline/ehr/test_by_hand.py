"""What a person does with the ledger: what moves, what stays, what is noted, and who wins when two act at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medscribe_pipeline.ehr import by_hand, ledger
from medscribe_pipeline.ehr.by_hand import Obstacle, reconciled
from medscribe_pipeline.ehr.ledger import KINDS, State
from medscribe_pipeline.ehr.listing import Which
from medscribe_pipeline.ehr.signatures import Act, hand_act, in_doubt, sign
from medscribe_pipeline.errors import ConfigError, MedscribeError
from medscribe_pipeline.warehouse.tables import access_log, deliveries
from tests.databases import rows_of
from tests.medscribe_pipeline.ehr.clinic import DAY, edited, note
from tests.medscribe_pipeline.ehr.fake_ehr import CUT, Fault
from tests.medscribe_pipeline.ehr.standings import due_days, key_of, place, standing, standings

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.ehr.by_hand import Done
    from medscribe_pipeline.ehr.ledger import Key
    from medscribe_pipeline.ehr.listing import Standing
    from tests.medscribe_pipeline.ehr.clinic import Clinic
    from tests.medscribe_pipeline.ehr.fake_ehr import FakeEhr

EVERYTHING = Which(targets=("ehr",))
OTHER_DAY = DAY + timedelta(days=1)


def retry(clinic: Clinic, which: Which = EVERYTHING, *, absent: bool = False) -> Done:
    return by_hand.retry(clinic.warehouse, which, who="alice", clock=lambda: clinic.now, absent=absent)


def discard(clinic: Clinic, which: Which = EVERYTHING) -> Done:
    return by_hand.discard(clinic.warehouse, which, who="alice", clock=lambda: clinic.now)


def absent(clinic: Clinic, key: Key) -> bool:
    return by_hand.release_absent(clinic.warehouse, standing(clinic, key), who="alice", clock=lambda: clinic.now)


def there(clinic: Clinic, key: Key, server_id: str, kind: str | None = None) -> State | None:
    found = standing(clinic, key)
    return by_hand.release_there(clinic.warehouse, found, kind, server_id, who="alice", clock=lambda: clinic.now)


def acts_of(clinic: Clinic, key: Key) -> list[tuple[str, str]]:
    """What was done by hand, on each row of a version the same."""
    of_rows = {
        tuple((act.act, act.who) for act in map(hand_act, row.codes) if act is not None)
        for row in standing(clinic, key).written
    }
    assert len(of_rows) == 1
    return list(of_rows.pop())


def once_after_reading(clinic: Clinic, act: Callable[[], object]) -> None:
    """Has somebody act between the moment the ledger is first read and the moment something is done with it."""
    left = [act]

    def first_commit(_connection: object) -> None:
        if left:
            left.pop()()

    sa.event.listen(clinic.warehouse.engine, "commit", first_commit)


# retry


def test_what_was_rejected_goes_out_once_more_when_its_cause_is_mended(any_clinic: Clinic, ehr: FakeEhr) -> None:
    one = note(1)
    any_clinic.write(one)
    ehr.faults.append(Fault(status=422))
    assert any_clinic.deliver().rejected == {"refused": 1}
    assert any_clinic.deliver().planned == 0

    done = retry(any_clinic)

    assert (done.versions, done.overtaken, done.obstacles, done.days) == (1, 0, {}, {DAY})
    assert due_days(any_clinic) == {DAY}
    assert acts_of(any_clinic, key_of(one)) == [("retried", "alice")]
    assert "422" in standing(any_clinic, key_of(one)).codes
    assert any_clinic.deliver().delivered == 1
    assert len(ehr.store) == len(KINDS)
    # The server has said something since; who did what is still known.
    assert acts_of(any_clinic, key_of(one)) == []
    (access,) = rows_of(any_clinic.warehouse, access_log)
    assert (access["who"], access["what"], access["subject"]) == ("alice", "delivery_retried", key_of(one).note_id)


def test_what_of_a_rejected_version_is_there_stays_known(any_clinic: Clinic) -> None:
    any_clinic.write(note(1))
    key = place(any_clinic, note(1), State.REJECTED, done=KINDS[:1])

    retry(any_clinic)

    found = standing(any_clinic, key)
    assert (found.state, found.missing) == (State.PLANNED, KINDS[1:])


@pytest.mark.parametrize("state", [each for each in State if each not in (State.REJECTED, State.DISCARDED)])
def test_nothing_else_is_retried(clinic: Clinic, state: State) -> None:
    clinic.write(note(1))
    key = place(clinic, note(1), state)
    before = standing(clinic, key)

    done = retry(clinic)

    assert (done.versions, done.obstacles, done.days) == (0, {Obstacle.OTHER_STATE: 1}, set())
    assert standing(clinic, key) == before
    assert due_days(clinic) == set()


def test_of_a_note_only_the_newest_version_is_retried(any_clinic: Clinic) -> None:
    old, new = note(1), edited(note(1), "Cough for four days.")
    any_clinic.write(old)
    first = place(any_clinic, old, State.REJECTED)
    any_clinic.write(new)
    second = place(any_clinic, new, State.REJECTED)

    done = retry(any_clinic)

    assert (done.versions, done.obstacles) == (1, {Obstacle.OLDER_VERSION: 1})
    assert [standing(any_clinic, key).state for key in (first, second)] == [State.REJECTED, State.PLANNED]


def test_a_note_the_ledger_knows_a_later_version_of_is_left_alone(clinic: Clinic) -> None:
    clinic.write(note(1), seq=3)
    key = place(clinic, note(1), State.REJECTED)
    place(clinic, edited(note(1), "Later."), State.DELIVERED, seq=9)

    assert retry(clinic).obstacles == {Obstacle.LEDGER_AHEAD: 1, Obstacle.OTHER_STATE: 1}
    assert standing(clinic, key).state is State.REJECTED


def test_a_retried_note_is_due_on_the_day_it_has_now(clinic: Clinic) -> None:
    clinic.write(note(1), day=OTHER_DAY)
    key = place(clinic, note(1), State.REJECTED, day=DAY)

    assert retry(clinic).days == due_days(clinic) == {OTHER_DAY}
    assert standing(clinic, key).visit_day == OTHER_DAY


@pytest.mark.parametrize(
    ("which", "chosen"),
    [
        (Which(reason="refused"), {1, 2}),
        (Which(reason="too_large"), {3}),
        (Which(day=OTHER_DAY), {3}),
        (Which(targets=("store",)), {2}),
        (Which(provider="nabla"), set()),
        (Which(provider="askara"), {1, 2, 3}),
        (Which(note_ids=(str(note(1).note_id), str(note(3).note_id))), {1, 3}),
        (Which(note_ids=(str(note(1).note_id),), reason="too_large"), set()),
    ],
)
def test_only_what_is_meant_is_retried(any_clinic: Clinic, which: Which, chosen: set[int]) -> None:
    any_clinic.write(note(1), note(2))
    any_clinic.write(note(3), day=OTHER_DAY)
    keys = {
        1: place(any_clinic, note(1), State.REJECTED),
        2: place(any_clinic, note(2), State.REJECTED, target="store"),
        3: place(any_clinic, note(3), State.REJECTED, "too_large", day=OTHER_DAY),
    }

    done = retry(any_clinic, which)

    assert done.versions == len(chosen)
    assert {number for number, key in keys.items() if standing(any_clinic, key).state is State.PLANNED} == chosen


def test_another_accounts_deliveries_are_left_alone(any_clinic: Clinic) -> None:
    any_clinic.write(note(1))
    key = place(any_clinic, note(1), State.REJECTED)
    any_clinic.warehouse.account = "north"

    assert retry(any_clinic).versions == discard(any_clinic).versions == 0

    any_clinic.warehouse.account = "default"
    assert standing(any_clinic, key).state is State.REJECTED


def test_more_than_a_batch_is_retried(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_hand, "BATCH", 2)
    many = [note(number) for number in range(1, 6)]
    clinic.write(*many)
    for each in many:
        place(clinic, each, State.REJECTED)

    assert retry(clinic).versions == 5
    assert {each.state for each in standings(clinic)} == {State.PLANNED}


# discard


@pytest.mark.parametrize("state", [State.PLANNED, State.HELD, State.REJECTED])
def test_what_is_discarded_is_not_sent_until_it_is_retried(any_clinic: Clinic, ehr: FakeEhr, state: State) -> None:
    any_clinic.write(note(1))
    key = place(any_clinic, note(1), state)

    done = discard(any_clinic)

    assert (done.versions, done.days) == (1, set())
    assert any_clinic.deliver().delivered == 0
    assert standing(any_clinic, key).state is State.DISCARDED
    assert retry(any_clinic).versions == 1
    assert any_clinic.deliver().delivered == 1
    assert len(ehr.store) == len(KINDS)


@pytest.mark.parametrize("state", [State.CLAIMED, State.SENT, State.DELIVERED, State.DISCARDED])
def test_what_is_under_way_or_there_is_not_discarded(clinic: Clinic, state: State) -> None:
    clinic.write(note(1))
    key = place(clinic, note(1), state)
    before = standing(clinic, key)

    assert discard(clinic).obstacles == {Obstacle.OTHER_STATE: 1}
    assert standing(clinic, key) == before


def test_what_is_superseded_needs_no_discarding(clinic: Clinic) -> None:
    clinic.write(note(1))
    place(clinic, note(1), State.HELD, "superseded")

    assert discard(clinic).obstacles == {Obstacle.ALREADY_SUPERSEDED: 1}


def test_what_may_have_arrived_is_not_retried_before_somebody_has_looked(any_clinic: Clinic) -> None:
    any_clinic.write(note(1))
    key = place(any_clinic, note(1), State.UNKNOWN)
    discard(any_clinic)

    refused = retry(any_clinic)
    doubt = in_doubt(standing(any_clinic, key))
    looked = retry(any_clinic, absent=True)

    assert (refused.versions, refused.obstacles, doubt) == (0, {Obstacle.MAY_BE_THERE: 1}, True)
    assert looked.versions == 1
    assert standing(any_clinic, key).state is State.PLANNED
    assert acts_of(any_clinic, key) == [("discarded_in_doubt", "alice"), ("retried", "alice")]
    assert discard(any_clinic).versions == 1
    assert not in_doubt(standing(any_clinic, key))


def test_giving_up_what_is_in_doubt_lets_the_newer_version_go(any_clinic: Clinic, ehr: FakeEhr) -> None:
    old, new = note(1), edited(note(1), "Cough for four days.")
    any_clinic.write(old)
    first = place(any_clinic, old, State.UNKNOWN)
    any_clinic.write(new)
    ehr.searches_work = False
    assert any_clinic.deliver().planned == 1

    done = discard(any_clinic, Which(states=(State.UNKNOWN,)))

    assert done.days == due_days(any_clinic) == {DAY}
    assert any_clinic.deliver().delivered == 1
    assert standing(any_clinic, first).state is State.DISCARDED


# release


def test_what_is_not_there_goes_out_again(any_clinic: Clinic, ehr: FakeEhr) -> None:
    any_clinic.write(note(1))
    key = place(any_clinic, note(1), State.UNKNOWN)

    assert absent(any_clinic, key)

    assert due_days(any_clinic) == {DAY}
    assert acts_of(any_clinic, key) == [("released_absent", "alice")]
    assert any_clinic.deliver().delivered == 1
    assert len(ehr.store) == len(KINDS)


def test_only_what_is_not_there_goes_out_again(any_clinic: Clinic) -> None:
    any_clinic.write(note(1))
    key = place(any_clinic, note(1), State.UNKNOWN, done=KINDS[:1])

    absent(any_clinic, key)

    assert (standing(any_clinic, key).state, standing(any_clinic, key).missing) == (State.PLANNED, KINDS[1:])


def test_what_is_there_is_delivered_and_never_sent_again(any_clinic: Clinic, ehr: FakeEhr) -> None:
    one = note(1)
    any_clinic.write(one)
    ehr.searches_work = False
    ehr.faults.append(CUT)
    any_clinic.deliver()
    assert standing(any_clinic, key_of(one)).state is State.UNKNOWN
    ids = dict(ehr.store.keys())

    first = there(any_clinic, key_of(one), ids["Composition"], "Composition")
    second = there(any_clinic, key_of(one), ids["DocumentReference"])

    assert (first, second) == (State.UNKNOWN, State.DELIVERED)
    found = standing(any_clinic, key_of(one))
    assert {row.kind: row.server_id for row in found.written} == ids
    assert acts_of(any_clinic, key_of(one)) == [("released_there", "alice")] * 2
    assert any_clinic.deliver().already_delivered == 1
    assert {len(versions) for versions in ehr.store.values()} == {1}


def test_part_of_it_is_there_and_the_rest_is_not(any_clinic: Clinic) -> None:
    any_clinic.write(note(1))
    key = place(any_clinic, note(1), State.UNKNOWN, codes=("504",))

    assert there(any_clinic, key, "abc", "Composition") is State.UNKNOWN
    kept = standing(any_clinic, key)
    assert absent(any_clinic, key)

    assert (kept.reason, "504" in kept.codes) == ("cannot_be_asked", True)
    found = standing(any_clinic, key)
    assert (found.state, found.missing) == (State.PLANNED, ("DocumentReference",))
    assert [row.server_id for row in found.written] == ["abc", None]


@pytest.mark.parametrize(
    ("server_id", "kind", "code"),
    [
        ("abc", None, "which_document"),
        ("abc", "Provenance", "which_document"),
        ("Composition/abc", "Composition", "server_id"),
        ("", "Composition", "server_id"),
        ("a b", "Composition", "server_id"),
    ],
)
def test_an_id_that_says_nothing_is_refused(clinic: Clinic, server_id: str, kind: str | None, code: str) -> None:
    clinic.write(note(1))
    key = place(clinic, note(1), State.UNKNOWN)
    before = standing(clinic, key)

    with pytest.raises(ConfigError) as refused:
        there(clinic, key, server_id, kind)

    assert refused.value.code == code
    assert standing(clinic, key) == before


def test_the_id_of_another_document_is_refused(any_clinic: Clinic) -> None:
    any_clinic.write(note(1), note(2))
    theirs = place(any_clinic, note(1), State.DELIVERED)
    key = place(any_clinic, note(2), State.UNKNOWN)
    taken = {row.kind: row.server_id or "" for row in standing(any_clinic, theirs).written}

    with pytest.raises(ConfigError) as refused:
        there(any_clinic, key, taken["Composition"], "Composition")

    assert refused.value.code == "server_id_taken"
    assert standing(any_clinic, key).state is State.UNKNOWN
    # Ids are by type: the Composition of one note and the DocumentReference of another may have the same.
    assert there(any_clinic, key, taken["Composition"], "DocumentReference") is State.UNKNOWN


def test_an_earlier_version_of_the_same_document_has_the_same_id(any_clinic: Clinic) -> None:
    old, new = note(1), edited(note(1), "Cough for four days.")
    any_clinic.write(old)
    before = standing(any_clinic, place(any_clinic, old, State.DELIVERED))
    any_clinic.write(new)
    key = place(any_clinic, new, State.UNKNOWN, done=KINDS[:1])

    assert there(any_clinic, key, before.written[1].server_id or "") is State.DELIVERED


@pytest.mark.parametrize(
    "release",
    [
        lambda clinic, seen: by_hand.release_absent(clinic.warehouse, seen, who="alice", clock=lambda: clinic.now),
        lambda clinic, seen: by_hand.release_there(
            clinic.warehouse, seen, None, "abc", who="alice", clock=lambda: clinic.now
        ),
    ],
    ids=["absent", "there"],
)
def test_what_was_sent_again_since_somebody_looked_is_left_alone(
    any_clinic: Clinic, release: Callable[[Clinic, Standing], object]
) -> None:
    any_clinic.write(note(1))
    key = place(any_clinic, note(1), State.UNKNOWN, done=KINDS[:1])
    seen = standing(any_clinic, key)
    with any_clinic.warehouse.begin() as connection:
        assert ledger.release_absent(connection, key, attempts=1)
        assert ledger.claim(connection, key, worker="w2", now=any_clinic.now)
        assert ledger.mark_sent(connection, key, worker="w2", now=any_clinic.now)
        assert ledger.lose(connection, key, "timeout", now=any_clinic.now, worker="w2")
    before = standing(any_clinic, key)

    moved = release(any_clinic, seen)

    assert not moved
    assert standing(any_clinic, key) == before
    assert due_days(any_clinic) == set()


# races


@pytest.mark.parametrize("act", [retry, discard])
def test_who_comes_too_late_is_told_so(any_clinic: Clinic, act: Callable[[Clinic], Done]) -> None:
    any_clinic.write(note(1))
    key = place(any_clinic, note(1), State.REJECTED)

    def somebody_else() -> None:
        with any_clinic.warehouse.begin() as connection:
            assert ledger.plan_again(connection, key, source_seq=1, visit_day=DAY)
            assert ledger.claim(connection, key, worker="w2", now=any_clinic.now)

    once_after_reading(any_clinic, somebody_else)
    done = act(any_clinic)

    assert (done.versions, done.overtaken, done.days) == (0, 1, set())
    assert standing(any_clinic, key).state is State.CLAIMED
    assert acts_of(any_clinic, key) == []


def test_a_version_that_is_overtaken_by_a_newer_one_is_not_retried(any_clinic: Clinic) -> None:
    any_clinic.write(note(1))
    key = place(any_clinic, note(1), State.REJECTED)
    once_after_reading(any_clinic, lambda: any_clinic.write(edited(note(1), "Cough for four days.")))

    assert retry(any_clinic).overtaken == 1
    assert standing(any_clinic, key).state is State.REJECTED


def test_of_many_who_act_at_once_one_does(any_clinic: Clinic) -> None:
    any_clinic.write(note(1))
    key = place(any_clinic, note(1), State.REJECTED)

    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda _: retry(any_clinic), range(6)))

    assert sum(each.versions for each in done) == 1
    assert acts_of(any_clinic, key) == [("retried", "alice")]


def test_a_torn_version_is_told_and_left_alone(clinic: Clinic) -> None:
    clinic.write(note(1))
    key = place(clinic, note(1), State.REJECTED)
    torn = sa.update(deliveries).where(deliveries.c.kind == KINDS[0]).values(state="unknown")
    with clinic.warehouse.begin() as connection:
        connection.execute(torn)

    with pytest.raises(MedscribeError) as told:
        retry(clinic, Which(states=(State.REJECTED,), note_ids=(key.note_id,)))

    assert told.value.code == "ledger_torn"


# what is noted


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    who=st.text(max_size=60),
    at=st.integers(0, 4_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    acts=st.lists(st.sampled_from(Act), min_size=1, max_size=14),
)
def test_who_did_what_and_when_can_be_read_back(clinic: Clinic, who: str, at: datetime, acts: list[Act]) -> None:
    one = note(1)
    clinic.write(one)
    key = standings(clinic)[0].key if standings(clinic) else place(clinic, one, State.REJECTED)
    codes: dict[str, tuple[str, ...]] = dict.fromkeys(KINDS, ("422", "Composition.date"))

    for act in acts:
        with clinic.warehouse.begin() as connection:
            sign(connection, key, codes, act, who=who, at=at)
        codes = {row.kind: row.codes for row in standing(clinic, key).written}

    for of_row in codes.values():
        assert of_row[:2] == ("422", "Composition.date")
        told = [hand_act(code) for code in of_row[2:]]
        assert [each.act for each in told if each] == acts[-10:]
        assert {each.at for each in told if each} == {at}
        assert all(each and each.who.isascii() and 0 < len(each.who) <= 32 for each in told)


@pytest.mark.parametrize(
    "code", ["422", "by_hand:", "by_hand:retried:20269999T000000Z:alice", "by_hand:retried:20260302T180000Z:a b"]
)
def test_other_codes_are_not_taken_for_acts(code: str) -> None:
    assert hand_act(code) is None


# reconcile


def test_days_on_which_asking_settled_something_are_due(any_clinic: Clinic) -> None:
    any_clinic.write(note(1))
    any_clinic.write(note(2), day=OTHER_DAY)
    key = place(any_clinic, note(1), State.UNKNOWN)
    place(any_clinic, note(2), State.UNKNOWN, day=OTHER_DAY)

    def ask() -> None:
        with reconciled(any_clinic.warehouse, "ehr"):
            with any_clinic.warehouse.begin() as connection:
                assert ledger.release_absent(connection, key, attempts=1)
            raise MedscribeError("the server went away")

    with pytest.raises(MedscribeError):
        ask()

    assert due_days(any_clinic) == {DAY}
