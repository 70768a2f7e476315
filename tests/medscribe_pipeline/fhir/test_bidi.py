"""Lines of both directions, by the examples and rules of UAX #9."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscribe_pipeline.fhir.bidi import base_level, levels, visual_order

MIXED = "ab שב عم 12 ٣ ,.:-+%()[]!?\u0301\u200d"


def shown(text: str) -> str:
    """The characters from left to right, without turning brackets round."""
    base = base_level(text)
    found = levels(text, base)
    return "".join(text[index] for index in visual_order(found, [sign.isspace() for sign in text], base))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CRP 12 mg/L", "CRP 12 mg/L"),
        ("שלום", "םולש"),
        ("שלום (CRP) עולם", "םלוע )CRP( םולש"),
        ("אב 12 גד", "דג 12 בא"),
        ("CRP אב 12", "CRP 12 בא"),
        ("אב 12%", "12% בא"),
        ("عم 12%", "%12 مع"),
        ("אב - CRP (mg)", "CRP (mg) - בא"),
        ("a (בג) d", "a (גב) d"),
        ("אב ", " בא"),
        ("אב 1,5-2", "1,5-2 בא"),
    ],
)
def test_signs_and_numbers_stand_where_a_reader_expects_them(text: str, expected: str) -> None:
    assert shown(text) == expected


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet=MIXED, max_size=40), base=st.sampled_from((0, 1)))
def test_each_character_is_shown_once_and_letters_run_their_way(text: str, base: int) -> None:
    found = levels(text, base)
    order = visual_order(found, [sign.isspace() for sign in text], base)

    assert sorted(order) == list(range(len(text)))
    for sign, level in zip(text, found, strict=True):
        kind = unicodedata.bidirectional(sign)
        assert kind != "L" or level % 2 == 0
        assert kind not in ("R", "AL") or level % 2 == 1
        assert base <= level <= 2


@given(text=st.text(alphabet="ab1 .,(", max_size=20))
def test_text_of_one_direction_stays_as_it_is(text: str) -> None:
    assert shown(text) == text
