"""A sandbox with a trap: it does something at the n-th request of a kind, the moment a test is about."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.sandbox import AudioScribeOptions, CorpusOptions, Fault, Faults, Sandbox
from medscribe_pipeline.sandbox.stats import Stats
from tests.end_to_end.watch import remains

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["CORPUS", "Fate", "Trap", "open_sandbox", "set_trap"]

CORPUS = CorpusOptions(days=3, audios_per_day=6, sessions_per_day=4, recordings=0)
"""Small, and yet several pages of every list, all kinds of damaged records and more than a dozen deliveries."""


class Fate(Enum):
    """What becomes of the request the trap is set for."""

    ARRIVES = "arrives"
    """It has begun to arrive: enough for a request that changes nothing."""
    IS_LOST = "is lost"
    """The server does nothing, for this one and for all that come after it."""
    IS_CARRIED_OUT = "is carried out"
    """It has arrived whole, and the server does what it asks for."""


class Trap(Stats):
    """The sandbox's statistics, which see every request; `spring` runs in the server's thread, that waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.is_sprung = False
        self._kind, self._number, self._fate = "", 0, Fate.ARRIVES
        self._spring: Callable[[], None] = lambda: None
        self._chosen: asyncio.Task[object] | None = None

    def arm(self, kind: str, number: int, fate: Fate, spring: Callable[[], None]) -> None:
        """Sets the trap for the n-th request of `kind`, and counts from zero again."""
        self.reset()
        self._kind, self._number, self._fate, self._spring = kind, number, fate, spring
        self._chosen, self.is_sprung = None, False

    def count_request(self, method: str, path: str) -> None:
        """Counts a request of which the first line and the headers have arrived."""
        super().count_request(method, path)
        if self._chosen is None and self._number and self.requests[self._kind] == self._number:
            self._chosen = asyncio.current_task()
            if self._fate is not Fate.IS_CARRIED_OUT:
                self._snap()

    def count_fault(self, kind: str) -> None:
        """Counts a fault: the same request, in the same task, once its body is there as well."""
        super().count_fault(kind)
        if not self.is_sprung and self._chosen is not None and self._chosen is asyncio.current_task():
            self._snap()

    def _snap(self) -> None:
        self.is_sprung = True
        self._spring()


@contextmanager
def open_sandbox(
    *, corpus: CorpusOptions = CORPUS, state: Path | None = None, **options: Any
) -> Iterator[tuple[Sandbox, Trap]]:
    """A sandbox with small pages, and its trap; `options` are more of `Sandbox`'s."""
    sandbox = Sandbox(corpus=corpus, state=state, audioscribe=AudioScribeOptions(page_size=4), **options)
    trap = sandbox.stats = Trap()
    with sandbox:
        remains.worlds.append(sandbox.world)
        yield sandbox, trap


def set_trap(sandbox: Sandbox, trap: Trap, kind: str, number: int, fate: Fate, spring: Callable[[], None]) -> None:
    """Arms `trap` and lets the sandbox misbehave as `fate` needs it, until `sandbox.set_faults(None)`."""
    apps = frozenset({kind.split("/")[1]})

    def snap() -> None:
        if fate is Fate.IS_LOST:
            sandbox.set_faults(Faults.only(Fault.CUT_BEFORE, apps=apps))
        spring()

    # A slow answer is a fault by which a request is carried out, and the trap sees that it has arrived whole.
    is_slow = fate is Fate.IS_CARRIED_OUT
    sandbox.set_faults(replace(Faults.only(Fault.SLOW, apps=apps), slow_s=0.02) if is_slow else None)
    trap.arm(kind, number, fate, snap)
