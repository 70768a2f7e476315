"""Whatever dies when: no job is lost, none is submitted twice, and each result is there once."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.providers.jobs import State
from tests.medscribe_pipeline.providers.jobs.job_shop import Dictaphone, Shop, count
from tests.medscribe_pipeline.providers.jobs.work_and_die import DIED
from tests.warm import start_warm

if TYPE_CHECKING:
    from tests.medscribe_pipeline.providers.scripted_server import Hangup, Reply, ScriptedServer, Seen
    from tests.warm import WarmProcess

SCRIPT = Path(__file__).with_name("work_and_die.py")
FATES = [f"{number}/{fate}" for number in range(2) for fate in ("ok", "sync", "note", "fail", "late")]
JOBS = 12  # Two of the visits have a note to follow.
KILLED = -9
POINTS = ["enrolled", *(f"{name} {n}" for name in ("claimed", "asked", "answered", "settled") for n in (1, 5))]


def start(shop: Shop, *more: str) -> WarmProcess:
    url = shop.warehouse.engine.url.render_as_string(hide_password=False)
    folder = str(Path(shop.warehouse.engine.url.database or "").parent)
    kind = "repeatable" if shop.work.repeatable_submit else "once"
    return start_warm([url, folder, shop.url, kind, *more], os.environ, Path(folder), script=SCRIPT)


def run_until_quiet(shop: Shop) -> None:
    for _ in range(2):
        assert start(shop).wait(60) == 0


@pytest.mark.parametrize("point", POINTS)
def test_a_run_that_dies_is_followed_by_one_that_ends_it(shop: Shop, point: str) -> None:
    shop.visit(*FATES)

    died = start(shop, *point.split()).wait(60)
    run_until_quiet(shop)

    states = shop.states()
    # The submissions on their way when the run died: perhaps they arrived, so nobody sends them again.
    unknown = count(states, State.UNKNOWN)
    assert died == DIED
    assert unknown <= (0 if point == "enrolled" else 2)
    assert set(shop.vendor.submissions.values()) == {1}
    assert count(states, State.FAILED) + count(states, State.FETCHED) + unknown == len(states)
    assert len(shop.results()) == count(states, State.FETCHED)
    assert {row["payload"]["job_key"] for row in shop.results()} == {
        key for key, state in states.items() if state == State.FETCHED
    }


@pytest.mark.parametrize("point", POINTS)
def test_where_repeating_does_no_harm_a_death_leaves_no_trace(shop: Shop, point: str) -> None:
    shop.work = Dictaphone(repeatable=True)
    shop.visit(*FATES)

    died = start(shop, *point.split()).wait(60)
    run_until_quiet(shop)

    states = shop.states()
    assert died == DIED
    assert (len(states), count(states, State.FETCHED), count(states, State.FAILED)) == (JOBS, JOBS - 2, 2)
    assert len(shop.results()) == JOBS - 2
    assert len(shop.vendor.submissions) == JOBS
    assert sum(shop.vendor.submissions.values()) <= JOBS + 2


def test_a_run_killed_between_taking_and_answering(shop: Shop, server: ScriptedServer) -> None:
    shop.visit(*FATES)
    victims: list[WarmProcess] = []
    vendor = shop.vendor

    def kill(seen: Seen) -> Reply | Hangup:
        reply = vendor(seen)
        if seen.method == "POST" and vendor.submissions.total() == 4:
            for _ in range(100):  # The answer may be due before `start` has returned.
                if victims:
                    victims[0].kill()
                    break
                threading.Event().wait(0.05)
        return reply

    server.responder = kill
    victims.append(start(shop))
    died = victims[0].wait(60)
    server.responder = vendor
    run_until_quiet(shop)

    states = shop.states()
    assert died == KILLED
    assert set(vendor.submissions.values()) == {1}
    assert 1 <= count(states, State.UNKNOWN) <= 2
    assert count(states, State.FETCHED) + count(states, State.FAILED) == len(states) - count(states, State.UNKNOWN)


def test_a_late_callback_settles_what_a_death_left_unknown(shop: Shop) -> None:
    shop.visit("never")
    assert start(shop, "answered", "1").wait(60) == DIED
    run_until_quiet(shop)
    assert shop.row("never")["state"] == "unknown"

    shop.call_back("never")

    assert (shop.row("never")["state"], len(shop.results())) == ("fetched", 1)
