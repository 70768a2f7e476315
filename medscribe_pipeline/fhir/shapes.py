"""The check of every resource again, with what depends on its shape alone looked at once for each shape.

What `rules.check` says of a resource of ours depends on two things: its shape, which is its elements, codes, systems,
statuses and the length of its lists; and the free text, times, identifiers and data that stand in it. A pipeline meets
few shapes and many texts. So `check_shape` walks a resource once, and

- holds each free leaf against its own grammar, every time, and against the other leaves it has to agree with: the end
  of a period with its start, the size and hash of an attachment with its data, an agent with whom it acts for;
- writes down everything else to the letter. If `rules.check` has passed exactly that before, it would pass it now.

Whatever is not seen to be right here is for `rules.check` to decide: a shape met for the first time, an element that
`shapes_elements` does not name, a leaf in a form that is rare, a leaf that is wrong. So what passes here passes there,
and what is refused is refused there, with its findings.

Sections of a Composition are remembered one by one: which of them a note has is up to its author, so that whole
Compositions would hardly repeat. Nothing in a section as the tables know it depends on anything around it, but for
ids; a Composition with one in a section is not remembered.
"""

from __future__ import annotations

import marshal
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal

from medscribe_pipeline.fhir import rules
from medscribe_pipeline.fhir.shapes_elements import RESOURCES, SECTION, Unsure, stand_apart

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from medscribe_pipeline.fhir.rules_types import Release
    from medscribe_pipeline.fhir.shapes_elements import Look

__all__ = ["Shapes", "check", "check_shape"]

MOST_SHAPES = 4096
"""Shapes remembered of a release, of 16 bytes each. A pipeline with its templates and languages meets hundreds."""

# Equal values are written equally and others differently, and what is no plain value is refused. Later versions also
# write which values are one object.
_FORMAT = 2


class Shapes:
    """What `rules.check` has passed, of one release, as digests: of no text is anything kept.

    Threads may share it, and a process may fork at any time: there is no lock, because each step is one of a set.

    Args:
        most: How many shapes are kept. When there are so many, it begins again.
    """

    def __init__(self, most: int = MOST_SHAPES) -> None:
        self._most = most
        self._seen: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._seen)

    def hold(self, keys: Collection[bytes]) -> bool:
        """Whether each of these has been passed."""
        return self._seen.issuperset(keys)

    def remember(self, keys: Collection[bytes]) -> None:
        """Keeps what has been passed just now."""
        if len(self._seen) + len(keys) > self._most:
            self._seen.clear()
        if len(keys) <= self._most:
            self._seen.update(keys)


def check(resource: dict[str, Any], release: Release, how: Literal["shape", "strict"]) -> None:
    """Checks one resource in the way the setting says: as `check_shape` does, or as `rules.check` does."""
    if how == "shape":
        check_shape(resource, release)
    else:
        rules.check(resource, release)


def check_shape(resource: dict[str, Any], release: Release = "R4", shapes: Mapping[str, Shapes] | None = None) -> None:
    """Checks one resource as `rules.check` does, at a tenth of its cost where its shape has been checked before.

    Args:
        resource: FHIR JSON as plain values. It is looked at, not changed.
        release: The release it is written in.
        shapes: What is known already, by release; that of this process unless told.

    Raises:
        InvalidResource: What `rules.check` found.
    """
    known = (_SHAPES if shapes is None else shapes)[release]
    try:
        keys = _keys(resource, release)
    except (Unsure, LookupError, TypeError, ValueError, RecursionError):
        # An element that is not in the tables, an element name that is no text, a value that is not JSON, ...
        rules.check(resource, release)
        return
    if not known.hold(keys):
        rules.check(resource, release)
        if resource["resourceType"] != "Composition" or stand_apart(resource.get("section", ())):
            known.remember(keys)


def _keys(resource: dict[str, Any], release: Release) -> list[bytes]:
    """What the verdict on a resource depends on, once its free leaves are right: of itself and of each section."""
    kind = resource["resourceType"]
    keys = [_key(resource, RESOURCES[release][kind])]
    if kind == "Composition" and "section" in resource:
        keys.extend([_key(section, SECTION) for section in resource["section"]])
    return keys


def _key(node: Any, look: Look) -> bytes:
    parts: list[object] = []
    look(node, parts.append)
    return blake2b(marshal.dumps(parts, _FORMAT), digest_size=16).digest()


_SHAPES: dict[str, Shapes] = {"R4": Shapes(), "R5": Shapes()}
