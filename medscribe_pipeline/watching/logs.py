"""Log lines, as text or as JSON: when, how grave, what happened, and the facts of `fields.py` beside it.

Our own calls are of one form, and a test reads all of them: fixed words, then facts by name.

    log.info("Day delivered: run=%s target=%s delivered=%d", run_id, target, count)

A line is made of the template and its facts, never of a formatted message. Of lines that are not of this form, and
that is every line of a library, the words are withheld: a library quotes URLs, statements and rows. It is told that
there was one, of which library and from which place, if it is a warning or worse. Of exceptions the type, the code and
the place are told.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from medscribe_pipeline.errors import MedscribeError, place_of
from medscribe_pipeline.watching.fields import FIELDS, Value, facts, known, safe

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PROGRESS", "Form", "Lines", "form_of", "is_started", "start", "stop"]

OURS = "medscribe_pipeline"
PROGRESS = f"{OURS}.progress"
"""Signs of life for whoever watches a terminal; what they count is told again when it is done."""

LIBRARY = "A library has something to say; its words are withheld"
FORMLESS = "Something happened; its words are withheld"

_FACT = re.compile(r"[ :]*\b([a-z_]+)=%(?:\.\d+f|[sd])")


class Form(NamedTuple):
    """A template of ours: its fixed words, and the names of its facts in order."""

    words: str
    names: tuple[str, ...]


@lru_cache(maxsize=512)
def form_of(template: str) -> Form | None:
    """The parts of a template; `None` where it holds anything but fixed words and facts that may be told.

    >>> form_of("Trying again: client=%s failed_attempts=%d")
    Form(words='Trying again', names=('client', 'failed_attempts'))
    >>> form_of("Cannot read %s"), form_of("Found: patient=%s")
    (None, None)
    """
    names = tuple(match.group(1) for match in _FACT.finditer(template))
    words = _FACT.sub("", template)
    # With a sign of equality outside of a fact, somebody has filled the template in already.
    if "%" in words or "=" in words or not FIELDS.issuperset(names):
        return None
    return Form(words.strip(), names)


class Lines(logging.Handler):
    """Writes lines to standard error, whatever that is at the moment.

    Args:
        form: `text` for people, `json` for programs: one object a line.
        of_ours: Whether it is for our own lines, or for those of libraries.
    """

    def __init__(self, form: Literal["text", "json"], *, of_ours: bool) -> None:
        super().__init__()
        self._of_ours = of_ours
        self._write = _as_json if form == "json" else _as_text

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record, or nothing."""
        # Ours come from our own logger, before any other handler could have rewritten them: Dagster's fills them in.
        if record.name == PROGRESS or (_is_ours(record) and not self._of_ours):
            return
        told = _ours(record) if _is_ours(record) else _of_a_library(record)
        if told is None:
            return
        words, found = told
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        try:
            sys.stderr.write(self._write(at, record, words, {**facts(), **found}) + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            # Whoever read it has gone away; the run has not. `Handler.handleError` would print the record.
            return


def start(form: Literal["text", "json"], level: str) -> None:
    """Writes our lines of that level or graver, instead of however they were written before."""
    stop()
    logging.getLogger().addHandler(Lines(form, of_ours=False))
    logging.getLogger(OURS).addHandler(Lines(form, of_ours=True))
    logging.getLogger(OURS).setLevel(level.upper())


def is_started() -> bool:
    """Whether our lines are written."""
    return any(isinstance(handler, Lines) for handler in logging.getLogger().handlers)


def stop() -> None:
    """Leaves logging as Python has it."""
    for logger in (logging.getLogger(), logging.getLogger(OURS)):
        for handler in [each for each in logger.handlers if isinstance(each, Lines)]:
            logger.removeHandler(handler)
            logging.getLogger(OURS).setLevel(logging.NOTSET)


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name == OURS or record.name.startswith(f"{OURS}.")


def _ours(record: logging.LogRecord) -> tuple[str, dict[str, Value]]:
    form = form_of(record.msg) if isinstance(record.msg, str) else None
    given = record.args if isinstance(record.args, tuple) else ()
    found = _failure(record)
    if form is None or len(form.names) != len(given):
        return FORMLESS, {**found, "place": safe(_place(record))}
    return form.words, {**known(dict(zip(form.names, given, strict=True))), **found}


def _of_a_library(record: logging.LogRecord) -> tuple[str, dict[str, Value]] | None:
    if record.levelno < logging.WARNING:
        return None
    return LIBRARY, {"library": safe(record.name), "place": safe(_place(record)), **_failure(record)}


def _failure(record: logging.LogRecord) -> dict[str, Value]:
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return {}
    found: dict[str, Value] = {"error": type(error).__name__}
    if error.__traceback__ is not None:
        found["error"] = safe(place_of(error))
    if isinstance(error, MedscribeError):
        found["code"] = safe(error.code)
    return found


def _place(record: logging.LogRecord) -> str:
    return f"{record.filename}:{record.lineno}"


def _as_text(at: str, record: logging.LogRecord, words: str, found: Mapping[str, Value]) -> str:
    told = " ".join(f"{name}={value}" for name, value in found.items())
    return f"{at} {record.levelname:<7} {words}{': ' if told else ''}{told}"


def _as_json(at: str, record: logging.LogRecord, words: str, found: Mapping[str, Value]) -> str:
    logger = record.name if _is_ours(record) else "library"
    return json.dumps({"at": at, "level": record.levelname.lower(), "logger": logger, "event": words, **found})
