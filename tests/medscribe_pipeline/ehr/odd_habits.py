"""What an `OddEhr` does: its habits, and what goes wrong once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["STATEMENT", "EntryFault", "Fault", "Habits", "Resource", "Seen"]

Resource = dict[str, Any]

STATEMENT: Resource = {
    "resourceType": "CapabilityStatement",
    "fhirVersion": "4.0.1",
    "software": {"name": "Odd", "version": "1"},
    "rest": [
        {
            "mode": "server",
            "interaction": [{"code": "transaction"}, {"code": "batch"}],
            "resource": [
                {
                    "type": name,
                    "interaction": [{"code": code} for code in ("create", "read", "update", "search-type")],
                    "conditionalCreate": True,
                    "versioning": "versioned-update",
                    "searchParam": [{"name": "identifier", "type": "token"}],
                }
                for name in ("Composition", "DocumentReference", "Provenance")
            ],
        }
    ],
}


@dataclass
class Habits:
    """What the server does.

    Attributes:
        statement: Status and body of `metadata`; the body as JSON value or bytes.
        smart: The same of the SMART configuration.
        conditional: Whether `If-None-Exist` and `ifNoneExist` are heeded.
        if_match: Whether `If-Match` is heeded.
        etags: Whether versions are told.
        identifiers: Whether identifiers are kept.
        dropped: Top-level elements that are not kept.
        header: Name of an idempotency header, in lower case, that is heeded.
        types: Resource types taken.
        bundles: Whether bundles are taken.
        content_types: Attachment types taken; any when empty.
        updates: Whether PUT is taken.
        failing: Answer every write with this status; 0 for none.
        token: Bearer token to insist on, save for metadata.
        commits_then: Status answered after a create was carried out; 0 for the true one.
        atomic: Whether a transaction is all or nothing; some carry it out as a batch.
        reads: Whether resources can be read by id.
        searches: Whether resources can be searched.
        stale: Status for an `If-Match` that does not fit.
        locations: Whether it is told where a created resource is.
        max_bytes: Largest request taken; 0 for any.
        refuses: Status for a resource; 0 takes it.
        strict: Whether one refused entry refuses the whole batch.
        shown: How a stored resource looks when it is asked for.
        searchset: What a search is answered with.
    """

    statement: tuple[int, Any] = (200, STATEMENT)
    smart: tuple[int, Any] = (404, b"")
    conditional: bool = True
    if_match: bool = True
    etags: bool = True
    identifiers: bool = True
    dropped: tuple[str, ...] = ()
    header: str = ""
    types: tuple[str, ...] = ("Composition", "DocumentReference", "Provenance")
    bundles: bool = True
    content_types: tuple[str, ...] = ()
    updates: bool = True
    failing: int = 0
    token: str | None = None
    commits_then: int = 0
    atomic: bool = True
    reads: bool = True
    searches: bool = True
    stale: int = 412
    locations: bool = True
    max_bytes: int = 0
    refuses: Callable[[Resource], int] = lambda _: 0
    strict: bool = False
    shown: Callable[[Resource], Resource] = lambda resource: resource
    searchset: Callable[[Resource], Any] = lambda found: found


@dataclass(frozen=True)
class EntryFault:
    """What goes wrong with one entry of a Bundle.

    Attributes:
        status: Answered for the entry.
        committed: Whether it was carried out nevertheless.
        reset_s: Wait that its OperationOutcome tells.
    """

    status: int
    committed: bool = False
    reset_s: int | None = None


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one write.

    Attributes:
        status: Answered instead of the true one; 0 for the true one.
        committed: Whether the request is carried out nevertheless.
        cut: The connection is closed instead of an answer.
        headers: Further headers of the answer.
        body: Body of the answer instead of the true one.
        entries: What goes wrong with single entries, by their place.
        edit: Changes the response Bundle before it is sent.
    """

    status: int = 0
    committed: bool = False
    cut: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    entries: Mapping[int, EntryFault] = field(default_factory=dict)
    edit: Callable[[Resource], object] | None = None


@dataclass
class Seen:
    """One request, and the status it was answered with; 0 for none."""

    method: str
    path: str
    headers: dict[str, str] = field(repr=False)
    body: Any = field(repr=False)
    answered: int = 0
