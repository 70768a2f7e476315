"""One note version on its way: what of it is done, what is not, and the verdict that follows.

Each document has a fate of its own. What the server confirmed is done; nothing else is. Of what is not done, one that
may have happened makes the whole unknown, and is looked up before anything is sent again. In a transaction all happens
or nothing, so there a refusal of one says that the others did not happen either.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from medscribe_pipeline.ehr.client import outcome_codes, provably_unsent
from medscribe_pipeline.ehr.ledger import Copy, State
from medscribe_pipeline.ehr.sending import CHANGED_IN_EHR, SEVERAL_MATCHES, Verdict
from medscribe_pipeline.errors import Retriable
from medscribe_pipeline.providers.http import Refused, Unsettled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medscribe_pipeline.ehr.client import EntryOutcome
    from medscribe_pipeline.ehr.sending import Shipment
    from medscribe_pipeline.ehr.strategies.steps import Step
    from medscribe_pipeline.errors import MedscribeError

__all__ = [
    "ANSWER_MIXED_UP",
    "DONE",
    "NEWER_IN_EHR",
    "OTHER_VERSION_IN_EHR",
    "REFUSED",
    "REPLACED_WAS_CHANGED",
    "SUPERSEDING_REFUSED",
    "VERSION_UNKNOWN",
    "Parcel",
    "accounted_for",
    "fate_of_error",
    "fate_of_status",
    "put_off",
    "throttled",
]

# Why a note is refused. A person reads these, and looks them up in the documentation.
NEWER_IN_EHR = "newer_in_ehr"
OTHER_VERSION_IN_EHR = "other_version_in_ehr"
REFUSED = "refused"
TOO_LARGE = "too_large"
VERSION_UNKNOWN = "version_unknown"
# Why nobody can say.
ANSWER_MIXED_UP = "answer_mixed_up"
# What else there is to say of one that arrived.
REPLACED_WAS_CHANGED = "replaced_was_changed"
SUPERSEDING_REFUSED = "superseding_refused"

DONE = frozenset({HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT})
"""What says that it is there."""

_UNDECIDED = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY})
# Of several reasons to refuse a note, the one a person has to know first.
_REASONS = (CHANGED_IN_EHR, NEWER_IN_EHR, OTHER_VERSION_IN_EHR, SEVERAL_MATCHES, VERSION_UNKNOWN, TOO_LARGE, REFUSED)


@dataclass(slots=True)
class Parcel:
    """A shipment under way.

    Attributes:
        shipment: What is sent.
        standing: What is there to be replaced, by kind; grows when a create finds something.
        copies: What is done.
        fates: What became of the documents that are not, where that is settled.
        in_place: Documents that replace what stands, whatever is usual on this target.
        superseding: The write that marks the replaced document; `None` when there is none (any more).
        stopped: Nothing more is sent, because nothing could be.
        tries: How often the server put something off.
        notes: Further codes for the ledger.
        error: What keeps the replaced document from being marked, for now.
    """

    shipment: Shipment
    standing: dict[str, Copy]
    copies: dict[str, Copy]
    fates: dict[str, Verdict] = field(default_factory=dict)
    in_place: set[str] = field(default_factory=set)
    superseding: Step | None = None
    stopped: bool = False
    tries: int = 0
    notes: list[str] = field(default_factory=list)
    error: MedscribeError | None = None

    @classmethod
    def of(cls, shipment: Shipment) -> Parcel:
        """A shipment before anything was sent."""
        done = {kind: copy for kind, copy in shipment.done.items() if copy.server_id}
        return cls(shipment, dict(shipment.standing or {}), done)

    @property
    def open(self) -> list[str]:
        """The documents that are neither done nor settled otherwise, in order."""
        return [kind for kind in self.shipment.resources if kind not in self.copies and kind not in self.fates]

    def finish(self, kind: str, copy: Copy) -> None:
        """This document is there."""
        self.copies[kind] = copy

    def fail(self, kind: str, fate: Verdict) -> None:
        """This document is not, or nobody knows."""
        self.fates[kind] = fate

    def verdict(self, *, atomic: bool, seconds: float) -> Verdict:
        """What it all comes to."""
        copies = {kind: self.copies[kind] for kind in self.shipment.resources if kind in self.copies}
        unmarked = self.superseding is not None or self.error is not None
        codes = [*self.notes, *(code for copy in copies.values() for code in copy.codes)]
        if copies.keys() == self.shipment.resources.keys() and not unmarked:
            return Verdict(State.DELIVERED, copies=copies, codes=_unique(codes), seconds=seconds)
        fates = sorted(self.fates.values(), key=lambda fate: _rank(fate, atomic=atomic))
        codes += [code for fate in self.fates.values() for code in fate.codes]
        decisive = fates[0] if fates else Verdict(State.PLANNED, error=self.error)
        return replace(decisive, copies=copies, codes=_unique(codes), seconds=seconds)


def accounted_for(outcomes: Sequence[EntryOutcome], count: int) -> list[EntryOutcome | MedscribeError]:
    """The outcomes of the `count` entries of a Bundle, as far as the server can be believed to tell them apart.

    Which of the entries is missing from an answer, or whose a place is that it names twice, nobody can say; and an id
    given to the wrong note would be worse than none.
    """
    if len(outcomes) != count:
        short = Unsettled("The answer does not account for every entry.", code="answer_incomplete")
        return [short] * count
    done = [each for each in outcomes if each.id is not None and each.status in DONE]
    places: Counter[tuple[str | None, str | None]] = Counter((each.type, each.id) for each in done)
    mixed = Unsettled("The answer names one place for several entries.", code=ANSWER_MIXED_UP)
    return [mixed if places[each.type, each.id] > 1 else each for each in outcomes]


def fate_of_error(error: MedscribeError) -> Verdict:
    """What an error of the HTTP client means for the request it ended."""
    if isinstance(error, Refused):
        return fate_of_status(error.status or 0, (str(error.status), *outcome_codes(error.answer.body)))
    codes: tuple[str, ...] = (str(error.status),) if error.status else (error.code,)
    if isinstance(error, Unsettled) and error.answer is not None:
        codes += outcome_codes(error.answer.body)
    if provably_unsent(error):
        return Verdict(State.PLANNED, codes=codes, error=error)
    return Verdict(State.UNKNOWN, error.code, codes=codes, error=error)


def fate_of_status(status: int, codes: tuple[str, ...]) -> Verdict:
    """What a status means that is no success, where the target has no rule of its own for it."""
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return Verdict(State.REJECTED, TOO_LARGE, codes=codes)
    if status == HTTPStatus.ACCEPTED:
        # Taken for somebody to look at; it is there once it can be found.
        return Verdict(State.UNKNOWN, "accepted", codes=codes)
    refused = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _UNDECIDED
    if refused and status != HTTPStatus.TOO_MANY_REQUESTS:
        return Verdict(State.REJECTED, REFUSED, codes=codes)
    return Verdict(State.UNKNOWN, "entry_failed", codes=codes)


def throttled(outcome: EntryOutcome) -> bool:
    """Whether an entry was put off: surely not carried out, and welcome later."""
    return outcome.status == HTTPStatus.TOO_MANY_REQUESTS or (
        outcome.status == HTTPStatus.SERVICE_UNAVAILABLE and outcome.retry_after_s is not None
    )


def put_off(outcome: EntryOutcome) -> Verdict:
    """The fate of an entry that was put off too often."""
    error = Retriable("The server asks us to slow down.", code="throttled", status=outcome.status)
    return Verdict(State.PLANNED, codes=(str(outcome.status), *outcome.codes), error=error)


def _rank(fate: Verdict, *, atomic: bool) -> tuple[int, int]:
    """Which of several fates decides; the lowest does."""
    states = (
        (State.REJECTED, State.UNKNOWN, State.PLANNED) if atomic else (State.UNKNOWN, State.REJECTED, State.PLANNED)
    )
    reason = _REASONS.index(fate.reason) if fate.reason in _REASONS else len(_REASONS)
    return states.index(fate.state), reason


def _unique(codes: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(codes))
