"""Sending in rounds, until every document of every note is settled: what all strategies have in common.

A round asks each parcel what comes next, sends that, and settles what comes back. One round is enough as a rule. More
follow when a create finds an older version (which is then replaced), when a Provenance needs the ids of what it is
about, when an older document is to be marked as superseded, and when a server puts entries off.

What is sent together, and how, is all that a strategy decides.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar

from medscribe_pipeline.ehr.comparing import is_newer, note_identifier_of, same_version, version_of
from medscribe_pipeline.ehr.ledger import Copy, State
from medscribe_pipeline.ehr.outcomes import same_etag
from medscribe_pipeline.ehr.sending import CANNOT_BE_ASKED, CHANGED_IN_EHR, LOOKUP_FAILED, SEVERAL_MATCHES, Verdict
from medscribe_pipeline.ehr.strategies.looking import is_left_behind, look_up, seek
from medscribe_pipeline.ehr.strategies.parcel import (
    ANSWER_MIXED_UP,
    DONE,
    NEWER_IN_EHR,
    OTHER_VERSION_IN_EHR,
    REFUSED,
    SUPERSEDING_REFUSED,
    Parcel,
    fate_of_error,
    fate_of_status,
    put_off,
    throttled,
)
from medscribe_pipeline.ehr.strategies.preparing import prepare
from medscribe_pipeline.ehr.strategies.steps import (
    LINKED,
    PROVENANCE,
    Step,
    addresses_of,
    is_replacement,
    replaces_in_place,
    step_for,
)
from medscribe_pipeline.errors import ConfigError, MedscribeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from medscribe_pipeline.ehr.client import EntryOutcome, FhirClient, Found
    from medscribe_pipeline.ehr.sending import Shipment
    from medscribe_pipeline.ehr.targets import Capabilities

    Reply = EntryOutcome | MedscribeError | None
    """What came of a step; `None`: it was not sent, because nothing could be."""

__all__ = ["Rounds"]

MOST_ROUNDS = 24
"""A note has four documents at most, each of which may take a create, an update and some waiting."""

MOST_TRIES = 3
"""So often may a server put off the entries of a note in one delivery."""


class Rounds(ABC):
    """A way of sending; one object serves all threads.

    Args:
        capabilities: What the target can do.
        client: The target.
        checkpoint: Called with a name at every point where a process might die: `request` before and `response` after
            each request that writes.
    """

    atomic: ClassVar[bool] = False
    """Whether the documents of a note happen together or not at all."""

    def __init__(self, capabilities: Capabilities, client: FhirClient, checkpoint: Callable[[str], None]) -> None:
        self._capabilities = capabilities
        self._client = client
        self._checkpoint = checkpoint

    @property
    @abstractmethod
    def notes_per_request(self) -> int:
        """So many notes are best delivered together."""

    @abstractmethod
    def _exchange(self, wave: Sequence[tuple[Parcel, Step]]) -> list[Reply]:
        """Sends steps, each once, and says what came of each."""

    @abstractmethod
    def _next(self, parcel: Parcel) -> list[Step]:
        """What of a parcel is sent in the next round."""

    def deliver(self, shipments: Sequence[Shipment]) -> list[Verdict]:
        """Delivers note versions, no two of the same note; never raises one of our errors, the verdicts carry them.

        Returns:
            A verdict for each shipment, in the same order.
        """
        started = time.perf_counter()
        parcels = [Parcel.of(shipment) for shipment in shipments]
        for parcel in parcels:
            prepare(self._client, self._capabilities, parcel)
        for _ in range(MOST_ROUNDS):
            wave = [(parcel, step) for parcel in parcels if not parcel.stopped for step in self._next(parcel)]
            if not wave:
                break
            for (parcel, step), reply in zip(wave, self._exchange(wave), strict=True):
                self._settle(parcel, step, reply)
        seconds = time.perf_counter() - started
        return [parcel.verdict(atomic=self.atomic, seconds=seconds) for parcel in parcels]

    def look_up(self, resources: Mapping[str, dict[str, Any]], standing: Mapping[str, Copy] | None = None) -> Verdict:
        """Asks the server whether it holds this very version of a note; never raises one of our errors.

        Args:
            resources: The documents of the version, fitted to the target.
            standing: What an earlier version has left there, see `Shipment`. Without it, what cannot be searched cannot
                be asked after.

        Returns:
            See `looking.look_up`.
        """
        return look_up(self._client, self._capabilities, resources, standing or {})

    # What is sent

    def _step(self, parcel: Parcel, kind: str) -> Step:
        return step_for(
            parcel.shipment,
            kind,
            self._capabilities,
            parcel.standing,
            self._addresses(parcel) if kind in LINKED else {},
            in_place=kind in parcel.in_place,
        )

    def _addresses(self, parcel: Parcel) -> dict[tuple[str, str, str], str]:
        """Where the documents of the version are, by identifier, as far as that is known."""
        addresses: dict[tuple[str, str, str], str] = {}
        for kind, resource in parcel.shipment.resources.items():
            address = self._address(parcel, kind) if kind != PROVENANCE else None
            if address is not None:
                addresses |= addresses_of(resource, address)
        return addresses

    def _address(self, parcel: Parcel, kind: str) -> str | None:
        """Where another document of the version is, if that is known before it is sent."""
        resource = parcel.shipment.resources[kind]
        copy = parcel.copies.get(kind)
        if copy is None and (kind in parcel.in_place or replaces_in_place(resource, kind, self._capabilities)):
            copy = parcel.standing.get(kind)
        return f"{resource['resourceType']}/{copy.server_id}" if copy is not None and copy.server_id else None

    def _later(self, parcel: Parcel) -> list[Step]:
        """What comes when the documents are there: their Provenance, and then what they supersede."""
        if parcel.fates:
            return []
        if parcel.open:
            return [self._step(parcel, kind) for kind in parcel.open]
        return [parcel.superseding] if parcel.superseding is not None else []

    # What comes back

    def _settle(self, parcel: Parcel, step: Step, reply: Reply) -> None:
        if reply is None:
            parcel.stopped = True
        elif isinstance(reply, MedscribeError):
            self._settle_error(parcel, step, reply)
        elif throttled(reply):
            self._settle_later(parcel, step, reply)
        elif step.supersedes:
            parcel.superseding = None
            if reply.status not in DONE:
                parcel.notes.append(SUPERSEDING_REFUSED)
        else:
            try:
                self._settle_document(parcel, step, reply)
            except MedscribeError as error:
                codes = (str(reply.status), *reply.codes)
                parcel.fail(step.kind, Verdict(State.UNKNOWN, LOOKUP_FAILED, codes=codes, error=error))

    def _settle_error(self, parcel: Parcel, step: Step, error: MedscribeError) -> None:
        if not step.supersedes:
            parcel.fail(step.kind, fate_of_error(error))
        elif isinstance(error, ConfigError) and error.status == HTTPStatus.FORBIDDEN:
            # Writing new documents may be all we are allowed; then the server has relatesTo to go by.
            parcel.superseding = None
            parcel.notes.append(SUPERSEDING_REFUSED)
        else:
            # The note is there; this alone is tried again, and does no harm twice.
            parcel.error = error
            parcel.stopped = True

    def _settle_later(self, parcel: Parcel, step: Step, outcome: EntryOutcome) -> None:
        parcel.tries += 1
        self._client.hold(outcome.retry_after_s)
        if parcel.tries <= MOST_TRIES * len(parcel.shipment.resources):
            return
        late = put_off(outcome)
        if step.supersedes:
            parcel.error, parcel.stopped = late.error, True
        else:
            parcel.fail(step.kind, late)

    def _settle_document(self, parcel: Parcel, step: Step, outcome: EntryOutcome) -> None:
        codes = (str(outcome.status), *outcome.codes)
        if outcome.status in DONE or self._is_known_by_key(step, outcome):
            self._settle_done(parcel, step, outcome, codes)
        elif outcome.status in (HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED):
            self._settle_contested(parcel, step, outcome.status, codes)
        else:
            parcel.fail(step.kind, fate_of_status(outcome.status, codes))

    def _is_known_by_key(self, step: Step, outcome: EntryOutcome) -> bool:
        """A server with idempotency keys answers a repeated create with 409 and what it created the first time."""
        key = self._capabilities.idempotency_header
        return key is not None and step.method == "POST" and outcome.status == HTTPStatus.CONFLICT and bool(outcome.id)

    def _settle_done(self, parcel: Parcel, step: Step, outcome: EntryOutcome, codes: tuple[str, ...]) -> None:
        elsewhere = step.method == "PUT" and outcome.id not in (None, step.server_id)
        if elsewhere or outcome.type not in (None, step.type):
            # The answer is about something else; whose it is, nobody can say.
            parcel.fail(step.kind, Verdict(State.UNKNOWN, ANSWER_MIXED_UP, codes=codes))
        elif step.method == "PUT":
            parcel.finish(step.kind, Copy(step.server_id, outcome.etag, codes))
        elif outcome.id is None:
            parcel.fail(step.kind, Verdict(State.UNKNOWN, "no_location", codes=codes))
        elif outcome.status == HTTPStatus.CONFLICT or (step.condition is not None and outcome.status == HTTPStatus.OK):
            self._settle_matched(parcel, step, outcome, codes)
        else:
            parcel.finish(step.kind, Copy(outcome.id, outcome.etag, codes))

    def _settle_matched(self, parcel: Parcel, step: Step, outcome: EntryOutcome, codes: tuple[str, ...]) -> None:
        """The document was there already, from an earlier life of the warehouse: this version, or one to replace."""
        resource = parcel.shipment.resources[step.kind]
        held = self._held(step, outcome)
        by_key = outcome.status == HTTPStatus.CONFLICT
        if held is None and not self._capabilities.read and (by_key or is_replacement(step.kind, self._capabilities)):
            parcel.finish(step.kind, Copy(outcome.id, outcome.etag, codes))
        elif held is None:
            reason = "vanished" if self._capabilities.read or self._capabilities.search else CANNOT_BE_ASKED
            parcel.fail(step.kind, Verdict(State.UNKNOWN, reason, codes=codes))
        elif same_version(resource, held.resource):
            self._settle_this_version(parcel, step, held, codes)
        elif is_newer(held.resource, resource):
            parcel.fail(step.kind, Verdict(State.REJECTED, NEWER_IN_EHR, codes=codes))
        elif by_key and version_of(resource) is None:
            # The key is of this version; nothing else tells, and words may be somebody's who has edited it since.
            parcel.finish(step.kind, Copy(held.id, held.etag, codes))
        elif self._capabilities.amendment == "hold" and resource.get("status") != "entered-in-error":
            parcel.fail(step.kind, Verdict(State.REJECTED, OTHER_VERSION_IN_EHR, codes=codes))
        else:
            self._replace(parcel, step, held, codes)

    def _settle_this_version(self, parcel: Parcel, step: Step, held: Found, codes: tuple[str, ...]) -> None:
        """It is there; but is it still, or only again, what we want it to be?"""
        resource = parcel.shipment.resources[step.kind]
        if _same_status(resource, held):
            parcel.finish(step.kind, Copy(held.id, held.etag, codes))
        elif is_left_behind(resource, held, parcel.standing.get(step.kind)):
            self._replace(parcel, step, held, codes)
        else:
            # The EHR has moved on from it, and that is not ours to undo.
            reason = NEWER_IN_EHR if held.resource.get("status") == "superseded" else CHANGED_IN_EHR
            parcel.fail(step.kind, Verdict(State.REJECTED, reason, codes=codes))

    def _replace(self, parcel: Parcel, step: Step, held: Found, codes: tuple[str, ...]) -> None:
        """What the create found is replaced in the next round."""
        parcel.notes += codes
        parcel.standing[step.kind] = Copy(held.id, held.etag)
        parcel.in_place.add(step.kind)

    def _held(self, step: Step, outcome: EntryOutcome) -> Found | None:
        """What the server already had, which may be another version: it is found by what the create asked for."""
        if self._capabilities.read:
            return self._client.read(step.type, outcome.id or "")
        by_version = is_replacement(step.kind, self._capabilities)
        known = None if by_version else note_identifier_of(step.resource)
        known = known or version_of(step.resource)
        if known is None or not self._capabilities.search:
            return None
        return next((each for each in self._client.search(step.type, *known) if each.id == outcome.id), None)

    def _settle_contested(self, parcel: Parcel, step: Step, status: int, codes: tuple[str, ...]) -> None:
        """Something stands in the way (409, 412): somebody else's change, a race, or our own write of before."""
        resource = parcel.shipment.resources[step.kind]
        held, contested = self._what_stands(parcel, step, status)
        if held is not None and _same_status(resource, held):
            parcel.finish(step.kind, Copy(held.id, held.etag, codes))
        elif contested:
            # Somebody else is at it, or was just now: see what is there, then try again.
            parcel.fail(step.kind, Verdict(State.UNKNOWN, "conflict", codes=codes))
        else:
            parcel.fail(step.kind, Verdict(State.REJECTED, _reason(step), codes=codes))

    def _what_stands(self, parcel: Parcel, step: Step, status: int) -> tuple[Found | None, bool]:
        """This version, if it is there; if not, whether it is worth another try."""
        resource = parcel.shipment.resources[step.kind]
        conflict = status == HTTPStatus.CONFLICT
        if step.kind == PROVENANCE:
            # It asks for nothing that could fail, so in a transaction it is not what the server minds.
            sought = seek(self._client, self._capabilities, step.kind, resource)
            return sought.there, conflict or self.atomic
        if step.method == "PUT" and self._capabilities.read:
            held = self._client.read(step.type, step.server_id or "")
            if held is None:
                return None, False
            untouched = step.if_match is None or (held.etag is not None and same_etag(held.etag, step.if_match))
            there = held if same_version(resource, held.resource) else None
            return there, untouched and (conflict or self.atomic)
        sought = seek(self._client, self._capabilities, step.kind, resource, parcel.standing.get(step.kind))
        return sought.there, conflict and not sought.several


def _reason(step: Step) -> str:
    """Why a write is refused for the condition it was sent under, if it had one."""
    if step.kind == PROVENANCE:
        return REFUSED
    if step.method == "PUT":
        return CHANGED_IN_EHR
    return SEVERAL_MATCHES if step.condition else REFUSED


def _same_status(resource: Mapping[str, Any], held: Found) -> bool:
    """Whether what is there is as current as what we send."""
    return resource.get("status") == held.resource.get("status")
