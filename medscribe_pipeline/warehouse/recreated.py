"""What is not migrated but made again after every migration: the views, and all comments.

A view stands in the way of a migration that changes a table under it, and one frozen at a migration would have to be
repeated in each later one. So `laid_aside` drops all views of ours before the first migration of an upgrade, and
makes those of `views.py` after the last. On PostgreSQL it gives back who may read them, and sets the comments of all
tables, columns and views to what the code says.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import sqlalchemy as sa

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.warehouse.tables import metadata
from medscribe_pipeline.warehouse.views import DIALECTS, definition, view_metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["laid_aside"]

# The owner needs no grant, and 0 stands for PUBLIC.
_GRANTS = sa.text("""\
SELECT c.relname AS view, a.privilege_type AS privilege, a.is_grantable AS grantable,
  CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END AS grantee
FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
WHERE c.relkind = 'v' AND pg_table_is_visible(c.oid) AND a.grantee <> c.relowner AND c.relname = ANY(:names)
ORDER BY c.relname, 4, 2""")


@contextmanager
def laid_aside(connection: sa.Connection) -> Iterator[None]:
    """Drops the views for the time of the block, in which the tables are brought to the newest migration.

    Part of the transaction of the upgrade: if the block fails, nothing has happened.

    Raises:
        ConfigError: Views of somebody else are built on ours.
    """
    grants = _grants(connection)
    _drop_views(connection)
    yield
    if connection.dialect.name in DIALECTS:
        for view in view_metadata.tables.values():
            connection.exec_driver_sql(f"CREATE VIEW {view.name} AS {definition(view, connection.dialect.name)}")
    for grant in grants:
        connection.exec_driver_sql(grant)
    if connection.dialect.name == "postgresql":
        _set_comments(connection)


def _drop_views(connection: sa.Connection) -> None:
    existing = set(sa.inspect(connection).get_view_names())
    for name in reversed(view_metadata.tables):
        if name not in existing:
            continue
        try:
            connection.exec_driver_sql(f"DROP VIEW {name}")
        except sa.exc.DBAPIError as error:
            # PostgreSQL: dependent_objects_still_exist.
            if getattr(error.orig, "sqlstate", None) != "2BP01":
                raise
            raise ConfigError(
                f"The warehouse was not migrated: other views use {name}, which every migration makes again. "
                "Drop those, run again, and create them again",
                code="views_in_use",
                context={"view": name},
            ) from None


def _grants(connection: sa.Connection) -> list[str]:
    """Statements that give back what was granted on our views."""
    if connection.dialect.name != "postgresql":
        return []
    quote = connection.dialect.identifier_preparer.quote
    return [
        f"GRANT {row.privilege} ON {row.view} TO {quote(row.grantee) if row.grantee else 'PUBLIC'}"
        + (" WITH GRANT OPTION" if row.grantable else "")
        for row in connection.execute(_GRANTS, {"names": list(view_metadata.tables)})
    ]


def _set_comments(connection: sa.Connection) -> None:
    for table in metadata.tables.values():
        connection.execute(sa.schema.SetTableComment(table))
        for column in table.columns:
            connection.execute(sa.schema.SetColumnComment(column))
    for view in view_metadata.tables.values():
        connection.exec_driver_sql(f"COMMENT ON VIEW {view.name} IS {_literal(view.comment)}")
        for column in view.columns:
            connection.execute(sa.schema.SetColumnComment(column))


def _literal(text: str | None) -> str:
    return "'" + (text or "").replace("'", "''").replace("%", "%%") + "'"
