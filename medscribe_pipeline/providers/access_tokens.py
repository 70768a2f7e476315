"""What a token endpoint answers (RFC 6749 section 5.1): an access token, and for how long it is good."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.errors import ProviderContractError
from medscribe_pipeline.providers.credentials import is_token

if TYPE_CHECKING:
    from datetime import datetime

    from medscribe_pipeline.providers.answers import Answer

__all__ = ["AccessToken", "life_s", "read_token"]

_DEFAULT_LIFE_S = 3600.0
_LONGEST_LIFE_S = 86_400.0


@dataclass(frozen=True, slots=True)
class AccessToken:
    """An access token. Its `repr` shows no secret.

    Attributes:
        value: The token.
        issued_at: When the request that brought it was sent. Aware UTC.
        expires_at: When it ends. Aware UTC.
    """

    value: str = field(repr=False)
    issued_at: datetime
    expires_at: datetime

    @property
    def header(self) -> dict[str, str]:
        """The header to send it in."""
        return {"Authorization": f"Bearer {self.value}"}


def read_token(answer: Answer, client: str) -> AccessToken:
    """The token in an answer of the token endpoint.

    Raises:
        ProviderContractError: `token_answer`: there is none that could stand in a header.
    """
    body: dict[str, Any] = answer.body if isinstance(answer.body, dict) else {}
    value = body.get("access_token")
    if not is_token(value):
        raise ProviderContractError(
            "The token endpoint answered something that holds no usable token.",
            code="token_answer",
            status=answer.status,
            field_paths=("access_token",),
            context={"client": client},
        )
    life = timedelta(seconds=life_s(body.get("expires_in")))
    return AccessToken(value=str(value), issued_at=answer.sent_at, expires_at=answer.sent_at + life)


def life_s(value: object) -> float:
    """`expires_in` in seconds; an hour where it is missing or makes no sense, a day at most.

    >>> life_s("300"), life_s(None), life_s(-1)
    (300.0, 3600.0, 3600.0)
    """
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return _DEFAULT_LIFE_S
    return min(float(value), _LONGEST_LIFE_S)
