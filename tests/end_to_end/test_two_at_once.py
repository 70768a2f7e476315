"""Two runs at once on one warehouse: they take turns or say so, and nothing is done twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.end_to_end.command import Medscribe, finish
from tests.end_to_end.states import whole_state
from tests.end_to_end.trap import Fate, open_sandbox, set_trap

if TYPE_CHECKING:
    from pathlib import Path

    from tests.end_to_end.command import Ended
    from tests.end_to_end.conftest import Undisturbed
    from tests.end_to_end.states import Tables

pytestmark = pytest.mark.timeout(300)

TOKEN = "POST /askara/oauth2/token"


def test_two_runs_from_nothing_and_two_more(tmp_path: Path, undisturbed: Undisturbed) -> None:
    """The first two also create the warehouse and the Dagster instance at the same moment, and need one token."""
    with open_sandbox() as (sandbox, trap):
        medscribe = Medscribe(tmp_path, sandbox.environment(oauth=True))

        together = two_at_once(medscribe)
        # Who, where and when comes last, for once: what was landed without it is built again.
        medscribe.import_visits(sandbox.world)
        together += two_at_once(medscribe)
        ended = whole_state(medscribe.database, sandbox)

    assert [each.complaints for each in together] == [[]] * 4
    assert {each.code for each in together} == {1}, "only what is damaged in the corpus waits for somebody"
    assert trap.requests[TOKEN] == 1
    assert in_force(ended) == in_force(undisturbed.first)


def test_who_does_not_want_to_wait_is_told_that_another_run_is_at_it(tmp_path: Path) -> None:
    with open_sandbox() as (sandbox, trap):
        medscribe = Medscribe(tmp_path, sandbox.environment())
        impatient: list[Ended] = []

        def meanwhile() -> None:
            # The sandbox stands still until this one has ended: the run that waits for its answer is surely at it.
            impatient.append(medscribe.sync("--provider", "askara", MEDSCRIBE_LOCK_TIMEOUT_S="0"))

        patient = medscribe.start("sync", "--json")
        set_trap(sandbox, trap, "GET /askara/audios", 1, Fate.ARRIVES, meanwhile)
        ended = finish(patient)

    assert ended.json["run"]["failures"] == []
    assert {failure["code"] for failure in impatient[0].json["run"]["failures"]} == {"busy"}
    assert impatient[0].code == 1


def in_force(state: Tables) -> Tables:
    """A state without what the ledger remembers of versions that were superseded before they were sent."""
    return {**state, "deliveries": [row for row in state["deliveries"] if row["reason"] != "superseded"]}


def two_at_once(medscribe: Medscribe) -> list[Ended]:
    """Starts two runs at the same moment and waits for both."""
    return [finish(process) for process in [medscribe.start("sync", "--json"), medscribe.start("sync", "--json")]]
