"""The measuring program runs and says what it promises; how fast anything is, is not tested."""

from __future__ import annotations

import re
import subprocess
import sys

from bench.note_mapping import KEYS, NOTE, measure


def test_it_prints_medians_and_their_ratio() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "bench.note_mapping", "--rounds", "1", "--repeat", "1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (ran.returncode, ran.stderr) == (0, "")
    figures = [float(line.split("  ")[-1].split()[0]) for line in ran.stdout.splitlines()]
    assert len(figures) == 8
    assert all(figure > 0 for figure in figures[:6])
    assert re.search(r"^ratio to the models alone +[0-9]+\.[0-9]{2}$", ran.stdout, re.MULTILINE)


def test_the_note_has_eight_sections() -> None:
    assert len(NOTE.sections) == len(set(KEYS)) == 8
    assert set(measure(rounds=1, repeat=1)) == {
        *("models", "mapping", "strict", "shape", "everything", "everything, shape"),
    }
