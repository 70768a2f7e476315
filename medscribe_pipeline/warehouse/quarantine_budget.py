"""How much of a run may go to quarantine before the run counts as failed.

A provider that changes its answers overnight would otherwise fill the quarantine while every run looks well. What is
counted is what a run took on, and what of it is in quarantine now and was not before: trouble that is known makes no
run fail again, and the many records that did not change do not hide it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medscribe_pipeline.errors import MedscribeError

if TYPE_CHECKING:
    from medscribe_pipeline.settings import Settings

__all__ = ["QUARANTINE_BUDGET", "QuarantineBudget"]

QUARANTINE_BUDGET = "quarantine_budget"
"""Code of a run that was over its budget."""


@dataclass(slots=True)
class QuarantineBudget:
    """Counts what one run took on and what of it was quarantined.

    Attributes:
        share: Share of the records that may be quarantined, 0 to 1.
        floor: So many may be, whatever their share.
        records: What the run took on so far.
        quarantined: What of it is in quarantine and was not before.
    """

    share: float
    floor: int
    records: int = 0
    quarantined: int = 0

    @classmethod
    def of(cls, settings: Settings) -> QuarantineBudget:
        """The budget of the settings, with nothing counted yet."""
        return cls(settings.quarantine_budget, settings.quarantine_floor)

    def spend(self, *, records: int, quarantined: int) -> None:
        """Counts a part of the run."""
        self.records += records
        self.quarantined += quarantined

    @property
    def is_exceeded(self) -> bool:
        """Whether more was quarantined than the budget allows."""
        return self.quarantined > max(self.floor, self.share * self.records)

    def check(self) -> None:
        """Fails the run if it was over its budget. Call it when everything good is committed.

        Raises:
            MedscribeError: `quarantine_budget`, with the counts.
        """
        if self.is_exceeded:
            raise MedscribeError(
                "Too many records went to quarantine in this run, more than MEDSCRIBE_QUARANTINE_BUDGET allows. "
                "Everything else is stored. `medscribe quarantine list` says what is wrong with them",
                code=QUARANTINE_BUDGET,
                context={"records": self.records, "quarantined": self.quarantined, "budget": self.share},
            )
