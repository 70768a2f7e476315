"""`make scale-demo`: a backfill spread over several workers, one of them killed, and what more workers bring.

Everything is real but the provider and the EHR: PostgreSQL for the warehouse and for Dagster, a Valkey broker, Celery's
workers, Dagster's code location, web server and daemon, each a process of its own. Provider and EHR are the sandbox's,
and hold every answer back for a while. All of it is on loopback and in a temporary folder, and ends by itself: when it
is done, at its time limit, and on Ctrl-C.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from scale.demo import Plan, run_demo
from scale.processes import Overdue
from scale.report import report

__all__ = ["main"]

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended."""


def main() -> int:
    """Runs the demo and prints what came of it; 0 when every note arrived once."""
    plan, keep = _asked()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupted)
    folder = Path(tempfile.mkdtemp(prefix="medscribe-scale-"))
    done = False
    try:
        findings = run_demo(plan, folder, _tell)
        _tell(f"\n{report(findings, plan)}")
        done = findings.exact
    except Overdue as problem:
        _tell(str(problem))
    except KeyboardInterrupt:
        _tell("Stopped; everything that was started has ended.")
        return INTERRUPTED
    finally:
        if keep or not done:
            _tell(f"Logs: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if done else 1


def _asked() -> tuple[Plan, bool]:
    parser = argparse.ArgumentParser(prog="python -m scale")
    parser.add_argument("--days", type=_some, default=30, help="visit days of the backfill in which a worker dies")
    parser.add_argument("--measured-days", type=_some, default=6, help="visit days of each backfill after it")
    parser.add_argument("--notes", type=_some, default=40, help="notes a day")
    parser.add_argument("--workers", type=_some, nargs="+", default=[1, 2, 4], help="workers of the backfills after it")
    parser.add_argument("--delay-ms", type=int, default=20, help="how long the provider takes for an answer")
    parser.add_argument("--ehr-delay-ms", type=int, default=200, help="how long the EHR takes for an answer")
    parser.add_argument("--connections", type=_some, default=2, help="connections of one run to the EHR")
    parser.add_argument("--time-limit-s", type=float, default=900, help="when all has to be over")
    parser.add_argument("--keep", action="store_true", help="leave the logs")
    asked = vars(parser.parse_args())
    keep = asked.pop("keep")
    return Plan(**{**asked, "workers": tuple(asked["workers"])}), keep


def _some(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError("at least 1")
    return number


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _interrupted(_number: int, _frame: object) -> None:
    # Once: from here on, what was started is being ended, and nothing shall disturb that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
