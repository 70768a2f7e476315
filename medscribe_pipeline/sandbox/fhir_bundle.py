"""Transactions and batches: what `POST [base]` does with a Bundle.

A transaction is processed as R4 says (http.html#transaction): conditions are evaluated and ids assigned first, then
references between the entries are resolved, then POST, PUT and GET are done in that order, and any failure takes all
of it back. Two entries about the same resource, or under the same condition, are refused: one would be lost silently.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.sandbox.fhir_errors import FhirError, operation_outcome
from medscribe_pipeline.sandbox.fhir_rules import RESOURCE_TYPES, references
from medscribe_pipeline.sandbox.fhir_store import Criteria, FhirStore, Stored, parse_criteria

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["process"]

_ORDER = ("POST", "PUT", "GET")


@dataclass(slots=True)
class _Entry:
    """One entry as it is going to be carried out; `key` is the id it ends up at, once that is known."""

    path: str
    method: str
    resource_type: str
    key: str | None
    criteria: Criteria | None
    if_match: str | None
    resource: Any
    full_url: str | None
    is_met: bool = False


def process(store: FhirStore, bundle: Any) -> dict[str, Any]:
    """Carries out a transaction or batch Bundle and returns the response Bundle.

    Raises:
        FhirError: The Bundle is neither, or the transaction failed and nothing of it was done.
    """
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        raise FhirError.of(400, "structure", "The body is not a Bundle.")
    kind, entries = bundle.get("type"), bundle.get("entry", [])
    if kind not in {"transaction", "batch"}:
        raise FhirError.of(400, "not-supported", "Only a transaction or a batch can be processed here.")
    if not isinstance(entries, list):
        raise FhirError.of(400, "structure", "Bundle.entry is a list.")
    answers = (
        _transaction(store, entries) if kind == "transaction" else [_alone(store, n, e) for n, e in enumerate(entries)]
    )
    return {"resourceType": "Bundle", "type": f"{kind}-response", **({"entry": answers} if answers else {})}


def _transaction(store: FhirStore, raw: list[Any]) -> list[dict[str, Any]]:
    with store.transaction():
        entries = [_parse(n, one) for n, one in enumerate(raw)]
        for entry in entries:
            _assign(store, entry)
        _refuse_duplicates(entries)
        targets = {e.full_url: f"{e.resource_type}/{e.key}" for e in entries if e.full_url is not None}
        for entry in entries:
            _resolve(store, entry, targets)
        # A stable sort: entries of one method keep their order.
        done = {entry.path: _carry_out(store, entry) for entry in sorted(entries, key=lambda e: _ORDER.index(e.method))}
        return [done[entry.path] for entry in entries]


def _alone(store: FhirStore, n: int, raw: Any) -> dict[str, Any]:
    """One entry of a batch: its failure is its own, and it knows nothing of the others."""
    try:
        with store.transaction():
            entry = _parse(n, raw)
            _assign(store, entry)
            return _carry_out(store, entry)
    except FhirError as error:
        return {"response": {"status": _status(error.status), "outcome": operation_outcome(*error.issues)}}


def _parse(n: int, raw: Any) -> _Entry:
    path = f"Bundle.entry[{n}]"
    request = raw.get("request") if isinstance(raw, dict) else None
    if not isinstance(request, dict):
        raise FhirError.of(400, "required", "bdl-3: an entry of a transaction or batch has a request.").below(path)
    method, url = request.get("method"), request.get("url")
    if method not in _ORDER or not isinstance(url, str):
        raise FhirError.of(400, "not-supported", "Entries are POST, PUT or GET, with a URL.").below(path)
    where, has_query, query = url.partition("?")
    resource_type, has_key, key = where.partition("/")
    if resource_type not in RESOURCE_TYPES:
        raise FhirError.of(404, "not-supported", "The resource type is not supported.").below(path)
    needs_key = method == "PUT" and not has_query
    if "/" in key or (has_key and (has_query or method == "POST")) or (needs_key and not key):
        raise FhirError.of(400, "invalid", "The URL does not fit the method.").below(path)
    if not isinstance(raw.get("fullUrl", ""), str):
        raise FhirError.of(400, "structure", "fullUrl is a string.").below(path)
    if method != "GET" and "resource" not in raw:
        raise FhirError.of(400, "required", "The entry has no resource.").below(path)
    condition = request.get("ifNoneExist") if method == "POST" else query if has_query else None
    try:
        criteria = None if condition is None else parse_criteria(str(condition))
    except FhirError as error:
        raise error.below(path) from None
    return _Entry(
        path=path,
        method=method,
        resource_type=resource_type,
        key=key or None,
        criteria=criteria,
        if_match=request.get("ifMatch"),
        resource=copy.deepcopy(raw.get("resource")),
        full_url=raw.get("fullUrl") if method != "GET" else None,
    )


def _assign(store: FhirStore, entry: _Entry) -> None:
    """Evaluates the entry's condition and settles which id it is about."""
    if entry.method == "GET":
        return
    if entry.criteria is not None:
        try:
            entry.key = store.match(entry.resource_type, entry.criteria)
        except FhirError as error:
            raise error.below(entry.path) from None
        entry.is_met = entry.key is not None
        if entry.key is None and entry.method == "PUT" and isinstance(entry.resource, dict):
            entry.key = entry.resource.get("id")
    entry.key = entry.key or store.new_id()


def _refuse_duplicates(entries: list[_Entry]) -> None:
    writes = [entry for entry in entries if entry.method != "GET"]
    seen: set[Any] = set()
    for entry in writes:
        # An entry whose condition is met already changes nothing, but two of them still say one thing twice.
        marks = [(entry.resource_type, entry.key)]
        marks += [("fullUrl", entry.full_url)] if entry.full_url else []
        for mark in [*marks, *([(entry.resource_type, entry.criteria)] if entry.criteria else [])]:
            if mark in seen:
                raise FhirError.of(400, "duplicate", "Two entries are about the same resource.").below(entry.path)
            seen.add(mark)


def _resolve(store: FhirStore, entry: _Entry, targets: Mapping[str, str]) -> None:
    """Replaces references to other entries, and conditional references, by literal ones."""
    for found in references(entry.resource):
        reference = found["reference"]
        if reference in targets:
            found["reference"] = targets[reference]
            continue
        resource_type, is_conditional, query = reference.partition("?")
        if is_conditional and resource_type in RESOURCE_TYPES:
            try:
                key = store.match(resource_type, parse_criteria(query))
            except FhirError as error:
                raise error.below(entry.path) from None
            if key is None:
                raise FhirError.of(412, "not-found", f"Nothing meets the conditional reference {reference}").below(
                    entry.path
                )
            found["reference"] = f"{resource_type}/{key}"


def _carry_out(store: FhirStore, entry: _Entry) -> dict[str, Any]:
    try:
        if entry.method == "GET":
            return _got(store, entry)
        key = str(entry.key)
        if entry.method == "POST":
            if entry.is_met:
                return _wrote(store.read(entry.resource_type, key))
            return _wrote(store.write(entry.resource_type, key, entry.resource))
        if entry.criteria is not None and isinstance(entry.resource, dict):
            # A conditional update need not repeat the id, but may not contradict it.
            entry.resource.setdefault("id", key)
        return _wrote(store.update(entry.resource_type, key, entry.resource, if_match=entry.if_match))
    except FhirError as error:
        raise error.below(entry.path) from None


def _got(store: FhirStore, entry: _Entry) -> dict[str, Any]:
    if entry.key is not None:
        stored = store.read(entry.resource_type, entry.key)
        return {"resource": stored.resource, "response": {"status": _status(200), "etag": stored.etag}}
    found = store.search(entry.resource_type, entry.criteria or ())
    matches = [{"resource": resource, "search": {"mode": "match"}} for resource in found]
    bundle = {"resourceType": "Bundle", "type": "searchset", "total": len(found)}
    return {"resource": {**bundle, **({"entry": matches} if matches else {})}, "response": {"status": _status(200)}}


def _wrote(stored: Stored) -> dict[str, Any]:
    return {
        "response": {
            "status": _status(stored.status),
            "location": stored.path,
            "etag": stored.etag,
            "lastModified": stored.resource["meta"]["lastUpdated"],
        }
    }


def _status(status: int) -> str:
    return f"{status} {HTTPStatus(status).phrase}"
