from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from medscribe_pipeline.errors import Deferred
from medscribe_pipeline.providers.budget import Budget, SystemClock
from tests.medscribe_pipeline.providers.scripted_server import START, FakeClock


def budget(clock: FakeClock, *, per_minute: int = 0, max_wait_s: float = 60) -> Budget:
    return Budget(per_minute, max_wait_s, clock, clock.sleep, "clinic")


def test_without_a_ceiling_nobody_waits(clock: FakeClock) -> None:
    free = budget(clock)

    for _ in range(50):
        free.wait_turn()

    assert clock.slept == []


def test_our_own_ceiling_spreads_requests_evenly(clock: FakeClock) -> None:
    spread = budget(clock, per_minute=30)

    for _ in range(4):
        spread.wait_turn()

    assert clock.waits == [2, 2, 2]


def test_the_ceiling_is_shared_by_threads() -> None:
    waits: list[float] = []
    # The clock stands still, so each wait tells which slot its thread was given.
    spread = Budget(30, 60, FakeClock(), waits.append, "clinic")

    with ThreadPoolExecutor(4) as pool:
        for turn in [pool.submit(spread.wait_turn) for _ in range(12)]:
            turn.result(5)

    assert sorted(waits) == [2.0 * slot for slot in range(1, 12)]


def test_a_wait_of_our_own_making_never_defers(clock: FakeClock) -> None:
    slow = budget(clock, per_minute=1, max_wait_s=5)

    slow.wait_turn()
    slow.wait_turn()

    assert clock.waits == [60]


def test_a_hold_is_waited_for_once(clock: FakeClock) -> None:
    held = budget(clock)
    held.hold(10)
    held.hold(3)

    held.wait_turn()
    held.wait_turn()

    assert clock.waits == [10]


def test_a_hold_that_grows_while_waiting_is_waited_for_in_full(clock: FakeClock) -> None:
    grown = [5.0]

    def pause(seconds: float) -> None:
        clock.sleep(seconds)
        if grown:
            held.hold(grown.pop())

    held = Budget(0, 60, clock, pause, "clinic")
    held.hold(10)

    held.wait_turn()

    assert clock.waits == [10, 5]


def test_a_hold_met_while_waiting_for_a_slot_counts(clock: FakeClock) -> None:
    grown = [7.0]

    def pause(seconds: float) -> None:
        clock.sleep(seconds)
        if grown:
            held.hold(grown.pop())

    held = Budget(60, 60, clock, pause, "clinic")
    held.wait_turn()

    held.wait_turn()

    assert clock.waits == [1, 7]


def test_a_hold_longer_than_we_wait_defers_at_once(clock: FakeClock) -> None:
    held = budget(clock, max_wait_s=60)
    held.hold(61)

    with pytest.raises(Deferred) as caught:
        held.wait_turn()

    assert caught.value.until == START + timedelta(seconds=61)
    assert clock.slept == []


def test_a_clock_that_stands_still_does_not_hang_a_wait() -> None:
    clock = FakeClock()
    naps: list[float] = []
    held = Budget(0, 60, clock, naps.append, "clinic")
    held.hold(10)

    held.wait_turn()

    assert naps == [10]


def test_the_system_clock_is_aware_and_rises() -> None:
    clock = SystemClock()

    assert clock.now().utcoffset() == timedelta(0)
    assert clock.monotonic() <= clock.monotonic()
