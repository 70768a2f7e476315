"""One note version, one transaction: all of its documents, or none."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar

from medscribe_pipeline.ehr.client import EntryOutcome, outcome_codes
from medscribe_pipeline.ehr.strategies.parcel import accounted_for
from medscribe_pipeline.ehr.strategies.rounds import Rounds
from medscribe_pipeline.ehr.strategies.steps import PROVENANCE, entry, full_url
from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.providers.http import CredentialsError, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medscribe_pipeline.ehr.strategies.parcel import Parcel
    from medscribe_pipeline.ehr.strategies.rounds import Reply
    from medscribe_pipeline.ehr.strategies.steps import Step

__all__ = ["TransactionStrategy"]


class TransactionStrategy(Rounds):
    """Sends the documents of a note as entries that refer to each other, with the Provenance among them.

    Every entry of the answer is inspected: there are servers that answer 200 and did half of it.
    """

    atomic: ClassVar[bool] = True

    @property
    def notes_per_request(self) -> int:
        """One: what happens together must belong together."""
        return 1

    def _next(self, parcel: Parcel) -> list[Step]:
        if parcel.fates:
            return []
        # The Provenance comes last, as it does everywhere: it is about the others.
        ordered = sorted(parcel.open, key=lambda kind: kind == PROVENANCE)
        steps = [self._step(parcel, kind) for kind in ordered]
        return [*steps, parcel.superseding] if parcel.superseding is not None else steps

    def _address(self, parcel: Parcel, kind: str) -> str | None:
        return super()._address(parcel, kind) or full_url(parcel.shipment, kind)

    def _exchange(self, wave: Sequence[tuple[Parcel, Step]]) -> list[Reply]:
        replies: list[Reply] = []
        for parcel in {id(parcel): parcel for parcel, _ in wave}.values():
            replies += self._send([step for owner, step in wave if owner is parcel])
        return replies

    def _send(self, steps: Sequence[Step]) -> list[Reply]:
        self._checkpoint("request")
        try:
            outcomes = self._client.bundle(
                {"resourceType": "Bundle", "type": "transaction", "entry": [entry(step) for step in steps]}
            )
        except (Refused, CredentialsError) as error:
            whole = EntryOutcome(error.status or 0, None, None, outcome_codes(error.answer.body))
            if len(steps) > 1 and steps[-1].supersedes and error.status != HTTPStatus.UNAUTHORIZED:
                # Nothing has happened, and it may all be for the mark on another document, on which the note does not
                # depend: somebody has touched that one since we looked, or it is not ours to change.
                return [*self._send(steps[:-1]), whole]
            return [whole if isinstance(error, Refused) else error for _ in steps]
        except MedscribeError as error:
            return [error for _ in steps]
        self._checkpoint("response")
        return [*accounted_for(outcomes, len(steps))]
