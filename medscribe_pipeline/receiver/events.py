"""What a body holds: one event or several, each with its kind and its own id.

Nothing is understood here beyond that. What nobody recognises is an event too, of kind `other`: it is kept and shown.

* Nabla: a callback is the result of one job and has no id of its own. A webhook's envelope `{id, type, created_at,
  data}` and a Connect callback (`request_uuid`) have one.
* AudioScribe: the body is a session.
* Askara: `{"events": [...], "meta": ...}`; each event has `action`, `id` (of the note or document) and `metadata`.
"""

from __future__ import annotations

from typing import Any

from medscribe_pipeline.providers.inbox_store import Event

__all__ = ["ASKARA_KINDS", "CALLBACK", "MAX_EVENTS", "OTHER", "SESSION", "events_in", "request_uuid"]

CALLBACK = "callback"
SESSION = "session"
ASKARA_KINDS = ("new_note", "new_document", "document_synchronize")
OTHER = "other"

MAX_EVENTS = 1000
"""Events in one body; more is not a webhook."""

MAX_ECHO = 255


def events_in(provider: str, body: dict[str, Any] | list[Any], *, verified: bool) -> list[Event]:
    """The events of a body, in order.

    Args:
        provider: Whose path it was sent to.
        body: A JSON object or array.
        verified: Whether a signature proved the sender.
    """
    if provider == "nabla":
        return [_nabla(body, verified=verified)]
    if provider == "audioscribe":
        return [_session(item) for item in _items(body)]
    announced = body.get("events") if isinstance(body, dict) else body
    return [_askara(item) for item in _items(announced if isinstance(announced, list) else body)]


def request_uuid(body: Any) -> str | None:
    """The id Nabla Connect wants to see again in the answer."""
    value = body.get("request_uuid") if isinstance(body, dict) else None
    return value if isinstance(value, str) and 0 < len(value) <= MAX_ECHO else None


def _items(body: Any) -> list[Any]:
    return body if isinstance(body, list) else [body]


def _nabla(body: Any, *, verified: bool) -> Event:
    if not isinstance(body, dict):
        return Event("nabla", OTHER, None, body, verified)
    own = request_uuid(body)
    # The `id` of a bare callback is that of the job, which several callbacks may be about.
    if own is None and isinstance(body.get("type"), str) and isinstance(body.get("data"), dict):
        own = _text(body.get("id"))
    return Event("nabla", CALLBACK, own, body, verified)


def _session(item: Any) -> Event:
    own = _text(item.get("id")) if isinstance(item, dict) else None
    return Event("audioscribe", SESSION if own else OTHER, own, _container(item), verified=False)


def _askara(item: Any) -> Event:
    action = item.get("action") if isinstance(item, dict) else None
    if not isinstance(action, str):
        return Event("askara", OTHER, None, _container(item), verified=False)
    own = _text(item.get("id"))
    kind = action if action in ASKARA_KINDS else OTHER
    return Event("askara", kind, f"{action}:{own}" if own else None, item, verified=False)


def _container(item: Any) -> Any:
    """A bare `null` could not be told from no payload in the database."""
    return item if isinstance(item, dict | list) else {"value": item}


def _text(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None
