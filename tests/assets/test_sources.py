"""The source assets: what they report, which window they take, and how they fail."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from assets.sources import SyncConfig
from medscribe_pipeline.errors import ConfigError, MedscribeError
from medscribe_pipeline.providers import askara, audioscribe
from tests.assets.jobs import SOURCES, failures, reported, sync
from tests.synced import CLOSED_PORT, tables_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import dagster as dg

    from medscribe_pipeline.settings import Settings
    from tests.synced import Clinic

COUNTS = {
    "dagster/row_count",
    "pages",
    "records_seen",
    "new",
    "changed",
    "unchanged",
    "stale",
    "quarantined",
    "still_quarantined",
    "days_touched",
    "requests",
    "retries",
    "throttled",
    "received_bytes",
}
SECONDS = {"waited_s", "duration_s"}
WINDOW = {"window_since", "window_until", "full_refresh"}
CANARY = "qxcanary: the patient's own words"


def test_each_source_reports_counts_window_and_watermark(empty_clinic: Clinic, instance: dg.DagsterInstance) -> None:
    assert not empty_clinic.home.exists()

    result = sync(instance)

    figures = reported(result)
    assert result.success
    assert sorted(figures) == [(name, None) for name in SOURCES]
    for (name, _), facts in figures.items():
        # AudioScribe never says when a session changed: it has no watermark.
        watermark = set() if name == "audioscribe_sessions" else {"watermark"}
        assert set(facts) == COUNTS | SECONDS | WINDOW | watermark
        assert all(isinstance(facts[key], int) and facts[key] >= 0 for key in COUNTS)
        assert all(isinstance(facts[key], float) and 0 <= facts[key] < 60 for key in SECONDS)
        assert [facts[key] for key in sorted(WINDOW)] == ["false", "watermark", "now"]


def test_the_figures_are_those_of_the_warehouse_and_of_the_servers(
    empty_clinic: Clinic, instance: dg.DagsterInstance
) -> None:
    figures = reported(sync(instance))

    landed = dict(empty_clinic.rows("SELECT provider || '_' || stream, count(*) FROM source_records GROUP BY 1"))
    broken = dict(empty_clinic.rows("SELECT provider || '_' || stream, count(*) FROM quarantine GROUP BY 1"))
    marks = dict(empty_clinic.rows("SELECT provider || '_' || stream, watermark FROM sync_cursors"))
    seen = empty_clinic.sandbox.stats.requests
    for (name, _), facts in figures.items():
        assert facts["new"] == facts["dagster/row_count"] == landed[name]
        assert facts["quarantined"] == broken[name] > 0
        assert facts["records_seen"] == facts["new"] + facts["unchanged"] + facts["quarantined"]
        if "watermark" in facts:
            assert datetime.fromtimestamp(facts["watermark"], UTC) == datetime.fromisoformat(marks[name])
    assert sum(facts["requests"] for facts in figures.values()) == sum(
        count for path, count in seen.items() if "/fhir" not in path
    )


def test_a_second_sync_reads_what_changed_and_nothing_else(clinic: Clinic, instance: dg.DagsterInstance) -> None:
    world = clinic.sandbox.world
    edited = next(key for key, note in world.records("notes").items() if "_defect" not in note)
    world.edit_note(edited)

    figures = reported(sync(instance))

    changed = {name: (facts["new"], facts["changed"], facts["stale"]) for (name, _), facts in figures.items()}
    assert changed == {"askara_audios": (0, 1, 0), "askara_notes": (0, 1, 0), "audioscribe_sessions": (0, 0, 0)}
    assert figures["askara_notes", None]["records_seen"] < len(world.records("notes"))


def test_a_window_bounds_what_is_read(empty_clinic: Clinic, instance: dg.DagsterInstance) -> None:
    notes = empty_clinic.sandbox.world.records("notes").values()
    times = sorted(datetime.fromisoformat(note["updatedAt"]) for note in notes)
    since, until = times[len(times) // 3], times[2 * len(times) // 3]

    facts = reported(sync(instance, "askara_notes", since=since.isoformat(), until=until.isoformat()))[
        "askara_notes", None
    ]

    assert facts["records_seen"] == sum(since <= time <= until for time in times)
    assert 0 < facts["records_seen"] < len(times)
    assert (facts["window_since"], facts["window_until"]) == (since.isoformat(), until.isoformat())


def test_a_full_refresh_reads_everything_and_rewrites_nothing(clinic: Clinic, instance: dg.DagsterInstance) -> None:
    before = tables_of(clinic.database)

    figures = reported(sync(instance, full_refresh=True))

    assert {facts["full_refresh"] for facts in figures.values()} == {"true"}
    assert {(facts["new"], facts["changed"], facts["dagster/row_count"]) for facts in figures.values()} == {(0, 0, 0)}
    for name in ("notes", "sessions"):
        asset = "askara_notes" if name == "notes" else "audioscribe_sessions"
        assert figures[asset, None]["records_seen"] == len(clinic.sandbox.world.records(name))
    after = tables_of(clinic.database)
    assert after["source_records"] == before["source_records"]
    assert after["visit_days"] == before["visit_days"]


def test_a_provider_that_is_down_stops_its_own_streams_and_no_other(
    empty_clinic: Clinic, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSCRIBE_ASKARA_BASE_URL", CLOSED_PORT)
    monkeypatch.setenv("MEDSCRIBE_ASKARA_MAX_ATTEMPTS", "1")

    result = sync(instance)

    told = failures(result)
    started = {event.step_key for event in result.all_events if event.is_step_start}
    assert list(told) == ["askara_audios"]
    assert told["askara_audios"]["exit_code"] == 3
    assert started == {"askara_audios", "audioscribe_sessions"}
    assert list(reported(result)) == [("audioscribe_sessions", None)]
    assert empty_clinic.rows("SELECT DISTINCT provider FROM source_records") == [("audioscribe",)]


def test_a_wrong_token_asks_for_the_setting(
    empty_clinic: Clinic, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert empty_clinic
    monkeypatch.setenv("MEDSCRIBE_AUDIOSCRIBE_TOKEN", "canary-token")

    told = failures(sync(instance))["audioscribe_sessions"]

    assert told["exit_code"] == 2
    assert "MEDSCRIBE_AUDIOSCRIBE_TOKEN" in told["description"]
    assert "canary" not in told["description"]


def test_two_runs_of_a_stream_at_once_are_one_too_many(clinic: Clinic, instance: dg.DagsterInstance) -> None:
    with clinic.open() as warehouse, warehouse.locks.hold("sync:default:askara:audios", 0):
        result = sync(instance, "askara_audios")

    assert failures(result)["askara_audios"]["code"] == "busy"


def test_our_own_error_reaches_dagster_as_code_and_exit_code(
    clinic: Clinic, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MedscribeError("The list has the wrong colour", code="colour", context={"page": 3})

    assert clinic
    monkeypatch.setattr(audioscribe, "pull_sessions", refuse)

    assert failures(sync(instance))["audioscribe_sessions"] == {
        "code": "colour",
        "exit_code": 1,
        "description": "The list has the wrong colour (code=colour page=3)",
    }


def test_an_unexpected_exception_is_told_without_its_words(
    clinic: Clinic, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: object, **__: object) -> None:
        payload = {"text": CANARY}
        raise KeyError(payload["text"], payload)

    assert clinic
    monkeypatch.setattr(askara, "pull_audios", stumble)

    result = sync(instance)

    told = failures(result)["askara_audios"]
    assert (told["code"], told["exit_code"]) == ("unexpected", 1)
    assert told["description"].startswith("Unexpected KeyError in stumble, test_sources.py line ")
    assert "qxcanary" not in repr(instance.all_logs(result.run_id))


def test_a_window_that_is_no_time_is_the_callers_mistake(clinic: Clinic, instance: dg.DagsterInstance) -> None:
    asked = clinic.sandbox.stats.requests.total()

    told = failures(sync(instance, "askara_audios", since="yesterday"))["askara_audios"]

    assert (told["code"], told["exit_code"]) == ("window", 2)
    assert clinic.sandbox.stats.requests.total() == asked


def test_a_time_without_offset_is_local(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(timezone="Europe/Paris")

    window = SyncConfig(since="2026-03-30", until="2026-03-30T12:00:00Z", full_refresh=True).window(settings)

    assert window.since == datetime(2026, 3, 30, tzinfo=ZoneInfo("Europe/Paris"))
    assert window.since.utcoffset() == timedelta(hours=2)
    assert window.until == datetime(2026, 3, 30, 12, tzinfo=UTC)
    assert window.full


def test_an_empty_configuration_is_the_ordinary_sync(make_settings: Callable[..., Settings]) -> None:
    window = SyncConfig().window(make_settings())

    assert (window.since, window.until, window.full) == (None, None, False)


@pytest.mark.parametrize("name", ["since", "until"])
def test_a_wrong_time_is_named_and_not_repeated(make_settings: Callable[..., Settings], name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name} is not an ISO 8601 time") as caught:
        SyncConfig.model_validate({name: "canary"}).window(make_settings())

    assert "canary" not in str(caught.value)
