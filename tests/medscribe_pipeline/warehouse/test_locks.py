"""Locks keep others out, and the system lets go of them when their holder dies."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.errors import Busy, ConfigError, MedscribeError
from medscribe_pipeline.warehouse.locks import WORKER, FileLocks
from medscribe_pipeline.warehouse.store import Warehouse
from tests.databases import url_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from medscribe_pipeline.settings import Settings

HOLDER = """
import sys, time
from medscribe_pipeline.settings import Settings
from medscribe_pipeline.warehouse.store import Warehouse
warehouse = Warehouse.open(Settings(warehouse_url=sys.argv[1]), migrate=False)
with warehouse.locks.hold("job", 0), warehouse.worker() as name:
    print(name, flush=True)
    time.sleep(60)
"""


@contextmanager
def _another_process(warehouse: Warehouse) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that holds the lock "job" and is a worker; yields it and the worker's name."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, url_of(warehouse)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


def _soon(condition: Callable[[], bool]) -> bool:
    """PostgreSQL notices within moments that a client is gone."""
    deadline = time.monotonic() + 10
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_a_lock_is_held_by_one_at_a_time(warehouse: Warehouse) -> None:
    inside = most = 0
    guard = threading.Lock()

    def work(_: int) -> None:
        nonlocal inside, most
        with warehouse.locks.hold("job", 10):
            with guard:
                inside += 1
                most = max(most, inside)
            time.sleep(0.01)
            with guard:
                inside -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))

    assert most == 1


def test_who_waits_too_long_is_told(warehouse: Warehouse) -> None:
    with warehouse.locks.hold("job", 0), pytest.raises(Busy) as raised, warehouse.locks.hold("job", 0.1):
        pass

    assert raised.value.context == {"lock": "job"}


def test_other_names_are_free(warehouse: Warehouse) -> None:
    with warehouse.locks.hold("job", 0), warehouse.locks.hold("another", 0):
        assert not warehouse.locks.is_free("job")
        assert warehouse.locks.is_free("third")


def test_a_lock_is_free_after_its_block_however_it_ends(warehouse: Warehouse) -> None:
    with pytest.raises(ZeroDivisionError), warehouse.locks.hold("job", 0):
        raise ZeroDivisionError

    assert warehouse.locks.is_free("job")
    with warehouse.locks.hold("job", 0):
        pass


def test_asking_whether_a_lock_is_free_does_not_keep_it(warehouse: Warehouse) -> None:
    assert warehouse.locks.is_free("job")
    assert warehouse.locks.is_free("job")
    with warehouse.locks.hold("job", 0):
        assert not warehouse.locks.is_free("job")


def test_a_killed_process_frees_its_locks_and_is_known_to_be_dead(warehouse: Warehouse) -> None:
    with _another_process(warehouse) as (process, worker):
        held = not warehouse.locks.is_free("job")
        alive = warehouse.is_alive(worker)
        process.kill()
        process.wait(10)

        freed = _soon(lambda: warehouse.locks.is_free("job"))
        dead = _soon(lambda: not warehouse.is_alive(worker))

    assert (held, alive, freed, dead) == (True, True, True, True)


def test_a_worker_lives_as_long_as_its_block(warehouse: Warehouse) -> None:
    with warehouse.worker() as one, warehouse.worker() as two:
        assert one != two
        assert warehouse.is_alive(one)
        assert warehouse.is_alive(two)

    assert not warehouse.is_alive(one)
    assert not warehouse.is_alive("nobody")


def test_a_lock_needs_no_free_connection_of_the_pool(warehouse: Warehouse) -> None:
    """Held locks do not starve the transactions that run under them."""
    with (
        warehouse.locks.hold("a", 0),
        warehouse.locks.hold("b", 0),
        warehouse.worker(),
        warehouse.begin() as writing,
        warehouse.read() as reading,
    ):
        assert not writing.closed
        assert not reading.closed


def test_a_place_where_no_lock_file_can_be_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    locks = FileLocks(tmp_path / "file" / "locks")

    with pytest.raises(ConfigError) as held, locks.hold("job", 0):
        pass
    with pytest.raises(ConfigError) as asked:
        locks.is_free("job")

    assert {held.value.code, asked.value.code} == {"locks_unwritable"}


def test_lock_files_tell_nothing(warehouse: Warehouse, tmp_path: Path) -> None:
    with warehouse.locks.hold("sync:clinic-of-dr-canary:askara", 0):
        names = [path.name for path in tmp_path.rglob("*.lock")]

    assert not any("canary" in name for name in names)


def test_a_database_that_went_away_is_one_of_our_errors(
    make_settings: Callable[..., Settings], postgres_url: str
) -> None:
    gone = f"{postgres_url}&application_name=gone".replace("/test_", "/none_")

    with (
        Warehouse.open(make_settings(warehouse_url=gone), migrate=False) as warehouse,
        pytest.raises(MedscribeError) as raised,
        warehouse.locks.hold("job", 0),
    ):
        pass

    assert raised.value.code == "warehouse_refused"
    assert raised.value.__cause__ is None


def test_workers_that_came_and_went_leave_no_file(tmp_path: Path) -> None:
    locks = FileLocks(tmp_path / "locks")
    for number in range(3):
        with locks.hold(f"{WORKER}{number}", 0):
            assert not locks.is_free(f"{WORKER}{number}")

    assert all(locks.is_free(f"{WORKER}{number}") for number in range(3))
    assert list((tmp_path / "locks").iterdir()) == []
