"""`docs/mapping.md`: how notes become FHIR, read off the mapping data and off documents built on the spot."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, get_args

from docs.markdown import code, page, table
from medscribe_pipeline.fhir import BuildOptions, build_documents, default_mapping
from medscribe_pipeline.fhir.mapping_rows import SNOMED, Profile
from medscribe_pipeline.fhir.renderings import CONTENT_TYPES
from medscribe_pipeline.fhir.sections import LOINC
from medscribe_pipeline.fhir.terminology import terminology
from medscribe_pipeline.notes import NoteSection, NoteState, ScribeNote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from medscribe_pipeline.fhir.mapping_rows import Rows

__all__ = ["OWN_MAPPING", "render"]

_INTRODUCTION = f"""\
# Mapping of notes to FHIR

Every section of a note that has text becomes a section of a Composition. Its code holds up to two codings: LOINC
(`{LOINC}`) where LOINC has something, then the project's own coding with the section key
(`…/CodeSystem/scribe-section`, see [configuration](configuration.md#identifier-systems)). A key that is not in this
table is kept as it came, with the own coding only, and counted as unknown. A section under an unknown heading keeps its
title and has no coding. Nothing is dropped and nothing is guessed.

The data is in `medscribe_pipeline/fhir`: `sections.toml`, `documents.toml` and `titles.toml`, and
[a file of your own](#a-mapping-of-your-own). A change of any of them changes the mapping version, which is recorded
with each document and is the code version of the Dagster assets; every day is then built again from what has landed.
That is not a new version of a note: what is delivered already is not sent again."""

_SECTIONS = """\
## Sections

The fit says how well the code says what the key says:

- **exact**: the same thing;
- **good**: the same thing in another setting or with another name;
- **broad**: LOINC is wider, and the own coding carries the meaning;
- **none**: LOINC has no code.

The heading a reader sees is the provider's own. The titles here stand in where the provider sends none. Where a
provider has renamed a key, both are known; the note keeps the one it came with."""

_TITLES = """\
### Titles in further languages

Of sections, specialties and documents, by the language of the note (`fr-CA` counts as `fr`). Notes in any other
language have the English ones."""

_DOCUMENTS = """\
## Document types

The type of the whole document, the same in Composition and DocumentReference. The first row that matches counts. An
empty cell asks nothing; the last row matches every note. Templates and specialties count without case. The specialty is
the one the [visits manifest](visits.md) names.

Each row has a code for each country profile, because the same consultation has another code in France than in the US.
`MEDSCRIBE_FHIR_PROFILE` chooses the profile; without it documents carry the international code. With `us`, the
DocumentReference also claims the US Core profile."""

_PRACTICE = f"""\
## Practice settings

The medical specialty as `context.practiceSetting` of the DocumentReference, from SNOMED CT (`{SNOMED}`): the specialty
the [visits manifest](visits.md) names, else the one the template implies. A specialty that is not in this table is
there as it was written, without a code. `-` counts as `_`, and case does not matter.

A general template implies none: a cardiologist may use it, too. Who uses SNOMED CT needs a licence, which is free in
its member countries; a [mapping of your own](#a-mapping-of-your-own) can put other codes in its place."""

_STATES = """\
## States

What the provider says of a note decides what its documents say of themselves. Text nobody has reviewed is never final.
Which providers' notes count as reviewed is a [setting](configuration.md)."""

_STATES_END = """\
A note that failed at its provider has no documents. An amended note replaces the document of the version that was
validated before it."""

_RENDERINGS = """\
## Renderings

A DocumentReference holds the whole note, as one form or several of the same words in the same order:
`MEDSCRIBE_FHIR_RENDERINGS` lists them, in order. Each has its size and its hash. Servers that take one form only take
the first."""

_LABELS = """\
## Labels and transcripts

Every document bears the label `AIAST` (artificial intelligence asserted) in `meta.security`, and says in its text who
drafted it and whether a clinician has validated it: servers may drop labels, but not words. The label stays after
validation, because it says who wrote, not who read.

A transcript is evidence, not record. With `MEDSCRIBE_FHIR_TRANSCRIPTS` it becomes a DocumentReference of its own, with
the label `DICTAST` (dictation asserted), confidentiality `R` (restricted), the category `…/CodeSystem/scribe-document`
`transcript` instead of `clinical-note`, and a status that is never final."""

OWN_MAPPING = """\
# Fields of a section we know lie over ours, titles language by language.
[sections.PLAN]
title.fr = "Suites à donner"

# Another code comes with its own fit; without one it is `good`. `fit = "none"` sends no LOINC at all.
[sections.LAB_RESULTS]
loinc = "11502-2"

[sections.WELL_CHILD_CARE]
fit = "none"

# A section we do not know needs a title in English at least.
[sections.HOUSE_RULES]
title = { en = "House rules", fr = "Règles de la maison" }

# A specialty of your own, with a code of any system, and the templates that imply it.
[specialties.ANGIOLOGY]
system = "https://hospital.example/units"
code = "ANG"
title = { en = "Angiology", fr = "Angiologie" }
templates = ["HOUSE_VESSELS"]

# Documents are asked in the order of the file, before ours. One code serves every profile; a table has
# `international` and may have `us` and `fr`.
[[documents]]
specialties = ["CARDIOLOGY"]
loinc = "34099-2"
title = { en = "Cardiology consult note", fr = "Avis cardiologique" }

[[documents]]
kinds = ["summary"]
providers = ["intron"]
loinc = { international = "34109-9", fr = "11488-4" }
title.en = "Summary of the visit"
"""
"""A user's mapping file, as the page shows it."""

_OWN = f"""\
## A mapping of your own

`MEDSCRIBE_FHIR_MAPPING` names a TOML file (UTF-8) that says only what is to be different:

```toml
{OWN_MAPPING.rstrip()}
```

- **sections**: `loinc`, `fit` (exact, good, broad, none), `title`, `source`, and `display` with `loinc_version` if a
  display name is to be sent. What we say of our code (fit, source, display) is not said of yours.
- **specialties**: `code`, `system` (SNOMED CT when absent), `title`, `templates`, `source`.
- **documents**: whole rows with `loinc` and `title`; `kinds` (`note` when absent, any when empty), `templates`,
  `specialties`, `providers` (any when absent).

Upper and lower case of keys are one. The file is read at every build, so that a change counts from the next one on, and
only what it says counts: a comment builds nothing again. If a row is wrong, a field is unknown, or a code has the wrong
check digit, nothing runs: `medscribe` names the file, the row and what to do, and ends with exit code 2."""

_TERMINOLOGY = """\
## Terminology for servers and validators

`medscribe fhir export-terminology --out FOLDER` writes the project's own codes as FHIR R4 resources, with your own
rows, under your `MEDSCRIBE_FHIR_BASE_URI` and with the mapping version as their version. Load them into a terminology
server, and validators know the codes:"""

_TERMINOLOGY_END = """\
Unknown keys are sent as codes of the same CodeSystem, which is why it calls itself a fragment. In the ConceptMap, exact
is `equivalent`, good is `inexact`, broad is `wider` and none is `unmatched`; the comment names the source."""

_CHECKED = """\
## Checked before it goes on

Every resource is held against the rules of its release before it is stored: types, cardinality, codes, references,
invariants and narratives by rules of this project, and all of it again by the models of `fhir.resources`. What breaks
one goes to [quarantine](quarantine.md). `MEDSCRIBE_FHIR_CHECK` chooses how; there is no way around it, and the
documents are the same.

- `strict` looks at all of it each time. Only a code, a label or a device that stands in it to the letter as the models
  have passed one before is not put to them a second time, but taken as passed.
- `shape`, unless told otherwise, comes to the same verdicts at a tenth of the cost. Elements, codes, systems, statuses
  and the lengths of lists, to the letter, are the shape of a resource. A shape is looked at by the strict check when a
  process meets it first, and remembered as a digest if it passes; so is each section of a Composition. What can differ
  within a shape is looked at in every resource: each text, time, identifier, narrative and attachment, and whether a
  period, an attachment or an agent agrees with itself. Whatever that walk cannot vouch for, the strict check decides;
  what is refused carries its findings. `medscribe fhir bundle` always checks strictly.

## Checked from outside

Beside what every build checks, validators that share no code with this project have read the resources of a fixed
corpus: 2,558 synthetic notes of every template, language, state and setting, 11,331 resources in R4 and R5. Anyone can
write it with `python -m tests.fhir_corpus --out corpus.ndjson` and give it to a validator of their own choice. On
2026-11-21:

| what read it | resources | errors |
| --- | --- | --- |
| Medplum core 4.5.2 (StructureDefinitions and constraints of R4) | 7,195 | 0 |
| fhirkit-rs 0.1.0 (R4) | 7,195 | 0 |
| all constraints of R4, evaluated by fhirpath.js 4.11.0 | 7,195 | 0 |
| all constraints of R5 but five that resolve references, by fhirpath.js 4.11.0 | 4,136 | 0 |
| required bindings against the value sets of R4 and R5 | 11,331 | 0 |

One mistake came to light and is mended: a language spelled out, such as "French", was sent as if it were a tag of BCP
47. What warnings remain are meant: there is no narrative beside that of the sections (`dom-6`), section keys and French
identifier types are codes of their own, and references within a Bundle are UUIDs."""

_SOURCES = """\
## Sources

- **C-CDA 5**: HL7 C-CDA 5.0.0, section templates. Its Notes Section binds the section code to document types, so a
  document type is a legitimate section code.
- **IPS**: HL7 International Patient Summary, sections.
- **R4**: FHIR R4, value sets doc-section-codes and c80-doc-typecodes.
- **c80**: FHIR R4, value set c80-practice-codes.
- **CH Term**: HL7 Switzerland, CH Term 3.3.0, value set DocumentEntry.practiceSettingCode.
- **US Core 9**: US Core 9.0.0, common clinical notes.
- **JDV_J07**: the French national document types (ANS), release of 2026-06-29.
- **project**: our own judgement where no authority was found.

No display names of LOINC are sent: LOINC renames them between releases, and validators take an old one for an error.
LOINC is copyright Regenstrief Institute, Inc.; SNOMED CT is copyright SNOMED International."""


def render() -> str:
    """The page."""
    rows = default_mapping().rows
    profiles = get_args(Profile)
    sections = (
        (
            code(key),
            code(row.loinc or ""),
            row.fit,
            row.title["en"],
            row.title["fr"],
            code(row.renamed or ""),
            row.source,
        )
        for key, row in sorted(rows.sections.items())
    )
    documents = (
        (
            _codes(row.kinds),
            _codes(row.templates),
            _codes(row.specialties),
            _codes(row.providers),
            *(code(row.loinc.of(profile)) for profile in profiles),
            row.title["en"],
            row.title["fr"],
            row.source,
        )
        for row in rows.documents
    )
    settings = (
        (code(key), code(row.code), _codes(row.templates), row.title["en"], row.title["fr"], row.source)
        for key, row in sorted(rows.specialties.items())
    )
    return page(
        _INTRODUCTION,
        _SECTIONS,
        table(("key", "LOINC", "fit", "title (en)", "title (fr)", "renamed to", "source"), sections),
        _TITLES,
        table(("en", "de", "es", "it", "pt"), _further_titles(rows)),
        _DOCUMENTS,
        table(
            ("kinds", "templates", "specialties", "providers", *profiles, "title (en)", "title (fr)", "source"),
            documents,
        ),
        _PRACTICE,
        table(("specialty", "SNOMED CT", "implied by the templates", "title (en)", "title (fr)", "source"), settings),
        _STATES,
        table(("note", "Composition.status", "docStatus", "DocumentReference.status", "relatesTo"), _states()),
        _STATES_END,
        _RENDERINGS,
        table(("form", "content type"), ((code(form), code(kind)) for form, kind in CONTENT_TYPES.items())),
        _LABELS,
        _OWN,
        _TERMINOLOGY,
        table(("file", "what"), _exported()),
        _TERMINOLOGY_END,
        _CHECKED,
        _SOURCES,
    )


def _codes(values: Iterable[str]) -> str:
    return ", ".join(map(code, values))


def _further_titles(rows: Rows) -> Iterator[tuple[str, ...]]:
    every = [*rows.sections.values(), *rows.specialties.values(), *rows.documents]
    titles = {row.title["en"]: row.title for row in every}
    for english, title in sorted(titles.items()):
        yield english, *(title[language] for language in ("de", "es", "it", "pt"))


def _states() -> Iterator[tuple[str, ...]]:
    """What documents of notes in each state say, as they are really built."""
    options = BuildOptions("https://example.org/fhir", default_mapping())
    states = (
        ("draft", NoteState.DRAFT, None),
        ("validated by a clinician", NoteState.VALIDATED, None),
        ("changed after its validation, validated again", NoteState.VALIDATED, "earlier"),
        ("changed after its validation, not validated again", NoteState.DRAFT, "earlier"),
        ("archived or withdrawn", NoteState.RETRACTED, None),
    )
    for words, state, amends in states:
        documents = build_documents(_note(state, amends), options)
        reference = documents.document_reference
        related = [each["code"] for each in reference.get("relatesTo", [])]
        yield (
            words,
            code(documents.composition["status"]),
            code(reference["docStatus"]),
            code(reference["status"]),
            _codes(related),
        )


def _note(state: NoteState, amends: str | None) -> ScribeNote:
    return ScribeNote(
        note_id=uuid.UUID(int=1),
        provider="askara",
        account="default",
        stream="notes",
        source_id="1",
        state=state,
        version="later",
        amends=amends,
        sections=(NoteSection("PLAN", None, "Rest."),),
        created_at=datetime(2026, 3, 2, tzinfo=UTC),
    )


def _exported() -> Iterator[tuple[str, str]]:
    for resource in terminology(default_mapping(), "https://example.org/fhir"):
        yield code(f"{resource['resourceType']}-{resource['id']}.json"), resource["description"]
