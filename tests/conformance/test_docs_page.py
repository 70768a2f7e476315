"""The page about adding a provider works when followed: to the letter, in a copy of the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "adding-a-provider.md"
BLOCK = re.compile(
    r"^(?:(?P<how>New file|At the end of|In) `(?P<path>[\w./-]+)`:\n\n)?```(?P<kind>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
FEWEST_TESTS = 25


class Step(NamedTuple):
    """What the page says to do to a file."""

    how: str
    path: str
    text: str


def steps() -> list[Step]:
    """The page's blocks; a diff without a file of its own belongs to the file of the one before."""
    found: list[Step] = []
    for block in BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
        if block["how"]:
            found.append(Step(block["how"], block["path"], block["text"]))
        elif block["kind"] == "diff":
            found.append(Step("In", found[-1].path, block["text"]))
    return found


def follow(step: Step, folder: Path) -> None:
    """Does one step, as a person would."""
    path = folder / step.path
    if step.how == "New file":
        assert not path.exists()
        path.write_text(step.text, encoding="utf-8")
        return
    text = path.read_text(encoding="utf-8")
    if step.how == "At the end of":
        path.write_text(f"{text}\n\n{step.text.lstrip()}", encoding="utf-8")
        return
    lines = step.text.splitlines(keepends=True)
    assert {line[0] for line in lines} <= set(" +-")
    before = "".join(line[1:] for line in lines if line[0] != "+")
    assert text.count(before) == 1, f"what the page shows of {step.path} is not in it, or more than once"
    path.write_text(text.replace(before, "".join(line[1:] for line in lines if line[0] != "-")), encoding="utf-8")


@pytest.fixture
def followed(tmp_path: Path) -> Path:
    """A copy of the project in which the page has been followed."""
    copied = ("medscribe_pipeline", "tests/conformance", "tests/conftest.py", "tests/databases.py", "pyproject.toml")
    for name in copied:
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
    for step in steps():
        follow(step, tmp_path)
    return tmp_path


def run(folder: Path, *command: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_one_file_one_settings_class_one_entry() -> None:
    product = [(step.how, step.path) for step in steps() if not step.path.startswith("tests/")]

    assert [path for how, path in product if how == "New file"] == ["medscribe_pipeline/providers/examplescribe.py"]
    assert {path for how, path in product if how != "New file"} == {
        "medscribe_pipeline/settings/providers.py",
        "medscribe_pipeline/settings/__init__.py",
        "medscribe_pipeline/providers/catalogue.py",
    }


def test_the_provider_of_the_page_passes_its_conformance_class(followed: Path) -> None:
    said = run(
        followed, "pytest", "tests/conformance/test_examplescribe.py", "-q", "-p", "no:xdist", "-p", "no:randomly"
    )

    passed = re.search(r"^(\d+) passed in", said, re.MULTILINE)
    assert passed, said
    assert int(passed[1]) >= FEWEST_TESTS


def test_the_code_of_the_page_is_clean(followed: Path) -> None:
    paths = sorted({step.path for step in steps()})

    run(followed, "ruff", "check", "--no-cache", *paths)
    run(followed, "ruff", "format", "--no-cache", "--check", *paths)
