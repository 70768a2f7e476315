"""Nabla's token endpoint: OAuth client credentials with a JWT that the client signed (RFC 7523)."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from medscribe_pipeline.sandbox.inflict import OAUTH_TOKEN_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["ClientAssertions", "Refusal"]

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_LONGEST_LIFE_S = 300
_LEEWAY_S = 5


class Refusal(Exception):
    """Why no token is given; fixed text."""


class ClientAssertions:
    """Trades client assertions for access tokens, each assertion once.

    Args:
        client_id: Issuer and subject of good assertions.
        public_key: PEM of the client's RSA key; `None` refuses everybody.
        lifetime_s: Of an access token.
        clock: Seconds since the epoch.
    """

    def __init__(self, client_id: str, public_key: str | None, *, lifetime_s: int, clock: Callable[[], float]) -> None:
        self._client_id = client_id
        self._key = None if public_key is None else RSAKey.import_key(public_key)
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._spent: set[str] = set()
        self._expiries: dict[str, float] = {}

    def exchange(self, body: Mapping[str, Any], audience: str) -> dict[str, Any]:
        """Checks an assertion and answers a new access token.

        Args:
            body: The JSON of the token request.
            audience: URL the request was made to.

        Raises:
            Refusal: Grant, assertion, signature or a claim is not as documented, or the assertion was spent before.
        """
        if body.get("grant_type") != "client_credentials":
            raise Refusal("unsupported grant type")
        if body.get("client_assertion_type") != _ASSERTION_TYPE or self._key is None:
            raise Refusal("unknown client")
        try:
            # One algorithm only: a token that names another (`none`, HS256 with the public key) is refused.
            claims = jwt.decode(str(body.get("client_assertion", "")), self._key, algorithms=["RS256"]).claims
        except (JoseError, ValueError):
            raise Refusal("the assertion's signature does not fit") from None
        self._check(claims, audience)
        self._spent.add(str(claims["jti"]))
        token = OAUTH_TOKEN_PREFIX + secrets.token_urlsafe(24)
        self._expiries[token] = self._clock() + self._lifetime_s
        return {"access_token": token, "expires_in": self._lifetime_s}

    def accepts(self, token: str) -> bool:
        """Whether a token was issued here and has not expired."""
        return self._expiries.get(token, 0.0) > self._clock()

    def _check(self, claims: Mapping[str, Any], audience: str) -> None:
        now, expires_at, issued_at = self._clock(), claims.get("exp"), claims.get("iat")
        if not claims.get("iss") == claims.get("sub") == self._client_id:
            raise Refusal("issuer and subject are not the client")
        if claims.get("aud") not in (audience, [audience]):
            raise Refusal("the audience is not this endpoint")
        if not isinstance(expires_at, int | float) or not now - _LEEWAY_S < expires_at:
            raise Refusal("the assertion has expired")
        if expires_at > now + _LONGEST_LIFE_S + _LEEWAY_S:
            raise Refusal("the assertion lives too long")
        if not isinstance(issued_at, int | float) or issued_at > now + _LEEWAY_S:
            raise Refusal("the assertion was issued in the future")
        if not claims.get("jti") or str(claims["jti"]) in self._spent:
            raise Refusal("the assertion was used before")
