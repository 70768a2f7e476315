from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from medscribe_pipeline.errors import Busy, ConfigError
from medscribe_pipeline.sandbox import (
    AskaraOptions,
    CorpusOptions,
    IntronOptions,
    NablaOptions,
    Sandbox,
    advance,
    serve,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("host", [".".join("0000"), "::", "192.168.1.5", "example.org", "", "localhost.example.org"])
def test_only_loopback(host: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Sandbox(host=host)

    assert refused.value.code == "sandbox_host"


def test_it_listens_on_loopback_alone(sandbox: Sandbox) -> None:
    port = int(sandbox.url.rsplit(":", 1)[1])

    assert sandbox.url.startswith("http://127.0.0.1:")
    with socket.socket() as other:
        # Had it bound every interface, another address of this machine's loopback net would answer, too.
        assert other.connect_ex(("127.0.0.2", port)) != 0


def test_localhost_is_loopback() -> None:
    with Sandbox(host="localhost") as sandbox:
        assert httpx.get(f"{sandbox.fhir_url}/metadata").status_code == 200


def test_it_starts_and_stops_quickly() -> None:
    begun_at = time.monotonic()
    with Sandbox() as sandbox, httpx.Client() as client:
        started_at = time.monotonic()
        client.get(f"{sandbox.fhir_url}/metadata")
        # A connection is open and idle when it stops.
        sandbox.stop()
        stopped_at = time.monotonic()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{sandbox.fhir_url}/metadata")

    assert started_at - begun_at < 1
    assert stopped_at - started_at < 2


def test_five_thousand_sessions_start_within_seconds() -> None:
    begun_at = time.monotonic()
    with Sandbox(corpus=CorpusOptions(days=50, audios_per_day=10, sessions_per_day=100)):
        elapsed = time.monotonic() - begun_at

    assert elapsed < 5


def test_the_environment_points_here(sandbox: Sandbox) -> None:
    fixed, oauth = sandbox.environment(), sandbox.environment(oauth=True)

    assert fixed == {
        "MEDSCRIBE_ASKARA_BASE_URL": sandbox.askara_url,
        "MEDSCRIBE_ASKARA_TOKEN": AskaraOptions().token,
        "MEDSCRIBE_AUDIOSCRIBE_BASE_URL": sandbox.audioscribe_url,
        "MEDSCRIBE_AUDIOSCRIBE_TOKEN": "sandbox-audioscribe-token",
        "MEDSCRIBE_NABLA_BASE_URL": sandbox.nabla_url,
        "MEDSCRIBE_NABLA_TOKEN": NablaOptions().token,
        "MEDSCRIBE_NABLA_WEBHOOK_SECRET": NablaOptions().webhook_secrets[0],
        "MEDSCRIBE_INTRON_BASE_URL": sandbox.intron_url,
        "MEDSCRIBE_INTRON_TOKEN": IntronOptions().token,
        "MEDSCRIBE_EHR_BASE_URL": sandbox.fhir_url,
        "MEDSCRIBE_EHR_TOKEN": "sandbox-ehr-token",
    }
    assert oauth.keys() - fixed.keys() == {
        "MEDSCRIBE_ASKARA_CLIENT_ID",
        "MEDSCRIBE_ASKARA_CLIENT_SECRET",
        "MEDSCRIBE_ASKARA_REFRESH_TOKEN",
    }
    assert "MEDSCRIBE_ASKARA_TOKEN" not in oauth


def test_a_taken_port_is_a_clear_error(sandbox: Sandbox) -> None:
    port = int(sandbox.url.rsplit(":", 1)[1])

    with pytest.raises(ConfigError) as refused, Sandbox(port=port):
        pass

    assert refused.value.code == "sandbox_port"


def test_a_restart_on_another_port_goes_on(tmp_path: Path, clients: Callable[[Sandbox, str], httpx.Client]) -> None:
    state = tmp_path / "state.sqlite"
    with Sandbox(state=state) as first:
        advance(first.world)
        before = clients(first, "askara").get("/audios", params={"itemsPerPage": 100}).json()
        with pytest.raises(Busy), Sandbox(state=state):
            pass

    with Sandbox(state=state) as second:
        after = clients(second, "askara").get("/audios", params={"itemsPerPage": 100}).json()
        generation = second.world.generation

    assert after == before
    assert generation == 1


def test_logs_say_nothing_about_requests(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", logger="uvicorn"):
        httpx.get(f"{sandbox.fhir_url}/metadata?qxcanary=Zzmark")

    assert "qxcanary" not in "".join(record.getMessage() for record in caplog.records if record.name != "httpx")


def test_serve_ends_when_told(tmp_path: Path) -> None:
    ready, stop, urls = tmp_path / "ready.json", threading.Event(), []

    def on_ready(sandbox: Sandbox) -> None:
        urls.append(sandbox.fhir_url)
        assert httpx.get(f"{sandbox.fhir_url}/metadata").status_code == 200
        content = json.loads(ready.read_bytes())
        assert content["pid"] == os.getpid()
        assert content["urls"]["fhir"] == sandbox.fhir_url
        assert content["environment"] == sandbox.environment()
        stop.set()

    serve(Sandbox(), ready_file=ready, on_ready=on_ready, stop=stop)

    assert len(urls) == 1
    assert list(tmp_path.iterdir()) == [], "the ready file is gone with the server"


def test_serve_cannot_write_its_ready_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        serve(Sandbox(), ready_file=tmp_path / "no such folder" / "ready.json")

    assert refused.value.code == "sandbox_ready_file"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_ends_in_order_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    ready = tmp_path / "ready.json"
    program = (
        "import sys, pathlib\n"
        "from medscribe_pipeline.sandbox import Sandbox, serve\n"
        "serve(Sandbox(), ready_file=pathlib.Path(sys.argv[1]))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(ready)], stderr=subprocess.PIPE)
    try:
        give_up_at = time.monotonic() + 30
        while not ready.exists() and process.poll() is None and time.monotonic() < give_up_at:
            time.sleep(0.02)
        url = json.loads(ready.read_bytes())["urls"]["fhir"]
        assert httpx.get(f"{url}/metadata").status_code == 200

        process.send_signal(number)
        _, errors = process.communicate(timeout=10)
    finally:
        process.kill()
        process.wait()

    assert (process.returncode, errors) == (0, b"")
    assert not ready.exists()
