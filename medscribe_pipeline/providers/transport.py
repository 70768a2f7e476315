"""The plain parts under the client: connections, URLs that stay where they belong, bodies that end."""

from __future__ import annotations

import contextlib
import ipaddress
from typing import TYPE_CHECKING

import httpx

from medscribe_pipeline import __version__
from medscribe_pipeline.errors import ConfigError, ProviderContractError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from medscribe_pipeline.providers.answers import Answer
    from medscribe_pipeline.settings import HttpSettings

__all__ = ["MAX_REDIRECTS", "REDIRECTS", "BodyTooLargeError", "join_url", "open_client", "read_body", "redirect_target"]

MAX_REDIRECTS = 3
REDIRECTS = frozenset({301, 302, 303, 307, 308})
# The others make a GET of anything else, which is never what a write meant.
_KEEPS_METHOD = frozenset({307, 308})
_READING = frozenset({"GET", "HEAD"})
_DEFAULT_PORTS = {"http": 80, "https": 443}


class BodyTooLargeError(Exception):
    """Reading stopped at the ceiling. Never leaves the client."""


def open_client(name: str, base_url: str, settings: HttpSettings) -> httpx.Client:
    """The connection pool behind a client. TLS verification is on, and no setting turns it off.

    Raises:
        ConfigError: `base_url` is no URL, or a proxy or CA file named by the environment cannot be used.
    """
    client: httpx.Client | None = None
    # These errors quote URLs and paths, so nothing is raised while one of them is being handled.
    with contextlib.suppress(httpx.InvalidURL, UnicodeError, ValueError, OSError):
        host = httpx.URL(base_url).host
        client = httpx.Client(
            base_url=base_url,
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "gzip, deflate",
                "User-Agent": f"medscribe-pipeline/{__version__}",
            },
            timeout=httpx.Timeout(settings.timeout_s),
            limits=httpx.Limits(max_connections=settings.connections, max_keepalive_connections=settings.connections),
            follow_redirects=False,
            verify=True,
            # The environment's proxy is not asked for this machine's own servers, whatever NO_PROXY says.
            mounts={f"all://{f'[{host}]' if ':' in host else host}": None} if _is_loopback(host) else {},
        )
    if client is None or not client.base_url.host:
        raise ConfigError(
            "The base URL is no URL, or a proxy or CA file named by the environment cannot be used.",
            code="base_url",
            context={"client": name},
        )
    return client


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def join_url(base_url: str, path: str, params: Sequence[tuple[str, str]]) -> httpx.URL:
    """Puts `path` behind `base_url`, whose own path stays; trailing slashes of `path` stay too.

    Raises:
        ProviderContractError: The path would lead elsewhere, or cannot be part of a URL (code `path`). Paths hold
            ids that a server gave us; none of them may take our credentials anywhere else.
    """
    url: httpx.URL | None = None
    strays = any(mark in path for mark in "?#\\") or any(part in (".", "..") for part in path.split("/"))
    if not strays:
        full = f"{base_url.rstrip('/')}/{path.lstrip('/')}" if path else base_url
        # As above: the errors quote the URL.
        with contextlib.suppress(httpx.InvalidURL, UnicodeError):
            url = httpx.URL(full, params=list(params)) if params else httpx.URL(full)
    if url is None:
        raise ProviderContractError("A path does not stay under the base URL, or is none.", code="path")
    return url


def redirect_target(method: str, url: httpx.URL, answer: Answer) -> httpx.URL | None:
    """Where a redirect leads, if it keeps scheme, host, port and method; else `None`."""
    location = answer.headers.get("location")
    if not location or (method not in _READING and answer.status not in _KEEPS_METHOD):
        return None
    try:
        target = url.join(location)
    except (httpx.InvalidURL, UnicodeError):
        return None
    return target if _origin(target) == _origin(url) and not target.userinfo else None


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or _DEFAULT_PORTS.get(url.scheme)


def read_body(
    response: httpx.Response, *, max_bytes: int, patience_s: float, monotonic: Callable[[], float]
) -> list[bytes]:
    """Reads a streamed answer to its end, decompressed, and counts what comes out rather than what came in.

    Raises:
        BodyTooLargeError: More than `max_bytes`.
        httpx.HTTPError: It broke off, or took longer than `patience_s` in all although no single byte was late.
    """
    chunks: list[bytes] = []
    size = 0
    started = monotonic()
    for chunk in response.iter_bytes():
        size += len(chunk)
        if size > max_bytes:
            raise BodyTooLargeError
        if monotonic() - started > patience_s:
            raise httpx.ReadTimeout("body took too long")
        chunks.append(chunk)
    return chunks
