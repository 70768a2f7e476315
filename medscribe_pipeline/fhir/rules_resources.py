"""R4 rules of whole resources: what is contained, what is bundled, and which references lead somewhere."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.fhir.rules_elements import Finding, safe_name

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["bundle_findings", "contained_findings"]

_WITH_REQUEST = frozenset({"batch", "transaction", "history"})
_WITH_RESPONSE = frozenset({"batch-response", "transaction-response", "history"})


def _objects(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        yield path, node
        for name, value in node.items():
            yield from _objects(value, f"{path}.{safe_name(name)}" if path else safe_name(name))
    elif isinstance(node, list):
        for index, item in enumerate(node):
            yield from _objects(item, f"{path}.{index}")


def _references(node: Any, path: str) -> Iterator[tuple[str, str]]:
    for where, element in _objects(node, path):
        literal = element.get("reference")
        if isinstance(literal, str):
            yield (f"{where}.reference" if where else "reference"), literal


def contained_findings(resource: dict[str, Any], path: str = "") -> Iterator[Finding]:
    """dom-2 to dom-4 and ref-1: contained resources are plain, used, and every `#id` finds one.

    dom-5 (no security label on a contained resource) is found where the label is, see `rules_elements`.
    """
    prefix = f"{path}." if path else ""
    contained = resource.get("contained", [])
    inner = [item for item in contained if isinstance(item, dict)] if isinstance(contained, list) else []
    known = {f"#{item.get('id')}" for item in inner}
    used = {literal for _, literal in _references(resource, path)}
    for index, item in enumerate(inner):
        here = f"{prefix}contained.{index}"
        if "contained" in item:
            yield Finding("dom-2", f"{here}.contained")
        if f"#{item.get('id')}" not in used and "#" not in {literal for _, literal in _references(item, here)}:
            yield Finding("dom-3", here)
        meta = item.get("meta")
        if isinstance(meta, dict) and meta.keys() & {"versionId", "lastUpdated"}:
            yield Finding("dom-4", f"{here}.meta")
    for where, literal in _references(resource, path):
        if literal.startswith("#") and literal != "#" and literal not in known:
            yield Finding("ref-1", where)


def bundle_findings(bundle: dict[str, Any]) -> Iterator[Finding]:
    """bdl-1 to bdl-5 and bdl-7 to bdl-11, and what a transaction adds.

    `transaction-identity`: one resource may be written once in a transaction (R4 http, transaction rules); some
    servers silently drop the second. `bundle-reference`: `urn:uuid:` leads to an entry, or to nowhere.
    """
    kind = bundle.get("type")
    listed = bundle.get("entry", [])
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    if "total" in bundle and kind not in {"searchset", "history"}:
        yield Finding("bdl-1", "total")
    for index, entry in enumerate(entries):
        yield from _entry(entry, f"entry.{index}", str(kind))
    yield from _repeated("bdl-7", [str(entry["fullUrl"]) if "fullUrl" in entry else None for entry in entries])
    if kind == "document":
        yield from _document(bundle, entries)
    if kind == "transaction":
        yield from _repeated("transaction-identity", [_identity(entry) for entry in entries])
    if kind in {"transaction", "document"}:
        urls = {entry["fullUrl"] for entry in entries if isinstance(entry.get("fullUrl"), str)}
        for where, literal in _references(listed, "entry"):
            if literal.startswith("urn:") and literal not in urls:
                yield Finding("bundle-reference", where)


def _document(bundle: dict[str, Any], entries: list[dict[str, Any]]) -> Iterator[Finding]:
    identifier = bundle.get("identifier")
    if not isinstance(identifier, dict) or not {"system", "value"} <= identifier.keys():
        yield Finding("bdl-9", "identifier")
    if "timestamp" not in bundle:
        yield Finding("bdl-10", "timestamp")
    first = entries[0].get("resource") if entries else None
    if not isinstance(first, dict) or first.get("resourceType") != "Composition":
        yield Finding("bdl-11", "entry.0")


def _entry(entry: dict[str, Any], path: str, kind: str) -> Iterator[Finding]:
    if "search" in entry and kind != "searchset":
        yield Finding("bdl-2", path)
    if ("request" in entry) != (kind in _WITH_REQUEST):
        yield Finding("bdl-3", path)
    if ("response" in entry) != (kind in _WITH_RESPONSE):
        yield Finding("bdl-4", path)
    if not entry.keys() & {"resource", "request", "response"}:
        yield Finding("bdl-5", path)
    if "/_history/" in str(entry.get("fullUrl", "")):
        yield Finding("bdl-8", f"{path}.fullUrl")
    if isinstance(entry.get("resource"), dict):
        yield from contained_findings(entry["resource"], f"{path}.resource")


def _identity(entry: dict[str, Any]) -> str | None:
    """What a transaction entry writes, as far as the request says; `None` when it is surely something new."""
    request = entry.get("request")
    if not isinstance(request, dict) or request.get("method") in {"GET", "HEAD"}:
        return None
    if request.get("method") == "POST" and "ifNoneExist" not in request:
        return None
    return json.dumps([request.get("url"), request.get("ifNoneExist")])


def _repeated(rule: str, keys: list[str | None]) -> Iterator[Finding]:
    seen: Counter[str] = Counter()
    for index, key in enumerate(keys):
        if key is not None:
            seen[key] += 1
            if seen[key] > 1:
                yield Finding(rule, f"entry.{index}")
