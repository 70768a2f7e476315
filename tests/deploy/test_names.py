"""Whatever is named in deploy/ and in the pages about running it, is there: variables, commands, files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.deploy.deployed import DAGSTER_VARIABLES, ROOT, commands_in, files, parsed, variables

if TYPE_CHECKING:
    from pathlib import Path

PAGES = [ROOT / "docs" / "deployment.md", ROOT / "docs" / "operations.md"]


@pytest.mark.parametrize("path", [*files(), *PAGES], ids=lambda path: path.name)
def test_every_variable_is_a_setting(path: Path) -> None:
    named = set(re.findall(r"\bMEDSCRIBE_[A-Z0-9_]+\b(?!_)", path.read_text(encoding="utf-8")))

    assert named - variables() == set()


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_every_variable_of_dagster_is_one_we_set(path: Path) -> None:
    named = set(re.findall(r"\bDAGSTER_[A-Z_]+\b", path.read_text(encoding="utf-8")))

    assert named - DAGSTER_VARIABLES == set()


def lines() -> list[tuple[str, str]]:
    return sorted({(page.name, line) for page in PAGES for line in commands_in(page.read_text(encoding="utf-8"))})


def test_pages_have_commands() -> None:
    assert len(lines()) > 20


@pytest.mark.parametrize(("page", "line"), lines())
def test_every_command_is_there(page: str, line: str) -> None:
    assert page
    assert parsed(line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_of_deploy_is_there(page: Path) -> None:
    named = set(re.findall(r"\bdeploy/[\w./*-]+[\w/*]", page.read_text(encoding="utf-8")))
    kept = {"deploy/secrets/"}

    assert [name for name in named if not any(ROOT.glob(name.rstrip("/"))) and not name.startswith(tuple(kept))] == []


def test_every_part_of_deploy_is_on_the_page() -> None:
    page = PAGES[0].read_text(encoding="utf-8")

    assert [
        path.name for path in files() if path.suffix in {".yaml", ".service", ".timer"} and path.name not in page
    ] == [".yamllint.yaml"]


def test_examples_hold_no_secret() -> None:
    examples = [path for path in files() if path.suffix == ".example" and path.parent.name == "secrets"]
    assigned = [line for path in examples for line in path.read_text(encoding="utf-8").splitlines() if "=" in line]
    secret = [line for line in assigned if re.match(r"\w*(TOKEN|SECRET|KEY|URL)=", line) and "example.org" not in line]

    assert len(examples) == 3
    assert secret
    assert [line for line in secret if "replace-me" not in line] == []
