"""Requests as whoever watches sees them: client, route, status and attempt, in the span they were made for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medscribe_pipeline.watching import Pool, working
from tests.collector import hearing
from tests.medscribe_pipeline.providers.scripted_server import Hangup, Reply

if TYPE_CHECKING:
    from tests.medscribe_pipeline.providers.scripted_server import ClientMaker, ScriptedServer

CANARY = "zzmark-1"


def test_each_try_is_a_span_and_is_timed(server: ScriptedServer, make_client: ClientMaker) -> None:
    server.reply(Reply(503, body=CANARY.encode()), Hangup(), Reply(200, body=b"{}"))

    with hearing(codes={"server_error"}) as heard, working("medscribe.pull", provider="askara"), Pool(1) as pool:
        client = make_client(max_attempts=3)
        pool.submit(client.get_json, f"/audios/{CANARY}", [("name", CANARY)]).result()
        points = heard.points()

    tries = heard.spans("medscribe.request")
    told = [dict(span.attributes or {}) for span in tries]
    assert [(each.get("medscribe.attempt"), each.get("medscribe.status")) for each in told] == [
        (1, 503),
        (2, None),
        (3, 200),
    ]
    assert {each["medscribe.route"] for each in told} == {"/audios/{}"}
    (pull,) = heard.spans("medscribe.pull")
    assert {span.parent.span_id for span in tries if span.parent} == {pull.context.span_id}
    durations = points["medscribe.request.duration"]
    assert {dict(labels)["medscribe.status"]: count for labels, count in durations.items()} == {
        "5xx": 1,
        "none": 1,
        "2xx": 1,
    }
    codes = {dict(labels)["medscribe.code"] for labels in points["medscribe.retries"]}
    assert codes == {"server_error", "other"}
    assert CANARY not in "".join(heard.texts())
    assert "127.0.0.1" not in "".join(heard.texts())
