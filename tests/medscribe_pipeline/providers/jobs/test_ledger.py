"""The ledger's moves: whatever happens in whatever order, a job stands where the picture allows."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medscribe_pipeline.providers.jobs import MOVES, SETTLED, Entry, Ledger, Ref, State, job_key
from medscribe_pipeline.providers.work import JobSpec
from medscribe_pipeline.warehouse.tables import scribe_jobs
from tests.databases import NOW

if TYPE_CHECKING:
    from collections.abc import Callable

    import sqlalchemy as sa

    from tests.medscribe_pipeline.providers.jobs.job_shop import Shop

WITH_CODE = (State.FAILED, State.EXPIRED, State.CANCELLED, State.UNKNOWN)
LATER = NOW + timedelta(hours=1)

Step = tuple[str, str, str, bool]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(sorted({*MOVES, "want", "ask", "note_trouble"})),
        st.sampled_from(["w1", "w2"]),
        st.sampled_from(["hash-a", "hash-b"]),
        st.booleans(),
    ),
    max_size=40,
)


def spec_of(key: str) -> JobSpec:
    return JobSpec(key, "listen", {"audio": "https://ward.example/1"})


def take(connection: sa.Connection, ledger: Ledger, entry: Entry, step: Step) -> bool:
    """One call; its answer says whether it did something."""
    name, worker, wish, flag = step
    key, ref = entry.ref.job_key, Ref(entry.ref.job_key, ledger.client_request_id(entry.ref.job_key, wish))
    vendor_id = f"v-{wish}" if flag else None
    moves: dict[str, Callable[[], object]] = {
        "want": lambda: ledger.want(connection, [spec_of(entry.job.correlation_key)], wish, now=NOW, run_id=None),
        "renew": lambda: ledger.want(
            connection, [spec_of(entry.job.correlation_key)], wish, now=NOW, run_id=None, refused="no" if flag else None
        ),
        "want_again": lambda: ledger.want_again(connection, ref, now=NOW),
        "cancel": lambda: ledger.cancel(connection, ref, "superseded", now=NOW),
        "give_up": lambda: ledger.give_up(connection, ref, "by_hand", now=NOW),
        "claim": lambda: ledger.claim(connection, key, worker=worker, now=NOW, expires_at=LATER, run_id=None),
        "give_back": lambda: ledger.give_back(connection, ref, worker=worker, sent=flag),
        "lose": lambda: ledger.lose(connection, ref, "timeout", worker=worker),
        "accept": lambda: ledger.accept(connection, ref, vendor_id, next_poll_at=NOW),
        "announce": lambda: ledger.announce(connection, ref, vendor_id, next_poll_at=NOW),
        "ask": lambda: ledger.ask(connection, entry, now=NOW, next_poll_at=LATER),
        "note_trouble": lambda: ledger.note_trouble(connection, ref, "timeout" if flag else None),
        "expire": lambda: ledger.expire(connection, ref, now=LATER),
        "fail": lambda: ledger.fail(connection, ref, "NO_SPEECH", now=NOW, worker=worker if flag else None),
        "collect": lambda: ledger.collect(connection, ref, vendor_id, now=NOW),
    }
    return bool(moves[name]())


def invariants_hold(entry: Entry) -> None:
    assert (entry.claimed_by is not None) == (entry.state is State.SUBMITTING)
    assert (entry.settled_at is not None) == (entry.state in SETTLED)
    assert (entry.next_poll_at is not None) == (entry.state in (State.RUNNING, State.READY))
    assert entry.submissions >= (entry.state is State.SUBMITTING)
    if entry.state in WITH_CODE:
        assert entry.code
    if entry.state is State.FETCHED:
        assert entry.code is None
    if entry.state in (State.SUBMITTING, State.RUNNING, State.READY, State.UNKNOWN):
        # Bounded, whatever happens: it was sent, and there is a time when it is given up.
        assert entry.expires_at is not None


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_sequence_of_moves_keeps_the_ledger_in_order(shop: Shop, steps: list[Step]) -> None:
    ledger, key = shop.ledger, str(uuid.uuid4())
    with shop.warehouse.begin() as connection:
        ledger.want(connection, [spec_of(key)], "hash-a", now=NOW, run_id=None)
        for step in steps:
            (before,) = ledger.read(connection, scribe_jobs.c.correlation_key == key)
            did = take(connection, ledger, before, step)
            (after,) = ledger.read(connection, scribe_jobs.c.correlation_key == key)

            invariants_hold(after)
            name, worker, wish, _ = step
            if not did and name in MOVES:
                # At most the provider's id was written down.
                assert (after.state, after.settled_at, after.polls) == (before.state, before.settled_at, before.polls)
            if name in MOVES and did:
                assert before.state in MOVES[name].sources
                assert after.state in (MOVES[name].target, State.CANCELLED if name == "renew" else MOVES[name].target)
            if after.state is not before.state:
                assert did
            if after.ref != before.ref:
                # Another request: only for a job that nothing is under way for.
                assert name in ("want", "renew")
                assert before.state in SETTLED or (before.state is State.WANTED and before.submissions == 0)
                assert (after.submissions, after.polls, after.job.vendor_job_id) == (0, 0, None)
            elif before.job.vendor_job_id is not None:
                assert after.job.vendor_job_id == before.job.vendor_job_id
            if did and name in ("give_back", "lose"):
                assert before.claimed_by == worker
            if did and name not in ("want", "renew", "claim", "ask", "note_trouble"):
                assert before.request_hash == wish


def test_nothing_is_sent_without_a_claim_and_no_doubt_ends_by_itself() -> None:
    into_submitting = {name for name, move in MOVES.items() if move.target is State.SUBMITTING}
    out_of_unknown = {name for name, move in MOVES.items() if State.UNKNOWN in move.sources}
    out_of_fetched = {name for name, move in MOVES.items() if State.FETCHED in move.sources}

    assert (into_submitting, MOVES["claim"].sources) == ({"claim"}, (State.WANTED,))
    assert out_of_unknown == {"want_again", "accept", "announce", "fail", "collect"}
    assert out_of_fetched == {"renew"}


def test_of_two_workers_one_claims(shop: Shop) -> None:
    with shop.warehouse.begin() as connection:
        shop.ledger.want(connection, [spec_of("k")], "h", now=NOW, run_id=None)
        claims = [
            shop.ledger.claim(connection, "k/listen", worker=worker, now=NOW, expires_at=LATER, run_id=None)
            for worker in ("w1", "w2")
        ]

    assert [claim is not None for claim in claims] == [True, False]


def test_what_was_refused_and_is_wanted_after_all_keeps_the_id_that_came_late(shop: Shop) -> None:
    ledger = shop.ledger
    with shop.warehouse.begin() as connection:
        ledger.want(connection, [spec_of("k")], "h", now=NOW, run_id=None, refused="no")
        ref = Ref("k/listen", ledger.client_request_id("k/listen", "h"))
        ledger.accept(connection, ref, "v-late", next_poll_at=NOW)

        ledger.want(connection, [spec_of("k")], "h", now=NOW, run_id=None)
        same = ledger.get(connection, "k/listen")
        ledger.want(connection, [spec_of("k")], "other", now=NOW, run_id=None)
        other = ledger.get(connection, "k/listen")

    assert same is not None
    assert other is not None
    assert (same.state, same.job.vendor_job_id, other.job.vendor_job_id) == (State.WANTED, "v-late", None)


def test_an_answer_to_a_request_that_was_replaced_moves_nothing(shop: Shop) -> None:
    ledger = shop.ledger
    with shop.warehouse.begin() as connection:
        ledger.want(connection, [spec_of("k")], "old", now=NOW, run_id=None)
        old = Ref("k/listen", ledger.client_request_id("k/listen", "old"))
        ledger.want(connection, [spec_of("k")], "new", now=NOW, run_id=None)

        moved = ledger.collect(connection, old, "v-1", now=NOW)

        entry = ledger.get(connection, "k/listen")
    assert entry is not None
    assert (moved, entry.state, entry.job.vendor_job_id) == (False, State.WANTED, None)


def test_the_request_id_is_the_same_for_ever(shop: Shop) -> None:
    ledger = shop.ledger

    assert ledger.client_request_id("k/listen", "h") == "cbcc082a-17dd-55fb-9974-caf520f4ba42"
    assert ledger.client_request_id("k/listen", "other") != ledger.client_request_id("k/listen", "h")


def test_a_person_may_want_it_again_under_the_same_id(shop: Shop) -> None:
    ledger = shop.ledger
    with shop.warehouse.begin() as connection:
        ledger.want(connection, [spec_of("k")], "h", now=NOW, run_id=None)
        claimed = ledger.claim(connection, "k/listen", worker="w", now=NOW, expires_at=LATER, run_id=None)
        assert claimed is not None
        ledger.lose(connection, claimed.ref, "timeout", worker="w")

        again = ledger.want_again(connection, claimed.ref, now=LATER)

        entry = ledger.get(connection, "k/listen")
    assert entry is not None
    assert (again, entry.state, entry.ref, entry.code) == (True, State.WANTED, claimed.ref, None)


@pytest.mark.parametrize("length", [1, 248, 249, 255, 5000])
def test_a_key_fits_its_column(length: int) -> None:
    keys = {job_key("k" * length, "listen"), job_key("k" * (length - 1) + "l", "listen"), job_key("k" * length, "note")}

    assert len(keys) == 3
    assert max(map(len, keys)) <= 255


def test_the_documented_picture_shows_allowed_moves_and_every_move() -> None:
    page = (Path(__file__).parents[4] / "docs" / "jobs.md").read_text(encoding="utf-8")
    arrows = re.findall(r"^    (\w+) --> (\w+): (\w+)", page, re.MULTILINE)

    assert {name for _, _, name in arrows} == set(MOVES)
    for source, target, name in arrows:
        assert (State(source) in MOVES[name].sources, MOVES[name].target) == (True, State(target))
    assert {f"`{state}`" for state in State} <= set(re.findall(r"^\| (`\w+`) \|", page, re.MULTILINE))
