"""What a check says, and how errors become findings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from medscribe_pipeline.errors import MedscribeError

__all__ = ["Check", "Level", "failed", "of_error"]


class Level(StrEnum):
    """How a finding counts: only `FAIL` makes the doctor end with exit code 1."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        name: What was looked at.
        level: How it counts.
        says: What was found, as a sentence.
        to_do: What to do about it; empty for what is in order.
    """

    name: str
    level: Level
    says: str
    to_do: str = ""


def failed(checks: Iterable[Check]) -> bool:
    """Whether any check failed."""
    return any(check.level is Level.FAIL for check in checks)


def of_error(name: str, error: MedscribeError, to_do: str) -> Check:
    """An error as a finding. Its message is fixed text and its context safe, see `errors`."""
    return Check(name, Level.FAIL, str(error), to_do)
