"""What the codes of ledgers and quarantine mean, in plain words, and what to do about each.

A code (`codes`) says what happened; where it stands says what can be done about it, so a code is explained together
with its `Kind`. `explain` has words for every pair, also for codes that a provider, a server or FHIR made up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from medscribe_pipeline.operation.codes import REASONS, Act

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

__all__ = ["REASONS", "SAYS", "Act", "Explained", "Kind", "explain", "look", "shown_code"]


class Kind(StrEnum):
    """Where something stopped: a landed record, a note on its way to a target, a job, what was pushed."""

    RECORD = "record"
    UNMAPPED = "unmapped"
    QUARANTINED = "quarantined"
    MAYBE_QUARANTINED = "maybe_quarantined"
    UNBUILT = "unbuilt"
    HELD = "held"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
    ON_ITS_WAY = "on_its_way"
    DISCARDED = "discarded"
    JOB_OPEN = "job_open"
    JOB_STOPPED = "job_stopped"
    JOB_UNKNOWN = "job_unknown"
    JOB_REFUSED = "job_refused"
    JOB_CANCELLED = "job_cancelled"
    EVENT = "event"
    EXPECTED = "expected"
    UNREAD = "unread"
    OUTDATED = "outdated"
    UNWATCHED = "unwatched"


@dataclass(frozen=True, slots=True)
class Explained:
    """A code of a kind, explained; the fields of `codes.Reason`, with `command` empty where none is needed."""

    says: str
    to_do: str
    command: str
    act: Act


_SYNC = "medscribe sync"
_VISITS = "medscribe visits import FILE"
_REPLAY = "medscribe quarantine replay ID"
_RETRY = "medscribe deliveries retry NOTE"
_JOB_RETRY = "medscribe jobs retry ID"

_KINDS: Mapping[Kind, Explained] = {
    Kind.RECORD: Explained("no note came of it: {code}", "the next sync looks again", _SYNC, Act.WAITS),
    Kind.UNMAPPED: Explained("it is not mapped yet", "sync: it is mapped with the next one", _SYNC, Act.WAITS),
    Kind.QUARANTINED: Explained(
        "it breaks the rule or check {code}",
        "look at the fields it names, mend them at the source or the mapping here, then replay it",
        _REPLAY,
        Act.PERSON,
    ),
    Kind.MAYBE_QUARANTINED: Explained(
        "it breaks the rule or check {code}",
        "mend it at the source or the mapping here, then replay it; until then nobody can tell its day",
        _REPLAY,
        Act.PERSON,
    ),
    Kind.UNBUILT: Explained("its FHIR documents are not built yet", "sync: they are built next", _SYNC, Act.WAITS),
    Kind.HELD: Explained("{code}", "it goes out by itself when that has changed", "", Act.WAITS),
    Kind.REJECTED: Explained(
        "the server refused it: {code}", "look at the codes, and mend the cause", _RETRY, Act.PERSON
    ),
    Kind.UNKNOWN: Explained(
        "it was sent and nobody knows whether it arrived: {code}",
        "the next sync asks the server; this asks now",
        "medscribe deliveries reconcile",
        Act.WAITS,
    ),
    Kind.ON_ITS_WAY: Explained("it has not been sent yet", "sync: it is sent with the next one", _SYNC, Act.WAITS),
    Kind.DISCARDED: Explained(
        "a person decided that it is not sent", "nothing, unless that was a mistake", "", Act.NOTHING
    ),
    Kind.JOB_OPEN: Explained(
        "the provider still works at it", "nothing for now: syncing asks the provider how far it is", _SYNC, Act.WAITS
    ),
    Kind.JOB_STOPPED: Explained(
        "the provider gave it up: {code}",
        "mend the recording if that can be done and have it done again; else `medscribe jobs cancel ID` gives it up",
        _JOB_RETRY,
        Act.PERSON,
    ),
    Kind.JOB_UNKNOWN: Explained(
        "it was submitted and nobody knows whether it arrived: {code}",
        "look at the provider whether it is there, then say which",
        "medscribe jobs resolve ID --absent | --is VENDOR_ID",
        Act.PERSON,
    ),
    Kind.JOB_REFUSED: Explained(
        "it cannot be asked for: {code}", "correct the visit in the manifest and import it again", _VISITS, Act.PERSON
    ),
    Kind.JOB_CANCELLED: Explained("it was cancelled: {code}", "nothing, unless that was a mistake", "", Act.NOTHING),
    Kind.EVENT: Explained("it waits in the inbox", "sync: it is heeded with the next one", _SYNC, Act.WAITS),
    Kind.EXPECTED: Explained(
        "the manifest names a recording that the provider has not shown",
        "wait for its upload; if it is never to come, correct the manifest",
        _SYNC,
        Act.WAITS,
    ),
    Kind.UNREAD: Explained(
        "the provider was not read to the end since that day was over", "sync: it is read to the end", _SYNC, Act.WAITS
    ),
    Kind.UNWATCHED: Explained(
        "no provider is configured here, so nobody can tell whether everything has come",
        "set the credentials of a provider, or start where your `.env` file is",
        "medscribe doctor",
        Act.PERSON,
    ),
    Kind.OUTDATED: Explained(
        "the day changed, or is to be built with other settings", "sync: the day is built again", _SYNC, Act.WAITS
    ),
}
"""Of each kind: what is said of a code that has no words of its own, and what can be done unless the code knows better.
"""

_DELIVERIES = "medscribe deliveries list --day {day} --state "
_JOBS = "medscribe jobs list --day {day} --state "
_LOOKS: Mapping[Kind, str] = {
    Kind.QUARANTINED: "medscribe quarantine list --day {day}",
    Kind.MAYBE_QUARANTINED: "medscribe quarantine list --stage extract",
    Kind.HELD: f"{_DELIVERIES}held",
    Kind.REJECTED: f"{_DELIVERIES}rejected",
    Kind.UNKNOWN: f"{_DELIVERIES}unknown",
    Kind.DISCARDED: f"{_DELIVERIES}discarded",
    Kind.JOB_STOPPED: f"{_JOBS}failed --state expired",
    Kind.JOB_UNKNOWN: f"{_JOBS}unknown",
    Kind.JOB_CANCELLED: f"{_JOBS}cancelled",
}

_TO_FILL_IN = frozenset({"ID", "NOTE"})

SAYS: Mapping[str, str] = MappingProxyType({code: reason.says for code, reason in REASONS.items()})
"""Why something stopped, by code; a code that is not here is another's, and shown as it is."""


# What a provider calls a failure may be shown when it is one word: a sentence might name a patient.
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")


def shown_code(code: str | None) -> str:
    """A code as it may be shown anywhere.

    >>> shown_code("FILE_INVALID"), shown_code("no speech by Mrs Test"), shown_code(None)
    ('FILE_INVALID', 'a reason we cannot show', 'no reason given')
    """
    if code is None:
        return "no reason given"
    return code if _WORD.fullmatch(code) else "a reason we cannot show"


def explain(kind: Kind, code: str | None = None) -> Explained:
    """What a code means where it stands, and what can be done.

    >>> explain(Kind.HELD, "patient_unknown").command
    'medscribe visits import FILE'
    >>> explain(Kind.QUARANTINED, "cmp-1").says
    'it breaks the rule or check cmp-1'
    """
    general = _KINDS[kind]
    own = REASONS.get(code or "")
    if own is None:
        return Explained(general.says.format(code=shown_code(code)), general.to_do, general.command, general.act)
    return Explained(
        own.says,
        general.to_do if own.to_do is None else own.to_do,
        general.command if own.command is None else own.command,
        own.act or general.act,
    )


def look(kind: Kind, code: str | None, day: date) -> str:
    """The command that lists which ones they are, where the command that helps wants to know, or there is none.

    >>> from datetime import date
    >>> look(Kind.REJECTED, "refused", date(2026, 11, 19))
    'medscribe deliveries list --day 2026-11-19 --state rejected'
    >>> look(Kind.UNMAPPED, None, date(2026, 11, 19))
    ''
    """
    command = explain(kind, code).command
    if command and _TO_FILL_IN.isdisjoint(command.split()):
        return ""
    return _LOOKS.get(kind, "").format(day=day.isoformat())
