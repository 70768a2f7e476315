"""The receiver as a process: killed, stopped, flooded. What it acknowledged is in the warehouse, nothing else is."""

from __future__ import annotations

import random
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import orjson
import pytest

from medscribe_pipeline.receiver import Receiver, serve
from medscribe_pipeline.warehouse.store import Warehouse
from tests.medscribe_pipeline.receiver.letterbox import (
    PATH_SECRET,
    Letterbox,
    open_letterbox,
    prepare,
    receiver_process,
    receiver_settings,
    signature,
)

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from medscribe_pipeline.settings import Settings

AUDIOSCRIBE_PATH = f"/webhooks/audioscribe/{PATH_SECRET}"


class Posting:
    """Posts sessions from several threads until the receiver is gone; remembers which were acknowledged."""

    def __init__(self, letterbox: Letterbox, threads: int = 8) -> None:
        self._letterbox = letterbox
        self._numbers = iter(range(1, 1_000_000))
        self._lock = threading.Lock()
        self.acknowledged: set[str] = set()
        self.enough = threading.Event()
        self._threads = [threading.Thread(target=self._post) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _post(self) -> None:
        with httpx.Client(timeout=10) as http:
            while True:
                with self._lock:
                    number = next(self._numbers)
                try:
                    answer = http.post(f"{self._letterbox.url}{AUDIOSCRIBE_PATH}", json={"id": number, "note": "text"})
                except httpx.HTTPError:
                    return
                if answer.status_code == 200:
                    with self._lock:
                        self.acknowledged.add(str(number))
                        if len(self.acknowledged) >= 100:
                            self.enough.set()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_was_acknowledged_outlives_the_receiver(make_settings: Callable[..., Settings], number: int) -> None:
    with receiver_process(receiver_settings(make_settings)) as (process, letterbox):
        posting = Posting(letterbox)
        assert posting.enough.wait(30)
        process.send_signal(number)
        code = process.wait(20)
        posting.join()
        stored = {row["event_id"] for row in letterbox.rows()}

    assert code == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    assert len(posting.acknowledged) >= 100
    assert posting.acknowledged <= stored


def test_what_has_begun_to_arrive_is_finished_before_the_end(make_settings: Callable[..., Settings]) -> None:
    """The warehouse is locked when SIGTERM comes; the post that waits for it is stored, then answered."""
    with receiver_process(receiver_settings(make_settings)) as (process, letterbox), ThreadPoolExecutor(1) as pool:
        with letterbox.warehouse.begin():
            answer = pool.submit(letterbox.post, AUDIOSCRIBE_PATH, {"id": 1})
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            assert process.poll() is None

        assert answer.result().status_code == 200
        assert process.wait(20) == 0
        assert [row["event_id"] for row in letterbox.rows()] == ["1"]
        assert not (letterbox.settings.home / "ready.json").exists()


POSTS = 200
PAD = "x" * 50_000
FILLING, ROUNDS = 4, 7
"""Floods until SQLite's page cache is full, which holds 16 MB, and in all; each stores 6 MB."""


def flood(letterbox: Letterbox, round_number: int) -> list[tuple[str, int]]:
    """Posts 200 callbacks of 50 kB at once: a third are duplicates, a tenth are forged."""
    rng = random.Random(round_number)  # noqa: S311 - a test's own dice
    bodies = [
        orjson.dumps({"id": f"j-{round_number}-{number}", "status": "ongoing", "pad": PAD})
        for number in range(POSTS - POSTS // 10 - POSTS // 3)
    ]
    wanted = [("fresh", body, signature(body, at=letterbox.now)) for body in bodies]
    wanted += [("duplicate", body, signature(body, at=letterbox.now)) for body in rng.sample(bodies, POSTS // 3)]
    for number in range(POSTS // 10):
        body = orjson.dumps({"id": f"forged-{round_number}-{number}", "pad": PAD})
        wanted.append(("forged", body, signature(body, secret="another", at=letterbox.now)))
    rng.shuffle(wanted)
    start = threading.Barrier(POSTS)
    limits = httpx.Limits(max_connections=POSTS, max_keepalive_connections=POSTS)
    with httpx.Client(timeout=30, limits=limits) as http, ThreadPoolExecutor(POSTS) as pool:

        def send(each: tuple[str, bytes, dict[str, str]]) -> tuple[str, int]:
            kind, body, headers = each
            start.wait(30)
            return kind, http.post(f"{letterbox.url}/callbacks/nabla", content=body, headers=headers).status_code

        return list(pool.map(send, wanted))


def resident_bytes(process: subprocess.Popen[bytes], name: str) -> int:
    found = re.search(
        rf"^{name}:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text(encoding="ascii"), re.MULTILINE
    )
    assert found
    return int(found[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the size of the process from /proc")
def test_a_flood_of_duplicates_and_forgeries(make_settings: Callable[..., Settings]) -> None:
    with receiver_process(receiver_settings(make_settings)) as (process, letterbox):
        sizes = []
        for round_number in range(ROUNDS):
            answers = flood(letterbox, round_number)
            assert {kind: {code for k, code in answers if k == kind} for kind, _ in answers} == {
                "fresh": {200},
                "duplicate": {200},
                "forged": {401},
            }
            sizes.append(resident_bytes(process, "VmRSS"))
        rows = letterbox.rows()
        outcomes = letterbox.outcomes()
        peak = resident_bytes(process, "VmHWM")

    fresh, duplicates, forged = POSTS - POSTS // 10 - POSTS // 3, POSTS // 3, POSTS // 10
    assert len(rows) == fresh * ROUNDS
    assert sum(row["deliveries"] for row in rows) == (fresh + duplicates) * ROUNDS
    assert all(row["verified"] and row["payload"]["id"].startswith("j-") for row in rows)
    assert sorted(row["seq"] for row in rows) == list(range(1, len(rows) + 1))
    assert outcomes == {
        "stored": fresh * ROUNDS,
        "duplicate": duplicates * ROUNDS,
        "bad_signature": forged * ROUNDS,
    }
    # 30 MB came in after the caches and pools were full, 17 MB of it to be stored: none of that may stay.
    assert sizes[-1] - sizes[FILLING - 1] < 8_000_000
    assert peak < 200_000_000


def test_two_receivers_share_one_inbox(make_settings: Callable[..., Settings]) -> None:
    settings = receiver_settings(make_settings)
    bodies = [{"id": number, "note": "text"} for number in range(60)]
    with (
        open_letterbox(settings) as first,
        Warehouse.open(settings, migrate=False) as writing,
        Receiver(settings, writing) as second,
        ThreadPoolExecutor(8) as pool,
    ):
        urls = [f"{url}{AUDIOSCRIBE_PATH}" for url in (first.url, second.url)]
        codes = list(
            pool.map(
                lambda each: first.http.post(each[0], json=each[1]).status_code,
                [(url, body) for body in bodies for url in urls],
            )
        )
        rows = first.rows()

    assert codes == [200] * 120
    assert [row["deliveries"] for row in rows] == [2] * 60
    assert [row["seq"] for row in rows] == list(range(1, 61))


def test_serving_ends_when_told_to(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    """Outside the main thread, where no signals arrive."""
    settings = receiver_settings(make_settings)
    stop, urls = threading.Event(), []

    def look(receiver: Receiver) -> None:
        ready = orjson.loads((tmp_path / "ready.json").read_bytes())
        assert ready["url"] == receiver.url
        urls.append(httpx.get(f"{receiver.url}/healthz").status_code)
        stop.set()

    with prepare(settings), Warehouse.open(settings, migrate=False) as warehouse, ThreadPoolExecutor(1) as pool:
        receiver = Receiver(settings, warehouse)
        pool.submit(serve, receiver, ready_file=tmp_path / "ready.json", on_ready=look, stop=stop).result(20)

    assert urls == [200]
    assert not receiver.is_running
    assert list(tmp_path.glob("ready*")) == []
