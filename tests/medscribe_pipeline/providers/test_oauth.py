"""Single-use refresh tokens: the ordinary course, a 401, and many at once."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from medscribe_pipeline.providers.http import HttpClient
from tests.medscribe_pipeline.providers.scripted_server import START, Reply, http_settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.medscribe_pipeline.providers.scripted_server import FakeClock, ScriptedServer
from tests.medscribe_pipeline.providers.scripted_oauth import AuthMaker, FileStore, TokenServer, bearer

# The ordinary course


def test_the_first_request_spends_the_configured_token_and_stores_its_successor(
    server: ScriptedServer, store: FileStore, make_auth: AuthMaker
) -> None:
    tokens = TokenServer(server)

    assert make_auth().header() == bearer("access-1")

    (seen,) = server.seen
    assert (seen.method, seen.path) == ("POST", "/oauth2/token")
    assert seen.json == {
        "grant_type": "refresh_token",
        "refresh_token": "first",
        "client_id": "clinic",
        "client_secret": "client-secret",
    }
    assert tokens.spent == ["first"]
    stored = store.load()
    assert stored is not None
    assert (stored.refresh_token, stored.access_token) == ("refresh-1", "access-1")
    assert (stored.rotated_at, stored.expires_at) == (START, START + timedelta(hours=1))
    assert stored.seed_hash == "a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e"


def test_an_access_token_serves_until_a_minute_before_its_end(
    server: ScriptedServer, make_auth: AuthMaker, clock: FakeClock
) -> None:
    tokens = TokenServer(server)
    auth = make_auth()
    auth.header()

    clock.sleep(3539)
    assert auth.header() == bearer("access-1")
    clock.sleep(1)

    assert auth.header() == bearer("access-2")
    assert tokens.spent == ["first", "refresh-1"]


def test_another_process_finds_the_stored_token_and_spends_nothing(
    server: ScriptedServer, make_auth: AuthMaker, clock: FakeClock
) -> None:
    tokens = TokenServer(server)
    make_auth().header()
    clock.sleep(600)

    assert make_auth().header() == bearer("access-1")
    assert tokens.spent == ["first"]


def test_the_chain_goes_on_after_a_restart(server: ScriptedServer, make_auth: AuthMaker, clock: FakeClock) -> None:
    tokens = TokenServer(server)
    make_auth().header()
    clock.sleep(7200)

    assert make_auth().header() == bearer("access-2")
    assert tokens.spent == ["first", "refresh-1"]


def test_another_configured_token_begins_a_new_chain(server: ScriptedServer, make_auth: AuthMaker) -> None:
    tokens = TokenServer(server)
    make_auth().header()
    tokens.current = "second"

    assert make_auth("second").header() == bearer("access-2")
    assert tokens.spent == ["first", "second"]


def test_a_server_that_does_not_rotate_keeps_its_token(
    server: ScriptedServer, store: FileStore, make_auth: AuthMaker
) -> None:
    server.reply(Reply(body=b'{"access_token": "a", "expires_in": 3600}'))

    make_auth().header()

    stored = store.load()
    assert stored is not None
    assert stored.refresh_token == "first"


@pytest.mark.parametrize(
    ("life", "life_s"),
    [
        (3600, 3600), ("1800", 1800), (90.5, 90.5), (None, 3600), (0, 3600), (-1, 3600), (True, 3600), ("soon", 3600),
        (10**30, 86_400),
    ],
)  # fmt: skip
def test_the_life_of_a_token_is_read_with_care(
    server: ScriptedServer, store: FileStore, make_auth: AuthMaker, life: object, life_s: float
) -> None:
    body = b'{"access_token": "a", "expires_in": %s}'
    server.reply(Reply(body=body % (str(life).encode() if life == 10**30 else orjson.dumps(life))))

    make_auth().header()

    stored = store.load()
    assert stored is not None
    assert stored.expires_at - stored.rotated_at == timedelta(seconds=life_s)


def test_a_short_life_is_used_to_its_half_and_does_not_burn_tokens(
    server: ScriptedServer, make_auth: AuthMaker, clock: FakeClock
) -> None:
    tokens = TokenServer(server, life_s=40)
    auth = make_auth()

    for _ in range(4):
        auth.header()
        clock.sleep(5)

    assert tokens.spent == ["first"]


# A 401


def test_a_401_on_a_fresh_token_renews_once(server: ScriptedServer, make_auth: AuthMaker, clock: FakeClock) -> None:
    tokens = TokenServer(server)
    auth = make_auth()
    auth.header()
    tokens.spent.append("somebody logged us out")

    with HttpClient("askara", server.url, http_settings(), auth, clock=clock, sleep=clock.sleep) as client:
        answer = client.get_json("/audios")

    assert answer.status == 200
    assert [seen.path for seen in server.seen] == ["/oauth2/token", "/audios", "/oauth2/token", "/audios"]


def test_a_401_to_a_header_that_others_renewed_spends_nothing(server: ScriptedServer, make_auth: AuthMaker) -> None:
    tokens = TokenServer(server)
    here, there = make_auth(), make_auth()
    stale = here.header()
    there.header()
    there.renew(stale)

    assert here.renew(stale)

    assert here.header() == bearer("access-2")
    assert here.renew(stale)
    assert tokens.spent == ["first", "refresh-1"]


# At once


def test_many_threads_of_one_client_spend_one_token(server: ScriptedServer, make_auth: AuthMaker) -> None:
    tokens = TokenServer(server)
    auth = make_auth()

    with ThreadPoolExecutor(12) as pool:
        headers = list(pool.map(lambda _: auth.header(), range(24)))

    assert headers == [bearer("access-1")] * 24
    assert tokens.spent == ["first"]


def test_many_clients_that_meet_a_401_at_once_spend_one_token(server: ScriptedServer, make_auth: AuthMaker) -> None:
    tokens = TokenServer(server)
    auths = [make_auth() for _ in range(6)]
    stale = [auth.header() for auth in auths]

    with ThreadPoolExecutor(6) as pool:
        renewed = list(pool.map(lambda auth, old: auth.renew(old), auths, stale))

    assert renewed == [True] * 6
    assert tokens.spent == ["first", "refresh-1"]


OTHER_PROCESS = """
import sys
from pathlib import Path
from medscribe_pipeline.providers.oauth import RefreshTokenAuth
from medscribe_pipeline.settings import AskaraSettings
from tests.medscribe_pipeline.providers.scripted_oauth import FileStore

settings = AskaraSettings(base_url=sys.argv[1], client_id="clinic", client_secret="s", refresh_token="first")
with RefreshTokenAuth(settings, FileStore(Path(sys.argv[2]))) as auth:
    sys.stdout.write(auth.header()["Authorization"])
"""


def test_processes_that_start_at_once_spend_one_token(server: ScriptedServer, tmp_path: Path) -> None:
    tokens = TokenServer(server)
    command: list[Any] = [sys.executable, "-c", OTHER_PROCESS, server.url, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]

    printed = [process.communicate(timeout=60)[0] for process in processes]

    assert printed == ["Bearer access-1"] * 3
    assert tokens.spent == ["first"]
