"""Who looked is written down, and found again."""

from __future__ import annotations

import getpass
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

import pytest

from medscribe_pipeline.warehouse.audit import Access, current_user, note_access, read_accesses

if TYPE_CHECKING:
    from medscribe_pipeline.warehouse.store import Warehouse

from tests.databases import NOW

HOUR = timedelta(hours=1)
FIRST = Access(NOW, "ada", "show_text", "note-1")
SECOND = Access(NOW + HOUR, "ben", "quarantine_payload", "problem-1")
THIRD = Access(NOW + HOUR, "ada", "show_text", "note-2")


@pytest.fixture
def logged(warehouse: Warehouse) -> Warehouse:
    with warehouse.begin() as connection:
        for each in (FIRST, SECOND, THIRD):
            note_access(connection, "default", each.what, each.subject, each.at, each.who)
        note_access(connection, "another", "show_text", "note-9", NOW, "eve")
    return warehouse


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, [THIRD, SECOND, FIRST]),
        ({"limit": 2}, [THIRD, SECOND]),
        ({"since": NOW + HOUR}, [THIRD, SECOND]),
        ({"who": "ada"}, [THIRD, FIRST]),
        ({"what": "quarantine_payload"}, [SECOND]),
        ({"subject": "note-1"}, [FIRST]),
        ({"who": "eve"}, []),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_rows_come_newest_first_and_of_one_account(
    logged: Warehouse, asked: dict[str, object], found: list[Access]
) -> None:
    with logged.read() as connection:
        rows = list(read_accesses(connection, "default", **asked))  # type: ignore[arg-type]  # one of its arguments

    assert rows == found


def test_long_names_are_cut_to_what_the_table_holds(warehouse: Warehouse) -> None:
    with warehouse.begin() as connection:
        note_access(connection, "default", "show_text", "s" * 300, NOW, "w" * 100)

    with warehouse.read() as connection:
        (row,) = read_accesses(connection, "default")
    assert (len(row.subject), len(row.who)) == (255, 64)


def test_a_user_without_a_name_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> NoReturn:
        raise KeyError

    assert current_user() == getpass.getuser()
    monkeypatch.setattr(getpass, "getuser", nobody)
    assert current_user() == "unknown"
