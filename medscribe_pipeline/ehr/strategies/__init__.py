"""How note versions are sent to one target: chosen here, by what the target can do, and nowhere else.

| strategy | a request carries | a lost answer |
|---|---|---|
| `transaction` | all documents of one note, all or nothing | is looked up by identifier |
| `batch` | documents of several notes, each on its own | is looked up by identifier |
| `single` | one document, under a condition or with an idempotency key | is looked up by identifier |
| `unconditional` | one document, and the server cannot tell whether it has it | is looked up where the target lets us |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from medscribe_pipeline.ehr.strategies.batch import BatchStrategy
from medscribe_pipeline.ehr.strategies.single import SingleStrategy
from medscribe_pipeline.ehr.strategies.transaction import TransactionStrategy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from medscribe_pipeline.ehr.client import FhirClient
    from medscribe_pipeline.ehr.ledger import Copy
    from medscribe_pipeline.ehr.sending import Shipment, Verdict
    from medscribe_pipeline.ehr.targets import Capabilities

__all__ = ["Strategy", "open_strategy"]


class Strategy(Protocol):
    """A way of sending note versions to one target. One object serves all threads."""

    @property
    def notes_per_request(self) -> int:
        """So many notes are best delivered together."""
        ...

    def deliver(self, shipments: Sequence[Shipment]) -> list[Verdict]:
        """Delivers note versions, no two of the same note; a verdict for each, in the same order.

        Never raises one of our errors: the verdicts carry them.
        """
        ...

    def look_up(self, resources: Mapping[str, dict[str, Any]], standing: Mapping[str, Copy] | None = None) -> Verdict:
        """Asks the server whether it holds this very version of a note; never raises one of our errors.

        Args:
            resources: The documents of the version, fitted to the target.
            standing: What an earlier version has left there; a target that cannot be searched is asked by these ids.

        Returns:
            `DELIVERED`; `PLANNED`: what is not in `copies` is surely not there; `REJECTED`: there are several;
            `UNKNOWN`: the server would not tell (`lookup_failed`), or cannot be asked (`cannot_be_asked`).
        """
        ...


def open_strategy(capabilities: Capabilities, client: FhirClient, checkpoint: Callable[[str], None]) -> Strategy:
    """The strategy of a target.

    Args:
        capabilities: What the target can do.
        client: The target.
        checkpoint: Called with a name at every point where a process might die: `request` before and `response` after
            each request that writes.
    """
    if capabilities.strategy == "transaction":
        return TransactionStrategy(capabilities, client, checkpoint)
    if capabilities.strategy == "batch":
        return BatchStrategy(capabilities, client, checkpoint)
    return SingleStrategy(capabilities, client, checkpoint)
