"""The FHIR endpoint's resources: versions, identifiers, and changes that can be taken back as a whole."""

from __future__ import annotations

import re
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import RLock
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from medscribe_pipeline.sandbox.fhir_errors import FhirError
from medscribe_pipeline.sandbox.fhir_rules import ID, check
from medscribe_pipeline.sandbox.state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["Criteria", "FhirStore", "Stored", "parse_criteria"]

Resource = dict[str, Any]
Criteria = tuple[tuple[str, str], ...]
"""Search parameters, decoded: only `identifier` and `_id` select anything here."""

_SELECTORS = frozenset({"identifier", "_id"})
_UNESCAPED_COMMA = re.compile(r"(?<!\\),")
_UNESCAPED_BAR = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of a resource as it is stored, and the HTTP status of the interaction that yields it."""

    status: int
    resource: Resource

    @property
    def path(self) -> str:
        """`Type/id/_history/version`."""
        meta = self.resource["meta"]
        return f"{self.resource['resourceType']}/{self.resource['id']}/_history/{meta['versionId']}"

    @property
    def etag(self) -> str:
        """Weak entity tag of the version."""
        return f'W/"{self.resource["meta"]["versionId"]}"'


def parse_criteria(query: str) -> Criteria:
    """Reads the condition of a conditional interaction (what would follow the `?` of a search).

    Raises:
        FhirError: 400 when it is empty or has a parameter this server cannot search by; ignoring one would make the
            condition match more than was meant.
    """
    criteria = tuple(parse_qsl(query, keep_blank_values=True))
    if not criteria or any(name not in _SELECTORS for name, _ in criteria):
        raise FhirError.of(400, "not-supported", "Conditions are `identifier` or `_id` only.")
    return criteria


class FhirStore:
    """Resources in memory, and in a `State` when there is one.

    Every interaction is atomic. Methods may be called from any thread.

    Args:
        state: Remembers all versions.
        clock: For `meta.lastUpdated`.
    """

    def __init__(self, state: State | None = None, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.lock = RLock()
        self._state = state or State()
        self._clock = clock
        self._versions: dict[tuple[str, str], list[Resource]] = {}
        self._by_value: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)
        self._undo: list[tuple[str, str]] | None = None
        self._last_id = 0
        for _, resource in self._state.load("fhir"):
            self._insert(resource)

    def resources(self, resource_type: str) -> list[Resource]:
        """The current version of every resource of a type, in the order they were created."""
        with self.lock:
            return [versions[-1] for (kind, _), versions in self._versions.items() if kind == resource_type]

    def new_id(self) -> str:
        """An id nobody has used."""
        with self.lock:
            self._last_id += 1
            return str(self._last_id)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside happens, or nothing does: any exception takes all of it back."""
        with self.lock:
            outer, self._undo = self._undo, []
            try:
                yield
            except BaseException:
                for resource_type, key in reversed(self._undo):
                    self._remove_newest(resource_type, key)
                self._undo = outer
                raise
            done, self._undo = self._undo, outer
            if outer is not None:
                outer.extend(done)
                return
            self._state.save(
                ("fhir", f"{kind}/{key}/{version['meta']['versionId']}", version)
                for kind, key in dict.fromkeys(done)
                for version in self._versions[kind, key][-done.count((kind, key)) :]
            )

    def read(self, resource_type: str, key: str, version: str | None = None) -> Stored:
        """The current version, or the one asked for.

        Raises:
            FhirError: 404.
        """
        with self.lock:
            versions = self._versions.get((resource_type, key), [])
            wanted = [one for one in versions if version in {None, one["meta"]["versionId"]}]
            if not wanted:
                raise FhirError.of(404, "not-found", f"{resource_type}/{key} is not known.")
            return Stored(200, wanted[-1])

    def search(self, resource_type: str, criteria: Iterable[tuple[str, str]]) -> list[Resource]:
        """Current versions that meet all criteria; `_id` and `identifier` take comma-separated alternatives."""
        with self.lock:
            found: list[str] | None = None
            for name, value in criteria:
                alternatives = _UNESCAPED_COMMA.split(value)
                if name == "_id":
                    matches = {key for key in alternatives if (resource_type, key) in self._versions}
                else:
                    matches = {key for token in alternatives for key in self._with_identifier(resource_type, token)}
                found = [key for key in (sorted(matches, key=_age) if found is None else found) if key in matches]
            if found is None:
                return self.resources(resource_type)
            return [self._versions[resource_type, key][-1] for key in found]

    def match(self, resource_type: str, criteria: Criteria) -> str | None:
        """The id of the one resource that meets a condition; `None` when there is none.

        Raises:
            FhirError: 412 when several do.
        """
        found = self.search(resource_type, criteria)
        if len(found) > 1:
            raise FhirError.of(412, "multiple-matches", f"{len(found)} resources meet the condition.")
        return str(found[0]["id"]) if found else None

    def create(self, resource_type: str, resource: Any, *, unless: Criteria | None = None) -> Stored:
        """Stores a new resource under an id of our own, unless one that meets a condition exists already.

        Raises:
            FhirError: 400 or 422 for the resource, 412 when several meet the condition.
        """
        with self.transaction():
            existing = None if unless is None else self.match(resource_type, unless)
            if existing is not None:
                return self.read(resource_type, existing)
            return self.write(resource_type, self.new_id(), resource)

    def update(self, resource_type: str, key: str, resource: Any, *, if_match: str | None = None) -> Stored:
        """Stores a new version, or the first one under an id the client chose.

        Raises:
            FhirError: 400 or 422 for the resource or its id, 412 when `if_match` (an ETag) is not the current version.
        """
        if isinstance(resource, dict) and resource.get("id") != key:
            raise FhirError.of(400, "invalid", "The id of the resource is not the id in the URL.")
        return self.write(resource_type, key, resource, if_match=if_match)

    def update_where(
        self, resource_type: str, criteria: Criteria, resource: Any, *, if_match: str | None = None
    ) -> Stored:
        """Conditional update: one match is updated, none creates, several are refused.

        Raises:
            FhirError: As `update`; 412 when several meet the condition.
        """
        with self.transaction():
            given = resource.get("id") if isinstance(resource, dict) else None
            existing = self.match(resource_type, criteria)
            if existing is not None and given not in {None, existing}:
                raise FhirError.of(400, "invalid", "The id of the resource is not that of the match.")
            return self.write(resource_type, existing or given or self.new_id(), resource, if_match=if_match)

    def write(self, resource_type: str, key: str, resource: Any, *, if_match: str | None = None) -> Stored:
        """Stores a version under a known id: 201 for the first, 200 for any other.

        Raises:
            FhirError: As `update`.
        """
        if not ID.fullmatch(key):
            raise FhirError.of(400, "value", "Not a valid id.")
        with self.transaction():
            versions = self._versions.get((resource_type, key), [])
            current = Stored(200, versions[-1]).etag if versions else None
            if if_match is not None and if_match != current:
                raise FhirError.of(412, "conflict", "The resource is not at the version of If-Match.")
            check(resource, resource_type)
            stored = {**resource, "id": key}
            stored["meta"] = {
                **resource.get("meta", {}),
                "versionId": str(len(versions) + 1),
                "lastUpdated": self._clock().astimezone(UTC).isoformat(timespec="milliseconds"),
            }
            self._insert(stored)
            if self._undo is not None:
                self._undo.append((resource_type, key))
            return Stored(200 if versions else 201, stored)

    def _insert(self, resource: Resource) -> None:
        resource_type, key = resource["resourceType"], resource["id"]
        versions = self._versions.setdefault((resource_type, key), [])
        if versions:
            self._unindex(versions[-1])
        versions.append(resource)
        self._index(resource)
        if key.isascii() and key.isdecimal():
            # A client may choose a number for an id (PUT): ours go on after it.
            self._last_id = max(self._last_id, int(key))

    def _remove_newest(self, resource_type: str, key: str) -> None:
        versions = self._versions[resource_type, key]
        self._unindex(versions.pop())
        if versions:
            self._index(versions[-1])
        else:
            del self._versions[resource_type, key]

    def _index(self, resource: Resource) -> None:
        for _, value in _identifiers(resource):
            self._by_value[resource["resourceType"], value][resource["id"]] = None

    def _unindex(self, resource: Resource) -> None:
        for _, value in _identifiers(resource):
            self._by_value[resource["resourceType"], value].pop(resource["id"], None)

    def _with_identifier(self, resource_type: str, token: str) -> Sequence[str]:
        """Ids by token: `system|value`, `|value` (no system), `value` (any system), `system|` (any value)."""
        parts = [part.replace("\\|", "|").replace("\\,", ",") for part in _UNESCAPED_BAR.split(token, maxsplit=1)]
        system, value = (None, parts[0]) if len(parts) == 1 else (parts[0], parts[1])
        if value:
            keys = list(self._by_value.get((resource_type, value), ()))
        else:
            keys = [key for kind, key in self._versions if kind == resource_type]
        return [
            key
            for key in keys
            if any(
                system in {None, one_system} and value in {"", one_value}
                for one_system, one_value in _identifiers(self._versions[resource_type, key][-1])
            )
        ]


def _identifiers(resource: Resource) -> Iterator[tuple[str, str]]:
    """System (`""` when it has none) and value of what the `identifier` parameter searches.

    For a DocumentReference that is `masterIdentifier` as well; a Composition has one identifier, not a list.
    """
    given = resource.get("identifier", [])
    for one in [*(given if isinstance(given, list) else [given]), resource.get("masterIdentifier")]:
        if isinstance(one, dict) and isinstance(one.get("value"), str):
            yield str(one.get("system", "")), one["value"]


def _age(key: str) -> tuple[int, str]:
    return (int(key), "") if key.isascii() and key.isdecimal() else (0, key)
