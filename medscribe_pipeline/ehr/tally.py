"""What the requests of one delivery came to, and whether to go on; and how much one run may send."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from medscribe_pipeline.ehr.ledger import State
from medscribe_pipeline.errors import MedscribeError, Retriable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medscribe_pipeline.ehr.sending import Verdict
    from medscribe_pipeline.settings import EhrSettings

__all__ = ["FAILURES_THAT_OPEN", "Allowance", "Tally"]

FAILURES_THAT_OPEN = 5
"""So many failures of the server in a row, and nothing more is sent: the circuit is open."""


@dataclass(slots=True)
class Allowance:
    """How much more may be sent to a target in one run; shared by all days of the run, used by one thread.

    Attributes:
        notes: Note versions left; `None` for any number.
        bytes: Bytes of FHIR JSON left; `None` for any number. The first note always fits: none waits for ever.
    """

    notes: int | None = None
    bytes: int | None = None
    _refused: bool = False
    _begun: bool = False

    @property
    def exhausted(self) -> bool:
        """Whether this run may send no more."""
        return self._refused or self.notes == 0

    @classmethod
    def of(cls, settings: EhrSettings) -> Allowance:
        """What the settings allow one run."""
        return cls(settings.documents_per_run or None, settings.bytes_per_run or None)

    def take(self, documents: Mapping[str, Any]) -> bool:
        """Takes what one note costs; `False`, and nothing more is allowed, if there is not enough left."""
        size = len(orjson.dumps(documents)) if self.bytes is not None else 0
        too_large = self.bytes is not None and size > self.bytes and self._begun
        if self.exhausted or too_large:
            self._refused = True
            return False
        self._begun = True
        if self.notes is not None:
            self.notes -= 1
        if self.bytes is not None:
            self.bytes = max(0, self.bytes - size)
        return True


@dataclass(slots=True)
class Tally:
    """What the requests of one delivery came to, over all its rounds.

    Attributes:
        lost: Note versions whose outcome was unknown at first.
        seconds: How long each answered delivery took.
        read_back: Notes that were read back and compared.
        changed: Element paths the server dropped or changed, with how many notes.
        failures: Failures in a row up to now.
        error: Why nothing more is sent, if so.
    """

    lost: int = 0
    seconds: list[float] = field(default_factory=list)
    read_back: int = 0
    changed: Counter[str] = field(default_factory=Counter)
    failures: int = 0
    error: MedscribeError | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add_bug(self, error: BaseException, notes: int) -> None:
        """Notes an exception that should not have been; its text may quote a note, so only its type is kept."""
        with self._lock:
            self.lost += notes
            self.error = MedscribeError(
                "Delivery failed in a way nobody foresaw; please report it with the type of the error",
                code="internal",
                context={"type": type(error).__name__},
            )

    def add(self, verdicts: Sequence[Verdict]) -> None:
        """Counts the verdicts on one request, and decides whether to go on. Called in the thread that sent it."""
        with self._lock:
            self.lost += sum(verdict.state is State.UNKNOWN for verdict in verdicts)
            answered = [verdict for verdict in verdicts if verdict.error is None]
            self.seconds += [verdict.seconds for verdict in answered]
            # Verdicts that share a request share its error: it happened once.
            failed = list({id(verdict.error): verdict for verdict in verdicts if verdict.error is not None}.values())
            self.failures = len(failed) if answered else self.failures + len(failed)
            for verdict in failed:
                if self.error is None and verdict.error is not None:
                    self.error = verdict.error if verdict.stops else self._why_stop(verdict.error)

    def add_read_back(self, changed: Sequence[str]) -> None:
        """Counts one note that was read back, and what of it was not as it was sent."""
        with self._lock:
            self.read_back += 1
            self.changed.update(set(changed))

    def _why_stop(self, error: MedscribeError) -> MedscribeError | None:
        if self.failures < FAILURES_THAT_OPEN:
            return None
        return Retriable(
            "The EHR failed several times in a row; what was not sent stays planned for the next run",
            code="circuit_open",
            status=error.status,
            context={"failures": self.failures, "last": error.code},
        )
