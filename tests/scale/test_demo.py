"""The parts of the demo that need no process."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import date

from scale.asking import Run
from scale.counting import Arrived
from scale.demo import Findings, Plan, Taken, settled, spans
from scale.report import report
from scale.world import LAST_DAY, make_world

PLAN = Plan(
    days=3, measured_days=2, notes=10, workers=(1, 2), delay_ms=0, ehr_delay_ms=100, connections=2, time_limit_s=1
)
DONE = Run("1", "SUCCESS", 0.0, 4.0, None, "2026-03-30")
DIED = replace(DONE, run_id="2", status="FAILURE", day="2026-03-31")
AGAIN = replace(DONE, run_id="3", parent="2", day="2026-03-31")
ALL_THERE = Arrived(recorded=30, notes=30, documents=60, delivered=60, open=0, held=60, twice=0, missing=0)


def findings(*, counted: Arrived = ALL_THERE) -> Findings:
    with_death = Taken(4, 2, 10.0, [DONE, DIED, AGAIN], "w2@here", "COMPLETED_SUCCESS")
    return Findings(
        5.0,
        [with_death, Taken(1, 2, 20.0, [DONE, AGAIN]), Taken(2, 2, 10.0, [DONE, AGAIN])],
        [counted, counted],
        20.0,
        170.0,
    )


def test_no_day_is_in_two_backfills() -> None:
    parts = spans(PLAN)

    days = [day for part in parts for day in part]
    assert [len(part) for part in parts] == [3, 2, 2]
    assert days == sorted(set(days))
    assert days[-1] == LAST_DAY


def test_the_world_has_the_notes_that_are_asked_for_each_signed_off() -> None:
    world = make_world(2, 5)

    audios = world.records("audios").values()
    per_day = Counter(date.fromisoformat(audio["createdAt"][:10]) for audio in audios)
    assert per_day == {LAST_DAY: 5, LAST_DAY.replace(day=30): 5}
    assert {audio["step"] for audio in audios} == {"validated"}
    assert {note["audio"] for note in world.records("notes").values()} == {audio["uuid"] for audio in audios}
    assert all("qxcanary" in note["content"] for note in world.records("notes").values())


def test_a_backfill_is_settled_when_each_day_has_succeeded_and_nothing_runs() -> None:
    assert settled([DONE, DIED, AGAIN], 2)
    assert not settled([DONE, DIED], 2)
    assert not settled([DONE, DIED, AGAIN, replace(AGAIN, run_id="4", status="STARTED")], 2)


def test_the_report_names_the_worker_the_counts_and_the_speed() -> None:
    text = report(findings(), PLAN)

    assert "w2@here killed on the way: 3 runs, of which 1 ended with their worker and 1 took their place" in text
    assert "| that backfill | 30 | 30 | 60 | 60 | 0 | 60 | 0 | 0 | exact |" in text
    assert "| 1 | 2 | 20 | 20.0 | 1.0 | 1.00 | 4.0 |" in text
    assert "| 2 | 2 | 20 | 10.0 | 2.0 | 2.00 | 4.0 |" in text


def test_a_lost_note_is_not_exact() -> None:
    lost = findings(counted=replace(ALL_THERE, held=59, missing=1))

    assert not lost.exact
    assert findings().exact
    assert "NOT EXACT" in report(lost, PLAN)
