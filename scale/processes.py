"""The processes of the demo: each started here, each ended by its own id, however the demo ends."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["Deadline", "Overdue", "started", "stop", "wait_until"]

STOP_S = 5.0
POLL_S = 0.1


class Overdue(RuntimeError):
    """Something did not happen in time. The text says what."""


class Deadline:
    """When all of it has to be over.

    Args:
        seconds: From now.
    """

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """Seconds left, at least 0."""
        return max(0.0, self._at - time.monotonic())


@contextmanager
def started(
    command: Sequence[str], folder: Path, name: str, environment: Mapping[str, str], *, talks: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """A process with all it starts itself, in a session of its own; ended at the end of the block.

    Args:
        command: Program and arguments.
        folder: Where it runs, and where its output is kept as `<name>.log`.
        name: What it is called.
        environment: Its whole environment.
        talks: Its standard output is a pipe for the caller instead.
    """
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603  # our own commands
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if talks else log,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        stop(process)
        if process.stdout is not None:
            process.stdout.close()


def stop(process: subprocess.Popen[str]) -> None:
    """Ends a process and what it started: asks first, then does not ask. Does nothing to one that was ended before."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
    # The session is ours, so its group has the number of its first process; whatever is left of it ends here.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(STOP_S)


def wait_until(
    happened: Callable[[], bool],
    what: str,
    deadline: Deadline,
    *,
    alive: Sequence[subprocess.Popen[str]] = (),
    poll_s: float = POLL_S,
) -> None:
    """Waits for something.

    Args:
        happened: Whether it has.
        what: What it is, for the error.
        deadline: How long at most.
        alive: Processes it cannot happen without.
        poll_s: How often to look.

    Raises:
        Overdue: It did not happen, or one of the processes ended.
    """
    while not happened():
        if not deadline.left_s:
            raise Overdue(f"This took too long: {what}")
        for process in alive:
            if process.poll() is not None:
                raise Overdue(f"A process ended too early, with code {process.returncode}, while waiting for: {what}")
        time.sleep(poll_s)
