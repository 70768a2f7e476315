"""Processes that begin where all imports are done: these take most of a short run, and are the same every time.

A server, one for each process that runs tests, imports what the command needs and then forks for each process. From
there on the fork is a process like any other: with the arguments, the environment, the working directory and the
streams it was given, in a session of its own, and free to be killed. It runs `medscribe`, or a script of a test.

What happens while Python and the command start is not seen this way; tests about that start it cold.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["WarmProcess", "start_warm"]

# All but medscribe_pipeline.definitions, which reads the settings of its environment when it is imported.
MODULES = (
    "alembic.command",
    "assets.location",
    "dagster._core.definitions.repository_definition.repository_data_builder",
    "dagster._core.execution.execute_in_process",
    "dagster._core.execution.plan.active",
    "dagster._core.executor.in_process",
    "dagster._core.instance.factory",
    "dagster._core.instance.runs.run_domain",
    "dagster._core.secrets.loader",
    "dagster._core.storage.local_compute_log_manager",
    "dagster._core.storage.sqlite_storage",
    "fhir.resources.R4B.bundle",
    "fhir.resources.R4B.composition",
    "fhir.resources.R4B.documentreference",
    "fhir.resources.R4B.provenance",
    "httpcore",
    "medscribe_pipeline.cli.app",
    "medscribe_pipeline.cli.output",
    "medscribe_pipeline.cli.runner",
    "medscribe_pipeline.fhir.markdown_parser",
    "medscribe_pipeline.receiver",
    "medscribe_pipeline.warehouse.migrate",
    "resources.instance",
    "upath.implementations.local",
    "uvicorn",
)
NUMBER = struct.Struct("!i")
START_S = 60.0


class WarmProcess:
    """A command in a fork of the server; as much of `subprocess.Popen` as the tests use.

    Attributes:
        args: What it was started with.
        pid: Of the process, which leads its own group.
        returncode: How it ended, once it was waited for.
    """

    def __init__(self, args: list[str], status: socket.socket, out: IO[bytes], err: IO[bytes]) -> None:
        self.args = args
        self._status, self._out, self._err = status, out, err
        self._status.settimeout(START_S)
        self.returncode: int | None = None
        self.pid = NUMBER.unpack(_received(self._status, NUMBER.size))[0]

    def poll(self) -> int | None:
        """How it ended, or `None` while it runs."""
        try:
            return self._wait(0.0)
        except BlockingIOError:
            return None

    def kill(self) -> None:
        """SIGKILL, if it still runs; another thread may wait for it meanwhile."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float) -> int:
        """Waits for its end; what it has written is shown if the test fails.

        Raises:
            subprocess.TimeoutExpired: It still runs.
        """
        sys.stderr.write("".join(self.communicate(timeout)))
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits for its end, and returns what it has written.

        Raises:
            subprocess.TimeoutExpired: It still runs.
        """
        try:
            self._wait(timeout)
        except TimeoutError:
            raise subprocess.TimeoutExpired("medscribe", timeout or 0.0) from None
        return _text_of(self._out), _text_of(self._err)

    def _wait(self, timeout_s: float | None) -> int:
        if self.returncode is None:
            self._status.settimeout(timeout_s)
            self.returncode = NUMBER.unpack(_received(self._status, NUMBER.size))[0]
            self._status.close()
        return self.returncode


class _Server:
    """The client's side of the server: it ends when this process does, since its end of the socket is closed then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair()
        environment = {"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8"}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def start(self, order: dict[str, Any]) -> WarmProcess:
        told = json.dumps(order).encode()
        out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - closed when they are read
        status, theirs = socket.socketpair()
        with theirs, self._lock:
            socket.send_fds(self._socket, [NUMBER.pack(len(told))], [out.fileno(), err.fileno(), theirs.fileno()])
            self._socket.sendall(told)
        return WarmProcess(order["arguments"], status, out, err)


@functools.cache
def _server() -> _Server:
    return _Server()


def start_warm(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, *, script: Path | None = None
) -> WarmProcess:
    """Starts `medscribe`, or a script, with these arguments and nothing but this environment."""
    program = str(script or "medscribe")
    order = {"arguments": [program, *arguments], "environment": dict(environment), "folder": str(folder)}
    return _server().start(order)


def _received(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = connection.recv(size - len(found))
        if not part:
            raise EOFError
        found += part
    return found


def _text_of(file: IO[bytes]) -> str:
    with file:
        file.seek(0)
        return file.read().decode()


def _serve(orders: socket.socket) -> None:
    """Forks for each order, until nobody is left to give any; returns in the forks, each of which is a command."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Nobody waits for the keepers.
    while True:
        header, descriptors, _, _ = socket.recv_fds(orders, NUMBER.size, 3)
        if not header:
            sys.exit()
        order: dict[str, Any] = json.loads(_received(orders, *NUMBER.unpack(header)))
        assert threading.active_count() == 1, "a fork has one thread, and what others hold is held for ever"
        if os.fork() == 0:
            orders.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            out, err, status = descriptors
            _keep(socket.socket(fileno=status))
            _become(order, out, err)
            return
        for each in descriptors:
            os.close(each)


def _keep(status: socket.socket) -> None:
    """Forks again; waits for that fork and tells how it ended, and returns in it once it has told its number."""
    child = os.fork()
    if child:
        _, ended = os.waitpid(child, 0)
        # Nobody may be there to hear it.
        os._exit(0 if status.send(NUMBER.pack(os.waitstatus_to_exitcode(ended))) else 1)
    os.setsid()
    status.sendall(NUMBER.pack(os.getpid()))
    status.close()


def _become(order: dict[str, Any], out: int, err: int) -> None:
    for descriptor, number in ((out, 1), (err, 2)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv[:] = order["arguments"]


def _end(code: Any) -> NoReturn:
    """Ends as Python does, but for taking all modules apart again, which takes longer than many a command."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0)


def _run() -> None:
    program = Path(sys.argv[0])
    if program.suffix == ".py":
        runpy.run_path(str(program), run_name="__main__")
        return
    from medscribe_pipeline.cli import main  # noqa: PLC0415 - as the installed command does

    main()


if __name__ == "__main__":
    # As for the installed command, this folder is no place to import from.
    sys.path.pop(0)
    for module in MODULES:
        importlib.import_module(module)
    gc.freeze()  # All of it stays; a fork that collected it would only copy its memory.
    _serve(socket.socket(fileno=int(sys.argv[1])))
    try:
        _run()
    except SystemExit as ended:
        _end(ended.code)
    _end(0)
