"""The doctor: each check against what is in order and what is not, with real servers and databases."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import sqlalchemy as sa

from medscribe_pipeline.operation.doctor import (
    Check,
    Level,
    check_local,
    check_remote,
    check_stored,
    failed,
    local,
    open_as_it_is,
)
from medscribe_pipeline.settings import AskaraSettings, AudioScribeSettings, EhrSettings, IntronSettings, NablaSettings
from medscribe_pipeline.warehouse.store import SCHEMA_HEAD
from medscribe_pipeline.warehouse.tables import deliveries, inbox, quarantine, scribe_jobs
from tests.databases import NOW
from tests.medscribe_pipeline.operation.laid import Rows
from tests.medscribe_pipeline.providers.scripted_server import Reply, ScriptedServer, Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

SECRET = "canary-token"
STATEMENT = {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": [{"mode": "server"}]}
NOTHING = {"resourceType": "Bundle", "type": "searchset", "entry": []}


def by_name(checks: Iterable[Check]) -> dict[str, Check]:
    found = {}
    for check in checks:
        assert check.name not in found
        assert (check.to_do == "") == (check.level is Level.OK), check
        found[check.name] = check
    return found


# This machine


def test_a_home_in_order_has_nothing_to_do(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    configured = make_settings(
        timezone="Europe/Paris",
        askara=AskaraSettings(token=SECRET),
        ehr=EhrSettings(base_url="https://ehr.example.org/fhir"),
    )

    found = by_name(check_local(configured))

    assert {name: check.level for name, check in found.items()} == dict.fromkeys(
        ("python", "packages", "providers", "targets", "time zone", "home", "disk"), Level.OK
    )
    assert not failed(found.values())


def test_what_is_not_configured_is_a_warning(make_settings: Callable[..., Settings]) -> None:
    found = by_name(check_local(make_settings()))

    assert {name for name, check in found.items() if check.level is Level.WARN} == {"providers", "targets", "home"}
    assert not failed(found.values())


def test_days_in_utc_and_notes_held_by_a_switch_are_warned_of(make_settings: Callable[..., Settings]) -> None:
    target = EhrSettings(base_url="https://ehr.example.org/fhir", hold_all=True)

    found = by_name(check_local(make_settings(askara=AskaraSettings(token=SECRET), ehr=target)))

    assert found["time zone"].level is Level.WARN
    assert found["targets"].says == "HOLD_ALL is on: nothing goes out to ehr"


def test_a_home_others_may_look_into_is_warned_of(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home").chmod(0o755)

    assert by_name(check_local(make_settings()))["home"].to_do == "chmod 700 the folder MEDSCRIBE_HOME"


def test_a_home_that_cannot_be_written_fails(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere

    assert by_name(check_local(make_settings()))["home"].level is Level.FAIL


@pytest.mark.parametrize(("free", "level"), [(10**8, Level.FAIL), (10**9, Level.WARN), (10**11, Level.OK)])
def test_a_disk_that_fills_up_is_told_in_time(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, free: int, level: Level
) -> None:
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - as shutil's own
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(free, 0, free))

    assert by_name(check_local(make_settings()))["disk"].level is level


def test_a_package_that_settings_need_and_that_is_missing_fails(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    configured = make_settings(warehouse_url="postgresql+psycopg://nobody@localhost/none")
    monkeypatch.setattr(local, "find_spec", lambda _: None)

    assert by_name(check_local(configured))["postgres driver"].level is Level.FAIL


# The warehouse


def test_a_warehouse_at_head_without_old_trouble_is_in_order(warehouse: Warehouse, settings: Settings) -> None:
    with open_as_it_is(settings) as (opened, check):
        assert opened is not None
        assert check == Check("warehouse", Level.OK, f"Reachable, and at schema {SCHEMA_HEAD}")
        found = by_name(check_stored(opened, now=datetime.now(UTC)))

    assert warehouse
    assert {check.level for check in found.values()} == {Level.OK}
    assert ("database clock" in found) == (warehouse.engine.dialect.name == "postgresql")


def test_looking_makes_no_warehouse(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    with open_as_it_is(make_settings()) as (opened, check):
        assert opened is None

    assert (check.level, check.to_do) == (Level.WARN, "Run `medscribe init`")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(("version", "level"), [("0001", Level.WARN), ("9999", Level.FAIL)])
def test_a_warehouse_of_another_version_is_not_looked_into(
    warehouse: Warehouse, settings: Settings, version: str, level: Level
) -> None:
    with warehouse.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :v"), {"v": version})
    try:
        with open_as_it_is(settings) as (opened, check):
            assert opened is None
        assert check.level is level
    finally:
        with warehouse.begin() as connection:  # the PostgreSQL one is shared
            connection.execute(sa.text("UPDATE alembic_version SET version_num = :v"), {"v": SCHEMA_HEAD})


@pytest.mark.parametrize(
    "url", ["nonsense", "postgresql+psycopg://nobody@127.0.0.1:9/none?connect_timeout=2", "oracle://x/y"]
)
def test_a_warehouse_that_cannot_be_reached_fails_without_its_url(
    make_settings: Callable[..., Settings], url: str
) -> None:
    with open_as_it_is(make_settings(warehouse_url=url)) as (opened, check):
        assert opened is None

    assert check.level is Level.FAIL
    assert "nobody" not in check.says + check.to_do


def test_what_has_waited_for_longer_than_a_day_is_counted(warehouse: Warehouse) -> None:
    rows = Rows(warehouse)
    old, new = NOW - timedelta(days=2), NOW - timedelta(hours=2)
    for at in (old, old, new):
        rows.put(quarantine, source_id=str(at), first_seen_at=at)
    rows.put(quarantine, source_id="done", first_seen_at=old, resolved_at=NOW)
    for number, at in enumerate((old, new)):
        job = {"correlation_key": str(number), "job_key": str(number), "client_request_id": str(number)}
        rows.put(scribe_jobs, **job, state="unknown", submitted_at=at)
        rows.put(inbox, event_id=str(number), received_at=at)
        for state in ("rejected", "unknown", "held"):
            name = f"{state}-{number}"
            rows.put(deliveries, note_id=name, kind="Composition", state=state, settled_at=at, sent_at=at)

    found = by_name(check_stored(warehouse, now=NOW))

    counts = {name: check.says.split()[0] for name, check in found.items() if name.startswith("old")}
    assert counts == {
        "old quarantine": "2",
        "old refusals": "1",
        "old doubts": "1",
        "old jobs in doubt": "1",
        "old events": "1",
    }


def test_a_database_with_another_clock_is_warned_of(warehouse: Warehouse) -> None:
    found = by_name(check_stored(warehouse, now=datetime.now(UTC) + timedelta(minutes=1)))

    if warehouse.engine.dialect.name == "postgresql":
        assert found["database clock"].level is Level.WARN


# Servers


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    yield scripted
    scripted.close()


def remote(
    server: ScriptedServer, warehouse: Warehouse, settings: Settings, answer: Callable[[Seen], Reply], **given: Any
) -> dict[str, Check]:
    """What is found when every configured server answers like this."""
    server.responder = answer
    configured = settings.model_copy(update=given)
    return by_name(check_remote(configured, warehouse, clock=lambda: datetime.now(UTC)))


def everyone(server: ScriptedServer) -> dict[str, Any]:
    polite: dict[str, Any] = {"base_url": server.url, "token": SECRET, "max_attempts": 5}
    return {
        "askara": AskaraSettings(**polite),
        "audioscribe": AudioScribeSettings(**polite),
        "nabla": NablaSettings(**polite),
        "intron": IntronSettings(**polite),
        "ehr": EhrSettings(**polite),
    }


def well(seen: Seen) -> Reply:
    path = seen.path.partition("?")[0]
    if path == "/metadata":
        return Reply(body=orjson.dumps(STATEMENT))
    if path == "/DocumentReference":
        return Reply(body=orjson.dumps(NOTHING))
    if "0000-4000" in path or path.startswith("/.well-known"):
        return Reply(status=404)
    return Reply(body=b"[]")


def test_servers_that_let_us_in_are_in_order_after_one_request_each(
    server: ScriptedServer, warehouse: Warehouse, settings: Settings
) -> None:
    found = remote(server, warehouse, settings, well, **everyone(server))

    assert {name: check.level for name, check in found.items()} == dict.fromkeys(
        ("provider askara", "provider audioscribe", "provider nabla", "provider intron", "target ehr"), Level.OK
    )
    paths = [seen.path.partition("?")[0] for seen in server.seen]
    assert len([path for path in paths if path not in ("/metadata", "/.well-known/smart-configuration")]) == 5
    assert {seen.method for seen in server.seen} == {"GET"}
    assert all(SECRET in seen.headers["authorization"] for seen in server.seen if "well-known" not in seen.path)


def test_credentials_that_are_refused_name_their_setting(
    server: ScriptedServer, warehouse: Warehouse, settings: Settings
) -> None:
    def refusing(seen: Seen) -> Reply:
        return well(seen) if seen.path in ("/metadata", "/.well-known/smart-configuration") else Reply(status=401)

    found = remote(server, warehouse, settings, refusing, **everyone(server))

    assert {check.level for check in found.values()} == {Level.FAIL}
    assert "MEDSCRIBE_ASKARA_TOKEN" in found["provider askara"].says
    assert "MEDSCRIBE_EHR_TOKEN" in found["target ehr"].says
    assert SECRET not in repr(found)


def test_a_server_that_is_down_is_asked_once_and_told(
    server: ScriptedServer, warehouse: Warehouse, settings: Settings
) -> None:
    found = remote(server, warehouse, settings, lambda _: Reply(status=503), askara=everyone(server)["askara"])

    assert found["provider askara"].level is Level.FAIL
    assert "server_error" in found["provider askara"].says
    assert len(server.seen) == 1
    assert server.url not in repr(found)


def test_a_list_that_is_not_there_is_a_wrong_url(
    server: ScriptedServer, warehouse: Warehouse, settings: Settings
) -> None:
    found = remote(server, warehouse, settings, lambda _: Reply(status=404), askara=everyone(server)["askara"])

    assert "MEDSCRIBE_ASKARA_BASE_URL" in found["provider askara"].to_do


@pytest.mark.parametrize(
    ("apart_s", "level"), [(0, Level.OK), (60, Level.WARN), (-60, Level.WARN), (600, Level.FAIL), (-600, Level.FAIL)]
)
def test_clocks_that_are_apart_are_told(
    server: ScriptedServer, warehouse: Warehouse, settings: Settings, apart_s: int, level: Level
) -> None:
    def dated(seen: Seen) -> Reply:
        reply = well(seen)
        reply.date = format_datetime(datetime.now(UTC) + timedelta(seconds=apart_s), usegmt=True)
        return reply

    own = everyone(server)
    found = remote(server, warehouse, settings, dated, nabla=own["nabla"], ehr=own["ehr"])

    assert found["provider nabla clock"].level is level
    assert found["target ehr clock"].level is level


def test_a_target_of_another_release_and_one_that_refuses_searches_are_told(
    server: ScriptedServer, warehouse: Warehouse, settings: Settings
) -> None:
    def old(seen: Seen) -> Reply:
        return (
            Reply(body=orjson.dumps({**STATEMENT, "fhirVersion": "1.0.2"})) if "metadata" in seen.path else well(seen)
        )

    def silent(seen: Seen) -> Reply:
        return Reply(status=400) if seen.path.startswith("/DocumentReference") else well(seen)

    ehr = everyone(server)["ehr"]
    wrong = remote(server, warehouse, settings, old, ehr=ehr)["target ehr"]
    unproven = remote(server, warehouse, settings, silent, ehr=ehr)["target ehr"]

    assert (wrong.level, wrong.to_do) == (Level.FAIL, "See `medscribe ehr probe`")
    assert unproven.level is Level.WARN
