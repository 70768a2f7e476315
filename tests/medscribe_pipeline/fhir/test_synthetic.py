"""The note nobody dictated: valid, the same every time, and shown without the models."""

from __future__ import annotations

import subprocess
import sys

import pytest
from markdown_it import MarkdownIt

from medscribe_pipeline.fhir import build_documents, check
from medscribe_pipeline.fhir.synthetic import synthetic_markdown, synthetic_note
from medscribe_pipeline.notes import NoteState
from tests.fhir_options import options


@pytest.mark.parametrize("state", [NoteState.DRAFT, NoteState.VALIDATED, NoteState.RETRACTED])
def test_its_documents_are_valid_in_every_state(state: NoteState) -> None:
    for resource in build_documents(synthetic_note(state), options()).resources().values():
        check(resource)


def test_only_a_validated_one_is_attested() -> None:
    assert [synthetic_note(state).attested for state in NoteState] == [False, True, False, False]
    assert synthetic_note(NoteState.DRAFT).validated_at is None


def test_its_markdown_is_one_table_of_all_sections() -> None:
    rendered = MarkdownIt("commonmark").enable("table").render(synthetic_markdown(options()))

    assert rendered.count("<table>") == 1
    assert rendered.count("<tr>") == 1 + 9
    for cells in (
        ("Chief complaint", "10154-3", "exact", "CHIEF_COMPLAINT"),
        ("→ Follow-up", "18776-5", "exact", "PLAN"),
        ("A section its vendor added yesterday", "", "unknown", "VENDOR_NEWS"),
        ("(no heading)", "", "no_key", ""),
    ):
        assert "<tr>\n" + "".join(f"<td>{cell}</td>\n" for cell in cells) + "</tr>" in rendered


def test_showing_it_loads_no_models_and_no_parser() -> None:
    program = (
        "import sys\n"
        "from medscribe_pipeline.fhir import BuildOptions\n"
        "from medscribe_pipeline.fhir.synthetic import synthetic_markdown\n"
        "from medscribe_pipeline.settings import FhirSettings\n"
        "assert synthetic_markdown(BuildOptions.of(FhirSettings(renderings=('pdf', 'xhtml'), transcripts=True)))\n"
        "sys.exit(any(name.partition('.')[0] in ('fhir', 'markdown_it') for name in sys.modules))"
    )

    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
