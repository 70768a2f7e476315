"""No error, log or traceback of the client holds a URL, a header, a body or a token."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.providers.http import BearerToken
from tests.medscribe_pipeline.providers.scripted_server import Hangup, Reply, unused_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.medscribe_pipeline.providers.scripted_server import ClientMaker, ScriptedServer

CANARY = "Testa-CANARY-Patient"


def _everything_printed(error: BaseException) -> str:
    """What a log, a terminal or a bug tracker could show of an error, along all its links."""
    parts: list[str] = []
    link: BaseException | None = error
    while link is not None:
        parts += [str(link), repr(link), repr(link.args), *traceback.format_exception(link)]
        link = link.__cause__ or link.__context__
    return "\n".join(parts)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(400, body=b'{"detail": "%s"}' % CANARY.encode()),
        Reply(401, body=CANARY.encode()),
        Reply(404, body=CANARY.encode()),
        Reply(429, body=CANARY.encode(), headers={"Retry-After": CANARY}),
        Reply(429, body=CANARY.encode(), headers={"Retry-After": "900"}),
        Reply(500, body=CANARY.encode()),
        Reply(200, body=CANARY.encode()),
        Reply(200, body=b'{"name": "%s"' % CANARY.encode()),
        Reply(200, body=b'"%s"' % CANARY.encode() * 90),
        Reply(200, body=CANARY.encode(), headers={"Content-Encoding": "gzip"}),
        Reply(302, headers={"Location": f"http://example.org/{CANARY}"}),
        Reply(200, body=CANARY.encode(), cut_after=3),
        Reply(200, headers={"Transfer-Encoding": "chunked"}, body=CANARY.encode() + b"\r\n"),
        Hangup(),
    ],
)
@pytest.mark.parametrize("repeat", [True, False])
def test_no_error_or_log_holds_url_header_body_or_token(
    server: ScriptedServer,
    make_client: ClientMaker,
    caplog: pytest.LogCaptureFixture,
    reply: Reply | Hangup,
    *,
    repeat: bool,
) -> None:
    caplog.set_level(logging.DEBUG)
    server.reply(reply)
    client = make_client(auth=BearerToken(f"{CANARY}-token"), max_attempts=2, max_body_bytes=1000)

    with pytest.raises(MedscribeError) as caught:
        client.request(
            "POST", f"/{CANARY}", params=[("name", CANARY)], json={"n": CANARY}, headers={"X": CANARY}, repeat=repeat
        )

    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert CANARY not in _everything_printed(caught.value)
    assert CANARY not in caplog.text
    assert "127.0.0.1" not in caplog.text


def _refused_port(make_client: ClientMaker) -> None:
    with unused_port() as port:
        make_client(base=f"http://127.0.0.1:{port}/{CANARY}").get_json(f"/{CANARY}")


def _illegal_header(make_client: ClientMaker) -> None:
    make_client().request("GET", "/", headers={"X": f"{CANARY}\n{CANARY}"}, repeat=True)


def _illegal_header_text(make_client: ClientMaker) -> None:
    make_client().request("GET", "/", headers={"X": f"{CANARY} é \ud800"}, repeat=True)


def _no_url(make_client: ClientMaker) -> None:
    make_client(base=f"http://127.0.0.1:{CANARY}")


def _not_http(make_client: ClientMaker) -> None:
    make_client(base=f"ftp://{CANARY}.invalid").get_json("/")


def _plain_server_spoken_tls_to(make_client: ClientMaker) -> None:
    make_client(base=make_client.url.replace("http:", "https:") + f"/{CANARY}").get_json("/")


@pytest.mark.parametrize(
    ("provoke", "code"),
    [
        (_refused_port, "unreachable"),
        (_illegal_header, "request"),
        (_illegal_header_text, "request"),
        (_no_url, "base_url"),
        (_not_http, "request"),
        (_plain_server_spoken_tls_to, "unreachable"),
    ],
)
def test_no_error_before_the_answer_leaks_either(
    make_client: ClientMaker, provoke: Callable[[Any], None], code: str
) -> None:
    with pytest.raises(MedscribeError) as caught:
        provoke(make_client)

    assert caught.value.code == code
    assert caught.value.__context__ is None
    assert CANARY not in _everything_printed(caught.value)


def test_the_libraries_below_are_told_to_be_quiet(make_client: ClientMaker) -> None:
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.DEBUG)

    make_client()

    assert [logging.getLogger(name).level for name in ("httpx", "httpcore")] == [logging.WARNING] * 2
