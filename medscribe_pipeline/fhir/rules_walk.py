"""One walk over a resource finds everything: types, codes, cardinality, references, and the rules of each type.

What is known of the elements comes from `rules_types`, what the types demand beyond that from `rules_elements` and
`rules_resources`. A path is written out only for what is found; a resource without findings costs no strings.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from medscribe_pipeline.fhir.rules_contained import contained
from medscribe_pipeline.fhir.rules_elements import reference_kind
from medscribe_pipeline.fhir.rules_types import resource_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.fhir.rules_types import Element, Release, TypeTable

    Node = dict[str, Any]
    Path = tuple["Path", str | int] | None
    ResourceRule = Callable[["Walk", Node, Path], None]

__all__ = ["Finding", "Link", "Walk", "safe_name"]

_NAME = re.compile(r"_?[A-Za-z][A-Za-z0-9]{0,63}")


class Finding(NamedTuple):
    """A broken rule and where: never the value that broke it."""

    rule: str
    path: str


class Link(NamedTuple):
    """A literal reference that was met.

    Attributes:
        literal: `Reference.reference`.
        targets: Resource types it may lead to; empty for any.
        path: Where the reference is.
        owner: The resource it is in, or in something contained of.
        inside: The contained resource it is in, if any.
    """

    literal: str
    targets: frozenset[str]
    path: Path
    owner: Node
    inside: Node | None

    def accepts(self, target: Node) -> bool:
        """Whether the reference may lead to that resource."""
        return not self.targets or str(target.get("resourceType")) in self.targets


def safe_name(part: object) -> str:
    """A path part for people to read: element names and indices. Anything else might be data and becomes `?`."""
    text = str(part)
    return text if isinstance(part, int) or _NAME.fullmatch(text) else "?"


def written(path: Path) -> str:
    """A path as people read it: `section.0.text.div`."""
    parts: list[str] = []
    while path is not None:
        path, part = path
        parts.append(safe_name(part))
    return ".".join(reversed(parts))


class Walk:
    """Goes through one resource; `findings` holds what is wrong with it afterwards.

    Args:
        release: FHIR release of the resource.
        rules: The rules of whole resources, by resource type; other types are refused.
    """

    def __init__(self, release: Release, rules: dict[str, tuple[ResourceRule, ...]]) -> None:
        self.findings: list[Finding] = []
        self.links: list[Link] = []
        self._release = release
        self._rules = rules
        self._owner: Node = {}
        self._inside: Node | None = None
        self._ids: set[str] = set()

    def found(self, rule: str, path: Path, *names: str | int) -> None:
        """Keeps a finding at `path` and the names below it; empty names do not count."""
        for name in names:
            path = (path, name) if name != "" else path
        self.findings.append(Finding(rule, written(path)))

    def resource(self, node: Node, path: Path = None) -> None:
        """A resource that stands on its own, or in an entry of a Bundle."""
        outside = (self.links, self._owner, self._ids)
        self.links, self._owner, self._ids = [], node, set()
        self._any_resource(node, path)
        contained(self, node, path)
        links = self.links
        self.links, self._owner, self._ids = outside
        self.links.extend(links)

    def _any_resource(self, node: Node, path: Path) -> None:
        kind = node.get("resourceType")
        table = resource_table(self._release, kind) if isinstance(kind, str) and kind in self._rules else None
        if table is None:
            self.found("resource-type", path, "resourceType")
            return
        self._element(node, table, path)
        for rule in self._rules[table.name]:
            rule(self, node, path)

    def _contained(self, node: Node, path: Path) -> None:
        if self._inside is not None:
            return  # dom-2, found where it is contained
        self._inside = node
        self._any_resource(node, path)
        self._inside = None

    def _element(self, node: Node, table: TypeTable, path: Path) -> None:
        if not node:
            self.found("ele-1", path)
            return
        self._members(node, table.elements, path)
        for names in table.required:
            if names[0] not in node and not any(name in node for name in names[1:]):
                self.found("required", path, names[0])
        for rule_of_type in table.rules:
            for key, below in rule_of_type(node):
                self.found(key, path, below)

    def _members(self, node: Node, elements: dict[str, Element], path: Path) -> None:
        for name, value in node.items():
            known = elements.get(name)
            if known is None:
                self.found("element", path, name)
            elif known.many:
                self._list(value, known, (path, name))
            elif (check := known.check) is None:
                self._value(value, known, (path, name))
            elif rule := check(value):
                self.found(rule, path, name)
            elif known.role:
                self._id(value, (path, name))

    def _list(self, value: Any, known: Element, path: Path) -> None:
        if not isinstance(value, list):
            self.found("ele-1" if value is None else "json", path)
        elif not value:
            self.found("ele-1", path)
        elif known.check is None:
            for index, item in enumerate(value):
                self._value(item, known, (path, index))
        else:
            for index, item in enumerate(value):
                if rule := known.check(item):
                    self.found(rule, path, index)

    def _value(self, value: Any, known: Element, path: Path) -> None:
        if not isinstance(value, dict):
            self.found("ele-1" if value is None else "json", path)
        elif known.role == "contained":
            self._contained(value, path)
        elif known.role:
            self.resource(value, path)
        else:
            table = known.table
            self._element(value, table, path)
            if table.name == "Reference":
                self._reference(value, known.targets, path)

    def _reference(self, node: Node, targets: frozenset[str], path: Path) -> None:
        """The types of its target it tells; what it leads to is for the rules of the resource that holds it."""
        literal, kind = node.get("reference"), node.get("type")
        if literal is None:
            if isinstance(kind, str) and targets and kind not in targets:
                self.found("reference-target", path)
            return
        told = {each for each in (kind, reference_kind(literal)) if isinstance(each, str)}
        if len(told) > 1 or (targets and not told <= targets):
            self.found("reference-target", path)
        if isinstance(literal, str):
            self.links.append(Link(literal, targets, path, self._owner, self._inside))

    def _id(self, value: str, path: Path) -> None:
        """Ids of elements are for links within a resource, so one stands for one element."""
        if value in self._ids:
            self.found("element-id", path)
        self._ids.add(value)
