"""Runs the Alembic migrations. Imported only when there is something to migrate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.ddl.impl import DefaultImpl
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.warehouse.recreated import laid_aside

if TYPE_CHECKING:
    import sqlalchemy as sa

__all__ = ["config", "head", "upgrade"]


def config() -> Config:
    """Alembic's configuration, without a file: the migrations live beside this module."""
    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    return settings


def head() -> str | None:
    """Newest migration in the folder."""
    return ScriptDirectory.from_config(config()).get_current_head()


def upgrade(engine: sa.Engine) -> None:
    """Migrates to the newest schema, in one transaction.

    Raises:
        ConfigError: The database stands at a migration this version does not know.
    """
    settings = config()
    _make_known(engine.dialect)
    with engine.connect().execution_options(medscribe_write=True) as connection, connection.begin():
        settings.attributes["connection"] = connection
        try:
            with laid_aside(connection):
                command.upgrade(settings, "head")
        except CommandError:
            raise ConfigError(
                "The warehouse was written by a newer version of medscribe-pipeline; upgrade the program, "
                "or point MEDSCRIBE_WAREHOUSE_URL to another database",
                code="warehouse_newer",
            ) from None


def _make_known(dialect: sa.Dialect) -> None:
    """Alembic refuses databases it has never heard of; for those, plain SQL it is."""
    try:
        DefaultImpl.get_by_dialect(dialect)
    except KeyError:
        # Making the class is what registers it.
        type("PlainImpl", (DefaultImpl,), {"__dialect__": dialect.name})
