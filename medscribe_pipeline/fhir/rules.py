"""The check every resource passes before it is stored or sent.

Two halves. One walk of this project's own (`rules_walk`) knows types, cardinality, codes and references of every
element, from tables read off `fhir.resources`, and the rules FHIR writes beside them: invariants, narratives,
Bundles, profiles. After it the models of `fhir.resources` look at the whole resource, independently; coded elements
equal to what they have passed before are spared them (`rules_models`).

Importing this module does not import `fhir.resources`; the first check does, and takes about 0.2 s for it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.fhir.rules_models import MODEL_ERRORS, SeenElements
from medscribe_pipeline.fhir.rules_resources import RESOURCE_RULES
from medscribe_pipeline.fhir.rules_types import resource_table
from medscribe_pipeline.fhir.rules_walk import Finding, Walk, safe_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medscribe_pipeline.fhir.rules_types import Release, TypeTable

__all__ = ["Finding", "InvalidResource", "check"]

_MAX_PATHS = 20
_seen = SeenElements()


class InvalidResource(MedscribeError):
    """A resource breaks a rule of FHIR or of this project, so it goes no further.

    `code` is the first broken rule, `context["rules"]` all of them, `field_paths` the first places. Never a value.

    Args:
        findings: What was found, at least one.
    """

    default_code = "invalid_resource"

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__(
            "A FHIR resource breaks rules of its release and goes no further.",
            code=findings[0].rule,
            field_paths=list(dict.fromkeys(finding.path for finding in findings))[:_MAX_PATHS],
            context={"rules": ",".join(sorted({finding.rule for finding in findings}))},
        )
        self.findings = tuple(findings)


def check(resource: dict[str, Any], release: Release = "R4") -> None:
    """Checks one resource of a type in `RESOURCE_RULES`; returns only if nothing is wrong.

    The resource is looked at, not changed.

    Args:
        resource: FHIR JSON as plain values.
        release: The release it is written in.

    Raises:
        InvalidResource: With every rule that is broken: a rule key of FHIR, a key of this project (`code`,
            `required`, `element`, ...), or `model` for what only the models refuse.
    """
    try:
        walk = Walk(release, RESOURCE_RULES)
        walk.resource(resource)
        findings = walk.findings
        kind = resource.get("resourceType")
        table = resource_table(release, kind) if isinstance(kind, str) and kind in RESOURCE_RULES else None
        if table is not None:
            findings.extend(_model_findings(table, resource, [finding.path for finding in findings]))
    except RecursionError:
        # A note is not a hundred sections deep; what is would break its readers too.
        findings = [Finding("nesting", "")]
    if findings:
        raise InvalidResource(findings)


def _model_findings(table: TypeTable, resource: dict[str, Any], known: Sequence[str]) -> Iterator[Finding]:
    """What the models refuse, without what has been found already at the same place, above or below it."""
    with suppress(*MODEL_ERRORS):
        table.model.model_validate(_seen.within(resource, table))
        return
    try:
        table.model.model_validate(resource)
    except ValidationError as error:
        # Without inputs: the report would otherwise quote the patient.
        for detail in error.errors(include_input=False, include_url=False, include_context=False):
            path = ".".join("resourceType" if part == "resource_type" else safe_name(part) for part in detail["loc"])
            if not any(_related(path, other) for other in known):
                yield Finding("model", path)
    except MODEL_ERRORS:
        # An entry or contained resource whose type is unknown or no name at all; the models let these escape.
        if not known:
            yield Finding("model", "")


def _related(path: str, other: str) -> bool:
    return not path or f"{path}.".startswith(f"{other}.") or f"{other}.".startswith(f"{path}.")
