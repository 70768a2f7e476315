"""Bundles: a transaction happens as a whole or not at all, the entries of a batch each on their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tests.fhir_server.store import Outcome, RefusedError, Resource, Store, Unit, etag_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.fhir_server.abilities import Abilities

__all__ = ["batch", "issue", "transaction"]


def transaction(store: Store, unit: Unit, bundle: Resource, abilities: Abilities) -> Resource:
    """Prepares all entries in `unit`; nothing is committed if one of them is refused."""
    if not abilities.transaction:
        raise RefusedError(405, "not-supported")
    entries = _entries(bundle)
    outcomes: dict[int, Outcome] = {}
    # FHIR's order is POST before PUT, whatever the order of the entries.
    for index in sorted(range(len(entries)), key=lambda at: entries[at]["request"]["method"] != "POST"):
        outcomes[index] = _write(store, unit, entries[index])
    places = {
        entries[index]["fullUrl"]: f"{outcome.resource['resourceType']}/{outcome.resource['id']}"
        for index, outcome in outcomes.items()
        if "fullUrl" in entries[index]
    }
    for written in unit.written:
        _point(written.resource, places)
    identities = [(each.type, each.id) for each in unit.written]
    if len(set(identities)) < len(identities):
        raise RefusedError(400, "invariant")
    listed = [{"response": _response(outcomes[index], abilities)} for index in range(len(entries))]
    return {"resourceType": "Bundle", "type": "transaction-response", "entry": listed}


def batch(
    store: Store, request: int, bundle: Resource, abilities: Abilities, spoilt: Mapping[int, tuple[int, bool]]
) -> Resource:
    """Commits each entry on its own.

    Args:
        store: The resources.
        request: Number of the HTTP request.
        bundle: The batch.
        abilities: What the endpoint can do.
        spoilt: Entries that answer with a status of their own, and whether they happen all the same.
    """
    if not abilities.batch:
        raise RefusedError(405, "not-supported")
    listed = []
    for index, entry in enumerate(_entries(bundle)):
        status, happens = spoilt.get(index, (0, True))
        unit = Unit(request)
        try:
            response = _response(_write(store, unit, entry), abilities) if happens else {}
            store.commit(unit)
        except RefusedError as error:
            response = {"status": str(error.status), "outcome": issue(error.code)}
        if status:
            response = {"status": str(status), "outcome": issue("throttled" if status == 429 else "exception")}
        listed.append({"response": response})
    return {"resourceType": "Bundle", "type": "batch-response", "entry": listed}


def issue(code: str) -> Resource:
    """An OperationOutcome. What servers say in `diagnostics` may quote the note, so it must go nowhere."""
    listed = {"severity": "error", "code": code, "diagnostics": "about Zoë Testperson, born 1980-01-01"}
    return {"resourceType": "OperationOutcome", "issue": [listed]}


def _entries(bundle: Resource) -> list[Resource]:
    entries = bundle.get("entry")
    if not isinstance(entries, list) or not entries:
        raise RefusedError(400, "structure")
    urls = [entry["fullUrl"] for entry in entries if "fullUrl" in entry]
    if len(set(urls)) < len(urls):
        raise RefusedError(400, "duplicate")
    return entries


def _write(store: Store, unit: Unit, entry: Resource) -> Outcome:
    request = entry["request"]
    kind, _, server_id = request["url"].partition("/")
    if request["method"] == "POST" and not server_id:
        condition = request.get("ifNoneExist")
        return store.create(unit, kind, entry["resource"], condition)
    if request["method"] == "PUT" and server_id:
        return store.update(unit, kind, unquote(server_id), entry["resource"], request.get("ifMatch"))
    raise RefusedError(400, "not-supported")


def _response(outcome: Outcome, abilities: Abilities) -> Resource:
    stored = outcome.resource
    reason = "Created" if outcome.status == 201 else "OK"
    location = f"{stored['resourceType']}/{stored['id']}/_history/{stored['meta']['versionId']}"
    tags = {"etag": etag_of(stored)} if abilities.etags else {}
    return {"status": f"{outcome.status} {reason}", "location": location, **tags}


def _point(node: Any, places: Mapping[str, str]) -> None:
    """References to entries of the same transaction become references to what they have become."""
    if isinstance(node, list):
        for item in node:
            _point(item, places)
    elif isinstance(node, dict):
        if node.get("reference") in places:
            node["reference"] = places[node["reference"]]
        for part in node.values():
            _point(part, places)
