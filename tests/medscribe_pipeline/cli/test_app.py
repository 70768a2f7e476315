"""`init`, `sync`, `status` and `visits import`: what they do, print and answer as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.warehouse.store import SCHEMA_HEAD
from tests.synced import DAYS, secrets_of, tables_of, write_manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.medscribe_pipeline.cli.conftest import Ran
    from tests.synced import Clinic

RUN = {"sources", "stages", "days", "failures", "duration_s", "exit_code"}
STATUS = {"account", "days", "days_due", "open_events", "providers", "cursors"}
PROVIDER = {"landed", "notes", "held_records", "documents", "deliveries", "held", "rejected", "quarantined"} | {
    "jobs",
    "refused",
}
CURSOR = {"provider", "stream", "watermark", "moved_at"}
SOURCES = {"askara_audios", "askara_notes", "audioscribe_sessions"}
WORK = {"intron_jobs", "nabla_jobs", "inbox_events"}
STAGES = {"scribe_notes", "fhir_compositions", "fhir_document_references", "ehr_deliveries"}


def check_status_shape(status: dict[str, Any]) -> None:
    assert set(status) - {"explained"} == STATUS
    for provider in status["providers"].values():
        assert set(provider) == PROVIDER
        assert all(isinstance(count, int) for counter in provider.values() for count in counter.values())
    for cursor in status["cursors"]:
        assert set(cursor) == CURSOR


# init


def test_init_creates_the_warehouse_once(home: Path, medscribe: Callable[..., Ran]) -> None:
    first, second = medscribe("init"), medscribe("init")

    assert (first.code, second.code) == (0, 0)
    assert first.words == f"The warehouse is at schema {SCHEMA_HEAD}."
    assert second.words == f"The warehouse is at schema {SCHEMA_HEAD} already."
    assert (home / "warehouse.sqlite").exists()


def test_init_as_json(home: Path, medscribe: Callable[..., Ran]) -> None:
    assert home

    assert medscribe("init", "--json").json == {"schema_version": SCHEMA_HEAD, "migrated": True}
    assert medscribe("init", "--json").json == {"schema_version": SCHEMA_HEAD, "migrated": False}


# sync


def test_sync_as_json_has_a_stable_shape(empty_clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    ran = medscribe("sync", "--json")

    run = ran.json["run"]
    assert set(ran.json) == {"run", "status"}
    assert set(run) == RUN
    assert (set(run["sources"]), set(run["stages"])) == (SOURCES | WORK, STAGES)
    assert (run["days"], run["failures"]) == (len(DAYS), [])
    assert run["stages"]["scribe_notes"]["dagster/row_count"] == len(empty_clinic.note_ids())
    check_status_shape(ran.json["status"])


def test_an_open_quarantine_is_exit_code_1(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    assert clinic.value("SELECT count(*) FROM quarantine WHERE resolved_at IS NULL") > 0

    ran = medscribe("sync", "--json")

    assert ran.code == ran.json["run"]["exit_code"] == 1


def test_with_nothing_wrong_it_is_exit_code_0(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    for name in ("audios", "notes", "sessions"):
        for key in [key for key, record in clinic.sandbox.world.records(name).items() if "_defect" in record]:
            clinic.sandbox.world.delete(name, key)
    clinic.change("UPDATE quarantine SET resolved_at = last_seen_at")

    ran = medscribe("sync", "--json")

    assert ran.code == ran.json["run"]["exit_code"] == 0


def test_a_second_sync_moves_nothing_and_has_the_same_shape(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    run = medscribe("sync", "--json").json["run"]

    assert set(run) == RUN
    assert (run["days"], run["stages"]) == (0, {})
    assert {(run["sources"][name]["new"], run["sources"][name]["changed"]) for name in SOURCES} == {(0, 0)}
    assert {run["sources"][name]["dagster/row_count"] for name in SOURCES | WORK} == {0}
    assert len(clinic.note_ids()) > 0


def test_only_the_named_provider_is_pulled(empty_clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    ran = medscribe("sync", "--provider", "audioscribe", "--json")

    assert set(ran.json["run"]["sources"]) == {"audioscribe_sessions", "inbox_events"}
    others = ("/askara/", "/nabla/", "/intron/")
    assert not [path for path in empty_clinic.sandbox.stats.requests if path.startswith(others)]


def test_window_and_refresh_reach_the_assets(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    assert clinic

    ran = medscribe("sync", "--since", "2026-03-29", "--until", "2026-03-30T00:00:00Z", "--full-refresh", "--json")

    for facts in (ran.json["run"]["sources"][name] for name in SOURCES):
        assert facts["window_since"] == "2026-03-29T00:00:00+01:00"
        assert facts["window_until"] == "2026-03-30T00:00:00+00:00"
        assert facts["full_refresh"] == "true"


def test_sync_for_people_says_what_moved_and_where_the_warehouse_is(
    empty_clinic: Clinic, medscribe: Callable[..., Ran]
) -> None:
    ran = medscribe("sync")

    assert all(name in ran.words for name in (*SOURCES, "askara", "audioscribe"))
    assert f"{len(DAYS)} visit days built" in ran.words
    assert str(empty_clinic.database) in ran.out.replace("\n", "")
    assert [secret for secret in secrets_of(empty_clinic) if secret in ran.out + ran.err] == []


def test_the_run_is_in_the_instance_under_the_home(clinic: Clinic) -> None:
    instance = clinic.home / "dagster"

    assert "telemetry:\n  enabled: false" in (instance / "dagster.yaml").read_text()
    assert list((instance / "history").rglob("*.db"))


# status


def test_an_empty_warehouse_has_a_status(home: Path, medscribe: Callable[..., Ran]) -> None:
    assert home

    people, program = medscribe("status"), medscribe("status", "--json")

    assert (people.code, program.code) == (0, 0)
    # Nothing was read because nobody is asked: that is no complete day.
    assert "is not complete: 1 account without a provider (no provider is configured here" in people.words
    assert "records landed" not in people.words
    counts = {"days": 0, "days_due": 0, "open_events": 0}
    told = program.json
    assert told.pop("explained")["verdict"]["complete"] is False
    assert told == {"account": "default", **counts, "providers": {}, "cursors": []}


def test_the_status_counts_what_is_there(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    status = medscribe("status", "--json").json

    check_status_shape(status)
    assert set(status["providers"]) == {"askara", "audioscribe", "nabla", "intron"}
    assert sum(sum(each["notes"].values()) for each in status["providers"].values()) == len(clinic.note_ids())
    assert (status["days"], status["days_due"]) == (len(DAYS), 0)
    assert {(cursor["provider"], cursor["stream"]) for cursor in status["cursors"]} >= {("askara", "audios")}


def test_composite_counters_have_dotted_keys(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    assert clinic

    askara = medscribe("status", "--json").json["providers"]["askara"]

    assert askara["deliveries"]["Composition.delivered"] == askara["deliveries"]["DocumentReference.delivered"] > 0
    assert askara["quarantined"]["extract.wire_model"] > 0


def test_the_status_of_a_day_counts_that_day(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    per_day = [medscribe("status", "--day", day, "--json").json for day in DAYS]

    counted = [sum(sum(each["notes"].values()) for each in status["providers"].values()) for status in per_day]
    assert counted == [
        row[0] for row in clinic.rows("SELECT count(*) FROM notes GROUP BY visit_day ORDER BY visit_day")
    ]
    assert [status["days"] for status in per_day] == [1] * len(DAYS)


def test_a_day_nothing_happened_on_has_an_empty_status(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    assert clinic

    status = medscribe("status", "--day", "2026-01-01", "--json").json

    assert (status["providers"], status["days"]) == ({}, 0)


def test_the_status_says_why_something_stopped_and_how_far_it_was_read(
    clinic: Clinic, medscribe: Callable[..., Ran]
) -> None:
    ran = medscribe("status")

    assert "no clinician has validated it yet" in ran.words
    assert "askara audios: read up to 2026-03-" in ran.words
    assert "out of date" not in ran.words
    assert [secret for secret in secrets_of(clinic) if secret in ran.out] == []


def test_the_status_says_that_days_are_out_of_date(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    clinic.change("UPDATE visit_days SET built_seq = 0 WHERE visit_day = ?", str(DAYS[0]))

    ran = medscribe("status")

    assert "1 of 4 visit days are out of date: run `medscribe sync`." in ran.words


def test_the_status_writes_nothing(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    before = tables_of(clinic.database)

    medscribe("status")

    assert tables_of(clinic.database) == before


# visits import


def test_a_manifest_is_imported_and_its_records_are_due_again(
    clinic: Clinic, medscribe: Callable[..., Ran], tmp_path: Path
) -> None:
    rows = clinic.sandbox.world.visits()
    rows[0]["encounter_id"] = "another-encounter"
    write_manifest(tmp_path / "visits.csv", rows)

    first = medscribe("visits", "import", tmp_path / "visits.csv", "--json")
    again = medscribe("visits", "import", tmp_path / "visits.csv", "--json")

    assert (first.code, again.code) == (0, 0)
    assert first.json == {"new": 0, "changed": 1, "unchanged": len(rows) - 1, "records": 1, "forgotten": 0}
    assert again.json == {"new": 0, "changed": 0, "unchanged": len(rows), "records": 0, "forgotten": 0}
    assert medscribe("status", "--json").json["days_due"] == 1


def test_an_import_for_people_is_one_sentence(home: Path, medscribe: Callable[..., Ran], tmp_path: Path) -> None:
    assert home
    write_manifest(tmp_path / "visits.csv", [{"provider": "askara", "correlation_key": "a1"}])

    ran = medscribe("visits", "import", tmp_path / "visits.csv")

    assert ran.code == 0
    assert ran.words.startswith("1 visits new, 0 changed, 0 as before; 0 landed records")


def test_a_broken_manifest_imports_nothing_and_names_the_place(
    clinic: Clinic, medscribe: Callable[..., Ran], tmp_path: Path
) -> None:
    before = tables_of(clinic.database)
    good = {"provider": "askara", "correlation_key": "a1"}
    write_manifest(tmp_path / "visits.csv", [good, {**good, "correlation_key": "a2", "started_at": "qxcanary"}])

    ran = medscribe("visits", "import", tmp_path / "visits.csv")

    assert (ran.code, ran.out) == (2, "")
    assert "line 3" in ran.err
    assert "started_at" in ran.err
    assert "qxcanary" not in ran.err
    assert tables_of(clinic.database) == before


@pytest.mark.parametrize("flags", [(), ("--json",)], ids=["people", "json"])
def test_a_failure_of_a_step_is_told_in_either_form(
    clinic: Clinic, medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    def stumble(*_: object, **__: object) -> None:
        raise KeyError("qxcanary [bold]")

    clinic.change("UPDATE visit_days SET built_seq = 0")
    monkeypatch.setattr("assets.days.build_notes_of", stumble)

    ran = medscribe("sync", *flags)

    assert ran.code == 1
    assert "Unexpected KeyError in stumble" in ran.words
    assert "qxcanary" not in ran.out + ran.err
