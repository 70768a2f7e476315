"""Rate and byte budget, by clocks and loops of the test's own."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import pytest

from medscribe_pipeline.receiver.limits import LEAST_BYTES, ByteBudget, Rate, TurnedAway


class Ticking:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_minute_of_tokens_then_none() -> None:
    clock = Ticking()
    rate = Rate(3, clock)
    for _ in range(3):
        rate.take()

    with pytest.raises(TurnedAway) as turned_away:
        rate.take()

    assert turned_away.value.status == HTTPStatus.TOO_MANY_REQUESTS
    assert turned_away.value.retry_after_s == pytest.approx(20)


def test_tokens_come_back_evenly_and_never_beyond_the_minute() -> None:
    clock = Ticking()
    rate = Rate(3, clock)
    for _ in range(3):
        rate.take()
    clock.now += 20
    rate.take()
    with pytest.raises(TurnedAway):
        rate.check()

    clock.now += 3600
    for _ in range(3):
        rate.take()
    with pytest.raises(TurnedAway):
        rate.take()


def test_looking_costs_nothing() -> None:
    rate = Rate(1, Ticking())
    for _ in range(5):
        rate.check()
    rate.take()


def test_shares_wait_for_each_other_and_are_given_back() -> None:
    async def scene() -> list[str]:
        budget = ByteBudget(2 * LEAST_BYTES, wait_s=5, retry_after_s=1)
        said: list[str] = []

        async def hold(name: str, size: int) -> None:
            async with budget.share(size):
                said.append(name)
                await asyncio.sleep(0.02)

        await asyncio.gather(hold("a", 1), hold("b", LEAST_BYTES), hold("c", 2 * LEAST_BYTES))
        assert budget.used == 0
        return said

    assert sorted(asyncio.run(scene())) == ["a", "b", "c"]


def test_who_waits_too_long_is_told_to_come_back() -> None:
    async def scene() -> TurnedAway:
        budget = ByteBudget(LEAST_BYTES, wait_s=0.02, retry_after_s=7)
        async with budget.share(LEAST_BYTES):
            with pytest.raises(TurnedAway) as turned_away:
                async with budget.share(1):
                    pytest.fail("there was no room")
        async with budget.share(1):
            assert budget.used == LEAST_BYTES
        assert budget.used == 0
        return turned_away.value

    turned_away = asyncio.run(scene())

    assert turned_away.status == HTTPStatus.SERVICE_UNAVAILABLE
    assert turned_away.retry_after_s == 7


def test_a_share_is_given_back_when_its_holder_fails() -> None:
    async def scene() -> int:
        budget = ByteBudget(10 * LEAST_BYTES, wait_s=1, retry_after_s=1)
        with pytest.raises(ZeroDivisionError):
            async with budget.share(5000):
                raise ZeroDivisionError
        return budget.used

    assert asyncio.run(scene()) == 0
