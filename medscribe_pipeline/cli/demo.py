"""`medscribe demo` and `medscribe sandbox`: the whole pipeline against a simulated world, on loopback."""

from __future__ import annotations

import csv
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import sqlalchemy as sa

from medscribe_pipeline.cli.output import console, progress_shown
from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.receiver import Receiver
from medscribe_pipeline.sandbox import Faults, Sandbox, advance, serve
from medscribe_pipeline.settings import Settings
from medscribe_pipeline.visits import COLUMNS, read_visits
from medscribe_pipeline.warehouse.days import DayRule
from medscribe_pipeline.warehouse.manifest import import_visits
from medscribe_pipeline.warehouse.store import Warehouse
from medscribe_pipeline.warehouse.tables import notes

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["run", "run_sandbox"]

DEFAULT_HOME = Path(".medscribe-demo")
MARK = "demo.marker"
TICK_S = 0.3
JOBS_WAIT_S = 20.0
UI_START_S = 60.0
UI_STOP_S = 20.0


def run_sandbox(*, port: int, state: Path | None, faults: bool, ready_file: Path | None, as_json: bool) -> None:
    """Serves the sandbox in the foreground and says how to point the pipeline at it."""

    def tell(sandbox: Sandbox) -> None:
        if as_json:
            # One line, out at once: a program waits for it while we go on running.
            ready = {"pid": os.getpid(), "url": sandbox.url, "environment": sandbox.environment()}
            sys.stdout.write(orjson.dumps(ready).decode() + "\n")
            sys.stdout.flush()
            return
        console.print("The sandbox listens on loopback only, at", sandbox.url, highlight=False)
        for name, value in sandbox.environment().items():
            console.print(f"export {name}={value}", highlight=False, soft_wrap=True)
        console.print("Ctrl-C ends it.")

    sandbox = Sandbox(port=port, state=state, faults=Faults.all_on() if faults else None)
    serve(sandbox, ready_file=ready_file, on_ready=tell)


def run(*, ui_port: int | None, fresh: bool, as_json: bool) -> int:
    """Runs the demo: a first time everything, later times what changed since. Returns the exit code.

    Args:
        ui_port: Open the Dagster UI there afterwards; `None` not to.
        fresh: Forget earlier demos.
        as_json: Print JSON instead of tables.
    """
    home = _home(fresh=fresh)
    again = (home / "warehouse.sqlite").exists()
    with _world(home) as sandbox, _environment(home, sandbox), _receiving(sandbox):
        settings = Settings.load()
        if ui_port is not None and again:
            return _ui(home, ui_port)
        passed = advance(sandbox.world) if again else None
        code = _sync_once(settings, sandbox, passed, as_json=as_json)
        if code == 0 and ui_port is not None:
            return _ui(home, ui_port)
    return code


@contextmanager
def _world(home: Path) -> Iterator[Sandbox]:
    with ExitStack() as stack:
        world = Sandbox(state=home / "sandbox.sqlite", tick_every_s=TICK_S, audio_folder=home / "audio")
        try:
            sandbox = stack.enter_context(world)
        except ConfigError as error:
            if error.code != "sandbox_state":
                raise
            raise ConfigError(
                "The earlier demo here is of another version of medscribe-pipeline; forget it with "
                "`medscribe demo --fresh` (or `make demo-fresh`)",
                code="demo_of_another_version",
            ) from None
        yield sandbox


def _sync_once(settings: Settings, sandbox: Sandbox, passed: dict[str, int] | None, *, as_json: bool) -> int:
    from medscribe_pipeline.cli import runner
    from medscribe_pipeline.cli.app import report

    if not as_json:
        _introduce(passed)
    with Warehouse.open(settings) as warehouse:
        _import_manifest(settings, warehouse, sandbox)
        with progress_shown("demo"):
            result = runner.sync(settings, warehouse, wait_s=JOBS_WAIT_S)
        # The corpus holds a few broken records on purpose: quarantined ones are no failure of the demo.
        code = report(settings, warehouse, result, as_json=as_json, quarantine_is_trouble=False)
        with warehouse.read() as connection:
            last_day = connection.scalar(sa.select(sa.func.max(notes.c.visit_day)))
    if not as_json:
        _say_what_next(settings, last_day and last_day.isoformat())
    return code


def _introduce(passed: dict[str, int] | None) -> None:
    console.print(
        "[bold]medscribe demo[/]: four simulated scribe providers and a simulated FHIR endpoint on loopback, "
        "our receiver for their callbacks, synthetic patients, a SQLite warehouse. "
        "No account, nothing leaves this machine."
    )
    if passed is not None:
        news = ", ".join(
            f"{count} {name.replace('_', ' ')}" for name, count in passed.items() if name != "generation" and count
        )
        console.print(f"In the sandbox another day has passed: {news}. Only that should move now.", highlight=False)


def _say_what_next(settings: Settings, last_day: str | None) -> None:
    database = settings.home / "warehouse.sqlite"
    query = "select visit_day, state, count(*) from notes group by 1, 2"
    # The folder holds a `.env`, so any command that starts there is about the demo.
    here = f"cd {shlex.quote(str(settings.home))} && {shlex.quote(str(Path(sys.executable).with_name('medscribe')))}"
    looks = [
        ("is a day complete, what is missing, what to do", f"{here} day {last_day} --force --out day.html"),
        ("the same for every command, for example", f"{here} quarantine list"),
    ]
    for what, command in (
        *(looks if last_day else ()),
        ("run it again, only changes move", "make demo"),
        ("see the graph and this run", "make ui"),
        (
            "query a table",
            f"python3 -c \"import sqlite3; [print(*r) for r in sqlite3.connect('{database}').execute('{query}')]\"",
        ),
        ("start from nothing", "make demo-fresh"),
    ):
        console.print(f"  {what}:", style="dim", highlight=False)
        console.print(f"    {command}", markup=False, highlight=False, soft_wrap=True)


def _import_manifest(settings: Settings, warehouse: Warehouse, sandbox: Sandbox) -> None:
    """The clinic's own list of visits, by the same road a real one takes: a CSV file."""
    with tempfile.TemporaryDirectory(prefix="medscribe-demo-") as folder:
        path = Path(folder) / "visits.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(sandbox.world.visits())
        rows = read_visits(path, zone=settings.zone)
    import_visits(warehouse, rows, days=DayRule.of(settings), now=datetime.now(UTC))


def _home(*, fresh: bool) -> Path:
    """The demo's own home, marked as such: a real one is never played with, nor deleted."""
    home = Path(os.environ.get("MEDSCRIBE_HOME") or DEFAULT_HOME).expanduser().absolute()
    mark = home / MARK
    try:
        if home.exists() and any(home.iterdir()) and not mark.exists():
            raise ConfigError(
                "MEDSCRIBE_HOME holds something that no demo made; unset it or name an empty folder", code="demo_home"
            )
        if fresh and mark.exists():
            shutil.rmtree(home)
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark.write_text("Made by `medscribe demo`; `--fresh` deletes this folder.\n", encoding="utf-8")
    except OSError:
        raise ConfigError(
            "Cannot write the demo's folder; set MEDSCRIBE_HOME to a writable one", code="demo_home"
        ) from None
    return home


@contextmanager
def _environment(home: Path, sandbox: Sandbox) -> Iterator[None]:
    """Only the sandbox's settings while the demo runs: no setting of a real account may leak into it."""
    before = dict(os.environ)
    folder = Path.cwd()
    try:
        for name in list(os.environ):
            if name.startswith("MEDSCRIBE_"):
                del os.environ[name]
        os.environ.update(sandbox.environment(), MEDSCRIBE_HOME=str(home), MEDSCRIBE_TIMEZONE="Europe/Paris")
        # Jobs in the sandbox take seconds, not minutes.
        for provider in ("NABLA", "INTRON"):
            os.environ.update(
                {f"MEDSCRIBE_{provider}_POLL_FIRST_S": "0.5", f"MEDSCRIBE_{provider}_POLL_LONGEST_S": "1"}
            )
        _remember(home)
        os.environ.update(MEDSCRIBE_RECEIVER_PORT="0", MEDSCRIBE_RECEIVER_PATH_SECRET=secrets.token_urlsafe(24))
        os.chdir(home)  # A `.env` beside the caller belongs to a real account too.
        yield
    finally:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(before)


def _remember(home: Path) -> None:
    """The demo's settings in its folder: a command that starts there later is about the demo, as it was built."""
    lines = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("MEDSCRIBE_")]
    (home / ".env").write_text("# Made by `medscribe demo`.\n" + "\n".join(lines) + "\n", encoding="utf-8")


@contextmanager
def _receiving(sandbox: Sandbox) -> Iterator[None]:
    """Our receiver, with the sandbox's callbacks and webhooks pointed at it."""
    settings = Settings.load()
    secret = settings.receiver.path_secret
    with Warehouse.open(settings) as warehouse, Receiver(settings, warehouse) as receiver:
        sandbox.outbox.targets["nabla"] = f"{receiver.url}/callbacks/nabla"
        if secret is not None:
            sandbox.outbox.targets["audioscribe"] = f"{receiver.url}/webhooks/audioscribe/{secret.get_secret_value()}"
        yield


def _ui(home: Path, port: int) -> int:
    """The Dagster UI and daemon on the demo's instance, until Ctrl-C."""
    from medscribe_pipeline.cli.runner import dagster_home

    try:
        import dagster_webserver  # noqa: F401  # only to say clearly that it is missing
    except ModuleNotFoundError:
        raise ConfigError("The Dagster UI is not installed: pip install medscribe-pipeline[ui]", code="no_ui") from None
    environment = {**os.environ, "DAGSTER_HOME": str(dagster_home(Settings.load()))}
    command = [sys.executable, "-m", "dagster", "dev", "-m", "medscribe_pipeline.definitions"]
    command += ["-h", "127.0.0.1", "-p", str(port), "--log-level", "warning"]
    # A group of its own: Ctrl-C then reaches us first, and we end it in order.
    with subprocess.Popen(command, env=environment, cwd=home, start_new_session=True) as process:  # noqa: S603  # our own interpreter
        stop = threading.Event()
        handlers = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            _tell_when_up(port, process, stop)
            while not stop.wait(0.2) and process.poll() is None:
                pass
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            ended_by_itself = process.poll() is not None
            if not ended_by_itself:
                os.killpg(process.pid, signal.SIGINT)
                try:
                    process.wait(UI_STOP_S)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
    if ended_by_itself:
        raise ConfigError("The Dagster UI ended by itself; is the port in use? Try --port", code="ui_ended")
    console.print("The UI and the sandbox have ended.")
    return 0


def _tell_when_up(port: int, process: subprocess.Popen[Any], stop: threading.Event) -> None:
    url = f"http://127.0.0.1:{port}"
    for _ in range(int(UI_START_S / 0.5)):
        if stop.wait(0.5) or process.poll() is not None:
            return
        try:
            with urllib.request.urlopen(f"{url}/server_info", timeout=1):  # noqa: S310  # our own address
                break
        except (urllib.error.URLError, OSError):
            continue
    console.print(
        f"The Dagster UI is at {url} (Overview, Runs, Catalog). Ctrl-C ends it and the sandbox.", highlight=False
    )
