"""The visits manifest: a CSV file that says who, where and when, for recordings whose provider does not.

One row a recording. How such a file is read, and what is told of its problems, is in `manifests.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from medscribe_pipeline.manifests import ABSOLUTE_URI, URI_PROBLEM, Layout, WrongValue, open_manifest

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path
    from zoneinfo import ZoneInfo

__all__ = ["COLUMNS", "KNOWN_PROVIDERS", "MAX_LENGTHS", "VisitRow", "read_visits"]

KNOWN_PROVIDERS: Final = ("askara", "audioscribe", "nabla", "intron")
"""Providers a row may belong to, with credentials or without: a manifest may come before them."""


@dataclass(frozen=True, slots=True)
class VisitRow:
    """One row of the manifest, checked. Fields are the columns of the table `visits`; times are aware UTC."""

    provider: str
    correlation_key: str
    patient_id: str | None = None
    patient_system: str | None = None
    practitioner_id: str | None = None
    practitioner_system: str | None = None
    encounter_id: str | None = None
    encounter_system: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    language: str | None = None
    template: str | None = None
    audio_url: str | None = None
    audio_path: str | None = None
    section_style: str | None = None
    split_by_problem: bool | None = None
    diarization: bool | None = None
    category: str | None = None
    specialty: str | None = None


COLUMNS: Final = tuple(VisitRow.__dataclass_fields__)
"""Columns a manifest may have."""

REQUIRED = ("provider", "correlation_key")
SYSTEMS = ("patient_system", "practitioner_system", "encounter_system")
TIMES = ("started_at", "ended_at")
SWITCHES = ("split_by_problem", "diarization")
YES = frozenset({"true", "yes", "oui", "1"})
NO = frozenset({"false", "no", "non", "0"})
SHORT = frozenset({"provider", "language", "template", "section_style", "category", "specialty"})
LONG = frozenset({"audio_url", "audio_path"})

MAX_LENGTHS: Final = {column: 64 if column in SHORT else 4096 if column in LONG else 255 for column in COLUMNS}
"""Longest value of each column, in characters: what the table holds."""

LAYOUT: Final = Layout("visits", MAX_LENGTHS, REQUIRED)

# RFC 5646 by shape: a language of two or three letters, then subtags.
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")
# RFC 3986 by shape: a place on a web server, without credentials. Whether it may be used is for the provider to say.
_WEB_URL = re.compile(r"https?://[^\s/?#@<>\"{}|\\^`\x00-\x1f]+([/?#][^\s<>\"{}|\\^`\x00-\x1f]*)?", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_TIMESTAMP = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?"
    r"([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)?"
)

_WORD_PROBLEM = "is not one word of letters, digits, _ and -"
_ANY_TEXT: Final = (re.compile(r".*", re.DOTALL), "")
_SHAPES: Final = {
    "language": (_LANGUAGE, "is not a language tag such as en or fr-FR"),
    "audio_url": (_WEB_URL, "is not a URL such as https://recordings.hospital.example/1.wav"),
    "section_style": (_WORD, _WORD_PROBLEM),
    "category": (_WORD, _WORD_PROBLEM),
    "specialty": (_WORD, _WORD_PROBLEM),
    **dict.fromkeys(SYSTEMS, (ABSOLUTE_URI, URI_PROBLEM)),
}


def read_visits(path: Path, *, zone: ZoneInfo, known_providers: Collection[str] = KNOWN_PROVIDERS) -> list[VisitRow]:
    """Reads and checks a visits manifest.

    The first line that is not blank is the header; its names count without case. `provider` and
    `correlation_key` must be there and filled; other columns, and their cells, may be missing. White space around
    a value is dropped, rows without any value are skipped.

    Times are ISO 8601 with a time of day (`2026-03-02T09:30`, `2026-03-02 09:30:00+01:00`). Without an offset they
    are local in `zone`. A local time the clocks go through twice counts as the first of the two; one they skip is
    read with the offset from before the change, so 02:30 in a spring gap of an hour is the instant of 03:30
    (`fold=0` in both cases, see PEP 495). Give the offset where that matters.

    `audio_url` or `audio_path`, not both, names the recording for a provider that works on order. `split_by_problem`
    and `diarization` are true, yes, 1 or oui, or false, no, 0 or non, in any case; empty leaves it to the settings.

    Args:
        path: The CSV file.
        zone: Zone of the times that name none.
        known_providers: Names allowed in `provider`, lower case.

    Raises:
        ConfigError: `visits_file`: the file cannot be read, is not a manifest, or has rows that are wrong. The
            message lists up to 20 problems as `line N, column NAME: problem`; `context` counts them all.
    """
    rows: list[VisitRow] = []
    lines_by_key: dict[tuple[str, str], int] = {}
    with open_manifest(path, LAYOUT) as manifest:
        for line, values in manifest.rows(lambda column, cell: _value(column, cell, zone, known_providers)):
            first = lines_by_key.setdefault((values["provider"], values["correlation_key"]), line)
            if first != line:
                manifest.problem(line, "correlation_key", f"is the same recording as on line {first}")
            row = VisitRow(**values)
            if row.started_at and row.ended_at and row.ended_at < row.started_at:
                manifest.problem(line, "ended_at", "is before started_at")
            if row.audio_url and row.audio_path:
                manifest.problem(line, "audio_path", "is given beside audio_url; a recording is in one place")
            rows.append(row)
        manifest.close(len(rows))
    return rows


def _value(column: str, value: str, zone: ZoneInfo, known_providers: Collection[str]) -> str | datetime | bool:
    """A cell checked and converted."""
    if column in TIMES:
        return _instant(value, zone)
    if column in SWITCHES:
        return _switch(value)
    if column == "provider":
        return _provider(value, known_providers)
    shape, problem = _SHAPES.get(column, _ANY_TEXT)
    if not shape.fullmatch(value):
        raise WrongValue(problem)
    return value


def _provider(value: str, known_providers: Collection[str]) -> str:
    name = value.lower()
    if name not in known_providers:
        raise WrongValue(f"is none of {', '.join(known_providers)}")
    return name


def _switch(value: str) -> bool:
    word = value.lower()
    if word not in YES | NO:
        raise WrongValue("is neither yes (true, yes, 1, oui) nor no (false, no, 0, non)")
    return word in YES


def _instant(value: str, zone: ZoneInfo) -> datetime:
    if not _TIMESTAMP.fullmatch(value):
        raise WrongValue("is not an ISO 8601 time such as 2026-03-02T09:30 or 2026-03-02T09:30:00+01:00")
    try:
        moment = datetime.fromisoformat(value.upper())
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise WrongValue("is not a time there is") from None
