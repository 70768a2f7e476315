"""Whatever dies when: the table of the documentation, measured again.

Each way of delivering in a process of its own, because the matrix forks.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.delivering import WAYS
from tests.kill_matrix import CELLS, COMPLETE, HELD, NOT_REACHED, PAGE, WAITS

ROOT = Path(__file__).parents[1]


def documented(name: str) -> list[str]:
    """What the page says of one way of delivering, cell by cell."""
    lines = PAGE.read_text(encoding="utf-8").partition("| dies while")[2].splitlines()
    header, _, *rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    return [row[header.index(name)] for row in rows]


@pytest.mark.parametrize("name", list(WAYS))
def test_what_is_left_of_a_delivery_that_dies(name: str) -> None:
    command = [sys.executable, "-m", "tests.kill_matrix", "--way", name]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)

    assert done.stderr == ""
    found = done.stdout.splitlines()
    assert len(found) == len(CELLS)
    assert set(found) <= ({COMPLETE, NOT_REACHED} if WAYS[name].can_tell else {COMPLETE, NOT_REACHED, WAITS, HELD})
    assert found == documented(name), "run `python -m tests.kill_matrix --write`"
