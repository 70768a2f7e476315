"""Everything that goes wrong at once, and what is to be true all the same: what the tests under faults share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fhir_server import Fault, Faults

if TYPE_CHECKING:
    from tests.delivering import Way

__all__ = ["faults_for"]

_EVERYWHERE = {
    Fault.ERROR_BEFORE: 0.04,
    Fault.ERROR_AFTER: 0.04,
    Fault.CUT_BEFORE: 0.03,
    Fault.CUT_AFTER: 0.03,
    Fault.CUT_MIDDLE: 0.03,
    Fault.SLOW: 0.02,
    Fault.THROTTLED: 0.03,
    Fault.EXPIRED: 0.02,
    Fault.HTML_BEFORE: 0.02,
    Fault.HTML_AFTER: 0.02,
    Fault.EMPTY_AFTER: 0.02,
    Fault.CONFLICT: 0.02,
}
_ENTRIES = {Fault.ENTRIES_THROTTLED: 0.06, Fault.ENTRIES_FAILED: 0.06}


def faults_for(way: Way, seed: int, *, most: int = 60) -> Faults:
    """About every third request fails in some way this kind of server can fail, until there were `most` failures."""
    shares = {fault.value: share for fault, share in _EVERYWHERE.items()}
    if way.abilities.conditional_create:
        # Where a repeated request is a new one, whoever repeats it in between makes the second copy, not we.
        shares[Fault.REPLAYED.value] = 0.03
    if way.capabilities["strategy"] == "batch":
        shares |= {fault.value: share for fault, share in _ENTRIES.items()}
    return Faults(seed=seed, shares=shares, most=most, slow_s=0.35)
