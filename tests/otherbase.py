"""A database nobody has heard of: PostgreSQL under another name, so that nothing made for PostgreSQL is used.

`URL` of it: that of a PostgreSQL database with `otherbase` for `postgresql+psycopg`.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

__all__ = ["Otherbase", "under_another_name"]


class Otherbase(PGDialect_psycopg):
    """Speaks like PostgreSQL, and says it is something else."""

    name = "otherbase"
    supports_comments = False
    supports_statement_cache = True


registry.register("otherbase", __name__, Otherbase.__name__)


def under_another_name(postgres_url: str) -> str:
    """The URL of a PostgreSQL database as one of the unheard-of kind."""
    return sa.make_url(postgres_url).set(drivername=Otherbase.name).render_as_string(hide_password=False)
