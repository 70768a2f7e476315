"""Askara's OAuth as its guides describe it: hour-long access tokens, single-use refresh tokens that are rotated."""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.sandbox.inflict import OAUTH_TOKEN_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from medscribe_pipeline.sandbox.state import State

__all__ = ["OAuth", "OAuthError"]


class OAuthError(Exception):
    """A refused token request; the message is the OAuth error code (RFC 6749, section 5.2)."""


class OAuth:
    """The token endpoint's memory: which refresh token is the current one, which access tokens are good.

    Args:
        first_refresh_token: What a person's authorisation yielded, valid until it is spent.
        clock: Seconds since the epoch.
        state: Remembers the tokens, so that a client's rotated refresh token outlives a restart of the sandbox.
        lifetime_s: Of an access token.
    """

    def __init__(
        self,
        *,
        client_id: str,
        client_secret: str,
        first_refresh_token: str,
        clock: Callable[[], float],
        state: State,
        lifetime_s: int = 3600,
    ) -> None:
        self._client = (client_id, client_secret)
        self._clock = clock
        self._state = state
        self._lifetime_s = lifetime_s
        remembered: dict[str, Any] = dict(state.load("oauth"))
        self._refresh_token: str = remembered.get("refresh_token", first_refresh_token)
        self._expiries: dict[str, float] = remembered.get("access_tokens", {})

    def exchange(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Spends a refresh token; the answer holds its successor.

        Raises:
            OAuthError: The grant, the client or the token is not accepted. A token spent before is `invalid_grant`.
        """
        if body.get("grant_type") != "refresh_token":
            raise OAuthError("unsupported_grant_type")
        if not all(
            hmac.compare_digest(str(body.get(name, "")).encode(), expected.encode())
            for name, expected in zip(("client_id", "client_secret"), self._client, strict=True)
        ):
            raise OAuthError("invalid_client")
        if not hmac.compare_digest(str(body.get("refresh_token", "")).encode(), self._refresh_token.encode()):
            raise OAuthError("invalid_grant")
        now = self._clock()
        access_token = OAUTH_TOKEN_PREFIX + secrets.token_urlsafe(24)
        self._refresh_token = f"sandbox-refresh-{secrets.token_urlsafe(24)}"
        self._expiries = {token: until for token, until in self._expiries.items() if until > now}
        self._expiries[access_token] = now + self._lifetime_s
        self._state.save([("oauth", "refresh_token", self._refresh_token), ("oauth", "access_tokens", self._expiries)])
        return {
            "token_type": "Bearer",
            "expires_in": self._lifetime_s,
            "access_token": access_token,
            "refresh_token": self._refresh_token,
        }

    def accepts(self, access_token: str) -> bool:
        """Whether an access token was issued here and has not expired."""
        return self._expiries.get(access_token, 0.0) > self._clock()
