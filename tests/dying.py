"""Processes that are forked, and that end where they are told to."""

from __future__ import annotations

import os
import signal
import threading
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DIED", "bomb", "fork", "join"]

DIED = 42
_LONGEST_S = 60


def bomb(point: str, occurrence: int) -> Callable[[str], None]:
    """A checkpoint that ends the process by `os._exit` when a point is reached so many times."""
    lock = threading.Lock()
    reached = 0

    def checkpoint(name: str) -> None:
        nonlocal reached
        with lock:
            reached += name == point
            if reached == occurrence:
                os._exit(DIED)

    return checkpoint


def fork(work: Callable[[], object]) -> int:
    """Does it in a copy of this process, which must have no threads; returns its id. It ends with 1 if that failed."""
    assert threading.active_count() == 1
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        signal.alarm(_LONGEST_S)
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - nothing may come back into the copy of the parent
        traceback.print_exc()
    finally:
        os._exit(code)


def join(child: int) -> int:
    """Waits for a forked process; returns its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
