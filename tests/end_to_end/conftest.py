"""Fixtures of the end-to-end tests: the command on a home of its own, and how an undisturbed history ends."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.sandbox import advance
from tests.end_to_end.command import Medscribe
from tests.end_to_end.states import whole_state
from tests.end_to_end.trap import open_sandbox
from tests.end_to_end.watch import remains

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from medscribe_pipeline.sandbox import Sandbox
    from tests.end_to_end.states import Tables
    from tests.end_to_end.trap import Trap


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """Warehouse and EHR after one sync nothing happened to, which took `duration_s`, and after one a day later."""

    first: Tables
    duration_s: float
    second: Tables


@pytest.fixture(autouse=True)
def _no_patient_and_no_secret_is_left_behind() -> Iterator[None]:
    """Whatever a test was about: what it logged, printed and wrote beside the warehouse names nobody."""
    yield
    try:
        assert remains.found() == {}
    finally:
        remains.empty()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """What every disturbed history of `trap.CORPUS` has to end as; the sync that is timed starts as on a terminal."""
    with open_sandbox() as (sandbox, _):
        medscribe = Medscribe(tmp_path_factory.mktemp("undisturbed"), sandbox.environment())
        medscribe.import_visits(sandbox.world)
        medscribe.is_cold = True
        started = time.monotonic()
        medscribe.sync()
        duration_s = time.monotonic() - started
        medscribe.is_cold = False
        first = whole_state(medscribe.database, sandbox)
        advance(sandbox.world)
        medscribe.import_visits(sandbox.world)
        medscribe.sync()
        return Undisturbed(first, duration_s, whole_state(medscribe.database, sandbox))


@pytest.fixture
def trapped() -> Iterator[tuple[Sandbox, Trap]]:
    """A sandbox and its trap."""
    with open_sandbox() as opened:
        yield opened


@pytest.fixture
def sandbox(trapped: tuple[Sandbox, Trap]) -> Sandbox:
    """The sandbox, freshly made from `trap.CORPUS`."""
    return trapped[0]


@pytest.fixture
def trap(trapped: tuple[Sandbox, Trap]) -> Trap:
    """The trap of `sandbox`."""
    return trapped[1]


@pytest.fixture
def medscribe(tmp_path: Path, sandbox: Sandbox) -> Medscribe:
    """The command, pointed at `sandbox`, with the visits manifest imported."""
    command = Medscribe(tmp_path, sandbox.environment())
    command.import_visits(sandbox.world)
    return command
