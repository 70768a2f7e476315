"""The plan of what goes wrong: which request meets which fault, decided by a seed and nothing else.

A decision depends on the seed, on the request (method, path, query, body) and on how often that very request has been
made, so it does not matter in which order a client's threads arrive. The same request meets at most `in_a_row` faults
before one attempt is left alone: a client with bounded retries always gets through in the end.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Lock
from typing import Self

__all__ = ["ALL_APPS", "Fault", "FaultPlan", "Faults"]

ALL_APPS = frozenset({"askara", "audioscribe", "nabla", "intron", "fhir"})


class Fault(StrEnum):
    """What may happen to a request. See `inflict.py` for how each is done."""

    THROTTLED = "throttled"
    """429, `Retry-After` in seconds; the request was not looked at."""
    THROTTLED_UNTIL = "throttled_until"
    """429, `Retry-After` as an HTTP date; the request was not looked at."""
    ERROR_500 = "error_500"
    """500 before anything was done."""
    UNAVAILABLE_503 = "unavailable_503"
    """503 before anything was done."""
    BAD_GATEWAY_502 = "bad_gateway_502"
    """502 from a proxy that lost the answer: everything was done."""
    CUT_BEFORE = "cut_before"
    """The connection ends before anything was done."""
    CUT_AFTER = "cut_after"
    """The connection ends after everything was done, without a byte of the answer."""
    CUT_BODY = "cut_body"
    """The connection ends in the middle of the answer; everything was done."""
    TRUNCATED = "truncated"
    """A complete 200 whose JSON stops in the middle; everything was done."""
    SLOW = "slow"
    """The right answer, in pieces with pauses between them."""
    UNAUTHORIZED = "unauthorized"
    """401 for a token that is good, once a request. Only where the client can get another: OAuth access tokens."""
    DUPLICATE_PAGE = "duplicate_page"
    """A later page of a list answers with the page before it."""
    SHIFTED_PAGES = "shifted_pages"
    """The first item of a list moves to its end after its page was read, for the rest of that walk."""


_PAGED = frozenset({Fault.DUPLICATE_PAGE, Fault.SHIFTED_PAGES})
# What loses the answer to a request that changed something. Nobody can survive that on a single-use refresh token.
_LOSES_ANSWER = frozenset({Fault.BAD_GATEWAY_502, Fault.CUT_AFTER, Fault.CUT_BODY, Fault.TRUNCATED})


@dataclass(frozen=True, slots=True)
class Faults:
    """Which faults to inflict, and how often.

    Attributes:
        seed: Same seed, same faults for the same requests.
        probability: Chance that an attempt meets a fault, 0 to 1.
        kinds: The kinds to choose from.
        apps: Which of `askara`, `audioscribe`, `nabla`, `intron` and `fhir` misbehave.
        in_a_row: Most faults one and the same request meets in a row.
        retry_after_s: What `Retry-After` asks for, whole seconds.
        slow_s: How long a slow body takes, in total.
    """

    seed: int = 0
    probability: float = 0.3
    kinds: tuple[Fault, ...] = tuple(Fault)
    apps: frozenset[str] = ALL_APPS
    in_a_row: int = 2
    retry_after_s: int = 1
    slow_s: float = 0.2

    @classmethod
    def all_on(cls, seed: int = 0) -> Self:
        """Everything at once, everywhere."""
        return cls(seed=seed)

    @classmethod
    def only(cls, kind: Fault | str, *, seed: int = 0, in_a_row: int = 1, apps: frozenset[str] = ALL_APPS) -> Self:
        """One kind, on the first `in_a_row` attempts of every request it applies to."""
        return cls(seed=seed, probability=1.0, kinds=(Fault(kind),), in_a_row=in_a_row, apps=apps)


@dataclass(slots=True)
class FaultPlan:
    """Decides request by request; the memory behind `Faults`."""

    faults: Faults
    _attempts: Counter[str] = field(default_factory=Counter)
    _row: Counter[str] = field(default_factory=Counter)
    _refused: set[str] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    def decide(
        self, app: str, request: str, *, is_later_page: bool, is_token_exchange: bool, has_oauth_token: bool
    ) -> Fault | None:
        """The fault this attempt meets, if any.

        Args:
            app: Which app it is made to.
            request: All that identifies the request, however often it is repeated.
            is_later_page: It reads a page of a list other than the first.
            is_token_exchange: It spends a single-use token, so its answer must not be lost.
            has_oauth_token: It carries an access token the client can renew.
        """
        if app not in self.faults.apps:
            return None
        with self._lock:
            kinds = [
                kind
                for kind in self.faults.kinds
                if (is_later_page or kind not in _PAGED)
                and not (is_token_exchange and kind in _LOSES_ANSWER)
                and (kind is not Fault.UNAUTHORIZED or (has_oauth_token and request not in self._refused))
            ]
            attempt = self._attempts[request]
            self._attempts[request] += 1
            digest = hashlib.blake2b(f"{self.faults.seed}|{attempt}|{request}".encode(), digest_size=16).digest()
            spared = int.from_bytes(digest[:8]) / 2**64 >= self.faults.probability
            if spared or not kinds or self._row[request] >= self.faults.in_a_row:
                self._row[request] = 0
                return None
            self._row[request] += 1
            kind = kinds[int.from_bytes(digest[8:]) % len(kinds)]
            if kind is Fault.UNAUTHORIZED:
                self._refused.add(request)
            return kind
