"""A hundred visit days without data, built by Dagster in one run: `python -m bench.empty_days [--days 100]`.

What a backfill of days nobody had a visit on costs: the run, its events, and asking the warehouse for each day.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from datetime import timedelta

import orjson

from assets.automation import BUILD_JOB
from assets.partitions import range_tags
from medscribe_pipeline.cli.runner import QUIET, open_instance
from medscribe_pipeline.definitions import build_definitions
from medscribe_pipeline.settings import Settings
from medscribe_pipeline.warehouse.store import Warehouse


def main() -> None:
    """Runs them, and prints how many materialisations there were."""
    parser = argparse.ArgumentParser(prog="python -m bench.empty_days")
    parser.add_argument("--days", type=int, default=100)
    asked = parser.parse_args()
    warnings.filterwarnings("ignore", module="dagster")
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    settings = Settings.load()
    last = settings.first_day + timedelta(days=asked.days - 1)
    with Warehouse.open(settings) as warehouse, open_instance(settings, warehouse) as instance:
        run = (
            build_definitions(settings)
            .resolve_job_def(BUILD_JOB)
            .execute_in_process(
                instance=instance, run_config={"loggers": QUIET}, tags=range_tags(settings.first_day, last)
            )
        )
        made = sum(event.is_step_materialization for event in run.all_events)
    sys.stdout.write(orjson.dumps({"materializations": made}).decode() + "\n")


if __name__ == "__main__":
    main()
