"""How `medscribe quarantine` speaks: counts, lines, one row with what it means, and what a replay came to."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson
from rich.text import Text

from medscribe_pipeline.cli.deliveries_print import say, stream_json, write_line
from medscribe_pipeline.cli.output import console, plain_table, print_json
from medscribe_pipeline.cli.show import CONTROL
from medscribe_pipeline.notes import canonical_json
from medscribe_pipeline.operation.reasons import Kind, explain
from medscribe_pipeline.operation.replay import OVERTAKEN, WENT_ON
from medscribe_pipeline.operation.rereading import ASKED_BY_SYNC, NO_PAYLOAD, NO_READER
from medscribe_pipeline.warehouse.sealing import SEALED_AWAY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from medscribe_pipeline.operation.replay import ReplayReport
    from medscribe_pipeline.warehouse.quarantine_list import Count, Trouble

__all__ = [
    "counts_json",
    "print_counts",
    "print_replay",
    "print_trouble",
    "say",
    "stream",
    "trouble_json",
    "write_lines",
]

PATHS_IN_A_LINE = 3

_BECAME = {
    "note": "a note now",
    "document": "documents now",
    "part": "read; their text is in another record",
    OVERTAKEN: "closed: the note has another content now",
}
_LEFT = {
    ASKED_BY_SYNC: "only the provider has them; every `medscribe sync` asks",
    NO_PAYLOAD: "what was received is not kept any more",
    NO_READER: "this version has no such stream, or cannot read it without the provider",
    SEALED_AWAY: "sealed with a key that is not set: MEDSCRIBE_ENCRYPTION_OLD_KEY",
    WENT_ON: "they went on by themselves",
}


def counts_json(counts: Iterable[Count]) -> list[dict[str, Any]]:
    """The counts as plain JSON values."""
    return [
        {
            "provider": each.provider,
            "stream": each.stream,
            "stage": each.stage,
            "code": each.code,
            "rows": each.rows,
            "oldest_at": each.oldest_at,
        }
        for each in counts
    ]


def trouble_json(trouble: Trouble) -> dict[str, Any]:
    """One row as a flat JSON object."""
    return {
        "id": trouble.id,
        "stage": trouble.stage,
        "provider": trouble.provider,
        "stream": trouble.stream,
        "visit_day": trouble.visit_day,
        "code": trouble.error_code,
        "field_paths": trouble.field_paths,
        "attempts": trouble.attempts,
        "first_seen_at": trouble.first_seen_at,
        "last_seen_at": trouble.last_seen_at,
        "resolved_at": trouble.resolved_at,
        "closed_by": trouble.closed_by,
        "closed_for": trouble.closed_for,
        "sealed": trouble.sealed_with is not None,
    }


def stream(counts: list[dict[str, Any]], rows: Iterable[dict[str, Any]], more: Callable[[], bool]) -> None:
    """Counts and rows as one JSON document, written as the rows are read."""
    stream_json({"counts": counts}, "rows", rows, lambda: {"more": more()})


def print_counts(counts: Iterable[Count]) -> None:
    """The counts as a table."""
    table = plain_table("In quarantine")
    for column in ("provider", "stream", "stage", "code", "what it means", "since", "rows"):
        right, whole = column == "rows", column in ("provider", "since")
        table.add_column(column, justify="right" if right else "left", overflow="fold", no_wrap=whole)
    for each in counts:
        means = explain(Kind.QUARANTINED, each.code).says
        cells = (each.provider, each.stream, each.stage, each.code, means, each.oldest_at.date().isoformat())
        table.add_row(*map(_plain, cells), str(each.rows))
    console.print(table)


def write_lines(rows: Iterator[Trouble], *, limit: int) -> None:
    """A line for each row, as they are read."""

    def line(*cells: str) -> None:
        row_id, stage, provider, day, seen, tries, code, where = cells
        write_line(f"{row_id:<36}  {stage:<7}  {provider:<12}  {day:<10}  {seen:<25}  {tries:>5}  {code:<16}  {where}")

    line("id", "stage", "provider", "visit day", "last seen", "tries", "code", "where")
    for each in islice(rows, limit or None):
        more = len(each.field_paths) - PATHS_IN_A_LINE
        where = ", ".join(each.field_paths[:PATHS_IN_A_LINE]) + (f" and {more} more" if more > 0 else "")
        line(
            each.id,
            each.stage,
            each.provider,
            each.visit_day.isoformat() if each.visit_day else "-",
            _time(each.last_seen_at),
            str(each.attempts),
            each.error_code,
            _state(each) + (where or "-"),
        )
    if limit and next(rows, None) is not None:
        say(f"There are more; these are the first {limit}. --limit 0 shows all.")


def print_trouble(
    trouble: Trouble, received: dict[str, Any] | None, *, ids: bool, openable: bool, as_json: bool
) -> None:
    """One row with what it means.

    Args:
        trouble: The row.
        received: What was received, if it was asked for, under `payload`.
        ids: Also the provider's id of the record.
        openable: Whether its payload can be opened.
        as_json: For a program.
    """
    explained = explain(Kind.QUARANTINED, trouble.error_code)
    facts = {**trouble_json(trouble), **({"source_id": trouble.source_id} if ids else {}), "openable": openable}
    means = {"means": explained.says, "to_do": explained.to_do, "command": explained.command}
    if as_json:
        print_json({**facts, **means, **({name: _printable(value) for name, value in (received or {}).items()})})
        return
    table = plain_table("In quarantine" if trouble.is_open else "Was in quarantine")
    table.show_header = False
    for name, value in facts.items():
        shown = "\n".join(value) if isinstance(value, list) else value
        table.add_row(name, _plain("-" if shown in (None, "") else shown))
    console.print(table)
    say(f"What it means: {explained.says}.")
    say(f"What to do: {explained.to_do}." + (f" `{explained.command}`" if explained.command else ""))
    if not openable:
        say(f"What was received is {_LEFT[SEALED_AWAY]}.")
    if received is not None:
        payload = _printable(received["payload"])
        say(payload if isinstance(payload, str) else orjson.dumps(payload, option=orjson.OPT_INDENT_2).decode())


def print_replay(done: ReplayReport, *, delivers: bool, as_json: bool) -> None:
    """What a replay came to."""
    if as_json:
        print_json(
            {
                "rows": done.rows,
                "landed": done.landed,
                "became": dict(done.became),
                "still_quarantined": {f"{stage}.{code}": count for (stage, code), count in done.still.items()},
                "left": dict(done.left),
                "days": done.days,
            }
        )
        return
    if not done.rows:
        say("Nothing of that is in quarantine.")
        return
    say(f"{done.rows} rows tried again; {len(done.days)} visit days built.")
    for name, count in sorted(done.became.items()):
        kind, _, code = name.partition(".")
        why = f"no note: {explain(Kind.RECORD, code).says}" if kind == "held" else _BECAME[kind]
        say(f"  {count} {why}.")
    for (stage, code), count in sorted(done.still.items()):
        say(f"  {count} still in quarantine ({stage}, {code}): {explain(Kind.QUARANTINED, code).says}.")
    for why, count in sorted(done.left.items()):
        say(f"  {count} left alone: {_LEFT.get(why, why)}.")
    if delivers and done.days:
        say("The next `medscribe sync` delivers what there is to deliver.")


def _state(trouble: Trouble) -> str:
    if trouble.closed_by is not None:
        return f"[put aside: {trouble.closed_for}] "
    return "" if trouble.is_open else "[went on] "


def _printable(payload: Any) -> Any:
    """A payload as it is, or as one text where it is nested deeper than can be shown."""
    try:
        orjson.dumps(payload)
    except orjson.JSONEncodeError:
        return canonical_json(payload).decode()
    return payload


def _plain(value: object) -> Text:
    return Text(CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(value)))


def _time(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
