"""What keeps the receiver standing: a rate, a size for each body, and a sum of bytes held at once."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request

__all__ = ["ByteBudget", "Rate", "TurnedAway", "declared_size", "read_body"]

MINUTE_S = 60.0
LEAST_BYTES = 4096  # what a request costs at least, however small its body


class TurnedAway(Exception):
    """An event that is not taken.

    Attributes:
        status: HTTP status of the answer.
        outcome: Short code for the answer, the log and the metrics.
        retry_after_s: When it may be sent again, where that makes sense.
    """

    def __init__(self, status: HTTPStatus, outcome: str, retry_after_s: float | None = None) -> None:
        super().__init__(outcome)
        self.status = status
        self.outcome = outcome
        self.retry_after_s = retry_after_s


class Rate:
    """A token bucket that holds a minute's worth.

    Args:
        per_minute: Tokens a minute.
        monotonic: Seconds of a clock that never goes back.
    """

    def __init__(self, per_minute: int, monotonic: Callable[[], float]) -> None:
        self._capacity = float(per_minute)
        self._tokens = self._capacity
        self._monotonic = monotonic
        self._filled_at = monotonic()

    def take(self) -> None:
        """Takes one token. Only what has proved its origin costs one: forgeries must not use up the rate.

        Raises:
            TurnedAway: There is none.
        """
        self.check()
        self._tokens -= 1

    def check(self) -> None:
        """Looks whether there is a token, before a body is read for nothing.

        Raises:
            TurnedAway: There is none.
        """
        now = self._monotonic()
        gained = (now - self._filled_at) * self._capacity / MINUTE_S
        self._tokens, self._filled_at = min(self._capacity, self._tokens + gained), now
        if self._tokens < 1:
            wait_s = (1 - self._tokens) * MINUTE_S / self._capacity
            raise TurnedAway(HTTPStatus.TOO_MANY_REQUESTS, "throttled", wait_s)


class ByteBudget:
    """Bytes of bodies held at once, over all requests; who does not get a share in time is told to come back.

    A share is taken whole before the first byte is read, so that no two half-read bodies wait for each other.
    """

    def __init__(self, size: int, *, wait_s: float, retry_after_s: float) -> None:
        self._size = size
        self._free = size
        self._wait_s = wait_s
        self._retry_after_s = retry_after_s
        self._given_back = asyncio.Condition()

    @property
    def used(self) -> int:
        """Bytes that are taken now."""
        return self._size - self._free

    @asynccontextmanager
    async def share(self, size: int) -> AsyncIterator[None]:
        """Holds `size` bytes inside the block.

        Raises:
            TurnedAway: They did not become free in time.
        """
        size = min(max(size, LEAST_BYTES), self._size)
        try:
            async with asyncio.timeout(self._wait_s), self._given_back:
                await self._given_back.wait_for(lambda: self._free >= size)
                self._free -= size
        except TimeoutError:
            raise TurnedAway(HTTPStatus.SERVICE_UNAVAILABLE, "busy", self._retry_after_s) from None
        try:
            yield
        finally:
            self._free += size
            async with self._given_back:
                self._given_back.notify_all()


def declared_size(request: Request, max_bytes: int) -> int:
    """What the sender says the body has, or the most it may have.

    Raises:
        TurnedAway: It says more than is taken.
    """
    declared = request.headers.get("content-length", "")
    if not declared.isdecimal():
        return max_bytes
    if int(declared) > max_bytes:
        raise _too_large()
    return int(declared)


async def read_body(request: Request, *, max_bytes: int, timeout_s: float) -> bytes:
    """The whole body; whatever its headers said, reading stops as soon as it is too long.

    Raises:
        TurnedAway: It is too long, too slow, or was broken off.
    """
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                size += len(chunk)
                if size > max_bytes:
                    raise _too_large()
                chunks.append(chunk)
    except TimeoutError:
        raise TurnedAway(HTTPStatus.REQUEST_TIMEOUT, "slow") from None
    except ClientDisconnect:
        raise TurnedAway(HTTPStatus.BAD_REQUEST, "disconnected") from None
    return b"".join(chunks)


def _too_large() -> TurnedAway:
    return TurnedAway(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large")
