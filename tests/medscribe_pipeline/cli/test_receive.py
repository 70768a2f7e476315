"""`medscribe receive`: as a person or a supervisor runs it, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.settings import Settings
from medscribe_pipeline.warehouse.store import SCHEMA_HEAD, Warehouse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.medscribe_pipeline.cli.conftest import Ran

SECRET = "qxcanary-path-secret-of-a-test"
PATIENCE_S = 20.0


@contextmanager
def receiving(home: Path, ready: Path) -> Iterator[subprocess.Popen[str]]:
    """The receiver, once it has written its ready file."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MEDSCRIBE_")}
    environment |= {"MEDSCRIBE_HOME": str(home), "MEDSCRIBE_RECEIVER_PORT": "0"}
    with subprocess.Popen(
        [Path(sys.executable).with_name("medscribe"), "receive", "--ready-file", ready],
        cwd=ready.parent,
        env={**environment, "MEDSCRIBE_RECEIVER_PATH_SECRET": SECRET},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            give_up_at = time.monotonic() + PATIENCE_S
            while not ready.exists() and process.poll() is None and time.monotonic() < give_up_at:
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


def get(url: str) -> tuple[int, str]:
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - loopback, as the receiver says
        return answer.status, answer.read().decode()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_and_ends_in_order(tmp_path: Path, end: signal.Signals) -> None:
    ready = tmp_path / "ready.json"

    with receiving(tmp_path / "home", ready) as process:
        told = json.loads(ready.read_text(encoding="utf-8"))
        status, _ = get(f"{told['url']}/readyz")
        process.send_signal(end)
        out, err = process.communicate(timeout=PATIENCE_S)

    assert set(told) == {"pid", "url"}
    assert told["pid"] == process.pid
    assert told["url"].startswith("http://127.0.0.1:")
    assert status == 200
    assert (process.returncode, err) == (0, "")
    assert out == f"The receiver listens at {told['url']}; Ctrl-C ends it.\n"
    assert not ready.exists()


def test_it_makes_the_warehouse_and_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"

    with receiving(tmp_path / "home", ready) as process:
        url = json.loads(ready.read_text(encoding="utf-8"))["url"]
        request = urllib.request.Request(  # noqa: S310 - loopback, as the receiver says
            f"{url}/webhooks/audioscribe/{SECRET}", data=b'{"id": 4001}', headers={"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - the same
            status = answer.status
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE_S)

    with Warehouse.open(Settings(home=tmp_path / "home"), migrate=False) as warehouse, warehouse.read() as connection:
        stored = connection.exec_driver_sql("SELECT provider, kind, processed_at FROM inbox").all()
        assert warehouse.schema_version() == SCHEMA_HEAD
    assert status == 200
    assert [tuple(row) for row in stored] == [("audioscribe", "session", None)]
    assert SECRET not in out + err


def test_without_a_secret_nothing_could_be_received(home: Path, medscribe: Callable[..., Ran]) -> None:
    assert home

    ran = medscribe("receive")

    assert (ran.code, ran.out) == (2, "")
    assert "MEDSCRIBE_RECEIVER_PATH_SECRET" in ran.err
    assert "code=receiver_secret" in ran.err


def test_a_port_in_use_is_exit_code_2(
    tmp_path: Path, home: Path, medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert home
    ready = tmp_path / "ready.json"
    monkeypatch.setenv("MEDSCRIBE_RECEIVER_PATH_SECRET", SECRET)

    with receiving(tmp_path / "other", ready):
        url = json.loads(ready.read_text(encoding="utf-8"))["url"]
        monkeypatch.setenv("MEDSCRIBE_RECEIVER_PORT", url.rpartition(":")[2])
        ran = medscribe("receive")

    assert (ran.code, ran.out) == (2, "")
    assert "code=receiver_port" in ran.err
    assert SECRET not in ran.err


def test_a_ready_file_that_cannot_be_written_is_exit_code_2(
    tmp_path: Path, home: Path, medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert home
    monkeypatch.setenv("MEDSCRIBE_RECEIVER_PATH_SECRET", SECRET)
    monkeypatch.setenv("MEDSCRIBE_RECEIVER_PORT", "0")

    ran = medscribe("receive", "--ready-file", tmp_path / "nowhere" / "ready.json")

    assert (ran.code, ran.out) == (2, "")
    assert "code=receiver_ready_file" in ran.err
