"""Note versions on their way to an `OddEhr`, without a warehouse: what the tests of sending begin with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.ehr.client import FhirClient
from medscribe_pipeline.ehr.ledger import Copy, Key, State
from medscribe_pipeline.ehr.sending import Shipment, Verdict
from medscribe_pipeline.ehr.strategies import open_strategy
from medscribe_pipeline.ehr.targets import Capabilities
from medscribe_pipeline.fhir import build_documents, version_identifier
from medscribe_pipeline.notes import NoteState, TranscriptTurn, content_hash
from medscribe_pipeline.providers.http import HttpClient
from medscribe_pipeline.settings import EhrSettings
from tests.fhir_options import options
from tests.medscribe_pipeline.ehr.clinic import NOW, edited

if TYPE_CHECKING:
    from datetime import datetime

    from medscribe_pipeline.notes import ScribeNote
    from tests.medscribe_pipeline.ehr.odd_ehr import OddEhr, Resource

__all__ = [
    "ALL_KINDS",
    "CANARIES",
    "COMPOSITION",
    "CONDITIONAL",
    "DOCUMENT",
    "IDEMPOTENCY",
    "PROVENANCE",
    "SAFE",
    "TRANSCRIPT",
    "WAYS",
    "Dock",
    "Sent",
    "abilities",
    "amended",
    "documents",
    "every_conditional_way",
    "every_safe_way",
    "every_way",
    "shipment",
    "shows_nothing",
    "spoken",
    "version_of_note",
    "withdrawn",
]

COMPOSITION, DOCUMENT, PROVENANCE, TRANSCRIPT = ALL_KINDS = (
    "Composition",
    "DocumentReference",
    "Provenance",
    "Transcript",
)
IDEMPOTENCY = "x-amz-fhir-idempotency-key"

# What is in every note, in every error of the server, and in every URL.
CANARIES = ("Cough", "Testperson", "urn:example:patients", "127.0.0.1")

CONDITIONAL = ("transaction", "batch", "single")
"""Ways of sending that go by conditions."""
SAFE = (*CONDITIONAL, "keyed")
"""Those that may send a create twice."""
WAYS = (*SAFE, "unconditional")

_HABITS: dict[str, dict[str, Any]] = {
    "transaction": {},
    "batch": {},
    "single": {},
    "keyed": {"strategy": "single", "conditional_create": False, "idempotency_header": IDEMPOTENCY, "if_match": False},
    "unconditional": {"conditional_create": False},
}


def abilities(way: str, **changes: Any) -> Capabilities:
    """What a target can do, by its way of sending: a strategy, or `keyed` (`single` with idempotency keys)."""
    return Capabilities(**{"strategy": way, **_HABITS[way], **changes})


def amended(base: ScribeNote, text: str = "Cough for four days.") -> ScribeNote:
    """A later version of a note that was signed."""
    changed_at = base.updated_at and base.updated_at + timedelta(hours=1)
    return replace(edited(base, text), amends=base.version, updated_at=changed_at)


def withdrawn(base: ScribeNote) -> ScribeNote:
    """The note taken back at its source."""
    return replace(amended(base), state=NoteState.RETRACTED, version=content_hash([base.version, "withdrawn"]))


def spoken(base: ScribeNote) -> ScribeNote:
    """The same with what was said."""
    return replace(base, transcript=(TranscriptTurn("Cough, since Friday.", "patient"),))


def documents(source: ScribeNote, kinds: tuple[str, ...] = (COMPOSITION, DOCUMENT), **how: Any) -> dict[str, Resource]:
    """The documents of a note version, as far as a target takes them."""
    built = build_documents(source, options(transcripts=True, **how)).resources()
    return {kind: built[kind] for kind in kinds if kind in built}


def shipment(
    source: ScribeNote,
    kinds: tuple[str, ...] = (COMPOSITION, DOCUMENT),
    *,
    after: Sent | None = None,
    without: tuple[str, ...] = (),
    **how: Any,
) -> Shipment:
    """A note version, ready to leave.

    Args:
        source: The note.
        kinds: Its documents.
        after: What stands there of an earlier version.
        without: Elements the target does not take.
        how: Build options.
    """
    built = documents(source, kinds, **how)
    resources = {
        kind: {name: part for name, part in resource.items() if name not in without} for kind, resource in built.items()
    }
    standing = dict(after.verdict.copies) if after else None
    key = Key("ehr", str(source.note_id), source.version)
    return Shipment(key, resources, standing, after.shipment.key.version if after else None)


every_way = pytest.mark.parametrize("way", WAYS)
every_safe_way = pytest.mark.parametrize("way", SAFE)
every_conditional_way = pytest.mark.parametrize("way", CONDITIONAL)


@dataclass(frozen=True)
class Sent:
    """A shipment and what became of it."""

    shipment: Shipment
    verdict: Verdict

    @property
    def outcome(self) -> tuple[State, str]:
        return self.verdict.state, self.verdict.reason


@dataclass
class Dock:
    """A server, a client whose clock moves only when it waits, and what happened on the way."""

    server: OddEhr
    max_attempts: int = 1
    slept: list[float] = field(default_factory=list)
    points: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings = EhrSettings(
            base_url=self.server.base_url, max_attempts=self.max_attempts, backoff_s=0, timeout_s=5, max_wait_s=30
        )
        self.http = HttpClient("ehr", self.server.base_url, settings, clock=self, sleep=self._sleep)
        self.client = FhirClient(self.http)

    def close(self) -> None:
        self.http.close()

    def now(self) -> datetime:
        return NOW + timedelta(seconds=sum(self.slept))

    def monotonic(self) -> float:
        return sum(self.slept)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def heed(self, way: str) -> None:
        """The server is one for which this way of sending is right."""
        self.server.does.bundles = way in ("transaction", "batch")
        self.server.does.conditional = way in CONDITIONAL
        self.server.does.header = IDEMPOTENCY if way == "keyed" else ""

    def versions(self, kind: str = DOCUMENT) -> list[int]:
        """How many versions there are of each resource of a type."""
        return [len(each) for (type_, _), each in self.server.store.items() if type_ == kind]

    def deliver(self, able: Capabilities, *leaving: Shipment) -> list[Sent]:
        verdicts = open_strategy(able, self.client, self.points.append).deliver(leaving)
        return [Sent(each, verdict) for each, verdict in zip(leaving, verdicts, strict=True)]

    def send(self, able: Capabilities, source: ScribeNote, after: Sent | None = None, **how: Any) -> Sent:
        """Delivers one version of one note, all kinds the target takes."""
        (sent,) = self.deliver(able, shipment(source, able.kinds, after=after, **how))
        return sent

    def again(self, able: Capabilities, sent: Sent, copies: dict[str, Copy] | None = None) -> Sent:
        """Delivers the same once more, save for what is known to be there."""
        done = dict(copies if copies is not None else sent.verdict.copies)
        (result,) = self.deliver(able, replace(sent.shipment, done=done))
        return result

    def look_up(self, able: Capabilities, sent: Sent) -> Sent:
        """Asks after it."""
        leaving = sent.shipment
        found = open_strategy(able, self.client, self.points.append).look_up(leaving.resources, leaving.standing)
        return Sent(leaving, found)

    def of_version(self, source: ScribeNote, kind: str = DOCUMENT) -> list[Resource]:
        """What the server holds of this very version."""
        return [each for each in self.server.newest(kind) if version_of_note(source) in str(each)]


def version_of_note(source: ScribeNote) -> str:
    """The identifier of this version."""
    return version_identifier(source.note_id, source.version)


def shows_nothing(sent: Sent) -> None:
    """Nothing of what a verdict keeps or prints is about a patient, or says where the server is."""
    verdict = sent.verdict
    error = verdict.error
    behind = (error, error.__cause__, error.__context__) if error is not None else ()
    printed = [verdict.reason, *verdict.codes, repr(verdict), repr(sent.shipment)]
    printed += [text for each in behind for text in (str(each), repr(each))]
    for canary in CANARIES:
        assert not any(canary in text for text in printed), canary
