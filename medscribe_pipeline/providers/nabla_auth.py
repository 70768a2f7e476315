"""OAuth client credentials with a signed JWT (Nabla, from 2024-10-01 on): RFC 6749 section 4.4 with RFC 7523.

Nothing has to outlive the process: a token can be had at any time with the private key, so it is kept in memory only.
An assertion is good for one request. One whose answer was lost is not sent again; the next call signs another.
"""

from __future__ import annotations

import stat
import threading
import time
import uuid
import warnings
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from joserfc import jwt
from joserfc.errors import InvalidKeyTypeError, SecurityWarning
from joserfc.jwk import RSAKey

from medscribe_pipeline.errors import ConfigError, ProviderContractError, Retriable
from medscribe_pipeline.providers.budget import Clock, SystemClock
from medscribe_pipeline.providers.credentials import is_token
from medscribe_pipeline.providers.http import CredentialsError, HttpClient, Refused, Unsettled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from medscribe_pipeline.providers.answers import Answer
    from medscribe_pipeline.settings import NablaSettings

__all__ = ["ClientAssertionAuth", "load_private_key"]

_CLIENT = "nabla"
_KEY_SETTING = "MEDSCRIBE_NABLA_PRIVATE_KEY_FILE"
_CREDENTIAL_SETTINGS = f"MEDSCRIBE_NABLA_CLIENT_ID, {_KEY_SETTING}"
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_LIFE_S = 300
"""The vendor takes assertions that end up to five minutes ahead; the most leaves room for a clock that is off."""
_MARGIN = timedelta(seconds=60)
_DEFAULT_LIFE_S = 3600.0
_LONGEST_LIFE_S = 86_400.0
_MAX_KEY_BYTES = 65_536
_MIN_KEY_BITS = 2048


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    issued_at: datetime
    expires_at: datetime

    @property
    def header(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.value}"}

    def is_fresh(self, now: datetime) -> bool:
        # Half the life of a token that lives shorter than two margins: else each request would ask for another.
        return now < self.expires_at - min(_MARGIN, (self.expires_at - self.issued_at) / 2)


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
        self._token: _Token | None = None
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
            if self._token is None or not self._token.is_fresh(self._clock.now()):
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

    def _obtain(self) -> _Token:
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
            return _token_of(answer)
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


def _token_of(answer: Answer) -> _Token:
    body: dict[str, Any] = answer.body if isinstance(answer.body, dict) else {}
    value = body.get("access_token")
    if not is_token(value):
        raise ProviderContractError(
            "The token endpoint answered something that holds no usable token.",
            code="token_answer",
            status=answer.status,
            field_paths=("access_token",),
            context={"client": _CLIENT},
        )
    life = timedelta(seconds=_life_s(body.get("expires_in")))
    return _Token(value=str(value), issued_at=answer.sent_at, expires_at=answer.sent_at + life)


def _life_s(value: object) -> float:
    """`expires_in` in seconds; an hour where it is missing or makes no sense, a day at most."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return _DEFAULT_LIFE_S
    return min(float(value), _LONGEST_LIFE_S)


def load_private_key(path: Path) -> RSAKey:
    """Reads the RSA private key (PEM, not encrypted) that signs the assertions.

    Raises:
        ConfigError: `private_key`: the file is missing, cannot be read, may be read by others, or holds no RSA private
            key of 2048 bits or more. Nothing of its content is shown.
    """
    key = _parse_key(_read_key(path))
    if not key.is_private:
        raise _unusable("The private key file holds a public key.")
    if key.raw_value.key_size < _MIN_KEY_BITS:
        raise _unusable("The private key is too short; RSA keys have 2048 bits or more.")
    return key


def _read_key(path: Path) -> bytes:
    problem = "The private key file cannot be read."
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            problem = "The private key file is no file."
        elif status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            problem = "The private key file is open to other users; allow its owner only (chmod 600)."
        elif status.st_size > _MAX_KEY_BYTES:
            problem = "The private key file is too large to be a key."
        else:
            return path.read_bytes()
    except FileNotFoundError:
        problem = "The private key file does not exist."
    except (OSError, ValueError):
        pass
    raise _unusable(problem)


def _parse_key(data: bytes) -> RSAKey:
    problem = "The private key file holds no private key in PEM format."
    try:
        with warnings.catch_warnings():
            # A key that is too short gets a warning there and an error here.
            warnings.simplefilter("ignore", SecurityWarning)
            return RSAKey.import_key(data)
    except InvalidKeyTypeError:
        problem = "The private key is no RSA key."
    except TypeError:
        problem = "The private key is encrypted; one without pass phrase is needed."
    except Exception:  # noqa: BLE001, S110  # whatever the parsers below raise, it means the same and may quote the key
        pass
    # Out here, so that what the parser raised is not reachable from our error.
    raise _unusable(problem)


def _unusable(message: str) -> ConfigError:
    return ConfigError(message, code="private_key", context={"client": _CLIENT, "setting": _KEY_SETTING})
