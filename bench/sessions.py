"""Synthetic AudioScribe sessions, as pages of bytes: as many as asked for, the same ones every time.

A page is a template of a hundred different sessions into which only numbers and times are put, so that a server gives
out a million of them without building or keeping any. *small* is a session of some 2.9 KB with eight sections of text;
*full* is one of some 25 KB: longer sections, and a transcript of 120 turns.
"""

from __future__ import annotations

import random
from typing import Literal

import orjson

__all__ = ["DAYS", "HEADINGS", "PAGE", "Pages", "Size"]

Size = Literal["small", "full"]

PAGE = 100
DAYS = 28
"""Visit days the sessions are spread over, however many they are."""
HEADINGS = (
    *("Chief complaint", "History of present illness", "Past medical history", "Allergies", "Current medications"),
    *("Physical exam", "Assessment", "Plan"),
)
TEXT_LENGTH = {"small": (180, 300), "full": (300, 1500)}
TURNS = {"small": 5, "full": 120}
TURN_LENGTH = 130
NUMBER = "0000000"
"""Stands in a template where the number of the session belongs; as long as any number is."""
MOMENT = "2025-03-01T00:00:00Z"
"""Stands where its time belongs."""
WORDS = (
    *(
        "cough",
        "since",
        "three",
        "days",
        "no",
        "fever",
        "at",
        "night",
        "better",
        "worse",
        "with",
        "rest",
        "the",
        "left",
    ),
    *(
        "knee",
        "hurts",
        "when",
        "walking",
        "<3",
        "weeks",
        "& no",
        "swelling",
        "38.2 °C",
        "invented",
        "household",
        "says",
    ),
    *("tablet", "twice", "a", "day", "after", "meals", "blood", "pressure", "120/80", "synthetic", "patient", "agrees"),
)


class Pages:
    """The pages of a list of sessions.

    Args:
        notes: How many sessions there are in all.
        size: How large each is.
        sections: Whether a session has its text as a list of sections, instead of as one text with headings. The words
            are the same.
    """

    def __init__(self, notes: int, size: Size = "small", *, sections: bool = False) -> None:
        self._notes = notes
        self._sessions = [
            orjson.dumps(_session(place, size, sections=sections))
            .replace(b"%", b"%%")
            .replace(NUMBER.encode(), b"%(n)07d")
            .replace(MOMENT.encode(), b"%(t)s")
            for place in range(PAGE)
        ]

    def __getitem__(self, number: int) -> bytes:
        """The page of that number, from 0; past the end, an empty one."""
        numbers = range(number * PAGE, min((number + 1) * PAGE, self._notes))
        return b"[%s]" % b",".join(
            self._sessions[place] % {b"n": each, b"t": _moment(each, self._notes)} for place, each in enumerate(numbers)
        )


def _session(place: int, size: Size, *, sections: bool) -> dict[str, object]:
    words = random.Random(place)  # noqa: S311 - nothing secret: the same text every time is the point
    shortest, longest = TEXT_LENGTH[size]
    texts = [f"Visit {NUMBER}. {_text(words, words.randint(shortest, longest) - 15)}." for _ in HEADINGS]
    parts = list(zip(HEADINGS, texts, strict=True))
    turns = "\n".join(f"{('Doctor', 'Patient')[turn % 2]}: {_text(words, TURN_LENGTH)}." for turn in range(TURNS[size]))
    note: object = "\n\n".join(f"{heading.upper()}:\n{text}" for heading, text in parts)
    if sections:
        note = [{"key": heading, "text": text} for heading, text in parts]
    return {
        "id": f"s-{NUMBER}",
        "title": f"Synthetic visit {NUMBER}",
        "sections" if sections else "note": note,
        "originalTranscript": turns,
        "createdAt": MOMENT,
    }


def _text(words: random.Random, length: int) -> str:
    text = ""
    while len(text) < length:
        text += words.choice(WORDS) + " "
    return text[:length].strip()


def _moment(number: int, notes: int) -> bytes:
    return b"2025-03-%02dT%02d:%02d:00Z" % (1 + number * DAYS // notes, 8 + number % 10, number % 60)
