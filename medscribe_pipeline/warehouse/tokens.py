"""Rotated OAuth tokens, kept in the warehouse so that all runs of an account share one chain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from medscribe_pipeline.warehouse.tables import oauth_tokens

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from medscribe_pipeline.warehouse.store import Warehouse
