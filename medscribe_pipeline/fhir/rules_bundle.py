"""Rules of Bundles: bdl-1 to bdl-15 as far as they concern what is sent, and what transactions and documents add.

`transaction-identity`: one resource may be written once in a transaction (R4 http, transaction rules); some servers
silently drop the second. `bundle-reference`: a reference that can only lead to an entry leads to one. `fullUrl-id`:
`fullUrl` and id of an entry say the same.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from medscribe_pipeline.fhir.rules_walk import Link, Node, Path, Walk

__all__ = ["bundle"]

_WITH_REQUEST = frozenset({"batch", "transaction", "history"})
_WITH_RESPONSE = frozenset({"batch-response", "transaction-response", "history"})
_WITHOUT_URL = frozenset({"batch", "batch-response", "transaction", "transaction-response"})
_FIRST = {"document": ("bdl-11", "Composition"), "message": ("bdl-12", "MessageHeader")}
_BASE = re.compile(r"(?P<base>https?://\S+/)[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64}")


def bundle(walk: Walk, node: Node, path: Path) -> None:
    """All rules of a Bundle whose elements have been walked already."""
    kind = str(node.get("type"))
    listed = node.get("entry")
    entries = [each if isinstance(each, dict) else {} for each in listed] if isinstance(listed, list) else []
    if "total" in node and kind not in {"searchset", "history"}:
        walk.found("bdl-1", path, "total")
    for index, entry in enumerate(entries):
        _entry(walk, entry, kind, ((path, "entry"), index))
    _unique(walk, "bdl-7", path, (_full_url(entry) for entry in entries))
    if kind == "document":
        identifier = node.get("identifier")
        if not isinstance(identifier, dict) or not {"system", "value"} <= identifier.keys():
            walk.found("bdl-9", path, "identifier")
        if "timestamp" not in node:
            walk.found("bdl-10", path, "timestamp")
    if kind in _FIRST:
        rule, first = _FIRST[kind]
        if not entries or _resource(entries[0]).get("resourceType") != first:
            walk.found(rule, path, "entry", 0)
    if kind == "transaction":
        _unique(walk, "transaction-identity", path, (_identity(entry) for entry in entries))
    if kind in {"transaction", "document"}:
        _links(walk, entries, document=kind == "document")


def _entry(walk: Walk, entry: Node, kind: str, path: Path) -> None:
    if "search" in entry and kind != "searchset":
        walk.found("bdl-2", path)
    if ("request" in entry) != (kind in _WITH_REQUEST):
        walk.found("bdl-3", path)
    if ("response" in entry) != (kind in _WITH_RESPONSE):
        walk.found("bdl-4", path)
    if entry and not entry.keys() & {"resource", "request", "response"}:
        walk.found("bdl-5", path)
    url, resource = _full_url(entry), _resource(entry)
    if url is None and kind not in _WITHOUT_URL:
        walk.found("bdl-15", path, "fullUrl")  # words in R4, a rule with a key in R5
    if url is None:
        return
    if "/_history/" in url:
        walk.found("bdl-8", path, "fullUrl")
    elif "id" in resource and _BASE.fullmatch(url) and url.rpartition("/")[2] != resource["id"]:
        walk.found("fullUrl-id", path, "fullUrl")


def _links(walk: Walk, entries: list[Node], *, document: bool) -> None:
    """Where references between entries lead: to an entry, and to one of a type the reference may lead to."""
    urls = {url: _resource(entry) for entry in entries if (url := _full_url(entry)) is not None}
    bases = {id(_resource(entry)): match["base"] for entry in entries
             if (match := _BASE.fullmatch(_full_url(entry) or ""))}  # fmt: skip
    first = _resource(entries[0]) if document and entries else None
    for link in walk.links:
        if link.literal.startswith("#"):
            continue
        target = urls.get(_absolute(link, bases))
        if target is not None:
            if not link.accepts(target):
                walk.found("reference-target", link.path)
        # A document holds whatever its Composition refers to; the others may refer to the world outside.
        elif link.literal.startswith("urn:") or link.owner is first:
            walk.found("bundle-reference", link.path, "reference")


def _absolute(link: Link, bases: dict[int, str]) -> str:
    literal = link.literal.partition("/_history/")[0]
    base = bases.get(id(link.owner))
    return literal if base is None or ":" in literal.partition("/")[0] else base + literal


def _full_url(entry: Node) -> str | None:
    url = entry.get("fullUrl")
    return url if isinstance(url, str) else None


def _resource(entry: Node) -> Node:
    resource = entry.get("resource")
    return resource if isinstance(resource, dict) else {}


def _identity(entry: Node) -> str | None:
    """What a transaction entry writes, as far as the request says; `None` when it is surely something new."""
    request = entry.get("request")
    if not isinstance(request, dict) or request.get("method") in ("GET", "HEAD"):
        return None
    if request.get("method") == "POST" and "ifNoneExist" not in request:
        return None
    return json.dumps([request.get("url"), request.get("ifNoneExist")], default=str)


def _unique(walk: Walk, rule: str, path: Path, keys: Iterable[Any]) -> None:
    seen: Counter[str] = Counter()
    for index, key in enumerate(keys):
        if key is not None:
            seen[key] += 1
            if seen[key] > 1:
                walk.found(rule, path, "entry", index)
