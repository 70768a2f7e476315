"""Nothing of a patient goes through Dagster: not in its event log, its run storage, nor in captured output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medscribe_pipeline.cli import runner
from medscribe_pipeline.sandbox import Faults
from tests.synced import secrets_of

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.synced import Clinic


def found_in(folder: Path, secrets: list[str]) -> set[tuple[str, str]]:
    """Which secrets are in which files."""
    contents = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert sum(map(len, contents.values())) > 100_000  # There is something to look at.
    return {(secret, path.name) for path, raw in contents.items() for secret in secrets if secret.encode() in raw}


def test_what_is_looked_for_can_be_found(clinic: Clinic) -> None:
    found = found_in(clinic.home, [secret for secret in secrets_of(clinic) if "token" not in secret])

    names = {name for _, name in found}
    assert "warehouse.sqlite" in names
    assert len(found) > 40


def test_the_dagster_instance_of_a_sync_holds_no_patient(clinic: Clinic) -> None:
    assert found_in(clinic.home / "dagster", secrets_of(clinic)) == set()


def test_nor_does_that_of_a_sync_in_which_everything_goes_wrong(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("ASKARA", "AUDIOSCRIBE", "EHR"):
        monkeypatch.setenv(f"MEDSCRIBE_{name}_MAX_ATTEMPTS", "2")
        monkeypatch.setenv(f"MEDSCRIBE_{name}_BACKOFF_S", "0.01")
        monkeypatch.setenv(f"MEDSCRIBE_{name}_MAX_WAIT_S", "0.05")
        monkeypatch.setenv(f"MEDSCRIBE_{name}_TIMEOUT_S", "1")
    world = clinic.sandbox.world
    broken = clinic.value("SELECT min(source_id) FROM source_records WHERE stream = 'audios'")
    world.touch(broken)
    world.put("audios", broken, {**world.records("audios")[broken], "createdAt": "qxcanary o'clock"})
    clinic.sandbox.set_faults(Faults.all_on())

    with clinic.open() as warehouse:
        result = runner.sync(clinic.settings, warehouse, full_refresh=True)

    assert result.failures
    assert found_in(clinic.home / "dagster", secrets_of(clinic)) == set()
    output = "".join(capfd.readouterr())
    assert [secret for secret in secrets_of(clinic) if secret in output + repr(result)] == []
