"""The daily report: metadata and a page for each visit day, and a schedule for yesterday."""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.partitions import range_tags
from assets.reports import REPORT, REPORT_JOB, report_schedules
from medscribe_pipeline.operation.report_file import report_path
from tests.assets.jobs import failures, reported, run
from tests.synced import DAYS, secrets_of, tables_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.settings import Settings
    from tests.synced import Clinic

FACTS = {
    "verdict",
    "complete",
    "to_run",
    "landed",
    "notes",
    "delivered_ehr",
    "need_a_person",
    "go_on_by_themselves",
    "flow",
    "page",
}


def test_each_day_is_reported_with_a_verdict_and_a_page(clinic: Clinic, instance: dg.DagsterInstance) -> None:
    before = tables_of(clinic.database)

    result = run(instance, REPORT_JOB, tags=range_tags(DAYS[0], DAYS[-1]))

    figures = reported(result)
    assert result.success
    assert set(figures) == {(REPORT, day.isoformat()) for day in DAYS}
    landed = dict(clinic.rows("SELECT visit_day, count(*) FROM source_records GROUP BY 1"))
    for (_, day), facts in figures.items():
        assert set(facts) == FACTS
        assert facts["verdict"].startswith(f"{day} is not complete:")
        assert (facts["complete"], facts["landed"]) == (False, landed[day])
        assert facts["flow"].startswith("| target | provider | from | to | count |")
        page = report_path(clinic.settings, datetime.fromisoformat(str(day)).date())
        assert facts["page"] == str(page)
        assert stat.S_IMODE(page.stat().st_mode) == 0o600
        assert stat.S_IMODE(page.parent.stat().st_mode) == 0o700
        shown = page.read_text(encoding="utf-8") + repr(facts)
        assert [secret for secret in secrets_of(clinic) if secret in shown] == []
    assert tables_of(clinic.database) == before


def test_a_page_that_cannot_be_written_is_told_with_its_code(clinic: Clinic, instance: dg.DagsterInstance) -> None:
    (clinic.home / "reports").write_text("in the way", encoding="utf-8")

    result = run(instance, REPORT_JOB, tags=range_tags(DAYS[0], DAYS[0]))

    assert [failure["code"] for failure in failures(result).values()] == ["home_unwritable"]


def test_every_morning_the_day_before_is_asked_for(make_settings: Callable[..., Settings]) -> None:
    (schedule,) = report_schedules(make_settings(timezone="Europe/Paris"))
    early = datetime(2026, 3, 2, 5, 30, tzinfo=UTC)

    asked: Any = schedule(dg.build_schedule_context(scheduled_execution_time=early))

    assert [request.partition_key for request in asked] == ["2026-03-01"]
