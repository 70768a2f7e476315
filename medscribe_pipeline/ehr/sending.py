"""Sending one note version and asking after one: pure bundles, the requests, and what their outcome means.

Nothing here touches the warehouse, so it runs in any thread.

First delivery is a conditional create by the identifier of the note through all its versions: whatever this
warehouse has forgotten, the server holds at most one Composition and one DocumentReference for a note. Later
versions update these by id with the ETag we left, so that nothing somebody changed in the EHR is overwritten.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from medscribe_pipeline.ehr.client import carries, outcome_codes, provably_unsent
from medscribe_pipeline.ehr.ledger import COMPOSITION, DOCUMENT_REFERENCE, KINDS, Copy, Key, State
from medscribe_pipeline.errors import ConfigError, Deferred, MedscribeError
from medscribe_pipeline.fhir import VERSION_SYSTEM, version_identifier
from medscribe_pipeline.providers.http import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medscribe_pipeline.ehr.client import EntryOutcome, FhirClient

__all__ = ["Shipment", "Verdict", "create_bundle", "identifier_of", "judge", "look_up", "send", "update_bundle"]

_PRECONDITION = "precondition"
_STOPPING = frozenset({"throttled", "stopped", "redirect", "path"})
CHANGED_IN_EHR = "changed_in_ehr"
SEVERAL_MATCHES = "several_matches"
LOOKUP_FAILED = "lookup_failed"
CANNOT_BE_ASKED = "cannot_be_asked"


@dataclass(frozen=True, slots=True)
class Shipment:
    """One note version, ready to leave.

    Attributes:
        key: Its ledger key.
        resources: The FHIR JSON by kind, fitted to the target, in the order it is sent; never changed.
        standing: What an earlier version has left on the server, by kind; `None` the first time.
        standing_version: The version the standing DocumentReference is of.
        done: What of this very version is there already; it is not sent again.
    """

    key: Key
    resources: Mapping[str, dict[str, Any]] = field(repr=False)
    standing: Mapping[str, Copy] | None = None
    standing_version: str | None = None
    done: Mapping[str, Copy] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a request or a look-up says about a note version.

    Attributes:
        state: `DELIVERED`: all of it is there. `PLANNED`: what is not in `copies` is surely not there. `UNKNOWN`: that
            may be there or not. `REJECTED`: the server will not have it, or a person must decide.
        reason: Why, for rejected and unknown.
        copies: What is there for certain, by kind; the whole, for delivered.
        codes: HTTP status, issue codes and element paths of the answers.
        error: What went wrong between us and the server, where something did. Verdicts that share a request share
            the error: it happened once.
        seconds: How long the request took, or the requests; 0 for a look-up.
    """

    state: State
    reason: str = ""
    copies: Mapping[str, Copy] = field(default_factory=dict)
    codes: tuple[str, ...] = ()
    error: MedscribeError | None = None
    seconds: float = 0.0

    @property
    def stops(self) -> bool:
        """Whether sending anything else now is pointless or impolite."""
        if self.error is None or self.state is not State.PLANNED:
            return False
        return isinstance(self.error, (ConfigError, Deferred)) or self.error.code in _STOPPING


def create_bundle(shipment: Shipment) -> dict[str, Any]:
    """A transaction that creates both resources unless the note is there already.

    The condition is one identifier and nothing else: every server with conditional create knows that much.
    """
    system, value = identifier_of(shipment.resources[COMPOSITION])
    condition = f"identifier={quote(f'{system}|{value}', safe=':/')}"
    entries = []
    for kind in KINDS:
        request = {"method": "POST", "url": kind, "ifNoneExist": condition}
        # A server may take an id on POST for its own, or refuse it.
        resource = {name: part for name, part in shipment.resources[kind].items() if name != "id"}
        entries.append({"fullUrl": _full_url(shipment, kind), "resource": resource, "request": request})
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def update_bundle(shipment: Shipment, standing: Mapping[str, Copy]) -> dict[str, Any]:
    """A transaction that replaces the server's copies, each only if it is still the one that ETag names.

    `relatesTo` is left out. It says which version an amended document replaces, by that version's identifier; here
    the two are one resource, and the update itself replaces it: the server keeps the earlier version as history.
    A resource that replaces itself, by an identifier no resource has any more, would be a riddle to every reader,
    and to a document registry an error. `status` and `docStatus` say what there is to say: current, amended.
    """
    entries = []
    for kind in KINDS:
        server_id, etag = standing[kind].server_id, standing[kind].etag
        request = {"method": "PUT", "url": f"{kind}/{server_id}", **({"ifMatch": etag} if etag else {})}
        parts = {name: part for name, part in shipment.resources[kind].items() if name != "relatesTo"}
        resource = {**parts, "id": server_id}
        entries.append({"fullUrl": _full_url(shipment, kind), "resource": resource, "request": request})
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def send(client: FhirClient, shipment: Shipment) -> Verdict:
    """Delivers one note version; never raises one of our errors, the verdict carries it."""
    started = time.perf_counter()
    try:
        if shipment.standing is None:
            verdict = _create(client, shipment)
        else:
            verdict = _update(client, shipment, _with_etags(client, shipment, shipment.standing))
    except _ChangedError:
        verdict = Verdict(State.REJECTED, CHANGED_IN_EHR)
    except MedscribeError as error:
        verdict = _failure(error)
    return replace(verdict, seconds=time.perf_counter() - started)


def look_up(client: FhirClient, key: Key, note_identifier: tuple[str, str]) -> Verdict:
    """Asks the server whether it holds this very version of the note.

    Returns:
        `DELIVERED` with the server's copies, `PLANNED` when it surely is not there, `REJECTED` when there are
        several, or `UNKNOWN` with the error when the server would not tell.
    """
    try:
        documents = client.search(DOCUMENT_REFERENCE, VERSION_SYSTEM, _version(key))
        compositions = client.search(COMPOSITION, *note_identifier)
    except MedscribeError as error:
        return Verdict(State.UNKNOWN, LOOKUP_FAILED, error=error)
    if len(documents) > 1 or len(compositions) > 1:
        return Verdict(State.REJECTED, SEVERAL_MATCHES, codes=("looked_up",))
    if not documents or not compositions:
        return Verdict(State.PLANNED)
    found = {DOCUMENT_REFERENCE: documents[0], COMPOSITION: compositions[0]}
    copies = {kind: Copy(each.id, each.etag, ("looked_up",)) for kind, each in found.items()}
    return Verdict(State.DELIVERED, copies=copies)


def judge(outcomes: Sequence[EntryOutcome], standing: Mapping[str, Copy] | None = None) -> Verdict:
    """What the outcomes of both entries say together.

    Args:
        outcomes: As the server gave them, in the order of `KINDS`.
        standing: What was updated, for servers that do not repeat the id.
    """
    if len(outcomes) != len(KINDS):
        return Verdict(State.UNKNOWN, "answer_incomplete")
    codes = tuple(dict.fromkeys(code for each in outcomes for code in (str(each.status), *each.codes)))
    statuses = [each.status for each in outcomes]
    if all(status in _DONE for status in statuses):
        copies = {
            kind: Copy(each.id or (standing[kind].server_id if standing else None), each.etag, (str(each.status),))
            for kind, each in zip(KINDS, outcomes, strict=True)
        }
        if any(copy.server_id is None for copy in copies.values()):
            return Verdict(State.UNKNOWN, "no_location", codes=codes)
        return Verdict(State.DELIVERED, copies=copies, codes=codes)
    refusing = [status for status in statuses if status not in _DONE]
    # One entry done and the other refused: the server is no transaction server after all. Look first.
    return replace(_of_status(max(refusing, key=_severity)), codes=codes)


_MATCHED = (str(HTTPStatus.OK.value),)
_DONE = frozenset({HTTPStatus.OK, HTTPStatus.CREATED})
_UNDECIDED = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})


def _of_status(status: int) -> Verdict:
    """What one status means that is no success, inside a bundle or for the whole of it."""
    if status == HTTPStatus.PRECONDITION_FAILED:
        return Verdict(State.UNKNOWN, _PRECONDITION)
    if status == HTTPStatus.CONFLICT:
        # Somebody else is at it, or was just now: see what is there, then try again.
        return Verdict(State.UNKNOWN, "conflict")
    refused = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _UNDECIDED
    return Verdict(State.REJECTED, "refused") if refused else Verdict(State.UNKNOWN, "entry_failed")


def _severity(status: int) -> int:
    """A refusal outweighs a conflict outweighs a failed precondition outweighs what may pass by itself."""
    verdict = _of_status(status)
    order = ("entry_failed", _PRECONDITION, "conflict", "refused")
    return order.index(verdict.reason)


def _failure(error: MedscribeError) -> Verdict:
    """What an error of the HTTP client means for the request it ended."""
    if isinstance(error, Refused):
        codes = (str(error.status), *outcome_codes(error.answer.body))
        return replace(_of_status(error.status or 0), codes=codes)
    codes = (str(error.status),) if error.status else (error.code,)
    if provably_unsent(error):
        return Verdict(State.PLANNED, codes=codes, error=error)
    return Verdict(State.UNKNOWN, error.code, codes=codes, error=error)


def _post(client: FhirClient, bundle: dict[str, Any], standing: Mapping[str, Copy] | None = None) -> Verdict:
    try:
        return judge(client.bundle(bundle), standing)
    except MedscribeError as error:
        return _failure(error)


def _create(client: FhirClient, shipment: Shipment) -> Verdict:
    verdict = _post(client, create_bundle(shipment))
    if verdict.reason == _PRECONDITION:
        found = look_up(client, shipment.key, identifier_of(shipment.resources[COMPOSITION]))
        if found.state is State.PLANNED:
            return replace(verdict, state=State.REJECTED, reason=SEVERAL_MATCHES)
        return found
    if any(copy.codes == _MATCHED for copy in verdict.copies.values()):
        return _take_over(client, shipment, verdict)
    return verdict


def _take_over(client: FhirClient, shipment: Shipment, verdict: Verdict) -> Verdict:
    """The note was there already, from an earlier life of the warehouse: this version, or one to be replaced."""
    try:
        document = client.read(DOCUMENT_REFERENCE, verdict.copies[DOCUMENT_REFERENCE].server_id or "")
        composition = client.read(COMPOSITION, verdict.copies[COMPOSITION].server_id or "")
    except MedscribeError as error:
        return Verdict(State.UNKNOWN, LOOKUP_FAILED, codes=verdict.codes, error=error)
    if document is None or composition is None:
        return Verdict(State.UNKNOWN, "vanished", codes=verdict.codes)
    found = {DOCUMENT_REFERENCE: document, COMPOSITION: composition}
    copies = {kind: Copy(each.id, each.etag, verdict.copies[kind].codes) for kind, each in found.items()}
    # A Composition names no version. When only the DocumentReference is new, what is in the other nobody knows.
    was_there = verdict.copies[DOCUMENT_REFERENCE].codes == _MATCHED
    if was_there and carries(document.resource, VERSION_SYSTEM, _version(shipment.key)):
        return replace(verdict, copies=copies)
    return _update(client, shipment, copies)


def _update(client: FhirClient, shipment: Shipment, standing: Mapping[str, Copy]) -> Verdict:
    verdict = _post(client, update_bundle(shipment, standing), standing)
    if verdict.reason == _PRECONDITION:
        # Somebody changed it; or it was us, and the answer was lost.
        found = look_up(client, shipment.key, identifier_of(shipment.resources[COMPOSITION]))
        if found.state is State.PLANNED:
            return replace(verdict, state=State.REJECTED, reason=CHANGED_IN_EHR)
        return found
    return verdict


class _ChangedError(Exception):
    """Internal: the server's copy is not the version we left."""


def _with_etags(client: FhirClient, shipment: Shipment, standing: Mapping[str, Copy]) -> Mapping[str, Copy]:
    """Asks for ETags a server did not give when we wrote; it must still hold the version we left then.

    Raises:
        _ChangedError: It holds another one.
        MedscribeError: Reading failed.
    """
    if all(copy.etag for copy in standing.values()):
        return standing
    copies = {}
    for kind, copy in standing.items():
        found = client.read(kind, copy.server_id or "")
        left = _version(shipment.key._replace(version=shipment.standing_version or ""))
        if found is None or (kind == DOCUMENT_REFERENCE and not carries(found.resource, VERSION_SYSTEM, left)):
            raise _ChangedError
        copies[kind] = Copy(found.id, found.etag)
    return copies


def identifier_of(composition: Mapping[str, Any]) -> tuple[str, str]:
    """System and value of the note's identifier, which its Composition has: alone in R4, in a list in R5."""
    listed = composition["identifier"]
    identifier = listed[0] if isinstance(listed, list) else listed
    return identifier["system"], identifier["value"]


def _version(key: Key) -> str:
    return version_identifier(uuid.UUID(key.note_id), key.version)


def _full_url(shipment: Shipment, kind: str) -> str:
    """Where the entry could be referred to inside the bundle. Derived, so that the bytes are the same each time."""
    return uuid.uuid5(uuid.UUID(shipment.key.note_id), kind).urn
