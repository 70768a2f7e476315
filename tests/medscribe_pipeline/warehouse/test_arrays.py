"""An array of texts reaches PostgreSQL as it is, whatever is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from medscribe_pipeline.warehouse.arrays import TextArray

if TYPE_CHECKING:
    from collections.abc import Iterator

ODD = st.sampled_from(["", "NULL", "null", " ", '"', "\\", "{", "}", ",", '","', "a,b", '\\"', "\n", "é"])
TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=5)


@pytest.fixture(scope="module")
def connection(postgres_server_url: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(postgres_server_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(st.one_of(st.none(), TEXT, ODD), max_size=6))
def test_every_text_comes_back(connection: sa.Connection, texts: list[str | None]) -> None:
    given_in_order = sa.func.unnest(sa.bindparam("texts", type_=TextArray())).table_valued("text")

    assert list(connection.scalars(sa.select(given_in_order), {"texts": texts})) == texts
