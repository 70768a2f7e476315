"""Asset checks: what must hold after every build, counted from the tables themselves."""

import dagster as dg

from assets.days import NOTES
from medscribe_pipeline.warehouse import reports
from resources import WarehouseResource, failures_told

SHOWN = 20


@dg.asset_check(asset=NOTES, description="No record became two notes, no document on the EHR belongs to two notes.")
def no_duplicate_keys(warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Fails on any duplicate."""
    with failures_told():
        found = reports.duplicates(warehouse.warehouse, warehouse.settings.ehr.target)
    return dg.AssetCheckResult(passed=not any(found.values()), metadata=dict(found))


@dg.asset_check(asset=NOTES, description="Every section and every document belongs to a note.")
def no_orphans(warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Fails on any orphan."""
    with failures_told():
        found = reports.orphans(warehouse.warehouse)
    return dg.AssetCheckResult(passed=not any(found.values()), metadata=dict(found))


@dg.asset_check(asset=NOTES, description="On every day: landed = notes + parts + held + quarantined + not mapped yet.")
def landed_is_accounted_for(warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Fails if a landed record of any day is nowhere."""
    with failures_told():
        balances = reports.day_balances(warehouse.warehouse)
    wrong = [balance for balance in balances if not balance.balanced]
    return dg.AssetCheckResult(
        passed=not wrong,
        metadata={
            "days": len(balances),
            "landed": sum(balance.landed for balance in balances),
            "wrong_days": ", ".join(balance.day.isoformat() for balance in wrong[:SHOWN]) or "none",
        },
    )


CHECKS = [no_duplicate_keys, no_orphans, landed_is_accounted_for]
