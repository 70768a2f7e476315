"""deploy/systemd: units of known directives, whose commands there are, confined by one drop-in."""

from __future__ import annotations

import re
import shlex
from pathlib import PurePath
from typing import TYPE_CHECKING

import pytest

from tests.deploy.deployed import DEPLOY, parse, text

if TYPE_CHECKING:
    from pathlib import Path

SYSTEMD = DEPLOY / "systemd"
COMMON = SYSTEMD / "medscribe-.service.d" / "10-common.conf"
KEYS = SYSTEMD / "medscribe-.service.d" / "20-keys.conf.example"
SERVICES = sorted(SYSTEMD.glob("*.service"))
UNITS = [*SERVICES, *sorted(SYSTEMD.glob("*.timer")), COMMON, KEYS]

# Of systemd.unit, .service, .exec, .kill, .resource-control and .timer (5), what we use; all of them since systemd 252.
DIRECTIVES = {
    "Unit": {"Description", "Wants", "After", "StartLimitIntervalSec"},
    "Install": {"WantedBy"},
    "Timer": {"OnCalendar", "RandomizedDelaySec", "FixedRandomDelay", "AccuracySec", "Persistent"},
    "Service": {
        "AmbientCapabilities", "CapabilityBoundingSet", "Environment", "EnvironmentFile", "ExecStart", "Group",
        "KillMode", "KillSignal", "LimitCORE", "LoadCredential", "LockPersonality", "MemoryDenyWriteExecute",
        "MemoryMax", "NoNewPrivileges", "PrivateDevices", "PrivateTmp", "ProtectClock", "ProtectControlGroups",
        "ProtectHome", "ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables",
        "ProtectProc", "ProtectSystem", "ReadWritePaths", "RemoveIPC", "Restart", "RestartPreventExitStatus",
        "RestartSec", "RestrictAddressFamilies", "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID",
        "StateDirectory", "StateDirectoryMode", "SuccessExitStatus", "SystemCallArchitectures",
        "SystemCallErrorNumber", "SystemCallFilter", "TasksMax", "TimeoutStartSec", "TimeoutStopSec", "Type", "UMask",
        "User", "WorkingDirectory",
    },
}  # fmt: skip
CONFINED = {
    "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes",
    "PrivateDevices": "yes", "CapabilityBoundingSet": "", "MemoryDenyWriteExecute": "yes", "UMask": "0077",
    "User": "medscribe", "LimitCORE": "0", "ReadWritePaths": "/var/lib/medscribe", "StateDirectoryMode": "0700",
    "EnvironmentFile": "/etc/medscribe/medscribe.env", "RestrictSUIDSGID": "yes", "ProtectKernelTunables": "yes",
}  # fmt: skip


def settings_of(unit: Path) -> list[tuple[str, str, str]]:
    """Section, directive and value of each line, in order."""
    section = ""
    found = []
    for line in unit.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith(("#", ";")):
            continue
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = match[1]
            continue
        name, equals, value = line.partition("=")
        assert equals, f"{unit.name}: {line}"
        found.append((section, name, value))
    return found


def value_of(unit: Path, name: str) -> str:
    [value] = [value for _, own, value in settings_of(unit) if own == name]
    return value


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_sections_and_directives_are_known(unit: Path) -> None:
    unknown = [(section, name) for section, name, _ in settings_of(unit) if name not in DIRECTIVES.get(section, ())]

    assert settings_of(unit)
    assert unknown == []


def test_the_units_are_those_of_the_page() -> None:
    assert [unit.name for unit in SERVICES] == [
        "medscribe-dagster-daemon.service",
        "medscribe-dagster-webserver.service",
        "medscribe-receive.service",
        "medscribe-sync.service",
    ]


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_what_is_started_is_there(unit: Path) -> None:
    program, *arguments = shlex.split(value_of(unit, "ExecStart"))

    assert program.startswith("/opt/medscribe/bin/")
    started = parse([PurePath(program).name, *arguments])
    assert started in {"medscribe sync", "medscribe receive", "dagster-daemon run", "dagster-webserver"}


def test_the_web_server_is_on_loopback() -> None:
    command = shlex.split(value_of(SYSTEMD / "medscribe-dagster-webserver.service", "ExecStart"))

    assert command[command.index("--host") + 1] == "127.0.0.1"


def test_every_service_is_confined_by_the_drop_in() -> None:
    common = {name: value for _, name, value in settings_of(COMMON)}

    # systemd applies `medscribe-.service.d` to every service whose name begins so.
    assert all(unit.name.startswith("medscribe-") for unit in SERVICES)
    assert {name: common.get(name) for name in CONFINED} == CONFINED
    loosened = [(unit.name, name) for unit in SERVICES for _, name, _ in settings_of(unit) if name in common]
    assert loosened == []


def test_the_user_is_made() -> None:
    made = re.findall(r"^u (\S+) - \"[^\"]+\" (\S+) (\S+)$", text("systemd/medscribe.sysusers"), re.MULTILINE)

    assert made == [("medscribe", "/var/lib/medscribe", "/usr/sbin/nologin")]


def test_the_timer_has_its_service() -> None:
    timer = SYSTEMD / "medscribe-sync.timer"

    assert timer.with_suffix(".service") in SERVICES
    assert value_of(timer, "WantedBy") == "timers.target"
    # A service that a timer starts is not started at boot besides.
    assert "Install" not in {section for section, _, _ in settings_of(timer.with_suffix(".service"))}


def test_a_credential_is_where_its_variable_says() -> None:
    loaded = {value.partition(":")[0] for _, name, value in settings_of(KEYS) if name == "LoadCredential"}
    pointed = [value for _, name, value in settings_of(KEYS) if name == "Environment"]

    assert {value.partition("=%d/")[2] for value in pointed} == loaded
