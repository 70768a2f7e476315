"""Asset checks: what must hold before delivery and after every build, counted from the tables themselves.

In a run of visit days they look at those days, so that a run takes no longer the more is stored. Run by themselves, for
no days, they look at everything.

One check blocks: while a document is wrong, no document of the run is delivered. The others only tell.
"""

from datetime import date, timedelta

import dagster as dg

from assets.days import COMPOSITIONS, DOCUMENT_REFERENCES, NOTES
from assets.deliveries import delivery_names
from assets.sources import source_key
from assets.work import INBOX, JOBS, working
from medscribe_pipeline.fhir import BuildOptions
from medscribe_pipeline.fhir.coverage import Treatment, read_coverage
from medscribe_pipeline.fhir.faults import FAULTS, find_faults
from medscribe_pipeline.pipeline import fingerprint
from medscribe_pipeline.providers.inbox import GIVE_UP_AFTER
from medscribe_pipeline.providers.inbox_store import open_events, waiting_since
from medscribe_pipeline.providers.jobs import Ledger
from medscribe_pipeline.settings import JobSettings, Settings
from medscribe_pipeline.warehouse import reports
from medscribe_pipeline.warehouse.balances import delivery_balances
from resources import WarehouseResource, failures_told

SHOWN = 20
PATIENCE = GIVE_UP_AFTER + timedelta(days=1)
SETTLING = timedelta(minutes=15)
"""A job whose time was up after the run had asked for the last time is given up by the next run: that is in order."""


@dg.asset_check(
    asset=NOTES,
    description="No record became two notes, no document on the EHR belongs to two notes: nothing of the run's days "
    "has a double on any day. Run by itself: of all days.",
)
def no_duplicate_keys(context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Fails on any duplicate of something of the run's days; of any day, when it is run by itself."""
    days = _days_of(context)
    with failures_told():
        found = reports.duplicates(warehouse.warehouse, list(warehouse.settings.targets), days)
    return dg.AssetCheckResult(passed=not any(found.values()), metadata={"days": _looked_at(days), **found})


@dg.asset_check(
    asset=NOTES,
    description="Every document of the run's days belongs to a note, and so do the sections beside it. Run by itself: "
    "every section and every document there is.",
)
def no_orphans(context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Fails on any orphan of the run's days; on any at all, when it is run by itself."""
    days = _days_of(context)
    with failures_told():
        found = reports.orphans(warehouse.warehouse, days)
    return dg.AssetCheckResult(passed=not any(found.values()), metadata={"days": _looked_at(days), **found})


@dg.asset_check(
    asset=NOTES,
    description="On every day of the run: landed = notes + parts + held + quarantined + not mapped yet. "
    "Run by itself: on all days.",
)
def landed_is_accounted_for(
    context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource
) -> dg.AssetCheckResult:
    """Fails if a landed record of any day of the run is nowhere; of any day at all, when it is run by itself."""
    with failures_told():
        balances = reports.day_balances(warehouse.warehouse, _days_of(context))
    wrong = [balance for balance in balances if not balance.balanced]
    return dg.AssetCheckResult(
        passed=not wrong,
        metadata={
            "days": len(balances),
            "landed": sum(balance.landed for balance in balances),
            "wrong_days": ", ".join(balance.day.isoformat() for balance in wrong[:SHOWN]) or "none",
        },
    )


@dg.asset_check(
    asset=COMPOSITIONS,
    description="The mapping knows every section key that was seen on the days of the run. Run by itself: on all days.",
)
def known_section_keys(context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Warns of keys without a row: their sections are sent as they came, with the own code only."""
    days = _days_of(context)
    with failures_told():
        covered = read_coverage(warehouse.warehouse, BuildOptions.of(warehouse.settings.fhir).mapping, days)
    unknown = sorted({row.key or "" for row in covered.shown() if row.codes.treatment is Treatment.UNKNOWN})
    return dg.AssetCheckResult(
        passed=not unknown,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "days": _looked_at(days),
            "keys_unknown": covered.keys_unknown,
            "keys": ", ".join(unknown[:SHOWN]) or "none",
        },
    )


@dg.asset_check(
    asset=DOCUMENT_REFERENCES,
    blocking=True,
    description="Identifiers are each note's own, and no text that no clinician validated is called final. "
    "While this fails, nothing of the run is delivered.",
)
def documents_may_leave(context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Fails on any fault in the documents of the run's days; of all days, when it is run by itself."""
    days = _days_of(context)
    with failures_told():
        found = find_faults(warehouse.warehouse, days)
    return dg.AssetCheckResult(
        passed=not found, metadata={"days": _looked_at(days), **{code: found[code] for code in FAULTS}}
    )


def delivery_checks(settings: Settings) -> list[dg.AssetChecksDefinition]:
    """Checks of the delivery assets."""
    return [_every_note_is_accounted_for(target, asset) for target, asset in delivery_names(settings).items()]


def _every_note_is_accounted_for(target: str, asset: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset,
        name="every_note_is_accounted_for",
        description="On every day: notes with documents = planned + in flight + delivered + held + rejected + unknown "
        "+ discarded.",
    )
    def every_note_is_accounted_for(
        context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource
    ) -> dg.AssetCheckResult:
        with failures_told():
            balances = delivery_balances(
                warehouse.warehouse, target, days=_days_of(context), fingerprint=fingerprint(warehouse.settings)
            )
        wrong = [balance for balance in balances if balance.missing]
        return dg.AssetCheckResult(
            passed=not wrong,
            metadata={
                "days": len(balances),
                "notes": sum(balance.notes for balance in balances),
                "missing": sum(balance.missing for balance in wrong),
                "wrong_days": ", ".join(balance.day.isoformat() for balance in wrong[:SHOWN]) or "none",
            },
        )

    return every_note_is_accounted_for


def _days_of(context: dg.AssetCheckExecutionContext) -> list[date] | None:
    """The visit days of the run; `None` for a run that is not about days."""
    if not (context.has_partition_key or context.has_partition_key_range):
        return None
    return [date.fromisoformat(key) for key in sorted(context.partition_keys)]


def _looked_at(days: list[date] | None) -> int | str:
    """How many days a check looked at, for its figures."""
    return "all" if days is None else len(days)


def work_checks(settings: Settings) -> list[dg.AssetChecksDefinition]:
    """Checks of the job assets and of the inbox."""
    inbox = [every_event_is_heeded] if settings.providers else []
    return [*(_no_job_is_overdue(name) for name in working(settings)), *inbox]


def _no_job_is_overdue(provider: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=source_key(provider, JOBS),
        name="no_job_is_overdue",
        description="No job is still asked after beyond its bound, none waits to be submitted for longer than that.",
    )
    def no_job_is_overdue(warehouse: WarehouseResource) -> dg.AssetCheckResult:
        now = warehouse.now()
        with failures_told():
            own: JobSettings = getattr(warehouse.settings, provider)
            with warehouse.warehouse.read() as connection:
                standing = Ledger(warehouse.warehouse, provider).standing(connection, now=now - SETTLING)
        age_s = (now - standing.oldest_open_at).total_seconds() if standing.oldest_open_at else 0.0
        return dg.AssetCheckResult(
            passed=not standing.overdue and age_s <= 2 * own.job_expires_after_s,
            metadata={
                "overdue": standing.overdue,
                "oldest_open_s": round(age_s, 1),
                "unknown": standing.states.get("unknown", 0),
            },
        )

    return no_job_is_overdue


@dg.asset_check(asset=INBOX, description="No acknowledged event waits for longer than the inbox has patience.")
def every_event_is_heeded(warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Fails if an event is left behind."""
    with failures_told():
        count, _ = open_events(warehouse.warehouse)
        since = waiting_since(warehouse.warehouse)
    age_s = (warehouse.now() - since).total_seconds() if since else 0.0
    return dg.AssetCheckResult(
        passed=age_s <= PATIENCE.total_seconds(), metadata={"waiting": count, "oldest_s": round(age_s, 1)}
    )


CHECKS = [no_duplicate_keys, no_orphans, landed_is_accounted_for, known_section_keys, documents_may_leave]
