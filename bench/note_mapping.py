"""What a note of eight sections costs on its way to checked FHIR, beside what the models alone cost.

    python -m bench.note_mapping [--rounds 9] [--repeat 100]

What is compared takes turns in each round, over the same note: `fhir.resources` validating its finished resources; all
that is built from the note; the two ways of checking what was built (`MEDSCRIBE_FHIR_CHECK`), `strict` by the rules of
this project and then by the models, `shape` where such a note was seen before; and all of it, built and checked.
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from medscribe_pipeline.fhir import BuildOptions, build_documents, default_mapping
from medscribe_pipeline.fhir.rules_types import model_of
from medscribe_pipeline.fhir.shapes import check
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

    from pydantic import BaseModel

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
    """Milliseconds of processor time a note by what is measured, the median of `rounds` of `repeat` notes each."""
    finished = _built()
    models = [(model, resource) for resource in finished if (model := model_of("R4", resource["resourceType"]))]
    compared: dict[str, Callable[[], object]] = {
        "models": lambda: _validate(models),
        "mapping": _built,
        "strict": lambda: _check(finished, "strict"),
        "shape": lambda: _check(finished, "shape"),
        "everything": lambda: _check(_built(), "strict"),
        "everything, shape": lambda: _check(_built(), "shape"),
    }
    taken: dict[str, list[float]] = {name: [] for name in compared}
    for run in compared.values():
        run()  # imports and tables, which are made once in the life of a process
    for _ in range(rounds):
        for name, run in compared.items():
            taken[name].append(_milliseconds(run, repeat))
    return {name: median(each) for name, each in taken.items()}


def _built() -> list[dict[str, Any]]:
    return list(build_documents(NOTE, OPTIONS).resources().values())


def _validate(models: list[tuple[type[BaseModel], dict[str, Any]]]) -> None:
    for model, resource in models:
        model.model_validate(resource)


def _check(resources: list[dict[str, Any]], how: Literal["shape", "strict"]) -> None:
    for resource in resources:
        check(resource, "R4", how)


def _milliseconds(run: Callable[[], object], repeat: int) -> float:
    started = time.process_time()
    for _ in range(repeat):
        run()
    return (time.process_time() - started) * 1000 / repeat


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m bench.note_mapping")
    parser.add_argument("--rounds", type=int, default=9, help="rounds, of which the median is taken")
    parser.add_argument("--repeat", type=int, default=100, help="notes in a round")
    asked = parser.parse_args()
    cost = measure(max(asked.rounds, 1), max(asked.repeat, 1))
    sys.stdout.write(
        f"models alone                 {cost['models']:6.3f} ms a note\n"
        f"mapping alone                {cost['mapping']:6.3f} ms\n"
        f"check, strict                {cost['strict']:6.3f} ms\n"
        f"check, shape                 {cost['shape']:6.3f} ms\n"
        f"mapping + check, strict      {cost['everything']:6.3f} ms\n"
        f"mapping + check, shape       {cost['everything, shape']:6.3f} ms\n"
        f"strict to shape              {cost['strict'] / cost['shape']:6.2f}\n"
        f"ratio to the models alone    {cost['everything, shape'] / cost['models']:6.2f}\n"
    )


if __name__ == "__main__":
    main()
