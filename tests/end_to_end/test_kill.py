"""SIGKILL at any moment, then the same command again: warehouse and EHR end as if nothing had happened."""

from __future__ import annotations

import random
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

import orjson
import pytest

from medscribe_pipeline.sandbox import advance
from tests.end_to_end.command import Medscribe, finish, kill
from tests.end_to_end.states import whole_state
from tests.end_to_end.trap import Fate, open_sandbox, set_trap

if TYPE_CHECKING:
    from pathlib import Path

    from medscribe_pipeline.sandbox import Sandbox
    from tests.end_to_end.conftest import Undisturbed
    from tests.end_to_end.trap import Trap

pytestmark = pytest.mark.timeout(300)

KILLED = -9
AUDIOS, AUDIO = "GET /askara/audios", "GET /askara/audios/{uuid}"
NOTE = "GET /askara/notes/{uuid}"
SESSIONS = "GET /audioscribe/api/v1/audioscribe/sessions/"
DELIVERY = "POST /fhir"
TOKEN = "POST /askara/oauth2/token"

ARRIVES, LOST, DONE = Fate.ARRIVES, Fate.IS_LOST, Fate.IS_CARRIED_OUT

# Each history is a row of runs in one home, every one killed at the n-th request of that kind, and one left in peace.
HISTORIES = {
    "reading": [(AUDIOS, 3, ARRIVES), (AUDIO, 7, ARRIVES), (SESSIONS, 3, ARRIVES), (NOTE, 4, ARRIVES)],
    "delivering": [(DELIVERY, 1, DONE), (DELIVERY, 3, LOST), (DELIVERY, 4, DONE), (DELIVERY, 1, LOST)],
}


@pytest.mark.parametrize("history", HISTORIES)
def test_killed_at_a_request(
    history: str, medscribe: Medscribe, sandbox: Sandbox, trap: Trap, undisturbed: Undisturbed
) -> None:
    for kind, number, fate in HISTORIES[history]:
        kill_at(medscribe, sandbox, trap, kind, number, fate)

    ended = medscribe.sync()

    assert ended.complaints == []
    assert whole_state(medscribe.database, sandbox) == undisturbed.first


def test_killed_while_changes_are_delivered(
    medscribe: Medscribe, sandbox: Sandbox, trap: Trap, undisturbed: Undisturbed
) -> None:
    medscribe.sync()
    advance(sandbox.world)
    medscribe.import_visits(sandbox.world)
    for kind, number, fate in ((AUDIO, 3, ARRIVES), (DELIVERY, 1, DONE), (DELIVERY, 2, LOST)):
        kill_at(medscribe, sandbox, trap, kind, number, fate)

    medscribe.sync()

    assert whole_state(medscribe.database, sandbox) == undisturbed.second


def test_killed_at_random_moments(medscribe: Medscribe, sandbox: Sandbox, undisturbed: Undisturbed) -> None:
    medscribe.is_cold = True  # A run of the length that is divided here, and some moments fall into its start.
    rng = random.Random(1)  # noqa: S311 - which moments, nothing secret
    for part in range(5):
        process = medscribe.start("sync", "--json")
        # One moment in each fifth of a run's length, whatever that is on this machine today.
        time.sleep((part + rng.random()) / 5 * undisturbed.duration_s)
        kill(process.pid)
        finish(process)
    medscribe.is_cold = False

    ended = medscribe.sync()

    assert ended.complaints == []
    assert whole_state(medscribe.database, sandbox) == undisturbed.first


def test_a_refresh_that_never_arrived_is_tried_again_and_a_stored_token_outlives_the_run(
    tmp_path: Path, sandbox: Sandbox, trap: Trap
) -> None:
    medscribe = Medscribe(tmp_path, sandbox.environment(oauth=True))
    kill_at(medscribe, sandbox, trap, TOKEN, 1, LOST)
    kill_at(medscribe, sandbox, trap, AUDIOS, 1, ARRIVES)
    refreshed = trap.requests[TOKEN]
    trap.reset()

    ended = medscribe.sync("--provider", "askara")

    assert ended.json["run"]["failures"] == []
    assert (refreshed, trap.requests[TOKEN]) == (1, 0)


def test_a_token_lost_between_answer_and_save_needs_a_person_who_is_told_so(tmp_path: Path) -> None:
    """The one moment nobody can survive: the provider has spent the single-use token, and its successor died with us.

    The next run says which setting to renew, syncs the other provider meanwhile, and all is well once it is renewed.
    """
    state = tmp_path / "sandbox.sqlite"
    with open_sandbox(state=state) as (sandbox, trap):
        medscribe = Medscribe(tmp_path, sandbox.environment(oauth=True))
        kill_at(medscribe, sandbox, trap, TOKEN, 1, DONE)
        told = medscribe.sync()
    renewed = refresh_token_in(state)
    with open_sandbox(state=state) as (sandbox, _):
        settings = {**sandbox.environment(oauth=True), "MEDSCRIBE_ASKARA_REFRESH_TOKEN": renewed}
        healed = medscribe.sync(**settings)

    failures = told.json["run"]["failures"]
    assert told.code == 2
    assert {each["code"] for each in failures} == {"reauthorise"}
    assert all("MEDSCRIBE_ASKARA_REFRESH_TOKEN" in each["message"] for each in failures)
    assert told.json["run"]["sources"]["audioscribe_sessions"]["new"] > 0
    assert healed.json["run"]["failures"] == []
    assert healed.json["run"]["sources"]["askara_notes"]["new"] > 0


def refresh_token_in(state: Path) -> str:
    """The token the provider would accept now: what a person who authorises again is given."""
    with closing(sqlite3.connect(state)) as connection:
        query = "SELECT body FROM items WHERE collection = 'oauth' AND key = 'refresh_token'"
        return str(orjson.loads(connection.execute(query).fetchone()[0]))


def kill_at(medscribe: Medscribe, sandbox: Sandbox, trap: Trap, kind: str, number: int, fate: Fate) -> None:
    """Starts a sync and kills it when the sandbox sees the n-th request of a kind."""
    victim = medscribe.start("sync", "--json")
    set_trap(sandbox, trap, kind, number, fate, lambda: kill(victim.pid))
    ended = finish(victim)
    sandbox.set_faults(None)
    assert trap.is_sprung, f"{kind} number {number} never came: {ended.err}"
    assert ended.code == KILLED
