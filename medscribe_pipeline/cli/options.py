"""Options several commands share."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import typer

from medscribe_pipeline.errors import ConfigError

__all__ = ["Day", "Json", "day_of"]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Day = Annotated[str | None, typer.Option(help="Only this visit day, as YYYY-MM-DD.")]


def day_of(value: str | None) -> date | None:
    """The day a person typed.

    Raises:
        ConfigError: It is no date.
    """
    if value is None:
        return None
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ConfigError("--day is not a date such as 2026-11-19", code="day") from None
