"""Askara's webhooks: who registered for which events, and the envelope events come in.

Events, registration body and envelope are those of the vendor's guides. What an event about a document carries beside
its id the guides do not show; nothing is said there about a signature, so there is none.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medscribe_pipeline.sandbox.corpus import Record
    from medscribe_pipeline.sandbox.state import State

__all__ = ["EVENTS", "AskaraWebhooks", "envelope"]

EVENTS = {"new_note": "note", "new_document": "document", "document_synchronize": "document"}
"""The kind of resource each event is about."""

_NAMESPACE = uuid.UUID("6f0f2a3e-6f6e-5d1e-9d2b-0c53c0de0003")


class AskaraWebhooks:
    """The registrations, in the order they were made."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._registered: dict[str, Record] = dict(state.load("askara_webhooks"))

    def register(self, body: Mapping[str, Any]) -> Record:
        """Remembers a registration.

        Raises:
            ValueError: The body is not as documented.
        """
        url, events, is_active = body.get("url"), body.get("events"), body.get("active", True)
        if not (isinstance(url, str) and url.startswith(("https://", "http://"))):
            raise ValueError("url")
        if not (isinstance(events, list) and events and all(event in EVENTS for event in events)):
            raise ValueError("events")
        if type(is_active) is not bool:
            raise ValueError("active")
        key = str(uuid.uuid5(_NAMESPACE, f"webhook/{len(self._registered)}"))
        webhook = {"uuid": key, "url": url, "events": events, "active": is_active}
        self._registered[key] = webhook
        self._state.save([("askara_webhooks", key, webhook)])
        return webhook

    def listening(self, event: str) -> list[Record]:
        """Active registrations for an event."""
        return [hook for hook in list(self._registered.values()) if hook["active"] and event in hook["events"]]


def envelope(webhook: Record, event: str, resource: Record, *, user: str | None, organization: str) -> Record:
    """One event as it is posted. Sent again, it is the same: its ids follow from what it is about."""
    kind = EVENTS[event]
    return {
        "events": [
            {
                "id": str(uuid.uuid5(_NAMESPACE, f"{event}/{resource['uuid']}")),
                "resource_type": kind,
                "action": event,
                "metadata": {kind: resource},
                "resource_metadata": {"user_id": user, "organization_id": organization},
            }
        ],
        "meta": {"webhook_id": webhook["uuid"]},
    }
