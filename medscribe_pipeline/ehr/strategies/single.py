"""One document, one request, in order; the first that fails ends it, and what is done stays done.

For servers without Bundles. With conditional creates or idempotency keys, a create that is sent again by the rules of
the ledger does no harm. Without either (`unconditional`) the very same requests are sent, and everything depends on
this: a create leaves once, and again only when it surely had no effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from medscribe_pipeline.ehr.client import provably_unsent
from medscribe_pipeline.ehr.strategies.rounds import Rounds
from medscribe_pipeline.ehr.strategies.steps import PROVENANCE
from medscribe_pipeline.errors import MedscribeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medscribe_pipeline.ehr.strategies.parcel import Parcel
    from medscribe_pipeline.ehr.strategies.rounds import Reply
    from medscribe_pipeline.ehr.strategies.steps import Step

__all__ = ["SingleStrategy"]


class SingleStrategy(Rounds):
    """Sends one document after the other."""

    @property
    def notes_per_request(self) -> int:
        """One: there is nothing to share."""
        return 1

    def _next(self, parcel: Parcel) -> list[Step]:
        if parcel.fates:
            return []
        documents = [kind for kind in parcel.open if kind != PROVENANCE]
        return [self._step(parcel, documents[0])] if documents else self._later(parcel)

    def _exchange(self, wave: Sequence[tuple[Parcel, Step]]) -> list[Reply]:
        replies: list[Reply] = []
        for _, step in wave:
            last = replies[-1] if replies else None
            if replies and (last is None or (isinstance(last, MedscribeError) and provably_unsent(last))):
                replies.append(None)
            else:
                replies.append(self._send(step))
        return replies

    def _send(self, step: Step) -> Reply:
        self._checkpoint("request")
        try:
            reply = self._write(step)
        except MedscribeError as error:
            return error
        self._checkpoint("response")
        return reply

    def _write(self, step: Step) -> Reply:
        body = orjson.dumps(step.resource)
        if step.method == "PUT":
            return self._client.update(step.type, step.server_id or "", body, if_match=step.if_match)
        key = self._capabilities.idempotency_header
        headers = {key: step.idempotency_key} if key else None
        return self._client.create(step.type, body, condition=step.condition, headers=headers)
