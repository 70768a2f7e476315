"""A connection by httpx's own transport, for servers that are asked without a proxy: nearly all of them.

What `httpx.Client` does for every request (headers merged and encoded anew, sign-in, redirects, hooks, cookies looked
for in every answer) takes longer than sending a small one, and of all that we use cookies. The transport below it is
the same: connections, TLS, time-outs, HTTP and errors are those of httpx.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.request import getproxies

import httpx

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping

__all__ = ["StraightLane", "has_proxies"]


class StraightLane:
    """One connection, used by one thread at a time; it is opened when it is needed, and kept for the next request.

    Args:
        headers: Of every request that says nothing else.
        timeout: The longest waits.
        http2: Whether HTTP/2 may be spoken.
        trust: How to speak TLS.
    """

    def __init__(
        self, headers: Mapping[str, str], *, timeout: httpx.Timeout, http2: bool, trust: ssl.SSLContext
    ) -> None:
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
        self._transport = httpx.HTTPTransport(verify=trust, http2=http2, limits=limits)
        self._headers = {**headers, "Connection": "keep-alive"}
        self._extensions = {"timeout": timeout.as_dict()}
        self._cookies = httpx.Cookies()
        self._has_cookies = False
        # Most requests have the headers of the one before.
        self._merged: tuple[httpx.URL, Mapping[str, str], httpx.Headers] | None = None

    def close(self) -> None:
        """Closes the connection."""
        self._transport.close()

    @contextmanager
    def stream(
        self, method: str, url: httpx.URL, *, headers: Mapping[str, str], content: bytes | Iterator[bytes] | None
    ) -> Iterator[httpx.Response]:
        """As `httpx.Client.stream`, without redirects and without a login in the URL."""
        request = self._request(method, url, headers, content)
        if self._has_cookies:
            self._cookies.set_cookie_header(request)
        response = self._transport.handle_request(request)
        try:
            if any(name.lower() == b"set-cookie" for name, _ in response.headers.raw):
                response.request = request
                self._cookies.extract_cookies(response)
                self._has_cookies = True
            yield response
        finally:
            response.close()

    def _request(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], content: bytes | Iterator[bytes] | None
    ) -> httpx.Request:
        if not content or not isinstance(content, bytes):
            merged = httpx.Headers(self._headers)
            merged.update(headers)
            return httpx.Request(method, url, headers=merged, content=content, extensions=self._extensions)
        own = httpx.Headers(self._with_host(url, headers))
        own["Content-Length"] = str(len(content))
        # Given a stream, httpx takes the headers as they are.
        return httpx.Request(method, url, headers=own, stream=httpx.ByteStream(content), extensions=self._extensions)

    def _with_host(self, url: httpx.URL, headers: Mapping[str, str]) -> httpx.Headers:
        """All headers but the length."""
        if self._merged is not None and self._merged[0] is url and self._merged[1] == headers:
            return self._merged[2]
        merged = httpx.Headers([(b"Host", url.netloc)])
        merged.update(self._headers)
        merged.update(headers)
        self._merged = url, dict(headers), merged
        return merged


def has_proxies() -> bool:
    """Whether the environment names a proxy for anything."""
    return any(getproxies().get(scheme) for scheme in ("http", "https", "all"))
