"""The ledger as it is listed: everything once, in order, by any filter, in pages of any size."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from medscribe_pipeline.ehr.ledger import KINDS, State
from medscribe_pipeline.ehr.listing import Count, Which, counted, pages
from medscribe_pipeline.warehouse.tables import notes
from tests.medscribe_pipeline.ehr.clinic import DAY, edited, note
from tests.medscribe_pipeline.ehr.standings import place, standings

if TYPE_CHECKING:
    from medscribe_pipeline.ehr.ledger import Key
    from tests.medscribe_pipeline.ehr.clinic import Clinic

OTHER_DAY = DAY + timedelta(days=1)


def fill(clinic: Clinic) -> list[Key]:
    """Eight versions in all sorts of states, on two targets and days; one of an older version."""
    early = [note(number) for number in (1, 2, 3, 4)]
    late = [note(number) for number in (5, 6)]
    clinic.write(*early)
    clinic.write(*late, day=OTHER_DAY)
    keys = [
        place(clinic, early[0], State.REJECTED),
        place(clinic, early[1], State.REJECTED, "too_large", kinds=(*KINDS, "Provenance")),
        place(clinic, early[2], State.HELD),
        place(clinic, early[3], State.UNKNOWN, done=KINDS[:1], codes=("504",)),
        place(clinic, late[0], State.DELIVERED, day=OTHER_DAY),
        place(clinic, late[1], State.PLANNED, day=OTHER_DAY, kinds=KINDS[1:]),
        place(clinic, late[0], State.REJECTED, day=OTHER_DAY, target="store"),
    ]
    clinic.write(edited(early[0], "Cough for four days."))
    return [*keys, place(clinic, edited(early[0], "Cough for four days."), State.PLANNED)]


@pytest.mark.parametrize("rows", [4, 5, 7, 17, 100])
def test_everything_is_listed_once_and_in_order_whatever_the_page(any_clinic: Clinic, rows: int) -> None:
    keys = fill(any_clinic)

    read = list(pages(any_clinic.warehouse, Which(), rows=rows))

    listed = [each for page in read for each in page]
    assert sorted(each.key for each in listed) == sorted(keys)
    order = [(each.key.target, each.visit_day, each.key.note_id, each.key.version) for each in listed]
    assert order == sorted(order)
    assert max(sum(len(each.written) for each in page) for page in read) <= rows


def test_a_version_is_listed_with_all_its_rows(any_clinic: Clinic) -> None:
    by_key = dict(zip(fill(any_clinic), range(8), strict=True))

    found = {by_key[each.key]: each for each in standings(any_clinic)}

    assert [row.kind for row in found[1].written] == sorted((*KINDS, "Provenance"))
    assert (found[3].missing, found[3].codes, found[3].attempts) == (("DocumentReference",), ("201", "504"), 1)
    assert (found[5].codes, found[5].attempts, found[5].sent_at) == ((), 0, None)
    assert (found[0].newest, found[7].newest) == (False, True)
    assert {each.provider for each in found.values()} == {"askara"}


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (Which(), 8),
        (Which(states=(State.REJECTED,)), 3),
        (Which(states=(State.REJECTED, State.HELD)), 4),
        (Which(reason="refused"), 2),
        (Which(reason="refused", targets=("ehr",)), 1),
        (Which(targets=("ehr", "store")), 8),
        (Which(targets=("elsewhere",)), 0),
        (Which(day=OTHER_DAY), 3),
        (Which(provider="askara"), 8),
        (Which(provider="nabla"), 0),
        (Which(note_ids=(str(note(1).note_id),)), 2),
    ],
)
def test_counts_and_lists_agree_on_every_filter(any_clinic: Clinic, which: Which, expected: int) -> None:
    fill(any_clinic)

    listed = standings(any_clinic, which)
    counts = counted(any_clinic.warehouse, which)

    assert len(listed) == expected
    assert Counter({(each.target, each.state, each.reason): each.versions for each in counts}) == Counter(
        (each.key.target, each.state, each.reason) for each in listed
    )


def test_counts_are_sorted_with_no_reason_first(any_clinic: Clinic) -> None:
    fill(any_clinic)

    counts = counted(any_clinic.warehouse, Which(states=(State.REJECTED, State.DELIVERED, State.PLANNED)))

    assert counts == [
        Count("ehr", State.DELIVERED, None, 1),
        Count("ehr", State.PLANNED, None, 2),
        Count("ehr", State.REJECTED, "refused", 1),
        Count("ehr", State.REJECTED, "too_large", 1),
        Count("store", State.REJECTED, "refused", 1),
    ]


def test_a_delivery_whose_note_is_gone_is_still_listed(any_clinic: Clinic) -> None:
    any_clinic.write(note(1))
    key = place(any_clinic, note(1), State.DELIVERED)
    with any_clinic.warehouse.begin() as connection:
        connection.execute(sa.delete(notes))

    (found,) = standings(any_clinic)

    assert (found.key, found.provider, found.newest) == (key, None, False)


def test_another_account_has_a_ledger_of_its_own(any_clinic: Clinic) -> None:
    fill(any_clinic)
    any_clinic.warehouse.account = "north"

    assert (standings(any_clinic), counted(any_clinic.warehouse, Which())) == ([], [])


def test_no_more_is_read_than_somebody_asks_for(clinic: Clinic) -> None:
    many = [note(number) for number in range(1, 21)]
    clinic.write(*many)
    for each in many:
        place(clinic, each, State.PLANNED)
    queries: list[str] = []
    sa.event.listen(clinic.warehouse.engine, "before_cursor_execute", lambda *args: queries.append(args[2]))

    read = pages(clinic.warehouse, Which(), rows=10)
    first = next(read)

    assert sum(len(each.written) for each in first) <= 10
    assert len([each for each in queries if each.startswith("SELECT")]) == 1
    # Nothing is open between the pages: whoever reads slowly holds up nobody.
    assert clinic.warehouse.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
