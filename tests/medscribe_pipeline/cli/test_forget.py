"""`medscribe forget`: asks for a word, says what it did, and leaves nothing in the files of the warehouse."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import pytest

from tests.synced import secrets_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.medscribe_pipeline.cli.conftest import Ran
    from tests.synced import Clinic


@pytest.fixture
def patient(clinic: Clinic) -> tuple[str, str]:
    """System and value of a patient with a note."""
    ((system, value),) = clinic.rows(
        "SELECT patient_system, patient_id FROM notes WHERE patient_id IS NOT NULL AND provider = 'askara' "
        "ORDER BY note_id LIMIT 1"
    )
    return system, value


def files_with(clinic: Clinic, text: str) -> list[str]:
    """Files beside the warehouse that hold a text."""
    files = [each for each in clinic.database.parent.glob("warehouse.sqlite*") if each.is_file()]
    return [each.name for each in files if text.encode() in each.read_bytes()]


def test_a_patient_is_forgotten_in_the_tables_and_in_the_file(
    clinic: Clinic, medscribe: Callable[..., Ran], patient: tuple[str, str]
) -> None:
    assert files_with(clinic, patient[1])

    ran = medscribe("forget", "--patient", "|".join(patient), "--yes", "--json")

    assert (ran.code, ran.json["file_overwritten"]) == (0, True)
    assert ran.json["rows"]["notes"] > 0
    assert files_with(clinic, patient[1]) == []
    assert patient[1] not in ran.out + ran.err


def test_the_next_full_sync_does_not_bring_them_back(
    clinic: Clinic, medscribe: Callable[..., Ran], patient: tuple[str, str]
) -> None:
    medscribe("forget", "--patient", "|".join(patient), "--yes")

    synced = medscribe("sync", "--full-refresh", "--json")

    assert synced.json["run"]["failures"] == []
    assert clinic.value("SELECT count(*) FROM visit_days WHERE built_seq < changed_seq") == 0
    assert files_with(clinic, patient[1]) == []


def test_the_identifier_may_come_by_standard_input(
    clinic: Clinic, medscribe: Callable[..., Ran], patient: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{'|'.join(patient)}\n".encode())))

    ran = medscribe("forget", "--patient", "-", "--dry-run", "--json")

    assert ran.json["rows"]["notes"] > 0
    assert clinic.value("SELECT count(*) FROM notes WHERE forgotten_at IS NOT NULL") == 0


def test_what_it_did_is_said_without_naming_anybody(
    clinic: Clinic, medscribe: Callable[..., Ran], patient: tuple[str, str]
) -> None:
    secrets = secrets_of(clinic)

    ran = medscribe("forget", "--patient", "|".join(patient), "--yes")

    assert ran.code == 0
    assert "Forgotten: source_records: " in ran.words
    assert "Backups, the provider, the EHR and recordings in files still have theirs" in ran.words
    assert [secret for secret in secrets if secret in ran.out + ran.err] == []


def test_a_note_is_forgotten_and_may_come_back(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    note_id = clinic.value("SELECT min(note_id) FROM notes WHERE provider = 'askara' AND has_text")

    forgotten = medscribe("forget", "--note", note_id, "--yes", "--json")
    undone = medscribe("forget", "--note", note_id, "--undo", "--yes", "--json")
    again = medscribe("forget", "--note", note_id, "--undo", "--yes")

    assert forgotten.json["rows"]["notes"] >= 1
    assert undone.json["records"] >= 1
    assert again.words.startswith("0 records may come back")
    said = [row[0] for row in clinic.rows("SELECT what FROM access_log WHERE subject = ? ORDER BY id", note_id)]
    assert said == ["forget", "forget_undone"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), "forget"),
        (("--patient", "a|b", "--note", "c", "--yes"), "forget"),
        (("--patient", "no-system", "--yes"), "forget"),
        (("--patient", "a|b", "--undo", "--yes"), "forget"),
        (("--note", "x", "--undo", "--dry-run"), "forget"),
        (("--patient", "a|b"), "yes"),
        (("--note", "nobody", "--yes"), "no_such_note"),
    ],
)
def test_nothing_is_forgotten_by_mistake(
    clinic: Clinic, medscribe: Callable[..., Ran], arguments: tuple[str, ...], code: str
) -> None:
    ran = medscribe("forget", *arguments)

    assert (ran.code, f"code={code}" in ran.err) == (2, True)
    assert clinic.value("SELECT count(*) FROM notes WHERE forgotten_at IS NOT NULL") == 0
