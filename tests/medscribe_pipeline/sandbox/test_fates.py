from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medscribe_pipeline.sandbox import Fate, JobOptions
from medscribe_pipeline.sandbox.fates import Fates, fates_of


@pytest.mark.parametrize(
    ("name", "hearing", "note"),
    [
        ("visit-1.wav", set(), set()),
        ("visit-1", set(), set()),
        ("", set(), set()),
        ("visit-1-failed.wav", {Fate.FAILED}, set()),
        ("https/2026/visit_1_slow_twice.mp3", {Fate.SLOW, Fate.TWICE}, set()),
        ("visit-1-Never.WAV", {Fate.NEVER}, set()),
        ("visit-1-note-failed.wav", set(), {Fate.FAILED}),
        ("visit-1-slow-note-late-forged.wav", {Fate.SLOW}, {Fate.LATE, Fate.FORGED}),
        ("slow-visit.wav", set(), set()),
        ("progress-note.wav", set(), set()),
        ("failed/visit-1.wav", set(), set()),
    ],
)
def test_a_name_says_what_becomes_of_its_jobs(name: str, hearing: set[Fate], note: set[Fate]) -> None:
    assert fates_of(name) == Fates(frozenset(hearing), frozenset(note))


@given(words=st.lists(st.sampled_from(sorted(Fate)), min_size=1, max_size=4, unique=True))
def test_every_word_is_read_in_any_company(words: list[Fate]) -> None:
    assert fates_of(f"visit-7-{'-'.join(words)}.wav").hearing == set(words)


def test_names_that_say_nothing_are_drawn_by_the_seed() -> None:
    options = JobOptions(seed=3, fates=("", "slow", "failed-twice", "note-never"))
    names = [f"visit-{n}.wav" for n in range(200)]

    drawn = [fates_of(name, options) for name in names]
    counts = Counter(drawn)

    assert drawn == [fates_of(name, options) for name in names]
    assert drawn != [fates_of(name, JobOptions(seed=4, fates=options.fates)) for name in names]
    assert set(counts) == {fates_of(f"x-{words}") for words in options.fates}
    assert min(counts.values()) > 20
    assert fates_of("visit-7-silent.wav", options).hearing == {Fate.SILENT}, "its own words come first"
