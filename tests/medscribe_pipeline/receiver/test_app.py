"""The receiver over HTTP: who may post what, what is stored, what is answered."""

from __future__ import annotations

import logging
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest
import sqlalchemy as sa

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.providers.inbox_store import open_events
from medscribe_pipeline.receiver import Receiver, app
from medscribe_pipeline.receiver.events import MAX_EVENTS
from medscribe_pipeline.warehouse.store import Warehouse
from medscribe_pipeline.warehouse.tables import change_counter
from tests.databases import NOW
from tests.medscribe_pipeline.receiver.letterbox import (
    CANARY,
    PATH_SECRET,
    SECRET,
    open_letterbox,
    receiver_settings,
    signature,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from medscribe_pipeline.settings import Settings
    from tests.medscribe_pipeline.receiver.letterbox import Letterbox

CALLBACK = {"id": "j-1", "client_request_id": "c-1", "status": "succeeded", "payload": {"transcript": []}}
SESSION = {"id": 7, "title": f"Test {CANARY}", "note": "text", "createdAt": "2026-03-02T09:00:00Z"}
ASKARA: dict[str, Any] = {
    "events": [
        {"id": "n-1", "resource_type": "note", "action": "new_note", "metadata": {"note": {"uuid": "n-1"}}},
        {"id": "d-1", "resource_type": "document", "action": "new_document"},
    ],
    "meta": {"webhook_id": "w-1"},
}
AUDIOSCRIBE_PATH = f"/webhooks/audioscribe/{PATH_SECRET}"
ASKARA_PATH = f"/webhooks/askara/{PATH_SECRET}"


# What is stored


def test_a_signed_callback_is_stored_as_it_came(letterbox: Letterbox) -> None:
    answer = letterbox.callback(CALLBACK)

    (row,) = letterbox.rows()
    assert (answer.status_code, answer.json()) == (200, {"status": "stored"})
    assert row["payload"] == CALLBACK
    assert (row["provider"], row["kind"], row["verified"], row["received_at"]) == ("nabla", "callback", True, NOW)
    assert (row["deliveries"], row["attempts"], row["processed_at"]) == (1, 0, None)


def test_events_of_providers_that_sign_nothing_are_stored_unverified(letterbox: Letterbox) -> None:
    assert letterbox.post(AUDIOSCRIBE_PATH, SESSION).status_code == 200
    assert letterbox.post(ASKARA_PATH, ASKARA).status_code == 200

    rows = letterbox.rows()
    assert [(row["provider"], row["kind"], row["event_id"]) for row in rows] == [
        ("audioscribe", "session", "7"),
        ("askara", "new_note", "new_note:n-1"),
        ("askara", "new_document", "new_document:d-1"),
    ]
    assert not any(row["verified"] for row in rows)
    assert [row["payload"] for row in rows] == [SESSION, *ASKARA["events"]]
    assert open_events(letterbox.warehouse) == (3, rows[-1]["seq"])


def test_duplicates_are_answered_and_counted(letterbox: Letterbox) -> None:
    for _ in range(3):
        assert letterbox.callback(CALLBACK).status_code == 200
        assert letterbox.post(ASKARA_PATH, ASKARA).status_code == 200

    assert [row["deliveries"] for row in letterbox.rows()] == [3, 3, 3]
    assert letterbox.outcomes() == {"stored": 3, "duplicate": 6}


def test_the_same_body_in_another_spelling_is_a_duplicate(letterbox: Letterbox) -> None:
    letterbox.callback(orjson.dumps(CALLBACK))
    letterbox.callback(orjson.dumps(dict(reversed(CALLBACK.items())), option=orjson.OPT_INDENT_2))

    assert [row["deliveries"] for row in letterbox.rows()] == [2]


def test_the_same_id_with_another_content_is_another_event(letterbox: Letterbox) -> None:
    letterbox.post(AUDIOSCRIBE_PATH, SESSION)
    for _ in range(2):
        letterbox.post(AUDIOSCRIBE_PATH, {**SESSION, "note": "amended"})

    rows = letterbox.rows()
    assert [row["payload"]["note"] for row in rows] == ["text", "amended"]
    assert [row["deliveries"] for row in rows] == [1, 2]


def test_an_event_twice_in_one_body_is_one(letterbox: Letterbox) -> None:
    letterbox.post(ASKARA_PATH, {"events": [ASKARA["events"][0]] * 3})

    assert [row["deliveries"] for row in letterbox.rows()] == [3]


def test_connect_sees_its_request_id_again(letterbox: Letterbox) -> None:
    answer = letterbox.callback({"request_uuid": "r-1", "type": "NOTE_EXPORT", "data": {}})

    assert answer.json() == {"request_uuid": "r-1"}
    assert letterbox.rows()[0]["event_id"] == "r-1"


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", ""])
def test_the_content_type_does_not_matter(letterbox: Letterbox, content_type: str) -> None:
    assert letterbox.post(AUDIOSCRIBE_PATH, SESSION, **{"content-type": content_type}).status_code == 200


def test_odd_characters_are_stored_on_every_database(letterbox: Letterbox) -> None:
    """U+0000 and half a surrogate pair are valid JSON, and neither fits into a database."""
    body = b'{"id": 9, "note": "a\\u0000b \\ud83d", "number": 123456789012345678901234567890}'

    assert letterbox.post(AUDIOSCRIBE_PATH, body).status_code == 200
    assert letterbox.rows()[0]["payload"]["note"] == "a\ufffdb \ufffd"


# What is not


def forged(body: bytes) -> list[dict[str, str]]:
    right = signature(body)
    stamp, proof = right
    return [
        {},
        {stamp: right[stamp]},
        {proof: right[proof]},
        signature(body, secret="another"),
        signature(body + b" "),
        signature(body, at=NOW - timedelta(seconds=301)),
        signature(body, at=NOW + timedelta(seconds=301)),
        {**right, stamp: "yesterday"},
        {**right, proof: ""},
        {**right, proof: "0" * 64},
        {**right, proof: right[proof][:-1]},
        {**right, stamp: (NOW + timedelta(seconds=1)).isoformat()},
    ]


def test_nothing_forged_gets_in(letterbox: Letterbox) -> None:
    body = orjson.dumps(CALLBACK)

    answers = [letterbox.post("/callbacks/nabla", body, **headers).status_code for headers in forged(body)]

    assert answers == [401] * len(answers)
    assert letterbox.rows() == []
    assert letterbox.outcomes() == {"unsigned": 5, "bad_signature": 4, "stale_signature": 3}


def test_several_signatures_and_the_connect_headers_are_taken(letterbox: Letterbox) -> None:
    body = orjson.dumps(CALLBACK)
    stamp, proof = signature(body).values()
    old = signature(body, secret="old")["x-nabla-webhook-signature"]

    for prefix in ("webhook", "connect"):
        headers = {f"x-nabla-{prefix}-timestamp": stamp, f"x-nabla-{prefix}-signature": f"{old}, {proof}"}
        assert letterbox.post("/callbacks/nabla", body, **headers).status_code == 200


@pytest.mark.parametrize(
    "body", [b"", b"   ", b"{", b"hello", b'"text"', b"7", b"null", b"<x/>", b"\xff\xfe", b"[" * 5000]
)
def test_only_json_objects_and_arrays_are_taken(letterbox: Letterbox, body: bytes) -> None:
    assert letterbox.post(AUDIOSCRIBE_PATH, body).status_code == 400
    assert letterbox.callback(body).status_code == 400
    assert letterbox.rows() == []


@pytest.mark.parametrize(
    "path",
    [
        "/webhooks/audioscribe",
        "/webhooks/audioscribe/",
        "/webhooks/audioscribe/wrong-secret-synthetic-00001",
        f"/webhooks/audioscribe/{PATH_SECRET}/",
        f"/webhooks/audioscribe/{PATH_SECRET}x",
        f"/webhooks/nabla/{PATH_SECRET}",
        "/webhooks/askara/%C3%A9%00",
        f"/callbacks/nabla/{PATH_SECRET}",  # a signature is required where there is a secret for it
        "/callbacks/nabla/",
        "/",
    ],
)
def test_no_such_path(letterbox: Letterbox, path: str) -> None:
    answer = letterbox.post(path, SESSION)

    assert (answer.status_code, answer.text) == (404, "Not Found")
    assert letterbox.rows() == []


def test_paths_without_a_secret_do_not_exist(make_settings: Callable[..., Settings]) -> None:
    with open_letterbox(receiver_settings(make_settings, path_secret=None)) as letterbox:
        for provider in ("audioscribe", "askara"):
            assert letterbox.post(f"/webhooks/{provider}/None", SESSION).status_code == 404
            assert letterbox.post(f"/webhooks/{provider}/", SESSION).status_code == 404
        assert letterbox.callback(CALLBACK).status_code == 200


def test_without_a_webhook_secret_nabla_needs_the_secret_path(make_settings: Callable[..., Settings]) -> None:
    with open_letterbox(receiver_settings(make_settings, webhook_secret=None)) as letterbox:
        assert letterbox.callback(CALLBACK).status_code == 404
        assert letterbox.post("/callbacks/nabla/wrong-secret-synthetic-00001", CALLBACK).status_code == 404
        assert letterbox.post(f"/callbacks/nabla/{PATH_SECRET}", CALLBACK).status_code == 200

        assert [row["verified"] for row in letterbox.rows()] == [False]


def test_without_any_secret_there_is_no_receiver(make_settings: Callable[..., Settings]) -> None:
    settings = receiver_settings(make_settings, webhook_secret=None, path_secret=None)
    with Warehouse.open(settings, migrate=False) as warehouse, pytest.raises(ConfigError) as caught:
        Receiver(settings, warehouse)

    assert caught.value.code == "receiver_secret"


def test_other_methods_are_refused_without_looking_at_the_secret(letterbox: Letterbox) -> None:
    for path in (AUDIOSCRIBE_PATH, "/webhooks/audioscribe/wrong-secret-synthetic-00001"):
        assert letterbox.http.get(f"{letterbox.url}{path}").status_code == 405


def test_more_events_than_a_webhook_sends_are_refused_whole(letterbox: Letterbox) -> None:
    body = {"events": [{"id": str(number), "action": "new_note"} for number in range(MAX_EVENTS + 1)]}

    assert letterbox.post(ASKARA_PATH, body).status_code == 413
    assert letterbox.rows() == []


# Limits


@pytest.fixture
def narrow(make_settings: Callable[..., Settings]) -> Iterator[Letterbox]:
    """Takes 2000 bytes, and three posts a minute on a clock that stands still."""
    settings = receiver_settings(make_settings, max_body_bytes=2000, max_events_per_minute=3)
    with open_letterbox(settings, monotonic=lambda: 0.0) as opened:
        yield opened


def chunks(count: int) -> Iterator[bytes]:
    yield b'{"id": 1, "note": "'
    for _ in range(count):
        yield b"x" * 500
    yield b'"}'


def test_a_body_that_says_it_is_too_long(narrow: Letterbox) -> None:
    assert narrow.post(AUDIOSCRIBE_PATH, {"id": 1, "note": "x" * 2000}).status_code == 413
    assert narrow.outcomes() == {"too_large": 1}


def test_a_body_that_turns_out_too_long_is_not_read_to_its_end(narrow: Letterbox) -> None:
    url = f"{narrow.url}{AUDIOSCRIBE_PATH}"

    assert narrow.http.post(url, content=chunks(5)).status_code == 413
    assert narrow.http.post(url, content=chunks(3)).status_code == 200
    assert narrow.metrics()["medscribe_receiver_held_bytes"] == 0


def test_a_body_without_an_end_is_answered_early(narrow: Letterbox) -> None:
    """The answer comes although the sender has not finished, and never will."""
    host, port = narrow.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        head = f"POST {AUDIOSCRIBE_PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        raw.sendall(head.encode() + b"fa0\r\n" + b"x" * 4000 + b"\r\n")

        assert b" 413 " in raw.recv(65536).split(b"\r\n")[0]


def test_a_body_that_never_comes_is_given_up(letterbox: Letterbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "BODY_S", 0.2)
    host, port = letterbox.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(f"POST {AUDIOSCRIBE_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{{".encode())

        assert b" 408 " in raw.recv(65536).split(b"\r\n")[0]
    assert letterbox.metrics()["medscribe_receiver_held_bytes"] == 0


def test_a_body_that_is_broken_off_stores_nothing(letterbox: Letterbox) -> None:
    host, port = letterbox.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(f'POST {AUDIOSCRIBE_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n{{"id": 1}}'.encode())
    deadline = time.monotonic() + 5
    while letterbox.outcomes() != {"disconnected": 1}:
        assert time.monotonic() < deadline
        time.sleep(0.02)

    assert letterbox.rows() == []


def test_too_many_in_a_minute_are_told_when_to_come_back(narrow: Letterbox) -> None:
    answers = [narrow.callback({"id": str(number), "status": "ongoing"}) for number in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[3].headers["retry-after"] == "20"
    assert len(narrow.rows()) == 3


def test_forgeries_do_not_use_up_the_rate(narrow: Letterbox) -> None:
    for _ in range(10):
        assert narrow.callback(CALLBACK, secret="another").status_code == 401
        assert narrow.post("/webhooks/askara/wrong-secret-synthetic-00001", ASKARA).status_code == 404

    assert narrow.callback(CALLBACK).status_code == 200


def test_bodies_that_would_not_fit_into_memory_together_wait(make_settings: Callable[..., Settings]) -> None:
    settings = receiver_settings(make_settings, max_body_bytes=100_000)
    with open_letterbox(settings) as letterbox, ThreadPoolExecutor(20) as pool:
        bodies = [{"id": number, "note": "x" * 90_000} for number in range(20)]
        answers = list(pool.map(lambda body: letterbox.post(AUDIOSCRIBE_PATH, body).status_code, bodies))

        assert answers == [200] * 20
        assert letterbox.metrics()["medscribe_receiver_held_bytes"] == 0


# The warehouse


def test_a_locked_sqlite_is_told_in_time_and_nothing_is_lost(letterbox: Letterbox) -> None:
    with letterbox.warehouse.begin():
        started = time.monotonic()
        answer = letterbox.callback(CALLBACK)
        took = time.monotonic() - started
    assert (answer.status_code, answer.json()) == (503, {"status": "busy"})
    assert took < 5
    assert int(answer.headers["retry-after"]) > 0

    assert letterbox.callback(CALLBACK).status_code == 200
    assert [row["payload"] for row in letterbox.rows()] == [CALLBACK]


def test_a_short_lock_is_waited_for(letterbox: Letterbox) -> None:
    with ThreadPoolExecutor(1) as pool, letterbox.warehouse.begin():
        answer = pool.submit(letterbox.callback, CALLBACK)
        time.sleep(0.5)
        assert not answer.done()

    assert answer.result().status_code == 200


def test_a_locked_postgres_is_told_in_time(make_settings: Callable[..., Settings], postgres_url: str) -> None:
    with open_letterbox(receiver_settings(make_settings, warehouse_url=postgres_url)) as letterbox:
        with letterbox.warehouse.begin() as connection:
            connection.execute(sa.select(change_counter).with_for_update())
            started = time.monotonic()
            answer = letterbox.callback(CALLBACK)
            took = time.monotonic() - started
        assert answer.status_code == 503
        assert took < 5

        assert letterbox.callback(CALLBACK).status_code == 200
        assert len(letterbox.rows()) == 1


def test_a_warehouse_that_is_gone_is_told(letterbox: Letterbox, make_settings: Callable[..., Settings]) -> None:
    with letterbox.warehouse.begin() as connection:
        connection.execute(sa.text("DROP TABLE inbox"))

    assert letterbox.callback(CALLBACK).status_code == 503
    assert make_settings()


# Beside the events


def test_health_and_readiness(letterbox: Letterbox) -> None:
    assert letterbox.http.get(f"{letterbox.url}/healthz").json() == {"status": "ok"}
    assert letterbox.http.get(f"{letterbox.url}/readyz").json() == {"status": "ready"}


@pytest.mark.parametrize("statement", ["UPDATE alembic_version SET version_num = '9999'", "DROP TABLE alembic_version"])
def test_another_schema_is_not_ready(letterbox: Letterbox, statement: str) -> None:
    with letterbox.warehouse.begin() as connection:
        connection.execute(sa.text(statement))

    assert letterbox.http.get(f"{letterbox.url}/readyz").status_code == 503
    assert letterbox.http.get(f"{letterbox.url}/healthz").status_code == 200


def test_metrics_hold_counts_and_nothing_else(letterbox: Letterbox) -> None:
    letterbox.post(AUDIOSCRIBE_PATH, SESSION)
    letterbox.post(ASKARA_PATH, {"events": [{"id": CANARY, "action": CANARY}]})
    letterbox.post(f"/webhooks/{CANARY}/{CANARY}", {})
    answer = letterbox.http.get(f"{letterbox.url}/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'medscribe_receiver_events_total{provider="audioscribe",kind="session",outcome="stored"} 1' in answer.text
    assert 'medscribe_receiver_events_total{provider="askara",kind="other",outcome="stored"} 1' in answer.text
    for secret in (CANARY, PATH_SECRET, SECRET):
        assert secret not in answer.text


def test_logs_hold_codes_and_nothing_else(letterbox: Letterbox, caplog: pytest.LogCaptureFixture) -> None:
    for logger in ("httpx", "httpcore"):  # the test's own client
        caplog.set_level(logging.WARNING, logger)
    caplog.set_level(logging.DEBUG)
    letterbox.post(AUDIOSCRIBE_PATH, SESSION)
    letterbox.post(f"/webhooks/audioscribe/{CANARY}", SESSION)
    letterbox.post(AUDIOSCRIBE_PATH, f"{CANARY} is not JSON".encode())
    letterbox.callback(SESSION, secret=CANARY)
    with letterbox.warehouse.begin() as connection:
        connection.execute(sa.text("DROP TABLE inbox"))
    letterbox.post(AUDIOSCRIBE_PATH, SESSION)

    assert "outcome=not_json" in caplog.text
    assert "code=warehouse" in caplog.text
    for secret in (CANARY, PATH_SECRET, SECRET):
        assert secret not in caplog.text


def test_an_error_nobody_expected_shows_nothing(
    letterbox: Letterbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def trip(*_: Any, **__: Any) -> None:
        raise LookupError(CANARY)

    monkeypatch.setattr(app, "events_in", trip)

    answer = letterbox.post(AUDIOSCRIBE_PATH, SESSION)

    assert answer.status_code == 500
    assert "cause=LookupError" in caplog.text
    assert CANARY not in caplog.text + answer.text


def test_a_taken_port_is_told(letterbox: Letterbox, make_settings: Callable[..., Settings]) -> None:
    port = httpx.URL(letterbox.url).port
    settings = receiver_settings(make_settings, port=port)
    with Warehouse.open(settings, migrate=False) as warehouse, pytest.raises(ConfigError) as caught:
        Receiver(settings, warehouse).__enter__()

    assert caught.value.code == "receiver_port"
