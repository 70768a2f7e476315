"""`medscribe jobs`: what it lists and explains, what it does and refuses, and that it names nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.providers.jobs import State
from medscribe_pipeline.settings import Settings
from medscribe_pipeline.warehouse.store import Warehouse
from medscribe_pipeline.warehouse.tables import scribe_jobs
from tests.databases import NOW, dump, rows_of
from tests.medscribe_pipeline.operation.laid import CANARY, Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.medscribe_pipeline.cli.conftest import Ran

JOBS = {
    "id-failed": (State.FAILED, "FILE_INVALID"),
    "id-expired": (State.EXPIRED, "no_result"),
    "id-unknown": (State.UNKNOWN, "timeout"),
    "id-wanted": (State.WANTED, None),
    "id-fetched": (State.FETCHED, None),
    "id-running": (State.RUNNING, "throttled"),
    "id-cancelled": (State.CANCELLED, "superseded"),
}


@pytest.fixture
def warehouse(home: Path) -> Iterator[Warehouse]:
    assert home
    with Warehouse.open(Settings.load()) as opened:
        rows = Rows(opened)
        for name, (state, code) in JOBS.items():
            ids = {"correlation_key": f"{CANARY}-{name}", "job_key": f"{CANARY}-{name}/t", "client_request_id": name}
            rows.put(scribe_jobs, **ids, state=state, code=code, submissions=0 if state is State.WANTED else 1)
        yield opened


def states(warehouse: Warehouse) -> dict[str, str]:
    return {row["client_request_id"]: row["state"] for row in rows_of(warehouse, scribe_jobs)}


def test_a_list_is_counts_and_then_a_line_for_each_job(warehouse: Warehouse, medscribe: Callable[..., Ran]) -> None:
    assert warehouse
    ran = medscribe("jobs", "list")

    lines = ran.out.splitlines()
    assert f"id-failed nabla transcribe failed FILE_INVALID {NOW.isoformat()}" in lines
    assert sum(line.startswith("id-") for line in lines) == len(JOBS)
    assert "no answer in time" in ran.words
    assert CANARY not in ran.out


def test_a_list_for_programs_tells_what_it_left_out(warehouse: Warehouse, medscribe: Callable[..., Ran]) -> None:
    assert warehouse
    few = medscribe("jobs", "list", "--limit", 2, "--json").json
    failed = medscribe("jobs", "list", "--state", "failed", "--state", "expired", "--counts", "--json").json

    assert (len(few["jobs"]), few["more"], len(few["counts"])) == (2, True, len(JOBS))
    assert [(each["state"], each["code"], each["jobs"]) for each in failed["counts"]] == [
        ("expired", "no_result", 1),
        ("failed", "FILE_INVALID", 1),
    ]
    assert "jobs" not in failed


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("id-failed", "The provider gave it up: FILE_INVALID."),
        ("id-unknown", "`medscribe jobs resolve ID --absent | --is VENDOR_ID`"),
        ("id-running", "The provider still works at it."),
        ("id-fetched", "Its result has landed."),
        ("id-cancelled", "A newer version exists."),
    ],
)
def test_a_job_is_shown_with_what_its_state_means(
    warehouse: Warehouse, medscribe: Callable[..., Ran], name: str, told: str
) -> None:
    assert warehouse
    shown, plain = medscribe("jobs", "show", name), medscribe("jobs", "show", name, "--json").json

    assert told in shown.words
    assert told in plain["means"]
    assert plain["id"] == name
    assert CANARY not in shown.out + repr(plain)


def test_failed_jobs_are_had_done_again(warehouse: Warehouse, medscribe: Callable[..., Ran]) -> None:
    ran = medscribe("jobs", "retry", "--provider", "nabla", "--yes")

    assert ran.code == 0
    assert "Done: 2 of 2. What is to be submitted or asked after waits for the next `medscribe sync`." in ran.words
    assert {name for name, state in states(warehouse).items() if state == "wanted"} == {
        "id-failed",
        "id-expired",
        "id-wanted",
    }


def test_what_is_left_alone_is_told_and_ends_with_one(warehouse: Warehouse, medscribe: Callable[..., Ran]) -> None:
    ran = medscribe("jobs", "retry", "id-unknown", "id-failed", "--yes", "--json")

    assert ran.code == 1
    assert ran.json == {"jobs": [{"id": "id-unknown", "found": "in_doubt"}, {"id": "id-failed", "found": "done"}]}
    assert states(warehouse)["id-unknown"] == "unknown"


def test_a_wanted_job_is_cancelled(warehouse: Warehouse, medscribe: Callable[..., Ran]) -> None:
    assert medscribe("jobs", "cancel", "id-wanted").code == 0
    assert states(warehouse)["id-wanted"] == "cancelled"


@pytest.mark.parametrize(
    ("how", "state"), [(("--absent",), "wanted"), (("--is", "vendor-7"), "running")], ids=["absent", "there"]
)
def test_a_person_decides_what_became_of_a_job_in_doubt(
    warehouse: Warehouse, medscribe: Callable[..., Ran], how: tuple[str, ...], state: str
) -> None:
    ran = medscribe("jobs", "resolve", "id-unknown", *how)

    assert ran.code == 0
    assert states(warehouse)["id-unknown"] == state


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("retry",), "which_jobs"),
        (("retry", "id-failed", "--code", "x"), "which_jobs"),
        (("retry", "--provider", "nabla"), "needs_yes"),
        (("cancel", "id-nobody"), "no_such_job"),
        (("show", "id-nobody"), "no_such_job"),
        (("resolve", "id-nobody", "--absent"), "no_such_job"),
        (("resolve", "id-unknown"), "code=resolve"),
        (("resolve", "id-unknown", "--absent", "--is", "v"), "code=resolve"),
        (("resolve", "id-unknown", "--is", " "), "vendor_id"),
        (("list", "--state", "lost"), "code=state"),
        (("list", "--day", "someday"), "code=day"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    warehouse: Warehouse, medscribe: Callable[..., Ran], arguments: tuple[Any, ...], code: str
) -> None:
    before = dump(warehouse)

    ran = medscribe("jobs", *arguments)

    assert ran.code == 2
    assert code in ran.err
    assert dump(warehouse) == before


def test_nothing_to_show_is_said(home: Path, medscribe: Callable[..., Ran]) -> None:
    assert home
    assert "There are no such jobs." in medscribe("jobs", "list").words
    assert "There are no such jobs." in medscribe("jobs", "retry", "--code", "x").words
