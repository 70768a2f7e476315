"""The stopwatch sees every step, and leaves the functions as they were."""

from __future__ import annotations

from bench.stages import AGAIN, WATCHED, measure

NOTES = 40


def test_every_step_of_every_stage_is_seen_once_and_nothing_stays_watched(clean_environment: object) -> None:
    assert clean_environment
    before = [getattr(place, name) for _, _, place, name in WATCHED]

    spent = measure(NOTES)

    assert [getattr(place, name) for _, _, place, name in WATCHED] == before
    steps = {(stage, step) for stage, step, _, _ in WATCHED}
    assert spent.keys() == steps | {(stage, "") for stage, _ in steps} | {(AGAIN, "")}
    assert all(seconds > 0 for seconds in spent.values())
