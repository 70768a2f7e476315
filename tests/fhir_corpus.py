"""Synthetic notes of every kind there is, and every way to build them: what all checks of the mapping look at.

The corpus is a fixed list: nothing in it is random, and a case keeps its name and its content. Three axes (template,
language, state) are crossed in full; the others are dealt out over these by a hash of the name, and each value of
them has cases of its own besides, so that none depends on luck.

Validators of one's own choice read what this writes, a resource a line:

    python -m tests.fhir_corpus --out corpus.ndjson
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from medscribe_pipeline.fhir import build_documents, default_mapping
from medscribe_pipeline.fhir.bundle import document_bundle
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
from tests.fhir_options import options

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["LANGUAGES", "STATES", "TEMPLATES", "Case", "a_note", "corpus", "resources"]

T = TypeVar("T")

TEMPLATES: tuple[str | None, ...] = (
    None,
    *dict.fromkeys(template for row in default_mapping().rows.documents for template in row.templates),
    "UNHEARD_OF",
)
LANGUAGES = ("en", "fr-FR", "de", "es-MX", "it", "pt_BR", "ja", "French", None)

_RPPS = Identifier("https://rpps.esante.gouv.fr", "10101748050")
_AM = Identifier("https://example.org/fhir/sid/fr-numero-am", "999000001")
_USER = Identifier("https://example.org/sid/user", "synthetic-user-1")
_AT = datetime(2025, 3, 4, 9, 0, 0, 250_000, tzinfo=UTC)

STATES: dict[str, dict[str, Any]] = {
    "draft": {"state": NoteState.DRAFT},
    "reviewed": {"state": NoteState.VALIDATED},
    "validated": {"state": NoteState.VALIDATED, "attested": True, "validated_at": _AT.replace(minute=31)},
    "amended": {
        "state": NoteState.VALIDATED,
        "attested": True,
        "validated_at": _AT.replace(minute=45),
        "updated_at": _AT.replace(minute=44),
        "amends": "b" * 64,
    },
    "retracted": {"state": NoteState.RETRACTED, "validated_at": _AT.replace(minute=31), "attested": True},
    "gone": {"state": NoteState.RETRACTED, "sections": (), "transcript": ()},
}
"""What each state of a note is to its fields; `reviewed` counts as validated by a setting, `gone` has lost its text."""

_VITALS = "T 38,2 °C\nTA 120/80 mmHg\nSpO₂ 98 %"
_TABLE = """\
| Medicine | Dose |
| :--- | ---: |
| Examplin | 10 mg \\| day |
| **Placebol** | <1 drop & *no more* |"""
_NESTED_LIST = """\
1. rest
   - at home
     * in bed, ~~never~~ on the sofa
   - with `care`
2. water

> as the patient put it

## Then

7. call [the ward](https://example.org/secret) ![picture](x.png)"""
_HOSTILE = "<script>alert(1)</script> <img src=x onerror=y> &nbsp; &#0; ]]> <!-- ' \" --> A&P, Hb <10 {{7*7}} ${x}"
_BIDI = "שלום \u202eabc\u202c مرحبا (٣٨٫٢) \u2067x\u2069 \u200f end"
_EMOJI = "👩🏽‍⚕️ said 👍, pain 😀→😢, e\u0301 ﬁ ẞ 𝔛 ☃\ufe0f"
_CONTROL = "a\x00b\x07c\x1bd\ttab\x0bpage\x0cfeed\x85next\u2028line\r\nend \ud83d \ufffe \ud83d\ude00"


def _plain(key: str | None, text: str, title: str | None = None) -> NoteSection:
    return NoteSection(key, title, text)


def _nest(depth: int) -> NoteSection:
    section = NoteSection("PLAN", f"Problem {depth}", f"Step {depth}.")
    for level in reversed(range(depth)):
        section = NoteSection("PLAN", f"Problem {level}", "" if level % 2 else f"Step {level}.", (section,))
    return section


SHAPES: dict[str, tuple[NoteSection, ...]] = {
    "plain": (
        _plain("CHIEF_COMPLAINT", "Cough for <3 days & fever"),
        _plain("VITALS", _VITALS, "Constantes"),
        _plain("PLAN", "- rest\n- water\n  and tea\n\nCome back if worse."),
    ),
    "all keys": tuple(_plain(key, f"Synthetic text of {key}.") for key in sorted(default_mapping().known_keys())),
    "keys in other case": (_plain("soap_plan", "Rest."), _plain(" Allergies ", "None known.")),
    "unknown keys": (
        _plain("VENDOR_NEWS", "One."),
        _plain("Ausführlicher Befund", "Two."),
        _plain("a  b\n\x00c", "Three."),
        _plain("x" * 300, "Four."),
    ),
    "no keys": (_plain(None, "Text alone."), _plain(None, "Under a heading.", "Remarques"), _plain("", "Blank key.")),
    "nested": (NoteSection("ASSESSMENT_AND_PLAN", None, "In short.", (_plain("PLAN", "Rest.", "Cough"), _nest(1))),),
    "deep": (_nest(20),),
    "partly empty": (
        _plain("CHIEF_COMPLAINT", ""),
        _plain("VITALS", " \u2003\n\x00"),
        NoteSection("PLAN", None, "", (_plain("PLAN", " "),)),
        NoteSection("ASSESSMENT", None, "---", format="markdown"),
        _plain("PHYSICAL_EXAM", "Normal."),
    ),
    "twice the same": (_plain("PLAN", "Rest."), _plain("PLAN", "Rest."), _plain("SOAP_PLAN", "Rest.")),
    "Markdown": (
        NoteSection("CURRENT_MEDICATIONS", None, _TABLE, format="markdown"),
        NoteSection("PLAN", None, _NESTED_LIST, format="markdown"),
        NoteSection("ASSESSMENT", None, _HOSTILE, format="markdown"),
    ),
    "hostile": (_plain("ASSESSMENT", _HOSTILE, _HOSTILE), _plain(_HOSTILE, _HOSTILE)),
    "bidi": (_plain("CHIEF_COMPLAINT", _BIDI, _BIDI),),
    "emoji": (_plain("CHIEF_COMPLAINT", _EMOJI, _EMOJI),),
    "control characters": (_plain("CHIEF_COMPLAINT", _CONTROL, _CONTROL), _plain("PLAN\x00", "Rest.")),
    "huge": (_plain("PLAN", "\n".join(f"- step {number}: rest & drink" for number in range(3_000))),),
    "huge Markdown": (
        NoteSection("PLAN", None, "\n".join(["| a | b |", "|--|--|"] + 900 * ["| c | *d* |"]), (), "markdown"),
    ),
    "many": tuple(_plain("PLAN", f"Step {number}.") for number in range(120)),
}
PEOPLE: dict[str, Practitioner | None] = {
    "clinician": Practitioner((_USER,), (), "Dr Exemple Synthétique"),
    "nobody": None,
    "name only": Practitioner(display="Dr Synthetic Example"),
    "RPPS": Practitioner((_RPPS,), (), "Dr Exemple Synthétique"),
    "RPPS and user": Practitioner((_USER, _RPPS), (), "Dr Exemple Synthétique"),
    "RPPS with a slip": Practitioner((replace(_RPPS, value="10101748051"),), (), None),
    "AM alone": Practitioner((), (_AM,), None),
    "AM and RPPS": Practitioner((_RPPS,), (_AM, replace(_AM, value="999000002")), "Dr Exemple Synthétique"),
    "nothing said": Practitioner((Identifier(" ", "1"), Identifier("urn:x", "\t")), (), " "),
    "odd": Practitioner((Identifier("urn:oid:1.2.3", " É<1>&|2 "),), (), _HOSTILE + _CONTROL),
}
_FULL = Visit(
    patient=Identifier("https://example.org/sid/patient", "synthetic-patient-1"),
    encounter=Identifier("https://example.org/sid/encounter", "synthetic-encounter-1"),
    started_at=_AT,
    ended_at=_AT.replace(minute=20),
)
VISITS: dict[str, Visit] = {
    "full": _FULL,
    "no patient": replace(_FULL, patient=None),
    "no encounter": replace(_FULL, encounter=None),
    "backwards": replace(_FULL, ended_at=datetime(2025, 3, 3, 23, 0, tzinfo=UTC)),
    "no times": replace(_FULL, started_at=None, ended_at=None),
    "end alone": replace(_FULL, started_at=None),
    "nothing": Visit(),
    "odd": replace(_FULL, patient=Identifier("urn:oid:1.2.250", "é 1/2|<3>"), encounter=Identifier("urn:x", " ")),
}
KINDS: tuple[tuple[str, str], ...] = (
    ("nabla", "note"),
    ("askara", "note"),
    ("audioscribe", "note"),
    ("intron", "note"),
    ("intron", "summary"),
    ("intron", "clerking"),
    ("intron", "treatment_plan"),
    ("intron", "operation_note"),
    ("a provider/of tomorrow", "news"),
)
SPECIALTIES = (None, "CARDIOLOGY", "psychiatry", "PEDIATRICS", "Balneology & more")
TITLES = (None, "Consultation de synthèse", " Two\r\nlines\x00 ", _HOSTILE)
TRANSCRIPT = (
    TranscriptTurn("What brings you <here>?", "doctor", 0, 1_500),
    TranscriptTurn("  ", "patient", 1_600, 1_700),
    TranscriptTurn("I cough.\nA lot & often.\x00", None, 2_000, None),
    TranscriptTurn("👍", " a\nb ", None, None),
)
_CUSTODIAN = Identifier("https://example.org/sid/organization", "synthetic-hospital-1")
BUILDS: dict[str, dict[str, Any]] = {
    "international": {},
    "us": {"profile": "us", "custodian": _CUSTODIAN, "custodian_name": "Synthetic Hospital"},
    "us without custodian": {"profile": "us", "transcripts": True},
    "fr": {"profile": "fr", "custodian_name": "Hôpital synthétique", "transcripts": True},
    "forms": {"renderings": ("xhtml", "text"), "transcripts": True, "custodian": _CUSTODIAN},
    "R5": {"release": "R5"},
    "R5 us": {"release": "R5", "profile": "us", "custodian": _CUSTODIAN, "transcripts": True},
    "R5 forms": {"release": "R5", "renderings": ("text", "xhtml"), "custodian_name": "Synthetic Hospital"},
}


@dataclass(frozen=True, slots=True)
class Case:
    """A note, and how it is built.

    Attributes:
        name: Unique; says what is special about it.
        note: The note.
        build: Changes to the default options.
    """

    name: str
    note: ScribeNote
    build: dict[str, Any] = field(default_factory=dict)


def a_note(name: str, state: str = "validated", **changes: Any) -> ScribeNote:
    """A small note with everything known, in a state of `STATES`; `changes` are fields of `ScribeNote`."""
    fields: dict[str, Any] = {
        "provider": "nabla",
        "kind": "note",
        "language": "en",
        "sections": SHAPES["plain"],
        "transcript": TRANSCRIPT,
        "visit": replace(_FULL, practitioner=PEOPLE["clinician"]),
        "created_at": _AT.replace(minute=21),
        "updated_at": _AT.replace(minute=30),
        **changes,
        **STATES[state],
    }
    provider, kind = fields["provider"], fields["kind"]
    return ScribeNote(
        note_id=stable_id(provider, "synthetic", name, kind),
        account="synthetic",
        stream="jobs",
        source_id=name,
        version=content_hash([name, state]),
        **fields,
    )


def corpus() -> list[Case]:
    """Every case, in the same order every time."""
    return [*_crossed(), *_shapes(), *_people(), *_kinds(), *_times(), *_pdf()]


def resources(case: Case) -> dict[str, dict[str, Any]]:
    """What a case is built into, by kind, with its document Bundle."""
    chosen = options(**case.build)
    return {**build_documents(case.note, chosen).resources(), "Bundle": document_bundle(case.note, chosen)}


def _crossed() -> Iterator[Case]:
    """Template x language x state, everything else dealt out."""
    for template in TEMPLATES:
        for language in LANGUAGES:
            for state in STATES:
                name = f"{template}, {language}, {state}"
                provider, kind = _dealt(name, "kind", KINDS)
                visit = _dealt(name, "visit", list(VISITS.values()))
                note = a_note(
                    name,
                    state,
                    template=template,
                    language=language,
                    provider=provider,
                    kind=kind,
                    title=_dealt(name, "title", TITLES),
                    specialty=_dealt(name, "specialty", SPECIALTIES),
                    # The large ones have their turn below.
                    sections=_dealt(
                        name, "shape", [SHAPES[shape] for shape in ("plain", "nested", "Markdown", "bidi")]
                    ),
                    visit=replace(visit, practitioner=_dealt(name, "who", list(PEOPLE.values()))),
                )
                yield Case(name, note, _dealt(name, "build", list(BUILDS.values())))


def _shapes() -> Iterator[Case]:
    for shape, sections in SHAPES.items():
        for build, changes in BUILDS.items():
            name = f"{shape}, {build}"
            state = _dealt(name, "state", [state for state in STATES if state != "gone"])
            yield Case(name, a_note(name, state, language="fr", sections=sections), changes)


def _people() -> Iterator[Case]:
    for who, practitioner in PEOPLE.items():
        for where, visit in VISITS.items():
            for state in STATES:
                name = f"{who}, {where}, {state}"
                note = a_note(name, state, visit=replace(visit, practitioner=practitioner))
                yield Case(name, note, _dealt(name, "build", list(BUILDS.values())))


def _kinds() -> Iterator[Case]:
    for provider, kind in KINDS:
        for specialty in SPECIALTIES:
            for build, changes in BUILDS.items():
                name = f"{provider}, {kind}, {specialty}, {build}"
                yield Case(name, a_note(name, provider=provider, kind=kind, specialty=specialty), changes)


def _times() -> Iterator[Case]:
    """A note must have some time; any of them may be the only one."""
    at = datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    alone: dict[str, dict[str, Any]] = {
        "created": {"created_at": at, "visit": Visit()},
        "updated": {"updated_at": at, "visit": Visit()},
        "validated": {"validated_at": at, "visit": Visit()},
        "started": {"visit": Visit(started_at=at)},
        "ended": {"visit": Visit(ended_at=at)},
    }
    none = {"created_at": None, "updated_at": None, "validated_at": None}
    for which, times in alone.items():
        for state in STATES:
            name = f"{which} alone, {state}"
            yield Case(name, replace(a_note(name, state), **{**none, **times}))


def _pdf() -> Iterator[Case]:
    """PDF takes longest, so it has few cases."""
    for shape in ("plain", "nested", "Markdown", "bidi", "emoji"):
        for build, changes in BUILDS.items():
            name = f"{shape}, {build}, pdf"
            changed = {**changes, "renderings": ("text", "pdf")}
            yield Case(name, a_note(name, sections=SHAPES[shape]), changed)


def _dealt(name: str, axis: str, values: Sequence[T]) -> T:
    """One of the values, the same for the same name on every machine."""
    number = int.from_bytes(hashlib.sha256(f"{axis}|{name}".encode()).digest()[:8])
    return values[number % len(values)]


def main() -> None:
    """Writes every resource of the corpus as a line of JSON: case, release, profile, kind, resource."""
    parser = argparse.ArgumentParser(prog="python -m tests.fhir_corpus")
    parser.add_argument("--out", type=Path, required=True)
    with parser.parse_args().out.open("wb") as file:
        for case in corpus():
            facts = {"case": case.name, "release": "R4", "profile": "international", **case.build}
            for kind, resource in resources(case).items():
                line = {name: facts[name] for name in ("case", "release", "profile")}
                file.write(orjson.dumps({**line, "kind": kind, "resource": resource}) + b"\n")


if __name__ == "__main__":
    main()
