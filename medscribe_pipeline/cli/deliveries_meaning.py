"""What the state of a note version means, and what a person can do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medscribe_pipeline.ehr.ledger import State
from medscribe_pipeline.ehr.plan import SUPERSEDED
from medscribe_pipeline.ehr.sending import CANNOT_BE_ASKED
from medscribe_pipeline.ehr.signatures import in_doubt
from medscribe_pipeline.operation.reasons import SAYS, Kind, explain

if TYPE_CHECKING:
    from medscribe_pipeline.ehr.listing import Standing

__all__ = ["means"]

_MEANS = {
    State.PLANNED: "It waits for its turn: the next `medscribe sync` sends it, if nothing stands in its way.",
    State.HELD: "It is held: {why}. It goes out by itself when that has changed.",
    State.CLAIMED: "A run has it in hand at this moment. If that run has died, the next `medscribe sync` finds out.",
    State.SENT: "A run has it in hand at this moment. If that run has died, the next `medscribe sync` finds out.",
    State.DELIVERED: "It is on the server.",
    State.REJECTED: "It was not accepted ({reason}): {to_do}. `medscribe deliveries retry` plans it again.",
    State.UNKNOWN: "It was sent, and nobody knows whether it arrived: {why}. The next `medscribe sync` asks the "
    "server, `medscribe deliveries reconcile` asks now; whoever has looked there can tell with "
    "`medscribe deliveries release`.",
    State.DISCARDED: "Somebody decided that it is not to be sent. `medscribe deliveries retry` brings it back.",
}
_SUPERSEDED = "It is not sent: a newer version of the note has taken its place."
_REJECTED_ONCE = "It was not accepted ({reason}). A newer version has come since, so it is not sent again."
_WAITS_FOR_A_PERSON = (
    "It was sent, nobody knows whether it arrived, and this server cannot be asked. Look there, then tell with "
    "`medscribe deliveries release`: --absent, or --there ID."
)
_GIVEN_UP_IN_DOUBT = (
    "Somebody decided that it is not to be sent, and nobody knows whether it had arrived. "
    "`medscribe deliveries retry --absent` brings it back when it is surely not on the server."
)


def means(standing: Standing) -> str:
    """A sentence or two about where a version stands."""
    reason = standing.reason or ""
    to_do = explain(Kind.REJECTED, reason).to_do
    return _sentence(standing).format(reason=reason, why=SAYS.get(reason, reason), to_do=to_do)


def _sentence(standing: Standing) -> str:
    state = standing.state
    if state is State.HELD and standing.reason == SUPERSEDED:
        return _SUPERSEDED
    if state is State.REJECTED and not standing.newest:
        return _REJECTED_ONCE
    if state is State.UNKNOWN and standing.reason == CANNOT_BE_ASKED:
        return _WAITS_FOR_A_PERSON
    return _GIVEN_UP_IN_DOUBT if in_doubt(standing) else _MEANS[state]
