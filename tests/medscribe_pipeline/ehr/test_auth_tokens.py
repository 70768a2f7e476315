"""Access tokens by SMART Backend Services and by OAuth2 client secret: asked for, kept, renewed, shared, refused."""

from __future__ import annotations

import logging
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from joserfc.jwk import ECKey, RSAKey
from pydantic import SecretStr

from medscribe_pipeline.ehr.auth.client_credentials import ClientCredentials, scope_of
from medscribe_pipeline.ehr.auth.proofs import SecretProof
from medscribe_pipeline.ehr.client import provably_unsent
from medscribe_pipeline.ehr.keys import load_client_key
from medscribe_pipeline.errors import ConfigError, Deferred, MedscribeError, Retriable
from medscribe_pipeline.providers.http import Unsettled
from medscribe_pipeline.settings import EhrSettings
from tests.medscribe_pipeline.ehr.auth_desk import CLIENT_ID, SECRET, WELL_KNOWN, AuthDesk
from tests.medscribe_pipeline.providers.scripted_server import START, FakeClock, Hangup, Reply, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from medscribe_pipeline.providers.http import HttpClient
    from medscribe_pipeline.warehouse.store import Warehouse

BY_SECRET: dict[str, Any] = {"client_id": CLIENT_ID, "client_secret": SECRET}


@pytest.fixture(scope="module")
def rsa_key() -> RSAKey:
    return RSAKey.generate_key(2048)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def desk(clean_environment: Path, clock: FakeClock) -> Iterator[AuthDesk]:
    assert clean_environment
    server = ScriptedServer()
    yield AuthDesk(server, clock)
    server.close()


def written(folder: Path, key: RSAKey | ECKey) -> Path:
    path = folder / "client.pem"
    path.write_bytes(key.as_pem(private=True))
    path.chmod(0o600)
    return path


@pytest.fixture
def by_key(rsa_key: RSAKey, tmp_path: Path, desk: AuthDesk) -> dict[str, Any]:
    """Settings of a client whose key the desk knows."""
    own: dict[str, Any] = {"client_id": CLIENT_ID, "private_key_file": written(tmp_path, rsa_key)}
    desk.jwks = [load_client_key(EhrSettings(base_url="https://ehr.example", **own)).public_jwk()]
    return own


def get(client: HttpClient) -> int:
    return client.get_json("Patient").status


# What is asked for


def test_a_signed_assertion_is_traded_for_a_token(desk: AuthDesk, by_key: dict[str, Any], rsa_key: RSAKey) -> None:
    with desk.open(**by_key) as client:
        assert [get(client), get(client)] == [200, 200]

    assert desk.served == [("GET", "qxcanary-1")] * 2
    (form,), (token,) = desk.asked, desk.assertions
    assert set(form) == {"grant_type", "scope", "client_assertion_type", "client_assertion"}
    assert form["scope"] == "system/*.cruds"
    assert desk.shown == [""]
    assert token.header == {"alg": "RS384", "typ": "JWT", "kid": rsa_key.thumbprint()}
    now = int(START.timestamp())
    assert set(token.claims) == {"iss", "sub", "aud", "iat", "exp", "jti"}
    assert (token.claims["iat"], token.claims["exp"]) == (now, now + 240)


def test_a_key_on_p_384_signs_with_es384_under_the_name_that_is_set(desk: AuthDesk, tmp_path: Path) -> None:
    key = ECKey.generate_key("P-384")
    own: dict[str, Any] = {"client_id": CLIENT_ID, "private_key_file": written(tmp_path, key), "key_id": "writer-2026"}
    desk.jwks = [key.as_dict(private=False, kid="writer-2026")]

    with desk.open(**own) as client:
        assert get(client) == 200

    assert desk.assertions[0].header == {"alg": "ES384", "typ": "JWT", "kid": "writer-2026"}


def test_a_key_the_server_does_not_know_is_refused(desk: AuthDesk, by_key: dict[str, Any]) -> None:
    desk.jwks = [ECKey.generate_key("P-384").as_dict(private=False, kid="another")]

    with desk.open(**by_key) as client, pytest.raises(ConfigError) as caught:
        get(client)

    assert (caught.value.code, desk.assertions) == ("credentials", [])


def test_a_secret_goes_into_the_header_encoded(desk: AuthDesk) -> None:
    with desk.open(**BY_SECRET) as client:
        assert get(client) == 200

    assert desk.asked == [{"grant_type": "client_credentials"}]


@pytest.mark.parametrize(
    ("methods", "in_form"),
    [
        (["client_secret_post"], True),
        (["client_secret_post", "private_key_jwt"], True),
        (["client_secret_basic", "client_secret_post"], False),
        ([], False),
        ("client_secret_post", False),
    ],
)
def test_a_secret_goes_into_the_form_where_the_server_takes_nothing_else(
    desk: AuthDesk, methods: object, in_form: bool
) -> None:
    desk.configuration = {"token_endpoint": desk.url, "token_endpoint_auth_methods_supported": methods}

    with desk.open(**BY_SECRET) as client:
        assert get(client) == 200

    assert (desk.asked[0].get("client_secret") == SECRET) is in_form
    assert (desk.shown[0] == "") is in_form


@pytest.mark.parametrize(
    ("settings", "scope"),
    [
        ({"kind": "epic"}, None),
        ({"kind": "epic", "scope": "system/DocumentReference.write"}, "system/DocumentReference.write"),
        ({"scope": "none"}, None),
        ({"scope": "a b"}, "a b"),
        ({}, "system/*.cruds"),
        ({"kind": "azure"}, "https://ehr.example/r4/.default"),
    ],
)
def test_scopes_by_kind_of_server_and_by_setting(settings: dict[str, str], scope: str | None, tmp_path: Path) -> None:
    own: dict[str, Any] = {"base_url": "https://ehr.example/r4", "client_id": "c", "private_key_file": tmp_path}

    assert scope_of(EhrSettings(**{**own, **settings})) == scope


def test_oracle_is_asked_for_named_scopes_and_plain_oauth2_for_none(tmp_path: Path) -> None:
    own: dict[str, Any] = {"base_url": "https://ehr.example/r4", "client_id": "c"}
    oracle = scope_of(EhrSettings(**own, private_key_file=tmp_path, kind="oracle"))

    assert oracle is not None
    assert "system/DocumentReference.write" in oracle.split()
    assert "*" not in oracle
    assert scope_of(EhrSettings(**own, client_secret="s")) is None


def test_no_scope_is_sent_to_epic(desk: AuthDesk, by_key: dict[str, Any]) -> None:
    with desk.open(**by_key, kind="epic") as client:
        assert get(client) == 200

    assert "scope" not in desk.asked[0]


# Where it is asked for


def test_a_token_url_that_is_set_needs_no_discovery(desk: AuthDesk, by_key: dict[str, Any]) -> None:
    desk.configuration = None

    with desk.open(**by_key, token_url=desk.url) as client:
        assert get(client) == 200

    assert WELL_KNOWN not in [seen.path for seen in desk.server.seen]


@pytest.mark.parametrize("path", ["/auth/token/", "/token", "/auth/token?policy=clinic&x=1", "/a%20b/token"])
def test_the_audience_is_the_url_to_the_letter(desk: AuthDesk, by_key: dict[str, Any], path: str) -> None:
    desk.path = path
    desk.configuration = {"token_endpoint": desk.url}

    with desk.open(**by_key) as client:
        assert get(client) == 200

    assert desk.assertions[0].claims["aud"] == desk.url


@pytest.mark.parametrize(
    "configuration",
    [
        None,
        Reply(401),
        Reply(body=b"<html>sign in</html>"),
        Reply(body=b"[]"),
        {},
        {"token_endpoint": 7},
        {"token_endpoint": "http://qxcanary.example/token"},
        {"token_endpoint": "http://127.0.0.2/token"},
        {"token_endpoint": "https://user:qxcanary@ehr.example/token"},
        {"token_endpoint": "https://ehr.example/token#qxcanary"},
        {"token_endpoint": "//qxcanary.example/token"},
        {"token_endpoint": "https://[qxcanary/token"},
        {"token_endpoint": "file:///qxcanary"},
        {"token_endpoint": "/auth/qxcanary"},
        {"token_endpoint": "https://ehr.example/\ntoken"},
    ],
)
def test_credentials_go_to_no_endpoint_that_is_not_safe(
    desk: AuthDesk, by_key: dict[str, Any], configuration: dict[str, Any] | Reply | None
) -> None:
    desk.configuration = configuration

    with desk.open(**by_key) as client, pytest.raises(ConfigError) as caught:
        get(client)

    assert (caught.value.code, caught.value.context["setting"]) == ("smart_configuration", "MEDSCRIBE_EHR_TOKEN_URL")
    assert (desk.asked, desk.served) == ([], [])
    assert "qxcanary" not in "".join(traceback.format_exception(caught.value))


# How long it is kept


@pytest.mark.parametrize(
    ("life_s", "good_for_s"), [(300, 240), ("600", 480), (10, 8), (None, 2880), (-5, 2880), (10**9, 69_120)]
)
def test_a_token_is_renewed_after_four_fifths_of_its_life(
    desk: AuthDesk, clock: FakeClock, life_s: object, good_for_s: int
) -> None:
    desk.life_s = life_s

    with desk.open(**BY_SECRET) as client:
        get(client)
        desk.ends = {token: clock.now().replace(year=2100) for token in desk.tokens}
        clock.sleep(good_for_s - 0.5)
        get(client)
        before = len(desk.asked)
        clock.sleep(1)
        get(client)

    assert (before, len(desk.asked)) == (1, 2)


def test_a_token_that_lives_short_never_reaches_the_server_after_its_end(
    desk: AuthDesk, by_key: dict[str, Any], clock: FakeClock
) -> None:
    desk.life_s = 30

    with desk.open(**by_key) as client:
        for _ in range(40):
            assert get(client) == 200
            clock.sleep(7)

    refused = [token for _, token in desk.served if token not in desk.ends]
    assert (len(desk.served), refused) == (40, [])
    assert 7 <= len(desk.asked) <= 14


def test_one_renewal_after_a_401_and_the_write_is_repeated_once(desk: AuthDesk, by_key: dict[str, Any]) -> None:
    with desk.open(**by_key) as client:
        get(client)
        desk.revoked.add("qxcanary-1")
        answer = client.request("POST", "", json={}, repeat=False)

    assert answer.status == 200
    assert desk.served == [("GET", "qxcanary-1"), ("POST", "qxcanary-1"), ("POST", "qxcanary-2")]
    assert len(desk.asked) == 2


def test_a_401_that_renewal_does_not_cure_is_a_setting_to_change(desk: AuthDesk, by_key: dict[str, Any]) -> None:
    desk.revoked = {f"qxcanary-{n}" for n in range(10)}

    with desk.open(**by_key) as client, pytest.raises(ConfigError) as caught:
        client.request("POST", "", json={}, repeat=False)

    assert caught.value.code == "credentials"
    assert caught.value.context["setting"] == "MEDSCRIBE_EHR_CLIENT_ID, MEDSCRIBE_EHR_SCOPE"
    assert (len(desk.served), len(desk.asked)) == (2, 2)


# Shared


def at_once(client: HttpClient, threads: int = 8) -> list[int]:
    barrier = threading.Barrier(threads, timeout=10)

    def one(_: int) -> int:
        barrier.wait()
        return get(client)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, range(threads)))


def test_threads_share_one_token_and_one_renewal(desk: AuthDesk, by_key: dict[str, Any]) -> None:
    with desk.open(**by_key, connections=8) as client:
        first = at_once(client)
        asked_first = len(desk.asked)
        desk.revoked.add("qxcanary-1")
        second = at_once(client)

    assert first == second == [200] * 8
    assert (asked_first, len(desk.asked)) == (1, 2)


def test_threads_that_wait_for_a_refused_client_do_not_ask_again(desk: AuthDesk) -> None:
    def one(_: int) -> str:
        with pytest.raises(ConfigError) as caught:
            get(client)
        return caught.value.code

    with desk.open(client_id=CLIENT_ID, client_secret="wrong", connections=8) as client, ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(one, range(8)))

    assert (codes, len(desk.asked)) == (["credentials"] * 8, 1)


def test_runs_share_a_token_by_the_warehouse(desk: AuthDesk, by_key: dict[str, Any], warehouse: Warehouse) -> None:
    for _ in range(3):
        with desk.open(warehouse, **by_key) as client:
            assert get(client) == 200

    assert len(desk.asked) == 1
    # Not even where to ask is asked again.
    assert [seen.path for seen in desk.server.seen].count(WELL_KNOWN) == 1


def test_a_token_another_run_renewed_is_taken_after_a_401(
    desk: AuthDesk, by_key: dict[str, Any], warehouse: Warehouse
) -> None:
    with desk.open(warehouse, **by_key) as one, desk.open(warehouse, **by_key) as other:
        get(one)
        get(other)
        desk.revoked.add("qxcanary-1")
        assert [get(one), get(other)] == [200, 200]

    assert len(desk.asked) == 2


@pytest.mark.parametrize("change", [{"scope": "another"}, {"client_id": "another"}, {"target": "store"}])
def test_a_token_of_another_client_target_or_scope_is_not_taken(
    desk: AuthDesk, warehouse: Warehouse, change: dict[str, str]
) -> None:
    with desk.open(warehouse, **BY_SECRET) as client:
        get(client)
    with desk.open(warehouse, **{**BY_SECRET, **change}) as client, suppress(ConfigError):
        get(client)

    assert len(desk.asked) == 2


def test_a_name_as_long_as_names_may_be_is_stored(desk: AuthDesk, warehouse: Warehouse) -> None:
    for _ in range(2):
        with desk.open(warehouse, **BY_SECRET, target="t" * 64) as client:
            get(client)

    assert len(desk.asked) == 1


def test_a_run_does_not_wait_for_another_that_takes_its_time(
    desk: AuthDesk, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medscribe_pipeline.ehr.auth.opening._LOCK_TIMEOUT_S", 0.05)

    with warehouse.locks.hold(f"oauth:{warehouse.account}:ehr:ehr", 1), desk.open(warehouse, **BY_SECRET) as client:
        assert get(client) == 200


# Failures


@pytest.mark.parametrize(
    ("reply", "code", "setting"),
    [
        (Reply(400, body=b'{"error": "invalid_client"}'), "credentials", "PRIVATE_KEY_FILE"),
        (Reply(401, body=b'{"error": "invalid_client"}'), "credentials", "KEY_ID"),
        (Reply(400, body=b'{"error": "unauthorized_client"}'), "credentials", "CLIENT_ID"),
        (Reply(400, body=b'{"error": "invalid_scope"}'), "scope", "SCOPE"),
        (Reply(400, body=b"qxcanary"), "credentials", "CLIENT_ID"),
        (Reply(403, body=b""), "credentials", "CLIENT_ID"),
        (Reply(404), "token_url", "TOKEN_URL"),
        (Reply(405, body=b'{"error": "qxcanary"}'), "token_url", "TOKEN_URL"),
        (Reply(302, headers={"Location": "https://qxcanary.example/"}), "token_url", "TOKEN_URL"),
        (Reply(body=b"<html>qxcanary</html>"), "token_url", "TOKEN_URL"),
        (Reply(body=b"{}"), "token_answer", "TOKEN_URL"),
        (Reply(body=b'{"access_token": "qxcanary with spaces"}'), "token_answer", "TOKEN_URL"),
        (Reply(body=b'{"access_token": 7}'), "token_answer", "TOKEN_URL"),
    ],
)
def test_a_refusal_names_the_setting_and_is_not_asked_for_twice(
    desk: AuthDesk, by_key: dict[str, Any], reply: Reply, code: str, setting: str
) -> None:
    desk.answers = [reply] * 3

    with desk.open(**by_key) as client:
        for _ in range(2):
            with pytest.raises(ConfigError) as caught:
                client.request("POST", "", json={}, repeat=False)
        asked = len(desk.asked)

    error = caught.value
    assert error.code == code
    assert f"MEDSCRIBE_EHR_{setting}" in str(error.context["setting"]).split(", ")
    assert provably_unsent(error)
    assert desk.served == []
    # Only what is no JSON may have been cut, and is asked for again at once.
    assert asked == (3 if reply.body.startswith(b"<") else 1)
    shown = "".join(traceback.format_exception(error))
    assert "qxcanary" not in shown
    assert "eyJ" not in shown


def test_what_the_server_calls_its_error_is_told_if_the_standard_knows_it(desk: AuthDesk) -> None:
    with desk.open(client_id=CLIENT_ID, client_secret="wrong") as client, pytest.raises(ConfigError) as caught:
        get(client)

    assert caught.value.context["oauth_error"] == "invalid_client"
    assert "an hour" in caught.value.message
    assert caught.value.context["setting"] == "MEDSCRIBE_EHR_CLIENT_ID, MEDSCRIBE_EHR_CLIENT_SECRET"


@pytest.mark.parametrize("failure", [Reply(500), Reply(503), Hangup(), Reply(408), Reply(body=b"{", cut_after=1)])
def test_a_hiccup_is_tried_again_with_another_assertion(
    desk: AuthDesk, by_key: dict[str, Any], failure: Reply | Hangup
) -> None:
    desk.answers = [failure]

    with desk.open(**by_key) as client:
        assert get(client) == 200

    first, second = (form["client_assertion"] for form in desk.asked)
    assert first != second


def test_an_assertion_is_signed_after_the_wait_the_server_asked_for(
    desk: AuthDesk, by_key: dict[str, Any], clock: FakeClock
) -> None:
    desk.answers = [Reply(429, headers={"Retry-After": "600"})]

    with desk.open(**by_key, max_wait_s=900) as client:
        assert get(client) == 200

    assert clock.monotonic() >= 600
    assert desk.assertions[0].claims["iat"] >= int(START.timestamp()) + 600


@pytest.mark.parametrize(
    ("reply", "kind"),
    [(Reply(500), Retriable), (Hangup(), Retriable), (Reply(429, headers={"Retry-After": "3000"}), Deferred)],
)
def test_a_token_endpoint_that_is_down_leaves_the_write_unsent_and_is_asked_again_next_time(
    desk: AuthDesk, by_key: dict[str, Any], reply: Reply | Hangup, kind: type[MedscribeError], clock: FakeClock
) -> None:
    desk.answers = [reply] * (1 if kind is Deferred else 3)

    with desk.open(**by_key) as client:
        with pytest.raises(kind) as caught:
            client.request("POST", "", json={}, repeat=False)
        clock.sleep(3000)
        assert get(client) == 200

    assert not isinstance(caught.value, Unsettled)
    assert provably_unsent(caught.value)
    assert caught.value.context["client"] == "ehr/token"
    assert desk.served == [("GET", "qxcanary-1")]


# Nothing is shown


def test_nothing_secret_is_logged_or_shown(
    desk: AuthDesk, by_key: dict[str, Any], warehouse: Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    desk.answers = [Reply(500)]
    shown = []

    for settings in (by_key, BY_SECRET):
        with desk.open(warehouse, **settings) as client:
            get(client)
            desk.revoked.update(desk.tokens)
            get(client)
            shown += [repr(vars(client)), str(client)]
    with pytest.raises(ConfigError) as caught, desk.open(client_id=CLIENT_ID, client_secret="qxcanary-w") as client:
        get(client)

    text = "\n".join([*shown, *(record.getMessage() for record in caplog.records)])
    text += "".join(traceback.format_exception(caught.value)) + caplog.text
    assert caplog.records
    for secret in ("qxcanary", "eyJ", "PRIVATE KEY", "Basic ", desk.url):
        assert secret not in text, secret


def test_objects_that_hold_secrets_do_not_show_them(desk: AuthDesk, by_key: dict[str, Any]) -> None:
    key = load_client_key(EhrSettings(base_url="https://ehr.example", **by_key))
    own = EhrSettings(base_url=f"{desk.server.url}/fhir", **BY_SECRET)
    auth = ClientCredentials(own, proof := SecretProof(CLIENT_ID, SecretStr(SECRET)), None)
    auth.header()
    auth.close()

    shown = " ".join(map(repr, (auth, vars(auth), proof, vars(proof), key, own)))
    assert "qxcanary" not in shown
    private = key._key.as_dict(private=True)
    assert not any(str(private[member]) in shown for member in ("d", "p", "q"))
    assert orjson.dumps(private["d"]).decode().strip('"') not in str(key.public_jwk())
