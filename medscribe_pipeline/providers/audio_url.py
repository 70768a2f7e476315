"""Which audio URLs of the visits manifest a provider may be asked to download.

We never fetch them ourselves, but a provider's server does, with whatever it can reach; and a URL with a password in it
would be stored and handed on. A host is judged by what is written: literal addresses in every spelling that resolvers
take (`127.1`, `0x7f000001`, IPv6 that wraps IPv4) and names that are local by convention. Nothing is resolved, because
planning must not depend on DNS and the answer may be another one when the provider asks.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from medscribe_pipeline.errors import MedscribeError

if TYPE_CHECKING:
    from medscribe_pipeline.settings import JobSettings

__all__ = ["check_audio_url"]

# RFC 6761, 6762, 8375 and what resolvers and clouds use inside their networks.
_LOCAL_SUFFIXES = (
    "localhost",
    "localdomain",
    "local",
    "internal",
    "intranet",
    "private",
    "corp",
    "home",
    "lan",
    "home.arpa",
)
# Letters, digits, hyphens, underscores (seen in bucket names) and dots; or what stands in brackets.
_HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
# The URL standard takes a host whose last label is a number as IPv4, however it is written.
_ENDS_IN_NUMBER = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def check_audio_url(url: str, settings: JobSettings) -> None:
    """Refuses an audio URL that must not be handed to a provider.

    Args:
        url: What the manifest says.
        settings: `allow_plain_http_audio` and `allow_private_audio` of the provider.

    Raises:
        MedscribeError: Its code says why: `audio_url` (no URL as RFC 3986 has it, or without host),
            `audio_url_scheme`, `audio_url_credentials` or `audio_url_private`. The URL itself is never shown.
    """
    parts = _split(url)
    schemes = {"https", "http"} if settings.allow_plain_http_audio else {"https"}
    if parts.scheme not in schemes:
        raise _refusal("The audio URL must begin with https://.", "audio_url_scheme")
    if "@" in parts.netloc:
        raise _refusal("The audio URL must not hold a user name or a password.", "audio_url_credentials")
    host = (parts.hostname or "").lower().removesuffix(".")
    address = _address_of(host)
    if address is None and not _HOST_NAME.fullmatch(host):
        raise _refusal("The host of the audio URL is none.", "audio_url")
    private = _is_local_name(host) if address is None else not _is_public(address)
    if private and not settings.allow_private_audio:
        raise _refusal("The audio URL leads to a loopback, private or reserved address.", "audio_url_private")


def _refusal(message: str, code: str) -> MedscribeError:
    return MedscribeError(message, code=code, field_paths=("audio_url",))


def _split(url: str) -> SplitResult:
    # Parsers disagree about these characters, and so about the host: some drop them, some turn `\` into `/`.
    plain = url.isascii() and url.isprintable() and not any(mark in url for mark in ' \\"<>^`{|}')
    parts: SplitResult | None = None
    if plain:
        try:
            parts = urlsplit(url)
            if parts.port == 0:
                parts = None
        except ValueError:
            parts = None
    if parts is None:
        raise _refusal("The audio URL is no URL; percent-encode what is not plain ASCII.", "audio_url")
    return parts


def _address_of(host: str) -> _Address | None:
    """The address a host is written as; `None` for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        if not _ENDS_IN_NUMBER.fullmatch(host):
            return None
    try:
        # The C library's reading: octal, hexadecimal and fewer than four parts. It asks no name server.
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        pass
    raise _refusal("The host of the audio URL is none.", "audio_url")


def _is_public(address: _Address) -> bool:
    """Whether the address, and every IPv4 address wrapped in it, belongs to the public Internet."""
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return True
    # The other ways to wrap IPv4 (mapped, NAT64, Teredo) are not global to begin with.
    return address.sixtofour is None or _is_public(address.sixtofour)


def _is_local_name(host: str) -> bool:
    """A single label is found only in a search domain of one's own; the suffixes never leave a network."""
    return "." not in host or any(host.endswith(f".{suffix}") for suffix in _LOCAL_SUFFIXES)
