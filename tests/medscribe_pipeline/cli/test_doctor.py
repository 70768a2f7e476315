"""`medscribe doctor`: a healthy clinic, a broken one, and the Dagster instance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from medscribe_pipeline.cli.doctor_dagster import check_instance
from medscribe_pipeline.operation.doctor import Level
from medscribe_pipeline.settings import AskaraSettings, Settings
from tests.synced import secrets_of, tables_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.medscribe_pipeline.cli.conftest import Ran
    from tests.synced import Clinic

ROOT = Path(__file__).parents[3]


def test_a_synced_clinic_is_in_order_and_left_as_it_is(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    before = tables_of(clinic.database)

    ran = medscribe("doctor", "--json")

    levels = {check["name"]: check["level"] for check in ran.json["checks"]}
    assert (ran.code, ran.json["ok"]) == (0, True)
    assert {name for name, level in levels.items() if level == "ok"} >= {
        "settings",
        "warehouse",
        "provider askara",
        "provider audioscribe",
        "provider nabla",
        "provider intron",
        "target ehr",
    }
    assert tables_of(clinic.database) == before
    assert [secret for secret in secrets_of(clinic) if secret in ran.out] == []


def test_wrong_credentials_fail_and_offline_nobody_is_asked(
    clinic: Clinic, medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert clinic
    monkeypatch.setenv("MEDSCRIBE_AUDIOSCRIBE_TOKEN", "wrong-canary")

    online, offline = medscribe("doctor"), medscribe("doctor", "--offline")

    assert (online.code, offline.code) == (1, 0)
    assert "FAIL provider audioscribe" in online.words
    assert "MEDSCRIBE_AUDIOSCRIBE_TOKEN" in online.words
    assert "provider audioscribe" not in offline.words
    assert "wrong-canary" not in online.out + online.err


def test_settings_that_cannot_be_read_are_the_first_finding(
    home: Path, medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert home
    monkeypatch.setenv("MEDSCRIBE_TIMEZONE", "Mars/Canary")

    ran = medscribe("doctor", "--json")

    (check,) = ran.json["checks"]
    assert ran.code == 1
    assert (check["name"], check["level"]) == ("settings", "fail")
    assert "MEDSCRIBE_TIMEZONE" in check["says"]
    assert "Canary" not in ran.out


def test_on_a_new_machine_the_doctor_makes_nothing(home: Path, medscribe: Callable[..., Ran]) -> None:
    ran = medscribe("doctor", "--offline")

    assert ran.code == 0
    assert "Run `medscribe init`" in ran.words
    assert not home.exists()


# The Dagster instance


@pytest.fixture
def instance_of(tmp_path: Path) -> Iterator[Callable[[str], dg.DagsterInstance]]:
    opened: list[dg.DagsterInstance] = []

    def make(config: str) -> dg.DagsterInstance:
        (tmp_path / "dagster.yaml").write_text(config, encoding="utf-8")
        opened.append(dg.DagsterInstance.from_config(str(tmp_path)))
        return opened[-1]

    yield make
    for instance in opened:
        instance.dispose()


def found(instance: dg.DagsterInstance, settings: Settings) -> dict[str, Level]:
    return {check.name: check.level for check in check_instance(instance, settings)}


def test_the_settings_we_ship_are_in_order_but_for_the_database(
    instance_of: Callable[[str], dg.DagsterInstance], make_settings: Callable[..., Settings]
) -> None:
    shipped = (ROOT / "deploy" / "dagster.yaml").read_text(encoding="utf-8")

    levels = found(instance_of(shipped), make_settings(askara=AskaraSettings(token="not-shown")))

    assert {name for name, level in levels.items() if level is not Level.OK} == {
        "dagster storage",
        "dagster automation",
    }


def test_settings_that_hurt_are_told(
    instance_of: Callable[[str], dg.DagsterInstance], make_settings: Callable[..., Settings]
) -> None:
    hurting = """
run_coordinator:
  module: dagster.core.run_coordinator
  class: DefaultRunCoordinator
run_retries:
  enabled: true
  max_retries: 3
telemetry:
  enabled: true
"""

    levels = found(instance_of(hurting), make_settings())

    assert levels["dagster queue"] is Level.FAIL
    assert {name for name, level in levels.items() if level is Level.WARN} == {
        "dagster monitoring",
        "dagster retries",
        "dagster storage",
        "dagster retention",
        "dagster telemetry",
        "dagster automation",
    }


def test_an_instance_that_cannot_be_opened_fails_without_its_words(
    home: Path, medscribe: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert home
    (tmp_path / "dagster.yaml").write_text("storage: {canary: secret}", encoding="utf-8")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))

    ran = medscribe("doctor", "--offline")

    assert ran.code == 1
    assert "FAIL dagster: The Dagster instance cannot be opened" in ran.words
    assert "canary" not in ran.out
