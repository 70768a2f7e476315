"""Field types the providers' wire models share: tolerant where the APIs are vague, strict where we rely on them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

__all__ = [
    "RPPS_SYSTEM",
    "SourceId",
    "Text",
    "WireModel",
    "WireTime",
    "aware",
    "is_rpps",
    "parse_time",
    "reference_id",
    "source_id_of",
    "wire_time",
]

MAX_ID = 255
YEARS = (1900, 2200)
RPPS_DIGITS = 11

RPPS_SYSTEM = "https://rpps.esante.gouv.fr"
"""Identifier system of `is_rpps` numbers, as the French core profiles name it (FR Core Practitioner, slice `rpps`)."""


class WireModel(BaseModel):
    """Base of all wire models: unknown fields pass, errors never show what was received."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True, frozen=True, populate_by_name=True)


def parse_time(value: Any) -> datetime:
    """An ISO 8601 time as the providers write it, with any offset or none; raises `ValueError` for anything else."""
    if not isinstance(value, str):
        raise ValueError("not an ISO 8601 time")  # noqa: TRY004  # pydantic turns ValueError into a field error
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:  # Its message quotes the value.
        raise ValueError("not an ISO 8601 time") from None
    if not YEARS[0] <= moment.year <= YEARS[1]:
        raise ValueError("not a plausible year")
    return moment


def aware(value: datetime, zone: ZoneInfo) -> datetime:
    """UTC; a time without offset is local to `zone`. An hour that a clock change repeats is taken as the first one."""
    return (value if value.tzinfo is not None else value.replace(tzinfo=zone)).astimezone(UTC)


def _identifier(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value


WireTime = Annotated[datetime, BeforeValidator(parse_time)]
"""A time, possibly without offset: pass it through `aware` before use."""

SourceId = Annotated[
    str,
    BeforeValidator(_identifier),
    StringConstraints(min_length=1, max_length=MAX_ID, pattern=r"^[^\x00-\x1f\x7f]+$"),
]
"""A provider's id: text, or a number written as one."""

Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
"""Text that may be null."""


def source_id_of(item: Any, field: str) -> str | None:
    """The id of a record that has not been checked yet; `None` when it has no usable one."""
    value = _identifier(item.get(field)) if isinstance(item, dict) else None
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID or not value.isprintable():
        return None
    return value


def wire_time(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds: a coarser lower bound would read more, a coarser upper bound less."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def reference_id(value: Any) -> str | None:
    """The uuid of a related record, given as uuid, as IRI or as object.

    >>> reference_id("/audios/a1"), reference_id({"uuid": "a1"}), reference_id(None)
    ('a1', 'a1', None)
    """
    if isinstance(value, dict):
        value = value.get("uuid") or value.get("@id")
    if not isinstance(value, str) or not value.strip():
        return None
    return value.strip().rstrip("/").rsplit("/", 1)[-1] or None


def is_rpps(value: str) -> bool:
    """Whether a text is an RPPS number: 11 digits, the last one the Luhn key of the others.

    >>> is_rpps("10101748050"), is_rpps("10101748051")
    (True, False)
    """
    if len(value) != RPPS_DIGITS or not (value.isascii() and value.isdigit()):
        return False
    doubled = (int(digit) * (1 + position % 2) for position, digit in enumerate(reversed(value)))
    return sum(number - 9 if number > 9 else number for number in doubled) % 10 == 0  # noqa: PLR2004  # Luhn's own numbers
