"""Where the `Authorization` header comes from: the protocol, and the plain case of a fixed token."""

from __future__ import annotations

from typing import Protocol

from medscribe_pipeline.errors import ConfigError

__all__ = ["Auth", "BearerToken", "is_token"]


class Auth(Protocol):
    """Gives the credentials of a client. One object serves all its threads."""

    def header(self) -> dict[str, str]:
        """The headers to send with the next request."""
        ...

    def renew(self, stale: dict[str, str]) -> bool:
        """Called at most once a request, after a 401 to the headers `stale`; `True` if `header` now gives others."""
        ...


class BearerToken:
    """A fixed bearer token.

    Args:
        token: The token.
        setting: The setting it comes from, for the message when it cannot be one.
    """

    def __init__(self, token: str, setting: str = "TOKEN") -> None:
        if not is_token(token):
            raise ConfigError(
                "A bearer token is visible ASCII characters only, without spaces or line breaks.",
                code="credentials",
                context={"setting": setting},
            )
        self._header = {"Authorization": f"Bearer {token}"}

    def header(self) -> dict[str, str]:
        """The same every time."""
        return dict(self._header)

    def renew(self, stale: dict[str, str]) -> bool:
        """There is nothing to renew: no header but `stale` can be had."""
        return self._header != stale


def is_token(value: object) -> bool:
    """Whether `value` may stand in a header; httpx and h11 would quote one that may not in their errors."""
    return isinstance(value, str) and value != "" and value.isascii() and value.isprintable() and " " not in value
