"""What the client makes of answers: credentials refused, refusals, redirects, bodies."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.errors import ConfigError, ProviderContractError, Retriable
from medscribe_pipeline.providers.http import BearerToken, CredentialsError, Refused
from tests.medscribe_pipeline.providers.scripted_server import Reply

if TYPE_CHECKING:
    from tests.medscribe_pipeline.providers.scripted_server import ClientMaker, ScriptedServer

CANARY = "Testa-CANARY-Patient"


class RotatingAuth:
    """Counts its renewals; gives another token after each, `limit` times."""

    def __init__(self, limit: int = 1) -> None:
        self.renewals = 0
        self._limit = limit

    def header(self) -> dict[str, str]:
        return {"Authorization": f"Bearer token-{self.renewals}"}

    def renew(self, stale: dict[str, str]) -> bool:
        if stale != self.header():
            return True
        if self.renewals == self._limit:
            return False
        self.renewals += 1
        return True


def test_one_renewal_cures_a_401_and_is_no_retry(server: ScriptedServer, make_client: ClientMaker) -> None:
    server.reply(Reply(401), Reply(201))
    auth = RotatingAuth()
    client = make_client(auth=auth, max_attempts=1)

    answer = client.request("POST", "/", json={"n": 1}, repeat=False)

    assert answer.status == 201
    assert [seen.headers["authorization"] for seen in server.seen] == ["Bearer token-0", "Bearer token-1"]
    assert [seen.json for seen in server.seen] == [{"n": 1}, {"n": 1}]
    assert client.stats.retries == 0


def test_a_request_renews_once_whatever_comes(server: ScriptedServer, make_client: ClientMaker) -> None:
    server.reply(Reply(401), Reply(500), Reply(401))
    auth = RotatingAuth(limit=9)

    with pytest.raises(CredentialsError) as caught:
        make_client(auth=auth).get_json("/")

    assert auth.renewals == 1
    assert len(server.seen) == 3
    assert caught.value.context == {"client": "clinic", "setting": "MEDSCRIBE_CLINIC_TOKEN"}


@pytest.mark.parametrize("status", [401, 403])
def test_a_fixed_token_that_is_refused_is_a_setting_to_change(
    server: ScriptedServer, make_client: ClientMaker, status: int
) -> None:
    server.reply(Reply(status, body=b""))

    with pytest.raises(ConfigError) as caught:
        make_client(auth=BearerToken("secret")).get_json("/")

    assert (caught.value.code, caught.value.status, caught.value.exit_code) == ("credentials", status, 2)
    assert "MEDSCRIBE_CLINIC_TOKEN" in str(caught.value)
    assert len(server.seen) == 1


def test_an_error_of_the_credentials_passes_through_untouched(server: ScriptedServer, make_client: ClientMaker) -> None:
    class Broken(RotatingAuth):
        def header(self) -> dict[str, str]:
            raise Retriable("The token endpoint is away.", code="timeout")

    with pytest.raises(Retriable) as caught:
        make_client(auth=Broken()).request("POST", "/", json={}, repeat=False)

    assert type(caught.value) is Retriable
    assert server.seen == []


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "naïve", "tab\t"])
def test_what_can_be_no_token_is_refused_before_it_is_sent(token: str) -> None:
    with pytest.raises(ConfigError) as caught:
        BearerToken(token, "MEDSCRIBE_CLINIC_TOKEN")

    assert caught.value.context == {"setting": "MEDSCRIBE_CLINIC_TOKEN"}
    assert not token or token not in str(caught.value)


def test_a_refusal_carries_the_parsed_body_out_of_sight(server: ScriptedServer, make_client: ClientMaker) -> None:
    outcome = {"resourceType": "OperationOutcome", "issue": [{"diagnostics": CANARY}]}
    server.reply(
        Reply(422, body=b'{"resourceType":"OperationOutcome","issue":[{"diagnostics":"%s"}]}' % CANARY.encode())
    )

    with pytest.raises(Refused) as caught:
        make_client().request("POST", "/", json={}, repeat=False)

    assert caught.value.answer.body == outcome
    assert (caught.value.status, caught.value.code) == (422, "rejected")
    assert CANARY not in f"{caught.value} {caught.value!r} {caught.value.answer!r} {caught.value.context}"


def test_not_found_is_a_refusal_of_its_own(server: ScriptedServer, make_client: ClientMaker) -> None:
    server.reply(Reply(404, body=b"<html>no such page</html>"))

    with pytest.raises(Refused) as caught:
        make_client().get_json("/sessions/", [("page", "9")])

    assert (caught.value.code, caught.value.status, caught.value.answer.body) == ("not_found", 404, None)


def test_a_status_says_enough_when_its_body_is_broken_or_endless(
    server: ScriptedServer, make_client: ClientMaker
) -> None:
    server.reply(Reply(409, body=b"x" * 5000), Reply(409, body=b"xyz", cut_after=1))
    client = make_client(max_body_bytes=1000)

    for _ in range(2):
        with pytest.raises(Refused) as caught:
            client.request("POST", "/", json={}, repeat=False)
        assert (caught.value.status, caught.value.answer.body) == (409, None)


@pytest.mark.parametrize("location", ["/new?page=2", "http://{host}/new?page=2"])
def test_a_redirect_on_the_same_host_is_followed(
    server: ScriptedServer, make_client: ClientMaker, location: str
) -> None:
    location = location.format(host=server.url.removeprefix("http://"))
    server.reply(Reply(301, headers={"Location": location}), Reply(body=b"[2]"))

    answer = make_client(auth=BearerToken("secret")).get_json("/old")

    assert answer.body == [2]
    assert [seen.path for seen in server.seen] == ["/old", "/new?page=2"]
    assert server.seen[1].headers["authorization"] == "Bearer secret"


def test_a_write_is_moved_only_by_a_redirect_that_keeps_it_a_write(
    server: ScriptedServer, make_client: ClientMaker
) -> None:
    server.reply(Reply(308, headers={"Location": "/new"}), Reply(201))

    make_client().request("POST", "/old", json={"n": 1}, repeat=False)

    assert [(seen.method, seen.path, seen.json) for seen in server.seen] == [
        ("POST", "/old", {"n": 1}),
        ("POST", "/new", {"n": 1}),
    ]


@pytest.mark.parametrize(
    "location",
    [
        "http://localhost:{port}/x",
        "https://127.0.0.1:{port}/x",
        "http://127.0.0.1:1/x",
        "//example.org/x",
        "http://user:pw@127.0.0.1:{port}/x",
        "http://[broken",
        "",
    ],
)
def test_a_redirect_to_anywhere_else_is_not_followed(
    server: ScriptedServer, make_client: ClientMaker, location: str
) -> None:
    server.reply(Reply(302, headers={"Location": location.format(port=server.url.rpartition(":")[2])}))

    with pytest.raises(ProviderContractError) as caught:
        make_client(auth=BearerToken("secret")).get_json("/old")

    assert (caught.value.code, caught.value.status) == ("redirect", 302)
    assert len(server.seen) == 1


def test_a_circle_of_redirects_ends(server: ScriptedServer, make_client: ClientMaker) -> None:
    server.reply(Reply(302, headers={"Location": "/again"}))

    with pytest.raises(ProviderContractError):
        make_client().get_json("/")

    assert len(server.seen) == 4


def test_a_compressed_bomb_is_measured_unpacked(server: ScriptedServer, make_client: ClientMaker) -> None:
    packed = gzip.compress(b" " * 5_000_000)
    server.reply(Reply(body=packed, headers={"Content-Encoding": "gzip"}))

    with pytest.raises(ProviderContractError) as caught:
        make_client(max_body_bytes=100_000).get_json("/")

    assert len(packed) < 100_000
    assert caught.value.code == "body_too_large"


def test_a_body_of_exactly_the_ceiling_is_read(server: ScriptedServer, make_client: ClientMaker) -> None:
    server.reply(Reply(body=b'"' + b"x" * 998 + b'"'))
    client = make_client(max_body_bytes=1000)

    assert len(client.get_json("/").body) == 998
    assert client.stats.bytes == 1000


def test_one_bad_record_does_not_spoil_its_page(server: ScriptedServer, make_client: ClientMaker) -> None:
    server.reply(Reply(body=b'[{"note": "ok"}, {"note": "cut \\ud83d", "score": NaN}]'))

    assert make_client().get_json("/").body == [{"note": "ok"}, {"note": "cut \ufffd", "score": None}]
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [200, 201, 204, 304])
def test_an_empty_body_is_none(server: ScriptedServer, make_client: ClientMaker, status: int) -> None:
    server.reply(Reply(status, body=b""))

    answer = make_client().request("GET", "/", headers={"If-None-Match": 'W/"1"'}, repeat=True)

    assert (answer.status, answer.body) == (status, None)
