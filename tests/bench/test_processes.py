"""What a command took is told with all it started, also what it left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

# In a process of its own: whatever becomes an orphan below it is its child from then on.
MEASURE = """
import json, os, sys
from dataclasses import asdict
from bench.processes import Failed, adopt_orphans, measure
adopt_orphans()
try:
    print(json.dumps(asdict(measure([sys.executable, "-c", sys.argv[1]], os.environ))))
except Failed as error:
    print(json.dumps({"failed": str(error)}))
"""
BUSY = (
    "import time; held = b'x' * 30_000_000; begun = time.process_time()\nwhile time.process_time() < begun + 0.3: pass"
)


def _measured(program: str) -> dict[str, Any]:
    ran = subprocess.run(
        [sys.executable, "-c", MEASURE, program], capture_output=True, text=True, timeout=60, check=True
    )
    told: dict[str, Any] = json.loads(ran.stdout)
    return told


def test_it_tells_cpu_memory_and_what_was_said() -> None:
    told = _measured(f"{BUSY}\nprint('{{\"notes\": 3}}')")

    assert told["said"] == {"notes": 3}
    assert told["cpu_s"] >= 0.3
    assert told["wall_s"] >= 0.3
    assert told["peak_mb"] > 30
    assert told["largest_mb"] > 30


def test_a_helper_nobody_waits_for_counts() -> None:
    told = _measured(f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {BUSY!r}])")

    assert told["cpu_s"] >= 0.3


def test_a_command_that_fails_is_not_measured() -> None:
    told = _measured("raise SystemExit('no such page')")

    assert "no such page" in told["failed"]
