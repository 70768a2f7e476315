"""Single-use refresh tokens when the token endpoint or the store fails."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.errors import ConfigError, ProviderContractError, Retriable
from medscribe_pipeline.providers.oauth import RefreshTokenAuth
from medscribe_pipeline.settings import AskaraSettings
from tests.medscribe_pipeline.providers.scripted_server import Hangup, Reply, unused_port

if TYPE_CHECKING:
    from tests.medscribe_pipeline.providers.scripted_server import FakeClock, ScriptedServer, Seen
from tests.medscribe_pipeline.providers.scripted_oauth import AuthMaker, FileStore, TokenServer, bearer


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Hangup(), "disconnected"),
        (Reply(500), "server_error"),
        (Reply(502, body=b"<html>"), "server_error"),
        (Reply(200, body=b'{"access_token": "a"}', cut_after=5), "disconnected"),
        (Reply(200, body=b"<html>"), "not_json"),
    ],
)
def test_an_unclear_answer_is_not_followed_by_a_second_try_of_ours(
    server: ScriptedServer, store: FileStore, make_auth: AuthMaker, failure: Reply | Hangup, code: str
) -> None:
    server.reply(failure)
    auth = make_auth()

    with pytest.raises(Retriable) as caught:
        auth.header()

    assert (type(caught.value), caught.value.code) == (Retriable, code)
    assert caught.value.__context__ is None
    assert len(server.seen) == 1
    assert store.load() is None


def test_after_an_unclear_answer_the_same_token_is_tried_again_and_may_be_good(
    server: ScriptedServer, make_auth: AuthMaker
) -> None:
    server.reply(Reply(500))
    auth = make_auth()
    with pytest.raises(Retriable):
        auth.header()
    TokenServer(server)

    assert auth.header() == bearer("access-1")
    assert [seen.json["refresh_token"] for seen in server.seen] == ["first", "first"]


def test_a_token_that_was_spent_by_an_unclear_answer_needs_a_person(
    server: ScriptedServer, make_auth: AuthMaker
) -> None:
    tokens = TokenServer(server)
    answer = tokens.answer

    def spend_and_hang_up(seen: Seen) -> Hangup:
        answer(seen)
        return Hangup()

    server.responder = spend_and_hang_up
    auth = make_auth()
    with pytest.raises(Retriable):
        auth.header()
    server.responder = answer

    with pytest.raises(ConfigError) as caught:
        auth.header()

    assert (caught.value.code, caught.value.status) == ("reauthorise", 400)
    assert "MEDSCRIBE_ASKARA_REFRESH_TOKEN" in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "code", "setting"),
    [
        (Reply(400, body=b'{"error": "invalid_grant"}'), "reauthorise", "MEDSCRIBE_ASKARA_REFRESH_TOKEN"),
        (Reply(401, body=b'{"error": "invalid_grant"}'), "reauthorise", "MEDSCRIBE_ASKARA_REFRESH_TOKEN"),
        (Reply(401, body=b""), "reauthorise", "MEDSCRIBE_ASKARA_REFRESH_TOKEN"),
        (Reply(400, body=b"[1]"), "reauthorise", "MEDSCRIBE_ASKARA_REFRESH_TOKEN"),
        (Reply(401, body=b'{"error": "invalid_client"}'), "credentials", "MEDSCRIBE_ASKARA_CLIENT_ID"),
        (Reply(400, body=b'{"error": "unauthorized_client"}'), "credentials", "MEDSCRIBE_ASKARA_CLIENT_SECRET"),
        (Reply(404, body=b"<html>"), "token_url", "MEDSCRIBE_ASKARA_TOKEN_URL"),
        (Reply(405, body=b""), "token_url", "MEDSCRIBE_ASKARA_TOKEN_URL"),
    ],
)
def test_a_refusal_names_the_setting_to_change(
    server: ScriptedServer, make_auth: AuthMaker, reply: Reply, code: str, setting: str
) -> None:
    server.reply(reply)

    with pytest.raises(ConfigError) as caught:
        make_auth().header()

    assert caught.value.code == code
    assert setting in str(caught.value)
    assert caught.value.__context__ is None
    assert len(server.seen) == 1


def test_a_busy_token_endpoint_is_waited_for(server: ScriptedServer, make_auth: AuthMaker, clock: FakeClock) -> None:
    server.reply(Reply(429, headers={"Retry-After": "9"}), Reply(body=b'{"access_token": "a", "refresh_token": "b"}'))

    assert make_auth().header() == bearer("a")
    assert clock.waits == [9]


def test_no_connection_spends_nothing_and_is_tried_again(make_auth: AuthMaker, clock: FakeClock) -> None:
    with unused_port() as port, pytest.raises(Retriable) as caught:
        make_auth(base=f"http://127.0.0.1:{port}").header()

    assert caught.value.code == "unreachable"
    assert len(clock.slept) == 2


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"{}", ("access_token",)),
        (b"", ("access_token",)),
        (b"[]", ("access_token",)),
        (b'{"access_token": 7, "refresh_token": ["x"]}', ("access_token", "refresh_token")),
        (b'{"access_token": "two words"}', ("access_token",)),
    ],
)
def test_an_answer_without_tokens_is_a_broken_contract(
    server: ScriptedServer, store: FileStore, make_auth: AuthMaker, body: bytes, fields: tuple[str, ...]
) -> None:
    server.reply(Reply(body=body))

    with pytest.raises(ProviderContractError) as caught:
        make_auth().header()

    assert (caught.value.code, caught.value.field_paths) == ("token_answer", fields)
    assert store.load() is None


def test_tokens_that_could_not_be_stored_are_not_lost(
    server: ScriptedServer, store: FileStore, make_auth: AuthMaker
) -> None:
    tokens = TokenServer(server)
    store.broken = 2
    auth = make_auth()
    for _ in range(2):
        with pytest.raises(OSError, match="disk full"):
            auth.header()

    assert auth.header() == bearer("access-1")

    stored = store.load()
    assert stored is not None
    assert stored.refresh_token == "refresh-1"
    assert tokens.spent == ["first"]


def test_a_process_that_died_before_storing_leaves_a_clear_message(
    server: ScriptedServer, store: FileStore, make_auth: AuthMaker
) -> None:
    TokenServer(server)
    store.broken = 1
    with pytest.raises(OSError, match="disk full"):
        make_auth().header()

    with pytest.raises(ConfigError) as caught:
        make_auth().header()

    assert caught.value.code == "reauthorise"


def test_no_secret_is_printed(server: ScriptedServer, store: FileStore, make_auth: AuthMaker) -> None:
    TokenServer(server)
    make_auth().header()
    stored = store.load()

    assert stored is not None
    printed = repr(stored) + repr(replace(stored, refresh_token="other"))
    assert not any(secret in printed for secret in ("refresh-1", "access-1", "other"))


def test_half_the_settings_are_refused(store: FileStore) -> None:
    with pytest.raises(ConfigError):
        RefreshTokenAuth(AskaraSettings(token="fixed"), store)
