"""What a person does with jobs, on both databases: each act is a move of the ledger, or leaves the job alone."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.providers.jobs import State, by_hand
from medscribe_pipeline.providers.jobs.by_hand import Found, WhichJobs
from medscribe_pipeline.warehouse.tables import access_log, scribe_jobs, visits
from tests.databases import NOW, dump, rows_of
from tests.medscribe_pipeline.operation.laid import CANARY, Rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.warehouse.store import Warehouse


@pytest.fixture
def put(warehouse: Warehouse) -> Callable[..., str]:
    rows = Rows(warehouse)

    def make(number: int, state: State, **values: Any) -> str:
        ids = {
            "correlation_key": f"{CANARY}-{number}",
            "job_key": f"{CANARY}-{number}/t",
            "client_request_id": f"id-{number}",
        }
        rows.put(scribe_jobs, **ids, state=state, **values)
        return f"id-{number}"

    return make


def job(warehouse: Warehouse, name: str) -> dict[str, Any]:
    (row,) = (row for row in rows_of(warehouse, scribe_jobs) if row["client_request_id"] == name)
    return row


@pytest.mark.parametrize("state", [State.FAILED, State.EXPIRED])
def test_what_failed_is_wanted_again(warehouse: Warehouse, put: Callable[..., str], state: State) -> None:
    name = put(1, state, code="too_short", settled_at=NOW)

    assert by_hand.retry(warehouse, name, who="alice", now=NOW) is Found.DONE
    row = job(warehouse, name)
    assert (row["state"], row["code"], row["submissions"], row["settled_at"]) == ("wanted", None, 0, None)


@pytest.mark.parametrize(
    ("state", "found"),
    [(State.UNKNOWN, Found.IN_DOUBT)]
    + [(state, Found.OTHER_STATE) for state in State if state not in (State.UNKNOWN, State.FAILED, State.EXPIRED)],
)
def test_what_did_not_fail_is_not_sent_again(
    warehouse: Warehouse, put: Callable[..., str], state: State, found: Found
) -> None:
    name = put(1, state)
    before = dump(warehouse)

    assert by_hand.retry(warehouse, name, who="alice", now=NOW) is found
    assert dump(warehouse) == before


def test_what_never_left_is_cancelled(warehouse: Warehouse, put: Callable[..., str]) -> None:
    name = put(1, State.WANTED, submissions=0)

    assert by_hand.cancel(warehouse, name, who="alice", now=NOW) is Found.DONE
    assert (job(warehouse, name)["state"], job(warehouse, name)["code"]) == ("cancelled", "by_hand")


@pytest.mark.parametrize("state", [State.FAILED, State.EXPIRED])
def test_what_nothing_more_is_to_come_of_is_given_up_and_can_be_taken_up_again(
    warehouse: Warehouse, put: Callable[..., str], state: State
) -> None:
    name = put(1, state, code="too_short", settled_at=NOW)

    assert by_hand.cancel(warehouse, name, who="alice", now=NOW) is Found.DONE
    assert (job(warehouse, name)["state"], job(warehouse, name)["code"]) == ("cancelled", "by_hand")
    assert by_hand.retry(warehouse, name, who="alice", now=NOW) is Found.DONE
    assert job(warehouse, name)["state"] == "wanted"


def test_what_was_done_is_written_down_and_what_was_not_is_not(warehouse: Warehouse, put: Callable[..., str]) -> None:
    failed, running = put(1, State.FAILED, code="too_short", settled_at=NOW), put(2, State.RUNNING)

    by_hand.retry(warehouse, failed, who="alice", now=NOW)
    by_hand.retry(warehouse, running, who="alice", now=NOW)

    (row,) = rows_of(warehouse, access_log)
    assert (row["at"], row["who"], row["what"], row["subject"]) == (NOW, "alice", "job_retried", failed)


@pytest.mark.parametrize(
    ("state", "found"), [(State.WANTED, Found.WAS_SENT), (State.RUNNING, Found.OTHER_STATE)], ids=str
)
def test_what_the_provider_may_have_is_not_cancelled(
    warehouse: Warehouse, put: Callable[..., str], state: State, found: Found
) -> None:
    name = put(1, state, submissions=1)

    assert by_hand.cancel(warehouse, name, who="alice", now=NOW) is found
    assert job(warehouse, name)["state"] == state


def test_a_job_in_doubt_that_is_surely_absent_is_wanted_again(warehouse: Warehouse, put: Callable[..., str]) -> None:
    name = put(1, State.UNKNOWN, code="timeout")

    assert by_hand.absent(warehouse, name, who="alice", now=NOW) is Found.DONE
    assert job(warehouse, name)["state"] == "wanted"


def test_a_job_in_doubt_that_is_there_is_asked_after_under_its_id(
    warehouse: Warehouse, put: Callable[..., str]
) -> None:
    name = put(1, State.UNKNOWN, code="timeout", expires_at=NOW - timedelta(hours=1))

    assert by_hand.identify(warehouse, name, "vendor-7", who="alice", now=NOW, expires_after_s=60) is Found.DONE
    row = job(warehouse, name)
    assert (row["state"], row["vendor_job_id"], row["code"]) == ("running", "vendor-7", None)
    assert (row["next_poll_at"], row["expires_at"]) == (NOW, NOW + timedelta(seconds=60))


@pytest.mark.parametrize("state", [state for state in State if state is not State.UNKNOWN])
def test_only_what_is_in_doubt_is_decided_by_a_person(
    warehouse: Warehouse, put: Callable[..., str], state: State
) -> None:
    name = put(1, state)
    before = dump(warehouse)

    assert by_hand.absent(warehouse, name, who="alice", now=NOW) is Found.OTHER_STATE
    assert by_hand.identify(warehouse, name, "vendor-7", who="alice", now=NOW, expires_after_s=60) is Found.OTHER_STATE
    assert dump(warehouse) == before


@pytest.mark.parametrize("vendor_id", ["", " ", "x" * 256, "a\x00b", "taken"])
def test_what_cannot_be_its_id_is_refused(warehouse: Warehouse, put: Callable[..., str], vendor_id: str) -> None:
    put(1, State.RUNNING, vendor_job_id="taken")
    name = put(2, State.UNKNOWN)

    with pytest.raises(ConfigError, match="vendor_id") as raised:
        by_hand.identify(warehouse, name, vendor_id, who="alice", now=NOW, expires_after_s=60)

    assert "taken" not in str(raised.value)
    assert job(warehouse, name)["state"] == "unknown"


def test_a_job_nobody_knows_is_told(warehouse: Warehouse, put: Callable[..., str]) -> None:
    put(1, State.UNKNOWN)
    warehouse.account = "north"

    with pytest.raises(ConfigError, match="no_such_job"):
        by_hand.absent(warehouse, "id-1", who="alice", now=NOW)


def test_jobs_are_counted_and_listed_by_what_is_asked(warehouse: Warehouse, put: Callable[..., str]) -> None:
    put(1, State.FAILED, code="too_short")
    put(2, State.FAILED, code="gone", provider="intron", step="upload")
    put(3, State.RUNNING, wanted_at=NOW + timedelta(days=1))
    Rows(warehouse).put(visits, provider="nabla", correlation_key=f"{CANARY}-3", started_at=NOW)
    today = (NOW - timedelta(hours=1), NOW + timedelta(hours=1))

    def ids(**which: Any) -> list[str]:
        return sorted(row.id for row in by_hand.listed(warehouse, WhichJobs(**which)))

    assert by_hand.counted(warehouse, WhichJobs(states=(State.FAILED,))) == [
        ("intron", "upload", State.FAILED, "gone", 1),
        ("nabla", "transcribe", State.FAILED, "too_short", 1),
    ]
    assert ids(provider="intron") == ["id-2"]
    assert ids(code="too_short") == ["id-1"]
    assert ids(ids=("id-3", "id-9")) == ["id-3"]
    assert ids(between=today) == ["id-1", "id-2", "id-3"]
    assert ids(between=(NOW + timedelta(hours=1), NOW + timedelta(days=2))) == []
    (newest,) = by_hand.listed(warehouse, WhichJobs(), limit=1)
    assert newest.id == "id-3"
    assert CANARY not in repr(by_hand.listed(warehouse, WhichJobs()))
