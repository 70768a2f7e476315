"""What the tests of `deploy/` share: its files, the commands the program has, and the variables it reads."""

from __future__ import annotations

import functools
import re
import shlex
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer.main
import yaml
from dagster._cli import create_dagster_cli
from dagster._daemon.cli import create_dagster_daemon_cli
from dagster_webserver.cli import create_dagster_webserver_cli
from pydantic_settings import BaseSettings

from medscribe_pipeline.cli.app import app
from medscribe_pipeline.settings import Settings
from medscribe_pipeline.settings.base import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

PROGRAMS: dict[str, Callable[[], Any]] = {
    "medscribe": lambda: typer.main.get_command(app),
    "dagster": create_dagster_cli,
    "dagster-daemon": create_dagster_daemon_cli,
    "dagster-webserver": create_dagster_webserver_cli,
}
DAGSTER_VARIABLES = {"DAGSTER_HOME", "DAGSTER_POSTGRES_URL"}


def text(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


def load(name: str) -> Any:
    return yaml.safe_load(text(name))


def load_all(name: str) -> list[Any]:
    return list(yaml.safe_load_all(text(name)))


def files() -> list[Path]:
    """The files of `deploy/` people wrote: no lock files, and none of the secrets somebody keeps there."""
    found = (path for path in sorted(DEPLOY.rglob("*")) if path.is_file() and path.suffix != ".lock")
    return [path for path in found if path.parent.name != "secrets" or path.suffix == ".example"]


@functools.cache
def variables() -> frozenset[str]:
    """Every environment variable the program reads."""
    found = set()
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseSettings):
            prefix = kind.model_config.get("env_prefix", "")
            found |= {f"{prefix}{own.upper()}" for own in kind.model_fields}
        elif not field.exclude:
            found.add(f"{PREFIX}{name.upper()}")
    return frozenset(found)


@functools.cache
def _program(name: str) -> Any:
    return PROGRAMS[name]()


def parse(command: Sequence[str]) -> str:
    """Goes through a command line as the program would, without running it; returns the command it ends at.

    Raises:
        Exception: There is no such program, command or option.
    """
    program, *rest = command
    current = _program(program)
    context = current.context_class(current, info_name=program)
    _, rest, _ = current.make_parser(context).parse_args(list(rest))
    while hasattr(current, "resolve_command") and rest:
        name, current, rest = current.resolve_command(context, rest)
        context = current.context_class(current, parent=context, info_name=name)
        _, rest, _ = current.make_parser(context).parse_args(rest)
    return str(context.command_path)


def commands_in(page: str) -> list[str]:
    """The command lines of ours and Dagster's in a page: in blocks of shell, and between backticks."""
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    prose = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    spoken = re.findall(r"`([^`\n]+)`", prose)
    words = "|".join(PROGRAMS)
    found = []
    for line in [*lines, *spoken]:
        for part in re.split(r"\s*(?:\||&&|;)\s*", line):
            # What stands before is who runs it: sudo, docker compose exec SERVICE, kubectl exec … --
            match = re.search(rf"(?:^|\s|/bin/)((?:{words}) [a-z-]+(?:\s.*)?)$", part.partition("  #")[0].strip())
            if match:
                found.append(match[1])
    return found


def parsed(line: str) -> str:
    return parse(shlex.split(line))
