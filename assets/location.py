"""The code location as a whole: the definitions for the account that some settings describe."""

import warnings

import dagster as dg

from assets.automation import jobs, schedules, sensors
from assets.checks import CHECKS, delivery_checks, work_checks
from assets.days import day_assets
from assets.deliveries import delivery_assets
from assets.keeping import keeping_assets, keeping_jobs, keeping_schedules
from assets.reports import report_assets, report_jobs, report_schedules
from assets.sources import source_assets
from assets.work import work_assets
from medscribe_pipeline.settings import Settings
from resources import WarehouseResource


def build_definitions(settings: Settings) -> dg.Definitions:
    """The assets, checks, jobs, schedule and sensor for the configured providers and targets."""
    with warnings.catch_warnings():
        # Backfill policies are beta in the Dagster we pin; that is no news to whoever loads this.
        warnings.simplefilter("ignore", dg.BetaWarning)
        stages = [*day_assets(settings), *delivery_assets(settings)]
        assets = [*source_assets(settings), *work_assets(settings), *stages, *keeping_assets(settings)]
        assets += report_assets(settings)
    return dg.Definitions(
        assets=assets,
        asset_checks=[*CHECKS, *work_checks(settings), *delivery_checks(settings)],
        jobs=[*jobs(settings), *keeping_jobs(settings), *report_jobs()],
        schedules=[*schedules(settings), *keeping_schedules(settings), *report_schedules(settings)],
        sensors=sensors(settings),
        resources={"warehouse": WarehouseResource()},
        # A process for every step costs 1.5 s each; these steps wait for others most of the time.
        executor=dg.in_process_executor,
    )
