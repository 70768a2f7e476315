from __future__ import annotations

import hashlib
import hmac
import threading
from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.sandbox import PushOptions
from medscribe_pipeline.sandbox.outbox import Outbox, signature_headers
from medscribe_pipeline.sandbox.state import State
from medscribe_pipeline.sandbox.stats import Stats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.medscribe_pipeline.sandbox.receiving import Receiver

NOW = 1_774_170_000.0
SECRETS = ("new-secret", "old-secret")


@pytest.fixture
def make() -> Iterator[Callable[..., Outbox]]:
    """Makes outboxes, and closes them."""
    made: list[Outbox] = []

    def outbox(state: State | None = None, stats: Stats | None = None, **options: Any) -> Outbox:
        made.append(Outbox(PushOptions(**options), SECRETS, state or State(), stats or Stats(), lambda: NOW))
        return made[-1]

    yield outbox
    for each in made:
        each.close()


def test_a_message_arrives_signed_once(make: Callable[..., Outbox], receiver: Receiver) -> None:
    outbox = make()
    outbox.put("nabla", receiver.url, {"text": "qxcanary é"}, subject="a", signature="good")

    first, second = outbox.deliver(), outbox.deliver()

    headers, body = receiver.seen[0]
    timestamp = headers["x-nabla-webhook-timestamp"]
    expected = [hmac.new(key.encode(), timestamp.encode() + body, hashlib.sha256).hexdigest() for key in SECRETS]
    assert timestamp == "2026-03-22T09:00:00.000Z"
    assert headers["x-nabla-webhook-signature"] == ",".join(expected)
    assert (first["delivered"], second["delivered"], len(receiver.seen)) == (1, 0, 1)


def test_wrong_stale_and_missing_signatures() -> None:
    good = signature_headers(b"{}", "good", SECRETS, NOW)
    wrong = signature_headers(b"{}", "wrong", SECRETS, NOW)
    stale = signature_headers(b"{}", "stale", SECRETS, NOW)

    assert wrong["x-nabla-webhook-timestamp"] == good["x-nabla-webhook-timestamp"]
    assert wrong["x-nabla-webhook-signature"] not in good["x-nabla-webhook-signature"]
    assert stale["x-nabla-webhook-timestamp"] == "2026-03-21T09:00:00.000Z"
    assert signature_headers(b"{}", "none", SECRETS, NOW) == signature_headers(b"{}", "good", (), NOW) == {}


def test_a_receiver_that_is_down_is_tried_again_and_in_the_end_no_more(
    make: Callable[..., Outbox], receiver: Receiver
) -> None:
    stats = Stats()
    outbox = make(stats=stats, attempts=3)
    receiver.status = 503
    outbox.put("nabla", receiver.url, 1, subject="a", signature="good")
    outbox.put("audioscribe", receiver.url, 2, subject="b", attempts=1)
    outbox.put("nabla", receiver.url, 3, subject="c", signature="wrong")

    for _ in range(2):
        outbox.deliver()
    outbox.put("nabla", receiver.url, 4, subject="d", signature="good")
    receiver.status = 201
    outbox.deliver()
    outbox.deliver()

    assert receiver.bodies == [1, 2, 3, 1, 1, 4]
    assert stats.pushes == {
        "nabla good refused": 2,
        "audioscribe none given_up": 1,
        "nabla wrong given_up": 1,
        "nabla good delivered": 2,
    }
    assert outbox.waiting() == 0


def test_nobody_listens(make: Callable[..., Outbox]) -> None:
    outbox = make(attempts=2)
    outbox.put("nabla", "http://127.0.0.1:9/", 1, subject="a")

    assert (outbox.deliver()["refused"], outbox.deliver()["given_up"], outbox.waiting()) == (1, 1, 0)


@pytest.mark.parametrize("url", ["https://hospital.example/callbacks", "http://10.0.0.1/", "http://[::2]/", "nonsense"])
def test_other_machines_are_never_called(
    make: Callable[..., Outbox], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("it was called")

    monkeypatch.setattr("httpx.Client.post", refuse)
    outbox = make(attempts=1)
    outbox.put("nabla", url, 1, subject="a")

    assert outbox.deliver()["given_up"] == 1


def test_late_ones_wait_and_one_subject_can_go_first(make: Callable[..., Outbox], receiver: Receiver) -> None:
    outbox = make()
    outbox.put("nabla", receiver.url, "late", subject="a", delay=2)
    outbox.put("nabla", receiver.url, "other", subject="b")
    outbox.put("nabla", receiver.url, "first", subject="c")

    outbox.deliver("c")
    counts = [outbox.deliver() for _ in range(3)]

    assert receiver.bodies == ["first", "other", "late"]
    assert [count["later"] for count in counts] == [1, 1, 0]


def test_the_order_can_be_turned_round(make: Callable[..., Outbox], receiver: Receiver) -> None:
    outbox = make(newest_first=True)
    for n in range(12):
        outbox.put("nabla", receiver.url, n, subject="a")

    outbox.deliver()

    assert receiver.bodies == list(range(11, -1, -1))


def test_the_end_does_not_wait_for_everything(make: Callable[..., Outbox], receiver: Receiver) -> None:
    outbox = make()
    for n in range(20):
        outbox.put("nabla", receiver.url, n, subject="a")
    ending: list[threading.Thread] = []

    def end_it() -> None:
        ending.append(threading.Thread(target=outbox.close))
        ending[-1].start()

    receiver.on_request = end_it

    outbox.deliver()
    for thread in ending:
        thread.join(5)

    assert 1 <= len(receiver.bodies) < 20
    assert outbox.waiting() == 20 - len(receiver.bodies)


def test_what_waits_outlives_a_restart(make: Callable[..., Outbox], receiver: Receiver, tmp_path: Path) -> None:
    state = State(tmp_path / "state.sqlite")
    outbox = make(state)
    outbox.put("nabla", receiver.url, "sent", subject="a")
    outbox.deliver()
    outbox.put("nabla", receiver.url, "waiting", subject="a")
    state.close()

    state = State(tmp_path / "state.sqlite")
    make(state).deliver()
    state.close()

    assert receiver.bodies == ["sent", "waiting"]
