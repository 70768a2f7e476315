"""Rotated OAuth tokens, kept in the warehouse so that all runs of an account share one chain."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

from medscribe_pipeline.warehouse.tables import oauth_tokens

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from datetime import datetime

    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["StoredTokens", "WarehouseTokens"]


@dataclass(frozen=True, slots=True)
class StoredTokens:
    """The state of one chain of refresh tokens. Its `repr` shows no secret.

    Attributes:
        seed_hash: SHA-256 (hex) of the configured refresh token the chain began with.
        refresh_token: The next one to spend.
        access_token: The newest one.
        expires_at: When `access_token` ends. Aware UTC.
        rotated_at: When the request that brought them was sent. Aware UTC.
    """

    seed_hash: str
    refresh_token: str = field(repr=False)
    access_token: str = field(repr=False)
    expires_at: datetime
    rotated_at: datetime


class WarehouseTokens:
    """The chain of one provider's refresh tokens, for the account of the warehouse.

    Args:
        warehouse: Where the tokens are kept.
        provider: Provider name.
        lock_timeout_s: How long to wait for another run that is refreshing.
    """

    def __init__(self, warehouse: Warehouse, provider: str, *, lock_timeout_s: float) -> None:
        self._warehouse = warehouse
        self._key = {"account": warehouse.account, "provider": provider}
        self._lock_timeout_s = lock_timeout_s

    def load(self) -> StoredTokens | None:
        """What was saved last, by whatever process; `None` at first."""
        query = sa.select(
            oauth_tokens.c.seed_hash,
            oauth_tokens.c.refresh_token,
            oauth_tokens.c.access_token,
            oauth_tokens.c.expires_at,
            oauth_tokens.c.rotated_at,
        ).where(*(oauth_tokens.c[name] == value for name, value in self._key.items()))
        with self._warehouse.read() as connection:
            row = connection.execute(query).one_or_none()
        return StoredTokens(*row) if row else None

    def save(self, tokens: StoredTokens) -> None:
        """Replaces what is stored; returns once it is durable."""
        row = {
            **self._key,
            "seed_hash": tokens.seed_hash,
            "refresh_token": tokens.refresh_token,
            "access_token": tokens.access_token,
            "expires_at": tokens.expires_at,
            "rotated_at": tokens.rotated_at,
        }
        with self._warehouse.begin() as connection:
            self._warehouse.upsert(connection, oauth_tokens, [row])

    def lock(self) -> AbstractContextManager[None]:
        """Keeps every other process, and every other holder in this one, out while it is held.

        Raises:
            Busy: Another run is refreshing and does not end in time.
        """
        name = "tokens:{account}:{provider}".format_map(self._key)
        return self._warehouse.locks.hold(name, self._lock_timeout_s)
