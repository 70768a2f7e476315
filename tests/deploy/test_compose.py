"""deploy/compose.yaml, beyond its schema: who gets what, who reaches whom, and that each can be asked how it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.deploy.deployed import DEPLOY, ROOT, VERSION, load, parse, text

COMPOSE = load("compose.yaml")
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: each for name, each in SERVICES.items() if "build" in each}


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_confined(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"cpus", "memory", "pids"} == service["deploy"]["resources"]["limits"].keys()
    assert service["logging"]["options"]["max-size"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_starts_again_and_can_be_asked(name: str) -> None:
    service = SERVICES[name]

    if name == "warehouse":  # ends by itself
        assert (service["restart"], service["healthcheck"]) == ("no", {"disable": True})
        return
    assert service["restart"] == "unless-stopped"
    assert "test" in service.get("healthcheck", {}) or (name == "code" and "HEALTHCHECK" in text("Containerfile"))


@pytest.mark.parametrize("name", OURS)
def test_commands_are_there(name: str) -> None:
    service = OURS[name]
    assert service["image"] == f"medscribe-pipeline:{VERSION}"

    ends = {
        "warehouse": "medscribe init",
        "webserver": "dagster-webserver",
        "daemon": "dagster-daemon run",
        "receiver": "medscribe receive",
    }
    if name in ends:
        assert parse(service["command"]) == ends[name]
    else:
        assert (name, "command" in service) == ("code", False)
    check = service.get("healthcheck", {}).get("test", [])
    if "dagster-daemon" in check:
        assert parse(check[1:]) == "dagster-daemon liveness-check"


def test_what_is_mounted_is_there() -> None:
    sources = {
        mount.split(":")[0] for each in SERVICES.values() for mount in each.get("volumes", ()) if mount.startswith(".")
    }

    assert len(sources) == 4
    assert [source for source in sources if not (DEPLOY / source).is_file()] == []


def test_only_the_proxy_listens_outside() -> None:
    ports = {name: each["ports"] for name, each in SERVICES.items() if "ports" in each}

    assert ports == {"webserver": ["127.0.0.1:3000:3000"], "proxy": ["443:8443"]}


def test_databases_have_no_way_out_and_only_the_code_location_has() -> None:
    inner = {name for name, network in COMPOSE["networks"].items() if network.get("internal")}

    assert inner == {"inside", "receiving"}
    assert {name for name, each in SERVICES.items() if "outside" in each["networks"]} == {"code"}
    for name in ("postgres", "warehouse", "daemon", "receiver"):
        assert set(SERVICES[name]["networks"]) <= inner
    assert set(SERVICES["proxy"]["networks"]).isdisjoint({"inside"})


def test_credentials_go_to_who_needs_them() -> None:
    given = {name: each.get("env_file", []) for name, each in OURS.items()}

    assert given == {
        "warehouse": ["secrets/medscribe.env"],
        "code": ["secrets/dagster.env", "secrets/medscribe.env"],
        "webserver": ["secrets/dagster.env"],
        "daemon": ["secrets/dagster.env"],
        "receiver": ["secrets/receiver.env"],
    }
    assert all((DEPLOY / f"{name}.example").is_file() for names in given.values() for name in names)


def test_every_secret_file_is_in_the_steps() -> None:
    steps = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    named = [Path(each["file"]).name for each in COMPOSE["secrets"].values()]

    assert [name for name in named if name not in steps] == []
    assert {name for each in SERVICES.values() for name in each.get("secrets", ())} == COMPOSE["secrets"].keys()


def test_the_workspace_names_the_code_location() -> None:
    server = load("workspace.yaml")["load_from"][0]["grpc_server"]

    assert server["host"] in SERVICES
    assert server["port"] == 4000
