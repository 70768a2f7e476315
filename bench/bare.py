"""A script that does only what cannot be avoided: `python -m bench.bare --database URL STAGE ...`.

Stages: `land` fetches pages, parses them and writes records by bulk upserts, a thousand a transaction; with `notes` it
also writes notes and sections, with `fhir` it also builds, checks and writes documents, and with `post` it also posts
these. `create` makes the tables, `again` looks whether anything changed, `map` builds documents and keeps nothing,
`deliver` posts documents that are there already. It keeps no ledger, knows no quarantine, follows no change, and would
be of no use to a hospital: it is the yardstick. With several processes each takes every so many-th page, over
connections of its own. Prints a JSON object of counts.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import uuid
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, cast

import httpx
import orjson

from bench.bare_fhir import Check, Checker, documents
from bench.bare_tables import Rows, open_tables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STAGES = ("create", "land", "notes", "fhir", "post", "again", "map", "deliver")
PAGES_AT_ONCE = 10
KINDS = 3
CONNECTIONS = 8
SPACE = uuid.NAMESPACE_URL
HEADERS = {"Accept": "application/fhir+json", "Content-Type": "application/fhir+json", "Prefer": "return=minimal"}

Session = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Order:
    """What to do: the arguments of the command, and which part of the pages is meant."""

    stages: frozenset[str]
    pages: str
    database: str
    fhir: str
    check: Check
    notes_per_request: int
    part: int = 0
    parts: int = 1


def work(order: Order) -> Counter[str]:
    """Does one process's part."""
    counted: Counter[str] = Counter()
    checker = Checker(order.check) if order.stages & {"fhir", "map"} else None
    with (
        closing(open_tables(order.database)) as tables,
        httpx.Client() as provider,
        _fhir_client() as server,
        ThreadPoolExecutor(CONNECTIONS) as pool,
    ):
        for sessions in _sessions(provider, order, counted):
            if "again" in order.stages:
                known = tables.hashes([session["id"] for session in sessions])
                sessions = [each for each in sessions if known.get(each["id"]) != _hash(orjson.dumps(each))]  # noqa: PLW2901 - the rest of them
            rows = _rows(sessions, order.stages, checker)
            counted.update({table: len(each) for table, each in rows.items()})
            if sessions and "map" not in order.stages:
                tables.upsert(rows)
            if "post" in order.stages:
                counted["posted"] += _post([row[1:] for row in rows["documents"]], order, server, pool)
    return counted


def deliver(order: Order) -> Counter[str]:
    """Posts what is there."""
    with (
        closing(open_tables(order.database)) as tables,
        _fhir_client() as server,
        ThreadPoolExecutor(CONNECTIONS) as pool,
    ):
        return Counter(posted=_post(tables.documents(), order, server, pool))


def _fhir_client() -> httpx.Client:
    return httpx.Client(headers=HEADERS, limits=httpx.Limits(max_connections=CONNECTIONS), timeout=30)


def _sessions(provider: httpx.Client, order: Order, counted: Counter[str]) -> Iterator[list[Session]]:
    """Sessions of this part's pages, up to a thousand at once, until a page is empty."""
    gathered: list[Session] = []
    for turn in count():
        answer = provider.get(order.pages, params={"page": order.part + turn * order.parts})
        page = orjson.loads(answer.raise_for_status().content)
        counted["requests"] += 1
        gathered += page
        if gathered and (not page or turn % PAGES_AT_ONCE == PAGES_AT_ONCE - 1):
            yield gathered
            gathered = []
        if not page:
            return


def _rows(sessions: Sequence[Session], stages: frozenset[str], checker: Checker | None) -> Rows:
    rows: Rows = {"records": [], "notes": [], "sections": [], "documents": []}
    for session in sessions:
        payload = orjson.dumps(session)
        version = _hash(payload)
        if "map" not in stages:
            rows["records"].append((session["id"], version, payload))
        if not stages & {"notes", "fhir", "map"}:
            continue
        note_id = uuid.uuid5(SPACE, session["id"])
        parts = [part.partition(":\n") for part in session["note"].split("\n\n")]
        sections = [(title, text) for title, _, text in parts]
        if "map" not in stages:
            rows["notes"].append((note_id.hex, session["id"], session["title"], session["createdAt"], version))
            rows["sections"] += [(note_id.hex, place, *section) for place, section in enumerate(sections)]
        if checker:
            made = documents(note_id, session, sections, checker)
            rows["documents"] += [(note_id.hex, document.kind, document.body) for document in made]
    return {table: each for table, each in rows.items() if each}


def _hash(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()


def _post(found: Sequence[tuple[str, bytes]], order: Order, server: httpx.Client, pool: ThreadPoolExecutor) -> int:
    """Posts documents as transactions of one note, or as batches of many; returns how many notes."""
    together = b"transaction" if order.notes_per_request == 1 else b"batch"
    size = order.notes_per_request * KINDS

    def post(start: int) -> None:
        entries = b",".join(
            b'{"resource":%s,"request":{"method":"POST","url":"%s"}}' % (body, kind.encode())
            for kind, body in found[start : start + size]
        )
        bundle = b'{"resourceType":"Bundle","type":"%s","entry":[%s]}' % (together, entries)
        answer = orjson.loads(server.post(order.fhir, content=bundle).raise_for_status().content)
        if not all(entry["response"]["status"].startswith("201") for entry in answer["entry"]):
            raise RuntimeError("the server did not take everything")

    list(pool.map(post, range(0, len(found), size)))
    return len(found) // KINDS


def run(order: Order, processes: int) -> Counter[str]:
    """Does all of it, in as many processes."""
    if "create" in order.stages:
        with closing(open_tables(order.database)) as tables:
            tables.create()
        return Counter()
    if "deliver" in order.stages:
        return deliver(order)
    if processes == 1:
        return work(order)
    orders = [replace(order, part=part, parts=processes) for part in range(processes)]
    with ProcessPoolExecutor(processes, get_context("fork")) as pool:
        return sum(pool.map(work, orders), Counter())


def main() -> None:
    """Runs what is asked for, and prints what became of it."""
    parser = argparse.ArgumentParser(prog="python -m bench.bare")
    parser.add_argument("stages", nargs="+", choices=STAGES)
    parser.add_argument("--provider", default="", help="URL of the provider's server")
    parser.add_argument("--fhir", default="", help="URL of the FHIR server")
    parser.add_argument("--database", required=True, help="postgresql://... or sqlite:///file")
    parser.add_argument("--check", choices=("shape", "strict"), default="shape")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--notes-per-request", type=int, default=50)
    asked = parser.parse_args()
    order = Order(
        frozenset(asked.stages),
        f"{asked.provider}/api/v1/audioscribe/sessions/",
        asked.database,
        f"{asked.fhir}/fhir",
        cast("Check", asked.check),
        asked.notes_per_request,
    )
    sys.stdout.write(orjson.dumps(dict(run(order, asked.processes))).decode() + "\n")


if __name__ == "__main__":
    main()
