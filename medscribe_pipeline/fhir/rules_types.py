"""What each release of FHIR says about the elements of a type, as tables the walk over a resource can use.

The tables are read off the models of `fhir.resources`, which carry type, cardinality, codes and reference targets of
every element: so a resource type costs nothing but its invariants (`rules_elements`), and R5 comes with R4. Two
things the models have incomplete are added here: code lists they shorten, and what FHIR says in words about some
elements.

`fhir.resources.R4B` describes R4 here: for the resources of this project the two are the same, element by element.
Nothing of `fhir.resources` is imported before the first table is asked for.
"""

from __future__ import annotations

import re
import typing
import uuid
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from medscribe_pipeline.fhir.rules_elements import ELEMENT_RULES
from medscribe_pipeline.fhir.rules_primitives import PRIMITIVES, absolute, language, mime_type, one_of, system, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from medscribe_pipeline.fhir.rules_primitives import Check

__all__ = ["Element", "Release", "TypeTable", "model_of", "resource_table"]

Release = Literal["R4", "R5"]

_PACKAGE: dict[Release, str] = {"R4": "fhir.resources.R4B", "R5": "fhir.resources"}
_RESOURCE_NAME = re.compile(r"[A-Z][A-Za-z]{1,63}")

_ABSTRACT = frozenset({"Resource", "DomainResource"})

_ENCOUNTER_STATUS = frozenset(
    {"planned", "arrived", "triaged", "in-progress", "onleave", "finished", "cancelled", "entered-in-error", "unknown"}
)
# Required bindings the models have not, or end with a "+" for "and more".
_CODES: dict[Release, dict[tuple[str, str], frozenset[str]]] = {
    "R4": {
        ("Composition", "confidentiality"): frozenset("ULMNRV"),
        ("DeviceUdiCarrier", "entryType"): frozenset({"barcode", "rfid", "manual", "card", "self-reported", "unknown"}),
        ("Encounter", "status"): _ENCOUNTER_STATUS,
        ("EncounterStatusHistory", "status"): _ENCOUNTER_STATUS,
    },
    "R5": {},
}


def _any_text(value: Any) -> str | None:
    return text(value, limit=len(value)) if isinstance(value, str) else text(value)


# By type and element, or by element alone.
_CHECKS: dict[tuple[str, str], Check] = {
    ("Attachment", "data"): _any_text,  # decoded once, by the rule of the whole attachment
    ("Coding", "system"): system,
    ("Identifier", "system"): system,
    ("BundleEntry", "fullUrl"): absolute,
    ("", "contentType"): mime_type,
    ("", "language"): language,
}


def _no_table() -> TypeTable:
    raise LookupError("a primitive has no elements")


class Element:
    """What is known of one element.

    Attributes:
        check: The check of its values, for a primitive; else `None`.
        many: Whether it repeats.
        targets: Resource types a reference may lead to; empty for any.
        role: `resource` or `contained` for a whole resource, `id` for the id of an element, else empty.
    """

    __slots__ = ("_find", "_table", "check", "many", "role", "targets")

    def __init__(
        self,
        check: Check | None,
        *,
        many: bool = False,
        role: str = "",
        targets: frozenset[str] = frozenset(),
        find: Callable[[], TypeTable] = _no_table,
    ) -> None:
        self.check = check
        self.many = many
        self.role = role
        self.targets = targets
        self._find = find
        self._table: TypeTable | None = None

    @property
    def table(self) -> TypeTable:
        """The table of a complex type. Looked up late: types hold each other, and few are ever met."""
        if self._table is None:
            self._table = self._find()
        return self._table


class TypeTable:
    """A type as the walk sees it.

    Attributes:
        name: Its name: `Composition`, `CompositionSection`, `Attachment`.
        model: The model it is read off.
        elements: Its elements by their JSON name, `_name` for the extensions of a primitive included.
        required: What has to be there: groups of names, one name of each.
        rules: The rules of the type, beside those of its elements.
    """

    __slots__ = ("elements", "model", "name", "required", "rules")

    def __init__(self, release: Release, model: type[BaseModel]) -> None:
        self.name = model.__name__
        self.model = model
        self.rules = ELEMENT_RULES.get(self.name, ())
        self.elements: dict[str, Element] = {}
        choices: dict[str, list[str]] = {}
        required: list[tuple[str, ...]] = []
        for key, field in model.model_fields.items():
            name = field.alias or key
            if name == "fhir_comments":  # of releases before R4
                continue
            facts = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
            element = self.elements[name] = _element(release, self.name, name, field)
            # A primitive may be all extension: then it is there under its other name.
            names = [name] if element.check is None else [name, f"_{name}"]
            if facts.get("one_of_many_required"):
                choices.setdefault(str(facts["one_of_many"]), []).extend(names)
            elif facts.get("element_required") or field.is_required():
                required.append(tuple(names))
        if _is_resource(model):
            self.elements["resourceType"] = Element(text)
        self.required = (*required, *(tuple(names) for names in choices.values()))


def model_of(release: Release, kind: object) -> type[BaseModel] | None:
    """The model of a resource type; `None` if there is no such resource."""
    return _model(release, kind) if isinstance(kind, str) and _RESOURCE_NAME.fullmatch(kind) else None


def resource_table(release: Release, kind: object) -> TypeTable | None:
    """The table of a resource type; `None` if there is no such resource."""
    model = model_of(release, kind)
    return _table(release, model) if model else None


@cache
def _model(release: Release, kind: str) -> type[BaseModel] | None:
    try:
        model = getattr(import_module(f"{_PACKAGE[release]}.{kind.lower()}"), kind)
    except (ImportError, AttributeError):
        return None
    return model if kind not in _ABSTRACT and _is_resource(model) else None


def _is_resource(model: Any) -> bool:
    return isinstance(model, type) and bool(model.has_resource_base())  # type: ignore[attr-defined]


@cache
def _table(release: Release, model: type[BaseModel]) -> TypeTable:
    return TypeTable(release, model)


def _element(release: Release, owner: str, name: str, field: FieldInfo) -> Element:
    facts = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    kind, many = _unwrapped(field.annotation)
    primitive = _primitive(kind)
    if primitive is not None:
        role = "id" if (name, primitive) == ("id", "string") else ""
        return Element(_check(release, owner, name, primitive, facts), many=many, role=role)
    role = "contained" if name == "contained" else "resource" if kind.__name__ == "ResourceType" else ""
    listed = facts.get("enum_reference_types")
    targets = frozenset(str(each) for each in listed) if isinstance(listed, list) else frozenset[str]()
    if "Resource" in targets:
        targets = frozenset()
    return Element(None, many=many, role=role, targets=targets, find=lambda: _table(release, kind.get_model_klass()))


def _unwrapped(annotation: Any) -> tuple[Any, bool]:
    """The type inside `Optional`, `List` and unions, and whether there was a list."""
    if typing.get_origin(annotation) is typing.Annotated:
        return annotation, False
    inner = [each for each in typing.get_args(annotation) if each is not type(None)]
    if not inner:
        return annotation, False
    kind, many = _unwrapped(inner[0])
    return kind, many or typing.get_origin(annotation) is list


def _check(release: Release, owner: str, name: str, primitive: str, facts: dict[str, Any]) -> Check:
    special = _CHECKS.get((owner, name)) or _CHECKS.get(("", name))
    if special is not None:
        return special
    if primitive == "code":
        listed = facts.get("enum_values")
        codes = frozenset(str(each) for each in listed) if isinstance(listed, list) else frozenset[str]()
        codes = _CODES[release].get((owner, name), codes)
        if codes and "+" not in codes:
            return one_of(codes)
    return PRIMITIVES[primitive]


def _primitive(kind: Any) -> str | None:
    """FHIR's name of a primitive type, `None` for every other type."""
    if kind is bool:
        return "boolean"
    if typing.get_origin(kind) is typing.Annotated and typing.get_args(kind)[0] is uuid.UUID:
        return "uuid"
    names = (getattr(each, "__visit_name__", None) for each in getattr(kind, "__metadata__", ()))
    return next((str(each) for each in names if each in PRIMITIVES), None)
