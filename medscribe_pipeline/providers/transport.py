"""The plain parts under the client: connections, URLs that stay where they belong, bodies that end."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import os
import queue
import ssl
from functools import lru_cache
from typing import TYPE_CHECKING

import httpx

from medscribe_pipeline import __version__
from medscribe_pipeline.errors import ConfigError, ProviderContractError
from medscribe_pipeline.providers.straight import StraightLane, has_proxies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from medscribe_pipeline.providers.answers import Answer
    from medscribe_pipeline.settings import HttpSettings

__all__ = [
    "MAX_REDIRECTS",
    "REDIRECTS",
    "BodyTooLargeError",
    "Lanes",
    "is_loopback",
    "join_url",
    "own_trust",
    "read_body",
    "redirect_target",
]

MAX_REDIRECTS = 3
REDIRECTS = frozenset({301, 302, 303, 307, 308})
# The others make a GET of anything else, which is never what a write meant.
_KEEPS_METHOD = frozenset({307, 308})
_READING = frozenset({"GET", "HEAD"})
_DEFAULT_PORTS = {"http": 80, "https": 443}


Lane = httpx.Client | StraightLane
"""One connection; a client of httpx where a proxy or a login in the URL is its business."""


class BodyTooLargeError(Exception):
    """Reading stopped at the ceiling. Never leaves the client."""


class Lanes:
    """As many connections as the settings allow, each used by one thread at a time.

    A pool shared by threads would be httpx's own way. But httpcore takes an idle connection on which bytes arrive
    for one the server has closed, and it may look just when another thread has begun to use that connection: it
    then closes it under that thread's hands. With more threads than connections that was one request in sixty over
    loopback, and for a write each of them is an unknown outcome. So every lane has a single
    connection, borrowed for one exchange.

    Args:
        name: Name of the client, for messages.
        base_url: Where the lanes lead; used to tell a server of this machine.
        settings: Limits and timeouts.
        ca_file: PEM file with the certificate authorities to trust; the usual ones without it.
        tls: How to speak TLS, where that is made already; `ca_file` is not looked at then.

    Raises:
        ConfigError: `base_url` is no URL, or a proxy or CA file named by the environment cannot be used; or `ca_file`
            cannot (code `ca_file`).
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        settings: HttpSettings,
        ca_file: Path | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.timeout_s = settings.timeout_s
        self._all: list[Lane] = []
        # Last in, first out: under little load few connections stay open, and those stay warm.
        self._free: queue.LifoQueue[Lane] = queue.LifoQueue()
        host = ""
        if tls is None and ca_file is not None:
            tls = own_trust(name, ca_file)
        # These errors quote URLs and paths, so nothing is raised while one of them is being handled.
        with contextlib.suppress(httpx.InvalidURL, UnicodeError, ValueError, OSError):
            url = httpx.URL(base_url)
            host = url.host
            # TLS verification is on, and no setting turns it off.
            trust = tls or (
                _no_trust() if url.scheme == "http" and _is_straight(url) else _environments_trust(settings)
            )
            self._all.extend(_open_lane(url, settings, trust) for _ in range(settings.connections))
        if not host or not self._all:
            self.close()
            raise ConfigError(
                "The base URL is no URL, or a proxy or CA file named by the environment cannot be used.",
                code="base_url",
                context={"client": name},
            )
        for lane in self._all:
            self._free.put(lane)

    @contextlib.contextmanager
    def borrow(self) -> Iterator[Lane]:
        """A lane of one's own, for one exchange.

        Raises:
            httpx.PoolTimeout: None became free in time.
        """
        try:
            lane = self._free.get(timeout=self.timeout_s)
        except queue.Empty:
            raise httpx.PoolTimeout("no lane is free") from None
        try:
            yield lane
        finally:
            self._free.put(lane)

    def close(self) -> None:
        """Closes all connections."""
        for lane in self._all:
            lane.close()


@functools.lru_cache(maxsize=1)
def _no_trust() -> ssl.SSLContext:
    """Trust in nobody, where no TLS is spoken: nothing has to be read for it."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _environments_trust(settings: HttpSettings) -> ssl.SSLContext:
    return _usual_trust(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"), settings.http2)


@functools.lru_cache(maxsize=4)
def _usual_trust(file: str | None, folder: str | None, http2: bool) -> ssl.SSLContext:  # noqa: ARG001  # what it depends on
    """Trust in the usual authorities, or in those the environment names. To read them takes longer than many a sync.

    A context offers one list of protocols, so clients with HTTP/2 and clients without share none.
    """
    return httpx.create_ssl_context()


def own_trust(name: str, ca_file: Path, setting: str = "CA_FILE") -> ssl.SSLContext:
    """Trust in the authorities of one file, and in no other.

    Args:
        name: Name of the client, for the message.
        ca_file: PEM file.
        setting: The setting that names it, for the message.

    Raises:
        ConfigError: `ca_file`: it cannot be read, or holds no certificates.
    """
    with contextlib.suppress(OSError, ValueError):
        return ssl.create_default_context(cafile=str(ca_file))
    raise ConfigError(
        "The CA file is missing or holds no certificates.",
        code="ca_file",
        context={"client": name, "setting": setting},
    )


def _is_straight(url: httpx.URL) -> bool:
    """Whether there is nobody in between: the environment's proxy is not asked for this machine's own servers."""
    return not url.userinfo and (is_loopback(url.host) or not has_proxies())


def _open_lane(url: httpx.URL, settings: HttpSettings, trust: ssl.SSLContext) -> Lane:
    host = url.host
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "gzip, deflate",
        "User-Agent": f"medscribe-pipeline/{__version__}",
    }
    timeout = httpx.Timeout(settings.timeout_s)
    if _is_straight(url):
        return StraightLane(headers, timeout=timeout, http2=settings.http2, trust=trust)
    return httpx.Client(
        headers=headers,
        timeout=timeout,
        limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
        follow_redirects=False,
        http2=settings.http2,
        verify=trust,
        mounts={f"all://{f'[{host}]' if ':' in host else host}": None} if is_loopback(host) else {},
    )


def is_loopback(host: str) -> bool:
    """Whether a host name is this machine's own, without asking anybody."""
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
    url = _joined(base_url, path)
    if url is not None and params:
        with contextlib.suppress(httpx.InvalidURL, UnicodeError):
            return url.copy_with(params=list(params))
        url = None
    if url is None:
        raise ProviderContractError("A path does not stay under the base URL, or is none.", code="path")
    return url


@lru_cache(maxsize=64)  # Most requests go to one of few paths, and taking one apart takes as long as sending it.
def _joined(base_url: str, path: str) -> httpx.URL | None:
    if any(mark in path for mark in "?#\\") or any(part in (".", "..") for part in path.split("/")):
        return None
    # As above: the errors quote the URL.
    with contextlib.suppress(httpx.InvalidURL, UnicodeError):
        return httpx.URL(f"{base_url.rstrip('/')}/{path.lstrip('/')}" if path else base_url)
    return None


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
