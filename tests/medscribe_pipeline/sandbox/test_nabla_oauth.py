from __future__ import annotations

import base64
import functools
import hmac
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from medscribe_pipeline.sandbox import NablaOptions, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLIENT = NablaOptions().oauth_client_id
PATH = "/v1/core/server/oauth/token"
NOW = 1_774_170_000.0


@functools.cache
def _key(number: int = 0) -> RSAKey:
    assert number >= 0
    return RSAKey.generate_key(2048)


class _Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def sandbox(clock: _Clock) -> Iterator[Sandbox]:
    public_key = _key().as_pem(private=False).decode()
    with Sandbox(nabla=NablaOptions(oauth_public_key=public_key, token_lifetime_s=600), clock=clock) as running:
        yield running


def _claims(sandbox: Sandbox, **changes: Any) -> dict[str, Any]:
    claims = {
        "iss": CLIENT,
        "sub": CLIENT,
        "aud": f"{sandbox.nabla_url}{PATH}",
        "iat": int(NOW),
        "exp": int(NOW) + 300,
        "jti": "jti-1",
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not None}


def _ask(sandbox: Sandbox, assertion: str, **changes: Any) -> httpx.Response:
    body = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": assertion,
        **changes,
    }
    return httpx.post(f"{sandbox.nabla_url}{PATH}", json=body)


def _signed(claims: dict[str, Any], key: RSAKey | None = None) -> str:
    return jwt.encode({"alg": "RS256", "typ": "JWT"}, claims, key or _key())


def test_a_signed_assertion_buys_a_token_that_expires(sandbox: Sandbox, clock: _Clock) -> None:
    answer = _ask(sandbox, _signed(_claims(sandbox))).json()
    headers = {"authorization": f"Bearer {answer['access_token']}"}
    url = f"{sandbox.nabla_url}/v1/core/server/transcribe-async/x"
    good = httpx.get(url, headers=headers).status_code
    clock.now += 601
    expired = httpx.get(url, headers=headers).status_code

    assert answer["expires_in"] == 600
    assert (good, expired) == (404, 401)


def test_an_assertion_is_good_once(sandbox: Sandbox) -> None:
    assertion = _signed(_claims(sandbox))

    assert [_ask(sandbox, assertion).status_code for _ in range(2)] == [200, 401]


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "other"},
        {"sub": "other"},
        {"sub": None},
        {"aud": "http://127.0.0.1/other"},
        {"exp": int(NOW) - 10},
        {"exp": int(NOW) + 400},
        {"exp": None},
        {"iat": int(NOW) + 60},
        {"iat": None},
        {"jti": None},
        {"jti": ""},
    ],
)
def test_claims_that_do_not_fit(sandbox: Sandbox, changes: dict[str, Any]) -> None:
    answer = _ask(sandbox, _signed(_claims(sandbox, **changes)))

    assert (answer.status_code, answer.json()["name"]) == (401, "INVALID_CLIENT")


def test_signatures_that_do_not_fit(sandbox: Sandbox) -> None:
    claims = _claims(sandbox)
    # The public key as an HMAC secret, and no signature at all: by hand, since the library refuses to make them.
    confused = _by_hand("HS256", claims, lambda text: hmac.new(_key().as_pem(private=False), text, "sha256").digest())
    unsigned = _by_hand("none", claims, lambda _: b"")

    for assertion in (_signed(claims, _key(1)), confused, unsigned, "nonsense", ""):
        assert _ask(sandbox, assertion).status_code == 401


def _by_hand(algorithm: str, claims: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    def encode(content: bytes) -> bytes:
        return base64.urlsafe_b64encode(content).rstrip(b"=")

    signed = encode(orjson.dumps({"alg": algorithm})) + b"." + encode(orjson.dumps(claims))
    return (signed + b"." + encode(sign(signed))).decode()


def test_other_grants_and_bodies(sandbox: Sandbox) -> None:
    assertion = _signed(_claims(sandbox))

    assert _ask(sandbox, assertion, grant_type="refresh_token").status_code == 401
    assert _ask(sandbox, assertion, client_assertion_type="other").status_code == 401
    assert httpx.post(f"{sandbox.nabla_url}{PATH}", data={"grant_type": "client_credentials"}).status_code == 400
    assert _ask(sandbox, assertion).status_code == 200, "a refused request spends nothing"


def test_without_a_key_nobody_gets_a_token() -> None:
    with Sandbox(clock=_Clock()) as sandbox:
        assert _ask(sandbox, _signed(_claims(sandbox))).status_code == 401
