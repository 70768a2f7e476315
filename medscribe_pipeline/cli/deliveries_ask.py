"""What asks the servers and sends nothing: `medscribe deliveries reconcile` and `medscribe deliver --dry-run`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from medscribe_pipeline.cli.deliveries_acts import now
from medscribe_pipeline.cli.deliveries_print import say, stream_json, write_line
from medscribe_pipeline.ehr.auth import open_http
from medscribe_pipeline.ehr.by_hand import reconciled
from medscribe_pipeline.ehr.client import FhirClient
from medscribe_pipeline.ehr.delivery import reconcile_target
from medscribe_pipeline.ehr.dry_run import preview_day
from medscribe_pipeline.ehr.ledger import State
from medscribe_pipeline.ehr.listing import Which, counted
from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.operation.reasons import SAYS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date

    from medscribe_pipeline.ehr.dry_run import Planned
    from medscribe_pipeline.settings import EhrSettings, Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["Asked", "ask_all", "dry_run"]

_LONGEST_VALUE = 300
_UNDER_WAY = (State.CLAIMED, State.SENT, State.UNKNOWN)


@dataclass(slots=True)
class Asked:
    """What the servers said.

    Attributes:
        settled: By target, how many versions went into each state.
        unknown: By target, how many are unknown now.
        errors: By target, why it could not be asked.
    """

    settled: dict[str, dict[str, int]] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)
    errors: dict[str, MedscribeError] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {
            "targets": {
                name: {
                    "settled": self.settled[name],
                    "unknown": self.unknown[name],
                    "error": self.errors[name].code if name in self.errors else None,
                }
                for name in self.settled
            }
        }

    def lines(self) -> Iterator[str]:
        """The same for people, a sentence for each target."""
        words = {State.DELIVERED: "found on the server", State.PLANNED: "not there, and planned again"}
        for name, settled in self.settled.items():
            told = [
                f"{count} {words.get(State(state), state)}" for state, count in settled.items() if state != "unknown"
            ]
            if name in self.errors:
                told.append(f"could not be asked to the end ({self.errors[name].code})")
            unknown = self.unknown[name]
            left = f"{unknown} still unknown" if unknown else "nothing is unknown"
            yield f"{name}: {', '.join([*told, left])}."


def ask_all(settings: Settings, warehouse: Warehouse, targets: Sequence[EhrSettings]) -> Asked:
    """Asks each target after everything whose outcome is unknown; where there is nothing to ask, it is left alone."""
    asked = Asked()
    for target in targets:
        name = target.target
        asked.settled[name] = {}
        if counted(warehouse, Which(targets=(name,), states=_UNDER_WAY)):
            try:
                asked.settled[name] = _ask(settings, warehouse, target)
            except MedscribeError as error:
                asked.errors[name] = error
        unknown = counted(warehouse, Which(targets=(name,), states=(State.UNKNOWN,)))
        asked.unknown[name] = sum(each.versions for each in unknown)
    return asked


def _ask(settings: Settings, warehouse: Warehouse, target: EhrSettings) -> dict[str, int]:
    with reconciled(warehouse, target.target), open_http(target, warehouse) as http:
        client = FhirClient(http, settings.fhir.release)
        counts = reconcile_target(warehouse, client, target, clock=now)
    return {state.value: count for state, count in sorted(counts.items())}


def dry_run(
    settings: Settings,
    warehouse: Warehouse,
    targets: Sequence[EhrSettings],
    days: Sequence[date],
    *,
    with_text: bool,
    as_json: bool,
) -> None:
    """Prints what a delivery of these days would send, as it is found out; sends nothing.

    Args:
        settings: The settings.
        warehouse: The open warehouse.
        targets: The targets.
        days: The visit days.
        with_text: Whether values are shown, which are the patient's text.
        as_json: Whether a program is listening.

    Raises:
        ConfigError, Retriable, Deferred: A target cannot be asked.
    """
    counts: dict[str, Counter[str]] = {target.target: Counter() for target in targets}
    found = _previews(settings, warehouse, targets, days, counts)
    if as_json:
        rows = (_row(name, day, planned, with_text=with_text) for name, day, planned in found)
        stream_json({"days": days}, "notes", rows, lambda: {"counts": counts})
        return
    for name, day, planned in found:
        kinds = f"  {', '.join(planned.kinds)}" if planned.kinds else ""
        write_line(f"{planned.note_id}  {day}  {name}  {_what(planned)}{kinds}")
        for difference in _differences(planned, with_text=with_text):
            values = f": {_short(difference['before'])} -> {_short(difference['after'])}" if with_text else ""
            write_line(f"    {difference['path']}{values}")
    for name, of_target in counts.items():
        told = ", ".join(f"{count} {what}" for what, count in sorted(of_target.items()))
        say(f"{name}: {told or 'nothing to do'} on {len(days)} visit days. Nothing was sent.")


def _previews(
    settings: Settings,
    warehouse: Warehouse,
    targets: Sequence[EhrSettings],
    days: Sequence[date],
    counts: dict[str, Counter[str]],
) -> Iterator[tuple[str, date, Planned]]:
    for target in targets:
        with open_http(target, warehouse) as http:
            client = FhirClient(http, settings.fhir.release)
            for day in days:
                for planned in preview_day(warehouse, client, target, day, clock=now):
                    counts[target.target][_group(planned)] += 1
                    yield target.target, day, planned


def _group(planned: Planned) -> str:
    if planned.in_doubt:
        return "in doubt"
    if planned.change is None:
        return "held"
    return "already there" if planned.already_there else planned.change.replace("_", " ")


def _what(planned: Planned) -> str:
    group = _group(planned)
    return f"held: {SAYS.get(planned.reason, planned.reason)}" if group == "held" and planned.reason else group


def _row(target: str, day: date, planned: Planned, *, with_text: bool) -> dict[str, Any]:
    return {
        "note_id": planned.note_id,
        "target": target,
        "visit_day": day,
        "change": planned.change,
        "kinds": planned.kinds,
        "reason": planned.reason,
        "in_doubt": planned.in_doubt,
        "already_there": planned.already_there,
        "differences": list(_differences(planned, with_text=with_text)),
    }


def _differences(planned: Planned, *, with_text: bool) -> Iterator[dict[str, Any]]:
    for path in planned.differences:
        kind, *steps = path.split(".")
        values = (
            {"before": _at(planned.before.get(kind), steps), "after": _at(planned.after.get(kind), steps)}
            if with_text
            else {}
        )
        yield {"path": path, **values}


def _at(node: Any, steps: Sequence[str]) -> Any:
    """What is at a path; `None` where nothing is."""
    for step in steps:
        if isinstance(node, list) and step.isdecimal():
            node = node[int(step)] if int(step) < len(node) else None
        else:
            node = node.get(step) if isinstance(node, dict) else None
    return node


def _short(value: Any) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]} ..."
