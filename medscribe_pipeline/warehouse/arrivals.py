"""What goes between pulling and landing: records, what is wrong with them, and what a page did."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from medscribe_pipeline.notes import canonical_json

if TYPE_CHECKING:
    from datetime import date, datetime

__all__ = ["Content", "Cursor", "Known", "Landed", "Problem", "SourceRecord"]


class Content(NamedTuple):
    """A JSON value as it is stored: canonical JSON, and its hash (see `notes.content_hash`)."""

    written: bytes
    hash: str

    @classmethod
    def of(cls, value: Any) -> Content:
        """The content of a JSON value."""
        written = canonical_json(value)
        return cls(written, sha256(written).hexdigest())


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRecord:
    """One record as pulled, ready to land.

    Attributes:
        source_id: The provider's own id.
        payload: Its JSON object, as received.
        list_hash: Hash of the list item that announced it.
        updated_at: When the provider says it changed last, or `None`.
        fetched_at: When the request that brought it was sent.
        visited_at: Best knowledge of when the visit was; decides the visit day unless the manifest knows better.
        parent_id: Source id of the record it hangs on (an Askara note's audio).
        content: Content of the payload, where it is known already.
    """

    source_id: str
    payload: dict[str, Any]
    list_hash: str
    updated_at: datetime | None
    fetched_at: datetime
    visited_at: datetime | None
    parent_id: str | None = None
    content: Content | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A record that cannot go on, for the quarantine. `field_paths` never holds values; `payload` does."""

    source_id: str
    code: str
    field_paths: tuple[str, ...]
    payload: Any
    payload_hash: str


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a stream was read: everything changed up to `watermark` was surely seen."""

    watermark: datetime | None = None
    signpost: str | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered of a record's list item: its hash, whether it did not fit, whether it is to stay away."""

    list_hash: str
    quarantined: bool = False
    forgotten: bool = False


@dataclass(slots=True)
class Landed:
    """What one or more pages did. `stale` rows were older than what was there already."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    stale: int = 0
    quarantined: int = 0
    days: set[date] = field(default_factory=set)

    def add(self, other: Landed) -> None:
        """Sums another page up into this one."""
        self.new += other.new
        self.changed += other.changed
        self.unchanged += other.unchanged
        self.stale += other.stale
        self.quarantined += other.quarantined
        self.days |= other.days
