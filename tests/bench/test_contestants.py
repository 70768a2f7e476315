"""Each contestant does what it is compared for; how fast, is not tested."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import orjson
import pytest

from bench import ours
from bench.bare import Order, run
from bench.bare_fhir import Checker
from bench.bare_tables import open_tables
from bench.processes import server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.bare_fhir import Check

NOTES = 120


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    with server("bench.provider", str(NOTES)) as url:
        yield url


@pytest.fixture(scope="module")
def fhir() -> Iterator[str]:
    with server("bench.answering", "0") as url:
        yield url


def _order(provider: str, database_url: str, *stages: str, fhir: str = "", check: Check = "shape") -> Order:
    pages = f"{provider}/api/v1/audioscribe/sessions/"
    database = database_url.replace("postgresql+psycopg://", "postgresql://")
    return Order(frozenset(stages), pages, database, f"{fhir}/fhir", check, notes_per_request=50)


def test_the_bare_script_loads_all_and_then_finds_nothing_new(provider: str, fhir: str, database_url: str) -> None:
    run(_order(provider, database_url, "create"), 1)

    first = run(_order(provider, database_url, "land", "notes", "fhir", "post", fhir=fhir), 1)
    second = run(_order(provider, database_url, "again"), 1)
    posted = run(_order(provider, database_url, "deliver", fhir=fhir), 1)

    assert first["records"] == first["notes"] == first["posted"] == posted["posted"] == NOTES
    assert (first["sections"], first["documents"]) == (8 * NOTES, 3 * NOTES)
    assert second["records"] == 0


def test_two_processes_share_the_pages(provider: str, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/bare.sqlite"
    run(_order(provider, database, "create"), 1)
    command = [sys.executable, "-m", "bench.bare", "land", "notes", "fhir", "--processes", "2"]

    ran = subprocess.run([*command, "--provider", provider, "--database", database], capture_output=True, check=True)

    # Two pages, and the end found by each.
    assert orjson.loads(ran.stdout) == {
        "requests": 4,
        "records": NOTES,
        "notes": NOTES,
        "sections": 8 * NOTES,
        "documents": 3 * NOTES,
    }


def test_an_upsert_replaces(database_url: str) -> None:
    with closing(open_tables(database_url.replace("+psycopg", ""))) as tables:
        tables.create()

        for version in ("one", "two"):
            tables.upsert({"records": [("s-1", version, b"{}")]})

        assert tables.hashes(["s-1", "s-2"]) == {"s-1": "two"}


@pytest.mark.parametrize("check", ["shape", "strict"])
def test_the_bare_check_is_one(check: Check) -> None:
    checker = Checker(check)

    with pytest.raises(ValueError, match="bogus"):
        checker.look_at({"resourceType": "Provenance", "bogus": "field"})


def test_the_bare_script_maps_without_storing(provider: str, tmp_path: Path) -> None:
    made = run(_order(provider, f"sqlite:///{tmp_path}/bare.sqlite", "map"), 1)

    assert (made["documents"], made["records"]) == (3 * NOTES, 0)


def test_ours_does_every_stage(provider: str, fhir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "HOME": str(tmp_path),
        "PROCESSES": "1",
        "AUDIOSCRIBE_TOKEN": "bench",
        "AUDIOSCRIBE_BASE_URL": provider,
        "AUDIOSCRIBE_REVIEWED": "true",
        "EHR_BASE_URL": f"{fhir}/fhir",
    }.items():
        monkeypatch.setenv(f"MEDSCRIBE_{name}", value)

    told = ours.run(list(ours.STAGES), NOTES)

    assert told.pop("stages").keys() == ours.STAGES.keys()
    # Built twice: once for the warehouse, once in memory only.
    assert {told[name] for name in ("written", "notes", "delivered")} == {NOTES}
    assert told["built"] == 2 * NOTES
    assert told["due_days"] == 0


def test_days_without_data_are_built(tmp_path: Path) -> None:
    environment = {"PATH": "", "MEDSCRIBE_HOME": str(tmp_path), "MEDSCRIBE_AUDIOSCRIBE_TOKEN": "bench"}

    ran = subprocess.run(
        [sys.executable, "-m", "bench.empty_days", "--days", "2"], env=environment, capture_output=True, check=True
    )

    # Notes, and two kinds of documents, of each day.
    assert ran.stdout == b'{"materializations":6}\n'


def test_dlt_is_asked_for_only_when_it_loads() -> None:
    ran = subprocess.run([sys.executable, "-m", "bench.with_dlt", "--help"], capture_output=True, text=True, check=True)

    assert "--provider" in ran.stdout
