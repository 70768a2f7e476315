"""The durable ledger of work that providers do for us: its states and moves, and what goes in and out of it.

`ledger` holds the states and the guarded moves between them, `enrol` turns rows of the visits manifest into jobs,
`answers` takes in what providers say, in answers or in callbacks. `work_runner` does a run over all of it.
"""

from __future__ import annotations

from medscribe_pipeline.providers.jobs.answers import RESULTS, Answers, failure_code, safe_code, settle_callback
from medscribe_pipeline.providers.jobs.due import jobs_due
from medscribe_pipeline.providers.jobs.enrol import REFUSED_STEP, enrol, visit_hash
from medscribe_pipeline.providers.jobs.ledger import (
    ASKED_AFTER,
    MOVES,
    OPEN,
    SETTLED,
    Entry,
    Ledger,
    Move,
    Ref,
    Standing,
    State,
    job_key,
)

__all__ = [
    "ASKED_AFTER",
    "MOVES",
    "OPEN",
    "REFUSED_STEP",
    "RESULTS",
    "SETTLED",
    "Answers",
    "Entry",
    "Ledger",
    "Move",
    "Ref",
    "Standing",
    "State",
    "enrol",
    "failure_code",
    "job_key",
    "jobs_due",
    "safe_code",
    "settle_callback",
    "visit_hash",
]
