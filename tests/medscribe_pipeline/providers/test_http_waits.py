"""How the client waits: its own jitter, what the server asks for, and what ends a wait."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.errors import Deferred, Retriable
from medscribe_pipeline.providers.http import HttpClient
from tests.medscribe_pipeline.providers.scripted_server import START, Reply, http_settings

if TYPE_CHECKING:
    from tests.medscribe_pipeline.providers.scripted_server import ClientMaker, FakeClock, ScriptedServer

EPOCH = int(START.timestamp())


def test_retry_after_as_a_date_is_counted_by_the_servers_clock(
    server: ScriptedServer, make_client: ClientMaker, clock: FakeClock
) -> None:
    throttled = Reply(
        429, headers={"Retry-After": "Tue, 01 Jan 2030 00:00:09 GMT"}, date="Tue, 01 Jan 2030 00:00:00 GMT"
    )
    server.reply(throttled, Reply())

    make_client().get_json("/")

    assert clock.waits == [9]


@pytest.mark.parametrize("value", ["-5", "NaN", "soon", "", "0", "Mon, 02 Mar 2020 09:00:00 GMT"])
def test_a_senseless_retry_after_leaves_the_wait_to_us(
    server: ScriptedServer, make_client: ClientMaker, clock: FakeClock, value: str
) -> None:
    server.reply(Reply(429, headers={"Retry-After": value}), Reply(429, headers={"Retry-After": value}), Reply())

    make_client().get_json("/")

    assert clock.waits == [0.5, 1]


@pytest.mark.parametrize(("value", "wait_s"), [("61", 61), ("99999999999999999", 86_400)])
@pytest.mark.parametrize("status", [429, 503])
def test_a_longer_wait_than_ours_defers_at_once(
    server: ScriptedServer, make_client: ClientMaker, clock: FakeClock, status: int, value: str, wait_s: int
) -> None:
    server.reply(Reply(status, headers={"Retry-After": value}))
    client = make_client(max_wait_s=60)

    with pytest.raises(Deferred) as caught:
        client.get_json("/")
    with pytest.raises(Deferred):
        client.get_json("/another")

    assert caught.value.until == START + timedelta(seconds=wait_s)
    assert len(server.seen) == 1
    assert clock.slept == []


def test_a_server_that_throttles_for_ever_ends_the_tries(server: ScriptedServer, make_client: ClientMaker) -> None:
    server.reply(Reply(429, headers={"Retry-After": "1"}))
    client = make_client(max_attempts=3)

    with pytest.raises(Retriable) as caught:
        client.get_json("/")

    assert (caught.value.code, caught.value.status) == ("throttled", 429)
    assert (len(server.seen), client.stats.throttled) == (3, 3)


def test_a_429_to_one_thread_slows_the_others(
    server: ScriptedServer, make_client: ClientMaker, clock: FakeClock
) -> None:
    server.reply(Reply(429, headers={"Retry-After": "30"}), Reply())
    client = make_client(max_attempts=1)
    with pytest.raises(Retriable):
        client.get_json("/first")

    with ThreadPoolExecutor(1) as other:
        other.submit(client.get_json, "/second").result(5)

    assert clock.waits == [30]


def test_a_spent_budget_is_waited_out_before_the_next_request(
    server: ScriptedServer, make_client: ClientMaker, clock: FakeClock
) -> None:
    spent = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(EPOCH + 20)}
    server.reply(Reply(headers=spent), Reply())
    client = make_client()

    client.get_json("/")
    assert clock.slept == []
    client.get_json("/")

    assert clock.waits == [20]


def test_a_budget_spent_for_longer_than_we_wait_keeps_the_answer_and_defers_the_next(
    server: ScriptedServer, make_client: ClientMaker
) -> None:
    spent = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(EPOCH + 900)}
    server.reply(Reply(body=b"[1]", headers=spent))
    client = make_client()

    assert client.get_json("/").body == [1]
    with pytest.raises(Deferred) as caught:
        client.get_json("/")

    assert caught.value.until == START + timedelta(seconds=900)
    assert len(server.seen) == 1


def test_an_absurd_reset_is_ignored(server: ScriptedServer, make_client: ClientMaker, clock: FakeClock) -> None:
    server.reply(Reply(headers={"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(EPOCH * 1000)}))
    client = make_client()

    client.get_json("/")
    client.get_json("/")

    assert clock.slept == []


def test_stop_ends_a_real_wait_at_once(server: ScriptedServer) -> None:
    stop = threading.Event()
    server.reply(Reply(429, headers={"Retry-After": "50"}))
    with HttpClient("clinic", server.url, http_settings(), stop=stop) as client, ThreadPoolExecutor(1) as pool:
        started = time.monotonic()
        waiting = pool.submit(client.get_json, "/")
        threading.Timer(0.2, stop.set).start()

        with pytest.raises(Retriable) as caught:
            waiting.result(20)

    assert caught.value.code == "stopped"
    assert time.monotonic() - started < 10


def test_stop_is_heard_between_tries_with_any_sleep(server: ScriptedServer, make_client: ClientMaker) -> None:
    stop = threading.Event()
    server.reply(Reply(500, before=stop.set))

    with pytest.raises(Retriable) as caught:
        make_client(stop=stop).get_json("/")

    assert caught.value.code == "stopped"
    assert len(server.seen) == 1
