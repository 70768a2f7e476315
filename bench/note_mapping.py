"""What a note of eight sections costs on its way to checked FHIR, beside what the models alone cost.

    python -m bench.note_mapping [--rounds 9] [--repeat 100]

Three things take turns in each round, over the same note: `fhir.resources` validating its finished resources; all that
is built from the note; and all of it, built, held against the rules of this project and then against the models.
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING

from medscribe_pipeline.fhir import BuildOptions, build_documents, check, default_mapping
from medscribe_pipeline.fhir.rules_types import model_of
from medscribe_pipeline.notes import (
    Identifier,
    NoteSection,
    NoteState,
    Practitioner,
    ScribeNote,
    Visit,
    content_hash,
    stable_id,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["measure"]

KEYS = (
    *("CHIEF_COMPLAINT", "HISTORY_OF_PRESENT_ILLNESS", "PAST_MEDICAL_HISTORY", "ALLERGIES", "CURRENT_MEDICATIONS"),
    *("PHYSICAL_EXAM", "ASSESSMENT", "PLAN"),
)
TEXT = """\
Synthetic text of a section: a cough for <3 days, T 38.2 °C, no chest pain & no shortness of breath.
It has been worse at night. Nobody else in this invented household coughs.
- rest and fluids
- come back if it is worse after 48 hours, or if breathing gets hard"""
NOTE = ScribeNote(
    note_id=stable_id("nabla", "synthetic", "bench", "note"),
    provider="nabla",
    account="synthetic",
    stream="jobs",
    source_id="bench",
    state=NoteState.VALIDATED,
    version=content_hash("bench"),
    language="en",
    template="GENERAL_MEDICINE",
    sections=tuple(NoteSection(key, None, TEXT) for key in KEYS),
    visit=Visit(
        patient=Identifier("https://example.org/sid/patient", "synthetic-patient-1"),
        practitioner=Practitioner(
            (Identifier("https://example.org/sid/user", "synthetic-user-1"),), (), "Dr Synthetic"
        ),
        encounter=Identifier("https://example.org/sid/encounter", "synthetic-encounter-1"),
        started_at=datetime(2025, 3, 4, 9, 0, tzinfo=UTC),
        ended_at=datetime(2025, 3, 4, 9, 20, tzinfo=UTC),
    ),
    created_at=datetime(2025, 3, 4, 9, 21, tzinfo=UTC),
    validated_at=datetime(2025, 3, 4, 9, 31, tzinfo=UTC),
    attested=True,
)
OPTIONS = BuildOptions("https://example.org/fhir", default_mapping())


def measure(rounds: int, repeat: int) -> dict[str, float]:
    """Milliseconds a note by what is measured, the median of `rounds` of `repeat` notes each."""
    finished = list(build_documents(NOTE, OPTIONS).resources().values())
    models = [(model, resource) for resource in finished if (model := model_of("R4", resource["resourceType"]))]

    def models_alone() -> None:
        for model, resource in models:
            model.model_validate(resource)

    def mapping_alone() -> None:
        build_documents(NOTE, OPTIONS)

    def everything() -> None:
        for resource in build_documents(NOTE, OPTIONS).resources().values():
            check(resource)

    compared = {"models": models_alone, "mapping": mapping_alone, "everything": everything}
    taken: dict[str, list[float]] = {name: [] for name in compared}
    for run in compared.values():
        run()  # imports and tables, which are made once in the life of a process
    for _ in range(rounds):
        for name, run in compared.items():
            taken[name].append(_milliseconds(run, repeat))
    return {name: median(each) for name, each in taken.items()}


def _milliseconds(run: Callable[[], None], repeat: int) -> float:
    started = time.perf_counter()
    for _ in range(repeat):
        run()
    return (time.perf_counter() - started) * 1000 / repeat


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m bench.note_mapping")
    parser.add_argument("--rounds", type=int, default=9, help="rounds, of which the median is taken")
    parser.add_argument("--repeat", type=int, default=100, help="notes in a round")
    asked = parser.parse_args()
    cost = measure(max(asked.rounds, 1), max(asked.repeat, 1))
    sys.stdout.write(
        f"models alone                 {cost['models']:6.2f} ms a note\n"
        f"mapping alone                {cost['mapping']:6.2f} ms\n"
        f"mapping + rules + models     {cost['everything']:6.2f} ms\n"
        f"ratio to the models alone    {cost['everything'] / cost['models']:6.2f}\n"
    )


if __name__ == "__main__":
    main()
