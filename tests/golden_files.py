"""Golden files: what a small note of each template becomes, in three languages and four states.

They are references: a change of the mapping shows in them as a diff for a person to read. `no_template.json` is whole;
the others hold the elements in which a template differs from it. Write them again with

    python -m tests.golden_files
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import orjson

from medscribe_pipeline.fhir import build_documents
from medscribe_pipeline.notes import NoteSection
from tests.fhir_corpus import TEMPLATES, a_note
from tests.fhir_options import options

__all__ = ["FOLDER", "files"]

FOLDER = Path(__file__).parent / "golden"
LANGUAGES = {"en": "us", "fr": "fr", "es": "international"}
"""The languages, and the country profile each is shown with."""
STATES = ("draft", "validated", "amended", "retracted")
SECTIONS = (
    NoteSection("CHIEF_COMPLAINT", None, "Cough & fever <3 days"),
    NoteSection("SOAP_PLAN", None, "1. rest\n2. **water**", (NoteSection("PLAN", "Cough", "- tea"),), "markdown"),
)
ASSEMBLER = "0.0.0"
"""Stands for the version of the pipeline, which changes with every release and the mapping with few."""


Built = dict[str, dict[str, dict[str, Any]]]
"""Resources by kind, by language, profile and state."""


def files() -> dict[str, bytes]:
    """The golden files by name, as they should be."""
    whole = _built(None)
    wanted = {"no_template.json": _json(whole)}
    for template in filter(None, TEMPLATES):
        wanted[f"{template.lower()}.json"] = _json(_difference(_built(template), whole))
    return wanted


def _built(template: str | None) -> Built:
    built: Built = {}
    for language, profile in LANGUAGES.items():
        for state in STATES:
            note = a_note("golden", state, template=template, language=language, sections=SECTIONS, transcript=())
            documents = build_documents(note, options(profile=profile, assembler_version=ASSEMBLER))
            built[f"{language}, {profile}, {state}"] = _readable(documents.resources())
    return built


def _difference(built: Built, whole: Built) -> Built:
    return {
        case: {
            # `null` stands for an element that is missing here and there in `whole`.
            kind: {
                name: resource.get(name)
                for name in resource | whole[case][kind]
                if resource.get(name) != whole[case][kind].get(name)
            }
            for kind, resource in resources.items()
        }
        for case, resources in built.items()
    }


def _json(built: Built) -> bytes:
    return orjson.dumps(built, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def _readable(node: Any) -> Any:
    """The same with attachments as lines of text."""
    if isinstance(node, list):
        return [_readable(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        name: base64.b64decode(value).decode().split("\n") if name == "data" else _readable(value)
        for name, value in node.items()
    }


def main() -> None:
    """Writes the files, and removes those of templates that are gone."""
    FOLDER.mkdir(exist_ok=True)
    wanted = files()
    for path in FOLDER.glob("*.json"):
        if path.name not in wanted:
            path.unlink()
    for name, content in wanted.items():
        (FOLDER / name).write_bytes(content)


if __name__ == "__main__":
    main()
