"""`docs/mapping.md`: complete, and what it says of a mapping of one's own is so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docs import mapping_page
from medscribe_pipeline.fhir import default_mapping, load_mapping

if TYPE_CHECKING:
    from pathlib import Path

PAGE = mapping_page.render()
BASE_URI = "https://example.org/fhir"


def rows_of(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading."""
    below = PAGE.split(f"\n{heading}\n", 1)[1]
    lines = below[below.index("\n|") :].strip().split("\n\n", 1)[0].splitlines()
    return [[cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_every_row_of_the_data_is_on_the_page() -> None:
    rows = default_mapping().rows

    assert [row[0] for row in rows_of("## Sections")] == sorted(rows.sections)
    assert [row[0] for row in rows_of("## Practice settings")] == sorted(rows.specialties)
    assert len(rows_of("## Document types")) == len(rows.documents)
    english = {row.title["en"] for row in (*rows.sections.values(), *rows.specialties.values(), *rows.documents)}
    assert [row[0] for row in rows_of("### Titles in further languages")] == sorted(english)


def test_unreviewed_text_is_never_final_on_the_page_either() -> None:
    states = {row[0]: row[1:4] for row in rows_of("## States")}

    assert states["draft"] == ["preliminary", "preliminary", "current"]
    assert states["validated by a clinician"] == ["final", "final", "current"]
    assert states["archived or withdrawn"] == ["entered-in-error"] * 3


def test_the_example_is_on_the_page_and_does_what_its_comments_say(tmp_path: Path) -> None:
    assert f"```toml\n{mapping_page.OWN_MAPPING.rstrip()}\n```" in PAGE
    (tmp_path / "own.toml").write_text(mapping_page.OWN_MAPPING, encoding="utf-8")

    own = load_mapping(tmp_path / "own.toml")

    assert own.default_title("PLAN", "fr") == "Suites à donner"
    assert own.default_title("PLAN", "en") == "Plan"
    assert own.rows.sections["LAB_RESULTS"].fit == "good"
    codes = {
        key: [coding["code"] for coding in own.section_coding(key, None, "en", BASE_URI)["coding"]]
        for key in ("LAB_RESULTS", "WELL_CHILD_CARE", "HOUSE_RULES")
    }
    assert codes == {
        "LAB_RESULTS": ["11502-2", "LAB_RESULTS"],
        "WELL_CHILD_CARE": ["WELL_CHILD_CARE"],
        "HOUSE_RULES": ["HOUSE_RULES"],
    }
    assert own.practice_setting("HOUSE_VESSELS", None, "fr") == {
        "coding": [{"system": "https://hospital.example/units", "code": "ANG"}],
        "text": "Angiologie",
    }
    heart = own.document_type("SOAP", "note", "nabla", "fr", "CARDIOLOGY")
    assert (heart["coding"][0]["code"], heart["text"]) == ("34099-2", "Avis cardiologique")
    assert own.document_type(None, "summary", "intron", "fr")["coding"][0]["code"] == "11488-4"
    assert own.document_title(None, "summary", "intron", "de") == "Summary of the visit"
