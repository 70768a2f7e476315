"""A provider in memory: records that change while they are read, served in pages, with trouble on request."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from medscribe_pipeline.errors import MedscribeError, Rejected, Retriable
from medscribe_pipeline.providers.answers import Answer
from medscribe_pipeline.providers.pull import Facts, Page
from medscribe_pipeline.providers.wire import source_id_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.providers.changes import Order

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Ticking:
    """A clock that moves one second each time somebody looks."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        self.now += SECOND
        return self.now


class Wire(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    uuid: str
    text: str
    updatedAt: datetime  # noqa: N815  # the name on the wire


def missing() -> MedscribeError:
    return Rejected("The server does not know it.", code="not_found", status=404)


def failing() -> MedscribeError:
    return Retriable("The server failed.", code="server_error", status=503)


@dataclass
class Scripted:
    """One stream of a provider, and `pull.Source` of itself.

    Attributes:
        records: Id to record: `{"uuid", "text", "updatedAt"}`.
        detailed: Lists then hold announcements without text; details hold everything.
        troubles: Id to the error its detail raises.
        details: How often each detail was asked for.
        requests: List requests so far.
        before: Called before each list request with its number, to move the list under the reader.
        honours_bound: The list applies the lower bound.
        honours_order: The list is sorted by change time; else by id.
    """

    clock: Ticking = field(default_factory=Ticking)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    detailed: bool = True
    troubles: dict[str, MedscribeError] = field(default_factory=dict)
    details: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    before: Callable[[int], None] = lambda _: None
    honours_bound: bool = True
    honours_order: bool = True
    page_size: int = 2

    def put(self, source_id: str, text: str = "one", at: datetime | None = None, **more: Any) -> None:
        """Adds or edits a record; its change time is now unless given."""
        self.records[source_id] = {
            "uuid": source_id,
            "text": text,
            "updatedAt": (at or self.clock()).isoformat(),
            **more,
        }

    def changes(self, low: datetime | None, number: int, order: Order) -> Page:
        """A page of the list of changes."""
        self.requests += 1
        self.before(self.requests)
        sent_at = self.clock()
        found = list(self.records.values())
        if low is not None and self.honours_bound:
            found = [record for record in found if (changed_at(record) or low) >= low]
        if self.honours_order:
            found.sort(key=lambda r: (r["updatedAt"], r["uuid"]), reverse=order == "desc")
        else:
            found.sort(key=lambda r: str(r["uuid"]))
        return Page([self.item(record) for record in self._cut(found, number - 1)], sent_at)

    def page(self, number: int) -> Page | None:
        """A page of a list without any promise but its order by id, counted from 0."""
        self.requests += 1
        self.before(self.requests)
        found = sorted(self.records.values(), key=lambda r: str(r.get("uuid")))
        return Page([self.item(record) for record in self._cut(found, number)], self.clock())

    def _cut(self, found: list[Any], index: int) -> list[Any]:
        return found[index * self.page_size : (index + 1) * self.page_size]

    def item(self, record: dict[str, Any]) -> dict[str, Any]:
        """What the list shows of a record."""
        if not self.detailed:
            return dict(record)
        return {key: value for key, value in record.items() if key != "text"}

    def identify(self, item: Any) -> str | None:
        return source_id_of(item, "uuid")

    def facts(self, payload: Any) -> Facts:
        wire = Wire.model_validate(payload)
        return Facts(updated_at=wire.updatedAt, visited_at=wire.updatedAt)

    def detail(self, source_id: str) -> Answer:
        self.details[source_id] += 1
        if source_id in self.troubles:
            raise self.troubles[source_id]
        if source_id not in self.records:
            raise missing()
        return Answer(status=200, headers={}, body=dict(self.records[source_id]), sent_at=self.clock())


def changed_at(item: Any) -> datetime | None:
    """Change time of a list item."""
    try:
        return datetime.fromisoformat(item["updatedAt"])
    except (KeyError, TypeError, ValueError):
        return None
