"""Rows that replace others, or give way: the path for every database does what the statements of two do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.warehouse.tables import rate_budgets, sync_cursors
from medscribe_pipeline.warehouse.writing import GENERIC, insert_absent, upsert
from tests.databases import NOW, rows_of

if TYPE_CHECKING:
    from medscribe_pipeline.warehouse.store import Warehouse

SAME_WAREHOUSE = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
UNLESS_MARKED = sync_cursors.c.run_id == "marked"


def cursor(stream: str, **changes: Any) -> dict[str, Any]:
    row = {"account": "default", "provider": "askara", "stream": stream, "watermark": None, "signpost": None}
    return {**row, "moved_at": NOW, "run_id": "plain", **changes}


ROWS = st.lists(
    st.builds(
        lambda stream, watermark, signpost, run_id: cursor(
            stream, watermark=watermark, signpost=signpost, run_id=run_id
        ),
        st.sampled_from("abcd"),
        st.none() | st.integers(0, 3).map(lambda hours: NOW + timedelta(hours=hours)),
        st.none() | st.sampled_from(["one", "two"]),
        st.sampled_from(["plain", "marked"]),
    ),
    max_size=4,
    unique_by=lambda row: str(row["stream"]),
)
STEPS = st.lists(st.tuples(ROWS, st.sampled_from(["plain", "newer", "unless", "both", "absent"])), max_size=4)


def write(connection: sa.Connection, rows: list[dict[str, Any]], how: str) -> int:
    match how:
        case "absent":
            return insert_absent(connection, sync_cursors, rows)
        case _:
            return upsert(
                connection,
                sync_cursors,
                rows,
                not_older_by="watermark" if how in ("newer", "both") else None,
                unless=UNLESS_MARKED if how in ("unless", "both") else None,
            )


@SAME_WAREHOUSE
@given(steps=STEPS)
def test_both_paths_leave_the_same_rows(warehouse: Warehouse, steps: list[tuple[list[dict[str, Any]], str]]) -> None:
    left = []
    for generic in (False, True):
        with warehouse.begin() as connection:
            connection.execution_options(**{GENERIC: generic})
            connection.execute(sa.delete(sync_cursors))
            numbers = [write(connection, rows, how) for rows, how in steps]
        left.append((numbers, rows_of(warehouse, sync_cursors)))

    assert left[0] == left[1]


@pytest.mark.parametrize("generic", [False, True])
def test_who_enters_the_same_at_once_takes_turns(warehouse: Warehouse, generic: bool) -> None:
    rows = [cursor(f"s{number}") for number in range(5)]

    def enter(worker: int) -> int:
        with warehouse.begin() as connection:
            connection.execution_options(**{GENERIC: generic})
            entered = insert_absent(connection, sync_cursors, rows)
            upsert(connection, sync_cursors, [{**row, "signpost": str(worker)} for row in rows])
            return entered

    with ThreadPoolExecutor(4) as pool:
        entered = list(pool.map(enter, range(4)))

    assert sum(entered) == 5
    assert len({row["signpost"] for row in rows_of(warehouse, sync_cursors)}) == 1


@pytest.mark.parametrize("generic", [False, True])
def test_a_row_that_is_refused_for_itself_is_not_taken_for_one_that_is_there(
    warehouse: Warehouse, generic: bool
) -> None:
    def enter() -> None:
        with warehouse.begin() as connection:
            connection.execution_options(**{GENERIC: generic})
            upsert(connection, sync_cursors, [cursor("a"), cursor("b", moved_at=None)])

    with pytest.raises(MedscribeError) as raised:
        enter()

    assert raised.value.code == "warehouse_statement"
    assert rows_of(warehouse, sync_cursors) == []


@pytest.mark.parametrize("generic", [False, True])
def test_many_rows_and_rows_of_keys_alone(warehouse: Warehouse, generic: bool) -> None:
    many = [cursor(f"s{number}") for number in range(250)]
    budget = {"account": "default", "provider": "nabla", "kind": "poll", "window_at": NOW, "used": 1}
    with warehouse.begin() as connection:
        connection.execution_options(**{GENERIC: generic})
        counts = [
            insert_absent(connection, sync_cursors, many[:120]),
            upsert(connection, sync_cursors, many),
            insert_absent(connection, sync_cursors, many),
            insert_absent(connection, sync_cursors, []),
            insert_absent(connection, rate_budgets, [budget]),
            upsert(connection, rate_budgets, [{**budget, "used": 7}]),
        ]

    assert counts == [120, 250, 0, 0, 1, 1]
    assert len(rows_of(warehouse, sync_cursors)) == 250
    assert rows_of(warehouse, rate_budgets)[0]["used"] == 7
