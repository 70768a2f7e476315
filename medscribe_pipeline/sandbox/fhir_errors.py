"""Refusals of the FHIR endpoint, and the OperationOutcome they become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["FhirError", "Issue", "operation_outcome"]


@dataclass(frozen=True, slots=True)
class Issue:
    """One finding: an `issue-type` code, what is wrong, and where (a FHIRPath expression)."""

    code: str
    diagnostics: str
    expression: str | None = None

    def below(self, path: str) -> Issue:
        """The same finding, seen from the Bundle the resource came in."""
        return Issue(self.code, self.diagnostics, f"{path}.{self.expression}" if self.expression else path)


class FhirError(Exception):
    """A refused interaction.

    Args:
        status: HTTP status.
        issues: Why. `diagnostics` may quote what was sent, as real servers do: whoever logs it logs patients.
    """

    def __init__(self, status: int, *issues: Issue) -> None:
        super().__init__(status)
        self.status = status
        self.issues = issues

    @classmethod
    def of(cls, status: int, code: str, diagnostics: str) -> FhirError:
        """An error with one issue."""
        return cls(status, Issue(code, diagnostics))

    def below(self, path: str) -> FhirError:
        """The same error, seen from the Bundle the resource came in."""
        return FhirError(self.status, *(issue.below(path) for issue in self.issues))


def operation_outcome(*issues: Issue, severity: str = "error") -> dict[str, Any]:
    """The OperationOutcome resource for some issues."""
    return {
        "resourceType": "OperationOutcome",
        "issue": [
            {
                "severity": severity,
                "code": issue.code,
                "diagnostics": issue.diagnostics,
                **({"expression": [issue.expression]} if issue.expression else {}),
            }
            for issue in issues
        ],
    }
