"""Processes an inbox in a process of its own: `process_and_die.py HOME PROVIDERS_URL POINT`.

It ends at the checkpoint by `os._exit`: no handler, no `finally`, no commit, as by a power cut.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from medscribe_pipeline.providers.inbox import process_inbox
from medscribe_pipeline.settings import Settings
from medscribe_pipeline.warehouse.store import Warehouse
from tests.databases import NOW
from tests.medscribe_pipeline.providers.pushed import settings_for

DIED = 42


def main(home: str, url: str, point: str) -> None:
    def make(**changes: Any) -> Settings:
        return Settings(home=Path(home), lock_timeout_s=5, **changes)

    def checkpoint(name: str) -> None:
        if name == point:
            os._exit(DIED)

    settings = settings_for(make, url)
    with Warehouse.open(settings, migrate=False) as warehouse:
        process_inbox(warehouse, settings, clock=lambda: NOW, run_id="run-1", checkpoint=checkpoint)


if __name__ == "__main__":
    main(*sys.argv[1:])
