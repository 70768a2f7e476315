"""How the command speaks while it works: a heartbeat on standard error, never on standard output."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from medscribe_pipeline.cli import output
from medscribe_pipeline.cli.runner import SyncResult
from medscribe_pipeline.warehouse.reports import CursorStatus, ProviderStatus, Status, TargetStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table

    from tests.medscribe_pipeline.cli.conftest import Ran
    from tests.synced import Clinic

progress = logging.getLogger("medscribe_pipeline.progress")
PATIENCE_S = 10.0


def wait_for_lines(capsys: pytest.CaptureFixture[str], count: int) -> list[str]:
    """Lines on standard error, once there are so many; nothing may be on standard output."""
    lines: list[str] = []
    give_up_at = time.monotonic() + PATIENCE_S
    while len(lines) < count and time.monotonic() < give_up_at:
        time.sleep(0.01)
        written = capsys.readouterr()
        assert written.out == ""
        lines += written.err.splitlines()
    return lines


@pytest.fixture
def fast_heart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "HEARTBEAT_S", 0.02)


@pytest.mark.usefixtures("fast_heart")
def test_away_from_a_terminal_a_line_tells_that_work_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress_shown("medscribe sync"):
        first = wait_for_lines(capsys, 2)
        progress.info("askara audios: %d pages", 3)
        later = wait_for_lines(capsys, 2)

    assert first[0] == "medscribe sync · starting · 0 s"
    assert later[-1] == "medscribe sync · askara audios: 3 pages · 0 s"


@pytest.mark.usefixtures("fast_heart")
def test_the_heart_stops_with_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    before = list(progress.handlers)

    with pytest.raises(RuntimeError, match="over"), output.progress_shown("work"):
        raise RuntimeError("over")

    capsys.readouterr()
    time.sleep(0.1)
    assert capsys.readouterr() == ("", "")
    assert "progress" not in {thread.name for thread in threading.enumerate()}
    assert progress.handlers == before


def test_work_that_is_quick_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress_shown("work"):
        progress.info("half done")

    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("fast_heart")
def test_a_sync_beats_on_standard_error_and_answers_json_on_standard_output(
    clinic: Clinic, medscribe: Callable[..., Ran]
) -> None:
    assert clinic

    ran = medscribe("sync", "--full-refresh", "--json")

    assert set(ran.json) == {"run", "status"}
    assert ran.err.splitlines()
    assert all(line.startswith("medscribe sync · ") and line.endswith(" s") for line in ran.err.splitlines())


def test_json_keeps_times_as_text_and_accents_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"at": datetime(2026, 3, 1, tzinfo=UTC), "why": "élève", 3: None})

    written = capsys.readouterr().out
    assert orjson.loads(written) == {"at": "2026-03-01T00:00:00+00:00", "why": "élève", "3": None}
    assert "élève" in written
    assert written.endswith("\n")


def test_the_status_has_the_same_keys_whatever_it_counts() -> None:
    moved = datetime(2026, 3, 1, tzinfo=UTC)
    full = ProviderStatus("askara")
    full.deliveries["Composition", "held"] = 2
    full.quarantined["map", "patient_conflict"] = 1
    full.jobs["failed", "too_short"] = 3
    full.jobs["running", ""] = 4
    full.refused["visit", "audio_missing"] = 5
    status = Status(
        "south", {"askara": full, "new": ProviderStatus("new")}, [CursorStatus("a", "b", None, moved)], 3, 1, 2
    )

    shown: dict[str, Any] = output.status_json(status)

    assert set(shown["providers"]["askara"]) == set(shown["providers"]["new"])
    assert shown["providers"]["askara"]["deliveries"] == {"Composition.held": 2}
    assert shown["providers"]["askara"]["quarantined"] == {"map.patient_conflict": 1}
    assert shown["cursors"] == [{"provider": "a", "stream": "b", "watermark": None, "moved_at": moved}]
    assert shown["providers"]["askara"]["jobs"] == {"failed.too_short": 3, "running": 4}
    assert shown["providers"]["askara"]["refused"] == {"visit.audio_missing": 5}
    assert (shown["account"], shown["days"], shown["days_due"], shown["open_events"]) == ("south", 3, 1, 2)


def test_one_target_is_not_told_apart_and_several_are() -> None:
    provider = ProviderStatus(
        "askara", deliveries=Counter({("Composition", "held"): 2, ("Composition", "delivered"): 3})
    )
    provider.targets["ehr"] = TargetStatus(Counter({("Composition", "delivered"): 3}))
    provider.targets["store"] = TargetStatus(Counter({("Composition", "held"): 2}), held=Counter(patient_missing=2))
    alone, both, silent = (
        Status("south", {"askara": provider}, targets=names) for names in (("ehr",), ("ehr", "store"), ("ehr", "new"))
    )

    assert "targets" not in output.status_json(alone)["providers"]["askara"]
    assert output.status_json(both)["providers"]["askara"]["targets"] == {
        "ehr": {"deliveries": {"Composition.delivered": 3}, "held": {}, "rejected": {}},
        "store": {"deliveries": {"Composition.held": 2}, "held": {"patient_missing": 2}, "rejected": {}},
    }
    assert output.status_json(silent)["providers"]["askara"]["targets"]["new"]["deliveries"] == {}
    assert [row for row in cells(output.status_tables(alone)[0]) if row[0].startswith("  ") and row[1] != "·"] == [
        ("  delivered", "3"),
        ("  held", "2"),
    ]
    where, why = output.status_tables(both)
    assert [row for row in cells(where) if row[0].startswith("  ") and row[1] != "·"] == [
        ("  delivered (ehr)", "3"),
        ("  held (store)", "2"),
    ]
    assert [row[1] for row in cells(why)] == ["document held (store)"]


def test_a_run_tells_what_went_to_each_target(capsys: pytest.CaptureFixture[str]) -> None:
    def told(**targets: dict[str, int]) -> str:
        stages: dict[str, dict[str, Any]] = {"scribe_notes": {"looked_at": 4}, "fhir_document_references": {"built": 3}}
        for name, facts in targets.items():
            stages[f"ehr_deliveries_{name}"] = {"target": name, "already_delivered": 1, **facts}
        output.run_summary(SyncResult(stages=stages, days=1))
        return " ".join(capsys.readouterr().out.split())

    start, there = "1 visit days built: 4 records mapped, 3 notes to FHIR", "1 already there and not sent again"
    assert told() == f"{start}."
    assert told(ehr={"delivered": 2}) == f"{start}, 2 delivered now, {there}."
    assert told(ehr={"delivered": 2}, store={"delivered": 0, "left_for_next_run": 5}) == (
        f"{start}; to ehr 2 delivered now, {there}; to store 0 delivered now, {there}, 5 left for the next run."
    )


def cells(table: Table) -> list[tuple[str, ...]]:
    """The rows of a table as they are printed."""
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    return list(zip(*columns, strict=True))


def test_a_person_sees_how_jobs_stand_and_why_some_stopped() -> None:
    nabla, askara = ProviderStatus("nabla"), ProviderStatus("askara")
    nabla.jobs.update({("fetched", ""): 5, ("running", ""): 2, ("failed", "too_short"): 1, ("unknown", "timeout"): 1})
    nabla.jobs.update({("wanted", "throttled"): 1, ("expired", "no_result"): 1, ("cancelled", "superseded"): 1})
    nabla.refused.update({("visit", "audio_missing"): 1, ("follow_up", "internal"): 1})

    where, why = output.status_tables(Status("south", {"askara": askara, "nabla": nabla}))

    rows = cells(where)
    jobs = rows[: rows.index(("records landed", "·", "·"))]
    assert jobs == [
        ("jobs", "·", "12"),
        ("  wanted", "·", "1"),
        ("  running", "·", "2"),
        ("  failed", "·", "1"),
        ("  expired", "·", "1"),
        ("  cancelled", "·", "1"),
        ("  unknown", "·", "1"),
    ]
    assert cells(why) == [
        ("nabla", "job expired", "no end within JOB_EXPIRES_AFTER_S", "1"),
        ("nabla", "job failed", "too_short", "1"),
        ("nabla", "job unknown", "no answer in time", "1"),
        ("nabla", "next job refused", "a mistake of this project", "1"),
        ("nabla", "visit refused", "the audio file is not there", "1"),
    ]


def test_without_jobs_there_is_no_line_about_them() -> None:
    (where,) = output.status_tables(Status("south", {"askara": ProviderStatus("askara")}))

    assert cells(where)[0] == ("records landed", "·")
    assert "jobs" not in {title for title, _ in cells(where)}
