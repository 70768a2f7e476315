"""Work shared with helpers: the same comes of it, in order, and nothing is left behind however it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr

from medscribe_pipeline import processes
from medscribe_pipeline.errors import MedscribeError, Rejected
from medscribe_pipeline.fhir import build as fhir_build
from medscribe_pipeline.fhir.build import build_days
from medscribe_pipeline.processes import Batch, allowed, batches_of, share
from medscribe_pipeline.providers import build as notes_build
from medscribe_pipeline.providers.build import build_notes_of
from medscribe_pipeline.settings import AudioScribeSettings, EhrSettings
from medscribe_pipeline.warehouse.arrivals import SourceRecord
from medscribe_pipeline.watching.fields import bound, facts
from tests.collector import hearing
from tests.databases import NOW, TODAY, dump, empty, landing_for
from tests.medscribe_pipeline import shared_work
from tests.medscribe_pipeline.providers.mapped import audio, note, session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

ROOT = Path(__file__).parents[2]
DAYS = [TODAY - timedelta(days=days) for days in (3, 2, 1, 0)]
TRIES, POLL_S = 400, 0.05
ENOUGH = 3

embedded = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
served = pytest.mark.parametrize("settings", ["postgresql"], indirect=True)


def batches(number: int, run_id: str | None = None) -> Iterator[Batch]:
    yield from batches_of(TODAY, range(number), 1, version="v", run_id=run_id)


def shared(
    warehouse: Warehouse, settings: Settings, work: Callable[..., Any], given: Iterable[Batch] | None = None, **how: Any
) -> list[tuple[Batch, Any]]:
    """All that `share` told, in that order."""
    found: list[tuple[Batch, Any]] = []
    facts: dict[str, Any] = {"clock": lambda: NOW, "worth": ENOUGH, **how}

    def done(batch: Batch, result: Any) -> None:
        found.append((batch, result))

    share(warehouse, settings, work, given or batches(12), done=done, **facts)
    return found


def is_gone(process: int) -> bool:
    """Whether a process ends some time soon; who has ended and whom nobody waits for has ended."""
    for _ in range(TRIES):
        try:
            state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(POLL_S)
    return False


@pytest.fixture
def two(settings: Settings) -> Settings:
    """A helper is allowed."""
    return settings.model_copy(update={"processes": 2})


@hypothesis_settings(max_examples=50, deadline=None)
@given(st.integers(0, 60), st.integers(1, 20))
def test_batches_hold_every_key_once_and_one_is_the_last(keys: int, size: int) -> None:
    found = list(batches_of(TODAY, range(keys), size, version="v", run_id="r"))

    assert [key for batch in found for key in batch.keys] == list(range(keys))
    assert max(len(batch.keys) for batch in found) <= size
    assert len(found) == max(1, -(-keys // size))
    assert [batch.last for batch in found] == [False] * (len(found) - 1) + [True]


@pytest.mark.parametrize(("wanted", "cores", "found"), [(3, 1, 3), (1, 8, 1), (0, 1, 1), (0, 2, 2), (0, 64, 4)])
@embedded
def test_as_many_as_are_set_or_as_there_are_cores_but_not_too_many(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, wanted: int, cores: int, found: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))

    assert allowed(settings.model_copy(update={"processes": wanted})) == found


@embedded
def test_without_helpers_each_batch_is_taken_when_the_last_is_done(warehouse: Warehouse, settings: Settings) -> None:
    told: list[str] = []
    minutes = count()

    def given() -> Iterator[Batch]:
        for batch in batches(3):
            told.append(f"taken {batch.keys[0]}")
            yield batch

    def clock() -> datetime:
        return NOW + timedelta(minutes=next(minutes))

    def work(_warehouse: Warehouse, _settings: Settings, batch: Batch, now: datetime) -> int:
        told.append(f"worked {batch.keys[0]} at {now:%M}")
        return 0

    shared(warehouse, settings.model_copy(update={"processes": 1}), work, given(), clock=clock)

    assert told == [
        *("taken 0", "worked 0 at 00"),
        *("taken 1", "worked 1 at 01"),
        *("taken 2", "worked 2 at 02"),
    ]


@served
def test_one_batch_is_worked_on_while_a_server_stores_another(warehouse: Warehouse, settings: Settings) -> None:
    all_of_them = threading.Barrier(processes.LANES, timeout=TRIES * POLL_S)

    def work(_warehouse: Warehouse, _settings: Settings, batch: Batch, _now: datetime) -> Any:
        if batch.keys[0] < processes.LANES:
            all_of_them.wait()
        # The first of them comes last.
        time.sleep(0.1 if batch.keys[0] == 0 else 0)
        return batch.keys, facts()["day"]

    with bound(day=TODAY):
        found = shared(warehouse, settings.model_copy(update={"processes": 1}), work)

    assert [batch.keys for batch, _ in found] == [(number,) for number in range(12)]
    assert [result for _, result in found] == [((number,), TODAY.isoformat()) for number in range(12)]


@served
def test_what_one_batch_raises_ends_the_others_before_they_begin(warehouse: Warehouse, settings: Settings) -> None:
    begun: list[int] = []
    told: list[Batch] = []

    def work(_warehouse: Warehouse, _settings: Settings, batch: Batch, _now: datetime) -> int:
        begun.append(batch.keys[0])
        if batch.keys[0] == 1:
            raise Rejected("It said no.", code="no", status=422)
        return 0

    alone = settings.model_copy(update={"processes": 1})
    with pytest.raises(Rejected):
        share(
            warehouse,
            alone,
            work,
            batches(40),
            clock=lambda: NOW,
            worth=ENOUGH,
            done=lambda batch, _result: told.append(batch),
        )

    assert [batch.keys for batch in told] == [(0,)]
    assert max(begun) <= 1 + processes.LANES


@pytest.mark.parametrize("why", ["little", "one", "account", "memory"])
@embedded
def test_helpers_are_not_started_where_they_are_no_help(
    warehouse: Warehouse, two: Settings, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_Helper", None)
    wanted = {"little": 13, "one": 1}
    allowed_here = two.model_copy(update={"processes": 1}) if why == "one" else two
    if why == "account":
        warehouse.account = "other"
    if why == "memory":
        monkeypatch.setattr(warehouse.engine, "url", warehouse.engine.url.set(database=":memory:"))

    found = shared(warehouse, allowed_here, shared_work.tell, worth=wanted.get(why, ENOUGH))

    assert [result[2] for _, result in found] == [os.getpid()] * 12


@embedded
def test_a_helper_does_its_share_and_nobody_sees_what_it_was_told(
    warehouse: Warehouse, two: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A target whose class was made when settings were read, and a secret.
    secret = {"audioscribe": AudioScribeSettings(token=SecretStr("synthetic-token"))}
    told = two.model_copy(update={"more_targets": (EhrSettings.named("store"),), **secret})
    monkeypatch.setattr(processes, "UNTOLD", 4)

    with hearing(codes=["no_date"]) as heard:
        found = shared(warehouse, told, shared_work.tell)

    assert [batch.keys for batch, _ in found] == [(number,) for number in range(12)]
    assert [result[0] for _, result in found] == [(number,) for number in range(12)]
    assert {result[1] for _, result in found} == {NOW}
    helper, *others = {result[2] for _, result in found} - {os.getpid()}
    assert others == []
    assert {result[3].get_secret_value() for _, result in found} == {"synthetic-token"}
    by_helper = [result for _, result in found if result[2] == helper]
    assert {ignores for *_, ignores, _ in by_helper} == {True}
    assert "synthetic-token" not in by_helper[0][-1]
    (points,) = heard.points().values()
    assert points == {
        (("medscribe.code", "no_date"), ("medscribe.provider", "askara"), ("medscribe.stage", "map")): len(by_helper)
    }
    assert is_gone(helper)


@embedded
def test_what_a_helper_raises_is_raised_here(warehouse: Warehouse, two: Settings) -> None:
    with pytest.raises(Rejected) as refused:
        shared(warehouse, two, shared_work.refuse, batches(12, "foreseen"))
    with pytest.raises(MedscribeError) as stumbled:
        shared(warehouse, two, shared_work.refuse)

    error = refused.value
    assert (error.message, error.code, error.status) == ("It said no.", "no", 422)
    assert (error.field_paths, error.context) == (("a.0.b",), {"line": 3})
    assert stumbled.value.code == "unexpected"
    assert "KeyError:shared_work.py" in str(stumbled.value)
    assert "qxcanary" not in repr(stumbled.value.__dict__) + str(stumbled.value)


@embedded
def test_a_helper_that_was_killed_is_told_with_what_to_do(warehouse: Warehouse, two: Settings) -> None:
    with pytest.raises(MedscribeError) as raised:
        shared(warehouse, two, shared_work.die)

    assert (raised.value.code, raised.value.context) == ("worker_died", {"ended": -9})
    assert "MEDSCRIBE_PROCESSES=1" in raised.value.message


@embedded
def test_a_helper_that_cannot_begin_is_told(
    warehouse: Warehouse, two: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    with pytest.raises(MedscribeError) as raised:
        shared(warehouse, two, shared_work.tell)

    assert raised.value.code == "worker_died"


@embedded
def test_ctrl_c_ends_helpers_too(warehouse: Warehouse, two: Settings, tmp_path: Path) -> None:
    (folder := tmp_path / "helpers").mkdir()

    with pytest.raises(KeyboardInterrupt):
        shared(warehouse, two, shared_work.interrupt, batches(200, str(folder)))

    (helper,) = folder.iterdir()
    assert not Path(f"/proc/{helper.name}").exists()


@embedded
def test_a_helper_does_not_outlive_whom_it_helps(two: Settings, tmp_path: Path) -> None:
    (folder := tmp_path / "helpers").mkdir()
    script = tmp_path / "helped.py"
    script.write_text(
        "from pathlib import Path\n"
        "from medscribe_pipeline.settings import Settings\n"
        "from medscribe_pipeline.warehouse.store import Warehouse\n"
        "from tests.medscribe_pipeline import shared_work\n"
        "from tests.medscribe_pipeline.test_processes import batches, shared\n"
        f"settings = Settings(warehouse_url={two.database_url!r}, home={str(two.home)!r}, processes=2)\n"
        "warehouse = Warehouse.open(settings, migrate=False)\n"
        f"shared(warehouse, settings, shared_work.wait_to_be_killed, batches(200, {str(folder)!r}))\n",
        encoding="utf-8",
    )
    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT)}

    with subprocess.Popen([sys.executable, script], env=environment, cwd=tmp_path) as helped:
        for _ in range(TRIES):
            if list(folder.iterdir()):
                break
            time.sleep(POLL_S)
        helped.kill()

    (helper,) = folder.iterdir()
    assert is_gone(int(helper.name))


def a_record(stream: str, source_id: str, payload: dict[str, Any], number: int, *, later: bool = False) -> SourceRecord:
    day = NOW - timedelta(days=number % 3)
    return SourceRecord(
        source_id=source_id,
        payload=payload,
        list_hash=f"{stream} {later}",
        updated_at=None,
        fetched_at=NOW + timedelta(minutes=later),
        visited_at=day,
        parent_id=f"a-{number}" if stream == "notes" else None,
    )


def land_all(warehouse: Warehouse, numbers: Iterable[int], *, later: bool = False) -> None:
    """Sessions, audios and notes over three days. Some are bad, some come to nothing; later, some are another."""
    sessions, audios, noted = [], [], []
    for number in numbers:
        text = f"Plan:\nRest {number} {'longer' if later else ''}\n\nAllergies: none known"
        told = session(id=number, note="" if number % 5 == 3 else text, createdAt="never" if number % 7 == 1 else None)
        if told["createdAt"] is None:
            told["createdAt"] = "2026-03-02T08:00:00Z"
        sessions.append(a_record("sessions", str(number), told, number, later=later))
        archived = "2026-03-02T10:00:00Z" if later and number % 4 == 0 else None
        audios.append(a_record("audios", f"a-{number}", audio(uuid=f"a-{number}", archivedAt=archived), number))
        who = {"uuid": "somebody-else" if number % 6 == 2 else "p-1"}
        told = note(uuid=f"n-{number}", audio=f"/audios/a-{number}", patient=who, content=text)
        noted.append(a_record("notes", f"n-{number}", told, number, later=later))
    for provider, stream, records in (
        ("audioscribe", "sessions", sessions),
        ("askara", "audios", audios),
        ("askara", "notes", noted),
    ):
        landing_for(warehouse, provider, stream).land(records, [], None, now=NOW)


def build_all(warehouse: Warehouse, settings: Settings, reports: list[Any]) -> None:
    """Both stages of all days, as the assets have them done."""

    def done(day: Any, report: Any) -> None:
        reports.append((day, report))

    for stage in (build_notes_of, build_days):
        stage(warehouse, settings, iter(DAYS), clock=lambda: NOW, run_id="run-2", done=done)


def everything(warehouse: Warehouse, settings: Settings, number: int) -> dict[str, Any]:
    """All reports and all rows after everything was landed and built, changed and built by so many processes."""
    empty(warehouse)
    land_all(warehouse, range(24))
    build_all(warehouse, settings.model_copy(update={"processes": 1}), [])
    land_all(warehouse, range(0, 24, 2), later=True)
    land_all(warehouse, range(24, 30))
    reports: list[Any] = []
    build_all(warehouse, settings.model_copy(update={"processes": number}), reports)
    rows: dict[str, Any] = dump(warehouse, "id")
    rows["notes_history"].sort(key=lambda row: (row["note_id"], row["replaced_by"]))
    return {**rows, "reports": reports}


@pytest.mark.parametrize(
    ("settings", "number"), [("sqlite", 2), ("sqlite", 4), ("postgresql", 3)], indirect=["settings"]
)
def test_many_processes_leave_the_very_rows_that_one_leaves(
    warehouse: Warehouse, settings: Settings, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    for stage, work in ((notes_build, shared_work.map_and_trip), (fhir_build, shared_work.build_and_trip)):
        monkeypatch.setattr(stage, "build_batch", work)
        monkeypatch.setattr(stage, "WORTH_SHARING", ENOUGH)
        monkeypatch.setattr(stage, "BATCH", 2)
    one = everything(warehouse, settings, 1)
    given: list[Batch] = []
    give = processes._Helper.give

    def counting(helper: Any, turn: Any, work: Any, now: datetime) -> None:
        given.append(turn.batch)
        give(helper, turn, work, now)

    monkeypatch.setattr(processes._Helper, "give", counting)

    many = everything(warehouse, settings, number)

    assert many == one
    assert len({batch.day for batch in given}) > 1
    assert {(row["stage"], row["error_code"]) for row in one["quarantine"]} == {
        *(("map", "wire_model"), ("map", "patient_conflict"), ("map", "unexpected")),
        *(("fhir", "unexpected"), ("fhir", "fhir_rules")),
    }
    assert len(one["notes_history"]) > 0
    assert [day for day, _ in many["reports"]] == DAYS * 2
