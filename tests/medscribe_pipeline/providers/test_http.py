"""What the client sends, and how often, counted by a real server."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline import __version__
from medscribe_pipeline.errors import ProviderContractError, Retriable
from medscribe_pipeline.providers.http import BearerToken, Unsettled
from tests.medscribe_pipeline.providers.scripted_server import START, Hangup, Reply, unused_port

if TYPE_CHECKING:
    from tests.medscribe_pipeline.providers.scripted_server import ClientMaker, FakeClock, ScriptedServer


def test_a_read_is_sent_as_asked_with_our_own_name(server: ScriptedServer, make_client: ClientMaker) -> None:
    server.reply(Reply(body=b'[{"id": 1}]', date="Mon, 02 Mar 2026 08:59:58 GMT"))
    client = make_client(auth=BearerToken("secret"))

    answer = client.get_json("/audios", [("updatedAt[gte]", "2026-01-01T00:00:00+00:00"), ("tag", "a"), ("tag", "b")])

    (seen,) = server.seen
    assert (seen.method, seen.body) == ("GET", b"")
    assert seen.path == "/audios?updatedAt%5Bgte%5D=2026-01-01T00%3A00%3A00%2B00%3A00&tag=a&tag=b"
    assert seen.headers["user-agent"] == f"medscribe-pipeline/{__version__}"
    assert seen.headers["accept"] == "application/json"
    assert seen.headers["authorization"] == "Bearer secret"
    assert (answer.status, answer.body, answer.sent_at) == (200, [{"id": 1}], START)
    assert answer.server_time == datetime(2026, 3, 2, 8, 59, 58, tzinfo=UTC)


@pytest.mark.parametrize(
    ("prefix", "path", "expected"),
    [
        ("", "/audios", "/audios"),
        ("/askara", "/audios", "/askara/audios"),
        ("/askara/", "audios", "/askara/audios"),
        ("/askara", "/sessions/7/", "/askara/sessions/7/"),
        ("/fhir", "", "/fhir"),
        ("/fhir", "/", "/fhir/"),
        ("/fhir", "//example.org/x", "/fhir/example.org/x"),
        ("/fhir", "http://example.org/x", "/fhir/http://example.org/x"),
        ("/fhir", "/Patient/a%2Fb", "/fhir/Patient/a%2Fb"),
    ],
)
def test_paths_go_behind_the_base_url(
    server: ScriptedServer, make_client: ClientMaker, prefix: str, path: str, expected: str
) -> None:
    make_client(base=server.url + prefix).get_json(path)

    assert server.seen[0].path == expected


@pytest.mark.parametrize(
    "path", ["/notes/../users", "/notes/..", "/notes/x?all=1", "/notes/x#y", "/notes/..\\x", "/\x00"]
)
def test_a_path_that_would_lead_elsewhere_is_not_sent(
    server: ScriptedServer, make_client: ClientMaker, path: str
) -> None:
    with pytest.raises(ProviderContractError) as caught:
        make_client().get_json(path)

    assert caught.value.code == "path"
    assert server.seen == []


def test_a_body_goes_out_as_json_or_as_the_bytes_it_is(server: ScriptedServer, make_client: ClientMaker) -> None:
    client = make_client()
    fhir = {"Content-Type": "application/fhir+json", "If-None-Exist": "identifier=x"}

    client.request("POST", "/a", json={"é": [1]}, repeat=False)
    client.request("POST", "/b", json=b'{"raw":1}', headers=fhir, repeat=False)
    client.request("GET", "/c", repeat=True)

    first, second, third = server.seen
    assert (first.body, first.headers["content-type"]) == ('{"é":[1]}'.encode(), "application/json")
    assert (second.body, second.headers["content-type"]) == (b'{"raw":1}', "application/fhir+json")
    assert second.headers["if-none-exist"] == "identifier=x"
    assert "content-type" not in third.headers


def test_an_environment_proxy_is_not_asked_for_a_loopback_server(
    server: ScriptedServer, make_client: ClientMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with unused_port() as port:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)

        assert make_client(max_attempts=1).get_json("/").status == 200

    assert len(server.seen) == 1


def test_a_read_is_tried_n_times_with_waits_that_double(
    server: ScriptedServer, make_client: ClientMaker, clock: FakeClock
) -> None:
    server.reply(Reply(500))
    client = make_client(max_attempts=4, backoff_s=0.5)

    with pytest.raises(Retriable) as caught:
        client.get_json("/")

    assert (caught.value.code, caught.value.status) == ("server_error", 500)
    assert len(server.seen) == 4
    assert clock.waits == [0.5, 1, 2]
    assert (client.stats.requests, client.stats.retries, client.stats.waited_s) == (4, 3, 3.5)


def test_the_jitter_never_exceeds_the_longest_wait(
    server: ScriptedServer, make_client: ClientMaker, clock: FakeClock
) -> None:
    server.reply(Reply(500))

    with pytest.raises(Retriable):
        make_client(max_attempts=5, backoff_s=10, max_wait_s=15).get_json("/")

    assert clock.waits == [10, 15, 15, 15]


@pytest.mark.parametrize(
    "failure",
    [
        Reply(500),
        Reply(503),
        Reply(504),
        Reply(408),
        Reply(429, headers={"Retry-After": "1"}),
        Reply(503, headers={"Retry-After": "1"}),
        Hangup(),
        Reply(200, body=b'{"resourceType": "Bundle"}', cut_after=9),
        Reply(201, body=b"<html>accepted</html>"),
        Reply(200, body=b"not gzip", headers={"Content-Encoding": "gzip"}),
        Reply(200, body=b'"' + b"x" * 2000 + b'"'),
        Reply(303, headers={"Location": "/elsewhere"}),
    ],
)
def test_a_write_that_may_have_happened_is_sent_exactly_once(
    server: ScriptedServer, make_client: ClientMaker, failure: Reply | Hangup
) -> None:
    server.reply(failure, Reply(201))

    with pytest.raises(Unsettled):
        make_client(max_body_bytes=1000).request("POST", "/", json={}, repeat=False)

    assert [seen.method for seen in server.seen] == ["POST"]


@pytest.mark.parametrize("status", [429, 503])
def test_a_write_refused_for_now_is_sent_again_where_the_caller_vouches(
    server: ScriptedServer, make_client: ClientMaker, clock: FakeClock, status: int
) -> None:
    server.reply(Reply(status, headers={"Retry-After": "7"}), Reply(201, body=b""))
    client = make_client()

    answer = client.request("POST", "/", json={}, repeat=False, throttle_is_refusal=True)

    assert (answer.status, answer.body) == (201, None)
    assert len(server.seen) == 2
    assert clock.waits == [7]
    assert client.stats.throttled == 1


def test_a_vouched_write_is_still_sent_once_when_503_says_nothing(
    server: ScriptedServer, make_client: ClientMaker
) -> None:
    server.reply(Reply(503))

    with pytest.raises(Unsettled):
        make_client().request("POST", "/", json={}, repeat=False, throttle_is_refusal=True)

    assert len(server.seen) == 1


@pytest.mark.parametrize("repeat", [True, False])
def test_no_connection_is_tried_again_even_for_a_write_and_surely_unsent(
    make_client: ClientMaker, clock: FakeClock, *, repeat: bool
) -> None:
    with unused_port() as port:
        client = make_client(base=f"http://127.0.0.1:{port}", max_attempts=3)

        with pytest.raises(Retriable) as caught:
            client.request("POST", "/", json={}, repeat=repeat)

    assert (caught.value.code, type(caught.value)) == ("unreachable", Retriable)
    assert clock.waits == [0.5, 1]


def test_a_full_pool_is_no_lost_write(server: ScriptedServer, make_client: ClientMaker) -> None:
    entered, release = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        release.wait(10)

    server.reply(Reply(before=block), Reply(201))
    client = make_client(connections=1, max_attempts=2)
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(client.get_json, "/slow")
        assert entered.wait(5)
        # Only now: the request that holds the connection is to be waited for.
        client._lanes.timeout_s = 0.2

        with pytest.raises(Retriable) as caught:
            client.request("POST", "/", json={}, repeat=False)

        release.set()
        assert busy.result(5).status == 200

    assert (caught.value.code, type(caught.value)) == ("timeout", Retriable)
    assert [seen.method for seen in server.seen] == ["GET"]


def test_a_silent_server_times_out(server: ScriptedServer, make_client: ClientMaker) -> None:
    release = threading.Event()

    def block() -> None:
        release.wait(10)

    server.reply(Reply(before=block))

    with pytest.raises(Retriable) as caught:
        make_client(timeout_s=0.1, max_attempts=2).get_json("/")
    release.set()

    assert caught.value.code == "timeout"
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    "failure",
    [
        Reply(500),
        Hangup(),
        Reply(body=b'[{"id": 1}]', cut_after=4),
        Reply(body=b'[{"id": 1}, {"id'),
        Reply(body=b"not gzip", headers={"Content-Encoding": "gzip"}),
        Reply(429),
        Reply(408),
    ],
)
def test_a_read_survives_a_passing_fault(
    server: ScriptedServer, make_client: ClientMaker, failure: Reply | Hangup
) -> None:
    server.reply(failure, Reply(body=b"[1]"))

    assert make_client().get_json("/").body == [1]
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    ("failure", "code", "tries"),
    [
        (Reply(body=b"<html>"), "not_json", 3),
        (Reply(body=b"not gzip", headers={"Content-Encoding": "gzip"}), "undecodable", 3),
        (Reply(body=b'"' + b"x" * 2000 + b'"'), "body_too_large", 1),
    ],
)
def test_a_read_nobody_can_read_is_a_broken_contract(
    server: ScriptedServer, make_client: ClientMaker, failure: Reply, code: str, tries: int
) -> None:
    server.reply(failure)

    with pytest.raises(ProviderContractError) as caught:
        make_client(max_attempts=3, max_body_bytes=1000).get_json("/")

    assert caught.value.code == code
    assert len(server.seen) == tries


def test_threads_share_connections_and_never_break_each_others(
    server: ScriptedServer, make_client: ClientMaker
) -> None:
    server.reply(Reply(body=b"[1]"))
    client = make_client(connections=4, max_attempts=1)

    with ThreadPoolExecutor(8) as pool:
        bodies = [answer.body for answer in pool.map(client.get_json, ["/ok"] * 400)]

    assert bodies == [[1]] * 400
    assert (client.stats.requests, client.stats.bytes, client.stats.retries) == (400, 1200, 0)
    assert server.connections <= 4
