"""Thousands of malformed records: what each provider is simulated to send, with something wrong in one place.

There is no chance in it. A record is JSON text, because some of what can be wrong is wrong before anything is parsed.
Every text a patient could be known by holds one of the sandbox's markers, so that a search for them tells what leaked.
"""

from __future__ import annotations

import copy
import functools
import json
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.sandbox.corpus import CorpusOptions, generate
from medscribe_pipeline.sandbox.intron_content import results
from medscribe_pipeline.sandbox.nabla_content import note, transcript

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["LISTED", "ORDERED", "Malformed", "corpus"]

Record = dict[str, Any]
Path = tuple[str | int, ...]

MARKER = "Zzmark qxcanary"
DAY = "2026-03-02"
LISTED = {("askara", "audios"): "uuid", ("askara", "notes"): "uuid", ("audioscribe", "sessions"): "id"}
"""Streams that are pulled, and the field with the id."""

ORDERED = (("nabla", "results"), ("intron", "results"))
"""Streams of what was worked on order."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """One record.

    Attributes:
        provider: Whose it is.
        stream: The stream it comes in.
        key: Its id, unless that is what is wrong.
        raw: The record as the provider sends it.
        mended: The same without what is wrong.
        what: Path and kind of the damage.
    """

    provider: str
    stream: str
    key: str
    raw: bytes
    mended: Record
    what: str


_DEEP = "@@deep@@"  # stands for what `json.dumps` would not write
_DEPTHS = (60, 300, 990, 3000)

_WRONG: Mapping[str, Any] = {
    "null": None,
    "true": True,
    "false": False,
    "zero": 0,
    "negative": -1,
    "fraction": 1.5,
    "64_bit": 2**64 - 1,
    "beyond_64_bit": 10**30,
    "epoch_ms": 1_772_438_400_000,
    "nan": float("nan"),
    "infinity": float("inf"),
    "empty": "",
    "blank": " \t\n\u00a0\u2003",
    "words": MARKER,
    "long_word": "qxcanary" * 10,
    "long_id": "qxcanary" * 40,
    "list": [MARKER],
    "empty_list": [],
    "object": {MARKER: MARKER},
    "empty_object": {},
    "list_of_lists": [[[MARKER]], [None], [{}]],
    "lone_surrogate": f"{MARKER} \ud83d",
    "surrogates_swapped": f"\ude00\ud83d {MARKER}",
    "nul": f"{MARKER}\x00 and \\u0000",
    "controls": f"{MARKER}\x01\x1b[31m\x7f\x85",
    "right_to_left": f"\u202e{MARKER}\u202c \u2066",
    "joined": "\u200d\ufeff\u0301\u0301\u0301" + MARKER,
    "noncharacters": f"\uffff\ufdd0 {MARKER} \U0010fffe",
    "markup": f"<script>{MARKER}</script>&#0;&#x110000;",
    "headings": "# \n## \n" * 40 + MARKER,
    "year_0": f"0000-{DAY[5:]}T08:00:00Z",
    "year_1": "0001-01-01T00:00:00+14:00",
    "year_1899": "1899-12-31T23:59:59Z",
    "year_9999": "9999-12-31T23:59:59-14:00",
    "no_such_day": "2026-02-30T08:00:00Z",
    "no_such_hour": f"{DAY}T24:30:00Z",
    "leap_second": f"{DAY}T23:59:60Z",
    "week": "2026-W10-1T08:00:00Z",
    "wild_offset": f"{DAY}T08:00:00+99:99",
    "date_in_words": f"Monday, {MARKER}",
    **{f"deep_{depth}": f"{_DEEP}{depth}" for depth in _DEPTHS},
}

_WHOLE: Mapping[str, Any] = {
    "nothing": None,
    "number": 7,
    "text": MARKER,
    "list": [MARKER],
    "empty": {},
    "other": {MARKER: {"qxcanary": [1]}},
    "wrapped": [{"id": 1, "uuid": MARKER}],
    **{f"deep_{depth}": f"{_DEEP}{depth}" for depth in _DEPTHS},
}

HUGE = f"{MARKER}: a line of it.\n" * 4_000
"""More than a hundred thousand characters."""


@functools.cache
def corpus(provider: str, stream: str) -> tuple[Malformed, ...]:
    """The records of one stream, in an order that never changes."""
    return tuple(_records(provider, stream))


def _records(provider: str, stream: str) -> Iterator[Malformed]:
    numbers = count(1)

    def made(what: str, damage: Callable[[Record], Any]) -> Malformed:
        key = f"{stream}-{next(numbers)}"
        mended = _sound(provider, stream, key)
        return Malformed(provider, stream, key, _written(damage(copy.deepcopy(mended))), mended, what)

    for path in _paths(_sound(provider, stream, "x")):
        name = ".".join(map(str, path))
        yield made(f"{name}: missing", functools.partial(_without, path=path))
        yield made(f"{name}: renamed", functools.partial(_renamed, path=path))
        for what, wrong in _WRONG.items():
            yield made(f"{name}: {what}", functools.partial(_with, path=path, value=wrong))
    for name in _sound(provider, stream, "x"):
        yield made(f"{name}: huge", functools.partial(_with, path=(name,), value=HUGE))
    yield made("all: one field more", lambda record: {**record, MARKER: {MARKER: [MARKER] * 50}})
    if provider in {"askara", "audioscribe"}:
        for what, whole in _WHOLE.items():
            yield made(f"all: {what}", functools.partial(_replaced, value=whole))
        # Twice the same id, once sound: the last one counts.
        twice = made("all: again, sound", lambda record: record)
        yield twice
        damaged = {**twice.mended, "createdAt": MARKER}
        yield Malformed(provider, stream, twice.key, _written(damaged), twice.mended, "all: again, damaged")


def _sound(provider: str, stream: str, key: str) -> Record:
    """A record that is as it should be; its text depends on nothing but the stream."""
    if provider == "nabla":
        said = transcript("sound", "en-GB", by_sentence=False)[:1]
        written = note("sound", "en-GB", ("CHIEF_COMPLAINT", "PLAN"), style="paragraphs", by_problem=False)
        return {"id": "98FCE1EF", "status": "SUCCEEDED", "payload": {"transcript": said, "note": written}}
    if provider == "intron":
        documents = results("sound", ["get_summary"], structured=False)
        data = {"processing_status": "FILE_TRANSCRIBED", "audio_transcript": f"{MARKER} coughs.", **documents}
        return {"status": "Ok", "message": "file status found", "data": data}
    return {**_listed(stream), LISTED[provider, stream]: key}


@functools.cache
def _listed(stream: str) -> Record:
    items = generate(CorpusOptions(days=1, audios_per_day=6, sessions_per_day=2, malformed=0))
    if stream == "sessions":
        session = next(iter(items.sessions.values()))
        return {name: value for name, value in session.items() if not name.startswith("_")}
    patient, user = next(iter(items.patients.values())), next(iter(items.users.values()))
    people = {"patient": patient["uuid"], "user": {name: user[name] for name in ("uuid", "firstName", "rpps", "am")}}
    times = {"createdAt": f"{DAY}T08:00:00Z", "updatedAt": f"{DAY}T09:00:00Z", "archivedAt": None}
    if stream == "audios":
        return {"uuid": "", **times, **people, "languageSpoken": "fr", "audioWorkflowStepV3": "validated"}
    text = f"{next(iter(items.notes.values()))['content'][:300]}\n\n{MARKER}"
    return {"uuid": "", "type": "consultation_summary", "content": text, **times, **people, "audio": "/audios/sound"}


def _paths(value: Any, before: Path = ()) -> Iterator[Path]:
    inner: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in inner:
        yield (*before, name)
        yield from _paths(child, (*before, name))


def _place(record: Record, path: Path) -> tuple[Any, Any]:
    place: Any = record
    for name in path[:-1]:
        place = place[name]
    return place, path[-1]


def _with(record: Record, path: Path, value: Any) -> Record:
    place, name = _place(record, path)
    place[name] = value
    return record


def _replaced(_: Record, value: Any) -> Any:
    return value


def _without(record: Record, path: Path) -> Record:
    place, name = _place(record, path)
    del place[name]
    return record


def _renamed(record: Record, path: Path) -> Record:
    place, name = _place(record, path)
    if isinstance(place, dict):
        place[f"{MARKER} {name}"] = place.pop(name)
    else:
        place.reverse()
    return record


def _written(value: Any) -> bytes:
    """As JSON, or as what some call so: `NaN`, single surrogates, and nested beyond all parsers."""
    text = json.dumps(value)
    for depth in _DEPTHS:
        text = text.replace(f'"{_DEEP}{depth}"', f'{{"qxcanary": [{json.dumps(MARKER)}, ' * depth + "1" + "]}" * depth)
    return text.encode()
