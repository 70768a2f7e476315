"""The user's own file of capabilities: TOML, one value a line, the same names as in `Capabilities`."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from pydantic import ValidationError

__all__ = ["own_values", "wrong_file"]

MAX_BYTES = 100_000
"""Size of the file: more is something else."""

_NAME = re.compile(r"[a-z]+(_[a-z]+){0,4}")


def own_values(path: Path, fields: AbstractSet[str], setting: str) -> dict[str, Any]:
    """What the file says; the values are not checked yet.

    Args:
        path: The file.
        fields: Names it may use.
        setting: The setting that names it, for messages.

    Raises:
        ConfigError: Code `capabilities`: it cannot be read, is no TOML, says nothing, or has a name that is none.
    """
    try:
        with path.expanduser().open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError:
        raise _unusable("it is not there, or cannot be read", path.name, setting) from None
    if len(raw) > MAX_BYTES:
        raise _unusable("it is far too large", path.name, setting)
    try:
        values = tomllib.loads(raw.decode())
    except UnicodeDecodeError:
        raise _unusable("it is not UTF-8 text", path.name, setting) from None
    except tomllib.TOMLDecodeError as error:
        raise _unusable(f"it is not TOML{_place(error)}", path.name, setting) from None
    if not values:
        raise _unusable("it says nothing", path.name, setting)
    if unknown := sorted(set(values) - fields):
        names = ", ".join(sorted(fields))
        # A name of another form may be anything, even a secret in the wrong place.
        shown = tuple(name for name in unknown if _NAME.fullmatch(name))
        raise _unusable(
            f"{len(unknown)} of its names are no capabilities; those are {names}", path.name, setting, shown
        )
    return values


def wrong_file(error: ValidationError, name: str, setting: str) -> ConfigError:
    """What is wrong with the values of a file, once they are laid over the others."""
    problems = []
    paths = []
    for detail in error.errors(include_input=False, include_url=False, include_context=False):
        field = ".".join(map(str, detail["loc"]))
        message = detail["msg"].removeprefix("Value error, ")
        problems.append(f"{field}: {message}" if field else message)
        paths.append(field)
    return _unusable("; ".join(problems), name, setting, tuple(path for path in paths if path))


def _place(error: tomllib.TOMLDecodeError) -> str:
    """Where it stops being TOML. The text of the error holds nothing but the kind and the place of it."""
    _, _, place = str(error).rpartition(" (")
    return f" ({place}" if place.startswith("at ") and place.endswith(")") else ""


def _unusable(problem: str, name: str, setting: str, field_paths: tuple[str, ...] = ()) -> ConfigError:
    return ConfigError(
        f"The file of capabilities cannot be used: {problem}. Correct it, or unset {setting}",
        code="capabilities",
        field_paths=field_paths,
        context={"file": name, "setting": setting},
    )
