"""The real `medscribe` command in processes of its own, with an environment that holds nothing but what a test says."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from medscribe_pipeline.visits import COLUMNS
from tests.canaries import secrets_in
from tests.end_to_end.watch import remains
from tests.warm import WarmProcess, start_warm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medscribe_pipeline.sandbox import World

MEDSCRIBE = Path(sys.executable).with_name("medscribe")
TIMEOUT_S = 90.0

Process: TypeAlias = "subprocess.Popen[str] | WarmProcess"

WORKING = ("MEDSCRIBE_NABLA_", "MEDSCRIBE_INTRON_")
NEWS = ("new", "changed", "quarantined")

# Waits that are right in the world and a waste on loopback.
QUICK = {
    "MEDSCRIBE_ASKARA_BACKOFF_S": "0.01",
    "MEDSCRIBE_AUDIOSCRIBE_BACKOFF_S": "0.01",
    "MEDSCRIBE_EHR_BACKOFF_S": "0.01",
    "MEDSCRIBE_EHR_RECONCILE_AFTER_S": "0.1",
}
# Clinicians sign sessions off, so that these are delivered too; and small pages, so that there are several. Dagster
# lists all days there are again and again: a clinic that has just begun has fewer.
CLINIC = {
    "MEDSCRIBE_FIRST_DAY": "2026-01-01",
    "MEDSCRIBE_TIMEZONE": "Europe/Paris",
    "MEDSCRIBE_AUDIOSCRIBE_REVIEWED": "true",
    "MEDSCRIBE_ASKARA_PAGE_SIZE": "5",
}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed with `--json`."""
        return json.loads(self.out)

    @property
    def complaints(self) -> list[str]:
        """Lines on standard error, without the sign of life a slow run gives every ten seconds."""
        return [line for line in self.err.splitlines() if line and not line.startswith("medscribe sync · ")]

    @property
    def message(self) -> str:
        """The one message on standard error; fails when there is another, or more than that."""
        complaints = self.complaints
        assert complaints, "nothing was said"
        assert complaints[0].startswith("medscribe: "), self.err
        # A list of problems goes on below, indented.
        assert all(line.startswith("  ") for line in complaints[1:]), self.err
        assert "Traceback" not in self.err + self.out
        return "\n".join(complaints)


class Medscribe:
    """The command on one `MEDSCRIBE_HOME`.

    Args:
        folder: A folder of the test's own: working directory, `HOME`, `TMPDIR` and `MEDSCRIBE_HOME` are below it.
        environment: Settings of every command; nothing is inherited.
        working: Whether providers that work on order take part.
        cold: Whether each command starts as on a terminal, Python and imports included. Else it is a fork of a process
            that has imported all of it (see `tests.warm`), which takes a fraction of the time.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], *, working: bool = False, cold: bool = False
    ) -> None:
        self.is_cold = cold
        self.home = folder / "home"
        self.work = folder / "work"
        self.temporary = folder / "tmp"
        for each in (self.work, self.temporary):
            each.mkdir(parents=True, exist_ok=True)
        self.environment = {
            "PATH": os.environ.get("PATH", ""),
            "LANG": "C.UTF-8",
            "HOME": str(self.work),
            "TMPDIR": str(self.temporary),
            "SSL_CERT_FILE": os.environ["SSL_CERT_FILE"],
            "MEDSCRIBE_HOME": str(self.home),
            **QUICK,
            **CLINIC,
            # They have tests of their own; the others are quicker without.
            **{name: value for name, value in environment.items() if working or not name.startswith(WORKING)},
        }
        remains.folders |= {self.home, self.work, self.temporary}
        remains.databases.add(self.database)

    @property
    def database(self) -> Path:
        """The embedded warehouse."""
        return self.home / "warehouse.sqlite"

    def start(self, *arguments: str, **changes: str | None) -> Process:
        """Starts a command in a process group of its own; `changes` are settings, `None` removes one."""
        environment = {name: value for name, value in {**self.environment, **changes}.items() if value is not None}
        remains.secrets |= secrets_in(environment)
        remains.named |= {argument for argument in arguments if "/" in argument}
        if not self.is_cold:
            return start_warm(arguments, environment, self.work)
        return subprocess.Popen(
            [str(MEDSCRIBE), *arguments],
            env=environment,
            cwd=self.work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )

    def run(self, *arguments: str, **changes: str | None) -> Ended:
        """Runs a command to its end."""
        return finish(self.start(*arguments, **changes))

    def sync(self, *arguments: str, **changes: str | None) -> Ended:
        """Runs `medscribe sync --json`."""
        return self.run("sync", "--json", *arguments, **changes)

    def import_visits(self, world: World) -> Ended:
        """Imports what the clinic knows of the sessions' visits."""
        path = self.work / "visits.csv"
        write_visits(path, world.visits())
        return self.run("visits", "import", str(path), "--json")


def finish(process: Process) -> Ended:
    """Waits for a command to end; one that does not is killed, and the test fails."""
    try:
        with remains.lines.watched(process.pid):
            out, err = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        kill(process.pid)
        process.communicate()
        raise
    assert process.returncode is not None
    remains.note_output(list(map(str, process.args)) if isinstance(process.args, list) else [], out, err)
    return Ended(process.returncode, out, err)


def kill(pid: int) -> None:
    """SIGKILL to a whole process group, if it is still there."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def write_visits(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes a visits manifest."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def is_quiet(ended: Ended) -> bool:
    """Whether a sync came through and moved nothing: no news from any source, no day to build."""
    run = ended.json["run"]
    moved = sum(facts[name] for facts in run["sources"].values() for name in NEWS if name in facts)
    return not (run["failures"] or run["days"] or moved)
