"""Which facts may be written beside a line, a span or a metric, and what they may look like: the only such list.

Everything a pipeline handles is somebody's; what may be told of it is therefore listed, not what may not. A fact has a
name of `FIELDS` and a value that looks like one: a number, a truth, a day, or one word of letters, digits and `._:+-`.
Free text does not get through, whatever its name.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["FIELDS", "WITHHELD", "Value", "bound", "facts", "known", "safe"]

Value = str | int | float | bool

FIELDS = frozenset(
    {
        # Where and in what.
        "run",
        "account",
        "provider",
        "stream",
        "target",
        "client",
        "day",
        "stage",
        "kind",
        "database",
        # What came of it.
        "code",
        "state",
        "outcome",
        "cause",
        "type",
        "error",
        "place",
        "library",
        "what",
        # Requests.
        "method",
        "route",
        "status",
        "attempt",
        "failed_attempts",
        # How many, and how long.
        "already_delivered",
        "asked",
        "built",
        "changed",
        "delivered",
        "documents",
        "duration_s",
        "failed",
        "fetched",
        "held",
        "left",
        "looked_at",
        "new",
        "notes",
        "pages",
        "planned",
        "polled",
        "processed",
        "quarantined",
        "records",
        "rejected",
        "requests",
        "retries",
        "submitted",
        "throttled",
        "unchanged",
        "unknown",
        "waited_s",
        "waiting",
    }
)

WITHHELD = "?"
"""Stands for a value that does not look like a fact."""

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,99}|/|(?:/(?:[A-Za-z0-9_-]{1,40}|\{\})){1,9}")
"""A word, or a route as `telemetry.route` makes them."""

_bound: ContextVar[Mapping[str, Value]] = ContextVar("facts", default=MappingProxyType({}))


@contextmanager
def bound(**more: Value | date | None) -> Iterator[None]:
    """Every line of the block has these facts, too, also those of threads of a `Pool` that the block starts."""
    token = _bound.set({**_bound.get(), **known(more)})
    try:
        yield
    finally:
        _bound.reset(token)


def facts() -> Mapping[str, Value]:
    """What is bound here."""
    return _bound.get()


def known(given: Mapping[str, object]) -> dict[str, Value]:
    """Those that may be told, without those that are `None`.

    >>> known({"provider": "askara", "records": 3, "patient": "Testa", "code": None, "cause": "Testa is ill"})
    {'provider': 'askara', 'records': 3, 'cause': '?'}
    """
    return {name: safe(value) for name, value in given.items() if name in FIELDS and value is not None}


def safe(value: object) -> Value:
    """A value as it may be told.

    >>> [safe(value) for value in ("KeyError:pull.py:12", 0.25, date(2026, 11, 19), "Testa Patient", ["Testa"], "")]
    ['KeyError:pull.py:12', 0.25, '2026-11-19', '?', '?', '-']
    """
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, date):
        return value.isoformat()
    if value == "":
        return "-"
    return str(value) if isinstance(value, str) and _WORD.fullmatch(value) else WITHHELD
