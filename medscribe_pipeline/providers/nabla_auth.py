"""OAuth client credentials with a signed JWT (Nabla, from 2024-10-01 on): RFC 6749 section 4.4 with RFC 7523.

Nothing has to outlive the process: a token can be had at any time with the private key, so it is kept in memory only.
An assertion is good for one request. One whose answer was lost is not sent again; the next call signs another.
"""

from __future__ import annotations

import threading
import time
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from joserfc import jwt
from joserfc.jwk import RSAKey

from medscribe_pipeline.errors import ConfigError, Retriable
from medscribe_pipeline.providers.access_tokens import AccessToken, read_token
from medscribe_pipeline.providers.budget import Clock, SystemClock
from medscribe_pipeline.providers.http import CredentialsError, HttpClient, Refused, Unsettled
from medscribe_pipeline.providers.key_files import KeyFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from pathlib import Path

    from medscribe_pipeline.providers.key_files import SigningKey
    from medscribe_pipeline.settings import NablaSettings

__all__ = ["ClientAssertionAuth", "load_private_key"]

_CLIENT = "nabla"
_KEY_SETTING = "MEDSCRIBE_NABLA_PRIVATE_KEY_FILE"
_CREDENTIAL_SETTINGS = f"MEDSCRIBE_NABLA_CLIENT_ID, {_KEY_SETTING}"
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_LIFE_S = 300
"""The vendor takes assertions that end up to five minutes ahead; the most leaves room for a clock that is off."""
_MARGIN = timedelta(seconds=60)


class ClientAssertionAuth:
    """An `Auth` that trades a signed JWT for an access token. Thread-safe; use one for all clients of an account.

    Args:
        settings: Client id, private key file, key id, and how to behave towards the token endpoint.
        token_url: The token endpoint; it is also the audience of the assertion.
        headers: Headers to send along (the API version).
        clock: As for `HttpClient`, and so are `sleep` and `stop`.

    Raises:
        ConfigError: The client id or the key is missing, or the key file cannot be used.
    """

    def __init__(
        self,
        settings: NablaSettings,
        token_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        sleep: Callable[[float], None] = time.sleep,
        stop: threading.Event | None = None,
    ) -> None:
        if not settings.client_id or settings.private_key_file is None:
            raise ConfigError(
                "OAuth needs the client id and the private key file.",
                code="credentials",
                context={"client": _CLIENT, "setting": _CREDENTIAL_SETTINGS},
            )
        self._client_id = settings.client_id
        self._key = load_private_key(settings.private_key_file)
        self._key_id = settings.key_id
        self._token_url = token_url
        self._headers = dict(headers or {})
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._token: AccessToken | None = None
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
        """The header with an access token good for some time yet; asks for one first where needed.

        Raises:
            ConfigError: The token endpoint refused the client or its key (`credentials`), or is none (`token_url`).
            Retriable: It did not answer, or not clearly. The next call tries again.
            ProviderContractError: It answered something that holds no token (`token_answer`).
        """
        with self._lock:
            if self._token is None or not _is_fresh(self._token, self._clock.now()):
                self._token = self._obtain()
            return self._token.header

    def renew(self, stale: dict[str, str]) -> bool:
        """Gets another access token after a 401 to `stale`, unless another thread has already.

        Raises:
            ConfigError: As for `header`, and so for the others.
        """
        with self._lock:
            if self._token is None or self._token.header == stale:
                self._token = self._obtain()
            return self._token.header != stale

    def _assertion(self) -> str:
        now = int(self._clock.now().timestamp())
        header = {"alg": "RS256", "typ": "JWT", **({"kid": self._key_id} if self._key_id else {})}
        claims = {
            "iss": self._client_id,
            "sub": self._client_id,
            "aud": self._token_url,
            "iat": now,
            "exp": now + _ASSERTION_LIFE_S,
            "jti": str(uuid.uuid4()),
        }
        return jwt.encode(header, claims, self._key, algorithms=["RS256"])

    def _obtain(self) -> AccessToken:
        body = {
            "grant_type": "client_credentials",
            "client_assertion_type": _ASSERTION_TYPE,
            "client_assertion": self._assertion(),
        }
        failure: Exception
        try:
            # A token endpoint that throttles has not looked at the assertion yet.
            answer = self._http.request(
                "POST", "", json=body, headers=self._headers, repeat=False, throttle_is_refusal=True
            )
            return read_token(answer, _CLIENT)
        except Unsettled as error:
            # For the caller's own request this means: surely not sent.
            failure = Retriable(
                "The token endpoint gave no clear answer; it is asked again next time.",
                code=error.code,
                status=error.status,
                context={"client": _CLIENT},
            )
        except (CredentialsError, Refused) as error:
            failure = _refusal(error)
        raise failure


def _refusal(error: CredentialsError | Refused) -> ConfigError:
    if error.status in (400, 401, 403):
        return ConfigError(
            "The token endpoint does not accept the OAuth client or its key. Check that the public key is registered, "
            "and that the clock of this machine is right.",
            code="credentials",
            status=error.status,
            context={"client": _CLIENT, "setting": _CREDENTIAL_SETTINGS},
        )
    return ConfigError(
        "The token endpoint does not answer token requests; check base URL and path prefix.",
        code="token_url",
        status=error.status,
        context={"client": _CLIENT, "setting": "MEDSCRIBE_NABLA_BASE_URL, MEDSCRIBE_NABLA_PATH_PREFIX"},
    )


def _is_fresh(token: AccessToken, now: datetime) -> bool:
    # Half the life of a token that lives shorter than two margins: else each request would ask for another.
    return now < token.expires_at - min(_MARGIN, (token.expires_at - token.issued_at) / 2)


def load_private_key(path: Path) -> SigningKey:
    """Reads the RSA private key (PEM, not encrypted) that signs the assertions.

    Raises:
        ConfigError: `private_key`: the file is missing, cannot be read, may be read by others, or holds no RSA private
            key of 2048 bits or more. Nothing of its content is shown.
    """
    return KeyFile(path, client=_CLIENT, setting=_KEY_SETTING).load(RSAKey)
