"""`make help`: what a newcomer types first."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_help_lists_every_target_with_what_it_does() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)

    done = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )

    listed = dict(re.findall(r"^  make ([a-z-]+) +(\S.*)$", done.stdout, re.MULTILINE))
    assert sorted(listed) == sorted(phony.split())
    assert {"demo", "demo-again", "ui", "test", "check", "help"} <= set(listed)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_help_is_what_make_alone_does() -> None:
    def output(*target: str) -> str:
        command = ["make", "--no-print-directory", *target]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout

    assert output() == output("help")
