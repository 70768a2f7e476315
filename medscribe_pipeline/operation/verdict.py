"""The answer in one sentence: is a day complete, if not what is missing and why, and what must a person do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from medscribe_pipeline.operation.reasons import Act, Kind, look

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date

    from medscribe_pipeline.operation.day import DayReport, Gap

__all__ = ["Together", "Verdict", "commands_for", "judge", "phrase", "thing", "together"]

NAMED = 3
"""Most kinds of gaps that are named in the sentence; the others are counted."""

REASONS_NAMED = 2
"""Most reasons that are named of each."""

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
    Kind.UNWATCHED: ("account without a provider", "accounts without a provider"),
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
    commands = list(dict.fromkeys(each for gap in gaps for each in commands_for(gap, report.day)))
    if not_listed and "medscribe sync" not in commands:
        commands.append("medscribe sync")
    needs_person = any(gap.act is Act.PERSON for gap in gaps)
    day = report.day.isoformat()
    if not report.is_over:
        still = f"{day} is not over yet"
        return Verdict(False, needs_person, _told(f"{still}. So far", report, not_listed, still), tuple(commands))
    if gaps or not_listed:
        sentence = _told(f"{day} is not complete:", report, not_listed, "")
        return Verdict(False, needs_person, sentence, tuple(commands))
    return Verdict(True, False, f"{day} is complete: {_all(report)}.", ())


def commands_for(gap: Gap, day: date) -> tuple[str, ...]:
    """What to run about a gap: what lists which ones they are, where that is to be known, then what helps."""
    return tuple(filter(None, (look(gap.kind, gap.code, day), gap.explained.command)))


def thing(gap: Gap) -> str:
    """What there is of, in words: `notes held`."""
    return _THINGS[gap.kind][gap.count != 1]


def phrase(kind: Kind, gaps: Sequence[Gap]) -> str:
    """Gaps of one kind as part of a sentence: `3 notes held (no clinician has validated it yet)`."""
    count = sum(gap.count for gap in gaps)
    counted = f"{count} {_THINGS[kind][count != 1]}"
    if kind in _PLAIN:
        return counted
    reasons = list(dict.fromkeys(gap.explained.says for gap in gaps))
    others = ["other reasons"] if len(reasons) > REASONS_NAMED else []
    return f"{counted} ({'; '.join([*reasons[:REASONS_NAMED], *others])})"


@dataclass(frozen=True, slots=True)
class Together:
    """The same gap of several providers and targets: added up, and where each part of it is."""

    gap: Gap
    where: tuple[str, ...]


def together(gaps: Iterable[Gap], targets: Sequence[str]) -> list[Together]:
    """Gaps that are told in the same words as one, in the order of the first of each.

    Args:
        gaps: The gaps.
        targets: All targets there are: where there is one only, it is not named.
    """
    alike: dict[tuple[Kind, str], list[Gap]] = {}
    for gap in gaps:
        alike.setdefault((gap.kind, gap.explained.says), []).append(gap)
    found = []
    for listed in alike.values():
        total = replace(listed[0], count=sum(gap.count for gap in listed))
        where = [f"{_where(gap, targets)}{f' {gap.count}' if len(listed) > 1 else ''}" for gap in listed]
        found.append(Together(total, tuple(where)))
    return found


def _where(gap: Gap, targets: Sequence[str]) -> str:
    if gap.kind is Kind.UNREAD:
        return f"{gap.provider} {gap.code}"
    target = gap.target if len(targets) > 1 else None
    return " → ".join(each for each in (gap.provider, target) if each) or "the day"


def _told(start: str, report: DayReport, not_listed: int, nothing: str) -> str:
    gaps = report.open_gaps()
    by_kind: dict[Kind, list[Gap]] = {}
    for gap in gaps:
        by_kind.setdefault(gap.kind, []).append(gap)
    named = [phrase(kind, of_kind) for kind, of_kind in list(by_kind.items())[:NAMED]]
    if not_listed:
        named.insert(0, f"{not_listed} records that the provider lists have not landed")
    if more := sum(gap.count for of_kind in list(by_kind.values())[NAMED:] for gap in of_kind):
        named.append(f"{more} more")
    if not named:
        return f"{nothing}, and nothing of it waits so far."
    listed = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    return f"{start} {listed}. {_to_do(gaps, report.day)}"


def _to_do(gaps: Sequence[Gap], day: date) -> str:
    first = gaps[0] if gaps else None
    if first is not None and first.act is Act.PERSON:
        run = ", then ".join(f"`{command}`" for command in commands_for(first, day))
        return f"Do this first: {first.explained.to_do}{f' ({run})' if run else ''}."
    if run := next((gap.explained.command for gap in gaps if gap.explained.command), ""):
        return f"It goes on by itself; `{run}` does it now."
    return f"Nothing to do here: {first.explained.to_do}." if first is not None else "Run `medscribe sync`."


def _all(report: DayReport) -> str:
    if not report.landed and not report.notes:
        return "every provider was read to its end, and nothing happened on it"
    counted = f"{report.landed} records landed, {report.notes} notes"
    there = ", ".join(f"{report.delivered(target)} delivered to {target}" for target in report.targets)
    return f"{counted}{', ' if there else ''}{there}, and everything else is accounted for"
