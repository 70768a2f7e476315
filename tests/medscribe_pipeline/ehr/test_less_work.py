"""What delivery does not do a second time, and that leaving it out changes nothing."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import orjson
import pytest
import sqlalchemy as sa

from medscribe_pipeline.ehr import ledger
from medscribe_pipeline.ehr.day_view import load_day, look_again
from medscribe_pipeline.ehr.documents import larger_than, load_documents
from medscribe_pipeline.ehr.ledger import KINDS, Key, NewEntry
from medscribe_pipeline.ehr.plan import plan
from medscribe_pipeline.notes import NoteState
from medscribe_pipeline.warehouse.tables import fhir_documents
from tests.medscribe_pipeline.ehr.clinic import DAY, Clinic, note

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.settings import Settings
    from tests.medscribe_pipeline.ehr.fake_ehr import FakeEhr


def test_a_day_that_is_entered_is_known_without_another_look(any_clinic: Clinic) -> None:
    any_clinic.write(note(1), note(2, state=NoteState.DRAFT), note(3))
    before = load_day(any_clinic.warehouse, "ehr", DAY)

    known = plan(any_clinic.warehouse, before, obstacles={str(note(3).note_id): "too_large"})

    assert known == load_day(any_clinic.warehouse, "ehr", DAY)
    assert plan(any_clinic.warehouse, known, obstacles={str(note(3).note_id): "too_large"}) == known


def test_what_somebody_else_entered_meanwhile_is_looked_at_again(any_clinic: Clinic) -> None:
    any_clinic.write(note(1), note(2))
    before = load_day(any_clinic.warehouse, "ehr", DAY)
    key = Key("ehr", str(note(1).note_id), note(1).version)
    with any_clinic.warehouse.begin() as connection:
        ledger.add(connection, "default", [NewEntry(key, KINDS, 1, DAY, "not_validated")])

    assert plan(any_clinic.warehouse, before) is None


def test_a_note_that_is_let_go_is_looked_at_again(any_clinic: Clinic) -> None:
    any_clinic.write(note(1))
    held = plan(any_clinic.warehouse, load_day(any_clinic.warehouse, "ehr", DAY), obstacles={str(note(1).note_id): "x"})

    assert held is not None
    assert plan(any_clinic.warehouse, held) is None


def test_large_notes_are_found_without_reading_any(any_clinic: Clinic) -> None:
    written = [note(number, "é€😀" * 40 * number) for number in range(1, 9)]
    any_clinic.write(*written)
    ids = [str(each.note_id) for each in written]
    with any_clinic.warehouse.read() as connection:
        stored = connection.execute(sa.select(fhir_documents.c.note_id, fhir_documents.c.resource)).all()
        sizes = {each: sum(len(orjson.dumps(row.resource)) for row in stored if row.note_id == each) for each in ids}
        middle = sorted(sizes.values())[4]

        found = larger_than(connection, ids, KINDS, middle)
        none = larger_than(connection, ids, KINDS, 5 * max(sizes.values()))
        others = larger_than(connection, ids, ["Transcript"], 0)

    assert {each for each in ids if sizes[each] > middle} <= set(found)
    assert (none, others) == ([], [])


def test_a_large_note_is_found_however_well_it_packs(any_clinic: Clinic) -> None:
    large = note(1, "a" * 300_000)
    any_clinic.write(large, note(2))
    with any_clinic.warehouse.read() as connection:
        stored = connection.scalars(sa.select(fhir_documents.c.resource).where(fhir_documents.c.kind == KINDS[1]))
        most = max(len(orjson.dumps(resource)) for resource in stored) - 1

        found = larger_than(connection, [str(large.note_id), str(note(2).note_id)], KINDS[1:], most)

    assert found == [str(large.note_id)]


@pytest.mark.parametrize("text", ["", 'é€😀"\\\n', "a" * 100_000])
def test_no_document_is_larger_than_it_is_said_to_be_at_most(any_clinic: Clinic, text: str) -> None:
    any_clinic.write(note(1, f"x{text}"))
    with any_clinic.warehouse.read() as connection:
        (built,) = load_documents(connection, [str(note(1).note_id)], KINDS).values()

    assert built.most_bytes >= sum(len(orjson.dumps(each)) for each in built.documents.values())


def test_documents_of_many_megabytes_are_read(any_clinic: Clinic) -> None:
    any_clinic.write(note(1))
    packed = base64.b64encode(hashlib.shake_256(b"synthetic").digest(4_000_000)).decode()
    large = {"resourceType": "DocumentReference", "content": [{"attachment": {"data": packed}}]}
    with any_clinic.warehouse.begin() as connection:
        connection.execute(
            sa.update(fhir_documents).where(fhir_documents.c.kind == "DocumentReference").values(resource=large)
        )

    with any_clinic.warehouse.read() as connection:
        built = load_documents(connection, [str(note(1).note_id)], KINDS)[str(note(1).note_id)]

    assert built.documents["DocumentReference"] == large
    assert built.most_bytes >= len(orjson.dumps(large))


def test_a_day_is_looked_at_again_without_its_notes(any_clinic: Clinic) -> None:
    any_clinic.write(note(1), note(2, state=NoteState.DRAFT))
    before = load_day(any_clinic.warehouse, "ehr", DAY)
    plan(any_clinic.warehouse, before)

    again = look_again(any_clinic.warehouse, before)

    assert again == load_day(any_clinic.warehouse, "ehr", DAY)
    assert len(again.planned()) == 1


def test_answers_share_a_commit_while_the_threads_are_busy(
    make_settings: Callable[..., Settings], ehr: FakeEhr
) -> None:
    clinic = Clinic(make_settings(), ehr.base_url, connections=4)
    settled: list[int] = []
    try:
        clinic.write(*(note(number, patient=f"p{number}") for number in range(40)))

        report = clinic.deliver(on_progress=lambda done, _: settled.append(done))
    finally:
        clinic.close()

    assert (report.delivered, settled[-1]) == (40, 40)
    assert len(settled) <= 20


@pytest.mark.parametrize("search", [True, False])
def test_nothing_more_is_on_its_way_than_may_be_asked_after(clinic: Clinic, search: bool) -> None:
    file = clinic.settings.home / "capabilities.toml"
    file.write_text(f"search = {str(search).lower()}\n", encoding="utf-8")
    clinic.with_ehr(capabilities=file, connections=2)
    clinic.write(*(note(number, patient=f"p{number}") for number in range(30)))
    most = 0

    def look(_name: str) -> None:
        nonlocal most
        most = max(most, clinic.ledger("sent"))

    clinic.deliver(checkpoint=look)

    # A row for each of the two documents.
    assert most // 2 == (2 + 8 if search else 2)
