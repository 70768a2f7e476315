"""The HTTP client of a target, signed in by whatever its settings say."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

from medscribe_pipeline.ehr.auth.client_credentials import ClientCredentials
from medscribe_pipeline.ehr.auth.proofs import KeyProof, Proof, SecretProof, basic
from medscribe_pipeline.ehr.auth.tls import tls_context
from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.providers.http import Auth, BearerToken, Clock, HttpClient
from medscribe_pipeline.providers.tokens import WarehouseTokens

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from medscribe_pipeline.settings import EhrSettings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["open_http"]

_LOCK_TIMEOUT_S = 30.0
_MAX_NAME = 64
"""Width of the column that holds the owner of a token. What is cut off does no harm: a token names its client too."""

_FIELDS_TO_CHECK = {
    "none": ("auth",),
    "bearer": ("token",),
    "basic": ("username", "password"),
    "oauth2": ("client_id", "scope"),
    "smart": ("client_id", "scope"),
}


@contextmanager
def open_http(
    target: EhrSettings,
    warehouse: Warehouse | None,
    *,
    clock: Clock | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[HttpClient]:
    """A client for the base URL of a target, closed at the end of the block. Nothing is sent before it is used.

    Args:
        target: Where, and who we are there.
        warehouse: Where access tokens are shared between runs; without one each client asks for its own.
        clock: As for `HttpClient`.
        sleep: As for `HttpClient`.

    Raises:
        ConfigError: `no_ehr`: there is no base URL. `ca_file`, `client_certificate`, `private_key` or `credentials`:
            what the settings name cannot be used.
    """
    if target.base_url is None:
        raise ConfigError(f"{target.variable('base_url')} is not set", code="no_ehr")
    stop = threading.Event()
    with ExitStack() as stack:
        tls = tls_context(target)
        auth: Auth | None
        if target.sign_in in ("oauth2", "smart"):
            auth = stack.enter_context(closing(_client_credentials(target, warehouse, tls, clock, sleep, stop)))
        else:
            auth = _fixed(target)
        hint = ", ".join(target.variable(field) for field in _FIELDS_TO_CHECK[target.sign_in])
        yield stack.enter_context(
            HttpClient(
                target.target,
                target.base_url,
                target,
                auth,
                credential_hint=hint,
                clock=clock,
                sleep=sleep,
                stop=stop,
                tls=tls,
            )
        )


class _BasicLogin:
    """A fixed user name and password."""

    def __init__(self, user: str, password: str) -> None:
        self._header = basic(user, password)

    def header(self) -> dict[str, str]:
        """The same every time."""
        return dict(self._header)

    def renew(self, stale: dict[str, str]) -> bool:
        """There is nothing to renew: no header but `stale` can be had."""
        return self._header != stale


def _fixed(target: EhrSettings) -> Auth | None:
    """Credentials that stay as they are."""
    if target.sign_in == "bearer" and target.token is not None:
        return BearerToken(target.token.get_secret_value(), target.variable("token"))
    if target.sign_in == "basic" and target.username is not None and target.password is not None:
        return _BasicLogin(target.username, target.password.get_secret_value())
    return None


def _client_credentials(
    target: EhrSettings,
    warehouse: Warehouse | None,
    tls: ssl.SSLContext,
    clock: Clock | None,
    sleep: Callable[[float], None],
    stop: threading.Event,
) -> ClientCredentials:
    """Credentials that are traded for a token."""
    client_id = str(target.client_id)
    proof: Proof
    if target.sign_in == "oauth2" and target.client_secret is not None:
        proof = SecretProof(client_id, target.client_secret)
    else:
        from medscribe_pipeline.ehr.keys import load_client_key  # noqa: PLC0415 - slow to load: only who signs pays for it

        proof = KeyProof(client_id, load_client_key(target))
    store = None
    if warehouse is not None:
        store = WarehouseTokens(warehouse, f"ehr:{target.target}"[:_MAX_NAME], lock_timeout_s=_LOCK_TIMEOUT_S)
    return ClientCredentials(target, proof, store, tls=tls, clock=clock, sleep=sleep, stop=stop)
