"""What the tests of these commands have in common: days, words, and what must not be told."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from tests.medscribe_pipeline.ehr.clinic import DAY

if TYPE_CHECKING:
    from tests.medscribe_pipeline.cli.conftest import Ran

OTHER_DAY = DAY + timedelta(days=1)
WORDS = "Cough for three days."


def tells_nobody(ran: Ran) -> bool:
    """Whether neither the note's words nor whom it is about are in what was printed."""
    return not any(secret in ran.out + ran.err for secret in (WORDS, "urn:example:patients", "History"))
