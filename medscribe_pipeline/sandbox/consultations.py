"""The synthetic consultations of the sandbox, and the awkward characters that go into them.

The texts live in `consultations.toml`. `write` turns one of them into a title, a note and a transcript about one
patient; `quirk` damages a note the way real text arrives damaged. Everything that could identify a person or a text
carries one of `MARKERS`, so that a search for those few words proves that nothing leaked.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

__all__ = ["MARKERS", "QUIRKS", "Consultation", "Text", "consultations", "fill_in", "quirk", "write"]

MARKERS = ("Zzmark", "zzmark", "ZZMARK", "qxcanary", "QXCANARY")
"""Every synthetic name holds a form of the first, every synthetic text a form of the second (case-sensitive)."""

_PLACEHOLDER = re.compile(r"\{([a-z]+)\}")


@dataclass(frozen=True, slots=True)
class Consultation:
    """One entry of `consultations.toml`, placeholders still in place."""

    key: str
    language: str
    title: str
    body: str
    transcript: str
    type: str = "consultation_summary"


@dataclass(frozen=True, slots=True)
class Text:
    """What a scribe wrote about one visit."""

    title: str
    note: str
    transcript: str


@cache
def consultations() -> tuple[Consultation, ...]:
    """All consultations, in file order, English first."""
    content = resources.files(__package__ or "").joinpath("consultations.toml").read_text(encoding="utf-8")
    return tuple(Consultation(**entry) for entry in tomllib.loads(content)["consultation"])


def write(consultation: Consultation, patient: str, reference: str, rng: Random) -> Text:
    """Fills a consultation in with a patient's name, a file reference and plausible numbers from `rng`."""
    values = _values(patient, reference, rng)
    return Text(
        _fill(consultation.title, values), _fill(consultation.body, values), _fill(consultation.transcript, values)
    )


def fill_in(text: str, patient: str, reference: str, rng: Random, **more: str) -> str:
    """Fills a single text in, as `write` does; `more` are further words in braces."""
    return _fill(text, _values(patient, reference, rng) | more)


def _values(patient: str, reference: str, rng: Random) -> dict[str, str]:
    return {
        "patient": patient,
        "ref": reference,
        "age": str(rng.randint(2, 97)),
        "days": str(rng.randint(2, 21)),
        "systolic": str(rng.randint(98, 172)),
        "diastolic": str(rng.randint(55, 104)),
        "pulse": str(rng.randint(52, 118)),
        "temp": f"{rng.randint(364, 396) / 10}",
        "weight": str(rng.randint(9, 112)),
        "dose": str(rng.choice((5, 10, 20, 40))),
    }


def _fill(text: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda match: values[match.group(1)], text).strip()


def _windows(note: str) -> str:
    # Pasted from a desktop word processor: CRLF, tabs, typographic quotes, no-break spaces, a leading BOM.
    return "\ufeff" + note.replace('"', "\u201d").replace(" :", "\u00a0:").replace("\n", "\r\n\t")


def _markup(note: str) -> str:
    return (
        f"{note}\n\nPasted: <b>bold</b> <script>alert('qxcanary')</script> &nbsp; &amp;amp; ]]> <!-- qxcanary --> "
        'Hb <10 & K+ >5, "A&P", {{braces}}, %s, \\n, \\u0041'
    )


def _long_line(note: str) -> str:
    sentence = "qxcanary monitoring continued without event, pulse regular, saturation stable on room air; "
    return f"{note}\n\nNursing record:\n{sentence * 60}"


def _emoji(note: str) -> str:
    # A family emoji joined by ZWJ, a flag, a skin tone, a combining accent and a letter outside the BMP.
    return f"{note}\n\nPatient's words: 👨‍👩‍👧 qxcanary 🇫🇷 👍🏽 e\u0301te\u0301 𝔸 ½ µg → ≥ 38 °C"


def _right_to_left(note: str) -> str:
    return f"{note}\n\nالشكوى الرئيسية: صداع منذ ثلاثة أيام (qxcanary)\nתלונה עיקרית: כאב ראש \u202eqxcanary\u202c"


def _odd_breaks(note: str) -> str:
    # Form feed and vertical tab are illegal in XML and in FHIR strings; U+2028 and U+0085 are line breaks to some.
    return f"{note}\fqxcanary page 2\u2028next line\u0085qxcanary\vend\r\rlast   \t \n\n\n\n"


def _blank(_: str) -> str:
    return " \r\n\t\n "


def _empty(_: str) -> str:
    return ""


QUIRKS: Mapping[str, Callable[[str], str]] = {
    "windows": _windows,
    "markup": _markup,
    "long_line": _long_line,
    "emoji": _emoji,
    "right_to_left": _right_to_left,
    "odd_breaks": _odd_breaks,
    "empty": _empty,
    "blank": _blank,
}
"""Kinds of damage by name; each takes a note and returns it damaged."""


def quirk(name: str, note: str) -> str:
    """Returns `note` with the named damage done to it.

    >>> quirk("empty", "text")
    ''
    """
    return QUIRKS[name](note)
