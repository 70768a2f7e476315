"""Delivers the test day in a process of its own: `deliver_and_die.py HOME BASE_URL [CHECKPOINT OCCURRENCE]`.

With a checkpoint the process ends there, by `os._exit`: no handler, no `finally`, no commit, as by a power cut.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from medscribe_pipeline.ehr import FhirClient, deliver_day
from medscribe_pipeline.providers.http import HttpClient
from medscribe_pipeline.settings import EhrSettings, Settings
from medscribe_pipeline.warehouse.store import Warehouse
from tests.medscribe_pipeline.ehr.clinic import DAY

DIED = 42


def main(home: str, base_url: str, point: str = "", occurrence: str = "1") -> None:
    reached = 0

    def checkpoint(name: str) -> None:
        nonlocal reached
        reached += name == point
        if reached == int(occurrence):
            os._exit(DIED)

    ehr = EhrSettings(base_url=base_url, connections=2, reconcile_after_s=0)
    with (
        Warehouse.open(Settings(home=Path(home))) as warehouse,
        warehouse.worker() as worker,
        HttpClient("ehr", base_url, ehr) as http,
    ):
        deliver_day(
            warehouse,
            FhirClient(http),
            ehr,
            DAY,
            run_id=None,
            clock=lambda: datetime.now(UTC),
            worker=worker,
            checkpoint=checkpoint,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
