"""`medscribe fhir`: terminology and Bundles in files, and who may read them."""

from __future__ import annotations

import stat
import uuid
from typing import TYPE_CHECKING

import orjson
import pytest
from fhir.resources.R4B.bundle import Bundle

from medscribe_pipeline.fhir import default_mapping
from medscribe_pipeline.sandbox import MARKERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.medscribe_pipeline.cli.conftest import Ran
    from tests.synced import Clinic

FILES = {
    "CodeSystem-scribe-document.json",
    "CodeSystem-scribe-section.json",
    "ConceptMap-scribe-section-to-loinc.json",
    "ValueSet-scribe-section.json",
}


@pytest.fixture
def note_id(clinic: Clinic) -> str:
    """A note with text."""
    return str(clinic.value("SELECT min(note_id) FROM notes WHERE state = 'validated' AND has_text"))


# export-terminology


def test_terminology_is_written_once(home: Path, medscribe: Callable[..., Ran], tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"

    first = medscribe("fhir", "export-terminology", "--out", folder, "--json")
    second = medscribe("fhir", "export-terminology", "--out", folder)

    assert (first.code, second.code) == (0, 0)
    assert {path.name for path in folder.iterdir()} == FILES
    assert first.json["mapping_version"] == default_mapping().version
    assert {file["changed"] for file in first.json["files"]} == {True}
    for file in first.json["files"]:
        found = orjson.loads((folder / file["file"]).read_bytes())
        assert file["url"] == found["url"]
        assert found["url"].startswith("https://medscribe-pipeline.github.io/fhir/")
    assert second.words.count("as before") == len(FILES)
    assert not home.exists()


def test_terminology_follows_the_settings(
    home: Path, medscribe: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert home
    medscribe("fhir", "export-terminology", "--out", tmp_path)
    own = tmp_path / "own.toml"
    own.write_text('[sections.HOUSE_RULES]\ntitle.en = "House rules"\n')
    monkeypatch.setenv("MEDSCRIBE_FHIR_MAPPING", str(own))
    monkeypatch.setenv("MEDSCRIBE_FHIR_BASE_URI", "https://hospital.example/fhir")

    ran = medscribe("fhir", "export-terminology", "--out", tmp_path, "--json")

    codes = orjson.loads((tmp_path / "CodeSystem-scribe-section.json").read_bytes())
    assert {file["changed"] for file in ran.json["files"]} == {True}
    assert codes["url"] == "https://hospital.example/fhir/CodeSystem/scribe-section"
    assert "HOUSE_RULES" in {concept["code"] for concept in codes["concept"]}


@pytest.mark.parametrize("content", [b"", b"notes of somebody", b"[]", b'{"resourceType": "CodeSystem", "id": "x"}'])
def test_files_of_somebody_else_are_left_alone(
    home: Path, medscribe: Callable[..., Ran], tmp_path: Path, content: bytes
) -> None:
    assert home
    (tmp_path / "ValueSet-scribe-section.json").write_bytes(content)

    ran = medscribe("fhir", "export-terminology", "--out", tmp_path)

    assert ran.code == 2
    assert "terminology_exists" in ran.err
    assert (tmp_path / "ValueSet-scribe-section.json").read_bytes() == content
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_a_folder_that_cannot_be_one(home: Path, medscribe: Callable[..., Ran], tmp_path: Path) -> None:
    assert home
    (tmp_path / "file").touch()

    ran = medscribe("fhir", "export-terminology", "--out", tmp_path / "file")

    assert ran.code == 2
    assert "terminology_out" in ran.err


def test_a_wrong_mapping_is_told_and_nothing_is_done(
    clinic: Clinic, medscribe: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.toml"
    own.write_text('[sections.PLAN]\nloinc = "18776-6"\n')
    monkeypatch.setenv("MEDSCRIBE_FHIR_MAPPING", str(own))
    quarantined = clinic.value("SELECT count(*) FROM quarantine")

    for command in (("sync",), ("status",), ("fhir", "export-terminology", "--out", tmp_path)):
        ran = medscribe(*command)

        assert ran.code == 2
        assert "sections.PLAN.loinc: is no LOINC code: its check digit is wrong" in ran.err
        assert "file=own.toml" in ran.err
    assert clinic.value("SELECT count(*) FROM quarantine") == quarantined


# bundle


def test_a_note_becomes_a_bundle_only_its_owner_may_read(
    medscribe: Callable[..., Ran], tmp_path: Path, note_id: str
) -> None:
    file = tmp_path / "bundle.json"

    ran = medscribe("fhir", "bundle", note_id, "--out", file, "--json")

    resource = orjson.loads(file.read_bytes())
    assert ran.code == 0
    assert ran.json == {"out": str(file), "note_id": note_id, "entries": len(resource["entry"])}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    Bundle.model_validate(resource)
    assert (resource["type"], resource["entry"][0]["resource"]["resourceType"]) == ("document", "Composition")
    assert [marker for marker in MARKERS if marker in ran.out + ran.err] == []


def test_a_file_that_is_there_is_replaced_only_by_force(
    medscribe: Callable[..., Ran], tmp_path: Path, note_id: str
) -> None:
    file = tmp_path / "bundle.json"
    file.write_text("older")

    refused = medscribe("fhir", "bundle", note_id, "--out", file)
    assert (refused.code, file.read_text()) == (2, "older")

    assert medscribe("fhir", "bundle", note_id, "--out", file, "--force").code == 0
    assert orjson.loads(file.read_bytes())["resourceType"] == "Bundle"


def test_it_is_printed_only_when_asked_for(medscribe: Callable[..., Ran], note_id: str) -> None:
    assert medscribe("fhir", "bundle", note_id, "--out", "-").json["resourceType"] == "Bundle"

    without = medscribe("fhir", "bundle", note_id)
    both = medscribe("fhir", "bundle", note_id, "--out", "-", "--json")

    assert (without.code, without.out) == (2, "")
    assert (both.code, both.out) == (2, "")


def test_a_note_that_is_not_there(clinic: Clinic, medscribe: Callable[..., Ran], tmp_path: Path) -> None:
    assert clinic

    ran = medscribe("fhir", "bundle", uuid.UUID(int=7), "--out", tmp_path / "bundle.json")

    assert ran.code == 2
    assert "no_such_note" in ran.err
    assert list(tmp_path.glob("*.json")) == []
