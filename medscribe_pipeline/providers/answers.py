"""What came back: `Answer`, and how its body, dates and numbers are read without trusting any of them."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LONGEST_DELAY_S", "Answer", "parse_http_date", "parse_json", "rate_limit_delay_s", "retry_after_s"]

LONGEST_DELAY_S = 86_400.0
"""A server that asks for more than a day is believed for a day: the schedule asks again anyway."""

DEEPEST = 100
"""Levels that are kept of what is nested beyond reading."""

# How deep the parsers go: the strict one first; the other depends on how deep the call itself is.
_READABLE = (1000, DEEPEST)

_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)
_SECONDS = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?", re.ASCII)
_COUNT = re.compile(r"[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Answer:
    """One complete answer of a server. Its `repr` shows neither headers nor body: both may name a patient.

    Attributes:
        status: HTTP status.
        headers: Answer headers; look-ups ignore case.
        body: Parsed JSON; `None` when the body was empty, or was no JSON on an error status.
        sent_at: When the request was about to leave. Aware UTC: all the answer shows is at least this new.
        server_time: The server's own `Date`, where it gives one. Aware UTC, whole seconds.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: Any = field(repr=False)
    sent_at: datetime
    server_time: datetime | None = None


def parse_json(raw: bytes) -> Any:
    r"""Reads a body as JSON, so that one bad record cannot make a whole page unreadable.

    Strict first. Where that refuses, lone surrogates and broken UTF-8 become U+FFFD, numbers that are none
    become `null`, raw control characters inside strings are taken as they are, and a byte order mark is skipped. What
    is nested so deeply that no parser reads it becomes text from the level `DEEPEST` on.

    Returns:
        Only values that orjson can write again; `None` for an empty body.

    Raises:
        ValueError: It is not JSON at all, or is cut short. The message is fixed text.

    >>> parse_json(b'{"text": "cut \\ud83d", "dose": NaN}')
    {'text': 'cut �', 'dose': None}
    """
    if not raw.strip():
        return None
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        pass  # The error holds the document: nothing may be raised from here.
    try:
        return _parse_leniently(raw)
    except (ValueError, RecursionError):
        pass
    for readable in _READABLE:
        flat = _flattened(raw, readable)
        for parse in (orjson.loads, _parse_leniently):
            try:
                return parse(flat)
            except (ValueError, RecursionError):
                pass
    raise ValueError("not JSON")


def _flattened(raw: bytes, readable: int) -> bytes:
    """The document with what is nested deeper than `readable` as one text each, from the level `DEEPEST` on."""
    parts: list[bytes] = []
    depth = deepest = copied = begins = 0
    for found in _STRUCTURE.finditer(raw):
        sign = found[0]
        if sign in b"[{":
            depth += 1
            deepest = max(deepest, depth)
            if depth == DEEPEST + 1:
                begins, deepest = found.start(), depth
        elif sign in b"]}":
            if depth == DEEPEST + 1 and deepest > readable:
                cut = raw[begins : found.end()].decode(errors="replace")
                parts += [raw[copied:begins], json.dumps(cut).encode()]
                copied = found.end()
            depth -= 1
    return b"".join([*parts, raw[copied:]])


def _parse_leniently(raw: bytes) -> Any:
    text = raw.decode("utf-8-sig", errors="replace")
    value = json.loads(text, strict=False, parse_constant=_no_number, parse_float=_finite)
    # UTF-16 is where surrogates mean something: pairs join, single ones are errors that decode to U+FFFD.
    clean = json.dumps(value, ensure_ascii=False).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return orjson.loads(clean)


def _no_number(_: str) -> None:
    """`NaN`, `Infinity` and `-Infinity` are no JSON; the field counts as absent."""


def _finite(literal: str) -> float | None:
    number = float(literal)
    return number if math.isfinite(number) else None


def parse_http_date(value: str | None) -> datetime | None:
    """Reads a date in any of the three forms of RFC 9110 section 5.6.7; `None` when it is no such date.

    >>> parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").isoformat()
    '1994-11-06T08:49:37+00:00'
    """
    if not value:
        return None
    try:
        moment = parsedate_to_datetime(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """How long `Retry-After` asks us to wait (RFC 9110 section 10.2.3), in seconds from 0 to a day.

    Args:
        value: The header: seconds or an HTTP date.
        now: The server's own time where it gave one, so that two clocks that disagree do no harm.

    Returns:
        `None` when there is no header or it makes no sense; 0 for a date in the past.

    >>> retry_after_s("120", datetime(2026, 1, 1, tzinfo=UTC))
    120.0
    """
    if value is None:
        return None
    # `strip` takes more for blank than `float` does.
    if _SECONDS.fullmatch(seconds := value.strip()):
        return min(float(seconds), LONGEST_DELAY_S)
    moment = parse_http_date(value)
    if moment is None:
        return None
    return min(max((moment - now).total_seconds(), 0.0), LONGEST_DELAY_S)


def rate_limit_delay_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """How long the budget is spent, by `x-ratelimit-remaining` and `x-ratelimit-reset` (epoch seconds).

    Returns:
        Seconds until the reset; `None` while something remains, or when the reset is missing, over, more than
        a day away (milliseconds, say) or no number: then a 429 will tell.
    """
    names = ("x-ratelimit-remaining", "x-ratelimit-reset")
    remaining, reset = (headers.get(name, "").strip() for name in names)
    if not _COUNT.fullmatch(remaining) or int(remaining) > 0 or not _SECONDS.fullmatch(reset):
        return None
    delay = float(reset) - now.timestamp()
    return delay if 0 < delay <= LONGEST_DELAY_S else None
