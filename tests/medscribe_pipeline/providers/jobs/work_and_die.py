"""One run in a process of its own: `work_and_die.py DATABASE FOLDER PROVIDER_URL REPEATABLE [CHECKPOINT OCCURRENCE]`.

With a checkpoint the process ends there, by `os._exit`: no handler, no `finally`, no commit, as by a power cut.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from medscribe_pipeline.providers.http import HttpClient
from medscribe_pipeline.providers.work_runner import run_work
from medscribe_pipeline.settings import JobSettings
from tests.databases import DAYS
from tests.medscribe_pipeline.providers.jobs.job_shop import NAME, SETTINGS, Dictaphone, open_warehouse

DIED = 42


def main(database: str, folder: str, url: str, repeatable: str, point: str = "", occurrence: str = "1") -> None:
    reached = 0

    def checkpoint(name: str) -> None:
        nonlocal reached
        reached += name == point
        if reached == int(occurrence):
            os._exit(DIED)

    settings = JobSettings(**{**SETTINGS, "poll_first_s": 0, "poll_longest_s": 0.01})
    with (
        open_warehouse(database, Path(folder)) as warehouse,
        warehouse.worker() as worker,
        HttpClient(NAME, url, settings) as client,
    ):
        run_work(
            warehouse,
            Dictaphone(repeatable=repeatable == "repeatable"),
            client,
            settings,
            days=DAYS,
            clock=lambda: datetime.now(UTC),
            sleep=time.sleep,
            worker=worker,
            run_id=None,
            wait_s=1,
            checkpoint=checkpoint,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
