"""One table of what codes mean: every code of the package has words, and every kind of place has an answer."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import medscribe_pipeline
from medscribe_pipeline.cli.app import app
from medscribe_pipeline.ehr.plan import HOLD_REASONS
from medscribe_pipeline.ehr.references import hold_reasons
from medscribe_pipeline.operation.reasons import REASONS, Act, Kind, explain

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(medscribe_pipeline.__file__).parent
WORD = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")

# They stop a command or a run before anything is held, refused or quarantined, and say what to do themselves.
STOPS_A_RUN = {"ConfigError", "Busy"}

# Rooms whose codes can end in a ledger, in an outcome or in quarantine.
ROOMS = ("providers", "fhir", "ehr", "warehouse")
APART = ("ehr/selftest", "ehr/auth", "warehouse/migrations", "providers/sweep.py", "warehouse/quarantine_budget.py")

# Calls whose code is that of a record, a note or a job.
TELLING = {
    "Held",
    "_UnfitError",
    "Misfit",
    "Verdict",
    "_Made",
    "safe_code",
    "_problem",
    "_refusal",
    "_refused",
    "_Verdict",
}

# Modules whose constants are reasons.
REASON_MODULES = (
    "ehr/plan.py",
    "ehr/fitting.py",
    "ehr/sending.py",
    "ehr/strategies/parcel.py",
    "ehr/reconcile.py",
    "providers/work_failures.py",
)

# Given to a call that tells, and no code.
NO_CODES = {"note", "held", "part", "audio_path", "preliminary", "error", "reason"}


def codes() -> Iterator[tuple[str, str]]:
    """Every code the package can give something that stops, and where it says so."""
    for room in ROOMS:
        for file in sorted((PACKAGE / room).rglob("*.py")):
            name = file.relative_to(PACKAGE).as_posix()
            if name.startswith(APART):
                continue
            tree = ast.parse(file.read_text(encoding="utf-8"))
            yield from ((code, name) for code in _given(tree) if code not in NO_CODES)
            if name in REASON_MODULES:
                yield from ((code, name) for code in _constants(tree))


def _given(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in STOPS_A_RUN:
            continue
        told = [keyword.value for keyword in node.keywords if keyword.arg in ("code", "reason", "refused")]
        for part in [*told, *(node.args if name in TELLING else [])]:
            yield from _words(part)


def _words(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and WORD.fullmatch(part.value):
            yield part.value


def _constants(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Constant):
            yield from _words(node.value)


def test_every_code_of_the_package_has_words() -> None:
    missing = {(code, where) for code, where in codes() if code not in REASONS}

    assert missing == set()


def test_the_codes_are_found_where_they_are_made() -> None:
    found = {code for code, _ in codes()}

    assert {"archived_without_note", "attachment_type", "not_validated", "cannot_be_asked", "wire_model"} <= found
    assert {"audio_missing", "no_file_id", "too_long", "worker_died", "empty_transcript"} <= found


@pytest.mark.parametrize("code", sorted({*HOLD_REASONS, *hold_reasons()}))
def test_every_reason_to_hold_a_note_says_what_to_do(code: str) -> None:
    told = explain(Kind.HELD, code)

    assert told.says == REASONS[code].says
    assert told.to_do


@given(kind=st.sampled_from(Kind), code=st.none() | st.text(max_size=30) | st.sampled_from(sorted(REASONS)))
def test_whatever_the_code_there_are_words(kind: Kind, code: str | None) -> None:
    told = explain(kind, code)

    assert told.says.strip()
    assert told.to_do.strip()
    assert told.act in Act
    assert not told.says.endswith(".")
    assert not told.to_do.endswith(".")


def test_what_needs_a_person_and_can_be_done_by_a_command_names_one_there_is() -> None:
    groups = {
        group.name: {
            each.name or each.callback.__name__ for each in group.typer_instance.registered_commands if each.callback
        }
        for group in app.registered_groups
        if group.typer_instance
    }
    alone = {each.name or each.callback.__name__ for each in app.registered_commands if each.callback}
    commands = {explain(kind, code).command for kind in Kind for code in (None, *REASONS)} - {""}

    assert commands
    for command in commands:
        program, first, *rest = command.split()
        assert program == "medscribe"
        assert first in alone or rest[0] in groups[first], command


def test_a_code_somebody_else_made_up_is_shown() -> None:
    assert "FILE_INVALID" in explain(Kind.JOB_STOPPED, "FILE_INVALID").says
    assert "cmp-1" in explain(Kind.QUARANTINED, "cmp-1").says


@pytest.mark.parametrize(
    ("kind", "code", "act"),
    [
        (Kind.HELD, "not_validated", Act.WAITS),
        (Kind.HELD, "patient_unknown", Act.PERSON),
        (Kind.HELD, "superseded", Act.NOTHING),
        (Kind.UNKNOWN, "timeout", Act.WAITS),
        (Kind.UNKNOWN, "cannot_be_asked", Act.PERSON),
        (Kind.JOB_UNKNOWN, "timeout", Act.PERSON),
        (Kind.RECORD, "empty_note", Act.NOTHING),
        (Kind.QUARANTINED, "wire_model", Act.PERSON),
        (Kind.QUARANTINED, "detail_failed", Act.WAITS),
    ],
)
def test_the_same_code_asks_for_what_its_place_asks_for(kind: Kind, code: str, act: Act) -> None:
    assert explain(kind, code).act is act
