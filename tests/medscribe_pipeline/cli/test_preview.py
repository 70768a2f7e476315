"""`medscribe preview`: a private file of one note, and nothing of the patient on the terminal."""

from __future__ import annotations

import html
import os
import stat
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.cli.preview import write_private
from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.sandbox import MARKERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.medscribe_pipeline.cli.conftest import Ran
    from tests.synced import Clinic


def of_state(clinic: Clinic, state: str, reason: str | None = None) -> str:
    """A note whose newest version stands so in the ledger."""
    query = (
        "SELECT min(d.note_id) FROM deliveries d JOIN notes n ON n.note_id = d.note_id AND n.version = d.version"
        " WHERE d.state = ? AND coalesce(d.reason, '') = ?"
    )
    return str(clinic.value(query, state, reason or ""))


def test_the_page_has_the_words_and_the_codes_of_the_note(
    clinic: Clinic, medscribe: Callable[..., Ran], tmp_path: Path
) -> None:
    note_id = of_state(clinic, "delivered")
    out = tmp_path / "note.html"

    ran = medscribe("preview", note_id, "--out", out)

    page = out.read_text(encoding="utf-8")
    words = " ".join("".join(ET.fromstring(page).itertext()).split())  # noqa: S314 - our own page
    texts = clinic.rows("SELECT text FROM note_sections WHERE note_id = ?", note_id)
    assert ran.code == 0
    assert ran.words == f"{out} written. Delivered: this version is in the EHR."
    assert all(line.strip(" -•*#") in words for (text,) in texts for line in text.splitlines() if line[:1].isalpha())
    assert html.escape(clinic.value("SELECT patient_id FROM notes WHERE note_id = ?", note_id)) in page


def test_the_terminal_tells_nothing_of_the_patient(
    clinic: Clinic, medscribe: Callable[..., Ran], tmp_path: Path
) -> None:
    for number, note_id in enumerate(clinic.note_ids()):
        for flags in ((), ("--json", "--transcript", "--force")):
            ran = medscribe("preview", note_id, "--out", tmp_path / f"{number}.html", *flags)

            said = ran.out + ran.err
            patient = clinic.value("SELECT patient_id FROM notes WHERE note_id = ?", note_id)
            assert ran.code in {0, 1}  # 1: an empty or failed note has no documents
            assert [value for value in (*MARKERS, patient) if value and value in said] == []


def test_json_has_a_stable_shape(clinic: Clinic, medscribe: Callable[..., Ran], tmp_path: Path) -> None:
    note_id = of_state(clinic, "held", "not_validated")
    clinic.change("UPDATE note_sections SET key = 'VENDOR_NEWS' WHERE note_id = ? AND ordinal = 0", note_id)
    clinic.change("UPDATE note_sections SET key = 'Mrs Example' WHERE note_id = ? AND ordinal = 1", note_id)
    out = tmp_path / "note.html"

    found = medscribe("preview", note_id, "--out", out, "--json").json

    assert found == {
        "out": str(out),
        "note_id": note_id,
        "state": "draft",
        "sections": clinic.value("SELECT count(*) FROM note_sections WHERE note_id = ?", note_id),
        "unknown_keys": ["VENDOR_NEWS", "other"],
        "delivery": "Held: no clinician has validated it yet (not_validated).",
    }


@pytest.mark.parametrize(
    ("state", "reason", "said"),
    [
        ("delivered", None, "Delivered: this version is in the EHR."),
        ("held", "not_validated", "Held: no clinician has validated it yet (not_validated)."),
        ("held", "patient_unknown", "(patient_unknown)."),
    ],
)
def test_it_says_whether_the_note_goes_out(
    clinic: Clinic, medscribe: Callable[..., Ran], tmp_path: Path, state: str, reason: str | None, said: str
) -> None:
    note_id = of_state(clinic, state, reason)

    ran = medscribe("preview", note_id, "--out", tmp_path / "note.html")

    assert said in ran.words
    assert said in (tmp_path / "note.html").read_text()


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("rejected", "Rejected: the EHR refused this version."),
        ("unknown", "Sent, and nobody knows yet whether it arrived."),
        ("planned", "Goes out with the next delivery."),
    ],
)
def test_it_follows_the_ledger(
    clinic: Clinic, medscribe: Callable[..., Ran], tmp_path: Path, state: str, said: str
) -> None:
    note_id = of_state(clinic, "delivered")
    clinic.change("UPDATE deliveries SET state = ? WHERE note_id = ?", state, note_id)

    assert said in medscribe("preview", note_id, "--out", tmp_path / "note.html").words


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("encounter_missing", "Held: the EHR knows no such encounter (encounter_missing)."),
        ("held_by_switch", "Goes out with the next delivery."),
        ("not_validated", "Goes out with the next delivery."),
    ],
)
def test_what_held_it_counts_as_long_as_only_the_target_can_tell(
    clinic: Clinic, medscribe: Callable[..., Ran], tmp_path: Path, reason: str, said: str
) -> None:
    note_id = of_state(clinic, "delivered")
    clinic.change("UPDATE deliveries SET state = 'held', reason = ? WHERE note_id = ?", reason, note_id)

    assert said in medscribe("preview", note_id, "--out", tmp_path / "note.html").words


def test_each_of_several_targets_is_told(
    clinic: Clinic, medscribe: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note_id = of_state(clinic, "delivered")
    monkeypatch.setenv("MEDSCRIBE_EHR_MORE_TARGETS", '["store"]')
    monkeypatch.setenv("MEDSCRIBE_EHR_STORE_BASE_URL", "https://store.example/fhir")
    monkeypatch.setenv("MEDSCRIBE_EHR_STORE_HOLD_ALL", "true")

    ran = medscribe("preview", note_id, "--out", tmp_path / "note.html")

    assert "ehr: Delivered: this version is in the EHR. store: Held: " in ran.words
    assert "(held_by_switch)." in ran.words


def test_without_an_ehr_it_says_so(
    clinic: Clinic, medscribe: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note_id = of_state(clinic, "delivered")
    clinic.change("DELETE FROM deliveries")
    for name in ("MEDSCRIBE_EHR_BASE_URL", "MEDSCRIBE_EHR_TOKEN"):
        monkeypatch.delenv(name)

    assert "Could go out; no EHR is configured." in medscribe("preview", note_id, "--out", tmp_path / "n.html").words


def test_a_document_that_breaks_a_rule_is_shown_and_said_to_be_quarantined(
    clinic: Clinic, medscribe: Callable[..., Ran], tmp_path: Path
) -> None:
    note_id = of_state(clinic, "delivered")
    clinic.change("UPDATE notes SET patient_id = ? WHERE note_id = ?", "a\x07b", note_id)

    ran = medscribe("preview", note_id, "--out", tmp_path / "note.html")

    assert ran.code == 0
    assert "Quarantined: a document breaks a rule of FHIR" in ran.words


@pytest.mark.parametrize("name", ["askara:nothing", "nothing", "00000000-0000-0000-0000-000000000007"])
def test_an_unknown_note_is_exit_code_2_and_no_file(
    clinic: Clinic, medscribe: Callable[..., Ran], tmp_path: Path, name: str
) -> None:
    assert clinic
    ran = medscribe("preview", name, "--out", tmp_path / "note.html")

    assert (ran.code, ran.out) == (2, "")
    assert "code=no_such_note" in ran.err
    assert not (tmp_path / "note.html").exists()


def test_a_note_with_nothing_to_show_says_why(clinic: Clinic, medscribe: Callable[..., Ran], tmp_path: Path) -> None:
    note_id = of_state(clinic, "delivered")
    clinic.change("DELETE FROM note_sections WHERE note_id = ?", note_id)

    ran = medscribe("preview", note_id, "--out", tmp_path / "note.html")

    assert (ran.code, ran.out) == (1, "")
    assert "code=empty_note" in ran.err


def test_a_record_that_became_several_notes_has_to_be_named_by_id(
    clinic: Clinic, medscribe: Callable[..., Ran], tmp_path: Path
) -> None:
    ids = clinic.note_ids()[:2]
    clinic.change(
        "UPDATE notes SET provider = 'askara', source_id = 'twin', kind = note_id WHERE note_id IN (?, ?)", *ids
    )

    for command in (("preview", "askara:twin", "--out", tmp_path / "n.html"), ("show", "askara:twin")):
        ran = medscribe(*command)
        assert (ran.code, ran.out) == (2, "")
        assert "code=several_notes" in ran.err


def test_the_file_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "page.html", "<p>é</p>", replace=False)
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "page.html").stat().st_mode) == 0o600
    assert (tmp_path / "page.html").read_bytes() == "<p>é</p>".encode()
    assert [each.name for each in tmp_path.iterdir()] == ["page.html"]


def test_a_file_is_replaced_only_on_demand(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("older")
    page.chmod(0o644)

    with pytest.raises(ConfigError) as refused:
        write_private(page, "newer", replace=False)
    assert (refused.value.code, page.read_text()) == ("file_exists", "older")

    write_private(page, "newer", replace=True)
    assert page.read_text() == "newer"
    assert stat.S_IMODE(page.stat().st_mode) == 0o600


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("kept")
    link = tmp_path / "page.html"
    link.symlink_to(elsewhere)

    with pytest.raises(ConfigError):
        write_private(link, "page", replace=False)
    write_private(link, "page", replace=True)

    assert (elsewhere.read_text(), link.is_symlink()) == ("kept", False)


@pytest.mark.parametrize("name", [".", "", "missing/page.html", "file/page.html", "x" * 300])
def test_a_place_that_cannot_be_written_is_a_wrong_setting(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("a file")

    with pytest.raises(ConfigError) as refused:
        write_private(type(tmp_path)(name), "page", replace=True)

    assert refused.value.code == "file_unwritable"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
