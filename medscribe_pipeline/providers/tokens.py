"""Rotated OAuth tokens in the warehouse, so that all runs of an account share one chain."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import sqlalchemy as sa

from medscribe_pipeline.providers.oauth import StoredTokens
from medscribe_pipeline.warehouse.tables import oauth_tokens

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["WarehouseTokens"]


class WarehouseTokens:
    """The `TokenStore` of one account of one provider.

    Args:
        warehouse: Where the tokens are kept.
        provider: Provider name.
        lock_timeout_s: How long to wait, in seconds, for another run that renews the token at this moment.
    """

    def __init__(self, warehouse: Warehouse, provider: str, *, lock_timeout_s: float) -> None:
        self._warehouse = warehouse
        self._provider = provider
        self._lock_timeout_s = lock_timeout_s

    def load(self) -> StoredTokens | None:
        """See `oauth.TokenStore.load`."""
        fields = [oauth_tokens.c[field.name] for field in dataclasses.fields(StoredTokens)]
        query = sa.select(*fields).where(
            oauth_tokens.c.account == self._warehouse.account, oauth_tokens.c.provider == self._provider
        )
        with self._warehouse.read() as connection:
            row = connection.execute(query).one_or_none()
        return StoredTokens(*row) if row else None

    def save(self, tokens: StoredTokens) -> None:
        """See `oauth.TokenStore.save`."""
        values = {field.name: getattr(tokens, field.name) for field in dataclasses.fields(tokens)}
        row = {"account": self._warehouse.account, "provider": self._provider, **values}
        with self._warehouse.begin() as connection:
            self._warehouse.upsert(connection, oauth_tokens, [row])

    def lock(self) -> AbstractContextManager[None]:
        """See `oauth.TokenStore.lock`."""
        return self._warehouse.locks.hold(f"oauth:{self._warehouse.account}:{self._provider}", self._lock_timeout_s)
