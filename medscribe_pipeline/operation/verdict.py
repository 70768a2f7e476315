"""The answer in one sentence: is a day complete, if not what is missing and why, and what must a person do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medscribe_pipeline.operation.reasons import Act, Kind

if TYPE_CHECKING:
    from medscribe_pipeline.operation.day import DayReport, Gap

__all__ = ["Verdict", "judge", "phrase"]

NAMED = 3
"""Most gaps that are named in the sentence; the others are counted."""

_THINGS: dict[Kind, tuple[str, str]] = {
    Kind.RECORD: ("record without a note", "records without a note"),
    Kind.UNMAPPED: ("record not mapped yet", "records not mapped yet"),
    Kind.QUARANTINED: ("record in quarantine", "records in quarantine"),
    Kind.MAYBE_QUARANTINED: ("unreadable record that may be of this day", "unreadable records that may be of this day"),
    Kind.UNBUILT: ("note without documents yet", "notes without documents yet"),
    Kind.HELD: ("note held", "notes held"),
    Kind.REJECTED: ("note refused", "notes refused"),
    Kind.UNKNOWN: ("note in doubt", "notes in doubt"),
    Kind.ON_ITS_WAY: ("note not sent yet", "notes not sent yet"),
    Kind.DISCARDED: ("note discarded", "notes discarded"),
    Kind.JOB_OPEN: ("job under way", "jobs under way"),
    Kind.JOB_STOPPED: ("job without a result", "jobs without a result"),
    Kind.JOB_UNKNOWN: ("job in doubt", "jobs in doubt"),
    Kind.JOB_REFUSED: ("visit that cannot be ordered", "visits that cannot be ordered"),
    Kind.JOB_CANCELLED: ("job cancelled", "jobs cancelled"),
    Kind.EVENT: ("event in the inbox", "events in the inbox"),
    Kind.EXPECTED: ("recording expected", "recordings expected"),
    Kind.UNREAD: ("stream not read since the day ended", "streams not read since the day ended"),
    Kind.OUTDATED: ("build outstanding", "builds outstanding"),
}

# These say all there is to say by their name.
_PLAIN = frozenset(
    {Kind.UNMAPPED, Kind.UNBUILT, Kind.ON_ITS_WAY, Kind.JOB_OPEN, Kind.EVENT, Kind.EXPECTED, Kind.UNREAD, Kind.OUTDATED}
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a day is complete.

    Attributes:
        complete: Everything of the day has gone as far as it ever will, and nothing more can come.
        needs_person: Something stays as it is until a person does something.
        sentence: All of it in one sentence.
        commands: What to run, the most pressing first, each once.
    """

    complete: bool
    needs_person: bool
    sentence: str
    commands: tuple[str, ...]


def judge(report: DayReport) -> Verdict:
    """The verdict on a day."""
    gaps = report.open_gaps()
    not_listed = sum(each.missing for each in report.asked)
    commands = list(dict.fromkeys(gap.explained.command for gap in gaps if gap.explained.command))
    if not_listed and "medscribe sync" not in commands:
        commands.append("medscribe sync")
    needs_person = any(gap.act is Act.PERSON for gap in gaps)
    day = report.day.isoformat()
    if not report.is_over:
        still = f"{day} is not over yet"
        return Verdict(
            False, needs_person, _told(f"{still}. So far", gaps, commands, not_listed, still), tuple(commands)
        )
    if gaps or not_listed:
        sentence = _told(f"{day} is not complete:", gaps, commands, not_listed, "")
        return Verdict(False, needs_person, sentence, tuple(commands))
    return Verdict(True, False, f"{day} is complete: {_all(report)}.", ())


def phrase(gap: Gap) -> str:
    """A gap in words, as part of a sentence: `3 notes held (no clinician has validated it yet)`."""
    thing = f"{gap.count} {_THINGS[gap.kind][gap.count != 1]}"
    return thing if gap.kind in _PLAIN else f"{thing} ({gap.explained.says})"


def _told(start: str, gaps: list[Gap], commands: list[str], not_listed: int, nothing: str) -> str:
    merged = _merged(gaps)
    named = [phrase(gap) for gap in merged[:NAMED]]
    if not_listed:
        named.insert(0, f"{not_listed} records that the provider lists have not landed")
    if len(merged) > NAMED:
        named.append(f"{sum(gap.count for gap in merged[NAMED:])} more")
    if not named:
        return f"{nothing}, and nothing of it waits so far."
    listed = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    return f"{start} {listed}. {_to_do(merged, commands)}"


def _to_do(gaps: list[Gap], commands: list[str]) -> str:
    first = gaps[0] if gaps else None
    if first is not None and first.act is Act.PERSON:
        to_do = first.explained.to_do
        run = f" (`{first.explained.command}`)" if first.explained.command else ""
        return f"Do this first: {to_do}{run}."
    if commands:
        return f"It goes on by itself; `{commands[0]}` does it now."
    return f"Nothing to do here: {first.explained.to_do}." if first is not None else "Run `medscribe sync`."


def _merged(gaps: list[Gap]) -> list[Gap]:
    """The same for several providers and targets counts as one, in the order of the first of each."""
    from medscribe_pipeline.operation.day import Gap as Merged  # noqa: PLC0415 - it is ours that comes first

    counts: dict[tuple[Kind, str | None], int] = {}
    for gap in gaps:
        # Streams and targets are no part of what is said.
        key = (gap.kind, None if gap.kind in _PLAIN else gap.code)
        counts[key] = counts.get(key, 0) + gap.count
    return [Merged(kind, code, "", count) for (kind, code), count in counts.items()]


def _all(report: DayReport) -> str:
    if not report.landed and not report.notes:
        return "every provider was read to its end, and nothing happened on it"
    counted = f"{report.landed} records landed, {report.notes} notes"
    there = ", ".join(f"{report.delivered(target)} delivered to {target}" for target in report.targets)
    return f"{counted}{', ' if there else ''}{there}, and everything else is accounted for"
