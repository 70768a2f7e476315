"""Rules of contained resources: dom-2 to dom-5 and ref-1, the same in R4 and R5.

What is contained is plain, has an id of its own, is used by the resource around it, and every `#id` leads to one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medscribe_pipeline.fhir.rules_walk import Node, Path, Walk

__all__ = ["contained"]


def contained(walk: Walk, node: Node, path: Path) -> None:
    """Looks at the contained resources of a resource that has been walked, and at the links to them."""
    listed = node.get("contained")
    known: dict[str, Node] = {}
    for index, item in enumerate(listed if isinstance(listed, list) else []):
        if isinstance(item, dict):
            here = ((path, "contained"), index)
            name = item.get("id")
            if not isinstance(name, str) or name in known:
                walk.found("contained-id", here)
            else:
                known[name] = item
            _plain(walk, item, here)
            if not any(link.literal == ("#" if link.inside is item else f"#{name}") for link in walk.links):
                walk.found("dom-3", here)
    for link in walk.links:
        # A lone "#" is the way back, from something contained to what contains it.
        if link.literal.startswith("#") and (link.literal != "#" or link.inside is None):
            target = known.get(link.literal[1:])
            if target is None:
                walk.found("ref-1", link.path, "reference")
            elif not link.accepts(target):
                walk.found("reference-target", link.path)


def _plain(walk: Walk, item: Node, path: Path) -> None:
    if "contained" in item:
        walk.found("dom-2", path, "contained")
    meta = item.get("meta")
    if isinstance(meta, dict) and meta.keys() & {"versionId", "lastUpdated"}:
        walk.found("dom-4", path, "meta")
    if isinstance(meta, dict) and "security" in meta:
        walk.found("dom-5", path, "meta", "security")
