"""What the demo starts, it ends, with all that was started by it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from scale.processes import Deadline, Overdue, started, wait_until

if TYPE_CHECKING:
    from pathlib import Path

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


def is_there(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # noqa: PTH123  # no file to speak of
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="asks Linux which processes there are")  # noqa: PTH112
def test_a_process_ends_with_its_children(tmp_path: Path) -> None:
    with started([sys.executable, "-c", PARENT], tmp_path, "parent", os.environ, talks=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert is_there(child)

    wait_until(lambda: not is_there(child), "the end of the child", Deadline(10))
    assert process.returncode is not None


def test_what_a_process_says_is_kept(tmp_path: Path) -> None:
    with started([sys.executable, "-c", "print('hello')"], tmp_path, "talker", os.environ) as process:
        process.wait(20)

    assert (tmp_path / "talker.log").read_text(encoding="utf-8") == "hello\n"


def test_nothing_is_waited_for_longer_than_the_deadline() -> None:
    with pytest.raises(Overdue, match="took too long: the end of the world"):
        wait_until(lambda: False, "the end of the world", Deadline(0))


def test_nothing_is_waited_for_that_cannot_happen_any_more(tmp_path: Path) -> None:
    with started([sys.executable, "-c", "raise SystemExit(3)"], tmp_path, "dead", os.environ) as process:
        process.wait(20)

        with pytest.raises(Overdue, match="code 3, while waiting for: an answer"):
            wait_until(lambda: False, "an answer", Deadline(10), alive=[process])
