"""What a body holds: which events, of which kind, under which id."""

from __future__ import annotations

from typing import Any

import pytest

from medscribe_pipeline.receiver.events import events_in, request_uuid


def ids(provider: str, body: Any) -> list[tuple[str, str | None]]:
    return [(event.kind, event.event_id) for event in events_in(provider, body, verified=False)]


@pytest.mark.parametrize(
    ("body", "event_id"),
    [
        # The id of a bare callback is that of the job.
        ({"id": "j-1", "status": "succeeded"}, None),
        ({"request_id": "j-1", "client_request_id": "c-1", "transcript": []}, None),
        ({"id": "e-1", "type": "transcription.done", "created_at": "x", "data": {"id": "j-1"}}, "e-1"),
        ({"id": "e-1", "type": "transcription.done", "data": None}, None),
        ({"request_uuid": "r-1", "type": "NOTE_EXPORT", "data": {}}, "r-1"),
        ({"request_uuid": "r" * 256}, None),
        ({}, None),
    ],
)
def test_a_nabla_callback_is_named_by_its_envelope_only(body: dict[str, Any], event_id: str | None) -> None:
    assert ids("nabla", body) == [("callback", event_id)]


def test_a_nabla_body_that_is_no_object_is_kept_as_something_else() -> None:
    assert ids("nabla", [{"id": 1}]) == [("other", None)]


def test_sessions_are_named_by_their_id() -> None:
    assert ids("audioscribe", {"id": 7, "title": "Test"}) == [("session", "7")]
    assert ids("audioscribe", [{"id": 7}, {"id": "8"}]) == [("session", "7"), ("session", "8")]
    assert ids("audioscribe", {"hello": 1}) == [("other", None)]
    assert ids("audioscribe", {"id": True}) == [("other", None)]


def test_askara_sends_several_events_in_one_body() -> None:
    body = {
        "events": [
            {"id": "n-1", "resource_type": "note", "action": "new_note"},
            {"id": "n-1", "resource_type": "document", "action": "document_synchronize"},
            {"id": "d-1", "action": "new_document"},
            {"id": "x-1", "action": "note_read_aloud"},
            {"action": "new_note"},
            {"id": "n-2"},
            None,
        ],
        "meta": {"webhook_id": "w-1"},
    }

    assert ids("askara", body) == [
        ("new_note", "new_note:n-1"),
        ("document_synchronize", "document_synchronize:n-1"),
        ("new_document", "new_document:d-1"),
        ("other", "note_read_aloud:x-1"),
        ("new_note", None),
        ("other", None),
        ("other", None),
    ]


def test_askara_events_without_their_envelope() -> None:
    event = {"id": "n-1", "action": "new_note"}

    assert ids("askara", event) == ids("askara", [event]) == [("new_note", "new_note:n-1")]
    assert ids("askara", {"events": []}) == []
    assert ids("askara", {"events": "none"}) == [("other", None)]


def test_an_event_that_is_no_object_is_wrapped() -> None:
    (event,) = events_in("askara", [None], verified=False)

    assert event.payload == {"value": None}


@pytest.mark.parametrize("verified", [True, False])
def test_only_nabla_can_prove_anything(verified: bool) -> None:
    body: dict[str, Any] = {"id": 1, "action": "new_note"}

    found = {
        provider: events_in(provider, body, verified=verified)[0].verified
        for provider in ("nabla", "audioscribe", "askara")
    }

    assert found == {"nabla": verified, "audioscribe": False, "askara": False}


@pytest.mark.parametrize("body", [None, [], {}, {"request_uuid": 1}, {"request_uuid": ""}])
def test_no_request_uuid(body: Any) -> None:
    assert request_uuid(body) is None
