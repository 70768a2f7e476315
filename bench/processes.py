"""What a command costs with all the processes it starts: wall time, CPU, memory.

Linux only: memory is read from `/proc`, and processes whose parent has ended are handed to us (prctl(2),
`PR_SET_CHILD_SUBREAPER`), so that the CPU of a helper counts even if nobody else waits for it.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["ROOT", "Cost", "Failed", "adopt_orphans", "cpu_of_group", "measure", "server"]

ROOT = Path(__file__).parents[1]
PR_SET_CHILD_SUBREAPER = 36
SAMPLE_S = 0.05
SAMPLING_SHARE = 20
"""Looking at memory takes time, too: at most one part in so many."""
LEFTOVERS_S = 10.0
STOP_S = 10
MEGABYTE = 1_000_000
TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A measured command did not end well, so nothing was measured."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command took.

    Attributes:
        wall_s: From its start to its end, imports included.
        cpu_s: User and system CPU of all its processes.
        peak_mb: Most memory of all its processes together. A page that several of them share counts in parts (PSS), so
            that neither forking nor one process for each worker is told too large.
        largest_mb: Most memory (RSS) of any one of them.
        said: What it printed, a JSON object; empty if it printed anything else.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float
    largest_mb: float
    said: dict[str, Any]


def adopt_orphans() -> None:
    """From now on, whatever is left over of a command becomes a child of this process."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def measure(command: Sequence[str], environment: Mapping[str, str], *, limit_s: float = 3600) -> Cost:
    """Runs a command to its end and says what it took. `adopt_orphans` must have been called.

    Raises:
        Failed: It ended with an error, or not within `limit_s`. What it wrote to its error output is in the text: the
            sessions of a measurement are synthetic.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        peak = _Peak()
        started = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603 - our own programs
            command,
            cwd=ROOT,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        overdue = threading.Timer(limit_s, process.kill)
        overdue.start()
        with peak.watching(process.pid):
            _, status, used = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started
        overdue.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        left_cpu_s, left_kb = _leftovers(process.pid)
        if process.returncode != 0:
            err.seek(0)
            raise Failed(f"{' '.join(command)} ended with {process.returncode}\n{err.read().decode(errors='replace')}")
        out.seek(0)
        return Cost(
            wall_s=wall_s,
            cpu_s=used.ru_utime + used.ru_stime + left_cpu_s,
            peak_mb=peak.bytes / MEGABYTE,
            largest_mb=max(used.ru_maxrss, left_kb) * 1024 / MEGABYTE,
            said=_object(out.read()),
        )


def _leftovers(group: int) -> tuple[float, int]:
    """CPU seconds and largest memory (KiB) of what a command left behind, which is ended if it does not end."""
    cpu_s, largest_kb = 0.0, 0
    deadline = time.monotonic() + LEFTOVERS_S
    while True:
        try:
            pid, _, used = os.wait4(-group, os.WNOHANG)
        except ChildProcessError:
            return cpu_s, largest_kb
        if pid:
            cpu_s += used.ru_utime + used.ru_stime
            largest_kb = max(largest_kb, used.ru_maxrss)
        elif time.monotonic() > deadline:
            os.killpg(group, 9)
            deadline += LEFTOVERS_S
        else:
            time.sleep(0.01)


def _object(text: bytes) -> dict[str, Any]:
    with suppress(ValueError):
        found = json.loads(text)
        return found if isinstance(found, dict) else {}
    return {}


class _Peak:
    """The most memory a process and its descendants had at any moment we looked."""

    def __init__(self) -> None:
        self.bytes = 0

    @contextmanager
    def watching(self, pid: int) -> Iterator[None]:
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(pid, over))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _watch(self, pid: int, over: threading.Event) -> None:
        wait_s = SAMPLE_S
        while not over.wait(wait_s):
            began = time.perf_counter()
            self.bytes = max(self.bytes, sum(_proportional(each) for each in _tree(pid)))
            wait_s = max(SAMPLE_S, (time.perf_counter() - began) * SAMPLING_SHARE)


def _tree(pid: int) -> Iterator[int]:
    yield pid
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                for child in (task / "children").read_text().split():
                    yield from _tree(int(child))


def _proportional(pid: int) -> int:
    """Memory of a process in bytes, shared pages in parts; 0 if it has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def cpu_of_group(leader: int) -> float:
    """CPU seconds until now of a process, of its children that live and of those it has waited for."""
    ticks = 0
    for pid in _tree(leader):
        with suppress(OSError):
            # After the name, which may hold anything: state is field 3 of proc(5), utime field 14.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            own, waited_for = fields[11:13], fields[13:15]
            ticks += sum(map(int, own + waited_for if pid == leader else own))
    return ticks / TICKS


@contextmanager
def server(module: str, *arguments: str) -> Iterator[str]:
    """One of our servers, `python -m module`, which prints its port; yields its URL."""
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own program
    try:
        port = process.stdout.readline() if process.stdout else ""
        if not port:
            raise Failed(f"{module} did not start")
        yield f"http://127.0.0.1:{int(port)}"
    finally:
        process.terminate()
        process.communicate(timeout=STOP_S)
