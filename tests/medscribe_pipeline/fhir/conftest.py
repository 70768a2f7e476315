"""A complete synthetic note to build documents from."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from medscribe_pipeline.notes import (
    Identifier,
    NoteSection,
    NoteState,
    Practitioner,
    ScribeNote,
    Visit,
    stable_id,
)

BASE_URI = "https://example.org/fhir"


@pytest.fixture
def base_uri() -> str:
    return BASE_URI


@pytest.fixture
def note() -> ScribeNote:
    """A validated French note with everything known."""
    return ScribeNote(
        note_id=stable_id("askara", "clinic-a", "n-1", "note"),
        provider="askara",
        account="clinic-a",
        stream="notes",
        source_id="n-1",
        state=NoteState.VALIDATED,
        version="a" * 64,
        title="Consultation de synthèse",
        language="fr-FR",
        template=None,
        sections=(
            NoteSection("CHIEF_COMPLAINT", None, "Toux <3 jours & fièvre"),
            NoteSection("PHYSICAL_EXAM", "Examen", " \n\t"),
            NoteSection("PLAN", "Suites", "", (NoteSection("PLAN", "Problème 1", "- repos\n- eau"),)),
            NoteSection("VENDOR_NEWS", None, "texte"),
            NoteSection(None, None, "fin"),
        ),
        visit=Visit(
            patient=Identifier("https://example.org/patient", "synthetic-patient-1"),
            practitioner=Practitioner(
                identifiers=(Identifier("https://example.org/user", "synthetic-user-1"),),
                role_identifiers=(Identifier("https://example.org/am", "000000000"),),
                display="Dr Exemple Synthétique",
            ),
            encounter=Identifier("https://example.org/encounter", "synthetic-encounter-1"),
            started_at=datetime(2025, 3, 4, 9, 0, 0, 500_000, tzinfo=UTC),
            ended_at=datetime(2025, 3, 4, 9, 20, tzinfo=UTC),
        ),
        created_at=datetime(2025, 3, 4, 9, 21, tzinfo=UTC),
        updated_at=datetime(2025, 3, 4, 9, 30, tzinfo=UTC),
        validated_at=datetime(2025, 3, 4, 9, 31, tzinfo=UTC),
    )
