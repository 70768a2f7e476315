"""Locks between runs, and the question whether a run is still alive.

Both rest on one property: the operating system (or the PostgreSQL server) lets go of a lock the moment its
holder dies, SIGKILL included. A worker holds a lock named after itself for as long as it lives; who finds a
row claimed by a worker whose lock is free knows that the worker is gone, without waiting for a lease to run out.
"""

from __future__ import annotations

import hashlib
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import sqlalchemy as sa
from filelock import FileLock, Timeout

from medscribe_pipeline.errors import Busy, ConfigError, WarehouseTrouble
from medscribe_pipeline.warehouse.failures import translated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

__all__ = ["WORKER", "FileLocks", "Locks", "PostgresLocks"]

POLL_S = 0.05
WORKER = "worker:"
"""Begins the names of locks that stand for a living worker."""


class Locks(Protocol):
    """Named locks shared by all processes that use one warehouse."""

    def hold(self, name: str, timeout_s: float) -> AbstractContextManager[None]:
        """Holds `name` inside a `with` block; raises `Busy` when it is not free within `timeout_s` seconds."""
        ...

    def is_free(self, name: str) -> bool:
        """Whether nobody holds `name` at this moment."""
        ...

    def assure(self) -> None:
        """Raises `WarehouseTrouble` if one of the locks held here was lost: another run may have begun then."""
        ...


def _busy(name: str) -> Busy:
    return Busy(
        "Another run holds the lock this run needs; wait for it to end, then run again",
        context={"lock": name},
    )


class FileLocks:
    """Locks as files beside an embedded warehouse: for all processes of one machine.

    Args:
        directory: Where the lock files live; made on first use. They are empty, and stay, but for those of workers.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def hold(self, name: str, timeout_s: float) -> Iterator[None]:
        """See `Locks.hold`. Not re-entrant, also not within one process."""
        lock = self._lock(name)
        try:
            lock.acquire(timeout=timeout_s, poll_interval=POLL_S)
        except Timeout:
            raise _busy(name) from None
        except OSError:
            raise self._unusable() from None
        try:
            yield
        finally:
            lock.release()
            if name.startswith(WORKER):
                # Nobody will ever hold it again. Other files stay: somebody may be about to lock the same one.
                Path(lock.lock_file).unlink(missing_ok=True)

    def is_free(self, name: str) -> bool:
        """See `Locks.is_free`."""
        lock = self._lock(name)
        if not Path(lock.lock_file).exists():
            return True
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        except OSError:
            raise self._unusable() from None
        lock.release()
        return True

    def assure(self) -> None:
        """See `Locks.assure`. The operating system takes no lock away from who lives."""

    def _lock(self, name: str) -> FileLock:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError:
            raise self._unusable() from None
        # Names hold account and stream names a user chose; a digest is a safe file name for all of them.
        digest = hashlib.sha256(name.encode()).hexdigest()[:32]
        return FileLock(self._directory / f"{digest}.lock", thread_local=False)

    def _unusable(self) -> ConfigError:
        return ConfigError(
            "Cannot create lock files beside the warehouse; make the folder writable or set MEDSCRIBE_HOME",
            code="locks_unwritable",
        )


class PostgresLocks:
    """Session-level advisory locks: for all processes of all machines that share one PostgreSQL warehouse.

    Each held lock keeps one connection of its own, so that the server frees it when the process dies. It also does
    when that connection ends otherwise (a restart, an administrator, a network that forgets it) while the process
    lives and works on: that is what `assure` finds out before anything is written.
    Through a transaction-pooling proxy (PgBouncer) advisory locks do not work: connect directly.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._held: list[sa.Connection] = []
        self._asking = threading.Lock()

    @contextmanager
    def hold(self, name: str, timeout_s: float) -> Iterator[None]:
        """See `Locks.hold`."""
        deadline = time.monotonic() + timeout_s
        with translated(), self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            key = self._key(name)
            while not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(key))):
                if time.monotonic() >= deadline:
                    raise _busy(name)
                time.sleep(POLL_S)
            with self._asking:
                self._held.append(connection)
            try:
                yield
            finally:
                with self._asking:
                    self._held.remove(connection)
                self._unlock(connection, key)

    @staticmethod
    def _unlock(connection: sa.Connection, key: sa.Cast[int]) -> None:
        try:
            connection.execute(sa.select(sa.func.pg_advisory_unlock(key)))
        except sa.exc.SQLAlchemyError:
            # Lost, as a rule, and the lock with it; else that frees it. Nothing was written since: see `assure`.
            with suppress(sa.exc.SQLAlchemyError):
                connection.invalidate()

    def assure(self) -> None:
        """See `Locks.assure`. One short round trip for each lock."""
        with self._asking:
            try:
                for connection in self._held:
                    connection.scalar(sa.select(1))
            except sa.exc.SQLAlchemyError:
                lost = WarehouseTrouble(
                    "The database ended the connection that held the locks of this run, so another may have begun; "
                    "run again, what was landed and delivered stays",
                    code="lock_lost",
                )
            else:
                return
        raise lost

    def is_free(self, name: str) -> bool:
        """See `Locks.is_free`."""
        with translated(), self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            key = self._key(name)
            if not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(key))):
                return False
            connection.execute(sa.select(sa.func.pg_advisory_unlock(key)))
            return True

    @staticmethod
    def _key(name: str) -> sa.Cast[int]:
        digest = hashlib.sha256(f"medscribe:{name}".encode()).digest()
        return sa.cast(int.from_bytes(digest[:8], "big", signed=True), sa.BigInteger)


def new_worker_name() -> str:
    """A name no other worker has: 16 random bytes as a UUID."""
    return str(uuid.uuid4())
