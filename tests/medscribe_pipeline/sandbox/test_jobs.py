from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.sandbox import Fate, JobOptions
from medscribe_pipeline.sandbox.jobs import JobBook, Phase
from medscribe_pipeline.sandbox.state import State

if TYPE_CHECKING:
    from pathlib import Path


def _book(ended: list[str], state: State | None = None, **options: Any) -> JobBook:
    return JobBook("nabla", JobOptions(**options), state or State(), lambda job: ended.append(job["id"]))


def _phases(book: JobBook, key: str, questions: int) -> list[Phase]:
    phases = []
    for _ in range(questions):
        job = book.ask(key)
        assert job is not None
        phases.append(book.phase(job, asked=True))
    return phases


def test_questions_move_a_job_on_until_it_ends_once() -> None:
    ended: list[str] = []
    book = _book(ended, steps=3)
    book.add("a", None, set())

    phases = _phases(book, "a", 5)

    assert phases == [Phase.RUNNING, Phase.RUNNING, Phase.DONE, Phase.DONE, Phase.DONE]
    assert ended == ["a"]


def test_ticks_move_all_jobs_on() -> None:
    ended: list[str] = []
    book = _book(ended, steps=1, slow_steps=3)
    book.add("a", None, set())
    book.add("b", None, {Fate.SLOW})

    assert [book.tick() for _ in range(4)] == [1, 0, 1, 0]
    assert ended == ["a", "b"]


@pytest.mark.parametrize(
    ("fate", "told", "truth"),
    [
        (Fate.FAILED, Phase.FAILED, Phase.FAILED),
        (Fate.OVERLONG, Phase.FAILED, Phase.FAILED),
        (Fate.NEVER, Phase.RUNNING, Phase.RUNNING),
        (Fate.UNRECOGNISED, Phase.UNRECOGNISED, Phase.UNRECOGNISED),
        (Fate.CALLBACK_ONLY, Phase.RUNNING, Phase.DONE),
        (Fate.SILENT, Phase.DONE, Phase.DONE),
    ],
)
def test_how_jobs_end(fate: Fate, told: Phase, truth: Phase) -> None:
    book = _book([])
    book.add("a", None, {fate})
    book.tick()
    book.tick()

    job = book.ask("a")

    assert job is not None
    assert (book.phase(job, asked=True), book.phase(job, asked=False)) == (told, truth)


def test_a_job_may_end_when_it_is_submitted() -> None:
    ended: list[str] = []
    _book(ended, steps=0).add("a", None, set())
    _book(ended).add("b", None, {Fate.EARLY, Fate.SLOW})

    assert ended == ["a", "b"]


def test_a_job_that_is_gone_cannot_be_asked_after() -> None:
    book = _book([])
    book.add("a", "mine", {Fate.GONE})

    assert book.ask("a") is None
    assert book.ask("b") is None
    assert book.requested("mine") is not None, "its owner's name for it stays taken"


def test_jobs_outlive_a_restart(tmp_path: Path) -> None:
    path, ended = tmp_path / "state.sqlite", list[str]()
    state = State(path)
    book = _book(ended, state)
    book.add("a", "mine", set())
    book.tick()
    state.close()

    state = State(path)
    again = _book(ended, state)
    known, finished = again.requested("mine"), again.tick()
    state.close()

    assert known is not None
    assert known["left"] == 1
    assert (finished, ended, len(again)) == (1, ["a"], 1)
