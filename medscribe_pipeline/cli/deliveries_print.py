"""How `medscribe deliveries` and `medscribe deliver` speak: lines and JSON as they are read, and what a state means."""

from __future__ import annotations

import re
import sys
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import orjson
from rich.table import Table

from medscribe_pipeline.cli.deliveries_meaning import means
from medscribe_pipeline.cli.output import console, print_json
from medscribe_pipeline.cli.show import CONTROL
from medscribe_pipeline.ehr.by_hand import Obstacle
from medscribe_pipeline.ehr.signatures import Act, hand_act
from medscribe_pipeline.operation.reasons import SAYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from medscribe_pipeline.ehr.listing import Count, Standing

__all__ = [
    "OBSTACLES",
    "counts_json",
    "print_counts",
    "print_note",
    "say",
    "standing_json",
    "stream_json",
    "write_line",
    "write_lines",
]

_PATH = re.compile(r"[A-Z][A-Za-z]+(\.[A-Za-z0-9]+(\[[0-9]+\])?)+")
"""An element path among the codes of an answer, which the server minds: `Composition.date`."""

_CHANGED = "changed:"
"""Before the path of an element that the server dropped or changed, as far as it was read back."""

OBSTACLES = {
    Obstacle.OLDER_VERSION: "an older version of its note: only the newest is ever sent",
    Obstacle.MAY_BE_THERE: "discarded while nobody knew whether it arrived: look at the server; if it is not there, "
    "retry it with --absent",
    Obstacle.LEDGER_AHEAD: "the ledger knows a later version than the warehouse, so nothing of the note is sent",
    Obstacle.OTHER_STATE: "in another state",
    Obstacle.ALREADY_SUPERSEDED: "superseded, so it is not sent anyway",
}
"""Why nothing was done with versions that were named."""

_ACTS: dict[str, str] = {
    Act.RETRIED: "planned again",
    Act.DISCARDED: "discarded",
    Act.DISCARDED_IN_DOUBT: "discarded while nobody knew whether it had arrived",
    Act.RELEASED_ABSENT: "found not to be on the server",
    Act.RELEASED_THERE: "found on the server",
}


_TITLES = {"codes": "codes", "minded": "elements the server minds", "changed": "dropped or changed by the server"}


def say(text: str) -> None:
    """A sentence for people, as it is: nothing in it is markup, and it is not broken into lines."""
    console.print(CONTROL.sub("\N{REPLACEMENT CHARACTER}", text), markup=False, highlight=False, soft_wrap=True)


def counts_json(counts: Iterable[Count]) -> list[dict[str, Any]]:
    """The counts as plain JSON values."""
    return [
        {"target": each.target, "state": each.state.value, "reason": each.reason, "versions": each.versions}
        for each in counts
    ]


def print_counts(counts: Iterable[Count], title: str) -> None:
    """The counts as a table."""
    table = Table(title=title, title_justify="left")
    for column in ("target", "state", "reason", "", "versions"):
        table.add_column(column, justify="right" if column == "versions" else "left")
    for each in counts:
        reason = each.reason or "-"
        table.add_row(each.target, each.state.value, reason, SAYS.get(reason, ""), str(each.versions))
    console.print(table)


def standing_json(standing: Standing, *, ids: bool) -> dict[str, Any]:
    """One version as a flat JSON object; the server's ids only with `ids`."""
    return {
        "note_id": standing.key.note_id,
        "target": standing.key.target,
        "provider": standing.provider,
        "version": standing.key.version,
        "newest": standing.newest,
        "visit_day": standing.visit_day,
        "state": standing.state.value,
        "reason": standing.reason,
        "attempts": standing.attempts,
        "codes": standing.codes,
        "kinds": [row.kind for row in standing.written],
        **({"server_ids": {row.kind: row.server_id for row in standing.written}} if ids else {}),
    }


def stream_json(
    head: dict[str, Any], name: str, rows: Iterable[dict[str, Any]], tail: Callable[[], dict[str, Any]]
) -> None:
    """One JSON document on standard output, written as the rows are read.

    Args:
        head: Members before the rows.
        name: Member the rows are under.
        rows: The rows, each on a line of its own.
        tail: Members after the rows, asked for when they are through.
    """
    out = sys.stdout
    # What fails at once fails before anything is written.
    through = iter(rows)
    first = list(islice(through, 1))
    out.write("{\n")
    _write_members(head, "", ",\n")
    out.write(f'"{name}": [')
    separator = "\n"
    for row in chain(first, through):
        out.write(separator + orjson.dumps(row).decode())
        separator = ",\n"
    out.write("\n]")
    _write_members(tail(), ",\n", "")
    out.write("\n}\n")


def _write_members(members: dict[str, Any], before: str, after: str) -> None:
    for name, value in members.items():
        sys.stdout.write(f'{before}"{name}": {orjson.dumps(value).decode()}{after}')


def write_lines(standings: Iterator[Standing], counts: Sequence[Count], *, limit: int, ids: bool) -> None:
    """A line for each version, as they are read.

    Args:
        standings: The versions.
        counts: How many there are of each target and reason: it tells how wide the columns are.
        limit: Most lines; 0 for all.
        ids: Also the ids on the server.
    """
    target_width = max(len("target"), *(len(each.target) for each in counts))
    reason_width = max(len("reason"), *(len(each.reason or "-") for each in counts))

    def line(*cells: str) -> None:
        note_id, day, target, version, state, reason, attempts, codes = cells
        write_line(
            f"{note_id:<36}  {day:<10}  {target:<{target_width}}  {version:<7}  {state:<9}  {reason:<{reason_width}}  "
            f"{attempts:>5}  {codes}"
        )

    line("note", "day", "target", "version", "state", "reason", "sent", "codes")
    for each in islice(standings, limit or None):
        line(
            each.key.note_id,
            each.visit_day.isoformat(),
            each.key.target,
            "newest" if each.newest else "older",
            each.state.value,
            each.reason or "-",
            str(each.attempts),
            ",".join(each.codes) or "-",
        )
        if ids:
            for row in each.written:
                write_line(f"    {row.kind}/{row.server_id or '-'}")
    if limit and next(standings, None) is not None:
        say(f"There are more; these are the first {limit}. --limit 0 shows all.")


def write_line(text: str) -> None:
    """One line as it is, however wide the terminal; a terminal's control characters mean nothing in it."""
    sys.stdout.write(CONTROL.sub("\N{REPLACEMENT CHARACTER}", text).rstrip() + "\n")


def print_note(note: dict[str, Any], standings: Sequence[Standing], *, as_json: bool) -> None:
    """All versions of a note on all targets, each with its rows and what its state means."""
    if as_json:
        print_json({"note": note, "deliveries": [_described(each) for each in standings]})
        return
    say(f"Note {note['note_id']} of {note['provider']}, visit day {note['visit_day']}, {note['state']}.")
    if not standings:
        say("The ledger has nothing of it yet.")
    for each in standings:
        version = "newest version" if each.newest else "older version"
        reason = f" ({each.reason})" if each.reason else ""
        say(f"\n{each.key.target}, {version} {each.key.version[:12]}: {each.state}{reason}")
        for row in _rows(each):
            say(f"  {row['kind']}: {_place(row)}")
            for name, title in _TITLES.items():
                if row[name]:
                    say(f"    {title}: {', '.join(row[name])}")
        times = {"claimed": each.claimed_at, "sent": each.sent_at, "settled": each.settled_at}
        told = [f"{name} {_time(at)}" for name, at in times.items() if at is not None]
        say(", ".join([f"  times sent: {each.attempts}", *told]))
        for act in filter(None, map(hand_act, each.codes)):
            say(f"  by hand: {act.who} at {_time(act.at)}: {_ACTS.get(act.act, act.act)}")
        say(f"  {means(each)}")


def _described(standing: Standing) -> dict[str, Any]:
    acts = [act for act in map(hand_act, standing.codes) if act is not None]
    facts = standing_json(standing, ids=False)
    del facts["codes"], facts["kinds"]
    return {
        **facts,
        "claimed_at": standing.claimed_at,
        "sent_at": standing.sent_at,
        "settled_at": standing.settled_at,
        "documents": list(_rows(standing)),
        "by_hand": [{"act": act.act, "at": act.at, "who": act.who} for act in acts],
        "means": means(standing),
    }


def _rows(standing: Standing) -> Iterator[dict[str, Any]]:
    """The rows of a version; their codes told apart, without what was noted by hand."""
    for row in standing.written:
        codes = [code for code in row.codes if hand_act(code) is None]
        changed = [code for code in codes if code.startswith(_CHANGED)]
        minded = [code for code in codes if _PATH.fullmatch(code)]
        yield {
            "kind": row.kind,
            "server_id": row.server_id,
            "etag": row.etag,
            "codes": [code for code in codes if code not in changed and code not in minded],
            "minded": minded,
            "changed": [code.removeprefix(_CHANGED) for code in changed],
        }


def _place(row: dict[str, Any]) -> str:
    if row["server_id"] is None:
        return "not known to be on the server"
    etag = f", {row['etag']}" if row["etag"] else ", without an ETag"
    return f"on the server as {row['server_id']}{etag}"


def _time(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
