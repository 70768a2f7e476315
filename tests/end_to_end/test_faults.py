"""Everything goes wrong at once: synced until quiet, all ends as if nothing had gone wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.sandbox import Fault, Faults, advance
from tests.end_to_end.command import Medscribe, is_quiet
from tests.end_to_end.states import open_only, whole_state
from tests.end_to_end.trap import open_sandbox

if TYPE_CHECKING:
    from pathlib import Path

    from medscribe_pipeline.sandbox import Sandbox
    from tests.end_to_end.conftest import Undisturbed

pytestmark = pytest.mark.timeout(300)

MOST_RUNS = 10
UNSTEADY_LISTS = frozenset({Fault.DUPLICATE_PAGE, Fault.SHIFTED_PAGES})
# A client that gives up after two tries: a run then ends with something unread or in doubt, and another goes on.
IMPATIENT = {f"MEDSCRIBE_{name}_MAX_ATTEMPTS": "2" for name in ("ASKARA", "AUDIOSCRIBE", "EHR")}


def test_all_faults_at_once(tmp_path: Path, undisturbed: Undisturbed) -> None:
    with open_sandbox() as (sandbox, trap):
        # With OAuth, so that tokens are refused now and then as well.
        medscribe = Medscribe(tmp_path, sandbox.environment(oauth=True))
        medscribe.import_visits(sandbox.world)
        sandbox.set_faults(all_on(3))

        codes = sync_until_quiet(medscribe)
        first = whole_state(medscribe.database, sandbox)
        advance(sandbox.world)
        medscribe.import_visits(sandbox.world)
        codes += sync_until_quiet(medscribe)
        second = whole_state(medscribe.database, sandbox)

    assert open_only(first) == open_only(undisturbed.first)
    assert open_only(second) == open_only(undisturbed.second)
    assert set(codes) == {1}, "retries overcome everything; what is damaged in the corpus waits for somebody"
    assert set(trap.faults) >= set(Fault) - UNSTEADY_LISTS


def test_runs_that_give_up_early_come_through_in_the_end(tmp_path: Path, undisturbed: Undisturbed) -> None:
    with open_sandbox() as (sandbox, _):
        medscribe = Medscribe(tmp_path, {**sandbox.environment(oauth=True), **IMPATIENT})
        medscribe.import_visits(sandbox.world)
        sandbox.set_faults(all_on(5))

        codes = sync_until_quiet(medscribe)

        assert 3 in codes
        assert open_only(whole_state(medscribe.database, sandbox)) == open_only(undisturbed.first)


def test_lists_that_move_while_they_are_read(sandbox: Sandbox, medscribe: Medscribe, undisturbed: Undisturbed) -> None:
    """A record that slips from page to page may be missed by a sync, not by one that finds the list at rest."""
    sandbox.set_faults(Faults(seed=8, probability=0.7, kinds=(Fault.DUPLICATE_PAGE, Fault.SHIFTED_PAGES)))
    medscribe.sync()
    seen = set(sandbox.stats.faults)
    sandbox.set_faults(None)

    medscribe.sync()

    assert seen == UNSTEADY_LISTS
    assert whole_state(medscribe.database, sandbox) == undisturbed.first


def all_on(seed: int) -> Faults:
    """All faults, without the long waits a server may ask for: these are tested elsewhere and only take time here."""
    return replace(Faults.all_on(seed), retry_after_s=0, slow_s=0.05)


def sync_until_quiet(medscribe: Medscribe) -> list[int]:
    """Runs the command until it finds nothing to do, and returns the exit codes; a run may fail in part."""
    runs = [medscribe.sync()]
    while not is_quiet(runs[-1]):
        assert len(runs) < MOST_RUNS, [ended.json["run"]["failures"] for ended in runs]
        runs.append(medscribe.sync())
    assert not [ended.err for ended in runs if "Traceback" in ended.err]
    assert {ended.code for ended in runs} <= {0, 1, 3}
    return [ended.code for ended in runs]
