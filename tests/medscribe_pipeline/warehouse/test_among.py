"""The condition that a column holds one of many values: the same rows on every database, whatever the values hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from medscribe_pipeline.warehouse.among import KEYS, among, among_keys
from medscribe_pipeline.warehouse.outcomes import write_outcomes
from medscribe_pipeline.warehouse.tables import source_records, sync_cursors
from medscribe_pipeline.warehouse.writing import GENERIC, native_name
from tests.databases import NOW, dump, empty, landing_for, record

if TYPE_CHECKING:
    from medscribe_pipeline.warehouse.store import Warehouse

SAME_WAREHOUSE = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)
ODD = ["NULL", "", '"', "'", "\\", "{a,b}", "1", "1.0", "null", "é", "\U0001f300"]


@SAME_WAREHOUSE
@given(there=st.lists(WORDS, max_size=5, unique=True), wanted=st.lists(WORDS, max_size=5))
@example(there=ODD, wanted=ODD[::2])
def test_the_rows_are_those_asked_for(warehouse: Warehouse, there: list[str], wanted: list[str]) -> None:
    of = sync_cursors.c
    row = {"account": "default", "provider": "askara", "stream": "s", "moved_at": NOW}
    asked = [*wanted, *there[:2]]
    found = []
    with warehouse.begin() as connection:
        connection.execute(sa.delete(sync_cursors))
        rows = [{**row, "stream": f"s{number}", "signpost": word} for number, word in enumerate(there)]
        connection.execute(sa.insert(sync_cursors), rows or [row])
        for generic in (False, True):
            connection.execution_options(**{GENERIC: generic})
            query = sa.select(of.signpost)
            found.append(connection.scalars(query.where(among(connection, of.signpost, asked))).all())
            prepared = query.where(among_keys(native_name(connection), of.signpost))
            found.append(connection.scalars(prepared, {KEYS: asked}).all())

    assert [sorted(each) for each in found] == [sorted(set(there) & set(asked))] * 4


def outcomes_of(numbers: list[int]) -> list[dict[str, Any]]:
    key = {"provider": "askara", "stream": "audios"}
    return [
        {
            **key,
            "source_id": f"a-{number}",
            "outcome": "held" if number % 3 else "note",
            "outcome_code": "no_text" if number % 3 == 1 else None,
            "mapped_seq": number,
            "mapped_with": "f1",
        }
        for number in numbers
    ]


def test_outcomes_are_the_same_written_together_and_one_by_one(warehouse: Warehouse) -> None:
    left = []
    for generic in (False, True):
        empty(warehouse)
        landing_for(warehouse).land([record(f"a-{number}") for number in range(1, 12)], [], None, now=NOW)
        with warehouse.begin() as connection:
            connection.execution_options(**{GENERIC: generic})
            write_outcomes(connection, warehouse.account, outcomes_of(list(range(1, 10))))
            write_outcomes(connection, "somebody else", outcomes_of([10]))
        left.append(dump(warehouse)[source_records.name])

    assert left[0] == left[1]
    assert {row["source_id"]: (row["outcome"], row["outcome_code"], row["mapped_seq"]) for row in left[0]} == {
        **{f"a-{n}": ("held" if n % 3 else "note", "no_text" if n % 3 == 1 else None, n) for n in range(1, 10)},
        "a-10": (None, None, None),
        "a-11": (None, None, None),
    }
