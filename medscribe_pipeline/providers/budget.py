"""How fast we may ask: one budget for all threads of a client, and the clock it goes by."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from medscribe_pipeline.errors import Deferred

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Budget", "Clock", "SystemClock"]


class Clock(Protocol):
    """The two times a client needs; tests bring their own."""

    def now(self) -> datetime:
        """Wall-clock time, aware UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that only rise, whatever happens to the wall clock."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """Wall-clock time, aware UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that only rise."""
        return time.monotonic()


class Budget:
    """Spaces requests to our own ceiling, and keeps all threads back while the server wants quiet.

    Args:
        requests_per_minute: Our own ceiling; 0 for none. Requests are spread evenly rather than sent in bursts.
        max_wait_s: A server that wants quiet for longer is not waited for: `Deferred`.
        clock: Times.
        pause: Waits that many seconds; may raise to end the wait.
        client: Name of the client, for messages.
    """

    def __init__(
        self, requests_per_minute: int, max_wait_s: float, clock: Clock, pause: Callable[[float], None], client: str
    ) -> None:
        self._interval_s = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._max_wait_s = max_wait_s
        self._clock = clock
        self._pause = pause
        self._client = client
        self._lock = threading.Lock()
        self._next_slot = clock.monotonic()
        self._quiet_until = clock.monotonic()

    def hold(self, delay_s: float) -> None:
        """Keeps every thread from sending for `delay_s` seconds; never shortens a longer hold."""
        with self._lock:
            self._quiet_until = max(self._quiet_until, self._clock.monotonic() + delay_s)

    def wait_turn(self) -> None:
        """Returns when the next request may leave.

        Raises:
            Deferred: The server wants quiet for longer than `max_wait_s`.
        """
        self._respect_hold()
        with self._lock:
            now = self._clock.monotonic()
            slot = max(now, self._next_slot)
            self._next_slot = slot + self._interval_s
        if slot > now:
            self._pause(slot - now)
            # Another thread may have met a 429 while this one waited for its slot.
            self._respect_hold()

    def _respect_hold(self) -> None:
        served: float | None = None
        # Goes round again only when a hold grew meanwhile, which every request does a bounded number of times.
        while True:
            with self._lock:
                until = self._quiet_until
                wait_s = until - self._clock.monotonic()
            if wait_s <= 0 or until == served:
                return
            if wait_s > self._max_wait_s:
                raise Deferred(
                    "The server asked us to wait longer than MAX_WAIT_S allows; run again after the time given.",
                    until=self._clock.now() + timedelta(seconds=wait_s),
                    code="throttled",
                    context={"client": self._client},
                )
            self._pause(wait_s)
            served = until
