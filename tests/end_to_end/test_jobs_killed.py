"""SIGKILL of the runs that submit, ask and heed, and of the receiver: the same end, and nothing twice."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.sandbox import JobOptions, PushOptions
from medscribe_pipeline.warehouse.tables import inbox, scribe_jobs
from tests.end_to_end.clinic import FETCHED, TRANSCRIBED, UPLOADED, open_clinic
from tests.end_to_end.command import finish, kill
from tests.end_to_end.trap import Fate, set_trap

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.end_to_end.clinic import Clinic

pytestmark = pytest.mark.timeout(300)

KILLED = -9
AT_ONCE = 4  # connections of each provider, and so submissions that are on their way when a run dies
NABLA = "/nabla/v1/core/server"
UPLOAD, STATUS = "POST /intron/file/v1/upload", "GET /intron/file/v1/status/{id}"
TRANSCRIBE, TRANSCRIBING = f"POST {NABLA}/transcribe-async", f"GET {NABLA}/transcribe-async/{{uuid}}"
NOTE = f"POST {NABLA}/generate-note-async"
ARRIVES, LOST, DONE = Fate.ARRIVES, Fate.IS_LOST, Fate.IS_CARRIED_OUT
ORDERED = ("--provider", "nabla", "--provider", "intron")

# One run after the other, each killed at the n-th request of that kind.
HISTORY = [(UPLOAD, 2, DONE), (UPLOAD, 3, LOST), (STATUS, 4, ARRIVES), (TRANSCRIBE, 3, DONE), (TRANSCRIBE, 2, LOST)]
LATER = [(TRANSCRIBING, 3, ARRIVES), (NOTE, 2, DONE)]
RANDOM_KILLS = 3


def test_submitter_and_poller_killed_again_and_again(tmp_path: Path) -> None:
    """What may have arrived is sent again under its own id where that is harmless, and nowhere else."""
    with open_clinic(tmp_path, jobs=JobOptions(steps=40, slow_steps=60)) as clinic:
        clinic.record("nabla", {script: TRANSCRIBED[script] for script in ("", "slow", "failed")}, times=6)
        clinic.record("intron", {script: UPLOADED[script] for script in ("", "slow", "failed")}, times=8)
        clinic.import_visits()
        counted = Counted(clinic)
        rng = random.Random(20)  # noqa: S311 - which moments, nothing secret

        for kind, number, fate in HISTORY:
            counted.kill_at(kind, number, fate)
        for _ in range(RANDOM_KILLS):
            counted.kill_at(rng.choice([STATUS, TRANSCRIBING]), 1, ARRIVES, after_s=rng.uniform(0, 0.15))
        clinic.sandbox.pushes.tick(60)
        for kind, number, fate in LATER:
            counted.kill_at(kind, number, fate)
        clinic.sync_to_the_end(ticks=60)
        counted.look()

        standing = clinic.standing()
        lost = {key for key, end in standing.items() if end.startswith("unknown")}
        assert {key.split("-")[0] for key in lost} == {"intron"}, "only what may not be repeated is in doubt"
        assert lost == counted.in_doubt
        assert standing == clinic.ends | {key: standing[key] for key in lost}
        # Of those in doubt some arrived and some did not; all others did, and nothing arrived twice.
        begun, wanted = counted.jobs, clinic.submissions()
        assert set(begun.values()) == {1}
        assert begun.keys() <= wanted.keys()
        missing = wanted.keys() - begun.keys()
        assert missing <= {f"intron upload {clinic.files[key.split('/')[0]]}" for key in lost}
        assert len(missing) < len(lost)
        assert not [name for name in counted.repeats if name.startswith("intron")]
        assert 0 < sum(counted.repeats.values()) <= 3 * AT_ONCE
        clinic.assert_results_are_there_once()
        clinic.assert_notes_are_filed_once()


def test_receiver_and_reader_of_the_inbox_killed(tmp_path: Path) -> None:
    """Results that come by callback only; what the receiver acknowledged is there, the sender repeats the rest."""
    with open_clinic(tmp_path, push=PushOptions(attempts=100)) as clinic:
        both = {"callbackonly": {"transcribe": FETCHED, "note": FETCHED}}
        both["twice-callbackonly-note-late-callbackonly"] = both["callbackonly"]
        clinic.record("nabla", both, times=30)
        clinic.import_visits()
        rng = random.Random(4)  # noqa: S311 - which moments, nothing secret
        clinic.medscribe.sync(*ORDERED)

        for _ in range(3):
            with clinic.receiving() as receiver:
                before = delivered(clinic)
                wanted = before + rng.randrange(5, 25)
                pushing = threading.Thread(target=clinic.sandbox.pushes.tick, args=(3,))
                pushing.start()
                wait_until(lambda: delivered(clinic) >= wanted)  # noqa: B023 - it ends inside the loop
                kill(receiver.pid)
                pushing.join(30)
                assert not pushing.is_alive()
            # Acknowledged is in the inbox, and at most one more: stored, and killed before the answer.
            stored = sum(row["deliveries"] for row in clinic.rows(inbox))
            assert delivered(clinic) <= stored <= delivered(clinic) + 3
        with clinic.receiving():
            clinic.sandbox.pushes.tick(8)
            victim = clinic.medscribe.start("sync", "--json", *ORDERED)
            wait_until(lambda: processed(clinic) >= 10)
            kill(victim.pid)
            assert finish(victim).code == KILLED
            assert 10 <= processed(clinic) < clinic.count(inbox)
            clinic.sync_to_the_end()

        assert clinic.standing() == clinic.ends
        assert clinic.sandbox.stats.jobs == clinic.submissions()
        assert not clinic.sandbox.stats.repeats
        assert "nabla good given_up" not in clinic.sandbox.stats.pushes
        clinic.assert_results_are_there_once()
        clinic.assert_notes_are_filed_once()


class Counted:
    """Kills runs, and adds up what the sandbox counts: setting its trap starts the count again."""

    def __init__(self, clinic: Clinic) -> None:
        self._clinic = clinic
        self.jobs: Counter[str] = Counter()
        self.repeats: Counter[str] = Counter()
        self.in_doubt: set[str] = set()

    def look(self) -> None:
        """Takes the counts over."""
        self.jobs += self._clinic.trap.jobs
        self.repeats += self._clinic.trap.repeats
        self._clinic.trap.reset()

    def kill_at(self, kind: str, number: int, fate: Fate, *, after_s: float = 0.0) -> None:
        """Kills a run at the n-th request of a kind, or so long after."""
        clinic = self._clinic
        self.look()
        victim = clinic.medscribe.start("sync", "--json", *ORDERED)
        later = threading.Timer(after_s, kill, (victim.pid,))
        spring = later.start if after_s else lambda: kill(victim.pid)
        set_trap(clinic.sandbox, clinic.trap, kind, number, fate, spring)
        ended = finish(victim)
        later.cancel()
        clinic.sandbox.set_faults(None)
        assert clinic.trap.is_sprung, f"{kind} number {number} never came: {ended.err}"
        # So long after, it may have come to its end; with jobs still open, or failed.
        assert ended.code == KILLED or (after_s and ended.code in {0, 1})
        doubtful = (scribe_jobs.c.provider == "intron", scribe_jobs.c.state.in_(["submitting", "unknown"]))
        found = {row["job_key"] for row in clinic.rows(scribe_jobs, *doubtful)}
        # Where answers are cut off it may have begun others before it died.
        assert fate is LOST or len(found - self.in_doubt) <= AT_ONCE
        self.in_doubt |= found


def delivered(clinic: Clinic) -> int:
    """Callbacks that were acknowledged."""
    return clinic.sandbox.stats.pushes["nabla good delivered"]


def processed(clinic: Clinic) -> int:
    """Events that were heeded."""
    return clinic.count(inbox, inbox.c.processed_at.is_not(None))


def wait_until(happens: Callable[[], bool]) -> None:
    """Looks often, for a bounded time."""
    give_up_at = time.monotonic() + 60
    while not happens():
        assert time.monotonic() < give_up_at, "it did not happen"
        time.sleep(0.002)
