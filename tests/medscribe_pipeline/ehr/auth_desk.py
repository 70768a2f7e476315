"""A FHIR server with a token endpoint on loopback: it checks what it is shown, and its tokens end."""

from __future__ import annotations

import base64
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote_plus

import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from medscribe_pipeline.ehr.auth import open_http
from medscribe_pipeline.settings import EhrSettings
from tests.medscribe_pipeline.providers.scripted_server import Hangup, Reply

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from datetime import datetime

    from medscribe_pipeline.providers.http import HttpClient
    from medscribe_pipeline.warehouse.store import Warehouse
    from tests.medscribe_pipeline.providers.scripted_server import FakeClock, ScriptedServer, Seen

CLIENT_ID = "clinic:writer"
SECRET = "qxcanary-secret: +/%"
BASE = "/fhir"
WELL_KNOWN = f"{BASE}/.well-known/smart-configuration"


@dataclass
class AuthDesk:
    """Gives `qxcanary-1`, `qxcanary-2`, ... to a client that proves who it is, and serves FHIR to who shows the newest.

    Attributes:
        jwks: Public keys it knows.
        secret: The client's secret.
        life_s: `expires_in` of its answers.
        configuration: What it says of itself; `None` for a server that says nothing.
        answers: Answers of the token endpoint before it does its work.
        asked: Token requests, as forms, in order.
        assertions: Those assertions that were good.
        revoked: Tokens that end now.
    """

    server: ScriptedServer
    clock: FakeClock
    path: str = "/auth/token"
    jwks: list[dict[str, Any]] = field(default_factory=list)
    secret: str = SECRET
    life_s: Any = 300
    answers: list[Reply | Hangup] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    assertions: list[jwt.Token] = field(default_factory=list)
    revoked: set[str] = field(default_factory=set)
    ends: dict[str, datetime] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.configuration: dict[str, Any] | Reply | None = {"token_endpoint": self.url}
        self.server.responder = self.answer

    @property
    def url(self) -> str:
        return f"{self.server.url}{self.path}"

    @property
    def tokens(self) -> list[str]:
        return list(self.ends)

    @property
    def served(self) -> list[tuple[str, str]]:
        """Requests to the FHIR server itself: method and token shown."""
        return [
            (seen.method, seen.headers.get("authorization", "").removeprefix("Bearer "))
            for seen in self.server.seen
            if seen.path.startswith(BASE) and seen.path != WELL_KNOWN
        ]

    def answer(self, seen: Seen) -> Reply | Hangup:
        with self._lock:
            if seen.path == WELL_KNOWN:
                return self._configured()
            if seen.path == self.path:
                return self._token(seen)
            token = seen.headers.get("authorization", "").removeprefix("Bearer ")
            good = token in self.ends and self.clock.now() < self.ends[token] and token not in self.revoked
            return Reply(200 if good else 401)

    def _configured(self) -> Reply:
        if self.configuration is None:
            return Reply(404)
        if isinstance(self.configuration, Reply):
            return self.configuration
        return Reply(body=orjson.dumps(self.configuration))

    def _token(self, seen: Seen) -> Reply | Hangup:
        form = {name: values[0] for name, values in parse_qs(seen.body.decode(), strict_parsing=True).items()}
        self.asked.append(form)
        self.shown.append(seen.headers.get("authorization", ""))
        if self.answers:
            return self.answers.pop(0)
        regular = seen.headers["content-type"] == "application/x-www-form-urlencoded"
        if not (regular and form["grant_type"] == "client_credentials" and self._is_known(form, seen)):
            return Reply(400, body=b'{"error": "invalid_client", "error_description": "qxcanary-words"}')
        token = f"qxcanary-{len(self.ends) + 1}"
        life_s = self.life_s if isinstance(self.life_s, int) and self.life_s > 0 else 3600
        self.ends[token] = self.clock.now() + timedelta(seconds=life_s)
        told = {"access_token": token, "token_type": "bearer", "expires_in": self.life_s}
        return Reply(body=orjson.dumps(told))

    def _is_known(self, form: dict[str, str], seen: Seen) -> bool:
        if "client_assertion" in form:
            return self._is_signed(form)
        if "client_secret" in form:
            return (form["client_id"], form["client_secret"]) == (CLIENT_ID, self.secret)
        scheme, _, code = seen.headers.get("authorization", "").partition(" ")
        client_id, _, secret = base64.b64decode(code).decode().partition(":")
        return scheme == "Basic" and (unquote_plus(client_id), unquote_plus(secret)) == (CLIENT_ID, self.secret)

    def _is_signed(self, form: dict[str, str]) -> bool:
        """The checks of SMART App Launch 2.2, asymmetric client authentication."""
        keys = KeySet.import_key_set({"keys": self.jwks})
        try:
            token = jwt.decode(form["client_assertion"], keys, algorithms=["RS384", "ES384"])
        except (JoseError, ValueError):
            return False
        claims, now = token.claims, self.clock.now().timestamp()
        good = (
            form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            and claims["iss"] == claims["sub"] == CLIENT_ID
            and claims["aud"] == self.url
            and now < claims["exp"] <= now + 300
            and 0 < len(claims["jti"]) <= 151
            and claims["jti"] not in {earlier.claims["jti"] for earlier in self.assertions}
        )
        if good:
            self.assertions.append(token)
        return bool(good)

    def open(self, warehouse: Warehouse | None = None, **settings: Any) -> AbstractContextManager[HttpClient]:
        """A client of the FHIR server, with small limits, so that a test that goes wrong ends soon."""
        small = {"base_url": f"{self.server.url}{BASE}", "timeout_s": 5, "max_attempts": 3, "backoff_s": 0}
        return open_http(EhrSettings(**{**small, **settings}), warehouse, clock=self.clock, sleep=self.clock.sleep)
