"""The check every resource passes before it is stored or sent.

Two halves: the models of `fhir.resources.R4B` know names, types and cardinality of every element; the rules of
this project know what those models let through (bindings, invariants, empty lists, narratives, bundles).
R4B models describe R4 here: for these resources the two are the same, field by field. The top-level modules of
`fhir.resources` are R5 and must not be used.

Importing this module does not import `fhir.resources`; the first check does, and takes about 0.2 s for it.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.fhir.rules_elements import Finding, safe_name, walk
from medscribe_pipeline.fhir.rules_resources import bundle_findings, contained_findings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["InvalidResource", "check"]

_MODELS = ("Bundle", "Composition", "DocumentReference")

_MAX_PATHS = 20


class InvalidResource(MedscribeError):
    """A resource breaks a rule of FHIR R4 or of this project, so it goes no further.

    `code` is the first broken rule, `context["rules"]` all of them, `field_paths` the first places. Never a value.

    Args:
        findings: What was found, at least one.
    """

    default_code = "invalid_resource"

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__(
            "A FHIR resource breaks rules of R4 and goes no further.",
            code=findings[0].rule,
            field_paths=list(dict.fromkeys(finding.path for finding in findings))[:_MAX_PATHS],
            context={"rules": ",".join(sorted({finding.rule for finding in findings}))},
        )
        self.findings = tuple(findings)


def check(resource: dict[str, Any]) -> None:
    """Checks a Composition, a DocumentReference or a Bundle of them; returns only if nothing is wrong.

    The resource is looked at, not changed.

    Raises:
        InvalidResource: With every rule that is broken: a rule key of R4, a key of this project (`code`,
            `required`, `string`, ...), or `model` for what the models refuse.
    """
    kind = resource.get("resourceType")
    if kind not in _MODELS:
        raise InvalidResource([Finding("resource-type", "resourceType")])
    whole = bundle_findings(resource) if kind == "Bundle" else contained_findings(resource)
    findings = [*walk(resource, "", kind), *whole, *_model_findings(kind, resource)]
    if findings:
        raise InvalidResource(findings)


def _model_findings(kind: str, resource: dict[str, Any]) -> Iterator[Finding]:
    try:
        _model(kind).model_validate(resource)
    except ValidationError as error:
        # Without inputs: the report would otherwise quote the patient.
        for detail in error.errors(include_input=False, include_url=False, include_context=False):
            yield Finding("model", ".".join(safe_name(part) for part in detail["loc"]))
    except (ValueError, LookupError, TypeError, AttributeError):
        # An entry or contained resource whose type is unknown or no name at all; the models let these escape.
        yield Finding("model", "resourceType")


@cache
def _model(kind: str) -> type[BaseModel]:
    model: type[BaseModel] = getattr(import_module(f"fhir.resources.R4B.{kind.lower()}"), kind)
    return model
