"""What may be told, and how it has to look."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscribe_pipeline.sandbox import MARKERS
from medscribe_pipeline.watching import Pool
from medscribe_pipeline.watching.fields import FIELDS, WITHHELD, bound, facts, known, safe


@given(st.text(min_size=1), st.text(min_size=1))
@settings(max_examples=100, deadline=None)
def test_what_holds_more_than_one_word_is_withheld(before: str, after: str) -> None:
    assert safe(f"{before} {after}") == WITHHELD


@pytest.mark.parametrize(
    "value", ["Testa Patient", "a@b", "https://x.example/Testa", "x" * 101, "é", b"x", [1], {"a": 1}, "a\nb"]
)
def test_what_does_not_look_like_a_fact_is_withheld(value: Any) -> None:
    assert safe(value) == WITHHELD


def test_names_nobody_listed_are_left_out() -> None:
    assert known({"patient": "1", "url": "x", "text": "x", "provider": "askara"}) == {"provider": "askara"}
    assert not FIELDS & {"patient", "name", "source_id", "note_id", "url", "path", "payload", "message", "text"}


def test_facts_are_those_of_the_block_and_of_the_blocks_around_it() -> None:
    with bound(run="r1", provider="askara"):
        with bound(provider="nabla", patient=MARKERS[0]):
            assert facts() == {"run": "r1", "provider": "nabla"}
        assert facts() == {"run": "r1", "provider": "askara"}
    assert facts() == {}


def test_threads_of_a_pool_know_what_they_work_for() -> None:
    with bound(run="r1"), Pool(1) as pool, ThreadPoolExecutor(1) as plain:
        known_there, unknown_there = pool.submit(facts).result(), plain.submit(facts).result()
        with bound(run="r2"):
            again = list(pool.map(lambda _: facts(), [0]))

    assert (known_there, unknown_there, again) == ({"run": "r1"}, {}, [{"run": "r2"}])
