"""The resources of one endpoint and what FHIR says of changing them.

A change is prepared in a `Unit` that sees what it has written so far, and committed in one go: into the ledger first,
then into what readers see. One lock, so conditions and commits of different requests never interleave.
"""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from tests.fhir_server.ledger import Ledger, Written

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.fhir_server.abilities import Abilities

__all__ = ["Outcome", "RefusedError", "Resource", "Store", "Unit"]

Resource = dict[str, Any]

_REQUIRED = {
    "Composition": ("status", "type", "date", "author", "title"),
    "DocumentReference": ("status", "content"),
    "Provenance": ("target", "recorded", "agent"),
}
_IGNORED = frozenset({"_count", "_sort", "_total", "_format", "_summary", "_offset"})


class RefusedError(Exception):
    """The request is refused."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


@dataclass(frozen=True)
class Outcome:
    """What became of one write."""

    status: int
    resource: Resource


@dataclass
class Unit:
    """Writes that are to be committed together."""

    request: int
    written: list[Written] = field(default_factory=list)


class Store:
    """One endpoint's resources; take `lock` around everything."""

    def __init__(self, ledger: Ledger, endpoint: int, abilities: Abilities) -> None:
        self.lock = threading.RLock()
        self.resources: dict[tuple[str, str], Resource] = {}
        self._by_identifier: dict[tuple[str, str, str], list[str]] = {}
        self._ledger = ledger
        self._endpoint = endpoint
        self._abilities = abilities
        self._last_id = 0

    def seed(self, resources: Iterable[Resource]) -> None:
        """Puts in what is there from the beginning; each has its id."""
        unit = Unit(0)
        unit.written += [self._version(0, "SEED", each, each["id"], None) for each in resources]
        self.commit(unit)

    def commit(self, unit: Unit) -> None:
        """All of it happens."""
        self._ledger.append(self._endpoint, unit.written)
        for each in unit.written:
            self.resources[each.type, each.id] = each.resource
            for system, value in identifiers(each.resource):
                ids = self._by_identifier.setdefault((each.type, system, value), [])
                if each.id not in ids:
                    ids.append(each.id)

    # Writing

    def create(self, unit: Unit, kind: str, resource: Resource, condition: str | None) -> Outcome:
        """A create; with a condition, what is there already is the answer."""
        self._check(kind, resource)
        if condition is not None and self._abilities.conditional_create:
            matches = self._matches(unit, kind, condition)
            if len(matches) > 1:
                raise RefusedError(412, "multiple-matches")
            if matches:
                return Outcome(200, matches[0])
        written = self._version(unit.request, "POST", resource, self.new_id(), None)
        unit.written.append(written)
        return Outcome(201, written.resource)

    def update(self, unit: Unit, kind: str, server_id: str, resource: Resource, if_match: str | None) -> Outcome:
        """An update, or a create under the client's id."""
        if not self._abilities.update:
            raise RefusedError(405, "not-supported")
        self._check(kind, resource)
        if resource.get("id") != server_id:
            raise RefusedError(400, "invalid")
        before = self._current(unit, kind, server_id)
        if if_match is not None and self._abilities.if_match:
            if before is None:
                raise RefusedError(412, "not-found")
            if if_match != etag_of(before):
                raise RefusedError(412, "conflict")
        written = self._version(unit.request, "PUT", resource, server_id, before)
        unit.written.append(written)
        return Outcome(200 if before else 201, written.resource)

    def new_id(self) -> str:
        """An id nobody has."""
        with self.lock:
            self._last_id += 1
            return f"s{self._endpoint}-{self._last_id}"

    def _check(self, kind: str, resource: Any) -> None:
        if kind not in self._abilities.kinds:
            raise RefusedError(404, "not-supported")
        if not isinstance(resource, dict) or resource.get("resourceType") != kind:
            raise RefusedError(400, "structure")
        if any(not resource.get(name) for name in _REQUIRED.get(kind, ())):
            raise RefusedError(422, "required")

    def _version(
        self, request: int, method: str, resource: Resource, server_id: str, before: Resource | None
    ) -> Written:
        version = int(before["meta"]["versionId"]) + 1 if before else 1
        stored = copy.deepcopy(resource)
        stored["id"] = server_id
        stored["meta"] = {
            **stored.get("meta", {}),
            "versionId": str(version),
            "lastUpdated": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        return Written(request, method, stored["resourceType"], server_id, version, stored)

    # Reading

    def read(self, kind: str, server_id: str) -> Resource:
        """One resource."""
        if not self._abilities.read:
            raise RefusedError(403, "forbidden")
        found = self.resources.get((kind, server_id))
        if found is None:
            raise RefusedError(404, "not-found")
        return found

    def search(self, kind: str, params: Sequence[tuple[str, str]]) -> list[Resource]:
        """What fits all parameters."""
        if not self._abilities.search:
            raise RefusedError(403, "forbidden")
        if kind not in self._abilities.kinds:
            raise RefusedError(404, "not-supported")
        wanted = [(name, value) for name, value in params if name not in _IGNORED]
        if not wanted:
            raise RefusedError(400, "too-costly")
        if wanted[0][0] == "identifier":
            system, _, value = wanted[0][1].partition("|")
            ids = self._by_identifier.get((kind, system, value), [])
            candidates = [self.resources[kind, each] for each in ids]
        else:
            candidates = [resource for (type_, _), resource in self.resources.items() if type_ == kind]
        return [each for each in candidates if all(_fits(each, name, value) for name, value in wanted)]

    def _current(self, unit: Unit, kind: str, server_id: str) -> Resource | None:
        own = [each.resource for each in unit.written if (each.type, each.id) == (kind, server_id)]
        return own[-1] if own else self.resources.get((kind, server_id))

    def _matches(self, unit: Unit, kind: str, condition: str) -> list[Resource]:
        params = parse_qsl(condition)
        if [name for name, _ in params] != ["identifier"]:
            # One identifier and nothing else is what every server with conditions knows.
            raise RefusedError(400, "not-supported")
        system, _, value = params[0][1].partition("|")
        ids = dict.fromkeys(self._by_identifier.get((kind, system, value), []))
        ids |= dict.fromkeys(each.id for each in unit.written if each.type == kind)
        found = [self._current(unit, kind, each) for each in ids]
        return [each for each in found if each is not None and (system, value) in identifiers(each)]


def etag_of(resource: Resource) -> str:
    """The ETag of a stored resource."""
    return f'W/"{resource["meta"]["versionId"]}"'


def identifiers(resource: Resource) -> list[tuple[str, str]]:
    """Its business identifiers; in R4 the search parameter covers `masterIdentifier` too."""
    listed = resource.get("identifier", [])
    each_one = [*(listed if isinstance(listed, list) else [listed]), resource.get("masterIdentifier", {})]
    return [(each.get("system", ""), each.get("value", "")) for each in each_one if each.get("value")]


def _fits(resource: Resource, name: str, value: str) -> bool:
    if name == "identifier":
        system, bar, text = value.partition("|")
        return any(text == own and (not bar or system == theirs) for theirs, own in identifiers(resource))
    if name in ("patient", "subject"):
        reference = resource.get("subject", {}).get("reference", "")
        return reference in (value, f"Patient/{value}")
    if name == "date":
        return _is_at(resource.get("period", {}), value)
    raise RefusedError(400, "not-supported")


def _is_at(period: Resource, value: str) -> bool:
    prefix, text = (value[:2], value[2:]) if value[:2].isalpha() else ("eq", value)
    moment = _instant(text)
    start = _instant(period["start"]) if "start" in period else datetime.min.replace(tzinfo=UTC)
    end = _instant(period["end"]) if "end" in period else datetime.max.replace(tzinfo=UTC)
    if prefix == "ge":
        return end >= moment
    if prefix == "le":
        return start <= moment
    if prefix == "eq":
        return start <= moment <= end
    raise RefusedError(400, "not-supported")


def _instant(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
