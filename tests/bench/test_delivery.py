"""The measuring program runs and says what it promises; how fast anything is, is not tested."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest


@pytest.mark.parametrize("strategy", ["transaction", "batch", "single"])
def test_it_prints_rounds_and_their_median(strategy: str) -> None:
    few = ["--notes", "6", "--delay-ms", "1", "--connections", "2", "--rounds", "2", "--strategy", strategy]

    ran = subprocess.run(
        [sys.executable, "-m", "bench.delivery", *few], capture_output=True, text=True, timeout=60, check=False
    )

    assert (ran.returncode, ran.stderr) == (0, "")
    lines = ran.stdout.splitlines()
    assert lines[0] == "| round | delivery, notes/s | bare loop, notes/s | ratio |"
    rows = [re.fullmatch(r"\| (\w+) \| (\d+) \| (\d+) \| (\d+\.\d\d) \|", line) for line in lines[2:]]
    assert [row and row[1] for row in rows] == ["1", "2", "median"]
    assert all(row and int(row[2]) > 0 and int(row[3]) > 0 for row in rows)
