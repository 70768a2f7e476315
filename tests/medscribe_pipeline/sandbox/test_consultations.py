from __future__ import annotations

import re

import pytest

from medscribe_pipeline.sandbox.consultations import MARKERS, QUIRKS, consultations, quirk, write
from medscribe_pipeline.sandbox.corpus import dice


def test_both_languages_are_there_in_number() -> None:
    languages = [consultation.language for consultation in consultations()]

    assert languages.count("en") >= 8
    assert languages.count("fr") >= 8


@pytest.mark.parametrize("consultation", consultations(), ids=lambda consultation: consultation.key)
def test_every_text_is_filled_in_and_marked(consultation: object) -> None:
    text = write(consultation, "Jo Zzmark-0001", "0001", dice("test"))  # type: ignore[arg-type]

    for part in (text.title, text.note, text.transcript):
        assert not re.search(r"\{[a-z]+\}", part)
        assert any(marker in part for marker in MARKERS)


@pytest.mark.parametrize("consultation", consultations(), ids=lambda consultation: consultation.key)
def test_every_paragraph_with_prose_is_marked(consultation: object) -> None:
    note = write(consultation, "Jo Zzmark-0001", "0001", dice("test")).note  # type: ignore[arg-type]

    paragraphs = [paragraph for paragraph in note.split("\n\n") if len(paragraph) > 40]

    # The few without a marker are headings and greetings.
    assert all(any(marker in paragraph for marker in MARKERS) for paragraph in paragraphs), consultation


def test_a_text_depends_on_its_dice_alone() -> None:
    first, again, other = (
        write(consultations()[0], "Jo Zzmark-0001", "0001", dice(seed)) for seed in ("one", "one", "two")
    )

    assert first == again != other


def test_quirks_hold_what_breaks_things() -> None:
    damaged = "".join(quirk(name, 'Plan :\nText "quoted"') for name in QUIRKS)

    for awkward in (
        "<script>",
        "&amp;",
        "]]>",
        "\r\n\t",
        "\ufeff",
        "\u00a0",
        "👨‍👩‍👧",
        "\u202e",
        "ש",
        "\f",
        "\v",
        "\u2028",
        "e\u0301",
    ):
        assert awkward in damaged
    assert max(map(len, damaged.splitlines())) > 4000
    assert quirk("empty", "text") == ""
    assert quirk("blank", "text").strip() == ""
