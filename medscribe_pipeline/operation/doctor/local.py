"""Checks of this machine and of the settings: nothing leaves it."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import stat
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import sqlalchemy as sa

from medscribe_pipeline.operation.doctor.checks import Check, Level

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from medscribe_pipeline.settings import Settings

__all__ = ["check_local"]

OLDEST_PYTHON = (3, 11)
PACKAGES = ("medscribe-pipeline", "dagster", "sqlalchemy", "fhir.resources", "httpx")
LOW_BYTES, TOO_LOW_BYTES = 2_000_000_000, 200_000_000


def check_local(settings: Settings) -> Iterator[Check]:
    """All checks of this room.

    Args:
        settings: The settings; that they could be read is the first thing in order.
    """
    yield _python()
    yield _packages()
    yield from _extras(settings)
    yield _providers(settings)
    yield _targets(settings)
    yield _zone(settings)
    yield from _home(settings.home)
    yield _disk(settings.home)


def _python() -> Check:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < OLDEST_PYTHON:
        return Check("python", Level.FAIL, f"Python {version} is too old", "Install Python 3.11 or newer")
    return Check("python", Level.OK, f"Python {version}")


def _packages() -> Check:
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Check("packages", Level.FAIL, f"Missing: {', '.join(missing)}", "Install from requirements.lock again")
    return Check("packages", Level.OK, ", ".join(found))


def _extras(settings: Settings) -> Iterator[Check]:
    """Packages that only some settings need."""
    backend = sa.make_url(settings.database_url).get_backend_name()
    if backend == "postgresql" and find_spec("psycopg") is None:
        to_do = "pip install medscribe-pipeline[postgres]"
        yield Check("postgres driver", Level.FAIL, "The warehouse is PostgreSQL, and psycopg is not installed", to_do)
    if "pdf" in settings.fhir.renderings and find_spec("pydyf") is None:
        says = "MEDSCRIBE_FHIR_RENDERINGS has pdf, and the extra is not installed"
        yield Check("pdf", Level.FAIL, says, "pip install medscribe-pipeline[pdf], or leave out pdf")


def _providers(settings: Settings) -> Check:
    if not settings.providers:
        to_do = "Set the credentials of one, for example MEDSCRIBE_ASKARA_TOKEN; see docs/configuration.md"
        return Check("providers", Level.WARN, "No provider is configured: nothing is pulled", to_do)
    return Check("providers", Level.OK, f"Configured: {', '.join(settings.providers)}")


def _targets(settings: Settings) -> Check:
    if not settings.targets:
        to_do = "Set MEDSCRIBE_EHR_BASE_URL, unless the warehouse is all you want"
        return Check("targets", Level.WARN, "No EHR is configured: nothing is delivered", to_do)
    held = [name for name, target in settings.targets.items() if target.hold_all]
    if held:
        to_do = "Set HOLD_ALL of it to false when notes may go out"
        return Check("targets", Level.WARN, f"HOLD_ALL is on: nothing goes out to {', '.join(held)}", to_do)
    return Check("targets", Level.OK, f"Configured: {', '.join(settings.targets)}")


def _zone(settings: Settings) -> Check:
    if settings.timezone == "UTC" and settings.providers:
        to_do = "Set MEDSCRIBE_TIMEZONE to that of the account, if it is another: it decides where days begin"
        return Check("time zone", Level.WARN, "Visit days are days in UTC", to_do)
    return Check("time zone", Level.OK, f"Visit days are days in {settings.timezone}")


def _home(home: Path) -> Iterator[Check]:
    if not home.exists():
        yield Check("home", Level.WARN, "MEDSCRIBE_HOME is not there yet", "Run `medscribe init`")
        return
    if not os.access(home, os.W_OK | os.X_OK):
        yield Check("home", Level.FAIL, "MEDSCRIBE_HOME cannot be written", "Make it writable for this user")
        return
    others = stat.S_IMODE(home.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO)
    if os.name == "posix" and others:
        # Group permission may be meant; the world's never is.
        says = "Others than its owner may look into MEDSCRIBE_HOME, where patients' texts are"
        yield Check("home", Level.WARN, says, "chmod 700 the folder MEDSCRIBE_HOME")
        return
    yield Check("home", Level.OK, "MEDSCRIBE_HOME is writable, and only its owner may look into it")


def _disk(home: Path) -> Check:
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    says = f"{free / 1e9:.1f} GB are free where MEDSCRIBE_HOME is"
    if free < TOO_LOW_BYTES:
        return Check("disk", Level.FAIL, says, "Make room: writing stops when it is full")
    if free < LOW_BYTES:
        return Check("disk", Level.WARN, says, "Make room soon")
    return Check("disk", Level.OK, says)
