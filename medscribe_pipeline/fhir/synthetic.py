"""A note nobody dictated: for the preview in Dagster, for documentation and for trying a mapping.

Everything in it says that it is synthetic. It has what makes mappings differ: a French heading of the provider's own,
a nested section, Markdown, a key the mapping knows without LOINC or only broadly, a key nobody knows, text without a
heading, and a section that is empty.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.fhir.coverage import codes_of
from medscribe_pipeline.fhir.documents import build_documents
from medscribe_pipeline.fhir.sections import LOINC, section_system
from medscribe_pipeline.notes import (
    Identifier,
    NoteSection,
    NoteState,
    Practitioner,
    ScribeNote,
    TranscriptTurn,
    Visit,
    content_hash,
    stable_id,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medscribe_pipeline.fhir.options import BuildOptions

__all__ = ["synthetic_markdown", "synthetic_note"]

_SYSTEM = "https://example.org/synthetic"

_MEDICATION = """\
| Medicine | Dose | When |
| --- | --- | --- |
| Examplin | 10 mg | morning |
| Placebol | 1 drop | **never** on an empty stomach |"""

_SECTIONS = (
    NoteSection("CHIEF_COMPLAINT", None, "Synthetic patient. Cough for <3 days & a little fever."),
    NoteSection("CARDIOVASCULAR_RISKS", "Cardiovascular risk factors", "- none known\n- nobody smokes in this note"),
    NoteSection("CURRENT_MEDICATIONS", None, _MEDICATION, format="markdown"),
    NoteSection("VITALS", None, "T 38.1 °C\nSpO₂ 98 %"),
    NoteSection("PHYSICAL_EXAM", None, ""),
    NoteSection(
        "PLAN",
        "Plan by problem",
        "",
        (
            NoteSection("PLAN", "Cough", "1. rest\n2. drink *enough*", format="markdown"),
            NoteSection("PLAN", "Follow-up", "In one week, by telephone."),
        ),
    ),
    NoteSection("VENDOR_NEWS", "A section its vendor added yesterday", "Kept, with its own code only."),
    NoteSection(None, None, "A last sentence under no heading."),
)


def synthetic_note(state: NoteState = NoteState.VALIDATED) -> ScribeNote:
    """The note, always the same; only its state may be chosen."""
    validated_at = datetime(2026, 3, 2, 9, 31, tzinfo=UTC) if state is NoteState.VALIDATED else None
    return ScribeNote(
        note_id=stable_id("nabla", "synthetic", "synthetic-note-1", "note"),
        provider="nabla",
        account="synthetic",
        stream="jobs",
        source_id="synthetic-note-1",
        state=state,
        version=content_hash([(section.key, section.title, section.text) for section in _SECTIONS]),
        title="Synthetic consultation",
        language="en",
        template="GENERAL_MEDICINE",
        sections=_SECTIONS,
        transcript=(
            TranscriptTurn("What brings you here?", "doctor", 0, 1_500),
            TranscriptTurn("Nothing, I am synthetic.", "patient", 2_000, 4_200),
        ),
        visit=Visit(
            patient=Identifier(f"{_SYSTEM}/patient", "synthetic-patient-1"),
            practitioner=Practitioner(
                (Identifier(f"{_SYSTEM}/clinician", "synthetic-clinician-1"),), (), "Dr Synthetic"
            ),
            encounter=Identifier(f"{_SYSTEM}/encounter", "synthetic-encounter-1"),
            started_at=datetime(2026, 3, 2, 9, 0, tzinfo=UTC),
            ended_at=datetime(2026, 3, 2, 9, 20, tzinfo=UTC),
        ),
        created_at=datetime(2026, 3, 2, 9, 21, tzinfo=UTC),
        updated_at=datetime(2026, 3, 2, 9, 30, tzinfo=UTC),
        validated_at=validated_at,
        attested=validated_at is not None,
    )


def synthetic_markdown(options: BuildOptions) -> str:
    """The note's Composition as a Markdown table: what a mapping makes of headings, keys and codes.

    Built, not checked: this is shown where definitions are loaded, and `fhir.resources` is not to be imported there.
    Nor is what reads Markdown: no text of a section is shown.
    """
    plain = replace(options, release="R4", renderings=("text",), transcripts=False)
    note = synthetic_note()
    composition = build_documents(replace(note, sections=_as_text(note.sections)), plain).composition
    kind = composition["type"]
    codes = ", ".join(f"`{coding['code']}`" for coding in kind.get("coding", []))
    rows = [
        f"| {' | '.join(map(_cell, row))} |"
        for row in _rows(composition["section"], options, section_system(options.base_uri), "")
    ]
    return "\n".join(
        [
            f"**{composition['title']}** · status `{composition['status']}` · type {kind.get('text', '')} {codes}",
            "",
            "| section | LOINC | fit | own code |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
            f"Mapping `{options.version}`, profile `{options.profile}`. The note is synthetic.",
        ]
    )


def _as_text(sections: Sequence[NoteSection]) -> tuple[NoteSection, ...]:
    return tuple(replace(each, format="text", sections=_as_text(each.sections)) for each in sections)


def _rows(
    sections: Sequence[dict[str, Any]], options: BuildOptions, own_system: str, indent: str
) -> Iterator[tuple[str, str, str, str]]:
    for section in sections:
        codings = {coding["system"]: coding["code"] for coding in section.get("code", {}).get("coding", [])}
        known = codes_of(options.mapping, codings.get(own_system))
        yield (
            f"{indent}{section.get('title', '(no heading)')}",
            codings.get(LOINC, ""),
            known.fit or known.treatment.value,
            codings.get(own_system, ""),
        )
        yield from _rows(section.get("section", []), options, own_system, f"{indent}\N{RIGHTWARDS ARROW} ")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
