"""How an OAuth client proves at the token endpoint that it is the one it says: by its secret, or by its key."""

from __future__ import annotations

import base64
import uuid
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote_plus

if TYPE_CHECKING:
    from datetime import datetime

    from pydantic import SecretStr

    from medscribe_pipeline.ehr.auth.discovery import TokenEndpoint
    from medscribe_pipeline.ehr.keys import ClientKey

__all__ = ["ASSERTION_LIFE_S", "KeyProof", "Proof", "SecretProof", "basic"]

ASSERTION_LIFE_S = 240
"""Servers refuse assertions that end more than five minutes from now, by their own clock (SMART App Launch 2.2). Four
leave a minute for clocks that disagree, either way."""

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Proof(Protocol):
    """What a token request holds besides the grant and the scope.

    Attributes:
        fields_to_check: Fields of the settings a person should look at when it is refused.
    """

    fields_to_check: tuple[str, ...]

    def headers(self, endpoint: TokenEndpoint) -> dict[str, str]:
        """Headers to send along."""
        ...

    def form(self, endpoint: TokenEndpoint, now: datetime) -> dict[str, str]:
        """Fields of the form, new for every sending."""
        ...


class SecretProof:
    """By a secret (RFC 6749 section 2.3.1): in the header, or in the form where the server takes nothing else.

    Args:
        client_id: The client.
        secret: Its secret.
    """

    fields_to_check: tuple[str, ...] = ("client_id", "client_secret")

    def __init__(self, client_id: str, secret: SecretStr) -> None:
        self._client_id = client_id
        self._secret = secret

    def headers(self, endpoint: TokenEndpoint) -> dict[str, str]:
        """See `Proof.headers`."""
        if endpoint.secret_in_form:
            return {}
        # Encoded like a form before they are put together: a client id may have a colon in it.
        return basic(quote_plus(self._client_id), quote_plus(self._secret.get_secret_value()))

    def form(self, endpoint: TokenEndpoint, now: datetime) -> dict[str, str]:  # noqa: ARG002 - a secret has no time
        """See `Proof.form`."""
        if not endpoint.secret_in_form:
            return {}
        return {"client_id": self._client_id, "client_secret": self._secret.get_secret_value()}


class KeyProof:
    """By a signed assertion (RFC 7523; SMART Backend Services): each one is good for one request.

    Args:
        client_id: The client.
        key: Its private key.
    """

    fields_to_check: tuple[str, ...] = ("client_id", "private_key_file", "key_id")

    def __init__(self, client_id: str, key: ClientKey) -> None:
        self._client_id = client_id
        self._key = key

    def headers(self, endpoint: TokenEndpoint) -> dict[str, str]:  # noqa: ARG002 - all is in the form
        """See `Proof.headers`."""
        return {}

    def form(self, endpoint: TokenEndpoint, now: datetime) -> dict[str, str]:
        """See `Proof.form`."""
        issued_at = int(now.timestamp())
        claims = {
            "iss": self._client_id,
            "sub": self._client_id,
            "aud": endpoint.url,
            "iat": issued_at,
            "exp": issued_at + ASSERTION_LIFE_S,
            "jti": str(uuid.uuid4()),
        }
        return {"client_assertion_type": _ASSERTION_TYPE, "client_assertion": self._key.sign(claims)}


def basic(user: str, password: str) -> dict[str, str]:
    """The header of basic authentication (RFC 7617), in UTF-8."""
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}
