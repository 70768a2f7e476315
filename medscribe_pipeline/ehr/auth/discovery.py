"""Where tokens are had: what a server says in `.well-known/smart-configuration` (SMART App Launch 2.2, conformance)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from medscribe_pipeline.errors import ConfigError, ProviderContractError
from medscribe_pipeline.providers.http import CredentialsError, HttpClient, Refused
from medscribe_pipeline.providers.transport import is_loopback

if TYPE_CHECKING:
    from medscribe_pipeline.settings import EhrSettings

__all__ = ["TokenEndpoint", "discover"]

_PATH = ".well-known/smart-configuration"
_MAX_URL = 2_000


@dataclass(frozen=True, slots=True)
class TokenEndpoint:
    """A token endpoint.

    Attributes:
        url: Its URL, to the letter: it is also the audience of what we sign.
        secret_in_form: It takes a client secret in the form only, and not in the `Authorization` header, which every
            server should take (RFC 6749 section 2.3.1).
    """

    url: str
    secret_in_form: bool = False


def discover(target: EhrSettings, http: HttpClient) -> TokenEndpoint:
    """Asks a server for its token endpoint.

    Args:
        target: For the names of its settings.
        http: A client of the server's base URL that needs no credentials.

    Raises:
        ConfigError: `smart_configuration`: the server tells none, or one that credentials must not be sent to: it is
            neither https nor on the machine of a test server that is on loopback itself.
        Retriable: The server does not answer.
    """
    status: int | None = None
    configuration: Any = None
    try:
        answer = http.get_json(_PATH)
        status, configuration = answer.status, answer.body
    except (CredentialsError, Refused, ProviderContractError) as error:
        status = error.status
    endpoint = configuration.get("token_endpoint") if isinstance(configuration, dict) else None
    if not isinstance(endpoint, str) or not endpoint:
        raise _unusable("The server does not say where its token endpoint is; set it.", target, status)
    if not _may_have_credentials(endpoint, str(target.base_url)):
        raise _unusable("The token endpoint the server names is not https; set the right one.", target, status)
    methods = configuration.get("token_endpoint_auth_methods_supported")
    listed = methods if isinstance(methods, list) else []
    return TokenEndpoint(
        endpoint, secret_in_form="client_secret_post" in listed and "client_secret_basic" not in listed
    )


def _may_have_credentials(url: str, base_url: str) -> bool:
    parts, base = _split(url), _split(base_url)
    if parts is None or base is None or parts.fragment or "@" in parts.netloc or len(url) > _MAX_URL:
        return False
    if parts.scheme == "https":
        return True
    own = (parts.scheme, parts.hostname) == ("http", base.hostname) and base.scheme == "http"
    return own and is_loopback(str(base.hostname))


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        return parts if parts.hostname and url.isascii() and url.isprintable() and " " not in url else None
    except ValueError:
        return None


def _unusable(message: str, target: EhrSettings, status: int | None) -> ConfigError:
    return ConfigError(
        message,
        code="smart_configuration",
        status=status,
        context={"client": target.target, "setting": target.variable("token_url")},
    )
