"""When Dagster calls an asset stale, which it shows and can tell somebody about."""

from datetime import timedelta

import dagster as dg


def stale_after(seconds: int) -> dg.FreshnessPolicy | None:
    """The policy of an asset that has to be materialized once in so long, with a warning at half of it; 0: none."""
    if not seconds:
        return None
    window = timedelta(seconds=seconds)
    return dg.FreshnessPolicy.time_window(fail_window=window, warn_window=window / 2)
