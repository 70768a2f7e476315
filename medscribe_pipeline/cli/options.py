"""Options several commands share."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from medscribe_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from medscribe_pipeline.settings import Settings

__all__ = ["Day", "Json", "day_of", "local_day"]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Day = Annotated[str | None, typer.Option(help="Only this visit day, as YYYY-MM-DD; or `today`, `yesterday`.")]


def day_of(value: str | None) -> date | None:
    """The day a person typed, where the account is; see `local_day`."""
    from medscribe_pipeline.settings import Settings

    return None if value is None else local_day(value, Settings.load(), datetime.now(UTC))


def local_day(value: str, settings: Settings, now: datetime) -> date:
    """The day a person typed; `today` and `yesterday` are those of the account's time zone.

    Raises:
        ConfigError: It is none of these.
    """
    today = now.astimezone(settings.zone).date()
    named = {"today": today, "yesterday": today - timedelta(days=1)}
    if value in named:
        return named[value]
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ConfigError("Not a day: give one such as 2026-11-19, or today, or yesterday", code="day") from None
