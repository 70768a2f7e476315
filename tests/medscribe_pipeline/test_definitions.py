"""What Dagster loads, for every configuration: exactly these assets, checks, jobs, schedules and sensors."""

from __future__ import annotations

import gc
import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.definitions.freshness import TimeWindowFreshnessPolicy

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.settings import EhrSettings
from tests.synced import DAGSTER_ON_PYDANTIC

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.settings import Settings

pytestmark = pytest.mark.filterwarnings(DAGSTER_ON_PYDANTIC)

ROOT = Path(__file__).parents[2]

ASKARA = {"token": "askara-canary-token"}
AUDIOSCRIBE = {"token": "audioscribe-canary-token"}
NABLA = {"token": "nabla-canary-token"}
INTRON = {"token": "intron-canary-token"}
ALL = {"askara": ASKARA, "audioscribe": AUDIOSCRIBE, "nabla": NABLA, "intron": INTRON}
EHR = {"base_url": "https://ehr.example.org/fhir"}

AUDIOS, NOTES_PULLED, SESSIONS = "askara_audios", "askara_notes", "audioscribe_sessions"
NABLA_JOBS, INTRON_JOBS, INBOX = "nabla_jobs", "intron_jobs", "inbox_events"
PULLED = [AUDIOS, NOTES_PULLED, SESSIONS, NABLA_JOBS, INTRON_JOBS, INBOX]
DAY_STAGES = ["scribe_notes", "fhir_compositions", "fhir_document_references"]
ASKARA_SWEEP, AUDIOSCRIBE_SWEEP, RETENTION = "askara_sweep", "audioscribe_sweep", "retention"
KEPT = [ASKARA_SWEEP, AUDIOSCRIBE_SWEEP, RETENTION]
REPORT = "daily_report"
ALWAYS = [*DAY_STAGES, RETENTION, REPORT]


@pytest.fixture
def define(make_settings: Callable[..., Settings]) -> Callable[..., dg.Definitions]:
    from medscribe_pipeline.definitions import build_definitions  # noqa: PLC0415 - loads the definitions of the environment

    def make(**changes: Any) -> dg.Definitions:
        return build_definitions(make_settings(**changes))

    return make


def specs(definitions: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}


@pytest.mark.parametrize(("expires_s", "fail_s"), [(86_400, 86_400), (1, 120)])
def test_jobs_nobody_asks_after_go_stale_before_they_expire_unseen(
    define: Callable[..., dg.Definitions], expires_s: int, fail_s: int
) -> None:
    found = specs(define(nabla={**NABLA, "job_expires_after_s": expires_s}))

    policy = found[NABLA_JOBS].freshness_policy
    assert isinstance(policy, TimeWindowFreshnessPolicy)
    assert policy.fail_window.to_timedelta().total_seconds() == fail_s
    assert policy.warn_window is not None
    assert policy.warn_window.to_timedelta().total_seconds() == fail_s / 2


@pytest.mark.parametrize(
    ("watched", "windows_s"),
    [
        ({}, (86_400, 345_600, 345_600)),
        (
            {"stale_sources_after_s": 3_600, "stale_notes_after_s": 7_200, "stale_deliveries_after_s": 120},
            (3_600, 7_200, 120),
        ),
        ({"stale_sources_after_s": 0, "stale_notes_after_s": 0, "stale_deliveries_after_s": 0}, (None, None, None)),
    ],
)
def test_what_nobody_materializes_goes_stale_by_the_settings(
    define: Callable[..., dg.Definitions], watched: dict[str, int], windows_s: tuple[int | None, ...]
) -> None:
    found = specs(define(askara=ASKARA, ehr=EHR, watch=watched))

    def window_s(name: str) -> float | None:
        policy = found[name].freshness_policy
        assert policy is None or isinstance(policy, TimeWindowFreshnessPolicy)
        return policy.fail_window.to_timedelta().total_seconds() if policy else None

    assert tuple(window_s(name) for name in (AUDIOS, "scribe_notes", "ehr_deliveries")) == windows_s
    assert {window_s(name) for name in DAY_STAGES} == {windows_s[1]}


@pytest.mark.parametrize(
    ("configured", "keys"),
    [
        ({}, ALWAYS),
        ({"askara": ASKARA}, [AUDIOS, NOTES_PULLED, INBOX, ASKARA_SWEEP, *ALWAYS]),
        ({"audioscribe": AUDIOSCRIBE}, [SESSIONS, INBOX, AUDIOSCRIBE_SWEEP, *ALWAYS]),
        ({"nabla": NABLA}, [NABLA_JOBS, INBOX, *ALWAYS]),
        ({"intron": INTRON}, [INTRON_JOBS, INBOX, *ALWAYS]),
        ({"askara": ASKARA, "nabla": NABLA}, [AUDIOS, NOTES_PULLED, NABLA_JOBS, INBOX, ASKARA_SWEEP, *ALWAYS]),
        ({"ehr": EHR}, [*ALWAYS, "ehr_deliveries"]),
        ({**ALL, "ehr": EHR}, [*PULLED, *KEPT, *DAY_STAGES, "ehr_deliveries", REPORT]),
    ],
    ids=["nothing", "askara", "audioscribe", "nabla", "intron", "two", "ehr", "everything"],
)
def test_only_what_is_configured_is_in_the_graph(
    define: Callable[..., dg.Definitions], configured: dict[str, Any], keys: list[str]
) -> None:
    definitions = define(**configured)

    dg.Definitions.validate_loadable(definitions)
    assert sorted(specs(definitions)) == sorted(keys)


def test_deps_follow_the_data(define: Callable[..., dg.Definitions]) -> None:
    found = specs(define(**ALL, ehr=EHR))

    assert {name: sorted(dep.asset_key.to_user_string() for dep in spec.deps) for name, spec in found.items()} == {
        AUDIOS: [],
        NOTES_PULLED: [AUDIOS],
        SESSIONS: [],
        NABLA_JOBS: [],
        INTRON_JOBS: [],
        INBOX: [INTRON_JOBS, NABLA_JOBS],
        "scribe_notes": sorted(PULLED),
        "fhir_compositions": ["scribe_notes"],
        "fhir_document_references": ["scribe_notes"],
        "ehr_deliveries": ["fhir_compositions", "fhir_document_references"],
        ASKARA_SWEEP: [AUDIOS, NOTES_PULLED],
        AUDIOSCRIBE_SWEEP: [SESSIONS],
        RETENTION: [],
        REPORT: ["ehr_deliveries"],
    }


def test_the_compositions_show_the_mapping_on_a_synthetic_note(define: Callable[..., dg.Definitions]) -> None:
    preview = specs(define(fhir={"profile": "fr"}))["fhir_compositions"].metadata["preview"]

    assert isinstance(preview, dg.MarkdownMetadataValue)
    assert "| Chief complaint | 10154-3 | exact | CHIEF_COMPLAINT |" in preview.value
    assert "`11488-4`" in preview.value
    assert "The note is synthetic." in preview.value


def test_the_graph_explains_itself(define: Callable[..., dg.Definitions]) -> None:
    found = specs(define(**ALL, ehr=EHR))

    assert {name: spec.group_name for name, spec in found.items()} == {
        AUDIOS: "askara",
        NOTES_PULLED: "askara",
        SESSIONS: "audioscribe",
        NABLA_JOBS: "nabla",
        INTRON_JOBS: "intron",
        INBOX: "inbox",
        "scribe_notes": "notes",
        "fhir_compositions": "fhir",
        "fhir_document_references": "fhir",
        "ehr_deliveries": "ehr",
        ASKARA_SWEEP: "askara",
        AUDIOSCRIBE_SWEEP: "audioscribe",
        RETENTION: "warehouse",
        REPORT: "warehouse",
    }
    assert {name: spec.kinds for name, spec in found.items()} == {
        AUDIOS: {"python", "sql"},
        NOTES_PULLED: {"python", "sql"},
        SESSIONS: {"python", "sql"},
        NABLA_JOBS: {"python", "sql"},
        INTRON_JOBS: {"python", "sql"},
        INBOX: {"python", "sql"},
        "scribe_notes": {"python", "sql"},
        "fhir_compositions": {"python", "fhir", "sql"},
        "fhir_document_references": {"python", "fhir", "sql"},
        "ehr_deliveries": {"python", "fhir"},
        **{key: {"python", "sql"} for key in (*KEPT, REPORT)},
    }
    assert {tuple(spec.owners) for spec in found.values()} == {("team:data-engineering",)}
    assert {spec.tags["phi"] for spec in found.values()} == {"true"}
    descriptions = [spec.description or "" for spec in found.values()]
    assert all(len(text) > 30 and text.endswith(".") for text in descriptions)
    assert len(set(descriptions)) == len(found)


def test_what_is_pulled_has_no_partitions_and_what_is_built_has_visit_days(
    define: Callable[..., dg.Definitions],
) -> None:
    found = specs(define(**ALL, ehr=EHR, timezone="Europe/Paris"))

    assert {name for name, spec in found.items() if spec.partitions_def is None} == {*PULLED, *KEPT}
    days = {spec.partitions_def for spec in found.values() if spec.partitions_def is not None}
    assert days == {dg.DailyPartitionsDefinition("2015-01-01", timezone="Europe/Paris", end_offset=1)}


def test_a_provider_and_the_ehr_are_asked_by_one_run_at_a_time(define: Callable[..., dg.Definitions]) -> None:
    definitions = define(**ALL, ehr={**EHR, "target": "clinic"}, account="south")

    pools = {
        node.name: node.pool
        for asset in definitions.resolve_asset_graph().assets_defs
        if asset.keys and isinstance(node := asset.node_def, dg.OpDefinition)
    }
    assert pools == {
        AUDIOS: "askara.south",
        NOTES_PULLED: "askara.south",
        SESSIONS: "audioscribe.south",
        NABLA_JOBS: "nabla.south",
        INTRON_JOBS: "intron.south",
        INBOX: "inbox.south",
        "scribe_notes": None,
        "fhir_documents": None,
        "ehr_deliveries": "ehr.clinic",
        ASKARA_SWEEP: "askara.south",
        AUDIOSCRIBE_SWEEP: "audioscribe.south",
        RETENTION: None,
        REPORT: None,
    }


def test_jobs_hold_the_right_assets(define: Callable[..., dg.Definitions]) -> None:
    definitions = define(**ALL, ehr=EHR)

    def selected(job: str) -> set[str]:
        return {key.to_user_string() for key in definitions.resolve_job_def(job).asset_layer.selected_asset_keys}

    assert selected("sync") == set(PULLED)
    assert selected("process_inbox") == {INBOX}
    assert (selected("work_nabla"), selected("work_intron")) == ({NABLA_JOBS}, {INTRON_JOBS})
    assert (selected("sweep"), selected("prune")) == ({ASKARA_SWEEP, AUDIOSCRIBE_SWEEP}, {RETENTION})
    assert selected("report_days") == {REPORT}
    assert selected("build_days") == {*DAY_STAGES, "ehr_deliveries"}
    assert definitions.resolve_job_def("sync").executor_def.name == "in_process"


def test_each_target_has_its_own_asset_pool_and_checks(define: Callable[..., dg.Definitions]) -> None:
    store = EhrSettings(base_url="https://store.example.org/fhir", target="fhir-store")

    definitions = define(ehr=EHR, more_targets=(store,))

    own, further = "ehr_deliveries", "ehr_deliveries_fhir_store"
    dg.Definitions.validate_loadable(definitions)
    found = specs(definitions)
    assert sorted(found) == sorted([*ALWAYS, own, further])
    for name in (own, further):
        assert {dep.asset_key.to_user_string() for dep in found[name].deps} == set(DAY_STAGES[1:])
        assert found[name].group_name == "ehr"
    nodes = {node.name: node for node in definitions.resolve_job_def("build_days").all_node_defs}
    pools = {name: node.pool for name, node in nodes.items() if isinstance(node, dg.OpDefinition) and node.pool}
    assert pools == {own: "ehr.ehr", further: "ehr.fhir-store"}
    layer = definitions.resolve_job_def("build_days").asset_layer
    checks = {(key.asset_key.to_user_string(), key.name) for key in layer.asset_graph.asset_check_keys}
    assert {check for check in checks if check[0].startswith(own)} == {
        (name, check) for name in (own, further) for check in ("stored_as_sent", "every_note_is_accounted_for")
    }


def test_checks_run_with_the_build(define: Callable[..., dg.Definitions]) -> None:
    definitions = define()

    layer = definitions.resolve_job_def("build_days").asset_layer
    checks = {(key.asset_key.to_user_string(), key.name) for key in layer.asset_graph.asset_check_keys}
    assert checks == {
        ("scribe_notes", "no_duplicate_keys"),
        ("scribe_notes", "no_orphans"),
        ("scribe_notes", "landed_is_accounted_for"),
        ("fhir_compositions", "known_section_keys"),
        ("fhir_document_references", "documents_may_leave"),
    }


def test_jobs_and_inbox_are_checked_when_they_have_run(define: Callable[..., dg.Definitions]) -> None:
    layer = define(**ALL).resolve_job_def("sync").asset_layer

    assert {(key.asset_key.to_user_string(), key.name) for key in layer.asset_graph.asset_check_keys} >= {
        (NABLA_JOBS, "no_job_is_overdue"),
        (INTRON_JOBS, "no_job_is_overdue"),
        (INBOX, "every_event_is_heeded"),
    }


def test_the_schedule_syncs_at_the_configured_time_and_waits_to_be_started(
    define: Callable[..., dg.Definitions],
) -> None:
    definitions = define(askara=ASKARA, schedule="5 6 * * *", timezone="Europe/Paris")

    schedule = definitions.resolve_schedule_def("sync_schedule")
    assert schedule.job_name == "sync"
    assert schedule.cron_schedule == "5 6 * * *"
    assert schedule.execution_timezone == "Europe/Paris"
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED


@pytest.mark.parametrize(
    ("name", "job", "cron"),
    [
        ("sweep_schedule", "sweep", "30 3 * * 0"),
        ("prune_schedule", "prune", "15 4 * * *"),
        ("report_schedule", "report_days", "30 6 * * *"),
    ],
)
def test_what_looks_after_the_warehouse_has_schedules_that_wait_to_be_started(
    define: Callable[..., dg.Definitions], name: str, job: str, cron: str
) -> None:
    schedule = define(askara=ASKARA, timezone="Europe/Paris").resolve_schedule_def(name)

    assert (schedule.job_name, schedule.cron_schedule) == (job, cron)
    assert schedule.execution_timezone == "Europe/Paris"
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED


def test_the_sensor_builds_days_and_waits_to_be_started(define: Callable[..., dg.Definitions]) -> None:
    sensor = define().resolve_sensor_def("changed_days")

    assert sensor.job_name == "build_days"
    assert sensor.minimum_interval_seconds == 60
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED


@pytest.mark.parametrize(
    ("name", "job", "interval_s"),
    [
        ("inbox_sensor", "process_inbox", 30),
        ("nabla_due_jobs", "work_nabla", 60),
        ("intron_due_jobs", "work_intron", 60),
    ],
)
def test_jobs_and_inbox_have_sensors_that_wait_to_be_started(
    define: Callable[..., dg.Definitions], name: str, job: str, interval_s: int
) -> None:
    sensor = define(**ALL).resolve_sensor_def(name)

    assert (sensor.job_name, sensor.minimum_interval_seconds) == (job, interval_s)
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED


def test_what_is_not_configured_has_no_sensor_and_no_job(define: Callable[..., dg.Definitions]) -> None:
    definitions = define(nabla=NABLA)

    names = {sensor.name for sensor in definitions.sensors or ()}
    jobs = {job.name for job in definitions.resolve_all_job_defs() if not job.name.startswith("__")}
    assert names == {"changed_days", "inbox_sensor", "nabla_due_jobs"}
    assert jobs == {"sync", "build_days", "process_inbox", "work_nabla", "prune", "report_days"}


def test_without_a_provider_there_is_nothing_to_sync_nor_to_schedule(define: Callable[..., dg.Definitions]) -> None:
    definitions = define(ehr=EHR)

    jobs = {job.name for job in definitions.resolve_all_job_defs() if not job.name.startswith("__")}
    assert jobs == {"build_days", "prune", "report_days"}
    scheduled = [each.job_name for each in definitions.schedules or () if isinstance(each, dg.ScheduleDefinition)]
    assert scheduled == ["prune", "report_days"]
    assert [sensor.name for sensor in definitions.sensors or ()] == ["changed_days"]


def test_no_credential_is_anywhere_in_what_dagster_shows(define: Callable[..., dg.Definitions]) -> None:
    definitions = define(**ALL, ehr=EHR)

    shown = [
        repr((spec.description, spec.tags, spec.metadata, spec.code_version)) for spec in specs(definitions).values()
    ]
    job = definitions.resolve_job_def("sync")
    shown += [repr(job.run_config), repr(job.tags), repr(job.metadata), repr(definitions.resources)]
    assert "canary" not in "".join(shown)


def dagster(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a program of the environment with nothing set but what is given."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


VALIDATE = ("-m", "dagster", "definitions", "validate", "-w", str(ROOT / "workspace.yaml"))


def test_dagster_validates_the_workspace_with_the_settings_of_the_environment(tmp_path: Path) -> None:
    done = dagster(tmp_path, *VALIDATE, DAGSTER_HOME=str(tmp_path), MEDSCRIBE_ASKARA_TOKEN="x")

    assert done.returncode == 0, done.stderr
    assert "Validation successful for code location medscribe" in done.stdout + done.stderr


def test_a_wrong_setting_fails_the_validation_by_its_name_not_by_its_value(tmp_path: Path) -> None:
    done = dagster(tmp_path, *VALIDATE, DAGSTER_HOME=str(tmp_path), MEDSCRIBE_ASKARA_CLIENT_SECRET="the-canary-secret")

    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "missing: MEDSCRIBE_ASKARA_CLIENT_ID, MEDSCRIBE_ASKARA_REFRESH_TOKEN" in said
    assert "canary" not in said


def test_the_code_location_loads_without_any_environment(tmp_path: Path) -> None:
    listing = """
from medscribe_pipeline.definitions import defs
print(*(spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()))
"""

    done = dagster(tmp_path, "-c", listing)

    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.split()) == sorted(ALWAYS)


@pytest.mark.usefixtures("clean_environment")
def test_garbage_is_collected_again_once_the_location_is_loaded_or_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from medscribe_pipeline import definitions  # noqa: PLC0415 - loads the definitions of the environment

    importlib.reload(definitions)
    assert gc.isenabled()
    assert gc.get_freeze_count()
    monkeypatch.setenv("MEDSCRIBE_TIMEZONE", "Mars/Olympus")

    with pytest.raises(ConfigError, match="MEDSCRIBE_TIMEZONE"):
        importlib.reload(definitions)

    assert gc.isenabled()


def test_a_wrong_mapping_file_is_told_when_definitions_are_loaded(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('[sections.PLAN]\nloinc = "18776-6"\n')
    environment = {
        "MEDSCRIBE_HOME": str(tmp_path / "home"),
        "MEDSCRIBE_FHIR_MAPPING": str(tmp_path / "own.toml"),
        "PATH": os.environ["PATH"],
    }
    script = "import medscribe_pipeline.definitions"

    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert "sections.PLAN.loinc: is no LOINC code: its check digit is wrong" in done.stderr
    assert "file=own.toml" in done.stderr
