"""What a self-test found: each finding with a stable code, what it means, and which capability says otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medscribe_pipeline.ehr.targets import Capabilities
    from medscribe_pipeline.errors import MedscribeError

__all__ = ["Finding", "Left", "SelftestReport", "suggested"]

FindingState = Literal["ok", "differs", "unknown"]

WRONG_CAPABILITIES = 2
NOTHING_KNOWN = 1

# Of two that are asked for, the one that asks less of the server.
_HUMBLER_LAST = ("transaction", "batch", "single", "unconditional")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried.

    Attributes:
        code: Stable name of it.
        state: `ok`: as the capabilities in force say. `differs`: it is not so. `unknown`: it was not tried, or nobody
            can tell.
        text: What the server did.
        advice: What to do about it; empty where there is nothing to do.
        relied_on: Deliveries are not safe, or will not work, until it is put right.
        changes: Capabilities that would say how it really is.
        settings: The same for settings, by field of `EhrSettings`.
        codes: What the server answered: statuses, issue codes, element paths.
        paths: Elements that are not stored as they were sent.
    """

    code: str
    state: FindingState
    text: str
    advice: str = ""
    relied_on: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, int] = field(default_factory=dict)
    codes: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Left:
    """A synthetic resource that stays on the server, with the status it has there.

    `status` is `unknown` where the last answer about it is missing.
    """

    type: str
    server_id: str
    status: str


@dataclass(frozen=True, slots=True)
class SelftestReport:
    """What came of a self-test.

    Attributes:
        target: Name of the target.
        run_id: Stands in the titles and identifiers of everything that was sent.
        findings: In the order they were made.
        left: What stays on the server.
        warnings: What was not looked at, or could not be done.
        requests: Requests that were sent.
        capabilities: Those that were in force.
        problem: What ended the test before its time.
    """

    target: str
    run_id: str
    findings: tuple[Finding, ...]
    left: tuple[Left, ...]
    warnings: tuple[str, ...]
    requests: int
    capabilities: Capabilities
    problem: MedscribeError | None = None

    @property
    def exit_code(self) -> int:
        """2 when something deliveries rely on is not so; else that of the problem; 1 when something is not known."""
        if any(each.state == "differs" and each.relied_on for each in self.findings):
            return WRONG_CAPABILITIES
        if self.problem is not None:
            return self.problem.exit_code
        return NOTHING_KNOWN if any(each.state == "unknown" and each.relied_on for each in self.findings) else 0

    def lines(self) -> list[str]:
        """What would be right in the file of capabilities, as lines of TOML; empty when all is."""
        why: dict[str, list[str]] = {}
        for finding in self.findings:
            for name in finding.changes:
                why.setdefault(name, []).append(finding.code)
        changes = suggested(self.findings, self.capabilities)
        # What JSON says of text, lists of text and truth is TOML too.
        return [
            f"{name} = {orjson.dumps(value).decode()}  # {', '.join(why.get(name, ['follows from the others']))}"
            for name, value in changes.items()
        ]

    def settings(self) -> dict[str, int]:
        """What would be right in the settings, by field."""
        return {name: value for finding in self.findings for name, value in finding.settings.items()}


def suggested(findings: tuple[Finding, ...], capabilities: Capabilities) -> dict[str, Any]:
    """The changes all findings ask for together, such that the capabilities do not contradict themselves."""
    changes: dict[str, Any] = {}
    for finding in findings:
        for name, value in finding.changes.items():
            humbler = name != "strategy" or max(value, changes.get(name, value), key=_HUMBLER_LAST.index) == value
            if humbler:
                changes[name] = value
    wanted = {**capabilities.model_dump(), **changes}
    if not wanted["conditional_create"] and wanted["strategy"] != "unconditional":
        changes["strategy"] = wanted["strategy"] = "single" if wanted["idempotency_header"] else "unconditional"
    if not (wanted["if_match"] or wanted["read"]):
        # Nothing would keep us from overwriting what somebody has changed.
        changes |= {name: "hold" for name in ("amendment", "retraction") if wanted[name] == "update"}
    return {name: value for name, value in changes.items() if value != getattr(capabilities, name)}
