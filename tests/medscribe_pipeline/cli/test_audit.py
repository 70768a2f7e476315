"""Whatever shows patients' texts or identifiers writes down who looked, before it shows them."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.medscribe_pipeline.cli.conftest import Ran
    from tests.synced import Clinic


@pytest.fixture
def note_id(clinic: Clinic) -> str:
    return str(clinic.value("SELECT min(note_id) FROM deliveries WHERE state = 'delivered'"))


def logged(clinic: Clinic) -> list[tuple[str, str, str]]:
    rows = clinic.rows("SELECT who, what, subject FROM access_log ORDER BY id")
    return [(who, what, subject) for who, what, subject in rows]


def test_looking_without_text_is_nobodys_business(clinic: Clinic, medscribe: Callable[..., Ran], note_id: str) -> None:
    for arguments in (("show", note_id), ("deliver", "--dry-run"), ("links", "list"), ("status",)):
        assert medscribe(*arguments).code == 0

    assert logged(clinic) == []


def test_each_look_at_a_patient_is_written_down(
    clinic: Clinic, medscribe: Callable[..., Ran], note_id: str, tmp_path: Path
) -> None:
    page, table = tmp_path / "note.html", tmp_path / "links.csv"
    for arguments in (
        ("show", note_id, "--text"),
        ("preview", note_id, "--out", page),
        ("preview", note_id, "--out", page, "--transcript", "--force"),
        ("deliver", "--dry-run", "--text"),
        ("links", "list", "--values"),
        ("links", "list", "--out", table),
    ):
        assert medscribe(*arguments).code == 0

    me = getpass.getuser()
    assert logged(clinic) == [
        (me, "show_text", note_id),
        (me, "preview", note_id),
        (me, "preview_transcript", note_id),
        (me, "deliver_text", "ehr"),
        (me, "links_values", "ehr"),
        (me, "links_values", "ehr"),
    ]


def test_what_cannot_be_written_down_is_not_shown(clinic: Clinic, medscribe: Callable[..., Ran], note_id: str) -> None:
    clinic.change("DROP TABLE access_log")

    ran = medscribe("show", note_id, "--text")

    assert ran.code != 0
    assert ran.out == ""


def test_the_log_is_listed_newest_first(clinic: Clinic, medscribe: Callable[..., Ran], note_id: str) -> None:
    clinic.change(
        "INSERT INTO access_log (account, at, who, what, subject) VALUES "
        "('default', '2026-01-01T00:00:00.000000+00:00', 'ada', 'show_text', 'older')"
    )
    medscribe("show", note_id, "--text")

    listed = medscribe("audit", "list", "--json").json["accesses"]
    filtered = medscribe("audit", "list", "--who", "ada", "--json").json["accesses"]
    recent = medscribe("audit", "list", "--since", "2026-02-01", "--json").json["accesses"]

    assert [row["subject"] for row in listed] == [note_id, "older"]
    assert [(row["who"], row["what"], row["subject"]) for row in filtered] == [("ada", "show_text", "older")]
    assert [row["subject"] for row in recent] == [note_id]
    assert "show_text" in medscribe("audit", "list", "--limit", "1").out
    assert clinic


def test_a_wrong_time_is_refused(home: Path, medscribe: Callable[..., Ran]) -> None:
    ran = medscribe("audit", "list", "--since", "yesterday")

    assert (ran.code, "code=window" in ran.err) == (2, True)
    assert home
