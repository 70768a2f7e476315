"""Client credentials with a signed JWT, against a token server that checks the signature."""

from __future__ import annotations

import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, RSAKey

from medscribe_pipeline.errors import ConfigError, ProviderContractError, Retriable
from medscribe_pipeline.providers.http import HttpClient, Unsettled
from medscribe_pipeline.providers.nabla import open_client
from medscribe_pipeline.providers.nabla_auth import ClientAssertionAuth, load_private_key
from medscribe_pipeline.settings import NablaSettings
from tests.medscribe_pipeline.providers.scripted_server import START, Hangup, Reply, Seen, http_settings
from tests.medscribe_pipeline.providers.unopened import nothing_opens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse
    from tests.medscribe_pipeline.providers.scripted_server import FakeClock, ScriptedServer

CLIENT_ID = "0b9c7f50-0000-4000-8000-00000000c11e"
TOKEN_PATH = "/v1/core/server/oauth/token"


@pytest.fixture(scope="module")
def key() -> RSAKey:
    return RSAKey.generate_key(2048)


@pytest.fixture
def key_file(key: RSAKey, tmp_path: Path) -> Path:
    return written(tmp_path, key.as_pem(private=True))


def written(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "nabla.pem"
    path.write_bytes(content)
    path.chmod(mode)
    return path


class TokenServer:
    """Gives `access-1`, `access-2`, ... for assertions signed with the key and used once."""

    def __init__(self, server: ScriptedServer, key: RSAKey, clock: FakeClock) -> None:
        self.key = RSAKey.import_key(key.as_pem(private=False))
        self.clock = clock
        self.url = f"{server.url}{TOKEN_PATH}"
        self.life_s: Any = 3600
        self.given = 0
        self.assertions: list[jwt.Token] = []
        self.revoked: set[str] = set()
        self.answers: list[Reply | Hangup] = []
        server.responder = self.answer

    def answer(self, seen: Seen) -> Reply | Hangup:
        if seen.path != TOKEN_PATH:
            return Reply(401 if seen.headers["authorization"] in self.revoked else 200)
        token = jwt.decode(seen.json["client_assertion"], self.key, algorithms=["RS256"])
        assert token.claims["jti"] not in {earlier.claims["jti"] for earlier in self.assertions}
        self.assertions.append(token)
        if self.answers:
            return self.answers.pop(0)
        self.given += 1
        return Reply(body=orjson.dumps({"access_token": f"access-{self.given}", "expires_in": self.life_s}))


@pytest.fixture
def tokens(server: ScriptedServer, key: RSAKey, clock: FakeClock) -> TokenServer:
    return TokenServer(server, key, clock)


@pytest.fixture
def make_auth(tokens: TokenServer, key_file: Path, clock: FakeClock) -> Iterator[Callable[..., ClientAssertionAuth]]:
    opened: list[ClientAssertionAuth] = []

    def make(**changes: Any) -> ClientAssertionAuth:
        own = NablaSettings(
            **{
                "client_id": CLIENT_ID,
                "private_key_file": key_file,
                "timeout_s": 5,
                "max_attempts": 3,
                **changes,
            }
        )
        headers = {"X-Nabla-Api-Version": own.api_version}
        opened.append(ClientAssertionAuth(own, tokens.url, headers=headers, clock=clock, sleep=clock.sleep))
        return opened[-1]

    yield make
    for auth in opened:
        auth.close()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_the_assertion_is_signed_and_says_what_the_vendor_documents(
    make_auth: Callable[..., ClientAssertionAuth], tokens: TokenServer, server: ScriptedServer
) -> None:
    assert make_auth(key_id="key-1").header() == bearer("access-1")

    (seen,) = server.seen
    assert (seen.method, seen.path) == ("POST", TOKEN_PATH)
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["x-nabla-api-version"] == "2024-10-01"
    assert "authorization" not in seen.headers
    assert seen.json["grant_type"] == "client_credentials"
    assert seen.json["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    (token,) = tokens.assertions
    assert token.header == {"alg": "RS256", "typ": "JWT", "kid": "key-1"}
    now = int(START.timestamp())
    assert len(token.claims.pop("jti")) >= 32
    assert token.claims == {"iss": CLIENT_ID, "sub": CLIENT_ID, "aud": tokens.url, "iat": now, "exp": now + 300}


def test_no_key_id_no_kid(make_auth: Callable[..., ClientAssertionAuth], tokens: TokenServer) -> None:
    make_auth().header()

    assert tokens.assertions[0].header == {"alg": "RS256", "typ": "JWT"}


@pytest.mark.parametrize(
    ("life_s", "good_for_s"), [(3600, 3540), ("1200", 1140), (60, 30), (None, 3540), (-5, 3540), (10**9, 86_340)]
)
def test_a_token_serves_until_a_minute_before_its_end(
    make_auth: Callable[..., ClientAssertionAuth],
    tokens: TokenServer,
    clock: FakeClock,
    life_s: object,
    good_for_s: int,
) -> None:
    tokens.life_s = life_s
    auth = make_auth()
    auth.header()

    clock.sleep(good_for_s - 1)
    assert auth.header() == bearer("access-1")
    clock.sleep(1)

    assert auth.header() == bearer("access-2")


def test_a_401_renews_the_token_once_and_for_all_threads(
    make_auth: Callable[..., ClientAssertionAuth], tokens: TokenServer, server: ScriptedServer, clock: FakeClock
) -> None:
    auth = make_auth()
    auth.header()
    tokens.revoked.add("Bearer access-1")
    with (
        HttpClient("nabla", server.url, http_settings(connections=8), auth, clock=clock, sleep=clock.sleep) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        statuses = {answer.status for answer in pool.map(lambda _: client.get_json("/jobs"), range(24))}

    assert statuses == {200}
    assert tokens.given == 2


def test_many_threads_ask_for_one_token(make_auth: Callable[..., ClientAssertionAuth], tokens: TokenServer) -> None:
    auth = make_auth()
    with ThreadPoolExecutor(8) as pool:
        headers = list(pool.map(lambda _: auth.header(), range(24)))

    assert headers == [bearer("access-1")] * 24
    assert tokens.given == 1


@pytest.mark.parametrize("lost", [Hangup(), Reply(500), Reply(200, body=b"<html>")])
def test_a_lost_answer_is_retriable_and_the_next_call_signs_anew(
    make_auth: Callable[..., ClientAssertionAuth], tokens: TokenServer, lost: Reply | Hangup
) -> None:
    tokens.answers = [lost]
    auth = make_auth()

    with pytest.raises(Retriable) as caught:
        auth.header()

    assert not isinstance(caught.value, Unsettled)
    assert auth.header() == bearer("access-1")
    assert len(tokens.assertions) == 2


@pytest.mark.parametrize(
    ("status", "code", "setting"),
    [
        (400, "credentials", "MEDSCRIBE_NABLA_CLIENT_ID"),
        (401, "credentials", "MEDSCRIBE_NABLA_PRIVATE_KEY_FILE"),
        (404, "token_url", "MEDSCRIBE_NABLA_PATH_PREFIX"),
    ],
)
def test_a_refusal_names_the_setting_and_no_secret(
    make_auth: Callable[..., ClientAssertionAuth], tokens: TokenServer, status: int, code: str, setting: str
) -> None:
    tokens.answers = [Reply(status, body=b'{"error": "invalid_client", "hint": "Zoe Testpatient"}')]

    with pytest.raises(ConfigError) as caught:
        make_auth().header()

    assert (caught.value.code, caught.value.status) == (code, status)
    assert setting in str(caught.value.context["setting"])
    shown = "".join(traceback.format_exception(caught.value))
    assert "Testpatient" not in shown
    assert "eyJ" not in shown


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"access_token": "two words"}', b'{"access_token": 7}'])
def test_an_answer_without_token_is_no_token(
    make_auth: Callable[..., ClientAssertionAuth], tokens: TokenServer, body: bytes
) -> None:
    tokens.answers = [Reply(body=body)]

    with pytest.raises(ProviderContractError) as caught:
        make_auth().header()

    assert caught.value.code == "token_answer"


def test_the_account_s_client_signs_for_the_token_url_under_its_prefix(
    make_settings: Callable[..., Settings], tokens: TokenServer, server: ScriptedServer, key_file: Path
) -> None:
    own = NablaSettings(base_url=server.url, client_id=CLIENT_ID, private_key_file=key_file, timeout_s=5)
    # The system's clock here: the token is for now.
    with open_client(make_settings(nabla=own), cast("Warehouse", None)) as client:
        assert client.get_json("/transcribe-async/j-1").status == 200

    assert tokens.assertions[0].claims["aud"] == tokens.url
    assert [seen.path for seen in server.seen] == [TOKEN_PATH, "/v1/core/server/transcribe-async/j-1"]
    assert server.seen[1].headers["authorization"] == "Bearer access-1"


def test_the_clock_decides_when_an_assertion_ends(
    make_auth: Callable[..., ClientAssertionAuth], tokens: TokenServer, clock: FakeClock
) -> None:
    clock.sleep(86_400)
    make_auth().header()

    assert tokens.assertions[0].claims["iat"] == int((START + timedelta(days=1)).timestamp())


# The key file


def problem_of(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_private_key(path)
    error = caught.value
    assert (error.code, error.context["setting"]) == ("private_key", "MEDSCRIBE_NABLA_PRIVATE_KEY_FILE")
    assert error.__cause__ is None
    assert error.__context__ is None
    return error.message


def test_a_good_key_is_taken(key: RSAKey, key_file: Path) -> None:
    assert load_private_key(key_file).as_dict(private=False)["n"] == key.as_dict(private=False)["n"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o777])
def test_a_key_others_may_touch_is_refused(key: RSAKey, tmp_path: Path, mode: int) -> None:
    assert "chmod 600" in problem_of(written(tmp_path, key.as_pem(private=True), mode))


def test_a_key_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in problem_of(tmp_path / "absent.pem")
    assert "is no file" in problem_of(tmp_path)


def test_a_key_that_cannot_be_reached_is_refused(key_file: Path, tmp_path: Path) -> None:
    circle = tmp_path / "circle.pem"
    circle.symlink_to(circle)

    assert "cannot be read" in problem_of(circle)
    assert "cannot be read" in problem_of(key_file / "below.pem")


def test_a_key_that_cannot_be_opened_is_refused(key_file: Path) -> None:
    with nothing_opens():
        problem = problem_of(key_file)

    assert "cannot be read" in problem


@pytest.mark.parametrize(
    "content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", b"\xff\xfe\x00"]
)
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    assert "holds no private key" in problem_of(written(tmp_path, content))


def test_a_key_of_another_kind_is_refused(key: RSAKey, tmp_path: Path) -> None:
    with pytest.warns(SecurityWarning):
        short = RSAKey.generate_key(1024)

    assert "no RSA key" in problem_of(written(tmp_path, ECKey.generate_key("P-256").as_pem(private=True)))
    assert "public key" in problem_of(written(tmp_path, key.as_pem(private=False)))
    assert "too short" in problem_of(written(tmp_path, short.as_pem(private=True)))
    assert "encrypted" in problem_of(written(tmp_path, key.as_pem(private=True, password="x")))
    assert "too large" in problem_of(written(tmp_path, b"x" * 70_000))


def test_client_id_and_key_file_go_together(key_file: Path) -> None:
    assert NablaSettings(client_id="c", private_key_file=key_file).enabled
    with pytest.raises(ConfigError) as caught:
        ClientAssertionAuth(NablaSettings(token="fixed"), "https://api.example/oauth/token")

    assert caught.value.code == "credentials"
