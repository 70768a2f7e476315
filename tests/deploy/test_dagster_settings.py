"""The instance settings of deploy/: Dagster takes them, all variants say the same, and PostgreSQL works with them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from dagster._core.instance.config import dagster_instance_config

from medscribe_pipeline.cli.runner import INSTANCE
from tests.deploy.deployed import DEPLOY, load
from tests.synced import DAGSTER_ON_PYDANTIC

if TYPE_CHECKING:
    from pathlib import Path

VARIANTS = ["dagster.yaml", "dagster-postgres.yaml"]
OWN_TO_POSTGRES = {"storage", "compute_logs"}

pytestmark = pytest.mark.filterwarnings(DAGSTER_ON_PYDANTIC)


@pytest.mark.parametrize("name", VARIANTS)
def test_dagster_takes_them(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql+psycopg2://dagster@postgres.example.org/dagster")
    shutil.copy(DEPLOY / name, tmp_path / "dagster.yaml")

    taken, _ = dagster_instance_config(str(tmp_path))

    assert taken["telemetry"] == {"enabled": False}
    assert taken["run_monitoring"]["free_slots_after_run_end_seconds"] > 0
    assert taken["concurrency"]["pools"]["granularity"] == "op"


def test_the_variants_differ_in_where_things_are_kept_only() -> None:
    one, several = (load(name) for name in VARIANTS)

    assert several.keys() >= OWN_TO_POSTGRES
    assert {key: value for key, value in several.items() if key not in OWN_TO_POSTGRES} == one


def test_kubernetes_has_the_same() -> None:
    one = load("dagster.yaml")
    values = load("kubernetes/values.yaml")

    # The chart writes these two itself.
    assert {"telemetry": values["telemetry"], **values["additionalInstanceConfig"]} == one
    assert values["computeLogManager"]["type"] == "NoOpComputeLogManager"
    assert values["retention"]["enabled"] is False
    for block in ("runCoordinator", "runMonitoring", "runRetries"):
        assert values["dagsterDaemon"][block]["enabled"] is False


def test_the_small_one_of_the_command_keeps_quiet_too() -> None:
    assert "telemetry:\n  enabled: false" in INSTANCE
