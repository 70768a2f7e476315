"""Rotated tokens outlive the process, and one run at a time may spend them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.errors import Busy
from medscribe_pipeline.providers.oauth import StoredTokens
from medscribe_pipeline.providers.tokens import WarehouseTokens
from medscribe_pipeline.warehouse.store import Warehouse
from medscribe_pipeline.warehouse.tables import oauth_tokens
from tests.databases import rows_of

if TYPE_CHECKING:
    from medscribe_pipeline.settings import Settings

TOKENS = StoredTokens(
    seed_hash="0" * 64,
    refresh_token="canary-refresh",
    access_token="canary-access",
    expires_at=datetime(2026, 3, 2, 10, 0, 0, 123456, tzinfo=UTC),
    rotated_at=datetime(2026, 3, 2, 9, 0, tzinfo=UTC),
)


def store(warehouse: Warehouse, provider: str = "askara") -> WarehouseTokens:
    return WarehouseTokens(warehouse, provider, lock_timeout_s=0.05)


def test_there_are_none_at_first(warehouse: Warehouse) -> None:
    assert store(warehouse).load() is None


def test_what_was_saved_last_is_what_another_process_loads(warehouse: Warehouse, settings: Settings) -> None:
    newer = replace(TOKENS, refresh_token="next", expires_at=TOKENS.expires_at + timedelta(hours=1))
    store(warehouse).save(TOKENS)
    store(warehouse).save(newer)

    with Warehouse.open(settings, migrate=False) as another:
        assert store(another).load() == newer
    assert len(rows_of(warehouse, oauth_tokens)) == 1


def test_accounts_and_providers_have_their_own(warehouse: Warehouse, settings: Settings) -> None:
    store(warehouse).save(TOKENS)

    with Warehouse.open(settings.model_copy(update={"account": "other"}), migrate=False) as other:
        assert store(other).load() is None
        with store(warehouse).lock(), store(other).lock():
            pass
    assert store(warehouse, "another").load() is None
    with store(warehouse).lock(), store(warehouse, "another").lock():
        pass


def test_one_at_a_time_may_refresh(warehouse: Warehouse) -> None:
    with store(warehouse).lock(), pytest.raises(Busy) as raised, store(warehouse).lock():
        pass

    assert raised.value.code == "busy"
    with store(warehouse).lock():
        store(warehouse).save(TOKENS)


def test_tokens_are_not_shown(warehouse: Warehouse) -> None:
    store(warehouse).save(TOKENS)

    assert "canary" not in repr(store(warehouse).load())
