"""`medscribe ehr probe`: what a target is and can do, as tables or as one JSON document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from medscribe_pipeline.cli.output import console, print_json
from medscribe_pipeline.ehr.auth import open_http
from medscribe_pipeline.ehr.probe import probe

if TYPE_CHECKING:
    from medscribe_pipeline.ehr.probe import Fetched, ProbeReport
    from medscribe_pipeline.settings import EhrSettings, Settings

__all__ = ["run_probe"]

_HOW = {
    "shown": "shown",
    "missing": "not there",
    "hidden": "hidden behind a login",
    "not_json": "not JSON: a web page, or nothing",
    "other_content": "JSON, but something else",
    "too_large": "too large to read, see MAX_BODY_BYTES",
    "redirected": "somewhere else",
    "failing": "the server failed",
}


def run_probe(settings: Settings, target: EhrSettings, *, as_json: bool) -> int:
    """Probes and prints; returns the exit code: that of the problem, if the target cannot be delivered to."""
    with open_http(target, None) as http:
        report = probe(http, target, release=settings.fhir.release)
    if as_json:
        print_json(_as_json(report))
    else:
        _print(report)
    return report.problem.exit_code if report.problem else 0


def _as_json(report: ProbeReport) -> dict[str, Any]:
    smart, explained, problem = report.smart_claims, report.explained, report.problem
    return {
        "target": report.target,
        "kind": report.kind,
        "software": report.claims.software,
        "fhir_version": report.claims.fhir_version,
        "capability_statement": {"how": report.statement.how, "status": report.statement.status},
        "smart_configuration": {
            "how": report.smart.how,
            "status": report.smart.status,
            "token_endpoint": smart.token_endpoint,
            "auth_methods": smart.auth_methods,
            "signing_algorithms": smart.signing_algorithms,
            "capabilities": smart.capabilities,
        },
        "detected": report.detected(),
        "capabilities": {
            name: {"value": known.value, "origin": known.origin, "why": known.why}
            for name, known in (explained.sources if explained else {}).items()
        },
        "problem": {"code": problem.code, "message": problem.message} if problem else None,
        "notices": [{"code": each.code, "text": each.text} for each in report.notices],
    }


def _print(report: ProbeReport) -> None:
    facts = Table(box=box.SIMPLE, show_header=False, title=f"Target {report.target}, kind {report.kind}")
    for name, value in (
        ("software", report.claims.software or "not said"),
        ("FHIR version", report.claims.fhir_version or "not said"),
        ("CapabilityStatement", _answered(report.statement)),
        ("SMART configuration", _answered(report.smart)),
        *((name, _said(value)) for name, value in report.detected().items()),
    ):
        facts.add_row(Text(name), Text(value))
    console.print(facts)
    if report.explained:
        table = Table("capability", "value", "from", "why", box=box.SIMPLE, title="In force")
        for name, known in report.explained.sources.items():
            table.add_row(name, Text(_value(known.value)), known.origin, Text(known.why))
        console.print(table)
    for notice in report.notices:
        console.print(f"{notice.code}: {notice.text}", markup=False, highlight=False)
    if report.problem:
        console.print(f"Nothing can be delivered: {report.problem}", markup=False, highlight=False, style="bold red")


def _answered(fetched: Fetched) -> str:
    return _HOW[fetched.how] + (f" ({fetched.status})" if fetched.status and fetched.how != "shown" else "")


def _said(value: bool | str | None) -> str:  # a value to show, not a switch
    if value is None:
        return "not said"
    return value if isinstance(value, str) else _value(value)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)
