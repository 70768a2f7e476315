"""Several note versions in one batch: every entry has a fate of its own, and only what failed is sent again.

Entries of a batch cannot refer to each other, so a Provenance follows in a second request, when the ids of what it is
about are known.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import orjson

from medscribe_pipeline.ehr.client import EntryOutcome, outcome_codes, provably_unsent
from medscribe_pipeline.ehr.strategies.parcel import accounted_for
from medscribe_pipeline.ehr.strategies.rounds import Rounds
from medscribe_pipeline.ehr.strategies.steps import PROVENANCE, entry
from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.providers.http import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medscribe_pipeline.ehr.strategies.parcel import Parcel
    from medscribe_pipeline.ehr.strategies.rounds import Reply
    from medscribe_pipeline.ehr.strategies.steps import Step

__all__ = ["BatchStrategy"]

_HEAD = b'{"resourceType":"Bundle","type":"batch","entry":['
_TAIL = b"]}"
# The whole was refused for what is in it: too much of it, or one entry that spoils it for all.
_DIVISIBLE = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY})


class BatchStrategy(Rounds):
    """Sends as many notes in a request as the server takes entries and bytes."""

    @property
    def notes_per_request(self) -> int:
        """As many as fit, if each has all the documents the target takes."""
        return max(1, self._capabilities.entries_per_bundle // len(self._capabilities.kinds))

    def _next(self, parcel: Parcel) -> list[Step]:
        if parcel.fates:
            return []
        documents = [kind for kind in parcel.open if kind != PROVENANCE]
        return [self._step(parcel, kind) for kind in documents] or self._later(parcel)

    def _exchange(self, wave: Sequence[tuple[Parcel, Step]]) -> list[Reply]:
        replies: list[Reply] = []
        stopped = False
        for entries in self._portions([orjson.dumps(entry(step)) for _, step in wave]):
            answered = [None] * len(entries) if stopped else self._send(entries)
            stopped = any(isinstance(each, MedscribeError) and provably_unsent(each) for each in answered)
            replies += answered
        return replies

    def _portions(self, entries: Sequence[bytes]) -> Iterator[list[bytes]]:
        """Cuts at the most entries and the most bytes a Bundle may have; one entry is always taken."""
        portion: list[bytes] = []
        size = len(_HEAD) + len(_TAIL)
        for each in entries:
            full = len(portion) >= self._capabilities.entries_per_bundle
            if portion and (full or size + len(each) + 1 > self._capabilities.max_bundle_bytes):
                yield portion
                portion, size = [], len(_HEAD) + len(_TAIL)
            portion.append(each)
            size += len(each) + 1
        if portion:
            yield portion

    def _send(self, entries: Sequence[bytes]) -> list[Reply]:
        self._checkpoint("request")
        try:
            outcomes = self._client.bundle(_HEAD + b",".join(entries) + _TAIL)
        except Refused as error:
            if error.status in _DIVISIBLE and len(entries) > 1:
                half = len(entries) // 2
                return [*self._send(entries[:half]), *self._send(entries[half:])]
            whole = EntryOutcome(error.status or 0, None, None, outcome_codes(error.answer.body))
            return [whole for _ in entries]
        except MedscribeError as error:
            return [error for _ in entries]
        self._checkpoint("response")
        return [*accounted_for(outcomes, len(entries))]
