"""The warehouse resource: one warehouse a run, named by the environment alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from medscribe_pipeline.warehouse.store import SCHEMA_HEAD, Warehouse
from resources import WarehouseResource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CANARY = "qxcanary"


@pytest.fixture
def home(clean_environment: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    assert clean_environment
    monkeypatch.setenv("MEDSCRIBE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def materialized(instance: dg.DagsterInstance, seen: list[Any]) -> dg.ExecuteInProcessResult:
    def look(warehouse: dg.ResourceParam[WarehouseResource]) -> None:
        seen.append((warehouse.warehouse.schema_version(), warehouse.warehouse.account, warehouse.now().utcoffset()))

    asset = dg.asset(name="looked")(look)
    return dg.materialize(
        [asset], resources={"warehouse": WarehouseResource()}, instance=instance, raise_on_error=False
    )


def test_a_run_finds_its_warehouse_open_and_migrated(
    home: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSCRIBE_ACCOUNT", "south")
    seen: list[Any] = []

    result = materialized(instance, seen)

    assert result.success
    assert [(version, account, str(offset)) for version, account, offset in seen] == [(SCHEMA_HEAD, "south", "0:00:00")]
    assert (home / "warehouse.sqlite").exists()


def test_the_warehouse_is_closed_after_the_run(
    home: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    close = Warehouse.close

    def watched(self: Warehouse) -> None:
        closed.append(str(self.engine.url.database))
        close(self)

    monkeypatch.setattr(Warehouse, "close", watched)

    materialized(instance, [])

    assert closed == [str(home / "warehouse.sqlite")]


def test_it_has_no_configuration_that_could_be_stored_with_a_run() -> None:
    schema = WarehouseResource.to_config_schema().as_field()

    assert schema.config_type.fields == {}  # type: ignore[attr-defined]  # a shape, which has fields


@pytest.mark.parametrize(
    ("name", "value"),
    [("MEDSCRIBE_WAREHOUSE_URL", f"oracle://{CANARY}@host/x"), ("MEDSCRIBE_TIMEZONE", f"Europe/{CANARY}")],
)
def test_a_wrong_setting_fails_the_run_without_its_value(
    home: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    assert home
    monkeypatch.setenv(name, value)
    seen: list[Any] = []

    result = materialized(instance, seen)

    log = repr(instance.all_logs(result.run_id))
    assert not result.success
    assert not seen
    assert name in log
    assert CANARY not in log


def test_an_exception_while_opening_is_not_quoted(
    home: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError(CANARY)

    assert home
    monkeypatch.setattr(Warehouse, "open", broken)

    result = materialized(instance, [])

    log = repr(instance.all_logs(result.run_id))
    assert not result.success
    assert "Unexpected KeyError in broken" in log
    assert CANARY not in log
