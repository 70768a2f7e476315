"""Moving cursors by hand, and what the next sync then reads: which streams have cursors, and where one may be put."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.providers.catalogue import PROVIDERS
from medscribe_pipeline.providers.sync import stream_lock
from medscribe_pipeline.warehouse.cursors import CursorRow, known_since, move_cursor, read_cursors

if TYPE_CHECKING:
    from datetime import datetime

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["Moved", "listed_cursors", "put_cursor", "stream_of"]

_PARTS = {
    ("askara", "audios_archived"): "audios",
    ("askara", "notes_by_audio"): "notes",
}
"""Cursors that are a part of a stream: of one whose passes have a cursor each."""

_WITHOUT_TIME = frozenset({("askara", "notes_by_audio")})
"""Cursors that stand at a number of ours: there is no time to put them to."""

_READ_WHOLE = frozenset({("audioscribe", "sessions")})
"""Streams that are read from end to end every time."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What putting a cursor somewhere means.

    Attributes:
        provider: Name of the provider.
        cursor: Name of the cursor.
        before: Where it stood; `None`: nowhere.
        after: Where it stands, or would; `None`: before everything.
        reads_from: Lower bound of the next sync; `None`: there is none, it reads everything.
        known: Landed records it will see again at least, as far as their times are known.
        of: All landed records of the stream.
    """

    provider: str
    cursor: str
    before: datetime | None
    after: datetime | None
    reads_from: datetime | None
    known: int
    of: int

    @property
    def skips(self) -> bool:
        """Whether what changed in between may never be read."""
        return self.after is not None and (self.before is None or self.after > self.before)


def listed_cursors(warehouse: Warehouse, settings: Settings) -> list[CursorRow]:
    """All cursors there are, and every stream of the configured providers, read or not."""
    with warehouse.read() as connection:
        found = read_cursors(connection, warehouse.account)
    for name in settings.providers:
        for stream in PROVIDERS[name].streams:
            found.setdefault((name, stream.name), CursorRow(name, stream.name))
    return [row for _, row in sorted(found.items())]


def stream_of(provider: str, cursor: str) -> str:
    """The stream a cursor belongs to.

    Raises:
        ConfigError: `cursor`: there is no such provider or cursor.
    """
    streams = [stream.name for stream in PROVIDERS[provider].streams] if provider in PROVIDERS else []
    name = _PARTS.get((provider, cursor), cursor)
    if name in streams:
        return name
    known = [f"{each} {stream.name}" for each, listed in PROVIDERS.items() for stream in listed.streams] + [
        " ".join(part) for part in _PARTS
    ]
    raise ConfigError(f"There is no such cursor; known are: {', '.join(known)}", code="cursor")


def put_cursor(
    warehouse: Warehouse,
    settings: Settings,
    provider: str,
    cursor: str,
    watermark: datetime | None,
    *,
    who: str,
    now: datetime,
    dry_run: bool = False,
) -> Moved:
    """Puts a cursor to a time, or before everything (`None`), and notes who did.

    Raises:
        ConfigError: `cursor`, `cursor_time` (in the future, or of a cursor that stands at no time), `cursor_whole`.
        Busy: A sync of the stream is under way, and did not end within `MEDSCRIBE_LOCK_TIMEOUT_S`.
    """
    stream = stream_of(provider, cursor)
    if (provider, cursor) in _READ_WHOLE:
        raise ConfigError("This stream has no cursor: every sync reads it from end to end", code="cursor_whole")
    if watermark is not None and watermark > now:
        raise ConfigError(
            "The time is in the future: everything that changes until then would never be read", code="cursor_time"
        )
    if watermark is not None and (provider, cursor) in _WITHOUT_TIME:
        raise ConfigError("This cursor stands at no time: it can be reset, and not set", code="cursor_time")
    reads_from = None if watermark is None else watermark - timedelta(seconds=settings.lookback_s)
    with warehouse.locks.hold(stream_lock(warehouse.account, provider, stream), settings.lock_timeout_s):
        with warehouse.read() as connection:
            row = read_cursors(connection, warehouse.account).get((provider, cursor))
            known, of = known_since(connection, warehouse.account, provider, stream, reads_from)
        if not dry_run:
            move_cursor(warehouse, provider, cursor, watermark, stream=stream, who=who, now=now)
    return Moved(provider, cursor, row.watermark if row else None, watermark, reads_from, known, of)
