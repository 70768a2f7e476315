"""The entry point: help, usage, exit codes, and never a traceback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline import __version__
from tests.synced import CLOSED_PORT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.medscribe_pipeline.cli.conftest import Ran
    from tests.synced import Clinic

COMMANDS = [
    *(("init",), ("sync",), ("status",), ("show",), ("preview",), ("visits", "import"), ("sandbox",), ("demo",)),
    *(("fhir", "export-terminology"), ("fhir", "bundle"), ("fhir", "coverage")),
    *(("deliveries", name) for name in ("list", "show", "retry", "release", "discard", "reconcile")),
    ("deliver",),
]
HEAVY = ("alembic", "dagster", "fhir", "httpx", "pydantic", "rich", "sqlalchemy", "starlette", "tenacity", "uvicorn")


def test_the_version_is_the_packages(medscribe: Callable[..., Ran]) -> None:
    ran = medscribe("--version")

    assert (ran.code, ran.out, ran.err) == (0, f"medscribe-pipeline {__version__}\n", "")


def test_help_names_every_command(medscribe: Callable[..., Ran]) -> None:
    ran = medscribe("--help")

    assert ran.code == 0
    assert all(command[0] in ran.words for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_and_speaks_json(medscribe: Callable[..., Ran], command: tuple[str, ...]) -> None:
    ran = medscribe(*command, "--help")

    assert (ran.code, ran.err) == (0, "")
    assert f"medscribe {' '.join(command)}" in ran.words
    assert "--json" in ran.words


def test_without_arguments_it_shows_the_help_and_counts_as_wrong_usage(medscribe: Callable[..., Ran]) -> None:
    ran = medscribe()

    assert (ran.code, ran.err) == (2, "")
    assert "Usage: medscribe" in ran.words


@pytest.mark.parametrize(
    "arguments",
    [
        ("bogus",),
        ("show",),
        ("sync", "--nope"),
        ("demo", "--port", "many"),
        ("status", "--day", "someday"),
        ("visits", "import", "absent.csv"),
        ("sync", "--since", "yesterday"),
    ],
    ids=" ".join,
)
def test_a_wrong_use_is_one_line_and_exit_code_2(
    home: Path, medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    assert home
    monkeypatch.setenv("MEDSCRIBE_AUDIOSCRIBE_TOKEN", "x")

    ran = medscribe(*arguments)

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("medscribe: ")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("MEDSCRIBE_ASKARA_CLIENT_SECRET", "canary", "MEDSCRIBE_ASKARA_CLIENT_ID"),
        ("MEDSCRIBE_TIMEZONE", "canary", "MEDSCRIBE_TIMEZONE"),
        ("MEDSCRIBE_WAREHOUSE_URL", "canary", "MEDSCRIBE_WAREHOUSE_URL"),
        ("MEDSCRIBE_EHR_BASE_URL", "canary", "MEDSCRIBE_EHR_BASE_URL"),
        ("MEDSCRIBE_HOME", "/dev/null/canary", "MEDSCRIBE_HOME"),
    ],
)
@pytest.mark.parametrize("command", [("init",), ("sync",), ("status",), ("show", "askara:1")], ids=lambda c: c[0])
def test_a_wrong_setting_is_named_and_its_value_is_not_shown(
    home: Path,
    medscribe: Callable[..., Ran],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    told: str,
    command: tuple[str, ...],
) -> None:
    assert home
    monkeypatch.setenv(name, value)

    ran = medscribe(*command)

    assert (ran.code, ran.out) == (2, "")
    assert told in ran.err
    assert ran.err.count("\n") == 1
    assert "canary" not in ran.err


def test_sync_without_a_provider_says_what_to_set(home: Path, medscribe: Callable[..., Ran]) -> None:
    assert home

    ran = medscribe("sync")

    assert ran.code == 2
    assert "MEDSCRIBE_AUDIOSCRIBE_TOKEN" in ran.err
    assert "medscribe demo" in ran.err


def test_a_provider_that_is_not_configured_cannot_be_asked_for(
    clinic: Clinic, medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert clinic
    monkeypatch.delenv("MEDSCRIBE_ASKARA_TOKEN")

    ran = medscribe("sync", "--provider", "askara")

    assert ran.code == 2
    assert "Configured: audioscribe" in ran.err


def test_an_unreachable_provider_is_exit_code_3_and_the_other_is_synced(
    clinic: Clinic, medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert clinic
    monkeypatch.setenv("MEDSCRIBE_ASKARA_BASE_URL", CLOSED_PORT)
    monkeypatch.setenv("MEDSCRIBE_ASKARA_MAX_ATTEMPTS", "1")

    ran = medscribe("sync")

    assert ran.code == 3
    assert "failed askara_audios: No connection could be made." in ran.words
    assert "audioscribe_sessions" in ran.words


def test_a_wrong_token_outweighs_an_unreachable_server(
    clinic: Clinic, medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert clinic
    monkeypatch.setenv("MEDSCRIBE_ASKARA_BASE_URL", CLOSED_PORT)
    monkeypatch.setenv("MEDSCRIBE_ASKARA_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("MEDSCRIBE_AUDIOSCRIBE_TOKEN", "canary")

    ran = medscribe("sync", "--json")

    assert ran.code == 2
    assert {failure["step"] for failure in ran.json["run"]["failures"]} == {"askara_audios", "audioscribe_sessions"}
    assert "canary" not in ran.out + ran.err


def test_a_mistake_of_ours_is_told_by_place_and_not_by_its_words(
    clinic: Clinic, medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: object, **__: object) -> None:
        raise KeyError(f"{'qx'}canary")  # Not in one piece: tracebacks show this line.

    assert clinic
    monkeypatch.setattr("medscribe_pipeline.warehouse.reports.read_status", stumble)

    ran = medscribe("status")

    assert (ran.code, ran.out) == (1, "")
    assert "in stumble" in ran.err
    assert ran.err.endswith("medscribe: unexpected KeyError. Please report it with the lines above.\n")
    assert "qxcanary" not in ran.err


def test_help_is_fast_because_nothing_heavy_is_imported(tmp_path: Path) -> None:
    looked = f"""
import sys
from medscribe_pipeline.cli import main
sys.argv = ["medscribe", "--help"]
try:
    main()
except SystemExit as ended:
    sys.stderr.write(f"{{ended.code}}")
sys.stderr.write(",".join(name for name in {HEAVY} if name in sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", looked], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )

    assert "Usage: medscribe" in done.stdout
    assert done.stderr == "0"


def test_ctrl_c_ends_a_sync_with_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        command = subprocess.Popen(
            [Path(sys.executable).with_name("medscribe"), "sync"],
            cwd=tmp_path,
            env={
                "PATH": os.defpath,
                "MEDSCRIBE_HOME": str(tmp_path / "home"),
                "MEDSCRIBE_AUDIOSCRIBE_TOKEN": "x",
                "MEDSCRIBE_AUDIOSCRIBE_BASE_URL": f"http://127.0.0.1:{silent.getsockname()[1]}",
                "MEDSCRIBE_AUDIOSCRIBE_TIMEOUT_S": "1",
                "MEDSCRIBE_AUDIOSCRIBE_MAX_ATTEMPTS": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        silent.settimeout(30)
        with silent.accept()[0]:
            command.send_signal(signal.SIGINT)
            out, err = command.communicate(timeout=30)

    assert (command.returncode, out) == (130, "")
    assert err.startswith("medscribe: stopped.")
    assert err.count("\n") == 1
