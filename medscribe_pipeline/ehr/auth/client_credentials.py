"""OAuth2 client credentials (RFC 6749 section 4.4): an access token, kept, renewed in time, and shared.

Shared between threads, which wait for one request instead of making one each; and between runs, by way of the
warehouse: a backfill of many visit days may be as many short processes, and token endpoints throttle a client that
asks more than once in a token's life. An access token lives for minutes, while the warehouse holds refresh tokens that
live for ever, so it is stored as it is.

For the request that wanted the token, whatever is raised here means: surely not sent.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

from medscribe_pipeline.ehr.auth.discovery import TokenEndpoint, discover
from medscribe_pipeline.errors import Busy, ConfigError, ProviderContractError
from medscribe_pipeline.providers.access_tokens import AccessToken, read_token
from medscribe_pipeline.providers.budget import Clock, SystemClock
from medscribe_pipeline.providers.http import CredentialsError, HttpClient, Refused
from medscribe_pipeline.providers.oauth import StoredTokens, TokenStore

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from medscribe_pipeline.ehr.auth.proofs import Proof
    from medscribe_pipeline.settings import EhrSettings

__all__ = ["ClientCredentials", "scope_of"]

_RENEWED_AFTER = 0.8
"""Share of its life after which a token is not used any more: a request may be slow, and clocks may disagree."""

# RFC 6749 section 5.2; anything else a server calls its error is not repeated in ours.
_KNOWN_ERRORS = frozenset(
    {"invalid_client", "unauthorized_client", "invalid_grant", "invalid_request", "invalid_scope"}
    | {"unsupported_grant_type"}
)
_NO_ENDPOINT = "The token endpoint does not answer token requests; check its URL."
_REFUSING = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})

# Oracle Health grants named scopes only. https://fhir.cerner.com/authorization/
_ORACLE_SCOPE = (
    "system/DocumentReference.read system/DocumentReference.write "
    "system/Encounter.read system/Patient.read system/Practitioner.read"
)


def scope_of(target: EhrSettings) -> str | None:
    """The scopes to ask for; `None` to leave them out.

    Epic is sent none: it grants what the client is registered for. Azure wants the server's own name
    (https://learn.microsoft.com/azure/healthcare-apis/get-access-token). SMART Backend Services prescribe the
    parameter; in plain OAuth2 a server without it grants its default.
    """
    if target.scope is not None:
        return None if target.scope == "none" else target.scope
    if target.kind == "azure":
        return f"{target.base_url}/.default"
    if target.kind == "epic" or target.sign_in != "smart":
        return None
    return _ORACLE_SCOPE if target.kind == "oracle" else "system/*.cruds"


class ClientCredentials:
    """An `Auth` that keeps an access token fresh. Thread-safe; use one for all clients of a target.

    Args:
        target: Client id, token endpoint, scope, and how to behave towards the endpoint.
        proof: How the client proves who it is.
        store: Where the token is shared with other runs; `None` to keep it to ourselves.
        tls: How to speak TLS.
        clock: As for `HttpClient`, and so are `sleep` and `stop`.
    """

    def __init__(
        self,
        target: EhrSettings,
        proof: Proof,
        store: TokenStore | None,
        *,
        tls: ssl.SSLContext | None = None,
        clock: Clock | None = None,
        sleep: Callable[[float], None] = time.sleep,
        stop: threading.Event | None = None,
    ) -> None:
        self._target = target
        self._name = f"{target.target}/token"
        self._proof = proof
        self._store = store
        self._scope = scope_of(target)
        self._clock = clock or SystemClock()
        self._sleep, self._stop, self._tls = sleep, stop, tls
        self._lock = threading.Lock()
        self._token: AccessToken | None = None
        self._refusal: ConfigError | None = None
        self._endpoint: TokenEndpoint | None = None
        self._http: HttpClient | None = None

    def close(self) -> None:
        """Closes the connection to the token endpoint."""
        if self._http is not None:
            self._http.close()

    def header(self) -> dict[str, str]:
        """The header with an access token good for some time yet; asks for one first where needed.

        Raises:
            ConfigError: A person must act: `credentials` (the client was refused), `scope`, `token_url`,
                `smart_configuration`, `token_answer`. It is not asked a second time.
            Retriable: The token endpoint did not answer. The next call tries again.
        """
        with self._lock:
            if self._token is None or not self._is_fresh(self._token):
                self._token = self._obtain(refused=None)
            return self._token.header

    def renew(self, stale: dict[str, str]) -> bool:
        """Gets another access token after a 401 to `stale`, unless another thread or run has already.

        Raises:
            ConfigError: As for `header`, and so for `Retriable`.
        """
        with self._lock:
            if self._token is None or self._token.header == stale:
                self._token = self._obtain(refused=stale)
            return self._token.header != stale

    def _is_fresh(self, token: AccessToken) -> bool:
        return self._clock.now() < token.issued_at + _RENEWED_AFTER * (token.expires_at - token.issued_at)

    def _obtain(self, refused: dict[str, str] | None) -> AccessToken:
        """The token of another run if it will do, else a new one."""
        if self._refusal is not None:
            # Threads that waited meanwhile are told the same: a client that insists may be locked out.
            raise self._refusal
        if self._store is None:
            return self._fetch()
        # Where another run asks at this moment and takes its time, two tokens do no harm.
        with contextlib.suppress(Busy), self._store.lock():
            stored = self._store.load()
            if stored is not None and stored.seed_hash == self._identity:
                token = AccessToken(stored.access_token, stored.rotated_at, stored.expires_at)
                if token.header != refused and self._is_fresh(token):
                    return token
            token = self._fetch()
            self._store.save(StoredTokens(self._identity, "", token.value, token.expires_at, token.issued_at))
            return token
        return self._fetch()

    @property
    def _identity(self) -> str:
        """Whose token it is: one that another client, or the same with other scopes, left behind is not ours."""
        own = self._target
        parts = (own.base_url, own.token_url, own.sign_in, own.client_id, self._scope)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _fetch(self) -> AccessToken:
        """Asks the token endpoint."""
        try:
            if self._endpoint is None:
                self._endpoint = self._find_endpoint()
            return self._ask(self._endpoint)
        except ConfigError as error:
            self._refusal = error
            raise

    def _find_endpoint(self) -> TokenEndpoint:
        if self._target.token_url is not None:
            return TokenEndpoint(self._target.token_url)
        with self._client(str(self._target.base_url)) as http:
            return discover(self._target, http)

    def _ask(self, endpoint: TokenEndpoint) -> AccessToken:
        parts = urlsplit(endpoint.url)
        if self._http is None:
            self._http = self._client(f"{parts.scheme}://{parts.netloc}")

        def form() -> bytes:
            fields = {"grant_type": "client_credentials", **({"scope": self._scope} if self._scope else {})}
            return urlencode({**fields, **self._proof.form(endpoint, self._clock.now())}).encode()

        def content() -> Iterator[bytes]:
            # Signed when it leaves, so that neither a retry nor a long wait sends an assertion that is spent or over.
            yield form()

        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            # All forms of one client are of one length: numbers and signatures in them are.
            "Content-Length": str(len(form())),
            **self._proof.headers(endpoint),
        }
        failure: Exception
        try:
            answer = self._http.request(
                "POST",
                parts.path,
                params=parse_qsl(parts.query),
                content=content,
                headers=headers,
                # A second token does no harm.
                repeat=True,
            )
            return read_token(answer, self._name)
        except (CredentialsError, Refused) as error:
            failure = self._refused(error)
        except ProviderContractError as error:
            failure = self._config_error(
                _NO_ENDPOINT,
                "token_answer" if error.code == "token_answer" else "token_url",
                ("token_url",),
                error.status,
            )
        raise failure

    def _refused(self, error: CredentialsError | Refused) -> ConfigError:
        """Which setting a person must change, as far as the answer tells."""
        body = error.answer.body
        reason = body.get("error") if isinstance(body, dict) else None
        known = reason if isinstance(reason, str) and reason in _KNOWN_ERRORS else None
        if known == "invalid_scope":
            message = "The token endpoint does not grant these scopes."
            return self._config_error(message, "scope", ("scope",), error.status, known)
        if known is None and error.status not in _REFUSING:
            return self._config_error(_NO_ENDPOINT, "token_url", ("token_url",), error.status)
        message = (
            "The token endpoint does not accept the client. Check its registration, its key or secret, and the clock "
            "of this machine; what was registered just now may take an hour to become known."
        )
        return self._config_error(message, "credentials", self._proof.fields_to_check, error.status, known)

    def _config_error(
        self, message: str, code: str, fields: tuple[str, ...], status: int | None, oauth_error: str | None = None
    ) -> ConfigError:
        context = {"client": self._name, "setting": ", ".join(self._target.variable(field) for field in fields)}
        return ConfigError(
            message, code=code, status=status, context=context | ({"oauth_error": oauth_error} if oauth_error else {})
        )

    def _client(self, base_url: str) -> HttpClient:
        # One request at a time, and none of them counts against the budget of the FHIR server.
        own = self._target.model_copy(update={"connections": 1, "requests_per_minute": 0})
        return HttpClient(
            self._name, base_url, own, clock=self._clock, sleep=self._sleep, stop=self._stop, tls=self._tls
        )
