"""`medscribe ehr selftest`: what a target really does, as tables or as one JSON document."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from medscribe_pipeline.cli.output import console, print_json, progress_shown
from medscribe_pipeline.ehr.auth import open_http
from medscribe_pipeline.ehr.client import FhirClient
from medscribe_pipeline.ehr.selftest import People, selftest
from medscribe_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from medscribe_pipeline.ehr.selftest import Finding, SelftestReport
    from medscribe_pipeline.settings import EhrSettings, Settings

__all__ = ["people_of", "run_selftest"]

_STYLES = {"ok": "green", "differs": "bold red", "unknown": "yellow"}


def people_of(
    patient: str | None, patient_id: str | None, practitioner_id: str | None, encounter_id: str | None
) -> People:
    """What the operator named on the command line.

    Raises:
        ConfigError: `patient`: not SYSTEM|VALUE, or named in both ways.
    """
    if patient is not None and patient_id is not None:
        raise ConfigError("Name the test patient by --patient or by --patient-id, not by both", code="patient")
    named = None
    if patient is not None:
        # A system is a URI, and no URI has a bar in it.
        system, _, value = patient.partition("|")
        if not system or not value:
            raise ConfigError("--patient is an identifier: its system, a bar, its value (SYSTEM|VALUE)", code="patient")
        named = (system, value)
    return People(named, patient_id, practitioner_id, encounter_id)


def run_selftest(settings: Settings, target: EhrSettings, people: People, *, may_leave_two: bool, as_json: bool) -> int:
    """Tries the target and prints; returns the exit code.

    Returns:
        0: what deliveries rely on holds. 1: of something that is not known. 2: the capabilities must be changed. 3:
        the server cannot be reached any more.
    """
    with open_http(target, None) as http, progress_shown("selftest"):
        report = selftest(
            FhirClient(http, settings.fhir.release),
            target,
            settings.fhir,
            run_id=uuid.uuid4().hex[:12],
            people=people,
            may_leave_two=may_leave_two,
        )
    if as_json:
        print_json(_as_json(report, target))
    else:
        _print(report, target)
    return report.exit_code


def _as_json(report: SelftestReport, target: EhrSettings) -> dict[str, Any]:
    problem = report.problem
    return {
        "target": report.target,
        "run_id": report.run_id,
        "exit_code": report.exit_code,
        "requests": report.requests,
        "findings": [
            {
                "code": each.code,
                "state": each.state,
                "relied_on": each.relied_on,
                "text": each.text,
                "advice": each.advice,
                "codes": each.codes,
                "paths": each.paths,
            }
            for each in report.findings
        ],
        "warnings": report.warnings,
        "left": [{"type": each.type, "id": each.server_id, "status": each.status} for each in report.left],
        "capabilities_file": report.lines(),
        "settings": {target.variable(name): value for name, value in report.settings().items()},
        "problem": {"code": problem.code, "message": problem.message} if problem else None,
    }


def _print(report: SelftestReport, target: EhrSettings) -> None:
    console.print(_findings(report))
    for warning in report.warnings:
        _say(f"Warning: {warning}")
    if report.left:
        _say("What stays on the server, all of it synthetic:")
        console.print(_left(report))
    _print_changes(report, target)
    _say(f"\n{_SUMMARY.get(report.exit_code, _SUMMARY[1])} {report.requests} requests.")
    if report.problem:
        _say(f"It ended before its time: {report.problem}", style="bold red")


def _findings(report: SelftestReport) -> Table:
    table = Table(box=box.SIMPLE, title=f"Target {report.target}, run {report.run_id}")
    # Codes are looked up in the documentation, so they are never broken.
    for name, is_whole in (("what", True), ("so?", True), ("found", False), ("codes", False)):
        table.add_column(name, no_wrap=is_whole)
    for finding in report.findings:
        codes = Text(", ".join(finding.codes))
        table.add_row(finding.code, Text(finding.state, _STYLES[finding.state]), _told(finding), codes)
    return table


def _left(report: SelftestReport) -> Table:
    table = Table("resource", "status", box=box.SIMPLE)
    for each in report.left:
        table.add_row(Text(f"{each.type}/{each.server_id}"), each.status)
    return table


def _print_changes(report: SelftestReport, target: EhrSettings) -> None:
    if lines := report.lines():
        _say(f"\nIn the file of {target.variable('capabilities')}, in place of lines of the same names:\n")
        for line in lines:
            console.out(line, highlight=False)
    if settings := report.settings():
        _say("\nIn the settings:\n")
        for name, value in settings.items():
            _say(f"{target.variable(name)}={value}")


def _told(finding: Finding) -> Text:
    told = Text(finding.text)
    if finding.paths:
        told.append(f" {', '.join(finding.paths)}.")
    if finding.advice:
        told.append(f" {finding.advice}", "dim")
    return told


def _say(text: str, style: str | None = None) -> None:
    console.print(text, markup=False, highlight=False, style=style)


_SUMMARY = {
    0: "What deliveries rely on holds.",
    1: "Not everything deliveries rely on is known.",
    2: "Something deliveries rely on does not hold: change what is said above before anything is delivered.",
    3: "The server cannot be reached any more.",
}
