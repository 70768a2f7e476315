"""Where a contestant works: a folder and a database of its own, copied from one that was prepared once.

So every round begins at the same point: with the empty tables, or with everything loaded.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bench.postgres import Postgres

__all__ = ["Engine", "Place", "Places"]

Engine = Literal["postgres", "sqlite"]
"""Which database is loaded. For dlt, which has no destination of that name, `sqlite` stands for DuckDB."""

ROWS_WRITTEN = "(SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) AS n FROM pg_stat_user_tables)"


@dataclass(frozen=True, slots=True)
class Place:
    """A folder, and on PostgreSQL the name of a database."""

    folder: Path
    engine: Engine
    address: str

    @property
    def url(self) -> str:
        """The database as drivers want it: `postgresql://...`, or `sqlite:///file`."""
        return f"postgresql://{self.address}" if self.engine == "postgres" else f"sqlite:///{self.folder}/data.sqlite"

    @property
    def url_for_dlt(self) -> str:
        """The same for dlt: a DuckDB file instead of SQLite."""
        return self.url if self.engine == "postgres" else f"{self.folder}/data.duckdb"


class Places:
    """Makes places, each named for what is in it.

    Args:
        root: Folder for all of them.
        server: PostgreSQL.
    """

    def __init__(self, root: Path, server: Postgres) -> None:
        self._root = root
        self._server = server
        self._numbers = count()
        self._prepared: dict[tuple[str, Engine], Place] = {}

    @contextmanager
    def copy(self, content: str, engine: Engine, prepare: Callable[[Place], None]) -> Iterator[Place]:
        """A place with that content, gone after the block.

        Args:
            content: Name of what is in it.
            engine: Which database.
            prepare: Fills a new place with it; called the first time only.
        """
        known = self._prepared.get((content, engine))
        if known is None:
            known = self._new(engine, None)
            prepare(known)
            self._prepared[content, engine] = known
        place = self._new(engine, known)
        if engine == "postgres":
            self._server.settle()
        try:
            yield place
        finally:
            self._remove(place)

    def close(self) -> None:
        """Removes what was prepared."""
        for place in self._prepared.values():
            self._remove(place)
        self._prepared.clear()

    def rows_written(self, place: Place) -> int | None:
        """Rows inserted, changed and deleted in a database since it was made, if PostgreSQL counts them for us."""
        return self._server.figure(_name(place), ROWS_WRITTEN) if place.engine == "postgres" else None

    def server_cpu_s(self) -> float:
        """CPU seconds of PostgreSQL until now."""
        return self._server.cpu_s()

    def _new(self, engine: Engine, template: Place | None) -> Place:
        name = f"bench_{next(self._numbers)}"
        folder = self._root / name
        if template is None:
            folder.mkdir()
        else:
            shutil.copytree(template.folder, folder)
        if engine == "postgres":
            self._server.copy(name, _name(template) if template else "template1")
        return Place(folder, engine, self._server.address(name))

    def _remove(self, place: Place) -> None:
        if place.engine == "postgres":
            self._server.drop(_name(place))
        shutil.rmtree(place.folder)


def _name(place: Place) -> str:
    return place.address.rpartition("/")[2]
