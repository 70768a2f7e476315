"""What an endpoint can do, and how it says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Abilities"]

_KINDS = ("Composition", "DocumentReference", "Provenance", "Patient", "Practitioner", "Encounter")


@dataclass(frozen=True)
class Abilities:
    """Each may be switched off.

    Attributes:
        transaction: All or nothing for a Bundle.
        batch: Each entry of a Bundle on its own.
        conditional_create: `If-None-Exist` and `ifNoneExist` are heeded; without, they are ignored, as real servers do.
        if_match: `If-Match` and `ifMatch` are heeded; without, they are ignored.
        etags: Versions are told.
        search: Search by identifier, and of encounters by patient and date.
        read: Read by id.
        update: `PUT`, with ids of the client's too.
        composition: Compositions are taken.
        token: A bearer token is needed, which `POST .../token` gives for any client.
        says_so: The CapabilityStatement tells the truth; without, it lists no types.
    """

    transaction: bool = True
    batch: bool = True
    conditional_create: bool = True
    if_match: bool = True
    etags: bool = True
    search: bool = True
    read: bool = True
    update: bool = True
    composition: bool = True
    token: bool = False
    says_so: bool = True

    @property
    def kinds(self) -> tuple[str, ...]:
        """Resource types taken."""
        return tuple(kind for kind in _KINDS if kind != "Composition" or self.composition)

    def statement(self) -> dict[str, Any]:
        """The CapabilityStatement."""
        rest: dict[str, Any] = {"mode": "server"}
        if self.says_so:
            system = [code for code in ("transaction", "batch") if getattr(self, code)]
            rest["interaction"] = [{"code": code} for code in system] or [{"code": "history-system"}]
            rest["resource"] = [self._of_type(kind) for kind in self.kinds]
        return {
            "resourceType": "CapabilityStatement",
            "status": "active",
            "date": "2026-01-01",
            "kind": "instance",
            "fhirVersion": "4.0.1",
            "format": ["application/fhir+json"],
            "software": {"name": "FHIR server of the tests"},
            "rest": [rest],
        }

    def _of_type(self, kind: str) -> dict[str, Any]:
        able = {"read": self.read, "create": True, "update": self.update, "search-type": self.search}
        return {
            "type": kind,
            "interaction": [{"code": code} for code, yes in able.items() if yes],
            "versioning": "versioned-update" if self.if_match and self.etags else "no-version",
            "conditionalCreate": self.conditional_create,
            "conditionalUpdate": False,
            "updateCreate": self.update,
            **({"searchParam": [{"name": "identifier", "type": "token"}]} if self.search else {}),
        }
