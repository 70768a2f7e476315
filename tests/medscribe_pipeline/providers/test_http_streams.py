"""Bodies given in pieces, what a broken one does, and the answers that `Unsettled` carries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.errors import MedscribeError, Retriable
from medscribe_pipeline.providers.http import Unsettled
from tests.medscribe_pipeline.providers.scripted_server import Hangup, Reply, unused_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.medscribe_pipeline.providers.scripted_server import ClientMaker, FakeClock, ScriptedServer

HEADERS = {"Content-Type": "text/plain", "Content-Length": "9"}


def pieces() -> Iterator[bytes]:
    yield b"abc"
    yield b"def"
    yield b"ghi"


def test_a_body_in_pieces_arrives_whole_with_its_length(server: ScriptedServer, make_client: ClientMaker) -> None:
    answer = make_client().request("POST", "/", content=pieces, headers=HEADERS, repeat=False)

    assert answer.status == 200
    (seen,) = server.seen
    assert seen.body == b"abcdefghi"
    assert (seen.headers["content-length"], seen.headers["content-type"]) == ("9", "text/plain")
    assert "transfer-encoding" not in seen.headers


def test_a_body_that_is_sent_again_begins_again(server: ScriptedServer, make_client: ClientMaker) -> None:
    server.reply(Reply(503), Reply(307, headers={"Location": "/there"}), Reply())

    make_client().request("POST", "/", content=pieces, headers=HEADERS, repeat=True)

    assert [seen.body for seen in server.seen] == [b"abcdefghi"] * 3


def test_what_a_body_raises_reaches_the_caller_and_the_next_request_is_none_the_worse(
    server: ScriptedServer, make_client: ClientMaker
) -> None:
    def broken() -> Iterator[bytes]:
        yield b"abc"
        raise MedscribeError("changed", code="changed")

    client = make_client(connections=1)

    with pytest.raises(MedscribeError) as caught:
        client.request("POST", "/", content=broken, headers=HEADERS, repeat=False)
    answer = client.request("POST", "/", content=pieces, headers=HEADERS, repeat=False)

    assert caught.value.code == "changed"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert answer.status == 200
    assert [seen.body for seen in server.seen if len(seen.body) == 9] == [b"abcdefghi"]


def test_a_request_that_never_left_is_tried_again_with_a_fresh_body(make_client: ClientMaker, clock: FakeClock) -> None:
    begun = 0

    def counted() -> Iterator[bytes]:
        nonlocal begun
        begun += 1
        return pieces()

    with unused_port() as port, pytest.raises(Retriable) as caught:
        make_client(base=f"http://127.0.0.1:{port}", max_attempts=3).request(
            "POST", "/", content=counted, headers=HEADERS, repeat=False
        )

    assert not isinstance(caught.value, Unsettled)
    assert (begun, len(clock.slept)) == (3, 2)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_unsettled_carries_the_answer_it_was_judged_by(
    server: ScriptedServer, make_client: ClientMaker, status: int
) -> None:
    server.reply(Reply(status, b'{"data": {"file_id": "f-1"}}', headers={"Retry-After": "1"}))

    with pytest.raises(Unsettled) as caught:
        make_client().request("POST", "/", content=pieces, headers=HEADERS, repeat=False)

    assert caught.value.answer is not None
    assert caught.value.answer.body == {"data": {"file_id": "f-1"}}
    assert "f-1" not in repr(caught.value.answer)
    assert len(server.seen) == 1


def test_unsettled_without_an_answer_has_none(server: ScriptedServer, make_client: ClientMaker) -> None:
    server.reply(Hangup())

    with pytest.raises(Unsettled) as caught:
        make_client().request("POST", "/", content=pieces, headers=HEADERS, repeat=False)

    assert caught.value.answer is None
