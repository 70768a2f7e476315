"""Connections by httpx's own transport: they say the same as a client of httpx, and are kept or closed like its own."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import httpx
import pytest

from medscribe_pipeline.providers.straight import StraightLane
from medscribe_pipeline.providers.transport import Lanes
from medscribe_pipeline.settings import HttpSettings
from tests.medscribe_pipeline.providers.scripted_server import Hangup, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.medscribe_pipeline.providers.scripted_server import ScriptedServer

DEFAULTS = {"Accept": "application/json", "Accept-Encoding": "gzip, deflate", "User-Agent": "clinic/1"}


@pytest.fixture
def lane() -> Iterator[StraightLane]:
    opened = StraightLane(DEFAULTS, timeout=httpx.Timeout(5), http2=False, trust=ssl.create_default_context())
    yield opened
    opened.close()


def ask(
    lane: StraightLane | httpx.Client,
    url: httpx.URL,
    content: bytes | Iterator[bytes] | None = b"{}",
    headers: dict[str, str] | None = None,
    method: str = "POST",
) -> bytes:
    with lane.stream(method, url, headers=headers or {}, content=content) as answer:
        return b"".join(answer.iter_bytes())


@pytest.mark.parametrize(
    ("method", "content", "headers"),
    [
        ("POST", b'{"a":1}', {"Content-Type": "application/fhir+json", "accept": "application/fhir+json"}),
        ("POST", b'{"a":1}', {"If-None-Exist": "identifier=a%7Cb", "Authorization": "Bearer x"}),
        ("POST", b"", {}),
        ("POST", None, {}),
        ("GET", None, {"Cache-Control": "no-cache"}),
    ],
)
def test_it_sends_what_a_client_of_httpx_sends(
    server: ScriptedServer, lane: StraightLane, method: str, content: bytes | None, headers: dict[str, str]
) -> None:
    url = httpx.URL(f"{server.url}/fhir?a=b")
    server.responder = lambda _: Reply()
    with httpx.Client(headers=DEFAULTS) as client:
        for each in (lane, lane, client):
            ask(each, url, content, headers, method)

    first, again, by_client = ((seen.method, seen.path, seen.headers, seen.body) for seen in server.seen)
    assert first == again == by_client


def test_one_connection_serves_request_after_request(server: ScriptedServer, lane: StraightLane) -> None:
    url = httpx.URL(f"{server.url}/fhir")

    for number in range(3):
        ask(lane, url, headers={"If-Match": f'W/"{number}"'})

    assert server.connections == 1
    assert [seen.headers["if-match"] for seen in server.seen] == ['W/"0"', 'W/"1"', 'W/"2"']


def test_a_broken_connection_is_replaced(server: ScriptedServer, lane: StraightLane) -> None:
    url = httpx.URL(f"{server.url}/fhir")
    server.reply(Reply(), Hangup(), Reply())

    ask(lane, url)
    with pytest.raises(httpx.RemoteProtocolError):
        ask(lane, url)
    ask(lane, url)

    assert server.connections == 2


def test_a_body_left_unread_closes_the_connection(server: ScriptedServer, lane: StraightLane) -> None:
    url = httpx.URL(f"{server.url}/fhir")
    server.reply(Reply(body=b"x" * 1_000_000), Reply())

    with lane.stream("POST", url, headers={}, content=b"{}") as answer:
        assert answer.status_code == 200
    ask(lane, url)

    assert server.connections == 2


def test_cookies_go_back_to_where_they_came_from(server: ScriptedServer, lane: StraightLane) -> None:
    server.reply(Reply(headers={"Set-Cookie": "balancer=7; Path=/fhir"}), Reply())

    for path in ("/fhir", "/fhir/Composition", "/elsewhere"):
        ask(lane, httpx.URL(f"{server.url}{path}"))

    assert [seen.headers.get("cookie") for seen in server.seen] == [None, "balancer=7", None]


def test_a_header_that_would_be_two_is_not_sent(server: ScriptedServer, lane: StraightLane) -> None:
    with pytest.raises(httpx.LocalProtocolError):
        ask(lane, httpx.URL(f"{server.url}/fhir"), headers={"If-None-Exist": "a\r\nb: c"})

    assert server.seen == []


@pytest.mark.parametrize(
    ("base_url", "proxy", "straight"),
    [
        ("https://ehr.example.org/fhir", "", True),
        ("https://ehr.example.org/fhir", "http://127.0.0.1:9", False),
        ("http://127.0.0.1:8080/fhir", "http://127.0.0.1:9", True),
        ("https://someone:secret@ehr.example.org/fhir", "", False),
    ],
)
def test_proxies_and_logins_in_urls_are_left_to_a_client_of_httpx(
    monkeypatch: pytest.MonkeyPatch, base_url: str, proxy: str, straight: bool
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    if proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
    lanes = Lanes("ehr", base_url, HttpSettings(connections=1))

    with lanes.borrow() as opened:
        assert isinstance(opened, StraightLane if straight else httpx.Client)
    lanes.close()
