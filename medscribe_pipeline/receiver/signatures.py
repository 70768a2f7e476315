"""Whether Nabla sent it: HMAC-SHA256 over the timestamp and the raw body, as hex.

Source: the vendor's webhook page (headers `x-nabla-webhook-*`) and Nabla Connect's page on callback authentication
(headers `x-nabla-connect-*`). The timestamp is ISO 8601 on one page; seconds since 1970 are taken too. Several
signatures may come, separated by commas, while a secret is being changed.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["HEADERS", "Signed", "parse_timestamp", "sign", "signed_by"]

HEADERS = (
    ("x-nabla-webhook-timestamp", "x-nabla-webhook-signature"),
    ("x-nabla-connect-timestamp", "x-nabla-connect-signature"),
)
MAX_SIGNATURES = 16
MAX_TIMESTAMP_LENGTH = 40
MILLISECONDS_FROM = 100_000_000_000  # in seconds that is the year 5138
HEX_LENGTH = 64


class MultiHeaders(Protocol):
    """Headers, of which one name may come several times."""

    def getlist(self, key: str) -> list[str]:
        """All values of that name, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Signed:
    """A claim to be checked: the timestamp as it came, and the signatures.

    Whoever moves characters between timestamp and body breaks one of the two: a body begins with a bracket, which no
    timestamp holds. So that nothing separates them in what is signed does no harm.
    """

    timestamp: str
    signatures: tuple[str, ...]

    def is_fresh(self, now: datetime, tolerance_s: float) -> bool:
        """Whether it was signed at most `tolerance_s` ago, or that far ahead of our clock."""
        moment = parse_timestamp(self.timestamp)
        return moment is not None and abs(now - moment) <= timedelta(seconds=tolerance_s)

    def proves(self, secret: str, body: bytes) -> bool:
        """Whether one of the signatures is that of the body. Takes equally long for all wrong ones."""
        right = sign(secret, self.timestamp, body).encode()
        # Headers are Latin-1; `compare_digest` takes other than ASCII only as bytes.
        found = [hmac.compare_digest(right, each.encode("latin-1", "replace")) for each in self.signatures]
        return any(found)


def signed_by(headers: MultiHeaders) -> Signed | None:
    """What the headers claim; `None` without exactly one timestamp and at least one signature."""
    for timestamp_name, signature_name in HEADERS:
        timestamps = headers.getlist(timestamp_name)
        signatures = _split(headers.getlist(signature_name))
        if len(timestamps) == 1 and 0 < len(timestamps[0]) <= MAX_TIMESTAMP_LENGTH and signatures:
            return Signed(timestamps[0], signatures)
    return None


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The signature the vendor documents.

    >>> sign("secret", "1700000000", b"{}")[:16]
    '44ce8e0f7504556a'
    """
    message = timestamp.encode("latin-1", "replace") + body
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def parse_timestamp(text: str) -> datetime | None:
    """Seconds or milliseconds since 1970, or ISO 8601 (UTC where it names no offset); `None` for anything else.

    >>> parse_timestamp("1700000000") == parse_timestamp("2023-11-14T22:13:20Z")
    True
    """
    text = text.strip()
    try:
        if text.isascii() and text.isdecimal():
            number = int(text)
            return datetime.fromtimestamp(number / 1000 if number >= MILLISECONDS_FROM else number, UTC)
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _split(values: Sequence[str]) -> tuple[str, ...]:
    found = [part.strip().lower() for value in values for part in value.split(",", MAX_SIGNATURES)]
    return tuple(part for part in found if len(part) == HEX_LENGTH)[:MAX_SIGNATURES]
