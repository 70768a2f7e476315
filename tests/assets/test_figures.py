"""Bars made of text: everything there is of is seen, and the longest is as long as it may be."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from assets.figures import WIDTH, bars

COUNTS = st.dictionaries(st.text("abc ", min_size=1, max_size=8), st.integers(0, 10**6), max_size=8)


@given(COUNTS)
@settings(max_examples=60, deadline=None)
def test_every_row_shows_its_count_and_a_bar_in_proportion(counts: dict[str, int]) -> None:
    first, *lines, last = bars(list(counts.items())).split("\n")

    drawn = [line.count("█") for line in lines]
    assert (first, last, len(lines)) == ("```text", "```", len(counts))
    assert [int(line.split()[-1]) for line in lines] == list(counts.values())
    assert all((bar > 0) == (count > 0) for bar, count in zip(drawn, counts.values(), strict=True))
    assert max(drawn, default=0) == (WIDTH if any(counts.values()) else 0)
    assert sorted(zip(counts.values(), drawn, strict=True)) == sorted(
        zip(sorted(counts.values()), sorted(drawn), strict=True)
    )


def test_nothing_to_draw_is_an_empty_block() -> None:
    assert bars([]) == "```text\n```"
