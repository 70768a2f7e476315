"""OAuth with single-use, rotated refresh tokens (Askara): each one is spent once, by one process, and never lost.

Each refresh kills the token it spends and gives its successor, so the successor is stored before anything else
is done with the answer, and an inter-process lock is held from reading the old one to storing the new one.
Where the answer never arrived nobody knows whether the token was spent: it is tried again on the next request,
and if the server then refuses it a person has to authorise again.
"""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, Self

from medscribe_pipeline.errors import ConfigError, ProviderContractError, Retriable
from medscribe_pipeline.providers.access_tokens import life_s
from medscribe_pipeline.providers.budget import Clock, SystemClock
from medscribe_pipeline.providers.credentials import is_token
from medscribe_pipeline.providers.http import CredentialsError, HttpClient, Refused, Unsettled

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from medscribe_pipeline.providers.answers import Answer
    from medscribe_pipeline.settings import AskaraSettings

__all__ = ["RefreshTokenAuth", "StoredTokens", "TokenStore"]

_CLIENT = "askara"
_PREFIX = "MEDSCRIBE_ASKARA_"
_MARGIN = timedelta(seconds=60)
"""An access token this close to its end is not used any more: the request may be slow to arrive."""


@dataclass(frozen=True, slots=True)
class StoredTokens:
    """The state of one chain of refresh tokens. Its `repr` shows no secret.

    Attributes:
        seed_hash: SHA-256 (hex) of the configured refresh token the chain began with.
        refresh_token: The next one to spend.
        access_token: The newest one.
        expires_at: When `access_token` ends. Aware UTC.
        rotated_at: When the request that brought them was sent. Aware UTC.
    """

    seed_hash: str
    refresh_token: str = field(repr=False)
    access_token: str = field(repr=False)
    expires_at: datetime
    rotated_at: datetime


class TokenStore(Protocol):
    """Where a chain of refresh tokens outlives the process; one object stands for one account of one provider."""

    def load(self) -> StoredTokens | None:
        """What was saved last, by whatever process; `None` at first."""
        ...

    def save(self, tokens: StoredTokens) -> None:
        """Replaces what is stored; returns once it is durable."""
        ...

    def lock(self) -> AbstractContextManager[object]:
        """Keeps every other process, and every other holder in this one, out while it is held.

        Raises:
            Busy: It could not be had in time.
        """
        ...


class RefreshTokenAuth:
    """An `Auth` that keeps an access token fresh. Thread-safe; use one for all clients of an account.

    Args:
        settings: The three OAuth settings, the token endpoint and how to behave towards it. A configured refresh
            token other than the one the stored chain began with begins a new chain.
        store: Where the chain is kept.
        clock: As for `HttpClient`, and so are `sleep` and `stop`.

    Raises:
        ConfigError: One of the three is missing.
    """

    def __init__(
        self,
        settings: AskaraSettings,
        store: TokenStore,
        *,
        clock: Clock | None = None,
        sleep: Callable[[float], None] = time.sleep,
        stop: threading.Event | None = None,
    ) -> None:
        if not (settings.client_id and settings.client_secret and settings.refresh_token):
            raise ConfigError(
                "OAuth needs the client id, the client secret and the refresh token.",
                code="credentials",
                context={"client": _CLIENT, "setting": f"{_PREFIX}REFRESH_TOKEN"},
            )
        self._client_id = settings.client_id
        self._client_secret = settings.client_secret
        self._first_refresh_token = settings.refresh_token
        self._seed_hash = hashlib.sha256(settings.refresh_token.get_secret_value().encode()).hexdigest()
        self._store = store
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._tokens: StoredTokens | None = None
        self._unsaved: tuple[str, StoredTokens] | None = None
        token_url = settings.token_url or f"{settings.base_url}/oauth2/token"
        self._http = HttpClient(_CLIENT, token_url, settings, clock=self._clock, sleep=sleep, stop=stop)

    def __enter__(self) -> Self:
        """The object itself; leaving closes the connection to the token endpoint."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the connection to the token endpoint."""
        self.close()

    def close(self) -> None:
        """Closes the connection to the token endpoint."""
        self._http.close()

    def header(self) -> dict[str, str]:
        """The header with an access token good for some time yet; refreshes it first where needed.

        Raises:
            ConfigError: A person must act: `reauthorise` (the refresh token was refused), `credentials` (the
                client was), `token_url`.
            Retriable: The token endpoint did not answer, or not clearly. The next call tries the same token.
            ProviderContractError: It answered something that holds no tokens (`token_answer`).
            Busy: Another process is refreshing, and takes its time.
        """
        with self._lock:
            if self._tokens is None or not self._is_fresh(self._tokens):
                self._tokens = self._obtain(stale_access_token=None)
            return _bearer(self._tokens)

    def renew(self, stale: dict[str, str]) -> bool:
        """Gets another access token after a 401 to `stale`; spends nothing if another thread or process has.

        Raises:
            ConfigError: As for `header`, and so for the others.
        """
        with self._lock:
            if self._tokens is None or _bearer(self._tokens) == stale:
                refused = stale.get("Authorization", "").removeprefix("Bearer ")
                self._tokens = self._obtain(stale_access_token=refused)
            return _bearer(self._tokens) != stale

    def _is_fresh(self, tokens: StoredTokens) -> bool:
        # Half the life of a token that lives shorter than two margins: else each request would spend a refresh.
        margin = min(_MARGIN, (tokens.expires_at - tokens.rotated_at) / 2)
        return self._clock.now() < tokens.expires_at - margin

    def _obtain(self, stale_access_token: str | None) -> StoredTokens:
        """The stored access token if it will do, else a new one."""
        with self._store.lock():
            # Read under the lock: whoever held it before us may have refreshed already.
            stored = self._store.load()
            if stored is not None and stored.seed_hash != self._seed_hash:
                stored = None
            spend = stored.refresh_token if stored else self._first_refresh_token.get_secret_value()
            if self._unsaved is not None and self._unsaved[0] == spend:
                # An earlier answer arrived but could not be stored: its tokens are the only ones that still work.
                stored = self._keep(spend, self._unsaved[1])
                spend = stored.refresh_token
            if stored is not None and stored.access_token != stale_access_token and self._is_fresh(stored):
                return stored
            return self._keep(spend, self._redeem(spend))

    def _keep(self, spent: str, tokens: StoredTokens) -> StoredTokens:
        """Stores tokens; where that fails they are remembered, with what was spent for them, until it works."""
        self._unsaved = (spent, tokens)
        self._store.save(tokens)
        self._unsaved = None
        return tokens

    def _redeem(self, refresh_token: str) -> StoredTokens:
        """Spends one refresh token."""
        body = {
            "grant_type": "refresh_token",
            "refresh_token": refresh_token,
            "client_id": self._client_id,
            "client_secret": self._client_secret.get_secret_value(),
        }
        failure: Exception
        try:
            # A token endpoint that throttles has not looked at the token yet.
            answer = self._http.request("POST", "", json=body, repeat=False, throttle_is_refusal=True)
            return self._tokens_of(answer, refresh_token)
        except Unsettled as error:
            # For the caller's own request this means: surely not sent.
            failure = Retriable(
                "The token endpoint gave no clear answer; the same refresh token is tried again next time.",
                code=error.code,
                status=error.status,
                context={"client": _CLIENT},
            )
        except (CredentialsError, Refused) as error:
            failure = self._refusal(error)
        raise failure

    def _refusal(self, error: CredentialsError | Refused) -> ConfigError:
        """Which setting a person must change, as far as the answer tells (RFC 6749 section 5.2)."""
        body = error.answer.body
        reason = body.get("error") if isinstance(body, dict) else None
        if reason in ("invalid_client", "unauthorized_client"):
            return ConfigError(
                "The token endpoint does not accept the OAuth client.",
                code="credentials",
                status=error.status,
                context={"client": _CLIENT, "setting": f"{_PREFIX}CLIENT_ID, {_PREFIX}CLIENT_SECRET"},
            )
        if reason == "invalid_grant" or error.status in (400, 401, 403):
            return ConfigError(
                "The refresh token was refused: it is spent, expired or withdrawn. Authorise again and set a new one.",
                code="reauthorise",
                status=error.status,
                context={"client": _CLIENT, "setting": f"{_PREFIX}REFRESH_TOKEN"},
            )
        return ConfigError(
            "The token endpoint does not answer token requests; check its URL.",
            code="token_url",
            status=error.status,
            context={"client": _CLIENT, "setting": f"{_PREFIX}TOKEN_URL"},
        )

    def _tokens_of(self, answer: Answer, spent: str) -> StoredTokens:
        body: dict[str, Any] = answer.body if isinstance(answer.body, dict) else {}
        access_token = body.get("access_token")
        # A server that rotates nothing gives no new refresh token (RFC 6749 section 6): the old one stays good.
        refresh_token = body.get("refresh_token") or spent
        bad = [
            key
            for key, value in (("access_token", access_token), ("refresh_token", refresh_token))
            if not is_token(value)
        ]
        if bad:
            raise ProviderContractError(
                "The token endpoint answered something that holds no usable tokens.",
                code="token_answer",
                status=answer.status,
                field_paths=bad,
                context={"client": _CLIENT},
            )
        return StoredTokens(
            seed_hash=self._seed_hash,
            refresh_token=str(refresh_token),
            access_token=str(access_token),
            expires_at=answer.sent_at + timedelta(seconds=life_s(body.get("expires_in"))),
            rotated_at=answer.sent_at,
        )


def _bearer(tokens: StoredTokens) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens.access_token}"}
