"""What becomes of a job: its fate, read from the words a recording's name ends with, or drawn by a seed.

`visit-7-slow-twice.wav` is a recording that takes longer and whose callback arrives twice. What follows the word
`note` is the fate of the note that is asked for later: `visit-7-note-failed.wav` is transcribed and then fails as a
note.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from medscribe_pipeline.sandbox.corpus import dice

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

__all__ = ["FAILURES", "Fate", "Fates", "JobOptions", "fates_of"]

_WORD_BREAKS = re.compile(r"[-_. ]+")
_NOTE = "note"


class Fate(StrEnum):
    """A word of a script. Several may apply to one job; those that contradict each other count in this order."""

    NEVER = "never"
    """Asked after, it is on its way, for ever; no callback."""
    UNRECOGNISED = "unrecognised"
    """As `never`, in a status word that no document knows."""
    GONE = "gone"
    """Accepted, then unknown to the provider."""
    FAILED = "failed"
    """The provider's verdict: Nabla's documented 422, Intron's `FILE_PROCESSING_FAILED`."""
    INVALID = "invalid"
    """Fails, in Intron's words `FILE_INVALID`; the four below likewise."""
    OVERSIZED = "oversized"
    OVERLONG = "overlong"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    SLOW = "slow"
    """Takes more steps than others."""
    SILENT = "silent"
    """Never called back; the result is there for whoever asks."""
    CALLBACK_ONLY = "callbackonly"
    """Asked after, it is on its way, for ever; the result comes by callback."""
    EARLY = "early"
    """The callback arrives before the answer to the submission does."""
    LATE = "late"
    """The callback arrives several steps after the end, so those of other jobs overtake it."""
    TWICE = "twice"
    """The callback arrives twice."""
    FORGED = "forged"
    """Before the callback comes one with another result and a signature that is wrong."""
    STALE = "stale"
    """Before the callback comes one with another result that was rightly signed, but long ago."""
    BUSY = "busy"
    """Intron answers the upload with 503 and a file id: it is queued all the same."""
    WAITING = "waiting"
    """Intron answers the upload with 408 and a file id: it is queued all the same."""


FAILURES = frozenset({Fate.FAILED, Fate.INVALID, Fate.OVERSIZED, Fate.OVERLONG, Fate.TIMEOUT, Fate.CANCELLED})
"""The fates that end in the provider's verdict."""


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How long jobs take, and what becomes of those whose names say nothing.

    Attributes:
        seed: Draws the fates of names without words.
        fates: What is drawn from, as words (`slow-twice`); an empty text is an ordinary job. The more often a text is
            in it, the likelier it is.
        steps: Questions and ticks until an ordinary job is done; with 0 it is done when it is submitted.
        slow_steps: The same for a slow one.
        late_ticks: Ticks between the end of a job and a late callback.
    """

    seed: int = 7
    fates: tuple[str, ...] = ("",)
    steps: int = 2
    slow_steps: int = 6
    late_ticks: int = 3

    def steps_for(self, fates: AbstractSet[Fate]) -> int:
        """Steps from submission to end."""
        if Fate.EARLY in fates:
            return 0
        return self.slow_steps if Fate.SLOW in fates else self.steps


@dataclass(frozen=True, slots=True)
class Fates:
    """The fates of a recording: of the job that hears it, and of the note asked for afterwards."""

    hearing: frozenset[Fate] = frozenset()
    note: frozenset[Fate] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.hearing or self.note)


def fates_of(name: str, options: JobOptions | None = None) -> Fates:
    """Reads the fates off the end of a recording's name; without any there, draws them if there are options.

    Args:
        name: A file name or the path of a URL, extension and all.
        options: What to draw from.

    >>> sorted(fates_of("visit-7-slow-twice.wav").hearing)
    [<Fate.SLOW: 'slow'>, <Fate.TWICE: 'twice'>]
    >>> fates_of("slow-visit.wav")
    Fates(hearing=frozenset(), note=frozenset())
    """
    file = name.rpartition("/")[2]
    stem = file.rpartition(".")[0] or file
    words = [word for word in _WORD_BREAKS.split(stem.lower()) if word]
    script: list[str] = []
    while words and (words[-1] in _WORDS or (words[-1] == _NOTE and script)):
        script.insert(0, words.pop())
    if not script and options is not None:
        drawn = dice(options.seed, "fate", name).choice(options.fates)
        return fates_of(f"drawn-{drawn}")
    border = script.index(_NOTE) if _NOTE in script else len(script)
    return Fates(
        frozenset(Fate(word) for word in script[:border] if word != _NOTE),
        frozenset(Fate(word) for word in script[border:] if word != _NOTE),
    )


_WORDS = frozenset(Fate)
