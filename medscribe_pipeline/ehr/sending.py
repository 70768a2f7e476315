"""What is sent, and what is known of it afterwards: the words in which the ledger and the strategies talk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.ehr.ledger import Copy, Key, State
from medscribe_pipeline.errors import ConfigError, Deferred, MedscribeError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CANNOT_BE_ASKED", "CHANGED_IN_EHR", "LOOKUP_FAILED", "SEVERAL_MATCHES", "Shipment", "Verdict"]

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
