"""The models of `fhir.resources` asked about a whole resource, for less where parts of it have been seen before.

A model spends about as much on each element it looks at, large or small, and most elements of our resources are codes:
the same few labels, categories and section codes in every note. The models take an element that is a model itself for
what it is, validated. So each coded element they pass is kept as such, by its content to the letter, and put where the
same stands again: what depends on the element alone has been seen, and whatever holds it looks at it as ever.

Only elements that say what kind of thing something is are kept, and which software or organisation had a part in it:
no reference to a person or a visit, no narrative, no attachment. What the models refuse is never kept.
"""

from __future__ import annotations

import marshal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

    from medscribe_pipeline.fhir.rules_types import TypeTable

__all__ = ["MODEL_ERRORS", "SeenElements"]

MODEL_ERRORS = (ValueError, LookupError, TypeError, AttributeError)
"""What the models raise: errors of validation, and what escapes them where a type is unknown or no name at all."""

MOST = 1024
LONGEST = 2048

# As in `shapes`: equal values are written equally and others differently, and what is no plain value is refused.
_FORMAT = 2
_CODED = frozenset({"CodeableConcept", "Coding", "Meta"})
_FEW = ("Device", "Organization")


class SeenElements:
    """Coded elements the models have passed, in the form the models take.

    Threads may share it, and a process may fork at any time: each step is one of a dict.

    Args:
        most: How many are kept. When there are so many, it begins again.
        longest: Elements of more bytes than this are not kept.
    """

    def __init__(self, most: int = MOST, longest: int = LONGEST) -> None:
        self._most = most
        self._longest = longest
        self._kept: dict[tuple[type[BaseModel], bytes], BaseModel] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def within(self, node: dict[str, Any], table: TypeTable) -> dict[str, Any]:
        """An element for its model to look at, with what has been seen in it as models.

        Args:
            node: The element, or a whole resource. It is not changed: what comes back is a copy if it differs.
            table: What is known of its type.
        """
        elements = table.elements
        seen: dict[str, Any] = {}
        for name, value in node.items():
            if type(value) is str:
                continue
            known = elements.get(name)
            # Neither primitives nor whole resources.
            if known is None or known.check is not None or known.role:
                continue
            below = known.table
            if type(value) is dict:
                seen[name] = self._seen(value, below)
            elif type(value) is list:
                seen[name] = [self._seen(each, below) if type(each) is dict else each for each in value]
        return {**node, **seen} if seen else node

    def _seen(self, node: dict[str, Any], table: TypeTable) -> dict[str, Any] | BaseModel:
        if table.name not in _CODED and not (table.name == "Reference" and node.get("type") in _FEW):
            return self.within(node, table)
        try:
            key = table.model, marshal.dumps(node, _FORMAT)
            seen = self._kept.get(key)
            if seen is None:
                seen = table.model.model_validate(node)
                self._keep(key, seen)
        except MODEL_ERRORS:
            return node  # for the model of the whole to refuse, with its place
        return seen

    def _keep(self, key: tuple[type[BaseModel], bytes], seen: BaseModel) -> None:
        if len(key[1]) > self._longest:
            return
        if len(self._kept) >= self._most:
            self._kept.clear()
        self._kept[key] = seen
