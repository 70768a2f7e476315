"""Where daily reports lie: pages under `MEDSCRIBE_HOME`, for their owner's eyes."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from medscribe_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

    from medscribe_pipeline.settings import Settings

__all__ = ["report_path", "write_report"]

OWNER_ONLY_FOLDER, OWNER_ONLY_FILE = 0o700, 0o600


def report_path(settings: Settings, day: date) -> Path:
    """The page of a day: `reports/<account>/<day>.html` under `MEDSCRIBE_HOME`."""
    return settings.home / "reports" / settings.account / f"{day.isoformat()}.html"


def write_report(settings: Settings, day: date, page: str) -> Path:
    """Writes the page of a day, whole or not at all; one that was there is replaced. Returns where it is.

    Raises:
        ConfigError: `home_unwritable`.
    """
    path = report_path(settings, day)
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(mode=OWNER_ONLY_FOLDER, parents=True, exist_ok=True)
        # What a run that was killed has left would keep its permissions.
        draft.unlink(missing_ok=True)
        with os.fdopen(
            os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY_FILE), "w", encoding="utf-8"
        ) as file:
            file.write(page)
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise ConfigError(
            "Cannot write the daily report under MEDSCRIBE_HOME; make the folder writable", code="home_unwritable"
        ) from None
    return path
